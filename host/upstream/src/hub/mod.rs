//! The hub profile: the link to a hub of Holdfast, beside the plain one to any broker.
//!
//! ```text
//!            log `upstream`                 twins, methods, logs of children, deployments (broker)
//!                  │                                   ▲                 identities, settings (keeper)
//!                  ▼                                   │                          ▲
//!   sender ── telemetry, calls ── one connection ── port ── greeting, changes, reports, calls from above
//! ```
//!
//! The connection, its window and the telemetry are those of the plain profile. What is added is a [`port::Port`] through
//! which calls go both ways, and a [`Hub`] that uses it while the connection lives: it greets (`greeting.rs`), fetches what
//! has changed, applies it, takes calls (`down.rs`), and tells what was reported (`reports.rs`). Telemetry waits for the
//! answer to the greeting alone: the hub takes none before it knows how far it has stored this edge's.
//!
//! What is durable here: the state that was applied, with the identities, by the [`Keeper`]; and for each twin the version of
//! the reported properties that the hub has taken (`acknowledged.rs`).

mod deployments;
mod down;
mod greeting;
pub(crate) mod port;
mod reports;

use crate::{Place, tokens::Tokens};
use holdfast_auth::SharedKey;
use holdfast_broker::Broker;
use holdfast_link::{Assigned, Change, DeploymentReport, IdentityRecord, Settings, client_id, user_name};
use holdfast_types::{Identity, Name, Text};
use port::Port;
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// What the link to a hub is told, beside what every link is.
#[derive(Clone)]
pub struct HubConfig {
    /// The name of the hub, as tokens say it, where its [`crate::Place`] has none of its own.
    pub hub: Text,
    /// The key of this edge's device; none if the edge shows a certificate.
    pub key: Option<SharedKey>,
    /// How long a token is good for; the connection is made anew in time.
    pub token_life: Duration,
    /// Who keeps what the hub decides.
    pub keeper: Arc<dyn Keeper>,
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// How far this edge has applied what a hub decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The hub; none before the first sync.
    pub hub: Option<Text>,
    /// Its revision.
    pub revision: u64,
}

/// What is to be applied together, or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Sync {
    /// Who may connect.
    pub identities: Identities,
    /// How messages are kept, if that is said.
    pub settings: Option<Settings>,
    /// What edges below are to run: with all identities of all of them, with changes of those that change.
    pub below: Vec<Assigned>,
    /// How far this leads.
    pub known: Known,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq)]
pub enum Identities {
    /// All that the hub knows of; those that came from the hub before and are not among them are gone.
    All(Vec<IdentityRecord>),
    /// What has changed, in this order. Only [`Change::Identity`] and [`Change::Removed`] stand here.
    Changes(Vec<Change>),
}

/// An answer of the [`Keeper`].
pub type Kept<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Keeps what the hub decides and other rooms use: identities and settings.
pub trait Keeper: Send + std::marker::Sync + 'static {
    /// How far this edge is, read from disk once.
    fn known(&self) -> Known;

    /// Makes all of it durable in one commit and puts it in force; after an error nothing has changed. Gives the identities
    /// that are gone. Devices that were added at this edge stay.
    fn apply(&self, sync: Sync) -> Kept<'_, Vec<Identity>>;

    /// How the deployment of an edge below fares, which the hub has not been told; waits until there is such.
    fn next_status(&self) -> Kept<'_, DeploymentReport> {
        Box::pin(std::future::pending())
    }

    /// The hub has taken it, or never will.
    fn status_was_told<'a>(&'a self, _report: &'a DeploymentReport) -> Kept<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// This edge's part of the link beside telemetry.
pub(crate) struct Hub {
    keeper: Arc<dyn Keeper>,
    pub(crate) tokens: Tokens,
    broker: Broker,
    /// Held while something is applied, so that each is made of what the one before left.
    known: Mutex<Known>,
    pub(crate) port: Port,
}

impl Hub {
    pub(crate) fn new(config: HubConfig, places: &[Place], broker: Broker) -> Arc<Self> {
        let known = Mutex::new(config.keeper.known());
        let HubConfig { hub, key, token_life, keeper } = config;
        let who =
            Identity { device: broker.edge().clone(), module: Name::new(holdfast_link::HUB_MODULE).ok() };
        let tokens = Tokens::new(who, hub, places, key, token_life);
        Arc::new(Self { keeper, tokens, broker, known, port: Port::default() })
    }

    pub(crate) fn client_id(edge: &Name) -> String {
        client_id(edge)
    }

    /// Who this edge is at the hub of a place.
    pub(crate) fn user_name(&self, place: usize) -> String {
        user_name(self.tokens.name(place), self.broker.edge())
    }

    /// Does this edge's part for as long as the port is open. Ends soon after it is closed; what is being applied is
    /// applied to its end.
    pub(crate) async fn serve(self: &Arc<Self>) {
        if !self.port.is_opened().await {
            return;
        }
        tokio::join!(self.go_up(), self.take_calls());
    }
}
