//! `$edgeHub`: routes, and how long messages are kept.

use super::{
    Deployment,
    agent::{schema, signature},
    node::Node,
};
use crate::sections::{ROUTES_MAX, route_name_fault, route_problem};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_types::Priority;
use serde_json::Value;
use std::time::Duration;

/// The number that manifests write for the lowest priority.
const LOWEST: u64 = 2_000_000_000;

/// Reads `$edgeHub`.
pub(super) fn read(hub: &Node<'_>, into: &mut Deployment) {
    let Some(mut fields) = hub.fields("{\"schemaVersion\": \"1.1\", \"routes\": {…}}") else { return };
    schema(&mut fields);
    into.routes = Some(fields.take("routes").map(|node| routes(&node)).unwrap_or_default());
    if let Some(node) = fields.take("storeAndForwardConfiguration") {
        into.time_to_live = store_and_forward(&node);
    }
    if let Some(broker) = fields.take("mqttBroker") {
        broker.not_carried(
            "what devices may publish and subscribe is in [devices] and [[users]] of holdfast.toml; bridges are not there",
        );
    }
    signature(&mut fields);
    fields.finish("this key is not known");
}

fn routes(node: &Node<'_>) -> Vec<RouteDefinition> {
    let example = "{\"NAME\": \"FROM /messages/* INTO $upstream\"}";
    let Some(fields) = node.fields(example) else { return Vec::new() };
    let mut read: Vec<(Node<'_>, RouteDefinition)> = Vec::new();
    for (name, node) in fields.all() {
        if let Some((reason, fix)) = route_name_fault(name) {
            node.fault(reason, fix);
        } else if let Some(found) = route(name, &node) {
            read.push(found);
        }
    }
    if read.len() > ROUTES_MAX {
        let reason = format!("there are {} routes; at most {ROUTES_MAX} are allowed", read.len());
        node.fault(reason, "join some of them with OR in their WHERE");
        return Vec::new();
    }
    let definitions: Vec<RouteDefinition> = read.iter().map(|(_, definition)| definition.clone()).collect();
    if let Err(errors) = RouteTable::compile(definitions.clone()) {
        for error in errors {
            let at = read.iter().find(|(_, definition)| definition.name == error.route);
            let Some((node, definition)) = at else { continue };
            let (reason, fix) = route_problem(&error);
            let place = error.place().map(|place| format!("column {}: ", place.column)).unwrap_or_default();
            node.fault(format!("{place}{reason}, in {:?}", excerpt(&definition.text)), fix);
        }
    }
    definitions
}

/// Enough of a route to know it by.
fn excerpt(text: &str) -> &str {
    text.get(..text.floor_char_boundary(200)).unwrap_or(text)
}

/// A text, or from schema 1.1 on an object with text, priority and time to live. Gives where its text stands.
fn route<'a>(name: &str, node: &Node<'a>) -> Option<(Node<'a>, RouteDefinition)> {
    let example = "\"FROM /messages/* INTO $upstream\"";
    if let Value::String(text) = node.value {
        return Some((node.clone(), RouteDefinition::new(name, text.as_str())));
    }
    let Value::Object(_) = node.value else {
        node.mismatch("a route as text, or an object with route, priority and timeToLiveSecs", example);
        return None;
    };
    let mut fields = node.fields(example)?;
    let text = fields.take("route");
    let priority = fields.take("priority").and_then(|node| priority(&node)).unwrap_or_default();
    let time_to_live_secs = fields.take("timeToLiveSecs").and_then(|node| {
        let seconds = node.value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
        if seconds.is_none() {
            let fix = "write 1 to 4294967295; 0 or nothing means that of storeAndForwardConfiguration";
            node.fault(format!("{} seconds are out of bounds", node.value), fix);
        }
        seconds
    });
    fields.finish("this key is not known");
    let Some(text) = text else {
        node.fault("the route has no text", format!("add \"route\": {example}"));
        return None;
    };
    let definition =
        RouteDefinition { priority, time_to_live_secs, ..RouteDefinition::new(name, text.text(example)?) };
    Some((text, definition))
}

fn priority(node: &Node<'_>) -> Option<Priority> {
    let level = node.value.as_u64();
    if level == Some(LOWEST) {
        return Some(Priority::DEFAULT);
    }
    let priority = level.filter(|level| *level <= 9).and_then(|level| u8::try_from(level).ok());
    if priority.is_none() {
        let fix = "write 0 (highest) to 9, or leave it out for the lowest";
        node.fault(format!("priority {} is out of bounds", node.value), fix);
    }
    priority.and_then(Priority::new)
}

fn store_and_forward(node: &Node<'_>) -> Option<Option<Duration>> {
    let mut fields = node.fields("{\"timeToLiveSecs\": 7200}")?;
    let time = fields.take("timeToLiveSecs").and_then(|node| match node.value.as_i64() {
        Some(seconds @ 1..) => Some(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(..=-1) => Some(None),
        _ => {
            let fix = "write 1 or more seconds, or -1 for ever";
            node.fault(format!("{} is no time to live", node.value), fix);
            None
        }
    });
    if let Some(limits) = fields.take("storeLimits") {
        limits.not_carried(
            "store.quota in holdfast.toml bounds the store, and when_full of a route says what goes",
        );
    }
    fields.finish("this key is not known");
    time
}
