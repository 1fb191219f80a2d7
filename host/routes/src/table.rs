//! The compiled routes of an edge.

use crate::{
    DEPTH_MAX, Explanation, ROUTE_BYTES_MAX,
    condition::{Answer, Typed, check, context::Context, eval},
    error::{Fault, RouteError},
    explain::{self, RouteExplanation, Verdict},
    parser,
    source::SourcePattern,
};
use holdfast_types::{Durability, Envelope, Name, Priority, Sink, Source, Text, WhenFull};
use std::collections::HashSet;

const _: () = assert!(DEPTH_MAX < 1000, "the stack of a thread must hold the deepest condition");

/// A route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDefinition {
    /// Its name: one or more characters other than `.`, `$`, `#` and space.
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

impl RouteDefinition {
    /// A route with a name, a text, and defaults for the rest.
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            priority: Priority::DEFAULT,
            time_to_live_secs: None,
            durability: Durability::default(),
            when_full: WhenFull::default(),
            topic: None,
        }
    }
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
    pub text: Text,
    /// Which sources it reads.
    pub source: SourcePattern,
    /// Where it sends messages.
    pub sink: Sink,
    /// Its priority.
    pub priority: Priority,
    /// Its time to live in seconds, more than 0; none means the global one.
    pub time_to_live_secs: Option<u32>,
    /// Whether its messages are on disk before they are acknowledged.
    pub durability: Durability,
    /// What happens when its log is full.
    pub when_full: WhenFull,
    /// Its upstream topic template; opaque here.
    pub topic: Option<String>,
    /// None is a route without `WHERE`, which takes everything.
    condition: Option<Typed>,
}

impl Route {
    fn answer(&self, context: &Context<'_>) -> Answer {
        self.condition.as_ref().map_or(Answer::True, |condition| eval::answer(condition, context))
    }

    fn takes(&self, context: &Context<'_>) -> bool {
        self.source.matches(&context.envelope.source) && self.answer(context) == Answer::True
    }
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
        let mut routes = Vec::with_capacity(definitions.len());
        let mut errors = Vec::new();
        let mut names = HashSet::new();
        for definition in definitions {
            let text: Text = definition.text.as_str().into();
            let error =
                |span, fault| RouteError { route: definition.name.clone(), text: text.clone(), span, fault };
            let before = errors.len();
            if let Some(fault) = name_fault(&definition.name) {
                errors.push(error(None, fault));
            }
            if !names.insert(definition.name.clone()) {
                errors.push(error(None, Fault::DuplicateRoute));
            }
            if definition.text.len() > ROUTE_BYTES_MAX {
                // The text of the error goes on without the route's, which nobody can read.
                errors.push(RouteError {
                    text: "".into(),
                    ..error(None, Fault::TooLong(definition.text.len()))
                });
                continue;
            }
            let mut faults = Vec::new();
            let route = route(&definition, &text, &mut faults);
            errors.extend(faults.into_iter().map(|(span, fault)| error(Some(span), fault)));
            if errors.len() == before {
                routes.extend(route);
            }
        }
        if errors.is_empty() { Ok(Self { routes }) } else { Err(errors) }
    }

    /// No routes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The routes, in the order in which they were defined.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes that take the message, one for each sink: of several the one with the lowest priority number, of
    /// several with the same the one that was defined first.
    pub fn evaluate(&self, envelope: &Envelope, edge: &Name, origin: Origin) -> Vec<Match<'_>> {
        self.matches(&Context::new(envelope, edge, origin))
    }

    fn matches(&self, context: &Context<'_>) -> Vec<Match<'_>> {
        let mut found: Vec<Match<'_>> = Vec::new();
        for route in &self.routes {
            let same = found.iter_mut().find(|other| other.route.sink == route.sink);
            // A route that could not come first for its sink anyway is not asked.
            if same.as_ref().is_some_and(|same| same.route.priority <= route.priority)
                || !route.takes(context)
            {
                continue;
            }
            match same {
                Some(same) => same.route = route,
                None => found.push(Match { route }),
            }
        }
        found
    }

    /// Whether the routes that take a message of this source take all of them: none that reads it has a condition.
    pub fn decides_by_source(&self, source: &Source) -> bool {
        !self.routes.iter().any(|route| route.condition.is_some() && route.source.matches(source))
    }

    /// What every route says about the message.
    pub fn explain(&self, envelope: &Envelope, edge: &Name, origin: Origin) -> Explanation {
        let context = Context::new(envelope, edge, origin);
        let taken = self.matches(&context);
        let verdict = |route: &Route| {
            if !route.source.matches(&envelope.source) {
                return Verdict::SourceDiffers(route.source.clone(), route.source.can_match());
            }
            match (route.answer(&context), &route.condition) {
                (Answer::True, _) => match taken.iter().find(|other| other.route.sink == route.sink) {
                    Some(first) if !std::ptr::eq(first.route, route) => {
                        Verdict::Behind(first.route.name.clone())
                    }
                    _ => Verdict::Taken,
                },
                (answer, Some(condition)) => explain::condition(&route.text, condition, answer, &context),
                (answer, None) => Verdict::NotTrue { answer, findings: Vec::new() },
            }
        };
        let routes = self
            .routes
            .iter()
            .map(|route| RouteExplanation {
                name: route.name.clone(),
                sink: route.sink.clone(),
                verdict: verdict(route),
            })
            .collect();
        Explanation { source: envelope.source.route_path(), routes }
    }

    /// Whether the source pattern of any route can match a message of this module, from any output or from none.
    pub fn could_take_module(&self, module: &Name) -> bool {
        self.routes.iter().any(|route| route.source.can_match_module(module))
    }
}

fn route(definition: &RouteDefinition, text: &Text, faults: &mut Vec<parser::Found>) -> Option<Route> {
    let parts = parser::route(text, faults);
    let twin_changes = parts.source.as_ref().is_none_or(SourcePattern::is_twin_changes);
    let condition = parts.condition.map(|condition| check(condition, twin_changes, faults));
    faults.sort_by_key(|(span, _)| span.start);
    Some(Route {
        name: definition.name.clone(),
        text: text.clone(),
        source: parts.source?,
        sink: parts.sink?,
        priority: definition.priority,
        time_to_live_secs: definition.time_to_live_secs.filter(|secs| *secs > 0),
        durability: definition.durability,
        when_full: definition.when_full,
        topic: definition.topic.clone(),
        condition,
    })
}

/// IoT Edge: `^[^\.\$# ]+$`.
fn name_fault(name: &str) -> Option<Fault> {
    match name.chars().find(|c| matches!(c, '.' | '$' | '#' | ' ')) {
        Some(c) => Some(Fault::RouteName(Some(c))),
        None => name.is_empty().then_some(Fault::RouteName(None)),
    }
}
