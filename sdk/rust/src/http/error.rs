//! Why there is no answer.

use crate::Failure;
use std::fmt;

/// Why a request has no answer, or not the one that was wanted. Texts name the request, without what stands behind `?` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The URL, the method or a header breaks a rule; says which, and the fix.
    Invalid(String),
    /// The operator has not granted this host; says the line to add.
    NotGranted(String),
    /// The host is not known, nobody listens there, or it could not prove who it is.
    NotConnected(String),
    /// The module has as many connections as it may (`limits.connections`).
    Busy(String),
    /// There was no whole answer in time. The request may have been carried out.
    TooSlow(String),
    /// The connection ended in the middle, or what came is no HTTP. The request may have been carried out.
    Broken(String),
    /// The answer's body has more bytes than the request allows.
    TooLarge(String),
    /// The answer has another status than one of success: the status, and how its body begins.
    Status(u16, String),
}

impl HttpError {
    /// Whether the same request can succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Busy(_) | Self::TooSlow(_) | Self::Broken(_) => true,
            Self::Invalid(_) | Self::NotGranted(_) | Self::TooLarge(_) => false,
            // Request timeout, too early, too many requests: RFC 9110, RFC 8470, RFC 6585.
            Self::Status(status, _) => matches!(status, 408 | 425 | 429 | 500..),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why)
            | Self::NotGranted(why)
            | Self::NotConnected(why)
            | Self::Busy(why)
            | Self::TooSlow(why)
            | Self::Broken(why)
            | Self::TooLarge(why) => f.write_str(why),
            Self::Status(status, body) if body.is_empty() => write!(f, "the answer has status {status}"),
            Self::Status(status, body) => write!(f, "the answer has status {status}: {body}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// The message in hand is tried again where the same request can succeed later, and given up otherwise.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        if error.may_pass() { Self::retry(error) } else { Self::reject(error) }
    }
}
