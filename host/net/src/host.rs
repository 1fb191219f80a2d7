//! Host names, checked once.

use holdfast_types::Text;
use std::{fmt, net::IpAddr};

/// Most characters in a host name: 64, the limit of the common name in a certificate, which IoT Edge keeps too.
pub const HOST_CHARACTERS_MAX: usize = 64;

/// Most characters in one label of a DNS name (RFC 1035, section 2.3.4).
const LABEL_CHARACTERS_MAX: usize = 63;

/// A DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostName {
    /// A DNS name; may end in a dot.
    Dns(Text),
    /// An address. IPv6 is written with or without brackets.
    Ip(IpAddr),
}

/// Why a text is not a [`HostName`]. The message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// No characters at all.
    #[error("the host name is empty; give a DNS name or an IP address, such as broker.example.com")]
    Empty,
    /// More than [`HOST_CHARACTERS_MAX`] characters; holds how many there were.
    #[error("the host name has {0} characters; at most {HOST_CHARACTERS_MAX} are allowed")]
    TooLong(usize),
    /// A character that no DNS name holds.
    #[error(
        "character {1:?} is not allowed in the host name {0:?}; give a DNS name (letters, digits, hyphens, dots) or an \
         IP address, without a scheme, path or port"
    )]
    Character(String, char),
    /// An empty label, one that is too long, or one that begins or ends with a hyphen.
    #[error(
        "{1:?} is not a valid part of the host name {0:?}; between dots stand 1 to 63 letters, digits and hyphens, with \
         no hyphen at either end"
    )]
    Label(String, String),
    /// Digits and dots only, but not an IPv4 address.
    #[error(
        "{0:?} looks like an IPv4 address but is none; write four numbers from 0 to 255, such as 192.0.2.7"
    )]
    BadAddress(String),
}

impl HostName {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// Says which character or label is wrong, or that the name is empty or too long.
    pub fn new(text: &str) -> Result<Self, InvalidHost> {
        if text.is_empty() {
            return Err(InvalidHost::Empty);
        }
        let characters = text.chars().count();
        if characters > HOST_CHARACTERS_MAX {
            return Err(InvalidHost::TooLong(characters));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Ip(address));
        }
        // Underscores are not for host names (RFC 952), but container networks and Windows use them in practice.
        let odd = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.' | '_'));
        if let Some(odd) = odd {
            return Err(InvalidHost::Character(text.to_owned(), odd));
        }
        if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(InvalidHost::BadAddress(text.to_owned()));
        }
        let labels = text.strip_suffix('.').unwrap_or(text);
        let wrong = |label: &&str| {
            label.is_empty()
                || label.len() > LABEL_CHARACTERS_MAX
                || label.starts_with('-')
                || label.ends_with('-')
        };
        match labels.split('.').find(wrong) {
            Some(label) => Err(InvalidHost::Label(text.to_owned(), label.to_owned())),
            None => Ok(Self::Dns(text.into())),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_that_can_be_dialled_are_taken() {
        for good in ["localhost", "broker.example.com", "broker.example.com.", "edge_1", "7seas.net", "a-b.c"]
        {
            assert!(matches!(HostName::new(good), Ok(HostName::Dns(_))), "{good}");
        }
        for good in ["127.0.0.1", "::1", "[fe80::1]"] {
            assert!(matches!(HostName::new(good), Ok(HostName::Ip(_))), "{good}");
        }
    }

    #[test]
    fn what_cannot_be_a_host_is_refused_with_its_reason() {
        let reason = |text: &str| HostName::new(text).unwrap_err().to_string();
        assert!(reason("").contains("empty"));
        assert!(reason(&"h".repeat(65)).contains("65 characters"));
        assert!(reason("mqtt://broker").contains("without a scheme"));
        assert!(reason("bröker").contains("'ö'"));
        assert!(reason("a..b").contains("\"\" is not a valid part"));
        assert!(reason("-a.b").contains("hyphen"));
        assert!(reason("300.1.2.3").contains("IPv4"));
        assert!(reason("host:1883").contains("port"));
        assert!(HostName::new(&"h".repeat(64)).is_err(), "a single label has at most 63 characters");
    }
}
