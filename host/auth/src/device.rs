//! What is known of a device or of one of its modules.

use base64::{Engine, engine::general_purpose::STANDARD};
use holdfast_types::{Identity, Name, Text, UnixMillis};
use ring::{digest, hmac};
use std::{fmt, sync::Arc};

/// Fewest and most bytes of a shared key: those that IoT Hub takes.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// A device, or a module of one, that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who it is.
    pub identity: Identity,
    /// What it proves itself with.
    pub credential: Credential,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// The edge that it reaches the hub through; none for the edge that keeps this registry.
    pub parent: Option<Name>,
    /// Tells two devices apart of which one was removed before the other was added under the same name.
    pub generation: Text,
    /// Whether it is an edge itself, so that others may be behind it.
    pub edge: bool,
    /// When it was added.
    pub added: UnixMillis,
}

/// Whether a device may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceStatus {
    /// It may.
    #[default]
    Enabled,
    /// It may not, nor may its modules.
    Disabled,
}

impl DeviceStatus {
    /// The word that IoT Hub has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// What a device proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Tokens signed with one of two keys.
    SharedKey {
        /// Tried first.
        primary: SharedKey,
        /// Tried next, so that the primary can be changed without a gap.
        secondary: Option<SharedKey>,
    },
    /// One of two certificates, whoever issued them.
    Thumbprints {
        /// The one.
        primary: Thumbprint,
        /// The other, so that the first can be changed without a gap.
        secondary: Option<Thumbprint>,
    },
    /// Any certificate of its name from an authority of the trust bundle.
    CertificateAuthority,
    /// Nothing: it is known, and cannot connect by itself.
    None,
}

impl Credential {
    /// The word that IoT Hub has for it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::SharedKey { .. } => "sas",
            Self::Thumbprints { .. } => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
            Self::None => "none",
        }
    }
}

/// A key that a device and this registry share. `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Arc<[u8]>);

/// Why a text is no shared key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is not base64.
    #[error("the key is not base64 ({0}); `head -c 32 /dev/urandom | base64` makes one")]
    NotBase64(String),
    /// It has too few bytes to be safe, or more than IoT Hub takes.
    #[error(
        "the key has {0} bytes; it must have {least} to {most}: `head -c 32 /dev/urandom | base64` makes a good one",
        least = KEY_BYTES.start(), most = KEY_BYTES.end()
    )]
    Length(usize),
}

impl SharedKey {
    /// Takes the bytes of a key.
    pub fn new(bytes: &[u8]) -> Result<Self, BadKey> {
        match KEY_BYTES.contains(&bytes.len()) {
            true => Ok(Self(bytes.into())),
            false => Err(BadKey::Length(bytes.len())),
        }
    }

    /// Takes a key as connection strings have it: base64 with padding (RFC 4648, section 4).
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|why| BadKey::NotBase64(why.to_string()))?;
        Self::new(&bytes)
    }

    /// The key as connection strings have it, for the one who may see it.
    pub fn expose(&self) -> String {
        STANDARD.encode(&self.0)
    }

    pub(crate) fn signing(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

/// The digest of a certificate by which it is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1, 40 hexadecimal digits: what most tools show.
    Sha1([u8; 20]),
    /// SHA-256, 64 hexadecimal digits.
    Sha256([u8; 32]),
}

/// A text that is no thumbprint; holds how many hexadecimal digits there were, or the character that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadThumbprint {
    /// Neither 40 nor 64 digits.
    #[error(
        "the thumbprint has {0} hexadecimal digits; it must have 40 (SHA-1) or 64 (SHA-256): \
         `openssl x509 -in cert.pem -noout -fingerprint -sha256` shows one"
    )]
    Length(usize),
    /// A character that is no hexadecimal digit.
    #[error(
        "the thumbprint holds {0:?}, which is no hexadecimal digit: \
         `openssl x509 -in cert.pem -noout -fingerprint -sha256` shows one"
    )]
    Character(char),
}

impl Thumbprint {
    /// Takes hexadecimal digits, in any case, with or without colons and spaces between them.
    pub fn parse(text: &str) -> Result<Self, BadThumbprint> {
        let mut digits = Vec::with_capacity(64);
        for one in text.chars().filter(|c| !matches!(c, ':' | ' ')) {
            let digit = one.to_digit(16).ok_or(BadThumbprint::Character(one))?;
            digits.push(u8::try_from(digit).unwrap_or_default());
        }
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
        let length = BadThumbprint::Length(digits.len());
        match digits.len() {
            40 => bytes.try_into().map(Self::Sha1).map_err(|_| length),
            64 => bytes.try_into().map(Self::Sha256).map_err(|_| length),
            _ => Err(length),
        }
    }

    /// Whether it is that of a certificate.
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        let is = |algorithm, bytes: &[u8]| digest::digest(algorithm, certificate).as_ref() == bytes;
        match self {
            Self::Sha1(bytes) => is(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes),
            Self::Sha256(bytes) => is(&digest::SHA256, bytes),
        }
    }

    /// The SHA-256 thumbprint of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, certificate).as_ref())
            .for_each(|(to, from)| *to = *from);
        Self::Sha256(bytes)
    }
}

/// Upper-case hexadecimal digits, as IoT Hub shows them.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_as_connection_strings_have_it_and_faults_say_what_a_key_is() {
        let text = STANDARD.encode([7; 32]);
        assert_eq!(SharedKey::parse(&text).unwrap().expose(), text);
        assert_eq!(SharedKey::parse(&STANDARD.encode([7; 15])), Err(BadKey::Length(15)));
        assert_eq!(SharedKey::parse(&STANDARD.encode([7; 65])), Err(BadKey::Length(65)));
        assert!(matches!(SharedKey::parse("not base64!"), Err(BadKey::NotBase64(_))));
        assert!(matches!(SharedKey::parse(""), Err(BadKey::Length(0))));
    }

    #[test]
    fn no_key_shows_in_debug_output() {
        let key = SharedKey::new(b"secretsecretsecret").unwrap();
        let credential = Credential::SharedKey { primary: key.clone(), secondary: Some(key.clone()) };
        let shown = format!("{credential:?} {key:?}");
        assert!(!shown.contains("secret") && !shown.contains(&key.expose()), "{shown}");
    }

    #[test]
    fn thumbprints_are_taken_as_tools_show_them() {
        let sha1 = "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";
        let sha256 = "ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 96177a9c b410ff61 f20015ad";
        for text in [sha1, sha256] {
            let thumbprint = Thumbprint::parse(text).unwrap();
            assert!(thumbprint.is_of(b"abc") && !thumbprint.is_of(b"abd"));
            assert_eq!(thumbprint.to_string(), text.replace([':', ' '], "").to_uppercase());
        }
        assert_eq!(Thumbprint::of(b"abc"), Thumbprint::parse(sha256).unwrap());
        assert_eq!(Thumbprint::parse(""), Err(BadThumbprint::Length(0)));
        assert_eq!(Thumbprint::parse("abc"), Err(BadThumbprint::Length(3)));
        assert_eq!(Thumbprint::parse("xy"), Err(BadThumbprint::Character('x')));
    }
}
