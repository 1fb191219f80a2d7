//! Sending.

use crate::{Failure, Outgoing, imports};
use std::fmt;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The output's name is not a name, or not one that the module declares (see [`ports`](crate::ports)); says which.
    InvalidOutput(String),
    /// The body has more bytes than the limit, which is given.
    BodyTooLarge(u64),
    /// More properties than the limit, which is given.
    TooManyProperties(u32),
    /// This call has sent as many bytes or messages as one call may; what to raise is named.
    QuotaExceeded(String),
}

/// Sends a message to an output of this module; routes decide where it goes. It leaves when the running call has
/// succeeded.
pub fn send(output: &str, message: Outgoing) -> Result<(), SendError> {
    imports::send(output, message)
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidOutput(why) => write!(f, "the output will not do: {why}"),
            Self::BodyTooLarge(max) => write!(f, "the body of the message has more than {max} bytes"),
            Self::TooManyProperties(max) => write!(f, "the message has more than {max} properties"),
            Self::QuotaExceeded(what) => write!(f, "this call has sent as much as one call may: {what}"),
        }
    }
}

impl std::error::Error for SendError {}

/// The same message would be refused again, so the message in hand is given up.
impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::reject(error)
    }
}
