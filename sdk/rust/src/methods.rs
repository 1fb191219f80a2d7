//! Methods: requests with a deadline and one reply, never stored. A module serves them with [`crate::Module::invoke`].
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, methods, testing::Harness};
//!
//! struct Bell;
//! impl Module for Bell {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, _: Message) -> Result<(), Failure> {
//!         let reply = methods::call("press-7", "horn", &serde_json::json!({ "times": 2 }), methods::TIME)?;
//!         if reply.is_success() { Ok(()) } else { Err(Failure::retry(reply.payload)) }
//!     }
//!     fn invoke(&mut self, method: &str, payload: methods::Payload) -> Result<methods::Reply, Failure> {
//!         match method {
//!             "ring" => Ok(methods::Reply::json(200, &payload.json::<u32>()?)?),
//!             _ => Ok(methods::Reply::unknown(method)),
//!         }
//!     }
//! }
//!
//! let mut bell = Harness::new().answer("press-7", "horn", methods::Reply::empty(200)).start::<Bell>().unwrap();
//! bell.handle("in", holdfast_sdk::Outgoing::text("now")).unwrap();
//! assert_eq!(bell.take_calls()[0].name, "horn");
//! assert_eq!(bell.invoke("ring", "3").unwrap().payload, "3");
//! assert_eq!(bell.invoke("dance", "").unwrap().status, 404);
//! ```

use crate::{Failure, imports};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// How long a caller waits by custom.
pub const TIME: Duration = Duration::from_secs(30);

/// What a method answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// As the target means it; 200 is success by custom.
    pub status: i32,
    /// JSON; may be empty.
    pub payload: String,
}

impl Reply {
    /// A reply with a payload.
    pub fn json<T: Serialize + ?Sized>(status: i32, payload: &T) -> Result<Self, Failure> {
        let payload = serde_json::to_string(payload).map_err(Failure::reject)?;
        Ok(Self { status, payload })
    }

    /// A reply without one.
    pub const fn empty(status: i32) -> Self {
        Self { status, payload: String::new() }
    }

    /// A reply that says why not: status, and `{"error": why}`.
    pub fn error(status: i32, why: impl fmt::Display) -> Self {
        Self { status, payload: serde_json::json!({ "error": why.to_string() }).to_string() }
    }

    /// The reply to a method that the module does not know: 404.
    pub fn unknown(method: &str) -> Self {
        Self::error(404, format_args!("this module has no method {method:?}"))
    }

    /// Whether the status is one of success, 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The payload, read as JSON.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        read(&self.payload)
    }
}

/// What comes with a call: JSON, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub String);

impl Payload {
    /// The payload, read as JSON; an empty one as null.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        read(&self.0)
    }
}

fn read<T: DeserializeOwned>(payload: &str) -> Result<T, Failure> {
    serde_json::from_str(if payload.is_empty() { "null" } else { payload })
        .map_err(|error| Failure::reject(format_args!("the payload: {error}")))
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodError {
    /// The target, the name, the payload or the time breaks a rule; says which, and the fix.
    Invalid(String),
    /// Nobody serves methods there.
    NotConnected(String),
    /// The target has as many calls in hand as it may: try again.
    Busy(String),
    /// No reply in time, or the target went away. The method may have run.
    NoReply(String),
}

/// Calls a method and waits for the reply, 5 to 300 seconds ([`TIME`] by custom). The target is a module of this edge
/// (`/module`), a child (`child`), or a module of a child (`child/module`). This module handles nothing else meanwhile.
/// A call leaves at once: it is not undone if the running call of this module fails.
pub fn call<T: Serialize + ?Sized>(
    target: &str,
    name: &str,
    payload: &T,
    time: Duration,
) -> Result<Reply, MethodError> {
    let payload = serde_json::to_string(payload).map_err(|error| MethodError::Invalid(error.to_string()))?;
    let ms = u32::try_from(time.as_millis())
        .map_err(|_| MethodError::Invalid("the time is longer than 300 s; give it less".to_owned()))?;
    imports::method_call(target, name, &payload, ms)
}

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::NotConnected(why) | Self::Busy(why) | Self::NoReply(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for MethodError {}

/// Only a call that breaks a rule is not worth another try.
impl From<MethodError> for Failure {
    fn from(error: MethodError) -> Self {
        match error {
            MethodError::Invalid(_) => Self::reject(error),
            MethodError::NotConnected(_) | MethodError::Busy(_) | MethodError::NoReply(_) => {
                Self::retry(error)
            }
        }
    }
}
