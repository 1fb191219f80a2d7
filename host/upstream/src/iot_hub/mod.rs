//! A link to an Azure IoT Hub, in its own dialect: MQTT 3.1.1, one device of it. That is the edge, or a child for which the edge
//! acts (`children/`).
//!
//! ```text
//!            log `upstream`            twins of the edge and its modules, methods, routes (broker)
//!                  │                                   ▲
//!                  ▼                                   │
//!   sender ──  telemetry   ── one connection ──      line ── twin both ways, methods and messages down
//! ```
//!
//! A message goes to `devices/{device}/messages/events/{bag}` (`bag.rs`). What comes down for a child is the child's: its twin, its
//! methods, messages into its queue. What comes down for the edge goes on by fixed rules, since nothing else can be said to one
//! device:
//!
//! - *Twin* (`twin.rs`): what stands under `modules.NAME` is the twin of the module NAME, desired and reported; the rest is that
//!   of the edge itself.
//! - *Methods* (`down.rs`): `MODULE~METHOD` is a method of a module; a name without `~`, which no name of a module holds, is one of
//!   `$edgeAgent`. All that IoT Hub allows in names of methods is allowed here.
//! - *Messages from the cloud* (`down.rs`): each enters the routes, as one that the edge published to
//!   `devices/{edge}/messages/devicebound`, and is acknowledged when it is durable there. One may come twice after a cut, as the
//!   dialect has it: IoT Hub gives them no number.
//!
//! The session is not a clean one. IoT Hub keeps subscriptions with it, so that what it has for the device waits over a cut and
//! comes with the next connection before anything is asked for; with a clean session a device gets what was sent after it
//! subscribed anew. Subscriptions are made at each connection all the same, since the hub may have forgotten them.
//!
//! What is durable here: the twins, by the broker, and which version of each half that was reported the hub has taken
//! (`acknowledged.rs`).
//!
//! What it does not do: IoT Hub knows one identity for each connection, so what children without a link of their own send goes up
//! as the edge's, and nothing comes down for them. Deployments are desired properties of the module `$edgeAgent`, another identity,
//! and do not come down.

mod bag;
mod down;
mod twin;

pub(crate) use bag::telemetry;

use crate::{Backoff, BackoffConfig, ChildrenConfig, LinkFault, line::Line, tokens::Tokens};
use bytes::Bytes;
use holdfast_auth::SharedKey;
use holdfast_broker::Broker;
use holdfast_mqtt::{
    PacketId, Publish, QoS, Subscription,
    hub::{Arrival, PropertyBag, topics},
};
use holdfast_types::{Identity, Name, Text};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The version of the interface that the user name asks for (IoT Hub, "Communicate with your IoT hub using the MQTT
/// protocol").
const API_VERSION: &str = "2021-04-12";

/// Largest packet: IoT Hub takes 256 KiB, counted over body and properties, and closes the connection over more.
pub(crate) const PACKET_BYTES_MAX: usize = 256 * 1024;

/// Most things of the hub that wait to be begun. IoT Hub keeps 50 messages for a device.
const INBOX_MAX: usize = 256;

/// Most packets of the hub that wait for their acknowledgement: twice what IoT Hub keeps for a device, and answers and
/// calls between them. A hub that sends more is none.
const UNACKNOWLEDGED_MAX: usize = 256;

/// Connections in a row that the hub ends before it has answered for the subscriptions, after which none are asked for any
/// more. A hub of the basic tier has neither twins nor methods, and must not keep telemetry from going up.
const UNSUBSCRIBED_ENDS_MAX: u32 = 5;

/// What the link to an IoT Hub is told, beside what every link is.
#[derive(Clone, Debug)]
pub struct IotHubConfig {
    /// The name of the hub, as `plant.azure-devices.net`, where its [`Place`] has none of its own.
    pub hub: Text,
    /// The key of this edge's device; none if the edge shows a certificate.
    pub key: Option<SharedKey>,
    /// How long a token is good for; the connection is made anew in time.
    pub token_life: Duration,
    /// Children that go up under their own identities; none: all go up as the edge's.
    pub children: Option<ChildrenConfig>,
}

/// One device of an IoT Hub: this edge, or a child.
pub(crate) struct IotHub {
    broker: Broker,
    pub(crate) tokens: Tokens,
    pub(crate) line: Line<Incoming, TwinAnswer, Unacknowledged>,
    /// Held while desired properties are taken, so that each is made of what the one before left.
    desired: tokio::sync::Mutex<()>,
    /// A desired change was missed: the twin is to be asked for again.
    stale: Notify,
    backoff: BackoffConfig,
    /// What was said last in the log about each thing, so that one that repeats is said once.
    said: Mutex<HashMap<String, String>>,
    /// Connections that ended before the hub had answered for the subscriptions.
    unsubscribed_ends: AtomicU32,
    is_subscribed: AtomicBool,
}

/// What the hub wants of the device.
pub(crate) enum Incoming {
    Desired { version: u64, body: Bytes },
    Method { name: String, rid: String, body: Bytes },
    Message { bag: PropertyBag, body: Bytes, id: Option<PacketId> },
}

/// The answer to a question about the twin.
pub(crate) struct TwinAnswer {
    status: u16,
    body: Bytes,
}

/// Packets of the hub that are not acknowledged, in the order in which they came, and whether each may be.
#[derive(Default)]
pub(crate) struct Unacknowledged(VecDeque<(PacketId, bool)>);

impl Unacknowledged {
    fn done(&mut self, id: PacketId) {
        if let Some((_, done)) = self.0.iter_mut().find(|(other, done)| *other == id && !done) {
            *done = true;
        }
    }

    /// Those that may be acknowledged: behind one that may not, none (MQTT-4.6.0-2).
    fn take(&mut self) -> Vec<PacketId> {
        std::iter::from_fn(|| self.0.pop_front_if(|(_, done)| *done)).map(|(id, _)| id).collect()
    }
}

impl IotHub {
    /// As the device that the tokens are for.
    pub(crate) fn new(tokens: Tokens, broker: Broker, backoff: BackoffConfig) -> Arc<Self> {
        Arc::new(Self {
            broker,
            tokens,
            line: Line::default(),
            desired: tokio::sync::Mutex::default(),
            stale: Notify::new(),
            backoff,
            said: Mutex::default(),
            unsubscribed_ends: AtomicU32::new(0),
            is_subscribed: AtomicBool::new(false),
        })
    }

    /// Who the device is at the hub of a place.
    pub(crate) fn user_name(&self, place: usize) -> String {
        format!("{}/{}/?api-version={API_VERSION}", self.tokens.name(place), self.device())
    }

    /// The device, by name.
    pub(crate) fn device(&self) -> &Name {
        self.tokens.device()
    }

    /// The device, whose twin it is and who answers methods.
    fn own(&self) -> Identity {
        Identity::device(self.device().clone())
    }

    /// Whether it is this edge itself, and not a child.
    pub(crate) fn is_edge(&self) -> bool {
        self.device() == self.broker.edge()
    }

    /// What to subscribe to at the next connection.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.is_subscribed.store(false, Ordering::Relaxed);
        if self.unsubscribed_ends.load(Ordering::Relaxed) >= UNSUBSCRIBED_ENDS_MAX {
            self.warn_once(
                "subscriptions",
                "the hub ends the connection over each subscription; is it of the basic tier? Only telemetry goes up over this \
                 link until it is begun anew",
            );
            return Vec::new();
        }
        // Messages alone are worth to be sent again; an answer that is lost is lost with its connection.
        let qos = |filter: &str| if filter.starts_with('$') { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let filters = topics::filters(self.device()).into_iter();
        filters.map(|filter| Subscription::new(filter.as_str(), qos(&filter))).collect()
    }

    /// The hub has answered for all subscriptions.
    pub(crate) fn subscribed(&self, refused: &[impl AsRef<str>]) {
        for filter in refused {
            let filter = filter.as_ref();
            self.warn_once(filter, &format!("the hub does not grant the subscription to {filter}"));
        }
        self.is_subscribed.store(true, Ordering::Relaxed);
        self.unsubscribed_ends.store(0, Ordering::Relaxed);
        self.line.open();
    }

    /// The connection has ended; `by_peer` if the other side ended it after its welcome.
    pub(crate) fn end(&self, by_peer: bool) {
        if by_peer && !self.is_subscribed.load(Ordering::Relaxed) {
            self.unsubscribed_ends.fetch_add(1, Ordering::Relaxed);
        }
        self.line.close();
    }

    /// Does this edge's part for as long as the line is open. Ends soon after it is closed.
    pub(crate) async fn serve(self: &Arc<Self>) {
        if self.line.is_opened().await {
            tokio::join!(self.keep_twin(), self.take_calls());
        }
    }

    /// A packet has come.
    pub(crate) fn received(&self, publish: Publish) -> Result<(), LinkFault> {
        let id = publish.packet_id.filter(|_| publish.qos == QoS::AtLeastOnce);
        let waiting = self.line.known(|all| {
            all.0.extend(id.map(|id| (id, false)));
            all.0.len()
        });
        if waiting > UNACKNOWLEDGED_MAX {
            return Err(LinkFault::Protocol(format!(
                "it sent more than {UNACKNOWLEDGED_MAX} messages before the first was acknowledged"
            )));
        }
        let (topic, body) = (publish.topic, publish.payload);
        match Arrival::parse(&topic) {
            Some(Arrival::CloudToDevice { device, bag }) if device == self.device().as_str() => {
                if self.line.came(Incoming::Message { bag, body, id }, INBOX_MAX).is_ok() {
                    return Ok(());
                }
                // Not acknowledged: it comes again.
                return Err(LinkFault::Protocol(format!("{INBOX_MAX} things that it wants wait already")));
            }
            Some(Arrival::TwinResponse { status, rid, .. }) => {
                if let Ok(number) = rid.parse() {
                    self.line.answered(number, TwinAnswer { status, body });
                }
            }
            Some(Arrival::DesiredPatch { version }) => {
                if self.line.came(Incoming::Desired { version, body }, INBOX_MAX).is_err() {
                    self.stale.notify_one();
                }
            }
            Some(Arrival::MethodRequest { name, rid }) => {
                let call = Incoming::Method { name: name.into_owned(), rid: rid.to_owned(), body };
                if self.line.came(call, INBOX_MAX).is_err() {
                    self.busy(rid);
                }
            }
            _ => tracing::warn!(%topic, "the hub sent what is not known here; it is passed over"),
        }
        self.done(id);
        Ok(())
    }

    /// A packet of the hub may be acknowledged.
    fn done(&self, id: Option<PacketId>) {
        let Some(id) = id else { return };
        self.line.known(|all| all.done(id));
        self.line.to_send.notify_one();
    }

    /// The packets of the hub that may be acknowledged now.
    pub(crate) fn take_acknowledged(&self) -> Vec<PacketId> {
        self.line.known(Unacknowledged::take)
    }

    /// Warns, unless this was what was said last about it.
    fn warn_once(&self, about: &str, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(about.to_owned(), text.to_owned()).as_deref() == Some(text) {
            tracing::debug!(device = %self.device(), about, "{text}");
        } else {
            tracing::warn!(device = %self.device(), about, "{text}");
        }
    }

    /// All is well with it: what was said about it may be said again.
    fn is_well(&self, about: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(about);
    }

    fn new_backoff(&self) -> Backoff {
        Backoff::new(self.backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_the_order_in_which_the_packets_came() {
        let id = |n| PacketId::new(n).unwrap();
        let mut all = Unacknowledged((1..=3).map(|n| (id(n), false)).collect());
        all.done(id(2));
        assert_eq!(all.take(), []);
        all.done(id(1));
        assert_eq!(all.take(), [id(1), id(2)]);
        all.done(id(7));
        all.done(id(3));
        assert_eq!(all.take(), [id(3)]);
    }
}
