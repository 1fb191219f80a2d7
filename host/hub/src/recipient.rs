//! A secret shared with a recipient: whoever knows a hub's public key can seal something that only this hub can open.
//!
//! The keys are of X25519 (RFC 7748). Who seals draws a key pair for this once, agrees on a secret with it and the public key
//! of the recipient, and writes down its own public key; HKDF-SHA256 makes the key of the seal of that secret and both
//! public keys.

use crate::error::HubError;
use base64::{Engine, prelude::BASE64_STANDARD};
use curve25519_dalek::montgomery::MontgomeryPoint;
use holdfast_auth::{SEAL_KEY_BYTES, Sealer};
use ring::hkdf;
use std::fmt;

/// What the key is for: another use would have another text.
const PURPOSE: &[u8] = b"holdfast registry export 1";

/// The public key of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads one in base64.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            HubError::Bad(format!(
                "{text:?} is no key of a hub; write what `holdfast hub recipient` prints at the hub that is to import"
            ))
        })
    }
}

/// In base64.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

/// The private key of a hub.
pub(crate) struct PrivateKey(pub(crate) [u8; 32]);

impl PrivateKey {
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        SEAL_KEY_BYTES
    }
}

/// The seal to a recipient, and the public key that goes with it. `random` is used for nothing else.
pub(crate) fn sealer_to(recipient: &PublicKey, random: [u8; 32]) -> Result<(Sealer, PublicKey), HubError> {
    let own = PrivateKey(random);
    let ephemeral = own.public();
    Ok((agreed(&own, recipient, recipient, &ephemeral)?, ephemeral))
}

/// The same seal, for the recipient.
pub(crate) fn sealer_from(own: &PrivateKey, ephemeral: &PublicKey) -> Result<Sealer, HubError> {
    agreed(own, ephemeral, &own.public(), ephemeral)
}

fn shared(own: &PrivateKey, other: &PublicKey) -> [u8; 32] {
    MontgomeryPoint(other.0).mul_clamped(own.0).to_bytes()
}

fn agreed(
    own: &PrivateKey,
    other: &PublicKey,
    recipient: &PublicKey,
    ephemeral: &PublicKey,
) -> Result<Sealer, HubError> {
    let weak = || HubError::Bad(format!("{other} is a key that keeps nothing secret; nobody has it"));
    let secret = shared(own, other);
    // RFC 7748, 6.1: of such a point everybody knows the secret.
    if secret == [0; 32] {
        return Err(weak());
    }
    let salt = [recipient.0, ephemeral.0].concat();
    let mut key = [0; SEAL_KEY_BYTES];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &salt)
        .extract(&secret)
        .expand(&[PURPOSE], KeyLength)
        .and_then(|made| made.fill(&mut key))
        .map_err(|_| weak())?;
    Ok(Sealer::new(&key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_auth::SEAL_RANDOM_BYTES;
    use ring::{
        agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
        rand::SystemRandom,
    };

    #[test]
    fn what_is_sealed_to_a_recipient_opens_for_it_alone() {
        let (hub, other) = (PrivateKey([7; 32]), PrivateKey([8; 32]));
        let (sealer, ephemeral) = sealer_to(&hub.public(), [9; 32]).unwrap();
        let sealed = sealer.seal("press", b"a key", &[1; SEAL_RANDOM_BYTES]).unwrap();
        assert_eq!(sealer_from(&hub, &ephemeral).unwrap().open("press", &sealed).unwrap(), b"a key");
        assert!(sealer_from(&other, &ephemeral).unwrap().open("press", &sealed).is_err());
        assert!(sealer_from(&hub, &other.public()).unwrap().open("press", &sealed).is_err());
    }

    #[test]
    fn the_secret_is_the_one_that_another_implementation_of_x25519_agrees_on() {
        let hub = PrivateKey([7; 32]);
        let other = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let public = PublicKey(other.compute_public_key().unwrap().as_ref().try_into().unwrap());
        let theirs = UnparsedPublicKey::new(&X25519, hub.public().0);
        let ours = shared(&hub, &public);
        assert!(agree_ephemeral(other, &theirs, |secret| secret == ours).unwrap());
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for text in ["", "AAAA", "hunter2"] {
            assert!(PublicKey::parse(text).unwrap_err().to_string().contains("holdfast hub recipient"));
        }
        let weak = PublicKey([0; 32]);
        assert!(sealer_to(&weak, [9; 32]).is_err());
    }
}
