//! How messages look to the other side, a broker or a hub, and what else is sent to a hub.

use crate::{AtHub, Payload, Secret, hub::Hub, iot_hub, peer::Peer, topics::Topics, wire};
use bytes::Bytes;
use bytestring::ByteString;
use holdfast_broker::Delivery;
use holdfast_link::{CALL_TOPIC_PREFIX, EVENTS_TOPIC};
use holdfast_mqtt::{Publish, ReasonCode, Subscription, Version};
use holdfast_types::{InvalidTopic, UnixMillis};
use std::{sync::Arc, time::Duration};

/// How messages look to the other side.
pub(crate) enum Form {
    /// To any broker.
    Plain(Topics, Payload),
    /// To a hub.
    Peer(Peer),
}

/// What was sent with QoS 1 and waits for its acknowledgement.
pub(crate) enum Sent {
    /// A message of the log.
    Message(Delivery),
    /// A call to a hub of Holdfast; holds its correlation data.
    Call(Bytes),
    /// An answer to a hub, or a question to one of Azure, which answers in its own way.
    Answer,
}

impl Form {
    /// The hub, if the link is to one.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Plain(..) => None,
            Self::Peer(peer) => Some(peer),
        }
    }

    /// The hub, if the link is to one of Holdfast.
    pub(crate) fn hub(&self) -> Option<&Arc<Hub>> {
        match self {
            Self::Peer(Peer::Hub(hub)) => Some(hub),
            Self::Plain(..) | Self::Peer(Peer::IotHub(_)) => None,
        }
    }

    /// User name and password for the next connection to a place, where they are not those of the configuration.
    pub(crate) fn login(&self, place: usize) -> Option<(String, Option<Secret>)> {
        self.peer().map(|peer| (peer.user_name(place), peer.tokens().password(place)))
    }

    /// What to subscribe to at the next connection.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.peer().map(Peer::subscriptions).unwrap_or_default()
    }

    /// Who it speaks as at the hub, if the link is to one.
    pub(crate) fn at_hub(&self) -> Option<AtHub> {
        self.peer().map(Peer::at_hub)
    }

    /// How long a connection may live before it is made anew with another token; none if it needs none.
    pub(crate) fn renew_after(&self) -> Option<Duration> {
        self.peer().and_then(|peer| peer.tokens().renew_after())
    }

    /// Whether the other side takes messages by now.
    pub(crate) fn takes_messages(&self) -> bool {
        self.hub().is_none_or(|hub| hub.port.is_greeted())
    }

    /// The PUBLISH of a message.
    pub(crate) fn publish_of(
        &self,
        delivery: &Delivery,
        version: Version,
        now: UnixMillis,
    ) -> Result<Publish, InvalidTopic> {
        match self {
            Self::Plain(topics, payload) => {
                Ok(wire::publish(delivery, topics.of(delivery)?, version, *payload, now))
            }
            Self::Peer(Peer::IotHub(hub)) => iot_hub::telemetry(hub.device(), delivery),
            Self::Peer(Peer::Hub(_)) => Ok(wire::event(delivery, ByteString::from_static(EVENTS_TOPIC))),
        }
    }

    /// A call or an answer was acknowledged: one that was refused is never answered.
    pub(crate) fn answered(&self, sent: &Sent, reason: ReasonCode, words: Option<ByteString>) {
        if reason.is_failure() {
            let words = words.map(|words| format!(": {words:?}")).unwrap_or_default();
            self.refused(sent, &format!("it was refused with {reason}{words}"));
        }
    }

    /// A call or an answer cannot be written.
    pub(crate) fn unsendable(&self, sent: &Sent, why: &str) {
        self.refused(sent, &format!("it cannot be sent: {why}"));
    }

    fn refused(&self, sent: &Sent, why: &str) {
        match (self, sent) {
            (Self::Peer(Peer::Hub(hub)), Sent::Call(correlation)) => hub.port.refused(correlation, why),
            (Self::Peer(_), Sent::Answer) => tracing::warn!(why, "the hub does not get an answer"),
            _ => {}
        }
    }
}

impl Sent {
    /// Of a packet beside the log.
    pub(crate) fn of(publish: &Publish) -> Self {
        let correlation = publish.properties.as_ref().and_then(|all| all.correlation_data.clone());
        let is_call = publish.topic.starts_with(CALL_TOPIC_PREFIX);
        correlation.filter(|_| is_call).map_or(Self::Answer, Self::Call)
    }
}
