//! How a connection ends.

use crate::plain::Plain;
use holdfast_auth::Cut;
use holdfast_mqtt::{ProtocolError, ReasonCode};
use std::fmt;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client sent DISCONNECT; it may ask for its will all the same.
    Goodbye { will: bool, session_expiry_s: Option<u32> },
    /// The client closed the connection without DISCONNECT.
    Closed,
    /// The connection broke.
    Broken(std::io::Error),
    /// The client broke the protocol.
    Protocol(ProtocolError),
    /// The client sent a packet of the connection itself on a stream beside that of its session.
    Misplaced(&'static str),
    /// The client did what IoT Hub closes a connection for.
    NotDialect(String),
    /// The client was silent for too long.
    Silent,
    /// Another connection of the same client has taken over.
    TakenOver,
    /// The host stops.
    Stopping,
    /// The client reads more slowly than messages of QoS 1 or 2 come for it.
    Behind { lost: u64 },
    /// The client took no byte for too long.
    Stalled,
    /// The client takes only packets that are smaller than one it must get.
    Unsendable { packet: &'static str },
    /// A message was not taken and there is no acknowledgement that would say so.
    NotTaken(ReasonCode),
    /// The device was removed, disabled, or got another credential.
    Cut(Cut),
    /// The token or the certificate that proved the device is no longer valid.
    ProofExpired,
}

impl End {
    /// What a client of version 5 is told; none if it has gone by itself.
    pub(crate) fn reason(&self) -> Option<ReasonCode> {
        match self {
            Self::Goodbye { .. } | Self::Closed | Self::Broken(_) => None,
            Self::Protocol(error) => Some(error.reason),
            Self::Misplaced(_) => Some(ReasonCode::ProtocolError),
            Self::NotDialect(_) => Some(ReasonCode::ImplementationSpecificError),
            Self::Silent => Some(ReasonCode::KeepAliveTimeout),
            Self::TakenOver => Some(ReasonCode::SessionTakenOver),
            Self::Stopping => Some(ReasonCode::ServerShuttingDown),
            Self::Behind { .. } => Some(ReasonCode::QuotaExceeded),
            Self::Stalled => Some(ReasonCode::UnspecifiedError),
            Self::Unsendable { .. } => Some(ReasonCode::PacketTooLarge),
            Self::NotTaken(reason) => Some(*reason),
            Self::Cut(_) | Self::ProofExpired => Some(ReasonCode::NotAuthorized),
        }
    }

    /// Whether the will is published: always but after a plain goodbye (MQTT-3.1.2-8, MQTT-3.14.4-3).
    pub(crate) fn wants_will(&self) -> bool {
        !matches!(self, Self::Goodbye { will: false, .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goodbye { .. } => f.write_str("the client said goodbye"),
            Self::Closed => f.write_str("the client closed the connection without DISCONNECT"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(error) => write!(f, "the client broke the protocol: {}", Plain(error)),
            Self::Misplaced(packet) => write!(
                f,
                "the client sent {packet} on a stream beside that of its session; only PUBLISH to UNSUBACK may stand there"
            ),
            Self::NotDialect(what) => write!(f, "the client sent {}", Plain(what)),
            Self::Silent => f.write_str("the client was silent for one and a half times its keep alive"),
            Self::TakenOver => f.write_str("another connection of the same client has taken over"),
            Self::Stopping => f.write_str("the host stops"),
            Self::Behind { lost } => write!(
                f,
                "the client is behind: its queue is full and {lost} messages were lost; read faster, or subscribe to less"
            ),
            Self::Stalled => f.write_str("the client takes no bytes"),
            Self::Unsendable { packet } => {
                write!(f, "the client takes only packets that are smaller than the {packet} it must get")
            }
            Self::NotTaken(reason) => write!(f, "a message was not taken: {reason}"),
            Self::Cut(cut) => write!(f, "the device is cut off: {cut}"),
            Self::ProofExpired => f.write_str("the token or certificate of the device has expired"),
        }
    }
}
