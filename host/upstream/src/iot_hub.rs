//! The link to an Azure IoT Hub, in its own dialect: MQTT 3.1.1, the edge as one device of it.
//!
//! A message goes to `devices/{edge}/messages/events/{bag}`. The bag, percent-encoded, holds the system properties under the
//! names that IoT Hub has for them (`$.mid`, `$.ct`, `$.ctime`, …), the application properties, and two of the host's:
//! `holdfast-id` (the stable identity, by which a consumer drops duplicates, since IoT Hub does not) and `holdfast-source`
//! (`module/output`, or `child:topic`). An application property whose name is one of these, or one under which a hub says
//! who sent a message, is left out.
//!
//! What it does not do: IoT Hub knows one identity for each connection, and this is one connection, so what children send
//! goes up as the edge's; twins, methods, messages from the cloud and deployments of an IoT Hub do not come down by it.

use crate::{Place, Secret, tokens::Tokens, wire};
use bytestring::ByteString;
use holdfast_auth::SharedKey;
use holdfast_broker::Delivery;
use holdfast_mqtt::{
    Publish,
    hub::{PropertyBag, SystemProperty},
};
use holdfast_types::{Identity, InvalidTopic, Name, TOPIC_BYTES_MAX, Text};
use std::time::Duration;

/// The version of the interface that the user name asks for (IoT Hub, "Communicate with your IoT hub using the MQTT
/// protocol").
const API_VERSION: &str = "2021-04-12";

/// Largest packet: IoT Hub takes 256 KiB, counted over body and properties, and closes the connection over more.
pub(crate) const PACKET_BYTES_MAX: usize = 256 * 1024;

/// What the link to an IoT Hub is told, beside what every link is.
#[derive(Clone, Debug)]
pub struct IotHubConfig {
    /// The name of the hub, as `plant.azure-devices.net`, where its [`Place`] has none of its own.
    pub hub: Text,
    /// The key of this edge's device; none if the edge shows a certificate.
    pub key: Option<SharedKey>,
    /// How long a token is good for; the connection is made anew in time.
    pub token_life: Duration,
}

/// This edge as a device of an IoT Hub.
pub(crate) struct IotHub {
    edge: Name,
    pub(crate) tokens: Tokens,
}

impl IotHub {
    pub(crate) fn new(config: IotHubConfig, places: &[Place], edge: &Name) -> Self {
        let IotHubConfig { hub, key, token_life } = config;
        let tokens = Tokens::new(Identity::device(edge.clone()), hub, places, key, token_life);
        Self { edge: edge.clone(), tokens }
    }

    /// Who this edge is at the hub of a place, and what it proves that with.
    pub(crate) fn login(&self, place: usize) -> (String, Option<Secret>) {
        let user = format!("{}/{}/?api-version={API_VERSION}", self.tokens.name(place), self.edge);
        (user, self.tokens.password(place))
    }

    /// The PUBLISH of a message, without identifier and quality of service.
    pub(crate) fn publish_of(&self, delivery: &Delivery) -> Result<Publish, InvalidTopic> {
        let topic = format!("devices/{}/messages/events/{}", self.edge, bag(delivery));
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(InvalidTopic::TooLong(topic.len()));
        }
        Ok(Publish::new(ByteString::from(topic), delivery.envelope.message.body.clone()))
    }
}

fn bag(delivery: &Delivery) -> PropertyBag {
    let message = &delivery.envelope.message;
    let mut bag = PropertyBag::new();
    for (key, value) in message.system.iter().filter(|(key, _)| !key.is_stamped()) {
        bag.set(key.wire_name(), value);
    }
    if let Some(created) = message.system.creation_time {
        bag.set(SystemProperty::CreationTime.name(), &wire::rfc3339(created));
    }
    for (name, value) in message.properties.iter() {
        if SystemProperty::named(name).is_none() && !wire::is_own(name) {
            bag.set(name, value);
        }
    }
    if let Some(id) = &delivery.id {
        bag.set(wire::ID, &id.to_string());
    }
    bag.set(wire::SOURCE, &delivery.envelope.source.to_string());
    bag
}
