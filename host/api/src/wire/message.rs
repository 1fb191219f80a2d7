//! Messages as JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use holdfast_types::{
    InvalidName, InvalidTopic, Message, Name, PROPERTIES_MAX, Source, SystemKey, Topic, UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A body: as text if it is UTF-8, otherwise in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// UTF-8.
    Text(String),
    /// Anything, in base64 with padding (RFC 4648, section 4).
    Base64(String),
}

impl Body {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// The text is not base64.
    pub fn bytes(&self) -> Result<Vec<u8>, InvalidMessage> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Base64(text) => {
                STANDARD.decode(text).map_err(|why| InvalidMessage::Base64(why.to_string()))
            }
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageText {
    /// The body, or its beginning.
    pub body: Body,
    /// How many bytes the whole body has, where only its beginning is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<usize>,
    /// Application properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// System properties by the names that routes have for them, such as `contentType`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system: BTreeMap<String, String>,
    /// When it was made, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time_ms: Option<u64>,
}

/// Why a [`MessageText`] or [`Sender`] makes no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// The body is not base64.
    #[error("the body is not base64: {0}")]
    Base64(String),
    /// It is shown in part only.
    #[error("the body is only the beginning of one; send it whole")]
    Partial,
    /// There is no such system property.
    #[error("there is no system property {0:?}; known are {known}", known = known_keys())]
    SystemKey(String),
    /// Too many application properties.
    #[error("the message has {0} properties; at most {PROPERTIES_MAX} are allowed")]
    Properties(usize),
    /// A name of the sender is none.
    #[error("the sender: {0}")]
    Name(#[from] InvalidName),
    /// The topic is none.
    #[error("the sender: {0}")]
    Topic(#[from] InvalidTopic),
}

fn known_keys() -> String {
    SystemKey::ALL.iter().map(|key| key.route_name()).collect::<Vec<_>>().join(", ")
}

impl MessageText {
    /// A message with at most `body_bytes_max` bytes of its body. A text is never cut within a character.
    pub fn of(message: &Message, body_bytes_max: usize) -> Self {
        let whole = message.body.len();
        let text = std::str::from_utf8(&message.body).ok();
        let mut end = whole.min(body_bytes_max);
        while text.is_some_and(|text| !text.is_char_boundary(end)) {
            end -= 1;
        }
        let system =
            message.system.iter().map(|(key, value)| (key.route_name().to_owned(), value.to_owned()));
        Self {
            body: Body::of(message.body.get(..end).unwrap_or_default()),
            body_bytes: (end < whole).then_some(whole),
            properties: message
                .properties
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            system: system.collect(),
            creation_time_ms: message.system.creation_time.map(|time| time.0),
        }
    }

    /// The message itself.
    ///
    /// # Errors
    /// Says what of it makes no message.
    pub fn message(&self) -> Result<Message, InvalidMessage> {
        if self.body_bytes.is_some() {
            return Err(InvalidMessage::Partial);
        }
        if self.properties.len() > PROPERTIES_MAX {
            return Err(InvalidMessage::Properties(self.properties.len()));
        }
        let mut message = Message::new(self.body.bytes()?);
        self.properties.iter().for_each(|(key, value)| message.properties.set(key, value));
        for (name, value) in &self.system {
            let key = SystemKey::ALL.iter().find(|key| key.route_name().eq_ignore_ascii_case(name));
            message.system.set(*key.ok_or_else(|| InvalidMessage::SystemKey(name.clone()))?, value);
        }
        message.system.creation_time = self.creation_time_ms.map(UnixMillis);
        Ok(message)
    }
}

/// Who sent a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sender {
    /// A module.
    Module {
        /// The module.
        module: String,
        /// The output, if it named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<String>,
    },
    /// A child.
    Child {
        /// The child.
        child: String,
        /// The topic, if it named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
    },
    /// A change of reported properties.
    TwinChange {
        /// The device.
        device: String,
        /// The module, if it was one's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        module: Option<String>,
    },
}

impl Sender {
    /// The source of a message.
    pub fn of(source: &Source) -> Self {
        let text = |name: &Name| name.as_str().to_owned();
        match source {
            Source::Module { module, output } => {
                Self::Module { module: text(module), output: output.as_ref().map(text) }
            }
            Source::Child { child, topic } => Self::Child {
                child: text(child),
                topic: topic.as_ref().map(|topic| topic.as_str().to_owned()),
            },
            Source::TwinChange { device, module } => {
                Self::TwinChange { device: text(device), module: module.as_ref().map(text) }
            }
        }
    }

    /// The source itself.
    ///
    /// # Errors
    /// A name or the topic is none.
    pub fn source(&self) -> Result<Source, InvalidMessage> {
        let optional = |name: &Option<String>| name.as_deref().map(Name::new).transpose();
        Ok(match self {
            Self::Module { module, output } => {
                Source::Module { module: Name::new(module)?, output: optional(output)? }
            }
            Self::Child { child, topic } => Source::Child {
                child: Name::new(child)?,
                topic: topic.as_deref().map(Topic::new).transpose()?,
            },
            Self::TwinChange { device, module } => {
                Source::TwinChange { device: Name::new(device)?, module: optional(module)? }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Message {
        let mut message = Message::new("{\"t\":21}");
        message.properties.set("unit", "C");
        message.system.set(SystemKey::ContentType, "application/json");
        message.system.creation_time = Some(UnixMillis(7));
        message
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        for body in [&b"{\"t\":21}"[..], b"", b"\xff\x00"] {
            let message = Message { body: body.to_vec().into(), ..reading() };
            let json = serde_json::to_string(&MessageText::of(&message, 100)).unwrap();
            let back: MessageText = serde_json::from_str(&json).unwrap();
            assert_eq!(back.message(), Ok(message), "{json}");
        }
    }

    #[test]
    fn a_long_body_is_cut_between_characters_and_cannot_be_sent_back() {
        let text = MessageText::of(&Message::new("aä"), 2);
        assert_eq!((&text.body, text.body_bytes), (&Body::Text("a".to_owned()), Some(3)));
        assert_eq!(text.message(), Err(InvalidMessage::Partial));
    }

    #[test]
    fn what_is_no_message_says_why() {
        let good = MessageText::of(&reading(), 100);
        let mut strange = good.clone();
        strange.system.insert("colour".to_owned(), "red".to_owned());
        let said = strange.message().unwrap_err().to_string();
        assert!(said.contains("\"colour\"") && said.contains("contentType"), "{said}");
        let broken = MessageText { body: Body::Base64("?".to_owned()), ..good };
        assert!(matches!(broken.message(), Err(InvalidMessage::Base64(_))));
        let sender = Sender::Module { module: "a/b".to_owned(), output: None };
        assert!(matches!(sender.source(), Err(InvalidMessage::Name(_))));
    }

    #[test]
    fn every_source_comes_back_as_it_went() {
        let name = |text| Name::new(text).unwrap();
        let sources = [
            Source::Module { module: name("sim"), output: Some(name("out")) },
            Source::Child { child: name("s1"), topic: Some(Topic::new("a/b").unwrap()) },
            Source::TwinChange { device: name("d"), module: None },
        ];
        for source in sources {
            assert_eq!(Sender::of(&source).source(), Ok(source));
        }
    }
}
