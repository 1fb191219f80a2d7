//! What a client asks for, and what it gets.

use crate::{UserProperties, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;
use std::{num::NonZeroU16, time::Duration};

/// What the client asks for. The server may answer with less.
#[derive(Clone)]
pub struct Options {
    /// The version of the protocol.
    pub version: Version,
    /// The identifier; must not be empty where `clean_start` is off (MQTT-3.1.3-7).
    pub client_id: ByteString,
    /// User name.
    pub user_name: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// Begin with an empty session. Off, messages in flight are sent again with DUP if the server kept the session.
    pub clean_start: bool,
    /// How long the server keeps the session without a connection, in seconds (version 5).
    pub session_expiry_s: u32,
    /// Longest silence before the client asks whether the server is there; 0 turns the check off.
    pub keep_alive_s: u16,
    /// Most messages from the oldest unacknowledged one to the newest sent.
    pub window: NonZeroU16,
    /// Most payload bytes in flight; one message is always let through, however large.
    pub window_bytes: usize,
    /// Most topic aliases to use (version 5); 0 uses none.
    pub topic_aliases_max: u16,
    /// How long to wait for CONNACK and PINGRESP.
    pub answer_within: Duration,
    /// How long to wait while messages are in flight and none is acknowledged.
    pub ack_within: Duration,
    /// Largest packet that the client takes, in bytes.
    pub maximum_packet_bytes: u32,
    /// What the server publishes when the connection is lost.
    pub will: Option<Will>,
    /// User properties of CONNECT (version 5).
    pub user_properties: UserProperties,
    /// Whether the driver acknowledges messages of QoS 1 itself, each with [`Client::acknowledge`], in the order in which
    /// they came (MQTT-4.6.0-2).
    pub acknowledge_by_hand: bool,
}

/// What the server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whether the server kept the session: messages in flight are being sent again. If not, they are forgotten here.
    pub session_present: bool,
    /// Messages in flight at once: the smaller of the own window and the server's receive maximum.
    pub window: u16,
    /// Largest packet that the server takes, in bytes.
    pub maximum_packet_bytes: Option<u32>,
    /// Topic aliases in use.
    pub topic_aliases: u16,
    /// Keep alive in force, in seconds.
    pub keep_alive_s: u16,
    /// The identifier that the server gave, if it gave one.
    pub assigned_client_id: Option<ByteString>,
}
