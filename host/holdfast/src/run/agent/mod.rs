//! `$edgeAgent`: what runs on this edge and how, as IoT Edge's agent tells it.
//!
//! Its reported properties are kept up to date with what the engine shows, so that whoever sees twins – the hub, routes FROM
//! `/twinChangeNotifications`, the operator – sees each module's state. Its methods are those that have a meaning here.

mod methods;
mod report;

use super::deployment::kept::{self, Kept};
use holdfast_broker::{Broker, MethodServer, TwinError};
use holdfast_config::manifest::{self, Deployment};
use holdfast_engine::EngineHandle;
use holdfast_types::{Identity, Name};
use serde_json::Value;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is something new to report: IoT Edge reconciles each 5 s, and people like to see
/// sooner that a module has failed. Nothing is written when nothing has changed.
const LOOK: Duration = Duration::from_secs(1);

/// The agent.
pub struct Agent {
    broker: Broker,
    engine: EngineHandle,
    who: Identity,
}

impl Agent {
    /// None if its name cannot be one, which no edge has seen.
    pub fn new(broker: Broker, engine: EngineHandle) -> Option<Self> {
        let who = Identity::module(broker.edge().clone(), Name::new("$edgeAgent").ok()?);
        Some(Self { broker, engine, who })
    }

    /// Reports and answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut server = self.broker.methods().serve(&self.who);
        let mut deployments = self.broker.deployments().watch();
        let mut deployed = self.deployed();
        let mut failed = String::new();
        loop {
            match self.report(&deployed).await {
                Ok(()) => failed.clear(),
                Err(TwinError::Stopping) => return,
                // Once for each reason, not each second.
                Err(error) if error.to_string() != failed => {
                    failed = error.to_string();
                    tracing::warn!(twin = %self.who, %error, "the state of the modules was not reported");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Calls are answered as they come, and the report waits its time.
                () = self.answer_for(LOOK, &mut server) => {}
            }
            // A call in hand is not given up for it.
            if deployments.has_changed().unwrap_or(false) {
                deployments.mark_unchanged();
                deployed = self.deployed();
            }
        }
    }

    /// Answers calls for so long.
    async fn answer_for(&self, time: Duration, server: &mut MethodServer) {
        let mut pause = std::pin::pin!(sleep(time));
        loop {
            let call = tokio::select! {
                () = &mut pause => return,
                call = server.next() => call,
            };
            match call {
                Some(call) => {
                    let reply = methods::answer(&self.broker, &self.engine, &call.name, &call.payload).await;
                    call.reply(reply);
                }
                // Another serves in its place; there is nothing to do but to report.
                None => return pause.await,
            }
        }
    }

    /// The deployment that runs.
    fn deployed(&self) -> Deployment {
        let kept = Kept::load(&self.broker.documents()).unwrap_or_default();
        let import = |stored: kept::Stored| manifest::import(stored.manifest.as_bytes()).ok();
        kept.current.and_then(import).unwrap_or_default()
    }

    async fn report(&self, deployed: &Deployment) -> Result<(), TwinError> {
        let (status, modules) = (self.broker.deployments().status(), self.engine.list());
        let twins = self.broker.twins();
        let whole = report::document(deployed, &status, &modules, report::Detail::All);
        match twins.report_document(&self.who, Value::Object(whole)).await {
            // Very many modules: what counts most has room.
            Err(TwinError::Invalid(_)) => {
                let short = report::document(deployed, &status, &modules, report::Detail::States);
                twins.report_document(&self.who, Value::Object(short)).await.map(drop)
            }
            reported => reported.map(drop),
        }
    }
}
