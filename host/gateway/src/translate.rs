//! Packets to messages and back.
//!
//! Properties of MQTT 5 keep their meaning: user properties are application properties, content type and correlation data
//! (if it is text) are system properties. The response topic has no counterpart and travels as an application property.
//! That is what routes and modules see; subscribers of the topic get every property as it came.
//!
//! Routes look into a body only if they are told that it is JSON in UTF-8. A client of version 5 says so with its content
//! type and payload format; one of version 3.1.1 cannot, so the configuration may say it for all.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use holdfast_broker::{Published, Publishing, SubscriberId, TopicProperties};
use holdfast_mqtt::{Codec, Packet, PacketId, Publish, PublishProperties, QoS, Version};
use holdfast_types::{Message, PROPERTIES_MAX, SystemKey, Text, UnixMillis};
use std::sync::Arc;

/// The application property that carries the response topic of MQTT 5.
pub const RESPONSE_TOPIC_PROPERTY: &str = "mqtt.response-topic";

/// The encoding of text in MQTT 5 (payload format indicator 1).
const UTF_8: &str = "utf-8";

/// More user properties than a message may have; they were not looked at one by one.
#[derive(Debug)]
pub(crate) struct TooManyProperties;

/// The message in a PUBLISH or a will.
pub(crate) fn message(
    payload: Bytes,
    properties: Option<&PublishProperties>,
    content_type: Option<&str>,
) -> Result<Message, TooManyProperties> {
    let mut message = Message::new(payload);
    let said = properties.and_then(|properties| properties.content_type.as_ref());
    if let (None, Some(content_type)) = (said, content_type) {
        message.system.set(SystemKey::ContentType, content_type);
        message.system.set(SystemKey::ContentEncoding, UTF_8);
    }
    let Some(properties) = properties else { return Ok(message) };
    if properties.user_properties.len() > PROPERTIES_MAX {
        return Err(TooManyProperties);
    }
    for (name, value) in &properties.user_properties {
        message.properties.set(name, value);
    }
    if let Some(content_type) = &properties.content_type {
        message.system.set(SystemKey::ContentType, content_type);
    }
    if properties.payload_is_utf8 {
        message.system.set(SystemKey::ContentEncoding, UTF_8);
    }
    if let Some(Ok(correlation)) = properties.correlation_data.as_deref().map(std::str::from_utf8) {
        message.system.set(SystemKey::CorrelationId, correlation);
    }
    if let Some(topic) = &properties.response_topic {
        message.properties.set(RESPONSE_TOPIC_PROPERTY, topic);
    }
    Ok(message)
}

/// A message as a PUBLISH of MQTT 5, as it is kept.
pub(crate) fn packed(publish: &Publish) -> Bytes {
    let mut bytes = BytesMut::new();
    // Any identifier will do: it is not read again.
    let packet_id = (publish.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
    let packet = Packet::Publish(Publish { packet_id, dup: false, ..publish.clone() });
    match Codec::client(Version::V5, 0).encode(&packet, &mut bytes) {
        Ok(()) => bytes.freeze(),
        Err(error) => {
            tracing::error!(%error, "a message cannot be kept");
            Bytes::new()
        }
    }
}

/// The message that was kept; none if the bytes are damaged.
pub(crate) fn unpacked(bytes: &Bytes) -> Option<Publish> {
    let mut codec = Codec::client(Version::V5, usize::MAX);
    match codec.decode(&mut BytesMut::from(&**bytes)) {
        Ok(Some(Packet::Publish(publish))) => Some(Publish { packet_id: None, ..publish }),
        _ => None,
    }
}

/// A message to be sent again to a client that may have it: its life does not end in between.
pub(crate) fn publish_again(published: &Published, version: Version, now: UnixMillis) -> Option<Publish> {
    let now = published.expires.map_or(now, |expires| now.min(UnixMillis(expires.0.saturating_sub(1))));
    publish(published, version, now)
}

/// Whether a payload that is said to be UTF-8 text is (MQTT 5, section 3.3.2.3.2: payload format indicator).
pub(crate) fn is_what_it_says(payload: &[u8], properties: Option<&PublishProperties>) -> bool {
    properties.is_none_or(|all| !all.payload_is_utf8) || std::str::from_utf8(payload).is_ok()
}

/// How a PUBLISH or a will is published.
pub(crate) fn publishing(
    qos: QoS,
    retain: bool,
    properties: Option<&PublishProperties>,
    origin: Option<SubscriberId>,
) -> Publishing {
    Publishing {
        qos: types_qos(qos),
        retain,
        origin,
        expiry_s: properties.and_then(|properties| properties.message_expiry_s),
        properties: properties.and_then(topic_properties),
        beside: Vec::new(),
    }
}

/// What subscribers get as it came. Every text is a copy: the packet's are slices of a buffer that was read into.
fn topic_properties(all: &PublishProperties) -> Option<Arc<TopicProperties>> {
    let text = |text: &Option<ByteString>| text.as_ref().map(|text| Text::from(&**text));
    let properties = TopicProperties {
        is_text: all.payload_is_utf8,
        content_type: text(&all.content_type),
        response_topic: text(&all.response_topic),
        correlation: all.correlation_data.as_deref().map(Bytes::copy_from_slice),
        user: all.user_properties.iter().map(|(name, value)| ((&**name).into(), (&**value).into())).collect(),
    };
    (properties != TopicProperties::default()).then(|| Arc::new(properties))
}

/// The broker's word for a quality of service.
pub(crate) const fn types_qos(qos: QoS) -> holdfast_types::QoS {
    match qos {
        QoS::AtMostOnce => holdfast_types::QoS::AtMostOnce,
        QoS::AtLeastOnce => holdfast_types::QoS::AtLeastOnce,
        QoS::ExactlyOnce => holdfast_types::QoS::ExactlyOnce,
    }
}

const fn mqtt_qos(qos: holdfast_types::QoS) -> QoS {
    match qos {
        holdfast_types::QoS::AtMostOnce => QoS::AtMostOnce,
        holdfast_types::QoS::AtLeastOnce => QoS::AtLeastOnce,
        holdfast_types::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// The rest of a life in seconds (MQTT-3.3.2-6), begun seconds counted whole; none if it is over.
pub(crate) fn rest_s(expires: UnixMillis, now: UnixMillis) -> Option<u32> {
    let rest_ms = expires.0.checked_sub(now.0).filter(|ms| *ms > 0)?;
    Some(u32::try_from(rest_ms.div_ceil(1000)).unwrap_or(u32::MAX))
}

/// The PUBLISH for a message on a local topic; none if its life is over (MQTT-3.3.2-5).
pub(crate) fn publish(published: &Published, version: Version, now: UnixMillis) -> Option<Publish> {
    let expiry_s = match published.expires {
        Some(expires) => Some(rest_s(expires, now)?),
        None => None,
    };
    let message = &published.envelope.message;
    let properties = (version == Version::V5).then(|| {
        let properties = match &published.properties {
            Some(properties) => as_sent(properties),
            None => properties(message),
        };
        PublishProperties {
            message_expiry_s: expiry_s,
            subscription_ids: published.ids.clone(),
            ..properties
        }
    });
    Some(Publish {
        qos: mqtt_qos(published.qos),
        retain: published.retain,
        properties: properties.filter(|all| !all.is_empty()).map(Box::new),
        ..Publish::new(&*published.topic, message.body.clone())
    })
}

fn as_sent(all: &TopicProperties) -> PublishProperties {
    let text = |text: &Option<Text>| text.as_deref().map(ByteString::from);
    PublishProperties {
        payload_is_utf8: all.is_text,
        response_topic: text(&all.response_topic),
        correlation_data: all.correlation.clone(),
        content_type: text(&all.content_type),
        user_properties: all.user.iter().map(|(name, value)| ((&**name).into(), (&**value).into())).collect(),
        ..PublishProperties::default()
    }
}

/// Properties for a message whose sender does not speak MQTT 5.
fn properties(message: &Message) -> PublishProperties {
    let user_properties = message.properties.iter().filter(|(name, _)| *name != RESPONSE_TOPIC_PROPERTY);
    let system = |key| message.system.value(key);
    PublishProperties {
        payload_is_utf8: system(SystemKey::ContentEncoding)
            .is_some_and(|said| said.eq_ignore_ascii_case(UTF_8))
            && std::str::from_utf8(&message.body).is_ok(),
        response_topic: message.properties.value(RESPONSE_TOPIC_PROPERTY).map(Into::into),
        correlation_data: system(SystemKey::CorrelationId).map(|text| ByteString::from(text).into_bytes()),
        content_type: system(SystemKey::ContentType).map(Into::into),
        user_properties: user_properties.map(|(name, value)| (name.into(), value.into())).collect(),
        ..PublishProperties::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &Message) -> (Option<&str>, Option<&str>) {
        (message.system.value(SystemKey::ContentType), message.system.value(SystemKey::ContentEncoding))
    }

    #[test]
    fn what_a_body_is_comes_from_the_client_or_else_from_the_configuration() {
        let json = Some("application/json");
        assert_eq!(said(&message("{}".into(), None, None).unwrap()), (None, None));
        assert_eq!(said(&message("{}".into(), None, json).unwrap()), (json, Some("utf-8")));
        let text = PublishProperties {
            content_type: Some("text/plain".into()),
            payload_is_utf8: true,
            ..Default::default()
        };
        assert_eq!(
            said(&message("a".into(), Some(&text), json).unwrap()),
            (Some("text/plain"), Some("utf-8"))
        );
        let bytes = PublishProperties { content_type: Some("image/png".into()), ..Default::default() };
        assert_eq!(said(&message("a".into(), Some(&bytes), json).unwrap()), (Some("image/png"), None));
    }

    #[test]
    fn the_rest_of_a_life_counts_begun_seconds_and_ends() {
        let rest = |now| rest_s(UnixMillis(10_000), UnixMillis(now));
        assert_eq!([rest(0), rest(1), rest(9_001), rest(9_999)], [Some(10), Some(10), Some(1), Some(1)]);
        assert_eq!([rest(10_000), rest(11_000)], [None, None]);
    }

    #[test]
    fn subscribers_get_the_properties_of_a_message_as_they_came() {
        let sent = PublishProperties {
            payload_is_utf8: true,
            response_topic: Some("answers/1".into()),
            correlation_data: Some(Bytes::from_static(&[0xFF, 0])),
            content_type: Some("text/plain".into()),
            user_properties: vec![
                ("a".into(), "1".into()),
                ("b".into(), "2".into()),
                ("a".into(), "3".into()),
            ],
            ..PublishProperties::default()
        };
        let publishing = publishing(QoS::AtLeastOnce, false, Some(&sent), None);
        assert_eq!(as_sent(&publishing.properties.unwrap()), sent);
    }
}
