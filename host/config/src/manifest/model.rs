//! A checked deployment.

use super::{Image, NotCarried};
use holdfast_routes::RouteDefinition;
use holdfast_types::Name;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};

/// What a manifest wants of an edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// The modules.
    pub modules: BTreeMap<Name, Module>,
    /// The routes, which have been compiled together once without a fault; none if the manifest has no `$edgeHub`, and
    /// then those of the host's own configuration stay.
    pub routes: Option<Vec<RouteDefinition>>,
    /// The time to live of messages whose route names none, with none inside for ever; none if the manifest does not
    /// say, and then that of the host's own configuration stays.
    pub time_to_live: Option<Option<Duration>>,
    /// Desired properties of modules; those of modules that are not named keep theirs.
    pub desired: BTreeMap<Name, Map<String, Value>>,
    /// What has no meaning here, each with its place and why.
    pub not_carried: Vec<NotCarried>,
}

/// What is wanted of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where its component comes from.
    pub image: Image,
    /// Whether it is to run; otherwise it is there and stopped.
    pub running: bool,
    /// What happens when it fails.
    pub restart: RestartPolicy,
    /// Lower ones start first.
    pub start_order: u32,
    /// When its component is fetched.
    pub pull: PullPolicy,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The version that its author gave it; only shown.
    pub version: Option<String>,
}

/// What happens when a module fails (IoT Edge: restart policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It stays as it is.
    Never,
    /// It is started again after a failure.
    OnFailure,
    /// It is started again after a failure or when it did not answer in time.
    #[default]
    OnUnhealthy,
    /// It is started again whatever happened.
    Always,
}

impl RestartPolicy {
    /// IoT Edge's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::OnUnhealthy => "on-unhealthy",
            Self::Always => "always",
        }
    }
}

/// When a component is fetched (IoT Edge: image pull policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not there yet.
    #[default]
    OnCreate,
    /// Never: it has to be on this machine.
    Never,
}

impl PullPolicy {
    /// IoT Edge's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnCreate => "on-create",
            Self::Never => "never",
        }
    }
}
