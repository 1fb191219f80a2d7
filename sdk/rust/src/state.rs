//! The module's own durable state: small values by key (`wasi:keyvalue/store`).
//!
//! A write takes effect when the running call succeeds, together with what the call sent; a read in the same call sees
//! it at once.

use crate::{Failure, imports};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Why the state was not read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The host has no state for this module.
    NoStore,
    /// The host does not let this module have state.
    AccessDenied,
    /// Anything else; the text is the host's.
    Other(String),
    /// The value of this key is not the JSON that was expected, or a value has no JSON form. The second text says why.
    Json(String, String),
}

/// The value of `key`, if there is one.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    imports::state_get(key)
}

/// Sets `key` to `value`.
pub fn set(key: &str, value: &[u8]) -> Result<(), StateError> {
    imports::state_set(key, value)
}

/// Removes `key`; a key that is not there is no error.
pub fn delete(key: &str) -> Result<(), StateError> {
    imports::state_delete(key)
}

/// Whether `key` has a value.
pub fn exists(key: &str) -> Result<bool, StateError> {
    imports::state_exists(key)
}

/// Every key. The order is the host's.
pub fn keys() -> Result<Vec<String>, StateError> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let (page, next) = imports::state_keys(cursor)?;
        all.extend(page);
        // A cursor that stands still would never end.
        if next.is_none() || next == cursor {
            return Ok(all);
        }
        cursor = next;
    }
}

/// The value of `key` read as JSON, if there is one.
pub fn json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, StateError> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| StateError::Json(key.to_owned(), error.to_string()))
    };
    get(key)?.map(parse).transpose()
}

/// Sets `key` to `value`, written as JSON.
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), StateError> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| StateError::Json(key.to_owned(), error.to_string()))?;
    set(key, &bytes)
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore => write!(f, "the host has no state for this module"),
            Self::AccessDenied => write!(f, "the host does not let this module have state"),
            Self::Other(why) => write!(f, "the state was not read or written: {why}"),
            Self::Json(key, why) => {
                write!(f, "the value of {key:?} in the state is not the expected JSON: {why}")
            }
        }
    }
}

impl std::error::Error for StateError {}

/// A disk that is full or slow may recover: try again. A value that does not fit stays so.
impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Json(..) => Self::reject(error),
            _ => Self::retry(error),
        }
    }
}
