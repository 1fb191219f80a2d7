//! Bytes to packets and back.

mod connect;
mod decode;
mod encode;
mod properties;
mod publish;
mod wire;

use crate::{EncodeError, Packet, ProtocolError, ReasonCode, Version};
use bytes::{Buf, BytesMut};
use wire::{REMAINING_BYTES_MAX, Reader, Variable};

/// Largest packet that MQTT can express: 268,435,455 bytes behind a fixed header of five.
pub const PACKET_BYTES_MAX: usize = REMAINING_BYTES_MAX + 5;

const REMAINING: &str = "the remaining length";

/// Reads and writes the packets of one connection.
///
/// It holds no bytes: what is not a whole packet yet stays in the caller's buffer. It reserves no memory for a packet
/// that is announced; the caller's buffer grows with what really arrives.
#[derive(Clone, Debug)]
pub struct Codec {
    version: Option<Version>,
    /// Largest packet taken, in bytes with its fixed header. Checked when the fixed header is there.
    pub max_packet_bytes: usize,
    /// Largest packet that the peer takes (CONNECT and CONNACK of version 5 say so), in bytes with the fixed header.
    pub peer_max_packet_bytes: usize,
}

impl Codec {
    /// The codec of a server: the version is that of the client's CONNECT.
    pub const fn server(max_packet_bytes: usize) -> Self {
        Self { version: None, max_packet_bytes, peer_max_packet_bytes: PACKET_BYTES_MAX }
    }

    /// The codec of a client, which knows what it speaks.
    pub const fn client(version: Version, max_packet_bytes: usize) -> Self {
        Self { version: Some(version), max_packet_bytes, peer_max_packet_bytes: PACKET_BYTES_MAX }
    }

    /// The version that is spoken; a server knows it once it has decoded a CONNECT.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next whole packet out of `src`; `None` if there is none yet.
    ///
    /// After an error the connection cannot go on: where the next packet begins is not known.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, ProtocolError> {
        let Some(&first) = src.first() else { return Ok(None) };
        if self.version.is_none() && first >> 4 != decode::CONNECT {
            return Err(ProtocolError::violation("the first packet is not CONNECT").clause("MQTT-3.1.0-1"));
        }
        let version = self.version.unwrap_or(Version::V311);
        let name = decode::check_first_byte(first, version)?;
        let (remaining, length_bytes) = match wire::variable(src.get(1..).unwrap_or_default()) {
            Variable::Value { value, bytes } => (value, bytes),
            Variable::Incomplete => return Ok(None),
            Variable::Malformed if version == Version::V5 => return Err(wire::not_minimal(REMAINING)),
            // Section 2.2.3 of 3.1.1; the statement has no number.
            Variable::Malformed => {
                return Err(ProtocolError::malformed("the remaining length has more than four bytes"));
            }
        };
        // Version 5 wants the shortest form (MQTT-1.5.5-1). 3.1.1 shows it and demands it nowhere, and the way to read it
        // that it gives takes others too. Which of them a CONNECT is stands in it.
        let is_shortest = length_bytes == wire::variable_bytes(remaining);
        if !is_shortest && version == Version::V5 {
            return Err(wire::not_minimal(REMAINING));
        }
        let head = length_bytes + 1;
        let total = remaining + head;
        if total > self.max_packet_bytes {
            let text = format!("{name} has {total} bytes; at most {} are taken", self.max_packet_bytes);
            return Err(ProtocolError::new(ReasonCode::PacketTooLarge, text));
        }
        if src.len() < total {
            return Ok(None);
        }
        let mut body = src.split_to(total).freeze();
        body.advance(head);
        if first >> 4 == decode::CONNECT {
            let connect = connect::connect(body)?;
            if !is_shortest && connect.version == Version::V5 {
                return Err(wire::not_minimal(REMAINING));
            }
            self.version = Some(connect.version);
            return Ok(Some(Packet::Connect(Box::new(connect))));
        }
        decode::packet(first, Reader::new(body, version, name)).map(Some)
    }

    /// Appends `packet` to `dst`. After an error nothing of it is in `dst`.
    pub fn encode(&self, packet: &Packet, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let max = self.peer_max_packet_bytes.min(PACKET_BYTES_MAX);
        let version = match packet {
            Packet::Connect(connect) => connect.version,
            _ => self.version.unwrap_or(Version::V311),
        };
        encode::packet(packet, version, max, dst)
    }
}
