//! Topic filters: what a subscription matches (MQTT 3.1.1 section 4.7; MQTT 5 sections 4.7 and 4.8.2).

use crate::Version;
use std::{fmt, sync::Arc};

/// Most levels in a topic or a filter. The specification sets none; without one, a single subscription of 65,535 bytes
/// would make 32,768 levels of a matching tree.
pub const LEVELS_MAX: usize = 128;

/// A checked topic filter, perhaps of a shared subscription (`$share/group/filter`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Where the filter proper begins: 0, or behind `$share/group/`.
    start: usize,
}

/// Why a text is not a [`TopicFilter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// No characters (MQTT-4.7.3-1).
    #[error("the topic filter is empty; a filter has at least one character")]
    Empty,
    /// More than 65,535 bytes (MQTT-4.7.3-3).
    #[error("the topic filter has {0} bytes; at most 65535 are allowed")]
    TooLong(usize),
    /// More than [`LEVELS_MAX`] levels.
    #[error("the topic filter has {0} levels; at most {LEVELS_MAX} are allowed")]
    TooDeep(usize),
    /// The character U+0000 (MQTT-4.7.3-2).
    #[error("the topic filter holds the character U+0000, which MQTT forbids")]
    Null,
    /// `#` that is not alone in the last level (MQTT 3.1.1: MQTT-4.7.1-2; MQTT 5: MQTT-4.7.1-1).
    #[error("in topic filter \"{0}\" # does not stand alone in the last level; write it as \"a/b/#\"")]
    MultiLevel(String),
    /// `+` that is not alone in its level (MQTT 3.1.1: MQTT-4.7.1-3; MQTT 5: MQTT-4.7.1-2).
    #[error("in topic filter \"{0}\" + shares its level with other characters; write it as \"a/+/b\"")]
    SingleLevel(String),
    /// `$share` without a group, with a wildcard in the group, or without a filter (MQTT-4.8.2-1, MQTT-4.8.2-2).
    #[error(
        "shared subscription \"{0}\" is not of the form \"$share/group/filter\" with a group without wildcards"
    )]
    Share(String),
}

impl InvalidFilter {
    /// The clause that the text breaks, in the numbering of `version`.
    pub const fn clause(&self, version: Version) -> Option<&'static str> {
        match (self, version) {
            (Self::Empty, _) => Some("MQTT-4.7.3-1"),
            (Self::Null, _) => Some("MQTT-4.7.3-2"),
            (Self::TooLong(_), _) => Some("MQTT-4.7.3-3"),
            (Self::MultiLevel(_), Version::V311) => Some("MQTT-4.7.1-2"),
            (Self::MultiLevel(_), Version::V5) => Some("MQTT-4.7.1-1"),
            (Self::SingleLevel(_), Version::V311) => Some("MQTT-4.7.1-3"),
            (Self::SingleLevel(_), Version::V5) => Some("MQTT-4.7.1-2"),
            (Self::Share(_), Version::V5) => Some("MQTT-4.8.2-1"),
            (Self::Share(_), Version::V311) | (Self::TooDeep(_), _) => None,
        }
    }
}

impl TopicFilter {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, InvalidFilter> {
        let start = check(text)?;
        Ok(Self { text: text.into(), start })
    }

    /// The whole text, with the share if there is one.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter without the share.
    pub fn filter(&self) -> &str {
        self.text.get(self.start..).unwrap_or_default()
    }

    /// The group of a shared subscription.
    pub fn share(&self) -> Option<&str> {
        let share = self.text.get(..self.start)?.strip_prefix("$share/")?;
        share.strip_suffix('/')
    }

    /// Whether `topic` matches. A filter that begins with a wildcard does not match a topic that begins with `$`
    /// (MQTT-4.7.2-1).
    pub fn matches(&self, topic: &str) -> bool {
        matches(self.filter(), topic)
    }

    /// Whether everything that `other` can match, this matches too: a grant for `a/#` covers a subscription to `a/+`.
    pub fn covers(&self, other: &TopicFilter) -> bool {
        covers(self.filter(), other.filter())
    }
}

/// Checks a filter and says where, behind a share, it begins.
pub(crate) fn check(text: &str) -> Result<usize, InvalidFilter> {
    if text.is_empty() {
        return Err(InvalidFilter::Empty);
    }
    if text.len() > usize::from(u16::MAX) {
        return Err(InvalidFilter::TooLong(text.len()));
    }
    if text.bytes().any(|b| b == 0) {
        return Err(InvalidFilter::Null);
    }
    let filter = match text.strip_prefix("$share") {
        Some("") => return Err(InvalidFilter::Share(text.to_owned())),
        Some(rest) if rest.starts_with('/') => match rest.get(1..).and_then(|rest| rest.split_once('/')) {
            Some((group, filter))
                if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() =>
            {
                filter
            }
            _ => return Err(InvalidFilter::Share(text.to_owned())),
        },
        _ => text,
    };
    let depth = filter.bytes().filter(|b| *b == b'/').count().saturating_add(1);
    if depth > LEVELS_MAX {
        return Err(InvalidFilter::TooDeep(depth));
    }
    for (at, level) in filter.split('/').enumerate() {
        if level.contains('#') && (level != "#" || at.saturating_add(1) != depth) {
            return Err(InvalidFilter::MultiLevel(text.to_owned()));
        }
        if level.contains('+') && level != "+" {
            return Err(InvalidFilter::SingleLevel(text.to_owned()));
        }
    }
    Ok(text.len().saturating_sub(filter.len()))
}

fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut filter_levels = filter.split('/');
    let mut topic_levels = topic.split('/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(same)) if level == same => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut wide_levels = wide.split('/');
    let mut narrow_levels = narrow.split('/');
    loop {
        match (wide_levels.next(), narrow_levels.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(level), Some(same)) if level == same && level != "+" => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b/c", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("$share/g/a/+", "a/b", true),
            ("$shared/a", "$shared/a", true),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(TopicFilter::new(filter).unwrap().matches(topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn illegal_filters_are_refused_with_the_reason() {
        assert_eq!(TopicFilter::new(""), Err(InvalidFilter::Empty));
        assert_eq!(TopicFilter::new("a\0"), Err(InvalidFilter::Null));
        for bad in ["a#", "a/#/b", "##", "#/", "$share/g/a#"] {
            assert_eq!(TopicFilter::new(bad), Err(InvalidFilter::MultiLevel(bad.into())));
        }
        for bad in ["a+", "a/+b/c", "++"] {
            assert_eq!(TopicFilter::new(bad), Err(InvalidFilter::SingleLevel(bad.into())));
        }
        for bad in ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"] {
            assert_eq!(TopicFilter::new(bad), Err(InvalidFilter::Share(bad.into())), "{bad}");
        }
        assert_eq!(TopicFilter::new(&"/".repeat(200)), Err(InvalidFilter::TooDeep(201)));
        assert_eq!(TopicFilter::new(&"a".repeat(65_536)), Err(InvalidFilter::TooLong(65_536)));
    }

    #[test]
    fn a_share_is_told_from_its_filter() {
        let shared = TopicFilter::new("$share/group/a/#").unwrap();
        assert_eq!((shared.share(), shared.filter()), (Some("group"), "a/#"));
        let plain = TopicFilter::new("a/#").unwrap();
        assert_eq!((plain.share(), plain.filter()), (None, "a/#"));
    }

    #[test]
    fn a_filter_covers_another_only_if_it_matches_all_that_the_other_can() {
        let cases = [
            ("a/#", "a/+", true),
            ("a/#", "a/b/#", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/x", "+/x", true),
            ("+/x", "#", false),
        ];
        for (wide, narrow, expected) in cases {
            let (w, n) = (TopicFilter::new(wide).unwrap(), TopicFilter::new(narrow).unwrap());
            assert_eq!(w.covers(&n), expected, "{wide} {narrow}");
        }
    }
}
