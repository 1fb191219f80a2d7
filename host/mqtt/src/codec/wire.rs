//! The data types of MQTT (section 1.5 of both specifications): reading with every bound checked, writing after every
//! length was checked.

use crate::{EncodeError, PacketId, ProtocolError, UserProperties, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

/// Most bytes in a variable byte integer's worth of packet: 268,435,455 (MQTT 5, table 1-1).
pub(super) const REMAINING_BYTES_MAX: usize = 268_435_455;

/// The bytes of one packet behind its fixed header, read from front to back.
pub(super) struct Reader {
    rest: Bytes,
    pub(super) version: Version,
    /// Name of the packet, for errors.
    pub(super) packet: &'static str,
}

impl Reader {
    pub(super) fn new(rest: Bytes, version: Version, packet: &'static str) -> Self {
        Self { rest, version, packet }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn into_rest(self) -> Bytes {
        self.rest
    }

    /// Refuses bytes behind the last field.
    pub(super) fn end(&self) -> Result<(), ProtocolError> {
        match self.rest.len() {
            0 => Ok(()),
            n => {
                Err(ProtocolError::malformed(format!("{} has {n} bytes behind its last field", self.packet)))
            }
        }
    }

    fn short(&self, field: &str) -> ProtocolError {
        ProtocolError::malformed(format!("{} ends before or within its {field}", self.packet))
    }

    pub(super) fn u8(&mut self, field: &str) -> Result<u8, ProtocolError> {
        if self.rest.is_empty() { Err(self.short(field)) } else { Ok(self.rest.get_u8()) }
    }

    pub(super) fn u16(&mut self, field: &str) -> Result<u16, ProtocolError> {
        if self.rest.len() < 2 { Err(self.short(field)) } else { Ok(self.rest.get_u16()) }
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, ProtocolError> {
        if self.rest.len() < 4 { Err(self.short(field)) } else { Ok(self.rest.get_u32()) }
    }

    /// A byte that must be 0 or 1.
    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, ProtocolError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(ProtocolError::violation(format!(
                "{field} of {} is {n}; only 0 and 1 are allowed",
                self.packet
            ))),
        }
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, ProtocolError> {
        PacketId::new(self.u16("packet identifier")?).ok_or_else(|| {
            ProtocolError::violation(format!("{} has packet identifier 0", self.packet)).clauses(
                self.version,
                "MQTT-2.3.1-1",
                "MQTT-2.2.1-3",
            )
        })
    }

    /// A variable byte integer, in its shortest form (MQTT-1.5.5-1).
    pub(super) fn variable(&mut self, field: &str) -> Result<usize, ProtocolError> {
        match variable(&self.rest) {
            Variable::Value { value, bytes } if bytes == variable_bytes(value) => {
                self.rest.advance(bytes);
                Ok(value)
            }
            Variable::Incomplete => Err(self.short(field)),
            Variable::Value { .. } | Variable::Malformed => Err(not_minimal(field)),
        }
    }

    pub(super) fn binary(&mut self, field: &str) -> Result<Bytes, ProtocolError> {
        let length = usize::from(self.u16(field)?);
        if self.rest.len() < length { Err(self.short(field)) } else { Ok(self.rest.split_to(length)) }
    }

    /// UTF-8 text without U+0000.
    pub(super) fn text(&mut self, field: &str) -> Result<ByteString, ProtocolError> {
        let bytes = self.binary(field)?;
        if bytes.contains(&0) {
            return Err(ProtocolError::malformed(format!(
                "{field} of {} holds the character U+0000",
                self.packet
            ))
            .clauses(self.version, "MQTT-1.5.3-2", "MQTT-1.5.4-2"));
        }
        ByteString::try_from(bytes).map_err(|_| {
            ProtocolError::malformed(format!("{field} of {} is not UTF-8", self.packet)).clauses(
                self.version,
                "MQTT-1.5.3-1",
                "MQTT-1.5.4-1",
            )
        })
    }

    /// The properties of a packet of version 5, as a reader of their own.
    pub(super) fn properties(&mut self) -> Result<Reader, ProtocolError> {
        let length = self.variable("property length")?;
        if self.rest.len() < length {
            return Err(self.short("properties"));
        }
        Ok(Reader { rest: self.rest.split_to(length), version: self.version, packet: self.packet })
    }

    /// A user property, behind its identifier.
    pub(super) fn user_property(&mut self, into: &mut UserProperties) -> Result<(), ProtocolError> {
        let name = self.text("user property name")?;
        let value = self.text("user property value")?;
        into.push((name, value));
        Ok(())
    }

    /// A property that this packet cannot have.
    pub(super) fn unknown_property(&self, id: u8) -> ProtocolError {
        ProtocolError::malformed(format!("{} has property 0x{id:02X}, which it cannot have", self.packet))
    }
}

/// Puts a property into its place; a second one is a protocol error (MQTT 5, sections 3.x.2).
pub(super) fn once<T>(
    slot: &mut Option<T>,
    value: T,
    field: &str,
    packet: &str,
) -> Result<(), ProtocolError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ProtocolError::violation(format!("{packet} has more than one {field}"))),
    }
}

/// What the first bytes of a slice say as a variable byte integer.
pub(super) enum Variable {
    /// A number and how many bytes it took, which may be more than it needs.
    Value { value: usize, bytes: usize },
    /// More bytes are needed.
    Incomplete,
    /// More than four bytes.
    Malformed,
}

pub(super) fn variable(bytes: &[u8]) -> Variable {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Variable::Value { value, bytes: at + 1 };
        }
    }
    if bytes.len() >= 4 { Variable::Malformed } else { Variable::Incomplete }
}

pub(super) fn not_minimal(field: &str) -> ProtocolError {
    ProtocolError::malformed(format!(
        "{field} is not a variable byte integer of at most four bytes in its shortest form"
    ))
    .clause("MQTT-1.5.5-1")
}

/// How many bytes a variable byte integer takes.
pub(super) const fn variable_bytes(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

pub(super) fn put_variable(dst: &mut BytesMut, mut value: usize) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            dst.put_u8(low);
            return;
        }
        dst.put_u8(low | 0x80);
    }
}

/// Writes text or binary data with its length. The length was checked by [`Size`].
pub(super) fn put_binary(dst: &mut BytesMut, bytes: &[u8]) {
    dst.put_u16(bytes.len() as u16);
    dst.put_slice(bytes);
}

/// Checks that a text or binary field fits its length field and gives the bytes that it takes.
pub(super) fn sized(field: &'static str, bytes: &[u8]) -> Result<usize, EncodeError> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(EncodeError::FieldTooLong { field, bytes: bytes.len() });
    }
    Ok(bytes.len() + 2)
}
