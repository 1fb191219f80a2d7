//! Who is it?
//!
//! A password is kept as an Argon2 hash. Checking one takes some tens of milliseconds and some megabytes on purpose, so
//! that a stolen file of hashes is of little use; that also means that a storm of reconnects would cost seconds. The
//! registry therefore remembers, in memory only, a keyed digest of the last password that each user proved: the same
//! password again is recognised within a microsecond.

use crate::registry::UserRecord;
use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash};
use holdfast_types::Name;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// What a client shows to prove who it is.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The user name.
    pub user: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// Why a client is not who it says it is. The client is told the same in every case; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// No user name or no password.
    #[error("the client gave no {0}; every client of the gateway needs a user and a password")]
    Missing(&'static str),
    /// There is no such user.
    #[error("there is no user {0:?}; add it under [[users]]")]
    NoSuchUser(String),
    /// The password is not that of the user.
    #[error("the password of user {0} is wrong")]
    WrongPassword(Name),
}

/// Hashes a password for the configuration. `salt` is 16 random bytes.
pub fn hash_password(password: &[u8], salt: [u8; 16]) -> Result<String, password_hash::Error> {
    let salt = password_hash::SaltString::encode_b64(&salt)?;
    Ok(Argon2::default().hash_password(password, &salt)?.to_string())
}

/// Whether `password` is the one that `hash` was made from. Slow.
pub(crate) fn verify(hash: &password_hash::PasswordHashString, password: &[u8]) -> bool {
    Argon2::default().verify_password(password, &hash.password_hash()).is_ok()
}

/// The last password that a user proved, as a digest that only this process can make.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<Option<[u8; 32]>>);

impl Remembered {
    pub(crate) fn is(&self, digest: &[u8; 32]) -> bool {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The comparison takes the same time wherever the first difference is.
        guard.as_ref().is_some_and(|kept| kept.iter().zip(digest).fold(0, |all, (a, b)| all | (a ^ b)) == 0)
    }

    pub(crate) fn set(&self, digest: [u8; 32]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
    }
}

/// A digest of a user's password that is worthless without `key`: the key stands before and after.
pub(crate) fn keyed_digest(key: &[u8; 32], user: &UserRecord, password: &[u8]) -> [u8; 32] {
    let inner = Sha256::new()
        .chain_update(key)
        .chain_update(user.hash().as_bytes())
        .chain_update(password)
        .finalize();
    Sha256::new().chain_update(key).chain_update(inner).finalize().into()
}
