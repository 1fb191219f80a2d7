//! MQTT 3.1.1 and 5: packets, topic filters and session rules.
//!
//! What this room does: it turns bytes into packets and back ([`Codec`]), refuses what the specifications forbid and says
//! which clause forbids it ([`ProtocolError`]), matches topics with filters ([`TopicFilter`]), and keeps the rules of a
//! session ([`server`], [`client`]). Beside them stands the dialect of IoT Hub, topics for typed operations ([`hub`]). What it
//! does not do: no I/O, no clock, no randomness; time is passed in as `now`. It knows nothing of Holdfast.
//!
//! The codec is written here rather than taken from a library because a refusal must name the clause that was broken,
//! and because the libraries that were tried let illegal packets through or refuse legal ones. `rmqtt-codec` serves the
//! tests as an oracle.

mod alias;
pub mod client;
mod codec;
mod error;
pub mod filter;
pub mod hub;
mod packet;
mod reason;
pub mod server;
mod subscribe;

pub use codec::{Codec, PACKET_BYTES_MAX};
pub use error::{EncodeError, ProtocolError};
pub use filter::{InvalidFilter, TopicFilter};
pub use packet::{
    Ack, AckProperties, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, PublishProperties,
    QoS, UserProperties, Version, Will,
};
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe};
