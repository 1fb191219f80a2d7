//! Topic filters: what a subscriber or an access rule names.

use crate::{Text, limits::TOPIC_BYTES_MAX};
use std::fmt;

/// A checked MQTT topic filter (MQTT 5, section 4.7): levels with `+` for one level and a last `#` for all below.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Text);

/// Why a text is not a [`TopicFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidFilter {
    /// No characters at all (MQTT-4.7.3-1).
    Empty,
    /// More than 65,535 bytes (MQTT-4.7.3-3); holds how many there were.
    TooLong(usize),
    /// `#` that is not a whole last level (MQTT-4.7.1-1).
    HashNotLast,
    /// `+` that is not a whole level (MQTT-4.7.1-2).
    PlusNotAlone,
    /// The character U+0000 (MQTT-4.7.3-2).
    Null,
}

impl TopicFilter {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, InvalidFilter> {
        if text.is_empty() {
            return Err(InvalidFilter::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(InvalidFilter::TooLong(text.len()));
        }
        if text.contains('\0') {
            return Err(InvalidFilter::Null);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(InvalidFilter::HashNotLast);
            }
            if level.contains('+') && level != "+" {
                return Err(InvalidFilter::PlusNotAlone);
            }
        }
        Ok(Self(text.into()))
    }

    /// The text of the filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, first to last.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether `topic` is one that this filter names. A filter that starts with a wildcard does not name topics that
    /// start with `$` (MQTT-4.7.2-1).
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && (self.0.starts_with('+') || self.0.starts_with('#')) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in self.levels() {
            if level == "#" {
                return true;
            }
            match topic_levels.next() {
                Some(t) if level == "+" || level == t => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for InvalidFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the filter is empty; use \"#\" for every topic"),
            Self::TooLong(n) => write!(f, "the filter has {n} bytes; at most {TOPIC_BYTES_MAX} are allowed"),
            Self::HashNotLast => write!(f, "\"#\" must be a whole level and the last one"),
            Self::PlusNotAlone => write!(f, "\"+\" must be a whole level"),
            Self::Null => write!(f, "the filter holds the character U+0000, which MQTT forbids"),
        }
    }
}

impl std::error::Error for InvalidFilter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, answer) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("+", "finance", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/b", "a/b/c", false),
        ] {
            assert_eq!(TopicFilter::new(filter).unwrap().matches(topic), answer, "{filter} {topic}");
        }
    }

    #[test]
    fn bad_filters_say_why() {
        assert_eq!(TopicFilter::new("a/#/b"), Err(InvalidFilter::HashNotLast));
        assert_eq!(TopicFilter::new("a#"), Err(InvalidFilter::HashNotLast));
        assert_eq!(TopicFilter::new("a/b+"), Err(InvalidFilter::PlusNotAlone));
        assert_eq!(TopicFilter::new(""), Err(InvalidFilter::Empty));
    }
}
