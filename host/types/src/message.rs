//! A message and what travels with it.

use crate::{Source, UnixMillis};
use bytes::Bytes;

/// Application properties in the order in which the sender gave them. Keys are unique but for their case, which is
/// kept; look-ups ignore case as IoT Edge does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(Box<str>, Box<str>)>);

impl Properties {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets `key` to `value`; a key that is there already (whatever its case) gets the new value.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(k, _)| k.eq_ignore_ascii_case(key)) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((key.into(), value.into())),
        }
    }

    /// The value of `key`, whatever its case.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| &**v)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Properties {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut all = Self::new();
        for (key, value) in pairs {
            all.set(key, value);
        }
        all
    }
}

macro_rules! system_keys {
    ($($variant:ident = $tag:literal, $route:literal, $wire:literal;)*) => {
        /// System properties (IoT Hub, "Create and read messages"): those that a sender may set, and those that the host
        /// stamps ([`SystemKey::is_stamped`]). What follows from the source, such as `connectionDeviceId`, is not stored
        /// but derived.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum SystemKey {
            $(#[doc = concat!("`", $route, "`, on the wire `", $wire, "`.")] $variant = $tag,)*
        }
        impl SystemKey {
            /// Every key.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The name in route conditions and in tables for people.
            pub const fn route_name(self) -> &'static str {
                match self { $(Self::$variant => $route),* }
            }
            /// The name in the property bag of the IoT Hub MQTT dialect.
            pub const fn wire_name(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }
            /// The tag on disk. Tags are never given a second meaning.
            pub const fn tag(self) -> u8 {
                self as u8
            }
            /// The key with this tag.
            pub const fn from_tag(tag: u8) -> Option<Self> {
                match tag { $($tag => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
system_keys! {
    MessageId = 1, "messageId", "$.mid";
    CorrelationId = 2, "correlationId", "$.cid";
    UserId = 3, "userId", "$.uid";
    To = 4, "to", "$.to";
    ContentType = 5, "contentType", "$.ct";
    ContentEncoding = 6, "contentEncoding", "$.ce";
    MessageSchema = 7, "messageSchema", "$.schema";
    ExpiryTimeUtc = 8, "expiryTimeUtc", "$.exp";
    InterfaceId = 9, "iothub-interface-id", "$.ifid";
    ComponentName = 10, "dt-subject", "$.sub";
    Ack = 11, "ack", "iothub-ack";
    Operation = 12, "operation", "iothub-operation";
    ConnectionAuthMethod = 13, "connectionAuthMethod", "iothub-connection-auth-method";
    ConnectionGeneration = 14, "connectionDeviceGenerationId", "iothub-connection-auth-generation-id";
    ConnectionModule = 15, "connectionModuleId", "iothub-connection-module-id";
    Origin = 16, "originId", "holdfast-origin";
}

impl SystemKey {
    /// Whether the host stamps it on messages of devices, by what they have proved; a sender cannot set it.
    /// `ConnectionModule` is there if the sender is a module of a child, `Origin` if the message came through an edge below,
    /// with the identity that it has there and its source there.
    pub const fn is_stamped(self) -> bool {
        matches!(
            self,
            Self::ConnectionAuthMethod | Self::ConnectionGeneration | Self::ConnectionModule | Self::Origin
        )
    }
}

/// The system properties of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemProperties {
    /// When the message was made, by its sender's clock. Stamped by the host when the sender gave none.
    pub creation_time: Option<UnixMillis>,
    entries: Vec<(SystemKey, Box<str>)>,
}

impl SystemProperties {
    /// No system properties.
    pub const fn new() -> Self {
        Self { creation_time: None, entries: Vec::new() }
    }

    /// Sets `key` to `value`.
    pub fn set(&mut self, key: SystemKey, value: &str) {
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value.into(),
            None => self.entries.push((key, value.into())),
        }
    }

    /// The same, for building.
    #[must_use]
    pub fn with(mut self, key: SystemKey, value: &str) -> Self {
        self.set(key, value);
        self
    }

    /// The value of `key`.
    pub fn value(&self, key: SystemKey) -> Option<&str> {
        self.entries.iter().find(|(k, _)| *k == key).map(|(_, v)| &**v)
    }

    /// All that are set, in the order in which they were set; `creation_time` is not among them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SystemKey, &str)> {
        self.entries.iter().map(|(k, v)| (*k, &**v))
    }
}

/// What a sender sends: a body and its properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The body. At most [`crate::BODY_BYTES_MAX`] bytes; the broker refuses more.
    pub body: Bytes,
    /// Application properties.
    pub properties: Properties,
    /// System properties.
    pub system: SystemProperties,
}

impl Message {
    /// A message with a body and no properties.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The size that limits and quotas count, in bytes: body, values of system properties, names and values of
    /// application properties (IoT Hub, "Message size").
    pub fn size_bytes(&self) -> usize {
        let application: usize = self.properties.iter().map(|(k, v)| k.len() + v.len()).sum();
        let system: usize = self.system.iter().map(|(_, v)| v.len()).sum();
        self.body.len() + application + system
    }
}

/// A message that has entered: who sent it was proved by the host, never claimed by the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What was sent.
    pub message: Message,
    /// Who sent it.
    pub source: Source,
    /// When the host took it, by the host's clock.
    pub received: UnixMillis,
    /// How many modules it has passed since it first entered (see [`crate::HOPS_MAX`]).
    pub hops: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_set_twice_keeps_its_place_and_takes_the_new_value() {
        let mut all: Properties = [("Level", "1"), ("unit", "C")].into_iter().collect();
        all.set("level", "2");
        assert_eq!(all.iter().collect::<Vec<_>>(), [("Level", "2"), ("unit", "C")]);
        assert_eq!(all.value("LEVEL"), Some("2"));
    }

    #[test]
    fn every_system_key_has_a_tag_and_names_of_its_own() {
        for &key in SystemKey::ALL {
            assert_eq!(SystemKey::from_tag(key.tag()), Some(key));
            let same =
                |f: fn(SystemKey) -> &'static str| SystemKey::ALL.iter().filter(|k| f(**k) == f(key)).count();
            assert_eq!(same(SystemKey::route_name), 1);
            assert_eq!(same(SystemKey::wire_name), 1);
        }
    }

    #[test]
    fn the_size_counts_body_values_and_names() {
        let mut message = Message::new("12345");
        message.properties.set("k", "vv");
        message.system.set(SystemKey::ContentType, "json");
        assert_eq!(message.size_bytes(), 5 + 3 + 4);
    }
}
