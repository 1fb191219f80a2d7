//! Reading packets: the fixed header's first byte, and all that have no file of their own.

use super::{
    connect::connack,
    properties::id,
    publish::{self, ack_properties, reason, subscription_id},
    wire::{Reader, once},
};
use crate::{
    Auth, Disconnect, Packet, ProtocolError, QoS, ReasonCode, RetainHandling, SubAck, Subscribe,
    Subscription, UnsubAck, Unsubscribe, UserProperties, Version, filter,
};
use ReasonCode as R;
use bytestring::ByteString;

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
const DISCONNECT_REASONS: &[R] = &[
    R::Success,
    R::DisconnectWithWill,
    R::UnspecifiedError,
    R::MalformedPacket,
    R::ProtocolError,
    R::ImplementationSpecificError,
    R::NotAuthorized,
    R::ServerBusy,
    R::ServerShuttingDown,
    R::BadAuthenticationMethod,
    R::KeepAliveTimeout,
    R::SessionTakenOver,
    R::TopicFilterInvalid,
    R::TopicNameInvalid,
    R::ReceiveMaximumExceeded,
    R::TopicAliasInvalid,
    R::PacketTooLarge,
    R::MessageRateTooHigh,
    R::QuotaExceeded,
    R::AdministrativeAction,
    R::PayloadFormatInvalid,
    R::RetainNotSupported,
    R::QosNotSupported,
    R::UseAnotherServer,
    R::ServerMoved,
    R::SharedSubscriptionsNotSupported,
    R::ConnectionRateExceeded,
    R::MaximumConnectTime,
    R::SubscriptionIdentifiersNotSupported,
    R::WildcardSubscriptionsNotSupported,
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
    packet.reason = reason(&mut reader, DISCONNECT_REASONS)?;
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
                once(&mut packet.reason_string, fields.text("reason string")?, "reason string", name)?;
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
    // Only success may be said without a method: it is what an empty AUTH says (MQTT 5, sections 3.15.2.1 and 3.15.2.2.2).
    let no_method = || ProtocolError::violation("AUTH has no authentication method");
    let may_be_without = packet.reason == R::Success;
    if reader.is_empty() {
        return if may_be_without { Ok(packet) } else { Err(no_method()) };
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
                once(&mut packet.reason_string, fields.text("reason string")?, "reason string", name)?;
            }
            id::USER_PROPERTY => fields.user_property(&mut packet.user_properties)?,
            other => return Err(fields.unknown_property(other)),
        }
    }
    if packet.authentication_method.is_none() && (!may_be_without || packet.authentication_data.is_some()) {
        return Err(no_method());
    }
    Ok(packet)
}
