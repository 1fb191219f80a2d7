//! Names and topics: text that has been checked once.

use crate::limits::{NAME_BYTES_MAX, TOPIC_BYTES_MAX};
use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// Shared immutable text. Cloning costs a reference count.
pub type Text = Arc<str>;

/// The checked name of a module, child, input, output or route.
///
/// 1 to 128 bytes of ASCII letters, digits and `- : . + % _ # * ? ! ( ) , = @ $ '`, the characters that IoT Hub allows
/// in device ids, less those that MQTT filters give a meaning (`+`, `#`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Text);

/// Why a text is not a [`Name`]. The message says what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidName {
    /// No characters at all.
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes; holds how many there were.
    TooLong(usize),
    /// A character that is not allowed, and where it stands (byte offset).
    Character(char, usize),
}

impl Name {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(InvalidName::TooLong(text.len()));
        }
        match text.char_indices().find(|&(_, c)| !is_name_character(c)) {
            Some((at, c)) => Err(InvalidName::Character(c, at)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text itself.
    pub fn text(&self) -> &Text {
        &self.0
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-:._%*?!(),=@$'".contains(c)
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a name is empty; give it 1 to {NAME_BYTES_MAX} characters"),
            Self::TooLong(n) => write!(f, "a name has {n} bytes; at most {NAME_BYTES_MAX} are allowed"),
            Self::Character(c, at) => {
                write!(
                    f,
                    "character {c:?} at byte {at} is not allowed in a name; use letters, digits and -:._%*?!(),=@$'"
                )
            }
        }
    }
}

impl std::error::Error for InvalidName {}

/// An MQTT topic name: 1 to 65,535 bytes of UTF-8, without wildcards and without U+0000 (MQTT-4.7.3-1, MQTT-4.7.3-2,
/// MQTT-3.3.2-2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Text);

/// Why a text is not a [`Topic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidTopic {
    /// No characters at all (MQTT-4.7.3-1).
    Empty,
    /// More than 65,535 bytes (MQTT-4.7.3-3); holds how many there were.
    TooLong(usize),
    /// `+` or `#`, which only filters may hold (MQTT-3.3.2-2).
    Wildcard(char),
    /// The character U+0000 (MQTT-4.7.3-2).
    Null,
}

impl Topic {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, InvalidTopic> {
        if text.is_empty() {
            return Err(InvalidTopic::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(InvalidTopic::TooLong(text.len()));
        }
        match text.chars().find(|c| matches!(c, '+' | '#' | '\0')) {
            Some('\0') => Err(InvalidTopic::Null),
            Some(c) => Err(InvalidTopic::Wildcard(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text of the topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the topic is empty; a topic has at least one character"),
            Self::TooLong(n) => write!(f, "the topic has {n} bytes; at most {TOPIC_BYTES_MAX} are allowed"),
            Self::Wildcard(c) => write!(f, "the topic holds {c:?}; wildcards are for subscriptions only"),
            Self::Null => write!(f, "the topic holds the character U+0000, which MQTT forbids"),
        }
    }
}

impl std::error::Error for InvalidTopic {}

macro_rules! text_like {
    ($type:ty) => {
        impl Deref for $type {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
text_like!(Name);
text_like!(Topic);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_iot_hub_takes_are_taken_and_others_say_why() {
        for good in ["a", "edge-01", "Sensor.7:x", "$edgeHub", &"n".repeat(NAME_BYTES_MAX)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert_eq!(Name::new(&"n".repeat(129)), Err(InvalidName::TooLong(129)));
        assert_eq!(Name::new("a/b"), Err(InvalidName::Character('/', 1)));
        assert_eq!(Name::new("käse"), Err(InvalidName::Character('ä', 1)));
        assert_eq!(Name::new("a#"), Err(InvalidName::Character('#', 1)));
    }

    #[test]
    fn topics_are_refused_for_the_reasons_of_the_specification() {
        assert!(Topic::new("plant/1/ü").is_ok());
        assert_eq!(Topic::new(""), Err(InvalidTopic::Empty));
        assert_eq!(Topic::new("a/+"), Err(InvalidTopic::Wildcard('+')));
        assert_eq!(Topic::new("a/#"), Err(InvalidTopic::Wildcard('#')));
        assert_eq!(Topic::new("a\0"), Err(InvalidTopic::Null));
        assert_eq!(Topic::new(&"t".repeat(65_536)), Err(InvalidTopic::TooLong(65_536)));
    }
}
