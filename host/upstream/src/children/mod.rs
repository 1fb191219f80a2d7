//! Children that go up under their own identities: each has a connection of its own to the IoT Hub, as its own device there.
//!
//! ```text
//!   log `upstream/X` ──► link of X  ── connection of X ──┐
//!   log `upstream/Y` ──► link of Y  ── connection of Y ──┤ IoT Hub
//!   log `upstream`   ──► link of the edge ───────────────┘
//! ```
//!
//! Such a child is a device of the registry with a symmetric key: with it the edge signs tokens for the child, and can for no other.
//! What it sends upstream has a log of its own, so that one that the hub refuses holds up nobody else.
//!
//! - *Where to* (`link.rs`): where the link of the edge is connected. It alone finds the way and the place; while it has none, no
//!   child's connection is made. One that stands goes on until it ends by itself or the edge has gone elsewhere.
//! - *How long*: a connection is made when the child is connected here or its log holds something, and ends a while after neither is
//!   so. What a hub has for a child that is away waits there.
//! - *How many*: as many as the configuration allows. With more, they take turns: who waits asks the one that had its turn longest,
//!   those first that are not connected.
//! - *Who* (`board.rs`): the registry, at each moment. A child that is removed, disabled or given another key loses its connection
//!   at once. What is left in the log of a child that has no identity of its own any more, or where none have, is given to the log of
//!   the edge and goes up as the edge's; that of a disabled child stays until it is enabled, or the messages' time is over.

mod board;
mod link;

pub(crate) use board::Board;
pub use board::{ChildTrouble, ChildrenStatus};

use crate::{StatusHandle, UpstreamConfig, run::Checks};
use board::LOOK_EVERY;
use holdfast_auth::Registry;
use holdfast_broker::Broker;
use holdfast_types::{Name, Text};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Who goes up under an own identity, and how.
#[derive(Clone)]
pub struct ChildrenConfig {
    /// The children and their keys.
    pub registry: Arc<Registry>,
    /// Most connections of children at once; at least one is made.
    pub connections_max: usize,
    /// How long a connection stays when the child is not connected here and its log is empty. IoT Edge keeps it for an hour.
    pub idle_after: Duration,
    /// How long a connection has its turn while other children wait for theirs; [`CHILDREN_TURN`] is a good one.
    pub turn: Duration,
}

/// Enough for a backlog of some thousand messages, and not so many handshakes that a hub would slow the edge down.
pub const CHILDREN_TURN: Duration = Duration::from_secs(30);

impl fmt::Debug for ChildrenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections_max, idle_after, .. } = self;
        write!(f, "ChildrenConfig({connections_max} connections, {idle_after:?})")
    }
}

/// What the links of all children are made of.
pub(crate) struct Template {
    pub(crate) config: UpstreamConfig,
    pub(crate) checks: Checks,
    /// What tokens call the hub where a place has no name of its own, and how long they are good for.
    pub(crate) hub: Text,
    pub(crate) token_life: Duration,
}

/// The links of all children; without a template none has one, and what is left in their logs is given to the edge's.
pub(crate) struct Children {
    broker: Broker,
    board: Arc<Board>,
    template: Option<Arc<Template>>,
    edge: StatusHandle,
}

impl Children {
    pub(crate) fn new(
        broker: &Broker,
        board: Arc<Board>,
        template: Option<Template>,
        edge: StatusHandle,
    ) -> Self {
        Self { broker: broker.clone(), board, template: template.map(Arc::new), edge }
    }

    /// Runs until it is told to stop and each connection has ended in order. Gives how many messages were not acknowledged in time.
    pub(crate) async fn run(self, stop: CancellationToken) -> usize {
        let mut links = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unacknowledged = 0;
        while !stop.is_cancelled() {
            for child in self.board.due() {
                links.spawn(self.link(child).run(stop.clone()));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.board.changed() => {}
                Some(ended) = links.join_next() => unacknowledged += ended.unwrap_or_default(),
                // What was requeued, or was recorded long after it was asked for.
                _ = look.tick() => {
                    for child in self.broker.waiting_of_children().into_keys() {
                        self.board.wants(&child);
                    }
                }
            }
        }
        while let Some(ended) = links.join_next().await {
            unacknowledged += ended.unwrap_or_default();
        }
        unacknowledged
    }

    fn link(&self, child: Name) -> link::ChildLink {
        link::ChildLink {
            child,
            broker: self.broker.clone(),
            board: self.board.clone(),
            template: self.template.clone(),
            edge: self.edge.clone(),
        }
    }
}
