//! The compiled routes of an edge.

use crate::{Explanation, RouteError};
use holdfast_types::{Durability, Envelope, Name, Priority, Sink, Text, WhenFull};

/// A route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDefinition {
    /// Its name.
    pub name: Text,
    /// Its text, in the route language.
    pub text: String,
    /// Its priority.
    pub priority: Priority,
    /// Its time to live in seconds; none or 0 means the global one.
    pub time_to_live_secs: Option<u32>,
    /// Whether its messages are on disk before they are acknowledged.
    pub durability: Durability,
    /// What happens when its log is full.
    pub when_full: WhenFull,
    /// Its upstream topic template; opaque here.
    pub topic: Option<String>,
}

/// Through which door a message came in (IoT Edge: `edgeHubOriginInterface`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From the edge itself or one of its modules.
    Internal,
    /// From a child device.
    Downstream,
}

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Text,
    /// Its text as it was given.
    pub text: String,
    /// Where it sends messages.
    pub sink: Sink,
    /// Its priority.
    pub priority: Priority,
    /// Its time to live in seconds; none means the global one.
    pub time_to_live_secs: Option<u32>,
    /// Whether its messages are on disk before they are acknowledged.
    pub durability: Durability,
    /// What happens when its log is full.
    pub when_full: WhenFull,
    /// Its upstream topic template; opaque here.
    pub topic: Option<String>,
}

/// A route that takes a message.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Route,
}

/// The compiled routes of an edge. Cheap to share in an `Arc`.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
}

impl RouteTable {
    /// Compiles every route, or says every fault of every route.
    pub fn compile(definitions: Vec<RouteDefinition>) -> Result<Self, Vec<RouteError>> {
        let _ = definitions;
        Ok(Self::empty())
    }

    /// No routes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The routes, in the order in which they were defined.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes that take the message, one for each sink.
    pub fn evaluate(&self, envelope: &Envelope, edge: &Name, origin: Origin) -> Vec<Match<'_>> {
        let _ = (envelope, edge, origin);
        Vec::new()
    }

    /// What every route says about the message.
    pub fn explain(&self, envelope: &Envelope, edge: &Name, origin: Origin) -> Explanation {
        let _ = (edge, origin);
        Explanation { source: envelope.source.route_path() }
    }

    /// Whether the source pattern of any route can match an output of this module.
    pub fn could_take_module(&self, module: &Name) -> bool {
        let _ = module;
        false
    }
}
