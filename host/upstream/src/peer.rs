//! A hub on the other side, of Holdfast or of Azure: what is asked and answered beside the messages of the log.

use crate::{AtHub, LinkFault, hub::Hub, iot_hub::IotHub, tokens::Tokens};
use holdfast_mqtt::{Publish, Subscription};
use std::sync::Arc;

/// What is told of a message to the edge itself that nobody here wants.
pub(crate) const TAKEN_BY_NONE: &str = "a message from the cloud was taken by no route and by no subscriber; add FROM \
                                        Topic(\"devices/+/messages/devicebound\") INTO … to [routes]";

/// A hub on the other side.
#[derive(Clone)]
pub(crate) enum Peer {
    /// Of Holdfast.
    Hub(Arc<Hub>),
    /// Of Azure.
    IotHub(Arc<IotHub>),
}

impl Peer {
    pub(crate) fn tokens(&self) -> &Tokens {
        match self {
            Self::Hub(hub) => &hub.tokens,
            Self::IotHub(hub) => &hub.tokens,
        }
    }

    /// Who the link speaks as.
    pub(crate) fn at_hub(&self) -> AtHub {
        let device = self.tokens().device().clone();
        match self {
            Self::IotHub(hub) if !hub.is_edge() => AtHub::Child(device),
            Self::Hub(_) | Self::IotHub(_) => AtHub::Edge(device),
        }
    }

    /// The user name for the hub of a place.
    pub(crate) fn user_name(&self, place: usize) -> String {
        match self {
            Self::Hub(hub) => hub.user_name(place),
            Self::IotHub(hub) => hub.user_name(place),
        }
    }

    /// What to subscribe to at the next connection.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        match self {
            // It sends what it has to say unasked.
            Self::Hub(_) => Vec::new(),
            Self::IotHub(hub) => hub.subscriptions(),
        }
    }

    /// A connection is about to be made.
    pub(crate) fn begin(&self) {
        match self {
            Self::Hub(hub) => hub.port.begin(),
            Self::IotHub(hub) => hub.line.begin(),
        }
    }

    /// The hub has welcomed the connection.
    pub(crate) fn welcomed(&self) {
        match self {
            Self::Hub(hub) => hub.port.open(),
            // It is asked when it has answered for the subscriptions.
            Self::IotHub(_) => {}
        }
    }

    /// The hub has answered for all subscriptions.
    pub(crate) fn subscribed(&self, refused: &[impl AsRef<str>]) {
        match self {
            Self::Hub(_) => {}
            Self::IotHub(hub) => hub.subscribed(refused),
        }
    }

    /// The connection has ended; `by_peer` if the other side ended it after its welcome.
    pub(crate) fn end(&self, by_peer: bool) {
        match self {
            Self::Hub(hub) => hub.port.close(),
            Self::IotHub(hub) => hub.end(by_peer),
        }
    }

    /// Does this edge's part for as long as the connection lives. Ends soon after; what is being applied is applied to its end.
    pub(crate) async fn serve(&self) {
        match self {
            Self::Hub(hub) => hub.serve().await,
            Self::IotHub(hub) => hub.serve().await,
        }
    }

    /// Waits until something is to be sent.
    pub(crate) async fn to_send(&self) {
        match self {
            Self::Hub(hub) => hub.port.to_send.notified().await,
            Self::IotHub(hub) => hub.line.to_send.notified().await,
        }
    }

    /// The next packet for the connection.
    pub(crate) fn take(&self) -> Option<Publish> {
        match self {
            Self::Hub(hub) => hub.port.take(),
            Self::IotHub(hub) => hub.line.take(),
        }
    }

    /// It did not fit; it goes first next time.
    pub(crate) fn put_back(&self, publish: Publish) {
        match self {
            Self::Hub(hub) => hub.port.put_back(publish),
            Self::IotHub(hub) => hub.line.put_back(publish),
        }
    }

    /// The packets of the hub that may be acknowledged now, where that is not done as they come.
    pub(crate) fn take_acknowledged(&self) -> Vec<holdfast_mqtt::PacketId> {
        match self {
            Self::Hub(_) => Vec::new(),
            Self::IotHub(hub) => hub.take_acknowledged(),
        }
    }

    /// A packet has come.
    pub(crate) fn received(&self, publish: Publish) -> Result<(), LinkFault> {
        match self {
            Self::Hub(hub) => {
                hub.port.received(publish);
                Ok(())
            }
            Self::IotHub(hub) => hub.received(publish),
        }
    }
}
