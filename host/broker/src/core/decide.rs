//! Which sinks take a message.

use holdfast_routes::{Origin, RouteTable};
use holdfast_types::{
    Durability, Envelope, LogId, Name, Priority, Sink, Source, Text, Topic, UnixMillis, WhenFull,
};
use std::collections::HashSet;

/// The name that the route of a module has which no configured route mentions.
pub const DEFAULT_ROUTE: &str = "default";

/// What stands around the name of the edge in [`topic_from_above`].
const DEVICES: &str = "devices/";
const DEVICEBOUND: &str = "/messages/devicebound";

/// One sink that takes a message, and by which route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The route's name; `default` for the route of a module that no configured route mentions.
    pub route: Text,
    /// Where the message goes.
    pub sink: Sink,
    /// With which priority.
    pub priority: Priority,
    /// When it is too old to be of use; none means never.
    pub expires: Option<UnixMillis>,
    /// Whether it is recorded before it is acknowledged.
    pub durability: Durability,
    /// What happens when the sink's log is full.
    pub when_full: WhenFull,
    /// The child in whose own log it is kept, if it goes upstream under the identity of one.
    pub child: Option<Name>,
}

impl Taken {
    /// The log that it is kept in; a topic has none.
    pub fn log(&self) -> Option<LogId> {
        self.child.as_ref().map(LogId::upstream_of).or_else(|| self.sink.log())
    }

    /// The message itself is of no use after `expires`, whatever the route says.
    pub(crate) fn expire_by(&mut self, expires: UnixMillis) {
        self.expires = Some(self.expires.map_or(expires, |by_route| by_route.min(expires)));
    }
}

/// Every sink that takes a message. Empty is an answer too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// At most one for each sink (IoT Edge: one copy for an endpoint, the lowest priority number wins).
    pub taken: Vec<Taken>,
}

/// Decides. `default_ttl_ms` is the time to live of routes that have none of their own; none means for ever. `own_log` says
/// whether what goes to a sink is kept in the own log of the child that sent it.
pub(crate) fn decide(
    table: &RouteTable,
    present: &HashSet<Name>,
    edge: &Name,
    default_ttl_ms: Option<u64>,
    own_log: &dyn Fn(&Sink) -> Option<Name>,
    envelope: &Envelope,
) -> Decision {
    let expires = |ttl_ms: Option<u64>| ttl_ms.map(|ms| UnixMillis(envelope.received.0.saturating_add(ms)));
    let origin = match envelope.source {
        Source::Child { .. } => Origin::Downstream,
        Source::Module { .. } | Source::TwinChange { .. } => Origin::Internal,
    };
    let from_above = is_from_above(&envelope.source, edge);
    let mut taken: Vec<Taken> = table
        .evaluate(envelope, edge, origin)
        .into_iter()
        .filter(|matched| !(from_above && matched.route.sink == Sink::Upstream))
        .map(|matched| Taken {
            route: matched.route.name.clone(),
            sink: matched.route.sink.clone(),
            priority: matched.route.priority,
            expires: expires(matched.route.time_to_live_secs.map(|s| u64::from(s) * 1000).or(default_ttl_ms)),
            durability: matched.route.durability,
            when_full: matched.route.when_full,
            child: own_log(&matched.route.sink),
        })
        .collect();
    if taken.is_empty() && goes_upstream_by_default(table, present, &envelope.source) {
        taken.push(Taken {
            route: DEFAULT_ROUTE.into(),
            sink: Sink::Upstream,
            priority: Priority::DEFAULT,
            expires: expires(default_ttl_ms),
            durability: Durability::Durable,
            when_full: WhenFull::default(),
            child: None,
        });
    }
    Decision { taken }
}

/// The topic that what a hub sends to the edge itself has in the routes: the one that IoT Hub sends it on.
pub(crate) fn topic_from_above(edge: &Name) -> Option<Topic> {
    Topic::new(&format!("{DEVICES}{edge}{DEVICEBOUND}")).ok()
}

/// Whether a hub sent it to the edge itself. That does not go up again, whatever routes say: `FROM /messages/*` would hand
/// a hub its own orders as telemetry.
fn is_from_above(source: &Source, edge: &Name) -> bool {
    let Source::Child { child, topic: Some(topic) } = source else { return false };
    let rest = (child == edge).then(|| topic.as_str().strip_prefix(DEVICES)?.strip_prefix(edge.as_str()));
    rest.flatten() == Some(DEVICEBOUND)
}

/// A module from the plugins folder that no configured route mentions sends upstream, so that a dropped file works
/// without a line of configuration.
fn goes_upstream_by_default(table: &RouteTable, present: &HashSet<Name>, source: &Source) -> bool {
    match source {
        Source::Module { module, .. } => present.contains(module) && !table.could_take_module(module),
        Source::Child { .. } | Source::TwinChange { .. } => false,
    }
}
