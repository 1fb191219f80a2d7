//! What travels between modules, children and upstream.

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Milliseconds since 1970-01-01 00:00:00 UTC.
pub type UnixMillis = u64;

/// The system properties that a sender may set (IoT Hub, "Create and read messages").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemProperties {
    /// Names the message, for the one who receives it.
    pub message_id: Option<String>,
    /// Names the message that this one answers or belongs to.
    pub correlation_id: Option<String>,
    /// What the body is, for example `application/json`. Conditions of routes look into the body only of JSON.
    pub content_type: Option<String>,
    /// How text in the body is encoded, for example `utf-8`.
    pub content_encoding: Option<String>,
    /// When the message was made, by its sender's clock. The host stamps it when the sender gives none.
    pub creation_time: Option<UnixMillis>,
}

/// Who sent a message. The host proves it; no sender can claim it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A module.
    Module {
        /// Its name.
        module: String,
        /// The output it was sent to.
        output: Option<String>,
    },
    /// A child device.
    Child {
        /// Its name.
        child: String,
        /// The plain MQTT topic it published to, if it did.
        topic: Option<String>,
    },
    /// A change of a twin.
    TwinChange {
        /// The device.
        device: String,
        /// The module, if the twin is a module's.
        module: Option<String>,
    },
}

/// A message that a module receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The body.
    pub body: Vec<u8>,
    /// Application properties in the sender's order; keys are unique but for their case.
    pub properties: Vec<(String, String)>,
    /// System properties.
    pub system: SystemProperties,
    /// Who sent it.
    pub source: Source,
}

impl Message {
    /// The body as text.
    pub fn text(&self) -> Result<&str, BodyError> {
        text_of(&self.body)
    }

    /// The body read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        json_of(&self.body)
    }

    /// The value of an application property, whatever the case of its key.
    pub fn property(&self, key: &str) -> Option<&str> {
        property_of(&self.properties, key)
    }
}

/// A message that a module sends. Built step by step:
///
/// ```
/// use holdfast_sdk::Outgoing;
/// let message = Outgoing::text("too hot").property("severity", "high").correlation_id("reading-17");
/// assert_eq!(message.properties, [("severity".to_owned(), "high".to_owned())]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The body.
    pub body: Vec<u8>,
    /// Application properties in order.
    pub properties: Vec<(String, String)>,
    /// System properties.
    pub system: SystemProperties,
}

impl Outgoing {
    /// A message of bytes that say nothing about what they are.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// A message of text: content type `text/plain`, content encoding `utf-8`.
    pub fn text(body: impl Into<String>) -> Self {
        Self::bytes(body.into()).content_type("text/plain").content_encoding("utf-8")
    }

    /// A message of JSON: content type `application/json`, content encoding `utf-8`, which conditions of routes need
    /// in order to look into the body.
    ///
    /// Fails if the value cannot be written as JSON, for example a map whose keys are not text.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, BodyError> {
        let body = serde_json::to_vec(value).map_err(BodyError::Json)?;
        Ok(Self::bytes(body).content_type("application/json").content_encoding("utf-8"))
    }

    /// Sets an application property. A key that is there already, whatever its case, gets the new value.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        match self.properties.iter_mut().find(|(k, _)| k.eq_ignore_ascii_case(&key)) {
            Some((_, old)) => *old = value.into(),
            None => self.properties.push((key, value.into())),
        }
        self
    }

    /// Sets the message id.
    #[must_use]
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.system.message_id = Some(id.into());
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.system.correlation_id = Some(id.into());
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.system.content_type = Some(content_type.into());
        self
    }

    /// Sets the content encoding.
    #[must_use]
    pub fn content_encoding(mut self, encoding: impl Into<String>) -> Self {
        self.system.content_encoding = Some(encoding.into());
        self
    }

    /// Sets when the message was made. The host stamps it when none is given.
    #[must_use]
    pub fn creation_time(mut self, at: UnixMillis) -> Self {
        self.system.creation_time = Some(at);
        self
    }

    /// The same message as its receiver sees it.
    pub fn received_from(self, source: Source) -> Message {
        Message { body: self.body, properties: self.properties, system: self.system, source }
    }
}

/// Passes a message on as it came: body, application properties and system properties.
impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self { body: message.body, properties: message.properties, system: message.system }
    }
}

/// Why a body is not what it was read as, or could not be written.
#[derive(Debug)]
pub enum BodyError {
    /// The body is not UTF-8.
    Text(std::str::Utf8Error),
    /// The body is not JSON, or not JSON of the expected shape; or a value has no JSON form.
    Json(serde_json::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(error) => write!(f, "the body is not UTF-8 text: {error}"),
            Self::Json(error) => write!(f, "the body is not the expected JSON: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A body that is not what it should be stays so: the message is given up.
impl From<BodyError> for crate::Failure {
    fn from(error: BodyError) -> Self {
        Self::reject(error)
    }
}

pub(crate) fn text_of(body: &[u8]) -> Result<&str, BodyError> {
    std::str::from_utf8(body).map_err(BodyError::Text)
}

pub(crate) fn json_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    serde_json::from_slice(body).map_err(BodyError::Json)
}

pub(crate) fn property_of<'a>(properties: &'a [(String, String)], key: &str) -> Option<&'a str> {
    properties.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_set_twice_keeps_its_place_and_takes_the_new_value() {
        let message = Outgoing::text("x").property("Level", "1").property("unit", "C").property("level", "2");
        assert_eq!(message.properties, [("Level".into(), "2".into()), ("unit".into(), "C".into())]);
    }

    #[test]
    fn a_body_that_is_not_what_it_should_be_rejects_the_message() {
        let message = Outgoing::bytes([0xff]).received_from(Source::Child { child: "c".into(), topic: None });
        assert!(message.text().unwrap_err().to_string().starts_with("the body is not UTF-8 text"));
        let failure: crate::Failure = message.json::<u32>().unwrap_err().into();
        assert!(matches!(failure, crate::Failure::Reject(reason) if reason.contains("expected JSON")));
    }
}
