//! Sessions as an operator sees them.

use crate::{shared::Shared, subscriptions::Facts};
use holdfast_types::Name;
use std::{sync::Arc, time::Duration};

/// The sessions of a gateway. Cloning gives another handle.
#[derive(Clone)]
pub struct SessionList(pub(crate) Arc<Shared>);

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownSession {
    /// The user or device that proved to be it.
    pub user: Name,
    /// The client's identifier.
    pub client_id: String,
    /// Whether the client is there.
    pub connected: bool,
    /// Whether the session outlives its connection.
    pub durable: bool,
    /// How long it lives without a connection, or how much of that is left.
    pub expires_in: Duration,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait to be sent.
    pub queued: u64,
    /// Messages that were sent and not acknowledged.
    pub in_flight: u64,
}

impl SessionList {
    /// Every session, by user and client identifier.
    pub fn all(&self) -> Vec<ShownSession> {
        let mut all: Vec<ShownSession> = self.0.sessions.each(|key, connected, expires_in, facts| {
            let facts = facts.cloned().unwrap_or_default();
            let (queued, in_flight) = self.counts(&facts);
            ShownSession {
                user: key.user.clone(),
                client_id: key.client_id.clone(),
                connected,
                durable: facts.session().is_some(),
                expires_in,
                subscriptions: facts.subscriptions(),
                queued,
                in_flight,
            }
        });
        all.sort_by(|a, b| (&a.user, &a.client_id).cmp(&(&b.user, &b.client_id)));
        all
    }

    fn counts(&self, facts: &Facts) -> (u64, u64) {
        let broker = &self.0.broker;
        let in_memory = facts.subscriber().map_or(0, |id| broker.waiting_in_memory(id));
        match facts.session() {
            Some(number) => {
                let (waiting, in_hand) = broker.session_messages(number);
                (waiting + in_memory, in_hand)
            }
            None => (in_memory, facts.in_flight()),
        }
    }
}
