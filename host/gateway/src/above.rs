//! What stands above the dialect where this process is the hub itself: whoever keeps telemetry and twins for all devices. On an
//! edge there is nothing here: the broker takes telemetry and keeps twins. The two look alike to a device.
//!
//! And whoever serves the links of edges: the hub, and an edge for those below it.

use crate::board::Board;
use holdfast_broker::{Done, Twin, TwinError};
use holdfast_mqtt::{
    Publish,
    server::{Outcome, Ticket},
};
use holdfast_types::{Identity, Message, Name};
use serde_json::Value;
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An answer about a twin.
pub type TwinAnswer<T> = Pin<Box<dyn Future<Output = Result<T, TwinError>> + Send>>;

/// The hub, as the gateway sees it.
pub trait Above: Send + Sync + 'static {
    /// Takes telemetry of a device that is connected here. `done` is called when it is durable; messages of one device
    /// are recorded in the order of the calls.
    fn telemetry(&self, from: &Identity, message: Message, done: Done);

    /// The twin of an identity.
    fn twin(&self, who: &Identity) -> TwinAnswer<Twin>;

    /// Merges a patch into the reported properties, if they have `version` now; gives the new version.
    fn report(&self, who: &Identity, patch: Value, version: Option<u64>) -> TwinAnswer<u64>;

    /// A device or module has connected here, or has gone.
    fn present(&self, who: &Identity, present: bool);
}

/// Whoever serves the links of edges: a hub, or an edge that is their parent.
pub trait Links: Send + Sync + 'static {
    /// Whether a device is an edge that may link here, and if so the upper end of the link. `edge` has proved who it is.
    fn link(&self, edge: &Name) -> Result<EdgeLink, String>;
}

/// The upper end of a link, for the time of one connection.
pub struct EdgeLink {
    /// Takes what the edge sends. Dropped when the connection has ended.
    pub door: Box<dyn EdgeDoor>,
    /// What the edge is to be sent, in order.
    pub outgoing: mpsc::Receiver<Publish>,
    /// Cancelled by the upper side to end the connection.
    pub over: CancellationToken,
}

/// Takes what an edge sends.
pub trait EdgeDoor: Send + Sync {
    /// The connection begins: fates of messages go to `fates`.
    fn begin(&mut self, fates: Arc<dyn Fates>);

    /// Takes a message. Its fate is told in time, in any order; the slices of the message keep a whole buffer alive, so
    /// that what is kept is copied.
    fn publish(&mut self, ticket: Ticket, publish: Publish);

    /// No more messages are there for the moment: what was taken is on its way from now on.
    fn flush(&mut self);
}

/// Where the fates of messages go.
pub trait Fates: Send + Sync {
    /// Tells the fates of messages, many at once.
    fn tell(&self, fates: Vec<(Ticket, Outcome)>);
}

impl Fates for Board {
    fn tell(&self, fates: Vec<(Ticket, Outcome)>) {
        self.settle_many(fates);
    }
}

/// Which version of the link a user name asks for: `…/?api-version=…&holdfast-link=1`. None if it asks for none.
pub(crate) fn link_version(user_name: &str) -> Option<&str> {
    let (_, pairs) = user_name.rsplit_once('/')?;
    pairs.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix("holdfast-link="))
}

/// The version of the link that is spoken here.
pub(crate) const LINK_VERSION: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_asked_for_in_the_user_name() {
        let plain = "hub.example/edge-1/$edgeHub/?api-version=2021-04-12";
        assert_eq!(link_version(plain), None);
        assert_eq!(link_version(&format!("{plain}&holdfast-link=1")), Some(LINK_VERSION));
        assert_eq!(link_version("hub.example/edge-1/$edgeHub/holdfast-link=2&api-version=x"), Some("2"));
        assert_eq!(link_version("user"), None);
    }
}
