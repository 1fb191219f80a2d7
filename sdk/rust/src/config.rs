//! The module's own configuration: text by key (`wasi:config/store`).
//!
//! [`parse`] reads all of it into a type of yours, once, in [`crate::Module::start`]:
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, config, testing::Harness};
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Settings {
//!     limit: f64,
//!     fields: Vec<String>,
//!     #[serde(with = "config::duration")]
//!     period: Duration,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { limit: 10.0, fields: vec![], period: Duration::from_secs(60) }
//!     }
//! }
//!
//! struct M(Settings);
//! impl Module for M {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self(config::parse()?))
//!     }
//!     fn handle(&mut self, _: &str, _: Message) -> Result<(), Failure> {
//!         Ok(())
//!     }
//! }
//!
//! let module = Harness::new().config("period", "5m").config("fields", "a, b").start::<M>().unwrap();
//! let settings = &module.module().0;
//! assert_eq!((settings.limit, settings.period), (10.0, Duration::from_secs(300)));
//! assert_eq!(settings.fields, ["a", "b"]);
//!
//! let error = Harness::new().config("limit", "ten").start::<M>().unwrap_err();
//! assert_eq!(error.as_str(), r#"configuration key "limit": "ten" is not a number"#);
//! ```

mod read;

use crate::{Failure, imports};
use serde::de::DeserializeOwned;
use std::fmt;

/// Why the configuration was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The host did not give it; the text is the host's.
    Host(String),
    /// The value of this key is not what it should be. The second text says why.
    Value(String, String),
    /// A key is missing, unknown or there twice; the text says which.
    Keys(String),
}

/// The value of `key`, if it is set.
pub fn get(key: &str) -> Result<Option<String>, ConfigError> {
    imports::config_get(key).map_err(ConfigError::Host)
}

/// Every key with its value.
pub fn all() -> Result<Vec<(String, String)>, ConfigError> {
    imports::config_all().map_err(ConfigError::Host)
}

/// The whole configuration as a `T`, typically a struct whose fields are its keys. Numbers and booleans are read from
/// their text, lists from text with commas, enums from the name of a variant. Give fields a default with
/// `#[serde(default)]`, and refuse misspelt keys with `#[serde(deny_unknown_fields)]`.
pub fn parse<T: DeserializeOwned>() -> Result<T, ConfigError> {
    read::from_pairs(all()?)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(why) => write!(f, "the configuration was not read: {why}"),
            Self::Value(key, why) => write!(f, "configuration key {key:?}: {why}"),
            Self::Keys(why) => write!(f, "configuration: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The configuration does not change under a running module, but the host may give it the next time.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::retry(error)
    }
}

/// For `#[serde(with = "holdfast_sdk::config::duration")]`: a time as a whole number and a unit, `250ms`, `30s`, `5m`,
/// `2h` or `1d`.
pub mod duration {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    /// Reads such a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!(
                "{text:?} is not a time; write a whole number and ms, s, m, h or d, as in 30s"
            ))
        })
    }

    /// Writes such a time, in milliseconds.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", time.as_millis()))
    }

    fn parse(text: &str) -> Option<Duration> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let unit_ms: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
    }
}
