//! Why a route takes a message or not.

use std::fmt;

/// What every route says about one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The path of the message's source.
    pub source: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}
