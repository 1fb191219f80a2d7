//! Messages and the bags of properties that they have in topics.
//!
//! On the way up a bag, percent-encoded, holds the system properties under the names that IoT Hub has for them (`$.mid`,
//! `$.ct`, `$.ctime`, …), the application properties, and two of the host's: `holdfast-id` (the stable identity, by which a
//! consumer drops duplicates, since IoT Hub does not) and `holdfast-source` (`module/output`, or `child:topic`). An application
//! property whose name is one of these, or one under which a hub says who sent a message, is left out.

use crate::wire;
use bytes::Bytes;
use bytestring::ByteString;
use holdfast_broker::Delivery;
use holdfast_mqtt::{
    Publish,
    hub::{PropertyBag, SystemProperty},
};
use holdfast_types::{InvalidTopic, Message, Name, SystemKey, TOPIC_BYTES_MAX};

/// The PUBLISH of a message of a device, without identifier and quality of service.
pub(crate) fn telemetry(device: &Name, delivery: &Delivery) -> Result<Publish, InvalidTopic> {
    let topic = format!("devices/{device}/messages/events/{}", bag(delivery));
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(InvalidTopic::TooLong(topic.len()));
    }
    Ok(Publish::new(ByteString::from(topic), delivery.envelope.message.body.clone()))
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

/// A message from the cloud. A property without a value gets an empty one; what says who sent it is the host's to say.
pub(super) fn message(bag: &PropertyBag, body: Bytes) -> Message {
    let mut message = Message::new(body);
    for (name, value) in bag.iter() {
        let value = value.unwrap_or_default();
        let name = SystemProperty::named(name).map_or(name, |system| system.name());
        let key = SystemKey::ALL.iter().find(|key| key.wire_name() == name && !key.is_stamped());
        match key {
            Some(key) => message.system.set(*key, value),
            None if SystemProperty::named(name).is_some() || wire::is_own(name) => {}
            None => message.properties.set(name, value),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_from_the_cloud_has_what_its_bag_says_and_nobody_elses_name() {
        let text = "%24.to=%2Fdevices%2Fe%2Fmessages%2Fdevicebound&%24.mid=m-1&ack=full&%24.cdid=other&holdfast-id=x\
                    &iothub-connection-device-id=y&kind=a%2Fb&none";
        let message = message(&PropertyBag::decode(text).unwrap(), "x".into());
        let system: Vec<_> = message.system.iter().map(|(key, value)| (key.route_name(), value)).collect();
        assert_eq!(
            system,
            [("to", "/devices/e/messages/devicebound"), ("messageId", "m-1"), ("ack", "full")]
        );
        assert_eq!(message.properties.iter().collect::<Vec<_>>(), [("kind", "a/b"), ("none", "")]);
    }
}
