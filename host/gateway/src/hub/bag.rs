//! Messages to property bags and back.

use super::time;
use holdfast_broker::Delivery;
use holdfast_mqtt::hub::{PropertyBag, SystemProperty};
use holdfast_types::{InvalidName, Message, Name, PROPERTIES_MAX, Source, SystemKey};

/// What begins the names under which a hub says who sent a message.
const CONNECTION_PREFIX: &str = "iothub-connection-";

/// The name under which a hub says when it took a message.
const ENQUEUED_TIME: &str = "iothub-enqueuedtime";

/// Why the properties of a message cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadProperties {
    /// More than a message may have.
    TooMany(usize),
    /// The output is not one that a module can have.
    Output(String, InvalidName),
}

impl std::fmt::Display for BadProperties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany(count) => {
                write!(f, "it has {count} properties; at most {PROPERTIES_MAX} are taken")
            }
            Self::Output(output, why) => write!(f, "its output {output:?} is none: {why}"),
        }
    }
}

/// Puts the properties of a bag on a message; gives the output that it names. What says who sent it is left out, for that
/// is not the sender's to say. A property without a value gets an empty one.
pub(super) fn read(bag: &PropertyBag, message: &mut Message) -> Result<Option<Name>, BadProperties> {
    if bag.iter().len() > PROPERTIES_MAX {
        return Err(BadProperties::TooMany(bag.iter().len()));
    }
    let mut output = None;
    for (name, value) in bag.iter() {
        let value = value.unwrap_or_default();
        match SystemProperty::named(name) {
            Some(SystemProperty::Output) => {
                let named = Name::new(value).map_err(|why| BadProperties::Output(value.to_owned(), why))?;
                output = Some(named);
            }
            Some(SystemProperty::CreationTime) => message.system.creation_time = time::read(value),
            Some(system) => {
                if let Some(key) = key_of(system) {
                    message.system.set(key, value);
                }
            }
            None if is_reserved(name) => {}
            None => message.properties.set(name, value),
        }
    }
    Ok(output)
}

/// Whether a name is one under which a hub says who sent a message.
fn is_reserved(name: &str) -> bool {
    let start = name.get(..CONNECTION_PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(CONNECTION_PREFIX))
        || name.eq_ignore_ascii_case(ENQUEUED_TIME)
}

const fn key_of(system: SystemProperty) -> Option<SystemKey> {
    Some(match system {
        SystemProperty::MessageId => SystemKey::MessageId,
        SystemProperty::CorrelationId => SystemKey::CorrelationId,
        SystemProperty::UserId => SystemKey::UserId,
        SystemProperty::To => SystemKey::To,
        SystemProperty::Expiry => SystemKey::ExpiryTimeUtc,
        SystemProperty::ContentType => SystemKey::ContentType,
        SystemProperty::ContentEncoding => SystemKey::ContentEncoding,
        SystemProperty::Schema => SystemKey::MessageSchema,
        SystemProperty::Interface => SystemKey::InterfaceId,
        SystemProperty::Component => SystemKey::ComponentName,
        SystemProperty::Ack => SystemKey::Ack,
        SystemProperty::Operation => SystemKey::Operation,
        SystemProperty::Output
        | SystemProperty::CreationTime
        | SystemProperty::ConnectionDevice
        | SystemProperty::ConnectionModule => return None,
    })
}

/// The bag of a message from the cloud.
pub(super) fn of_cloud_message(delivery: &Delivery) -> PropertyBag {
    let message = &delivery.envelope.message;
    let mut bag = of_system(message);
    if let (None, Some(expires)) = (message.system.value(SystemKey::ExpiryTimeUtc), delivery.expires) {
        bag.set(SystemProperty::Expiry.name(), &time::write(expires));
    }
    of_application(message, &mut bag);
    bag
}

/// The bag of a message to an input, which says who sent it. `edge` is the device of the modules here.
pub(super) fn of_input_message(delivery: &Delivery, edge: &Name) -> PropertyBag {
    let message = &delivery.envelope.message;
    let mut bag = of_system(message);
    let (device, module) = match &delivery.envelope.source {
        Source::Module { module, .. } => (edge, Some(module.as_str())),
        Source::Child { child, .. } => (child, message.system.value(SystemKey::ConnectionModule)),
        Source::TwinChange { device, module } => (device, module.as_deref()),
    };
    bag.set(SystemProperty::ConnectionDevice.name(), device);
    if let Some(module) = module {
        bag.set(SystemProperty::ConnectionModule.name(), module);
    }
    if let Some(created) = message.system.creation_time {
        bag.set(SystemProperty::CreationTime.name(), &time::write(created));
    }
    of_application(message, &mut bag);
    bag
}

fn of_system(message: &Message) -> PropertyBag {
    let mut bag = PropertyBag::new();
    for (key, value) in message.system.iter().filter(|(key, _)| !key.is_stamped()) {
        bag.set(key.wire_name(), value);
    }
    bag
}

/// A name that means something else to the client stays out.
fn of_application(message: &Message, bag: &mut PropertyBag) {
    for (name, value) in message.properties.iter() {
        if SystemProperty::named(name).is_none() {
            bag.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::UnixMillis;

    fn taken(text: &str) -> (Message, Option<Name>) {
        let mut message = Message::new("");
        let output = read(&PropertyBag::decode(text).unwrap(), &mut message).unwrap();
        (message, output)
    }

    #[test]
    fn every_property_finds_its_place() {
        let (message, output) = taken(
            "%24.mid=1&%24.cid=2&%24.uid=3&%24.to=4&%24.exp=5&%24.ct=6&%24.ce=7&%24.schema=8&%24.ifid=9&%24.sub=10\
             &iothub-ack=full&iothub-operation=12&%24.on=out&%24.ctime=1970-01-01T00%3A00%3A01Z&a=b&none&empty=",
        );
        let system: Vec<_> = message.system.iter().map(|(key, value)| (key.wire_name(), value)).collect();
        let expected = [
            ("$.mid", "1"),
            ("$.cid", "2"),
            ("$.uid", "3"),
            ("$.to", "4"),
            ("$.exp", "5"),
            ("$.ct", "6"),
            ("$.ce", "7"),
            ("$.schema", "8"),
            ("$.ifid", "9"),
            ("$.sub", "10"),
            ("iothub-ack", "full"),
            ("iothub-operation", "12"),
        ];
        assert_eq!(system, expected);
        assert_eq!(output.as_deref(), Some("out"));
        assert_eq!(message.system.creation_time, Some(UnixMillis(1000)));
        let own: Vec<_> = message.properties.iter().collect();
        assert_eq!(own, [("a", "b"), ("none", ""), ("empty", "")]);
    }

    #[test]
    fn nobody_says_who_he_is_in_a_bag() {
        let (message, _) = taken(
            "%24.cdid=other&%24.cmid=other&iothub-connection-device-id=other&IoTHub-Connection-Auth-Method=x\
             &iothub-connection-module-id=m&iothub-enqueuedtime=now&mine=1",
        );
        assert_eq!(message.system.iter().len(), 0);
        assert_eq!(message.properties.iter().collect::<Vec<_>>(), [("mine", "1")]);
    }

    #[test]
    fn what_a_message_cannot_have_is_refused_with_the_reason() {
        let mut message = Message::new("");
        let output = PropertyBag::decode("%24.on=a%20b").unwrap();
        assert!(matches!(read(&output, &mut message), Err(BadProperties::Output(..))));
        let many: Vec<String> = (0..=PROPERTIES_MAX).map(|n| n.to_string()).collect();
        let many = PropertyBag::decode(&many.join("&")).unwrap();
        assert_eq!(read(&many, &mut message), Err(BadProperties::TooMany(PROPERTIES_MAX + 1)));
    }
}
