//! PUBLISH and its four acknowledgements: the packets that flow all the time.

use super::{
    properties::{Properties, id},
    wire::{Reader, once, put_binary, put_variable, sized, variable_bytes},
};
use crate::{
    Ack, AckProperties, EncodeError, ProtocolError, Publish, PublishProperties, QoS, ReasonCode, Version,
};
use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use std::num::NonZeroU16;

pub(super) fn decode(mut reader: Reader, flags: u8) -> Result<Publish, ProtocolError> {
    let dup = flags & 0b1000 != 0;
    let Some(qos) = QoS::from_level((flags >> 1) & 0b11) else {
        return Err(ProtocolError::malformed("PUBLISH has QoS 3").clause("MQTT-3.3.1-4"));
    };
    if dup && qos == QoS::AtMostOnce {
        return Err(ProtocolError::violation("PUBLISH has QoS 0 and DUP").clause("MQTT-3.3.1-2"));
    }
    let topic = reader.text("topic name")?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let properties = match reader.version {
        Version::V311 => None,
        Version::V5 => publish_properties(&mut reader)?,
    };
    let aliased = properties.as_ref().is_some_and(|p| p.topic_alias.is_some());
    if topic.is_empty() && !aliased && reader.version == Version::V5 {
        // The specification gives this a reason of its own (MQTT 5, section 3.3.2.1).
        let text = "the topic name of PUBLISH is empty and no topic alias stands for it";
        return Err(ProtocolError::violation(text).clause("MQTT-4.7.3-1"));
    }
    if !(topic.is_empty() && aliased) {
        topic_name(&topic, "topic name of PUBLISH", "MQTT-3.3.2-2")?;
    }
    Ok(Publish {
        dup,
        qos,
        retain: flags & 1 != 0,
        topic,
        packet_id,
        properties,
        payload: reader.into_rest(),
    })
}

/// Refuses what is no topic name: empty (MQTT-4.7.3-1) or with wildcards.
pub(super) fn topic_name(
    topic: &ByteString,
    what: &str,
    wildcard: &'static str,
) -> Result<(), ProtocolError> {
    if topic.is_empty() {
        let text = format!("the {what} is empty");
        return Err(ProtocolError::new(ReasonCode::TopicNameInvalid, text).clause("MQTT-4.7.3-1"));
    }
    if topic.bytes().any(|b| matches!(b, b'+' | b'#')) {
        let text = format!("the {what} holds a wildcard: \"{topic}\"");
        return Err(ProtocolError::new(ReasonCode::TopicNameInvalid, text).clause(wildcard));
    }
    Ok(())
}

fn publish_properties(reader: &mut Reader) -> Result<Option<Box<PublishProperties>>, ProtocolError> {
    let mut fields = reader.properties()?;
    if fields.is_empty() {
        return Ok(None);
    }
    let mut properties = Collected::default();
    while !fields.is_empty() {
        let id = fields.u8("property")?;
        if id == id::TOPIC_ALIAS {
            let alias = NonZeroU16::new(fields.u16("topic alias")?).ok_or_else(|| {
                ProtocolError::new(ReasonCode::TopicAliasInvalid, "PUBLISH has topic alias 0")
                    .clause("MQTT-3.3.2-8")
            })?;
            once(&mut properties.all.topic_alias, alias, "topic alias", fields.packet)?;
        } else if id == id::SUBSCRIPTION_ID {
            properties.all.subscription_ids.push(subscription_id(&mut fields)?);
        } else {
            properties.take(id, &mut fields)?;
        }
    }
    // A property with its default value says nothing.
    Ok((!properties.all.is_empty()).then(|| Box::new(properties.all)))
}

/// A subscription identifier: 1 to 268,435,455.
pub(super) fn subscription_id(fields: &mut Reader) -> Result<u32, ProtocolError> {
    match fields.variable("subscription identifier")? {
        0 => Err(ProtocolError::violation(format!("{} has subscription identifier 0", fields.packet))),
        value => Ok(u32::try_from(value).unwrap_or(u32::MAX)),
    }
}

/// Properties that PUBLISH and the will share, while they are read.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) all: PublishProperties,
    format: Option<bool>,
}

impl Collected {
    pub(super) fn take(&mut self, id: u8, fields: &mut Reader) -> Result<(), ProtocolError> {
        let packet = fields.packet;
        match id {
            id::PAYLOAD_FORMAT => {
                let is_utf8 = fields.bool("payload format indicator")?;
                self.all.payload_is_utf8 = is_utf8;
                once(&mut self.format, is_utf8, "payload format indicator", packet)
            }
            id::MESSAGE_EXPIRY => {
                let expiry = fields.u32("message expiry interval")?;
                once(&mut self.all.message_expiry_s, expiry, "message expiry interval", packet)
            }
            id::CONTENT_TYPE => {
                let text = fields.text("content type")?;
                once(&mut self.all.content_type, text, "content type", packet)
            }
            id::RESPONSE_TOPIC => {
                let topic = fields.text("response topic")?;
                topic_name(&topic, "response topic", "MQTT-3.3.2-14")?;
                once(&mut self.all.response_topic, topic, "response topic", packet)
            }
            id::CORRELATION_DATA => {
                let data = fields.binary("correlation data")?;
                once(&mut self.all.correlation_data, data, "correlation data", packet)
            }
            id::USER_PROPERTY => fields.user_property(&mut self.all.user_properties),
            other => Err(fields.unknown_property(other)),
        }
    }
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP have one shape; `allowed` are the reasons of the one that is read.
pub(super) fn decode_ack(mut reader: Reader, allowed: &[ReasonCode]) -> Result<Ack, ProtocolError> {
    let packet_id = reader.packet_id()?;
    if reader.version == Version::V311 || reader.is_empty() {
        reader.end()?;
        return Ok(Ack::new(packet_id));
    }
    let reason = reason(&mut reader, allowed)?;
    if reader.is_empty() {
        return Ok(Ack::with(packet_id, reason));
    }
    let properties = ack_properties(&mut reader)?;
    reader.end()?;
    let properties = (properties != AckProperties::default()).then(|| Box::new(properties));
    Ok(Ack { packet_id, reason, properties })
}

/// A reason code that this packet may have.
pub(super) fn reason(reader: &mut Reader, allowed: &[ReasonCode]) -> Result<ReasonCode, ProtocolError> {
    let code = reader.u8("reason code")?;
    ReasonCode::from_code(code).filter(|reason| allowed.contains(reason)).ok_or_else(|| {
        ProtocolError::malformed(format!(
            "{} has reason code 0x{code:02X}, which it cannot have",
            reader.packet
        ))
    })
}

pub(super) fn ack_properties(reader: &mut Reader) -> Result<AckProperties, ProtocolError> {
    let mut fields = reader.properties()?;
    let mut properties = AckProperties::default();
    while !fields.is_empty() {
        match fields.u8("property")? {
            id::REASON_STRING => {
                let text = fields.text("reason string")?;
                once(&mut properties.reason_string, text, "reason string", fields.packet)?;
            }
            id::USER_PROPERTY => fields.user_property(&mut properties.user_properties)?,
            other => return Err(fields.unknown_property(other)),
        }
    }
    Ok(properties)
}

pub(super) fn encode(
    publish: &Publish,
    version: Version,
    max: usize,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    if (publish.qos == QoS::AtMostOnce) != publish.packet_id.is_none() {
        return Err(EncodeError::Contradiction(
            "a PUBLISH has a packet identifier exactly if its QoS is not 0",
        ));
    }
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(EncodeError::Contradiction("a PUBLISH of QoS 0 cannot have DUP"));
    }
    let mut properties = Properties::default();
    let properties_bytes = match (&publish.properties, version) {
        (_, Version::V311) => BytesMut::new(),
        (None, Version::V5) => BytesMut::from(&[0_u8][..]),
        (Some(all), Version::V5) => {
            properties.publish(all);
            let mut bytes = BytesMut::new();
            properties.finish(&mut bytes)?;
            bytes
        }
    };
    let id_bytes = if publish.packet_id.is_some() { 2 } else { 0 };
    let remaining =
        sized("topic", publish.topic.as_bytes())? + id_bytes + properties_bytes.len() + publish.payload.len();
    let first = 0x30 | (u8::from(publish.dup) << 3) | (publish.qos.level() << 1) | u8::from(publish.retain);
    header(first, remaining, max, dst)?;
    put_binary(dst, publish.topic.as_bytes());
    if let Some(packet_id) = publish.packet_id {
        dst.put_u16(packet_id.get());
    }
    dst.put_slice(&properties_bytes);
    dst.put_slice(&publish.payload);
    Ok(())
}

/// Writes a fixed header if the packet may be that long.
pub(super) fn header(first: u8, remaining: usize, max: usize, dst: &mut BytesMut) -> Result<(), EncodeError> {
    let bytes = remaining + variable_bytes(remaining) + 1;
    if bytes > max {
        return Err(EncodeError::TooLarge { bytes, max });
    }
    dst.reserve(bytes);
    dst.put_u8(first);
    put_variable(dst, remaining);
    Ok(())
}

/// Version 3.1.1 has no reasons; in version 5 success without properties is left out (section 3.4.2.1).
pub(super) fn encode_ack(
    first: u8,
    ack: &Ack,
    version: Version,
    max: usize,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version == Version::V311 || (ack.reason == ReasonCode::Success && ack.properties.is_none()) {
        header(first, 2, max, dst)?;
        dst.put_u16(ack.packet_id.get());
        return Ok(());
    }
    let mut rest = BytesMut::new();
    rest.put_u8(ack.reason.code());
    if let Some(all) = &ack.properties {
        let mut properties = Properties::default();
        properties.ack(all);
        if !properties.is_empty() {
            properties.finish(&mut rest)?;
        }
    }
    header(first, 2 + rest.len(), max, dst)?;
    dst.put_u16(ack.packet_id.get());
    dst.put_slice(&rest);
    Ok(())
}
