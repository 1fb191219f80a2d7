//! Packets to messages and back.
//!
//! Properties of MQTT 5 keep their meaning: user properties are application properties, content type and correlation data
//! (if it is text) are system properties. The response topic has no counterpart and travels as an application property.
//!
//! Routes look into a body only if they are told that it is JSON in UTF-8. A client of version 5 says so with its content
//! type and payload format; one of version 3.1.1 cannot, so the configuration may say it for all.

use bytestring::ByteString;
use holdfast_broker::Published;
use holdfast_mqtt::{Publish, PublishProperties, QoS, Version};
use holdfast_types::{Message, PROPERTIES_MAX, SystemKey};

/// The application property that carries the response topic of MQTT 5.
pub const RESPONSE_TOPIC_PROPERTY: &str = "mqtt.response-topic";

/// The encoding of text in MQTT 5 (payload format indicator 1).
const UTF_8: &str = "utf-8";

/// More user properties than a message may have; they were not looked at one by one.
#[derive(Debug)]
pub(crate) struct TooManyProperties;

/// The message in a PUBLISH or a will.
pub(crate) fn message(
    payload: bytes::Bytes,
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

/// The PUBLISH for a message on a local topic.
pub(crate) fn publish(
    published: &Published,
    qos: QoS,
    subscription_ids: Vec<u32>,
    version: Version,
) -> Publish {
    let message = &published.envelope.message;
    let properties = (version == Version::V5).then(|| properties(message, subscription_ids));
    Publish {
        qos,
        properties: properties.filter(|all| !all.is_empty()).map(Box::new),
        ..Publish::new(&*published.topic, message.body.clone())
    }
}

fn properties(message: &Message, subscription_ids: Vec<u32>) -> PublishProperties {
    let user_properties = message.properties.iter().filter(|(name, _)| *name != RESPONSE_TOPIC_PROPERTY);
    let system = |key| message.system.value(key);
    PublishProperties {
        response_topic: message.properties.value(RESPONSE_TOPIC_PROPERTY).map(Into::into),
        correlation_data: system(SystemKey::CorrelationId).map(|text| ByteString::from(text).into_bytes()),
        content_type: system(SystemKey::ContentType).map(Into::into),
        user_properties: user_properties.map(|(name, value)| (name.into(), value.into())).collect(),
        subscription_ids,
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
}
