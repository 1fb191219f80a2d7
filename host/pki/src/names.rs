//! The names that stand in a certificate.

use std::{collections::BTreeSet, net::IpAddr};

/// Most characters in a name: 64, the limit of the common name in a certificate, which IoT Edge keeps too.
pub const NAME_CHARACTERS_MAX: usize = 64;

/// Most characters of one part between dots (RFC 1035, section 2.3.4).
const LABEL_CHARACTERS_MAX: usize = 63;

/// The names and addresses of a server, each checked; the first is its common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    first: String,
    all: BTreeSet<String>,
}

/// Why a text is not a name for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters at all.
    #[error("the host name is empty; give a DNS name or an IP address, such as edge.example.com")]
    Empty,
    /// More than [`NAME_CHARACTERS_MAX`] characters.
    #[error(
        "the host name {0:?} has more than {NAME_CHARACTERS_MAX} characters, which no certificate takes as a common name"
    )]
    TooLong(String),
    /// Something that no DNS name holds.
    #[error(
        "{0:?} is neither a DNS name (letters, digits, hyphens, dots) nor an IP address; give one without scheme, path or port"
    )]
    NoName(String),
}

impl Names {
    /// `first` and whatever else there is.
    ///
    /// # Errors
    /// `first` is no name.
    pub fn new(first: &str) -> Result<Self, InvalidName> {
        let first = checked(first)?;
        Ok(Self { all: BTreeSet::from([first.clone()]), first })
    }

    /// Adds a name; one that is there already changes nothing.
    ///
    /// # Errors
    /// It is no name.
    pub fn add(&mut self, name: &str) -> Result<(), InvalidName> {
        self.all.insert(checked(name)?);
        Ok(())
    }

    /// The common name.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// All of them, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }
}

/// As it stands in a certificate: letters small, no dot at the end (RFC 6066, section 3), an address in its short form.
fn checked(text: &str) -> Result<String, InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.chars().count() > NAME_CHARACTERS_MAX {
        return Err(InvalidName::TooLong(text.to_owned()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_CHARACTERS_MAX
            && label.chars().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    if number || !name.split('.').all(label) { Err(InvalidName::NoName(text.to_owned())) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_brought_to_one_form_and_kept_once() {
        let mut names = Names::new("Press-4.Plant.").unwrap();
        for name in ["press-4.plant", "[::1]", "0:0::1", "127.0.0.1"] {
            names.add(name).unwrap();
        }
        assert_eq!(names.first(), "press-4.plant");
        assert_eq!(names.iter().collect::<Vec<_>>(), ["127.0.0.1", "::1", "press-4.plant"]);
    }

    #[test]
    fn what_no_certificate_can_hold_is_refused_with_its_reason() {
        assert_eq!(Names::new(""), Err(InvalidName::Empty));
        assert!(matches!(Names::new(&"n".repeat(65)), Err(InvalidName::TooLong(_))));
        let sixty_four = format!("{}.{}", "n".repeat(31), "n".repeat(32));
        assert!(Names::new(&sixty_four).is_ok());
        for bad in
            ["https://edge", "edge:8883", "a..b", "-a", "a-", "käse", "300.1.2.3", "*.plant", "a b", "."]
        {
            assert_eq!(Names::new(bad), Err(InvalidName::NoName(bad.to_owned())), "{bad}");
        }
    }
}
