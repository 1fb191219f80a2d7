//! Writing the properties of version 5.

use super::wire::{put_binary, put_variable, variable_bytes};
use crate::{AckProperties, EncodeError, PublishProperties, UserProperties};
use bytes::{BufMut, BytesMut};
use bytestring::ByteString;

/// Identifiers of properties (MQTT 5, table 2-4).
pub(super) mod id {
    pub(in crate::codec) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in crate::codec) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in crate::codec) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::codec) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::codec) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::codec) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(in crate::codec) const SESSION_EXPIRY: u8 = 0x11;
    pub(in crate::codec) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in crate::codec) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::codec) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::codec) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::codec) const REQUEST_PROBLEM: u8 = 0x17;
    pub(in crate::codec) const WILL_DELAY: u8 = 0x18;
    pub(in crate::codec) const REQUEST_RESPONSE: u8 = 0x19;
    pub(in crate::codec) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in crate::codec) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in crate::codec) const REASON_STRING: u8 = 0x1F;
    pub(in crate::codec) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::codec) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in crate::codec) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::codec) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::codec) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::codec) const USER_PROPERTY: u8 = 0x26;
    pub(in crate::codec) const MAXIMUM_PACKET: u8 = 0x27;
    pub(in crate::codec) const WILDCARDS_AVAILABLE: u8 = 0x28;
    pub(in crate::codec) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(in crate::codec) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// Properties on their way out. They are few and seldom; a buffer of their own keeps sizes and bytes from differing.
#[derive(Default)]
pub(super) struct Properties {
    bytes: BytesMut,
    too_long: Option<EncodeError>,
}

impl Properties {
    pub(super) fn u8(&mut self, id: u8, value: Option<u8>) {
        if let Some(value) = value {
            self.bytes.put_slice(&[id, value]);
        }
    }

    /// Written only if it differs from the default of the specification.
    pub(super) fn bool(&mut self, id: u8, value: bool, default: bool) {
        self.u8(id, (value != default).then_some(u8::from(value)));
    }

    pub(super) fn u16(&mut self, id: u8, value: Option<u16>) {
        if let Some(value) = value {
            self.bytes.put_u8(id);
            self.bytes.put_u16(value);
        }
    }

    pub(super) fn u32(&mut self, id: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.bytes.put_u8(id);
            self.bytes.put_u32(value);
        }
    }

    pub(super) fn binary(&mut self, id: u8, field: &'static str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.bytes.put_u8(id);
        self.checked(field, value);
    }

    pub(super) fn text(&mut self, id: u8, field: &'static str, value: &Option<ByteString>) {
        self.binary(id, field, value.as_ref().map(|text| text.as_ref()));
    }

    fn checked(&mut self, field: &'static str, value: &[u8]) {
        if value.len() > usize::from(u16::MAX) {
            self.too_long = Some(EncodeError::FieldTooLong { field, bytes: value.len() });
        } else {
            put_binary(&mut self.bytes, value);
        }
    }

    pub(super) fn subscription_id(&mut self, value: Option<u32>) {
        if let Some(value) = value {
            self.bytes.put_u8(id::SUBSCRIPTION_ID);
            put_variable(&mut self.bytes, value as usize & 0x0FFF_FFFF);
        }
    }

    pub(super) fn user(&mut self, all: &UserProperties) {
        for (name, value) in all {
            self.bytes.put_u8(id::USER_PROPERTY);
            self.checked("user property name", name.as_bytes());
            self.checked("user property value", value.as_bytes());
        }
    }

    pub(super) fn ack(&mut self, properties: &AckProperties) {
        self.text(id::REASON_STRING, "reason string", &properties.reason_string);
        self.user(&properties.user_properties);
    }

    pub(super) fn publish(&mut self, properties: &PublishProperties) {
        self.bool(id::PAYLOAD_FORMAT, properties.payload_is_utf8, false);
        self.u32(id::MESSAGE_EXPIRY, properties.message_expiry_s);
        self.u16(id::TOPIC_ALIAS, properties.topic_alias.map(Into::into));
        self.text(id::RESPONSE_TOPIC, "response topic", &properties.response_topic);
        self.binary(id::CORRELATION_DATA, "correlation data", properties.correlation_data.as_deref());
        for subscription in &properties.subscription_ids {
            self.subscription_id(Some(*subscription));
        }
        self.text(id::CONTENT_TYPE, "content type", &properties.content_type);
        self.user(&properties.user_properties);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties with their length in front, or the field that was too long.
    pub(super) fn finish(self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        if let Some(error) = self.too_long {
            return Err(error);
        }
        dst.reserve(variable_bytes(self.bytes.len()) + self.bytes.len());
        put_variable(dst, self.bytes.len());
        dst.put_slice(&self.bytes);
        Ok(())
    }
}
