//! From a manifest to what each room is told.

use super::kept::{Origin, Stored};
use holdfast_broker::Twins;
use holdfast_config::{
    Config,
    manifest::{self, Deployment},
};
use holdfast_engine::{Plan, PlannedModule};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_types::Name;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};

/// What the host's own configuration says, for what a deployment leaves out.
#[derive(Clone)]
pub struct Own {
    routes: Vec<RouteDefinition>,
    time_to_live: Option<Duration>,
    exclusive: bool,
    pub probation: Duration,
}

/// Why a deployment is not taken: the code of IoT Edge and the reason.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
}

impl Refusal {
    /// 406: it could not be applied.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { code: 406, reason: reason.into() }
    }
}

/// A deployment, checked as far as can be without its components.
pub struct Wanted {
    pub plan: Plan,
    pub table: RouteTable,
    pub time_to_live: Option<Duration>,
    /// Desired properties of modules that it brings along.
    pub desired: BTreeMap<Name, Map<String, Value>>,
    /// How much of it is not carried over.
    pub not_carried: usize,
}

impl Own {
    pub fn of(config: &Config) -> Self {
        Self {
            routes: crate::run::parts::route_definitions(config),
            time_to_live: config.store.time_to_live,
            exclusive: config.deployment.exclusive,
            probation: config.deployment.probation,
        }
    }

    /// What is wanted of the host; without a deployment what its configuration says.
    pub fn wanted(&self, stored: Option<&Stored>) -> Result<Wanted, Refusal> {
        let deployment = match stored {
            Some(stored) => manifest::import(stored.manifest.as_bytes())
                .map_err(|faults| Refusal { code: faults.code().status(), reason: faults.to_string() })?,
            None => Deployment::default(),
        };
        let desired = match stored.map(|stored| stored.origin) {
            Some(Origin::Operator) => deployment.desired,
            // The hub has the twins itself, with their versions.
            Some(Origin::Hub) | None => BTreeMap::new(),
        };
        for (name, twin) in &desired {
            Twins::check_desired(Value::Object(twin.clone())).map_err(|error| Refusal {
                code: 400,
                reason: format!("desired properties of {name}: {error}"),
            })?;
        }
        let table = RouteTable::compile(deployment.routes.unwrap_or_else(|| self.routes.clone()));
        let table = table.map_err(|faults| {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Refusal { code: 400, reason: all.join("\n") }
        })?;
        let modules = deployment.modules.into_iter().map(|(name, module)| {
            let planned = PlannedModule {
                image: module.image.to_string(),
                files: module.image.files(&name),
                oci: module.image.pinned().map(str::to_owned),
                running: module.running,
                restart: restart(module.restart),
                start_order: module.start_order,
                environment: module.environment,
            };
            (name, planned)
        });
        Ok(Wanted {
            plan: Plan { modules: modules.collect(), exclusive: stored.is_some() && self.exclusive },
            table,
            time_to_live: deployment.time_to_live.unwrap_or(self.time_to_live),
            desired,
            not_carried: deployment.not_carried.len(),
        })
    }
}

fn restart(policy: manifest::RestartPolicy) -> holdfast_engine::RestartPolicy {
    match policy {
        manifest::RestartPolicy::Never => holdfast_engine::RestartPolicy::Never,
        manifest::RestartPolicy::OnFailure => holdfast_engine::RestartPolicy::OnFailure,
        manifest::RestartPolicy::OnUnhealthy => holdfast_engine::RestartPolicy::OnUnhealthy,
        manifest::RestartPolicy::Always => holdfast_engine::RestartPolicy::Always,
    }
}
