//! Property bags: the names and values in the last level of a topic.

use super::percent;
use std::fmt;

/// Most properties in one bag. A topic has room for many thousands; finding duplicates among them takes their square.
const PROPERTIES_MAX: usize = 512;

/// Names with values, in the order in which they stand. A name without `=` has no value, which is not the same as an
/// empty one. A name that comes again replaces the value and keeps the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyBag(Vec<(String, Option<String>)>);

/// A text is not a property bag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBag {
    /// A value without a name, as in `=1`.
    #[error("in the property bag {0:?} a value has no name; write it as name=value")]
    NoName(String),
    /// A bag is one level of a topic.
    #[error("the property bag {0:?} holds a slash; write it as %2F")]
    Slash(String),
    /// More properties than anybody sends.
    #[error(
        "the property bag holds more than {PROPERTIES_MAX} properties; send fewer, or send them in the body"
    )]
    TooMany,
}

impl PropertyBag {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads `name=value&name&name=`. Names and values are percent-decoded, `+` stands for itself; SDKs encode the `$` of
    /// system properties too. Between two `&`, before the first and after the last there may be nothing.
    pub fn decode(text: &str) -> Result<Self, MalformedBag> {
        if text.contains('/') {
            return Err(MalformedBag::Slash(text.to_owned()));
        }
        let mut bag = Self::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if bag.0.len() >= PROPERTIES_MAX {
                return Err(MalformedBag::TooMany);
            }
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(percent::decode(value).into_owned())),
                None => (pair, None),
            };
            if name.is_empty() {
                return Err(MalformedBag::NoName(text.to_owned()));
            }
            bag.put(percent::decode(name).into_owned(), value);
        }
        Ok(bag)
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &str) {
        self.put(name.to_owned(), Some(value.to_owned()));
    }

    /// Sets a property that has no value.
    pub fn set_null(&mut self, name: &str) {
        self.put(name.to_owned(), None);
    }

    fn put(&mut self, name: String, value: Option<String>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a property; None if it is not there or has none.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Encoded, as it stands in a topic. A property with an empty name cannot be written and is left out.
impl fmt::Display for PropertyBag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (name, value) in self.iter().filter(|(name, _)| !name.is_empty()) {
            if !text.is_empty() {
                text.push('&');
            }
            percent::encode(name, &mut text);
            if let Some(value) = value {
                text.push('=');
                percent::encode(value, &mut text);
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        PropertyBag::decode(text).unwrap().0
    }

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn bags_are_read_as_the_sdks_write_them() {
        for (text, expected) in [
            ("", vec![]),
            ("a=1&b=2", vec![pair("a", Some("1")), pair("b", Some("2"))]),
            ("a", vec![pair("a", None)]),
            ("a=", vec![pair("a", Some(""))]),
            ("a&b=", vec![pair("a", None), pair("b", Some(""))]),
            ("%24.mid=7&$.cid=8", vec![pair("$.mid", Some("7")), pair("$.cid", Some("8"))]),
            ("a=1+1&b=%2B%20", vec![pair("a", Some("1+1")), pair("b", Some("+ "))]),
            ("p=%2Fa%2fb", vec![pair("p", Some("/a/b"))]),
            ("a=b=c", vec![pair("a", Some("b=c"))]),
            ("&a=1&&b&", vec![pair("a", Some("1")), pair("b", None)]),
            ("a=1&b=2&a=3", vec![pair("a", Some("3")), pair("b", Some("2"))]),
            ("%61=1&a=2", vec![pair("a", Some("2"))]),
            (
                "%24.ct=application%2Fjson%3Bcharset%3Dutf-8",
                vec![pair("$.ct", Some("application/json;charset=utf-8"))],
            ),
        ] {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bag_that_is_none_is_refused_with_the_reason() {
        assert_eq!(PropertyBag::decode("a=1&=2"), Err(MalformedBag::NoName("a=1&=2".into())));
        assert_eq!(PropertyBag::decode("a/b"), Err(MalformedBag::Slash("a/b".into())));
        let many: Vec<String> = (0..=PROPERTIES_MAX).map(|n| n.to_string()).collect();
        assert_eq!(PropertyBag::decode(&many.join("&")), Err(MalformedBag::TooMany));
        assert!(PropertyBag::decode(&many[1..].join("&")).is_ok());
    }

    #[test]
    fn a_bag_is_written_with_every_special_character_encoded() {
        let mut bag = PropertyBag::new();
        bag.set("$.cdid", "press/7");
        bag.set_null("none");
        bag.set("empty", "");
        bag.set("", "lost");
        assert_eq!(bag.to_string(), "%24.cdid=press%2F7&none&empty=");
        assert_eq!((bag.value("empty"), bag.value("none"), bag.value("x")), (Some(""), None, None));
    }
}
