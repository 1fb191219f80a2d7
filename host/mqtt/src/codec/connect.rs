//! Reading CONNECT and CONNACK.

use super::{
    properties::id,
    publish::{Collected, topic_name},
    wire::{Reader, once},
};
use crate::{ConnAck, Connect, ProtocolError, QoS, ReasonCode as R, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;
use std::num::NonZeroU16;

/// Flags of CONNECT.
mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const CLEAN_START: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER_NAME: u8 = 0x80;
}

pub(super) fn connect(body: Bytes) -> Result<Connect, ProtocolError> {
    let mut reader = Reader::new(body, Version::V311, "CONNECT");
    let protocol = reader.binary("protocol name")?;
    if protocol != "MQTT" {
        let text = "the protocol name is not MQTT; MQTT 3.1.1 and 5 are spoken here";
        return Err(ProtocolError::new(R::UnsupportedProtocolVersion, text).clause("MQTT-3.1.2-1"));
    }
    let version = match reader.u8("protocol level")? {
        4 => Version::V311,
        5 => Version::V5,
        level => {
            let text = format!("protocol level {level} is not known; 4 (MQTT 3.1.1) and 5 (MQTT 5) are");
            return Err(ProtocolError::new(R::UnsupportedProtocolVersion, text).clause("MQTT-3.1.2-2"));
        }
    };
    reader.version = version;
    let flags = reader.u8("flags")?;
    let will_qos = check_connect_flags(flags, version)?;
    let mut connect = Connect::new(version, ByteString::new());
    connect.clean_start = flags & flag::CLEAN_START != 0;
    connect.keep_alive_s = reader.u16("keep alive")?;
    if version == Version::V5 {
        connect_properties(&mut connect, reader.properties()?)?;
    }
    connect.client_id = reader.text("client identifier")?;
    if version == Version::V311 && connect.client_id.is_empty() && !connect.clean_start {
        let text = "the client identifier is empty and the session is not clean; name the client or ask for a clean session";
        return Err(ProtocolError::new(R::ClientIdentifierNotValid, text).clause("MQTT-3.1.3-8"));
    }
    if flags & flag::WILL != 0 {
        connect.will = Some(will(&mut reader, will_qos, flags & flag::WILL_RETAIN != 0)?);
    }
    if flags & flag::USER_NAME != 0 {
        connect.user_name = Some(reader.text("user name")?);
    }
    if flags & flag::PASSWORD != 0 {
        connect.password = Some(reader.binary("password")?);
    }
    reader.end()?;
    Ok(connect)
}

fn check_connect_flags(flags: u8, version: Version) -> Result<QoS, ProtocolError> {
    if flags & flag::RESERVED != 0 {
        return Err(ProtocolError::malformed("the reserved flag of CONNECT is set").clause("MQTT-3.1.2-3"));
    }
    let level = (flags >> 3) & 0b11;
    let Some(will_qos) = QoS::from_level(level) else {
        let error = ProtocolError::malformed("the will of CONNECT has QoS 3");
        return Err(error.clauses(version, "MQTT-3.1.2-14", "MQTT-3.1.2-12"));
    };
    if flags & flag::WILL == 0 && level != 0 {
        let error = ProtocolError::malformed("CONNECT has a will QoS but no will");
        return Err(error.clauses(version, "MQTT-3.1.2-13", "MQTT-3.1.2-11"));
    }
    if flags & flag::WILL == 0 && flags & flag::WILL_RETAIN != 0 {
        let error = ProtocolError::malformed("CONNECT has will retain but no will");
        return Err(error.clauses(version, "MQTT-3.1.2-15", "MQTT-3.1.2-13"));
    }
    if version == Version::V311 && flags & flag::PASSWORD != 0 && flags & flag::USER_NAME == 0 {
        return Err(
            ProtocolError::malformed("CONNECT has a password but no user name").clause("MQTT-3.1.2-22")
        );
    }
    Ok(will_qos)
}

fn connect_properties(connect: &mut Connect, mut fields: Reader) -> Result<(), ProtocolError> {
    let (mut expiry, mut aliases, mut response, mut problem) = (None, None, None, None);
    let packet = fields.packet;
    while !fields.is_empty() {
        match fields.u8("property")? {
            id::SESSION_EXPIRY => {
                once(&mut expiry, fields.u32("session expiry interval")?, "session expiry interval", packet)?;
            }
            id::RECEIVE_MAXIMUM => {
                let value = receive_maximum(&mut fields)?;
                once(&mut connect.receive_maximum, value, "receive maximum", packet)?;
            }
            id::MAXIMUM_PACKET => {
                let value = maximum_packet(&mut fields)?;
                once(&mut connect.maximum_packet_bytes, value, "maximum packet size", packet)?;
            }
            id::TOPIC_ALIAS_MAXIMUM => {
                once(&mut aliases, fields.u16("topic alias maximum")?, "topic alias maximum", packet)?;
            }
            id::REQUEST_RESPONSE => {
                let field = "request response information";
                once(&mut response, fields.bool(field)?, field, packet)?;
            }
            id::REQUEST_PROBLEM => {
                let field = "request problem information";
                once(&mut problem, fields.bool(field)?, field, packet)?;
            }
            id::AUTHENTICATION_METHOD => {
                let field = "authentication method";
                once(&mut connect.authentication_method, fields.text(field)?, field, packet)?;
            }
            id::AUTHENTICATION_DATA => {
                let field = "authentication data";
                once(&mut connect.authentication_data, fields.binary(field)?, field, packet)?;
            }
            id::USER_PROPERTY => fields.user_property(&mut connect.user_properties)?,
            other => return Err(fields.unknown_property(other)),
        }
    }
    if connect.authentication_data.is_some() && connect.authentication_method.is_none() {
        return Err(ProtocolError::violation("CONNECT has authentication data but no authentication method"));
    }
    connect.session_expiry_s = expiry.unwrap_or(0);
    connect.topic_alias_maximum = aliases.unwrap_or(0);
    connect.request_response_information = response.unwrap_or(false);
    connect.request_problem_information = problem.unwrap_or(true);
    Ok(())
}

fn receive_maximum(fields: &mut Reader) -> Result<NonZeroU16, ProtocolError> {
    NonZeroU16::new(fields.u16("receive maximum")?)
        .ok_or_else(|| ProtocolError::violation(format!("{} has receive maximum 0", fields.packet)))
}

fn maximum_packet(fields: &mut Reader) -> Result<u32, ProtocolError> {
    match fields.u32("maximum packet size")? {
        0 => Err(ProtocolError::violation(format!("{} has maximum packet size 0", fields.packet))),
        bytes => Ok(bytes),
    }
}

fn will(reader: &mut Reader, qos: QoS, retain: bool) -> Result<Will, ProtocolError> {
    let mut properties = Collected::default();
    let mut delay = None;
    if reader.version == Version::V5 {
        let mut fields = reader.properties()?;
        while !fields.is_empty() {
            match fields.u8("will property")? {
                id::WILL_DELAY => {
                    once(&mut delay, fields.u32("will delay")?, "will delay interval", fields.packet)?;
                }
                other => properties.take(other, &mut fields)?,
            }
        }
    }
    let topic = reader.text("will topic")?;
    topic_name(&topic, "will topic", "MQTT-4.7.1-1")?;
    let payload = reader.binary("will payload")?;
    Ok(Will { qos, retain, topic, payload, delay_s: delay.unwrap_or(0), properties: properties.all })
}

const CONNACK_REASONS: &[R] = &[
    R::Success,
    R::UnspecifiedError,
    R::MalformedPacket,
    R::ProtocolError,
    R::ImplementationSpecificError,
    R::UnsupportedProtocolVersion,
    R::ClientIdentifierNotValid,
    R::BadUserNameOrPassword,
    R::NotAuthorized,
    R::ServerUnavailable,
    R::ServerBusy,
    R::Banned,
    R::BadAuthenticationMethod,
    R::TopicNameInvalid,
    R::PacketTooLarge,
    R::QuotaExceeded,
    R::PayloadFormatInvalid,
    R::RetainNotSupported,
    R::QosNotSupported,
    R::UseAnotherServer,
    R::ServerMoved,
    R::ConnectionRateExceeded,
];

pub(super) fn connack(mut reader: Reader) -> Result<ConnAck, ProtocolError> {
    let flags = reader.u8("flags")?;
    if flags > 1 {
        let error = ProtocolError::malformed("reserved flags of CONNACK are set");
        return Err(if reader.version == Version::V5 { error.clause("MQTT-3.2.2-1") } else { error });
    }
    let code = reader.u8("reason code")?;
    let reason = match reader.version {
        Version::V311 => R::from_connect_return_code(code),
        Version::V5 => R::from_code(code).filter(|reason| CONNACK_REASONS.contains(reason)),
    };
    let reason = reason
        .ok_or_else(|| ProtocolError::malformed(format!("CONNACK has code {code}, which it cannot have")))?;
    let mut ack = ConnAck::new(reason);
    ack.session_present = flags == 1;
    if ack.session_present && reason != R::Success {
        let error = ProtocolError::violation("CONNACK refuses and says that a session is present");
        return Err(error.clauses(reader.version, "MQTT-3.2.2-4", "MQTT-3.2.2-6"));
    }
    if reader.version == Version::V5 {
        connack_properties(&mut ack, reader.properties()?)?;
    }
    reader.end()?;
    Ok(ack)
}

fn connack_properties(ack: &mut ConnAck, mut fields: Reader) -> Result<(), ProtocolError> {
    let packet = fields.packet;
    let (mut aliases, mut qos) = (None, None);
    let (mut retain, mut wildcards, mut ids, mut shared) = (None, None, None, None);
    while !fields.is_empty() {
        match fields.u8("property")? {
            id::SESSION_EXPIRY => {
                once(
                    &mut ack.session_expiry_s,
                    fields.u32("session expiry")?,
                    "session expiry interval",
                    packet,
                )?;
            }
            id::RECEIVE_MAXIMUM => {
                let value = receive_maximum(&mut fields)?;
                once(&mut ack.receive_maximum, value, "receive maximum", packet)?;
            }
            id::MAXIMUM_QOS => {
                let best = if fields.bool("maximum QoS")? { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                once(&mut qos, best, "maximum QoS", packet)?;
            }
            id::RETAIN_AVAILABLE => {
                once(&mut retain, fields.bool("retain available")?, "retain available", packet)?;
            }
            id::MAXIMUM_PACKET => {
                let value = maximum_packet(&mut fields)?;
                once(&mut ack.maximum_packet_bytes, value, "maximum packet size", packet)?;
            }
            id::ASSIGNED_CLIENT_ID => {
                let field = "assigned client identifier";
                once(&mut ack.assigned_client_id, fields.text(field)?, field, packet)?;
            }
            id::TOPIC_ALIAS_MAXIMUM => {
                once(&mut aliases, fields.u16("topic alias maximum")?, "topic alias maximum", packet)?;
            }
            id::WILDCARDS_AVAILABLE => {
                let field = "wildcard subscription available";
                once(&mut wildcards, fields.bool(field)?, field, packet)?;
            }
            id::SUBSCRIPTION_IDS_AVAILABLE => {
                let field = "subscription identifiers available";
                once(&mut ids, fields.bool(field)?, field, packet)?;
            }
            id::SHARED_AVAILABLE => {
                let field = "shared subscription available";
                once(&mut shared, fields.bool(field)?, field, packet)?;
            }
            id::SERVER_KEEP_ALIVE => {
                once(
                    &mut ack.server_keep_alive_s,
                    fields.u16("server keep alive")?,
                    "server keep alive",
                    packet,
                )?;
            }
            other => connack_texts(ack, other, &mut fields)?,
        }
    }
    ack.topic_alias_maximum = aliases.unwrap_or(0);
    ack.maximum_qos = qos.unwrap_or(QoS::ExactlyOnce);
    ack.retain_available = retain.unwrap_or(true);
    ack.wildcard_subscriptions_available = wildcards.unwrap_or(true);
    ack.subscription_identifiers_available = ids.unwrap_or(true);
    ack.shared_subscriptions_available = shared.unwrap_or(true);
    Ok(())
}

fn connack_texts(ack: &mut ConnAck, id: u8, fields: &mut Reader) -> Result<(), ProtocolError> {
    let packet = fields.packet;
    let (slot, field): (&mut Option<ByteString>, _) = match id {
        id::RESPONSE_INFORMATION => (&mut ack.response_information, "response information"),
        id::SERVER_REFERENCE => (&mut ack.server_reference, "server reference"),
        id::REASON_STRING => (&mut ack.reason_string, "reason string"),
        id::AUTHENTICATION_METHOD => (&mut ack.authentication_method, "authentication method"),
        id::AUTHENTICATION_DATA => {
            let data = fields.binary("authentication data")?;
            return once(&mut ack.authentication_data, data, "authentication data", packet);
        }
        id::USER_PROPERTY => return fields.user_property(&mut ack.user_properties),
        other => return Err(fields.unknown_property(other)),
    };
    once(slot, fields.text(field)?, field, packet)
}
