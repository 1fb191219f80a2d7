//! Where messages come from and where they go.

use crate::{LogId, Name, Topic};
use std::fmt;

/// Where a message came from. The host knows this; no sender can claim another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A module that the host runs, or an external process that speaks as a module.
    Module {
        /// The module.
        module: Name,
        /// The output it was sent to, if it named one.
        output: Option<Name>,
    },
    /// A child device.
    Child {
        /// The child.
        child: Name,
        /// The plain MQTT topic it published to; absent in the IoT Hub dialect.
        topic: Option<Topic>,
    },
    /// A change of reported properties.
    TwinChange {
        /// The device or, with `module`, the module whose twin changed.
        device: Name,
        /// The module whose twin changed.
        module: Option<Name>,
    },
}

impl Source {
    /// The path that `FROM` patterns are matched with (IoT Edge: message sources of routes).
    pub fn route_path(&self) -> String {
        match self {
            Self::Module { module, output: None } => format!("/messages/modules/{module}"),
            Self::Module { module, output: Some(output) } => {
                format!("/messages/modules/{module}/outputs/{output}")
            }
            Self::Child { .. } => "/messages".to_owned(),
            Self::TwinChange { .. } => "/twinChangeNotifications".to_owned(),
        }
    }
}

/// For people: `module/output`, `child:topic`, `twin device/module`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module { module, output: Some(output) } => write!(f, "{module}/{output}"),
            Self::Module { module, output: None } => write!(f, "{module}"),
            Self::Child { child, topic: Some(topic) } => write!(f, "{child}:{topic}"),
            Self::Child { child, topic: None } => write!(f, "{child}"),
            Self::TwinChange { device, module: Some(module) } => write!(f, "twin {device}/{module}"),
            Self::TwinChange { device, module: None } => write!(f, "twin {device}"),
        }
    }
}

/// Where a route sends a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sink {
    /// `$upstream`: the hub or broker above this edge.
    Upstream,
    /// `BrokeredEndpoint("/modules/{module}/inputs/{input}")`.
    Input {
        /// The module.
        module: Name,
        /// Its input.
        input: Name,
    },
    /// `Topic("…")`: subscribers of a local MQTT topic. Not in IoT Edge.
    Topic(Topic),
}

impl Sink {
    /// The log that messages for this sink are kept in. All inputs of a module share one log, so that their order is
    /// kept; a topic has none. What a child sends upstream that goes up under its own identity has a log of its own
    /// instead, [`LogId::upstream_of`].
    pub fn log(&self) -> Option<LogId> {
        match self {
            Self::Upstream => Some(LogId::upstream()),
            Self::Input { module, .. } => Some(LogId::module(module)),
            Self::Topic(_) => None,
        }
    }
}

/// As it is written in a route.
impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream => f.write_str("$upstream"),
            Self::Input { module, input } => {
                write!(f, "BrokeredEndpoint(\"/modules/{module}/inputs/{input}\")")
            }
            Self::Topic(topic) => write!(f, "Topic(\"{topic}\")"),
        }
    }
}
