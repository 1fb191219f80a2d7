//! The packets of MQTT 3.1.1 and 5 in one shape. What only version 5 has is absent or at its default in version 3.1.1.

use crate::{
    ReasonCode,
    subscribe::{SubAck, Subscribe, UnsubAck, Unsubscribe},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{fmt, num::NonZeroU16};

/// A packet identifier: never 0 (MQTT-2.3.1-1; in version 5 MQTT-2.2.1-3).
pub type PacketId = NonZeroU16;

/// Names and values that version 5 carries along, in order; a name may stand more than once.
pub type UserProperties = Vec<(ByteString, ByteString)>;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 3.1.1 (protocol level 4).
    V311,
    /// 5.0 (protocol level 5).
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// How hard delivery is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// 0: sent once, not acknowledged.
    #[default]
    AtMostOnce = 0,
    /// 1: acknowledged; may come twice.
    AtLeastOnce = 1,
    /// 2: acknowledged in two steps; comes once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality of service with this number.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

/// One control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The client asks to connect.
    Connect(Box<Connect>),
    /// The server answers.
    ConnAck(Box<ConnAck>),
    /// A message, in either direction.
    Publish(Publish),
    /// A QoS 1 message has arrived.
    PubAck(Ack),
    /// A QoS 2 message has arrived (step 1).
    PubRec(Ack),
    /// The sender has forgotten it (step 2).
    PubRel(Ack),
    /// The receiver has forgotten its identifier (step 3).
    PubComp(Ack),
    /// The client subscribes.
    Subscribe(Box<Subscribe>),
    /// The server answers.
    SubAck(Box<SubAck>),
    /// The client unsubscribes.
    Unsubscribe(Box<Unsubscribe>),
    /// The server answers.
    UnsubAck(Box<UnsubAck>),
    /// The client asks whether the server is there.
    PingReq,
    /// It is.
    PingResp,
    /// One side ends the connection. Version 3.1.1: the client only.
    Disconnect(Box<Disconnect>),
    /// A step of enhanced authentication. Version 5 only.
    Auth(Box<Auth>),
}

impl Packet {
    /// Its name as the specification spells it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks.
    pub version: Version,
    /// Begin with an empty session (version 3.1.1: and forget it at the end).
    pub clean_start: bool,
    /// Longest silence of the client, in seconds; 0 turns the check off.
    pub keep_alive_s: u16,
    /// The client's identifier; empty asks the server for one.
    pub client_id: ByteString,
    /// What the server publishes when the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// User name.
    pub user_name: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// How long the session outlives the connection, in seconds; `u32::MAX` is for ever.
    pub session_expiry_s: u32,
    /// Unacknowledged QoS 1 and 2 messages that the client takes at once; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Largest packet that the client takes, in bytes.
    pub maximum_packet_bytes: Option<u32>,
    /// Topic aliases that the client takes.
    pub topic_alias_maximum: u16,
    /// The client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// The server may send reason strings and user properties with any packet.
    pub request_problem_information: bool,
    /// Method of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// Data of enhanced authentication.
    pub authentication_data: Option<Bytes>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Connect {
    /// A CONNECT with a clean start and nothing else; the other fields are public.
    pub fn new(version: Version, client_id: impl Into<ByteString>) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            session_expiry_s: 0,
            receive_maximum: None,
            maximum_packet_bytes: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::new(),
        }
    }
}

/// The password and authentication data never reach a log.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("password", &self.password.as_ref().map(|_| "(secret)"))
            .field("session_expiry_s", &self.session_expiry_s)
            .finish_non_exhaustive()
    }
}

/// The message that the server publishes when a client is gone without saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Its quality of service.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Its topic.
    pub topic: ByteString,
    /// Its payload, at most 65,535 bytes.
    pub payload: Bytes,
    /// Seconds between the end of the connection and the will.
    pub delay_s: u32,
    /// Properties of the message; topic alias and subscription identifiers are not among them.
    pub properties: PublishProperties,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server has a session of this client.
    pub session_present: bool,
    /// Success, or why not. Translated from and to the return codes of version 3.1.1.
    pub reason: ReasonCode,
    /// Session expiry that the server uses instead of the client's, in seconds.
    pub session_expiry_s: Option<u32>,
    /// Unacknowledged QoS 1 and 2 messages that the server takes at once; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest quality of service that the server takes.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// Largest packet that the server takes, in bytes.
    pub maximum_packet_bytes: Option<u32>,
    /// The identifier that the server gave to a client without one.
    pub assigned_client_id: Option<ByteString>,
    /// Topic aliases that the server takes.
    pub topic_alias_maximum: u16,
    /// Whether filters may hold wildcards.
    pub wildcard_subscriptions_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifiers_available: bool,
    /// Whether subscriptions may be shared.
    pub shared_subscriptions_available: bool,
    /// Keep alive that the client must use instead of its own, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// A base for response topics.
    pub response_information: Option<ByteString>,
    /// Another server to use.
    pub server_reference: Option<ByteString>,
    /// Method of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// Data of enhanced authentication.
    pub authentication_data: Option<Bytes>,
    /// The reason in words.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl ConnAck {
    /// A CONNACK with a reason and nothing else.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            session_present: false,
            reason,
            session_expiry_s: None,
            receive_maximum: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_bytes: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            wildcard_subscriptions_available: true,
            subscription_identifiers_available: true,
            shared_subscriptions_available: true,
            server_keep_alive_s: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whether it may have been sent before. Never with QoS 0 (MQTT-3.3.1-2).
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Sent by a client: keep it. Sent by a server: it was kept.
    pub retain: bool,
    /// Topic; empty only where a topic alias stands for it.
    pub topic: ByteString,
    /// Present exactly if the quality of service is not 0.
    pub packet_id: Option<PacketId>,
    /// Properties of version 5; absent if there are none.
    pub properties: Option<Box<PublishProperties>>,
    /// The payload: a slice of the buffer that was read into, not a copy.
    pub payload: Bytes,
}

impl Publish {
    /// A message of QoS 0, without properties.
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: topic.into(),
            packet_id: None,
            properties: None,
            payload: payload.into(),
        }
    }
}

/// Properties of a PUBLISH or a will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// The payload is UTF-8 text.
    pub payload_is_utf8: bool,
    /// Life of the message in seconds.
    pub message_expiry_s: Option<u32>,
    /// A number that stands for the topic on this connection.
    pub topic_alias: Option<NonZeroU16>,
    /// Where to send the answer.
    pub response_topic: Option<ByteString>,
    /// What the answer must bring back.
    pub correlation_data: Option<Bytes>,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<u32>,
    /// Type of the content.
    pub content_type: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl PublishProperties {
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// What is acknowledged.
    pub packet_id: PacketId,
    /// Success, or why not. Version 3.1.1 knows success only.
    pub reason: ReasonCode,
    /// Properties of version 5; absent if there are none.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// Success.
    pub const fn new(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: None }
    }

    /// An acknowledgement with a reason.
    pub const fn with(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: None }
    }
}

/// Properties of an acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// The reason in words.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

/// DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: ReasonCode,
    /// A new session expiry, in seconds; from the client only.
    pub session_expiry_s: Option<u32>,
    /// Another server to use; from the server only.
    pub server_reference: Option<ByteString>,
    /// The reason in words.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Disconnect {
    /// A DISCONNECT with a reason and nothing else.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_s: None,
            server_reference: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }
}

/// AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Method.
    pub authentication_method: Option<ByteString>,
    /// Data.
    pub authentication_data: Option<Bytes>,
    /// The reason in words.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}
