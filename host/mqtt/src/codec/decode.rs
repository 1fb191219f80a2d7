//! Reading all packets but PUBLISH and its acknowledgements.

use super::{
    properties::id,
    publish::{self, Collected, ack_properties, reason, subscription_id, topic_name},
    wire::{Reader, once},
};
use crate::{
    Auth, ConnAck, Connect, Disconnect, Packet, ProtocolError, QoS, ReasonCode, RetainHandling, SubAck,
    Subscribe, Subscription, UnsubAck, Unsubscribe, UserProperties, Version, Will, filter,
};
use ReasonCode as R;
use bytes::Bytes;
use bytestring::ByteString;
use std::num::NonZeroU16;

/// The packet type of CONNECT.
pub(super) const CONNECT: u8 = 1;

const PUBACK_REASONS: &[R] = &[
    R::Success,
    R::NoMatchingSubscribers,
    R::UnspecifiedError,
    R::ImplementationSpecificError,
    R::NotAuthorized,
    R::TopicNameInvalid,
    R::PacketIdentifierInUse,
    R::QuotaExceeded,
    R::PayloadFormatInvalid,
];
const PUBREL_REASONS: &[R] = &[R::Success, R::PacketIdentifierNotFound];
const SUBACK_REASONS: &[R] = &[
    R::Success,
    R::GrantedQos1,
    R::GrantedQos2,
    R::UnspecifiedError,
    R::ImplementationSpecificError,
    R::NotAuthorized,
    R::TopicFilterInvalid,
    R::PacketIdentifierInUse,
    R::QuotaExceeded,
    R::SharedSubscriptionsNotSupported,
    R::SubscriptionIdentifiersNotSupported,
    R::WildcardSubscriptionsNotSupported,
];
const UNSUBACK_REASONS: &[R] = &[
    R::Success,
    R::NoSubscriptionExisted,
    R::UnspecifiedError,
    R::ImplementationSpecificError,
    R::NotAuthorized,
    R::TopicFilterInvalid,
    R::PacketIdentifierInUse,
];
const AUTH_REASONS: &[R] = &[R::Success, R::ContinueAuthentication, R::ReAuthenticate];

/// Checks packet type and flags and gives the packet's name (MQTT 3.1.1 section 2.2; MQTT 5 section 2.1).
pub(super) fn check_first_byte(first: u8, version: Version) -> Result<&'static str, ProtocolError> {
    let (name, flags) = match first >> 4 {
        1 => ("CONNECT", 0),
        2 => ("CONNACK", 0),
        3 => return Ok("PUBLISH"),
        4 => ("PUBACK", 0),
        5 => ("PUBREC", 0),
        6 => ("PUBREL", 2),
        7 => ("PUBCOMP", 0),
        8 => ("SUBSCRIBE", 2),
        9 => ("SUBACK", 0),
        10 => ("UNSUBSCRIBE", 2),
        11 => ("UNSUBACK", 0),
        12 => ("PINGREQ", 0),
        13 => ("PINGRESP", 0),
        14 => ("DISCONNECT", 0),
        15 if version == Version::V5 => ("AUTH", 0),
        other => {
            return Err(ProtocolError::malformed(format!(
                "packet type {other} is reserved in MQTT {version}"
            )));
        }
    };
    if first & 0x0F == flags {
        return Ok(name);
    }
    let text = format!("{name} has flags {:#06b}; they must be {flags:#06b}", first & 0x0F);
    Err(ProtocolError::malformed(text).clauses(version, "MQTT-2.2.2-2", "MQTT-2.1.3-1"))
}

/// Any packet but CONNECT.
pub(super) fn packet(first: u8, reader: Reader) -> Result<Packet, ProtocolError> {
    Ok(match first >> 4 {
        2 => Packet::ConnAck(Box::new(connack(reader)?)),
        3 => Packet::Publish(publish::decode(reader, first & 0x0F)?),
        4 => Packet::PubAck(publish::decode_ack(reader, PUBACK_REASONS)?),
        5 => Packet::PubRec(publish::decode_ack(reader, PUBACK_REASONS)?),
        6 => Packet::PubRel(publish::decode_ack(reader, PUBREL_REASONS)?),
        7 => Packet::PubComp(publish::decode_ack(reader, PUBREL_REASONS)?),
        8 => Packet::Subscribe(Box::new(subscribe(reader)?)),
        9 => Packet::SubAck(Box::new(suback(reader)?)),
        10 => Packet::Unsubscribe(Box::new(unsubscribe(reader)?)),
        11 => Packet::UnsubAck(Box::new(unsuback(reader)?)),
        12 => reader.end().map(|()| Packet::PingReq)?,
        13 => reader.end().map(|()| Packet::PingResp)?,
        14 => Packet::Disconnect(Box::new(disconnect(reader)?)),
        _ => Packet::Auth(Box::new(auth(reader)?)),
    })
}

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
                    once(&mut delay, fields.u32("will delay")?, "will delay interval", fields.packet)?
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

fn connack(mut reader: Reader) -> Result<ConnAck, ProtocolError> {
    let flags = reader.u8("flags")?;
    if flags > 1 {
        let error = ProtocolError::malformed("reserved flags of CONNACK are set");
        return Err(if reader.version == Version::V5 { error.clause("MQTT-3.2.2-1") } else { error });
    }
    let code = reader.u8("reason code")?;
    let reason = match reader.version {
        Version::V311 => R::from_connect_return_code(code),
        Version::V5 => R::from_code(code).filter(|r| r.is_failure() || *r == R::Success),
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
                once(&mut retain, fields.bool("retain available")?, "retain available", packet)?
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

fn subscribe(mut reader: Reader) -> Result<Subscribe, ProtocolError> {
    let packet_id = reader.packet_id()?;
    let mut subscription = None;
    let mut user_properties = UserProperties::new();
    if reader.version == Version::V5 {
        let mut fields = reader.properties()?;
        while !fields.is_empty() {
            match fields.u8("property")? {
                id::SUBSCRIPTION_ID => {
                    let value = subscription_id(&mut fields)?;
                    once(&mut subscription, value, "subscription identifier", fields.packet)?;
                }
                id::USER_PROPERTY => fields.user_property(&mut user_properties)?,
                other => return Err(fields.unknown_property(other)),
            }
        }
    }
    let mut subscriptions = Vec::new();
    while !reader.is_empty() {
        let filter = topic_filter(&mut reader)?;
        let options = reader.u8("subscription options")?;
        subscriptions.push(subscription_options(filter, options, reader.version)?);
    }
    if subscriptions.is_empty() {
        let error = ProtocolError::violation("SUBSCRIBE has no topic filter");
        return Err(error.clauses(reader.version, "MQTT-3.8.3-3", "MQTT-3.8.3-2"));
    }
    Ok(Subscribe { packet_id, subscription_id: subscription, user_properties, subscriptions })
}

fn topic_filter(reader: &mut Reader) -> Result<ByteString, ProtocolError> {
    let text = reader.text("topic filter")?;
    match filter::check(&text) {
        Ok(_) => Ok(text),
        Err(why) => {
            let error = ProtocolError::new(R::TopicFilterInvalid, why.to_string());
            Err(match why.clause(reader.version) {
                Some(clause) => error.clause(clause),
                None => error,
            })
        }
    }
}

fn subscription_options(
    filter: ByteString,
    options: u8,
    version: Version,
) -> Result<Subscription, ProtocolError> {
    let reserved = match version {
        Version::V311 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    let qos = QoS::from_level(options & 0b11);
    let handling = match (options >> 4) & 0b11 {
        0 => Some(RetainHandling::Always),
        1 => Some(RetainHandling::IfNew),
        2 => Some(RetainHandling::Never),
        _ => None,
    };
    let (Some(qos), Some(retain_handling), 0) = (qos, handling, options & reserved) else {
        let text = format!(
            "the options of filter \"{filter}\" are {options:#010b}, which has reserved bits or values"
        );
        return Err(ProtocolError::malformed(text).clauses(version, "MQTT-3-8.3-4", "MQTT-3.8.3-5"));
    };
    let (no_local, retain_as_published) = (options & 0b100 != 0, options & 0b1000 != 0);
    if no_local && filter.starts_with("$share/") {
        let text =
            format!("shared subscription \"{filter}\" asks for no local, which shared subscriptions cannot");
        return Err(ProtocolError::violation(text).clause("MQTT-3.8.3-4"));
    }
    Ok(Subscription { filter, qos, no_local, retain_as_published, retain_handling })
}

fn suback(mut reader: Reader) -> Result<SubAck, ProtocolError> {
    let packet_id = reader.packet_id()?;
    let mut properties = Default::default();
    if reader.version == Version::V5 {
        properties = ack_properties(&mut reader)?;
    }
    let v311 = &[R::Success, R::GrantedQos1, R::GrantedQos2, R::UnspecifiedError];
    let allowed = if reader.version == Version::V5 { SUBACK_REASONS } else { v311 };
    let reasons = reasons(&mut reader, allowed)?;
    Ok(SubAck { packet_id, reasons, properties })
}

fn reasons(reader: &mut Reader, allowed: &[R]) -> Result<Vec<R>, ProtocolError> {
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        reasons.push(reason(reader, allowed)?);
    }
    if reasons.is_empty() {
        return Err(ProtocolError::malformed(format!("{} has no reason codes", reader.packet)));
    }
    Ok(reasons)
}

fn unsubscribe(mut reader: Reader) -> Result<Unsubscribe, ProtocolError> {
    let packet_id = reader.packet_id()?;
    let mut user_properties = UserProperties::new();
    if reader.version == Version::V5 {
        let mut fields = reader.properties()?;
        while !fields.is_empty() {
            match fields.u8("property")? {
                id::USER_PROPERTY => fields.user_property(&mut user_properties)?,
                other => return Err(fields.unknown_property(other)),
            }
        }
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(topic_filter(&mut reader)?);
    }
    if filters.is_empty() {
        return Err(ProtocolError::violation("UNSUBSCRIBE has no topic filter").clause("MQTT-3.10.3-2"));
    }
    Ok(Unsubscribe { packet_id, filters, user_properties })
}

fn unsuback(mut reader: Reader) -> Result<UnsubAck, ProtocolError> {
    let packet_id = reader.packet_id()?;
    if reader.version == Version::V311 {
        reader.end()?;
        return Ok(UnsubAck { packet_id, reasons: Vec::new(), properties: Default::default() });
    }
    let properties = ack_properties(&mut reader)?;
    let reasons = reasons(&mut reader, UNSUBACK_REASONS)?;
    Ok(UnsubAck { packet_id, reasons, properties })
}

fn disconnect(mut reader: Reader) -> Result<Disconnect, ProtocolError> {
    let mut packet = Disconnect::new(R::Success);
    if reader.version == Version::V311 || reader.is_empty() {
        reader.end()?;
        return Ok(packet);
    }
    let code = reader.u8("reason code")?;
    packet.reason = R::from_code(code)
        .filter(|r| r.is_failure() || matches!(r, R::Success | R::DisconnectWithWill))
        .ok_or_else(|| {
            ProtocolError::malformed(format!("DISCONNECT has reason code 0x{code:02X}, which it cannot have"))
        })?;
    if reader.is_empty() {
        return Ok(packet);
    }
    let mut fields = reader.properties()?;
    reader.end()?;
    while !fields.is_empty() {
        let name = fields.packet;
        match fields.u8("property")? {
            id::SESSION_EXPIRY => {
                once(
                    &mut packet.session_expiry_s,
                    fields.u32("session expiry")?,
                    "session expiry interval",
                    name,
                )?;
            }
            id::REASON_STRING => {
                once(&mut packet.reason_string, fields.text("reason string")?, "reason string", name)?
            }
            id::SERVER_REFERENCE => {
                once(
                    &mut packet.server_reference,
                    fields.text("server reference")?,
                    "server reference",
                    name,
                )?;
            }
            id::USER_PROPERTY => fields.user_property(&mut packet.user_properties)?,
            other => return Err(fields.unknown_property(other)),
        }
    }
    Ok(packet)
}

fn auth(mut reader: Reader) -> Result<Auth, ProtocolError> {
    let mut packet = Auth {
        reason: R::Success,
        authentication_method: None,
        authentication_data: None,
        reason_string: None,
        user_properties: UserProperties::new(),
    };
    if reader.is_empty() {
        return Ok(packet);
    }
    packet.reason = reason(&mut reader, AUTH_REASONS)?;
    if reader.is_empty() {
        return Ok(packet);
    }
    let mut fields = reader.properties()?;
    reader.end()?;
    while !fields.is_empty() {
        let name = fields.packet;
        match fields.u8("property")? {
            id::AUTHENTICATION_METHOD => {
                let field = "authentication method";
                once(&mut packet.authentication_method, fields.text(field)?, field, name)?;
            }
            id::AUTHENTICATION_DATA => {
                let field = "authentication data";
                once(&mut packet.authentication_data, fields.binary(field)?, field, name)?;
            }
            id::REASON_STRING => {
                once(&mut packet.reason_string, fields.text("reason string")?, "reason string", name)?
            }
            id::USER_PROPERTY => fields.user_property(&mut packet.user_properties)?,
            other => return Err(fields.unknown_property(other)),
        }
    }
    Ok(packet)
}
