//! Sealing what is kept on disk: nobody reads or changes it who has not the key.
//!
//! A sealed text is one byte of version (1), 16 bytes of salt, 12 bytes of nonce, and ChaCha20-Poly1305 of the text with
//! its tag. Salt and nonce are random for each text. The key of the cipher is HMAC-SHA256 of the salt under the key of the
//! sealer, so that the number of texts that one key may seal has no bound that matters: twins are written for years. The
//! name of the text is authenticated with it, so that no sealed text can stand in for another.

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hmac,
};
use std::fmt;

/// Bytes of a sealer's key.
pub const SEAL_KEY_BYTES: usize = 32;
/// Random bytes that one sealed text takes.
pub const SEAL_RANDOM_BYTES: usize = SALT_BYTES + NONCE_BYTES;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 1 + SEAL_RANDOM_BYTES;

/// Seals and opens. `Debug` hides its key.
#[derive(Clone)]
pub struct Sealer(hmac::Key);

/// A text that is too long to be sealed, some gigabytes; holds how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text of {0} bytes is too long to be sealed")]
pub struct TooLong(pub usize);

/// Why a sealed text cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Another version has written it.
    #[error(
        "it was sealed by another version ({0}) than this one knows ({VERSION}); use the host that wrote it, or a newer one"
    )]
    Version(u8),
    /// It is too short to be one.
    #[error("it is cut off")]
    Short,
    /// The key is another one, the text was changed, or it stands under another name.
    #[error("it was sealed with another key, or has been changed")]
    Wrong,
}

impl Sealer {
    /// A sealer with a key.
    pub fn new(key: &[u8; SEAL_KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Seals a text under a name. `random` is drawn anew for each text.
    pub fn seal(
        &self,
        name: &str,
        text: &[u8],
        random: &[u8; SEAL_RANDOM_BYTES],
    ) -> Result<Vec<u8>, TooLong> {
        let (salt, nonce) = random.split_at(SALT_BYTES);
        let mut sealed = Vec::with_capacity(HEADER_BYTES + text.len() + CHACHA20_POLY1305.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(random);
        let mut body = text.to_vec();
        let mut seal = || -> Result<(), Unspecified> {
            let nonce = Nonce::try_assume_unique_for_key(nonce)?;
            self.cipher(salt)?.seal_in_place_append_tag(nonce, Aad::from(name.as_bytes()), &mut body)
        };
        seal().map_err(|_| TooLong(text.len()))?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what was sealed under this name.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        match sealed.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(NotOpened::Version(version)),
            None => return Err(NotOpened::Short),
        }
        let (header, body) = sealed.split_at_checked(HEADER_BYTES).ok_or(NotOpened::Short)?;
        let (salt, nonce) =
            header.get(1..).unwrap_or_default().split_at_checked(SALT_BYTES).ok_or(NotOpened::Short)?;
        let mut body = body.to_vec();
        let mut open = || -> Result<usize, Unspecified> {
            let nonce = Nonce::try_assume_unique_for_key(nonce)?;
            let text = self.cipher(salt)?.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body)?;
            Ok(text.len())
        };
        let length = open().map_err(|_| NotOpened::Wrong)?;
        body.truncate(length);
        Ok(body)
    }

    fn cipher(&self, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        let derived = hmac::sign(&self.0, salt);
        Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref())?))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_under_the_same_name_opens_and_any_change_is_found() {
        let sealer = Sealer::new(&[1; 32]);
        for text in [b"".as_slice(), b"x", &[7; 5000]] {
            let sealed = sealer.seal("identities/press", text, &[9; SEAL_RANDOM_BYTES]).unwrap();
            assert_eq!(sealer.open("identities/press", &sealed).unwrap(), text);
            assert_eq!(sealer.open("identities/oven", &sealed), Err(NotOpened::Wrong));
            assert_eq!(Sealer::new(&[2; 32]).open("identities/press", &sealed), Err(NotOpened::Wrong));
            assert!(text.len() < 100 || !sealed.windows(8).any(|part| part == [7; 8]));
            for at in 0..sealed.len().min(200) {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(sealer.open("identities/press", &changed).is_err(), "byte {at}");
                assert!(sealer.open("identities/press", &sealed[..at]).is_err(), "cut at {at}");
            }
        }
        assert_eq!(sealer.open("x", b"\x02rest"), Err(NotOpened::Version(2)));
        assert_eq!(sealer.open("x", b""), Err(NotOpened::Short));
    }

    #[test]
    fn two_seals_of_one_text_have_nothing_in_common() {
        let sealer = Sealer::new(&[1; 32]);
        let one = sealer.seal("n", &[0; 64], &[1; SEAL_RANDOM_BYTES]).unwrap();
        let two = sealer.seal("n", &[0; 64], &[2; SEAL_RANDOM_BYTES]).unwrap();
        let same = one[HEADER_BYTES..].iter().zip(&two[HEADER_BYTES..]).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same}");
    }
}
