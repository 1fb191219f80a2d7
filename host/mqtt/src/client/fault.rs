//! Why a connection is of no more use.

use crate::{PacketId, ReasonCode};
use bytestring::ByteString;
use std::{fmt, time::Duration};

/// Why a connection is of no more use. All of these end the connection, not the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server refused CONNECT.
    Refused {
        /// Why.
        reason: ReasonCode,
        /// In words, if the server gave some.
        words: Option<ByteString>,
        /// Another server that it named.
        server_reference: Option<ByteString>,
    },
    /// The server takes QoS 0 only.
    QosNotSupported,
    /// The server has a session although a clean one was asked for.
    UnexpectedSession,
    /// No CONNACK in time.
    NoConnAck {
        /// How long it was waited for.
        after: Duration,
    },
    /// No PINGRESP in time.
    NoPingResp {
        /// How long it was waited for.
        after: Duration,
    },
    /// Messages are in flight and none was acknowledged in time.
    NoPubAck {
        /// How long it was waited for.
        after: Duration,
        /// How many are in flight.
        in_flight: usize,
    },
    /// No SUBACK in time.
    NoSubAck {
        /// How long it was waited for.
        after: Duration,
    },
    /// The server ended the connection with DISCONNECT.
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// In words, if the server gave some.
        words: Option<ByteString>,
    },
    /// The server acknowledged a packet that is not in flight.
    UnknownPacketId(PacketId),
    /// The server sent a packet that has no place here; holds its name.
    Unexpected(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted =
            |words: &Option<ByteString>| words.as_ref().map(|w| format!(": {w:?}")).unwrap_or_default();
        match self {
            Self::Refused { reason, words, server_reference } => {
                write!(f, "the server refused the connection with {reason}{}", quoted(words))?;
                match server_reference {
                    Some(server) => write!(f, "; it names the server {server:?} instead"),
                    None => Ok(()),
                }
            }
            Self::QosNotSupported => {
                f.write_str("the server takes QoS 0 only, which loses messages; allow QoS 1 at the server")
            }
            Self::UnexpectedSession => f.write_str(
                "the server answered with an old session although a clean one was asked for [MQTT-3.2.2-2]",
            ),
            Self::NoConnAck { after } => {
                write!(
                    f,
                    "the server took the connection but sent no CONNACK within {after:?}; is it an MQTT server?"
                )
            }
            Self::NoPingResp { after } => {
                write!(
                    f,
                    "the server did not answer PINGREQ within {after:?}; the link is dead or the server hangs"
                )
            }
            Self::NoPubAck { after, in_flight } => {
                write!(
                    f,
                    "{in_flight} messages are in flight and the server acknowledged none within {after:?}"
                )
            }
            Self::NoSubAck { after } => {
                write!(
                    f,
                    "the server did not answer a SUBSCRIBE within {after:?}; the link is dead or the server hangs"
                )
            }
            Self::Disconnected { reason, words } => {
                write!(f, "the server ended the connection with {reason}{}", quoted(words))
            }
            Self::UnknownPacketId(id) => {
                write!(f, "the server acknowledged packet {id}, which is not in flight")
            }
            Self::Unexpected(name) => write!(f, "the server sent {name}, which has no place here"),
        }
    }
}

impl std::error::Error for Fault {}
