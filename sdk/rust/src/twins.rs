//! The module's twin: what is desired of it, and what it reports of itself. Both are JSON objects that the host keeps on
//! disk, each with a version; they are there with the link down.
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, testing::Harness, twins};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Wanted {
//!     #[serde(default)]
//!     limit: f64,
//! }
//!
//! #[derive(Serialize)]
//! struct Is {
//!     limit: f64,
//! }
//!
//! struct Guard(f64);
//! impl Guard {
//!     fn follow(&mut self) -> Result<(), Failure> {
//!         self.0 = twins::desired::<Wanted>()?.value.limit;
//!         Ok(twins::report(&Is { limit: self.0 })?)
//!     }
//! }
//! impl Module for Guard {
//!     fn start() -> Result<Self, Error> {
//!         let mut guard = Self(0.0);
//!         guard.follow()?;
//!         Ok(guard)
//!     }
//!     fn handle(&mut self, _: &str, _: Message) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!     fn desired(&mut self, _: twins::Change) -> Result<(), Failure> {
//!         self.follow()
//!     }
//! }
//!
//! let mut guard = Harness::new().desired(serde_json::json!({ "limit": 30 })).start::<Guard>().unwrap();
//! guard.desire(serde_json::json!({ "limit": 25 })).unwrap();
//! assert_eq!(guard.reported()["limit"], 25.0);
//! ```

use crate::{Failure, imports};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Why a twin was not read, or a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwinError {
    /// The patch breaks a rule of twins; says which, where, and the fix.
    Invalid(String),
    /// This call has reported as often as one call may, which is given.
    TooMany(u32),
    /// The host cannot read the twin now.
    Unavailable(String),
    /// The properties are not of the type that the module wants them in.
    Unexpected(String),
}

/// Desired properties at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired<T> {
    /// Counts the changes.
    pub version: u64,
    /// The properties.
    pub value: T,
}

/// A change of the desired properties, as [`crate::Module::desired`] hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version that it leads to.
    pub version: u64,
    /// A JSON object to merge into the version before; null deletes.
    pub patch: String,
}

impl Change {
    /// The patch, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, TwinError> {
        read("the desired patch", &self.patch)
    }
}

/// What is desired of this module: all of it. Read it in [`crate::Module::start`]; changes since then come to
/// [`crate::Module::desired`].
pub fn desired<T: DeserializeOwned>() -> Result<Desired<T>, TwinError> {
    let (version, json) = imports::twin_desired()?;
    Ok(Desired { version, value: read("the desired properties", &json)? })
}

/// What this module has reported, the running call included.
pub fn reported<T: DeserializeOwned>() -> Result<T, TwinError> {
    read("the reported properties", &imports::twin_reported()?)
}

/// Merges `patch` into the reported properties; null deletes a key. It takes effect when the running call has succeeded.
pub fn report<T: Serialize + ?Sized>(patch: &T) -> Result<(), TwinError> {
    let json = serde_json::to_string(patch).map_err(|error| TwinError::Invalid(error.to_string()))?;
    imports::twin_report(&json)
}

fn read<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, TwinError> {
    serde_json::from_str(json).map_err(|error| TwinError::Unexpected(format!("{what}: {error}")))
}

impl fmt::Display for TwinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "the report was not taken: {why}"),
            Self::TooMany(max) => write!(f, "more than {max} reports in one call; put them into one"),
            Self::Unavailable(why) => write!(f, "the twin cannot be read: {why}"),
            Self::Unexpected(why) => write!(f, "{why}; the module wants them otherwise"),
        }
    }
}

impl std::error::Error for TwinError {}

/// Only a twin that cannot be read now may be read later.
impl From<TwinError> for Failure {
    fn from(error: TwinError) -> Self {
        match error {
            TwinError::Unavailable(_) => Self::retry(error),
            TwinError::Invalid(_) | TwinError::TooMany(_) | TwinError::Unexpected(_) => Self::reject(error),
        }
    }
}
