//! Writing packets. Each is put together behind its fixed header first, so that an error leaves nothing behind.

use super::{
    properties::{Properties, id},
    publish::{self, header},
    wire::{put_binary, sized},
};
use crate::{
    AckProperties, Auth, ConnAck, Connect, Disconnect, EncodeError, Packet, QoS, ReasonCode, Subscribe,
    Unsubscribe, Version, Will,
};
use bytes::{BufMut, BytesMut};

pub(super) fn packet(
    packet: &Packet,
    version: Version,
    max: usize,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    let mut body = BytesMut::new();
    let first = match packet {
        Packet::Publish(all) => return publish::encode(all, version, max, dst),
        Packet::PubAck(ack) => return publish::encode_ack(0x40, ack, version, max, dst),
        Packet::PubRec(ack) => return publish::encode_ack(0x50, ack, version, max, dst),
        Packet::PubRel(ack) => return publish::encode_ack(0x62, ack, version, max, dst),
        Packet::PubComp(ack) => return publish::encode_ack(0x70, ack, version, max, dst),
        Packet::PingReq => 0xC0,
        Packet::PingResp => 0xD0,
        Packet::Connect(all) => connect(all, &mut body).map(|()| 0x10)?,
        Packet::ConnAck(all) => connack(all, version, &mut body).map(|()| 0x20)?,
        Packet::Subscribe(all) => subscribe(all, version, &mut body).map(|()| 0x82)?,
        Packet::SubAck(all) => {
            body.put_u16(all.packet_id.get());
            reasons(&all.properties, &all.reasons, version, &mut body)?;
            0x90
        }
        Packet::Unsubscribe(all) => unsubscribe(all, version, &mut body).map(|()| 0xA2)?,
        Packet::UnsubAck(all) => {
            body.put_u16(all.packet_id.get());
            if version == Version::V5 {
                reasons(&all.properties, &all.reasons, version, &mut body)?;
            }
            0xB0
        }
        Packet::Disconnect(all) => disconnect(all, version, &mut body).map(|()| 0xE0)?,
        Packet::Auth(all) => auth(all, version, &mut body).map(|()| 0xF0)?,
    };
    header(first, body.len(), max, dst)?;
    dst.put_slice(&body);
    Ok(())
}

fn put(dst: &mut BytesMut, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    sized(field, bytes)?;
    put_binary(dst, bytes);
    Ok(())
}

fn connect(all: &Connect, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if all.version == Version::V311 && all.password.is_some() && all.user_name.is_none() {
        return Err(EncodeError::Contradiction(
            "MQTT 3.1.1 takes no password without a user name (MQTT-3.1.2-22)",
        ));
    }
    put_binary(dst, b"MQTT");
    dst.put_u8(if all.version == Version::V5 { 5 } else { 4 });
    let will = all.will.as_ref().map_or(0, |w| 0x04 | (w.qos.level() << 3) | (u8::from(w.retain) << 5));
    let flags = will
        | (u8::from(all.clean_start) << 1)
        | (u8::from(all.password.is_some()) << 6)
        | (u8::from(all.user_name.is_some()) << 7);
    dst.put_u8(flags);
    dst.put_u16(all.keep_alive_s);
    if all.version == Version::V5 {
        let mut properties = Properties::default();
        properties.u32(id::SESSION_EXPIRY, (all.session_expiry_s != 0).then_some(all.session_expiry_s));
        properties.u16(id::RECEIVE_MAXIMUM, all.receive_maximum.map(Into::into));
        properties.u32(id::MAXIMUM_PACKET, all.maximum_packet_bytes);
        properties
            .u16(id::TOPIC_ALIAS_MAXIMUM, (all.topic_alias_maximum != 0).then_some(all.topic_alias_maximum));
        properties.bool(id::REQUEST_RESPONSE, all.request_response_information, false);
        properties.bool(id::REQUEST_PROBLEM, all.request_problem_information, true);
        properties.text(id::AUTHENTICATION_METHOD, "authentication method", &all.authentication_method);
        properties.binary(id::AUTHENTICATION_DATA, "authentication data", all.authentication_data.as_deref());
        properties.user(&all.user_properties);
        properties.finish(dst)?;
    }
    put(dst, "client identifier", all.client_id.as_bytes())?;
    if let Some(will) = &all.will {
        put_will(will, all.version, dst)?;
    }
    if let Some(name) = &all.user_name {
        put(dst, "user name", name.as_bytes())?;
    }
    if let Some(password) = &all.password {
        put(dst, "password", password)?;
    }
    Ok(())
}

fn put_will(will: &Will, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if version == Version::V5 {
        let mut properties = Properties::default();
        properties.u32(id::WILL_DELAY, (will.delay_s != 0).then_some(will.delay_s));
        properties.publish(&will.properties);
        properties.finish(dst)?;
    }
    put(dst, "will topic", will.topic.as_bytes())?;
    put(dst, "will payload", &will.payload)
}

fn connack(all: &ConnAck, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    let refused = all.reason != ReasonCode::Success;
    dst.put_u8(u8::from(all.session_present && !refused));
    if version == Version::V311 {
        dst.put_u8(all.reason.connect_return_code());
        return Ok(());
    }
    dst.put_u8(all.reason.code());
    let mut properties = Properties::default();
    properties.u32(id::SESSION_EXPIRY, all.session_expiry_s);
    properties.u16(id::RECEIVE_MAXIMUM, all.receive_maximum.map(Into::into));
    properties.u8(id::MAXIMUM_QOS, (all.maximum_qos != QoS::ExactlyOnce).then_some(all.maximum_qos.level()));
    properties.bool(id::RETAIN_AVAILABLE, all.retain_available, true);
    properties.u32(id::MAXIMUM_PACKET, all.maximum_packet_bytes);
    properties.text(id::ASSIGNED_CLIENT_ID, "assigned client identifier", &all.assigned_client_id);
    properties
        .u16(id::TOPIC_ALIAS_MAXIMUM, (all.topic_alias_maximum != 0).then_some(all.topic_alias_maximum));
    properties.text(id::REASON_STRING, "reason string", &all.reason_string);
    properties.user(&all.user_properties);
    properties.bool(id::WILDCARDS_AVAILABLE, all.wildcard_subscriptions_available, true);
    properties.bool(id::SUBSCRIPTION_IDS_AVAILABLE, all.subscription_identifiers_available, true);
    properties.bool(id::SHARED_AVAILABLE, all.shared_subscriptions_available, true);
    properties.u16(id::SERVER_KEEP_ALIVE, all.server_keep_alive_s);
    properties.text(id::RESPONSE_INFORMATION, "response information", &all.response_information);
    properties.text(id::SERVER_REFERENCE, "server reference", &all.server_reference);
    properties.text(id::AUTHENTICATION_METHOD, "authentication method", &all.authentication_method);
    properties.binary(id::AUTHENTICATION_DATA, "authentication data", all.authentication_data.as_deref());
    properties.finish(dst)
}

fn subscribe(all: &Subscribe, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if all.subscriptions.is_empty() {
        return Err(EncodeError::Contradiction("a SUBSCRIBE has at least one topic filter"));
    }
    dst.put_u16(all.packet_id.get());
    if version == Version::V5 {
        let mut properties = Properties::default();
        properties.subscription_id(all.subscription_id);
        properties.user(&all.user_properties);
        properties.finish(dst)?;
    }
    for one in &all.subscriptions {
        put(dst, "topic filter", one.filter.as_bytes())?;
        let v5 = (u8::from(one.no_local) << 2)
            | (u8::from(one.retain_as_published) << 3)
            | ((one.retain_handling as u8) << 4);
        dst.put_u8(one.qos.level() | if version == Version::V5 { v5 } else { 0 });
    }
    Ok(())
}

fn unsubscribe(all: &Unsubscribe, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if all.filters.is_empty() {
        return Err(EncodeError::Contradiction("an UNSUBSCRIBE has at least one topic filter"));
    }
    dst.put_u16(all.packet_id.get());
    if version == Version::V5 {
        let mut properties = Properties::default();
        properties.user(&all.user_properties);
        properties.finish(dst)?;
    }
    for filter in &all.filters {
        put(dst, "topic filter", filter.as_bytes())?;
    }
    Ok(())
}

fn reasons(
    properties: &AckProperties,
    reasons: &[ReasonCode],
    version: Version,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version == Version::V5 {
        let mut all = Properties::default();
        all.ack(properties);
        all.finish(dst)?;
    }
    for reason in reasons {
        let failure = version == Version::V311 && reason.is_failure();
        dst.put_u8(if failure { 0x80 } else { reason.code() });
    }
    Ok(())
}

fn disconnect(all: &Disconnect, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if version == Version::V311 {
        return Ok(());
    }
    let mut properties = Properties::default();
    properties.u32(id::SESSION_EXPIRY, all.session_expiry_s);
    properties.text(id::REASON_STRING, "reason string", &all.reason_string);
    properties.user(&all.user_properties);
    properties.text(id::SERVER_REFERENCE, "server reference", &all.server_reference);
    if properties.is_empty() && all.reason == ReasonCode::Success {
        return Ok(());
    }
    dst.put_u8(all.reason.code());
    if properties.is_empty() { Ok(()) } else { properties.finish(dst) }
}

fn auth(all: &Auth, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if version == Version::V311 {
        return Err(EncodeError::NotInVersion("AUTH"));
    }
    let mut properties = Properties::default();
    properties.text(id::AUTHENTICATION_METHOD, "authentication method", &all.authentication_method);
    properties.binary(id::AUTHENTICATION_DATA, "authentication data", all.authentication_data.as_deref());
    properties.text(id::REASON_STRING, "reason string", &all.reason_string);
    properties.user(&all.user_properties);
    if properties.is_empty() && all.reason == ReasonCode::Success {
        return Ok(());
    }
    dst.put_u8(all.reason.code());
    properties.finish(dst)
}
