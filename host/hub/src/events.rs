//! The stream as consumers see it.

use crate::backend::{Event, Origin};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_types::{Message, Source, SystemKey};
use serde_json::{Map, Value, json};

/// An event as one JSON object:
/// `{"offset","enqueued","device","module","output","topic","kind","edge","id","created","properties","system"}` and its body as
/// `body` where it is JSON (its content type says so, or it says nothing and parses), as `text` where it is UTF-8, as
/// `base64` otherwise. Times are milliseconds since 1970; what does not apply is left out.
pub fn event_json(offset: u64, event: &Event) -> Value {
    let Event { envelope, origin, .. } = event;
    let message = &envelope.message;
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("offset", offset.into());
    put("enqueued", envelope.received.0.into());
    let edge = match origin {
        Origin::Direct => None,
        Origin::Edge(id) => Some(&id.edge),
        Origin::Volatile(edge) => Some(edge),
    };
    match &envelope.source {
        Source::Module { module, output } => {
            put("device", edge.map(|edge| edge.as_str()).into());
            put("module", module.as_str().into());
            if let Some(output) = output {
                put("output", output.as_str().into());
            }
        }
        Source::Child { child, topic } => {
            put("device", child.as_str().into());
            if let Some(module) = message.system.value(SystemKey::ConnectionModule) {
                put("module", module.into());
            }
            if let Some(topic) = topic {
                put("topic", topic.as_str().into());
            }
        }
        Source::TwinChange { device, module } => {
            put("kind", "twin-change".into());
            put("device", device.as_str().into());
            if let Some(module) = module {
                put("module", module.as_str().into());
            }
        }
    }
    if let Some(edge) = edge {
        put("edge", edge.as_str().into());
    }
    if let Origin::Edge(id) = origin {
        put("id", id.to_string().into());
    }
    if let Some(created) = message.system.creation_time {
        put("created", created.0.into());
    }
    let pair = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
    put("properties", message.properties.iter().map(pair).collect::<Map<_, _>>().into());
    let system = message.system.iter().map(|(key, value)| pair((key.route_name(), value)));
    put("system", system.collect::<Map<_, _>>().into());
    let (name, body) = body(message);
    put(name, body);
    all.into()
}

/// A body as JSON, as text, or as base64, and the name of that.
pub(crate) fn body(message: &Message) -> (&'static str, Value) {
    let Ok(text) = std::str::from_utf8(&message.body) else {
        return ("base64", BASE64_STANDARD.encode(&message.body).into());
    };
    let is_json = message.system.value(SystemKey::ContentType).is_none_or(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    });
    match is_json.then(|| serde_json::from_str::<Value>(text)) {
        Some(Ok(json)) => ("body", json),
        _ => ("text", json!(text)),
    }
}
