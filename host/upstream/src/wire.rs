//! How a message looks on the wire.
//!
//! MQTT 5: the body is the payload. User properties, in this order: `holdfast-id` (the stable identity), `holdfast-source`,
//! `holdfast-created` (RFC 3339, UTC), then the system properties that MQTT has no field for as `holdfast-` with their
//! IoT Hub name (`holdfast-messageId`), then the application properties under their own names. What a device has proved
//! itself to be in the dialect of IoT Hub goes under the names that a hub gives it: `iothub-connection-device-id`,
//! `-module-id`, `-auth-method`, `-auth-generation-id`, and `iothub-enqueuedtime`. These names and those that begin with
//! `holdfast-` are the host's: an application property of such a name is left out, so that no sender can pass for the
//! host or for another device. Content type and correlation id travel in the fields of MQTT, and the expiry as message
//! expiry.
//!
//! Control characters and Unicode non-characters in texts of MQTT are percent-encoded (see `escape.rs`), for brokers may
//! close the connection over them. `holdfast-source` is encoded just as in topics. Where a content type, or the name or
//! the value of a property holds such a character, it is encoded and a user property `holdfast-escaped` names it; without
//! that, a text is as the sender gave it, whatever `%` it holds.
//!
//! Envelope (any version), format 1: a JSON object
//! `{"v":1,"id","source","route","created","received","properties":{},"system":{}, "body" | "text" | "base64"}`.
//! `body` is the body itself where it is JSON (the content type says so, or there is none and it parses), `text` where it
//! is UTF-8, `base64` otherwise. `id` is absent on messages of volatile routes.

use crate::config::Payload;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use holdfast_broker::Delivery;
use holdfast_link::escape;
use holdfast_mqtt::{Publish, PublishProperties, UserProperties, Version};
use holdfast_types::{Source, SystemKey, UnixMillis};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

/// What begins the names of user properties that are the host's own.
const OWN_PREFIX: &str = "holdfast-";

/// The name of the stable identity.
pub(crate) const ID: &str = "holdfast-id";

/// The name of what says who sent a message.
pub(crate) const SOURCE: &str = "holdfast-source";

/// What begins the names under which a hub says who sent a message.
const CONNECTION_PREFIX: &str = "iothub-connection-";

/// The name under which a hub says when it took a message.
const ENQUEUED_TIME: &str = "iothub-enqueuedtime";

/// Now, by the clock of the system.
pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The PUBLISH of a message, without identifier and quality of service.
pub(crate) fn publish(
    delivery: &Delivery,
    topic: ByteString,
    version: Version,
    payload: Payload,
    now: UnixMillis,
) -> Publish {
    let message = &delivery.envelope.message;
    let body = match payload {
        Payload::Raw => message.body.clone(),
        Payload::Envelope => envelope(delivery),
    };
    let mut publish = Publish::new(topic, body);
    if version == Version::V5 {
        publish.properties = Some(Box::new(properties(delivery, payload, now)));
    }
    publish
}

/// The PUBLISH of a message to a hub.
pub(crate) fn event(delivery: &Delivery, topic: ByteString) -> Publish {
    let message = &delivery.envelope.message;
    let fields = holdfast_link::event::encode(delivery.id.as_ref(), &delivery.envelope.source, message);
    let text = |text: Cow<'_, str>| match text {
        Cow::Borrowed(text) => ByteString::from(text),
        Cow::Owned(text) => ByteString::from(text),
    };
    let mut publish = Publish::new(topic, message.body.clone());
    publish.properties = Some(Box::new(PublishProperties {
        content_type: fields.content_type.map(text),
        correlation_data: fields.correlation,
        user_properties: fields.user.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
        ..PublishProperties::default()
    }));
    publish
}

fn properties(delivery: &Delivery, payload: Payload, now: UnixMillis) -> PublishProperties {
    let message = &delivery.envelope.message;
    let mut user = UserProperties::with_capacity(3 + message.system.iter().len() + message.properties.len());
    let mut own =
        |name: &'static str, value: String| user.push((ByteString::from_static(name), value.into()));
    if let Some(id) = &delivery.id {
        own(ID, id.to_string());
    }
    own(SOURCE, escape::escaped(&delivery.envelope.source.to_string()).into_owned());
    if let Some(created) = message.system.creation_time {
        own("holdfast-created", rfc3339(created));
    }
    let mut properties = PublishProperties {
        // Whole seconds, rounded up, so that a message is never told to be dead while it still lives.
        message_expiry_s: delivery
            .expires
            .map(|at| u32::try_from(at.0.saturating_sub(now.0).div_ceil(1000)).unwrap_or(u32::MAX).max(1)),
        ..PublishProperties::default()
    };
    if payload == Payload::Envelope {
        properties.content_type = Some(ByteString::from_static("application/json"));
    }
    if let (Source::Child { child, .. }, Some(_)) =
        (&delivery.envelope.source, message.system.value(SystemKey::ConnectionAuthMethod))
    {
        user.push((ByteString::from_static("iothub-connection-device-id"), child.as_str().into()));
        user.push((ByteString::from_static(ENQUEUED_TIME), rfc3339(delivery.envelope.received).into()));
    }
    for (key, value) in message.system.iter() {
        match key {
            stamped if stamped.is_stamped() => {
                user.push((ByteString::from_static(stamped.wire_name()), value.into()));
            }
            SystemKey::ContentType if payload == Payload::Raw => properties.content_type = Some(value.into()),
            SystemKey::CorrelationId => {
                properties.correlation_data = Some(Bytes::copy_from_slice(value.as_bytes()));
            }
            _ => user.push((format!("{OWN_PREFIX}{}", key.route_name()).into(), value.into())),
        }
    }
    let others = message.properties.iter().filter(|(name, _)| !is_own(name));
    user.extend(others.map(|(name, value)| (name.into(), value.into())));
    if let Some(kind) = properties.content_type.as_mut()
        && escape(kind)
    {
        user.push(named("content-type"));
    }
    let mut odd = Vec::new();
    for (name, value) in &mut user {
        if escape(name) | escape(value) {
            odd.push(named(name));
        }
    }
    user.extend(odd);
    properties.user_properties = user;
    properties
}

fn named(name: &str) -> (ByteString, ByteString) {
    (ByteString::from_static("holdfast-escaped"), name.into())
}

/// Encodes a text that holds unwelcome characters; tells whether it did.
fn escape(text: &mut ByteString) -> bool {
    let odd = text.chars().any(escape::is_unwelcome);
    if odd {
        *text = escape::escaped(text).into_owned().into();
    }
    odd
}

/// Whether a name is one of the host's own, or one under which a hub says who sent a message.
pub(crate) fn is_own(name: &str) -> bool {
    let begins =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins(OWN_PREFIX) || begins(CONNECTION_PREFIX) || name.eq_ignore_ascii_case(ENQUEUED_TIME)
}

#[derive(Serialize)]
struct Envelope<'a> {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    source: String,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    received: String,
    properties: Pairs<'a>,
    system: Pairs<'a>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    #[serde(rename = "body")]
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn envelope(delivery: &Delivery) -> Bytes {
    let message = &delivery.envelope.message;
    let envelope = Envelope {
        v: 1,
        id: delivery.id.as_ref().map(ToString::to_string),
        source: delivery.envelope.source.to_string(),
        route: &delivery.route,
        created: message.system.creation_time.map(rfc3339),
        received: rfc3339(delivery.envelope.received),
        properties: Pairs(message.properties.iter().collect()),
        system: Pairs(message.system.iter().map(|(key, value)| (key.route_name(), value)).collect()),
        body: body(&message.body, message.system.value(SystemKey::ContentType)),
    };
    // Text, numbers and checked JSON always serialise; an empty payload would show at the receiver as bad JSON.
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}

fn body<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Body<'a> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Body::Base64(BASE64_STANDARD.encode(bytes)) };
    let may_be_json = content_type.is_none_or(is_json);
    match may_be_json.then(|| serde_json::from_str::<&RawValue>(text)) {
        Some(Ok(json)) => Body::Json(json),
        _ => Body::Text(text),
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// `2026-01-31T23:59:59.999Z`.
pub(crate) fn rfc3339(at: UnixMillis) -> String {
    let (days, in_day) = (at.0 / 86_400_000, at.0 % 86_400_000);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, millis) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970-01-01 to a date of the Gregorian calendar, counted in eras of 400 years that begin on 1 March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_and_programs_read_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_704_067_199_999, "2023-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(millis)), text);
        }
    }

    #[test]
    fn a_body_is_shown_as_what_it_is() {
        let shown = |bytes: &[u8], kind: Option<&str>| serde_json::to_string(&body(bytes, kind)).unwrap();
        assert_eq!(shown(b"{\"t\": 1}", None), r#"{"body":{"t": 1}}"#);
        assert_eq!(shown(b"12", Some("text/plain")), r#"{"text":"12"}"#);
        assert_eq!(shown(b"12", Some("application/senml+json; charset=utf-8")), r#"{"body":12}"#);
        assert_eq!(shown(b"{oops", Some("application/json")), r#"{"text":"{oops"}"#);
        assert_eq!(shown(&[0xff, 0], None), r#"{"base64":"/wA="}"#);
    }
}
