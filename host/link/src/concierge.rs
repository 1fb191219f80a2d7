//! What a concierge says: which hub is the active one, and a signature that shows who says it.

use crate::Document;
use serde::{Deserialize, Serialize};

/// What a concierge answers: a statement, and the signature of Ed25519 over its very bytes. So whoever keeps or hands on an
/// answer can change nothing in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConciergeAnswer {
    /// An [`ActiveHub`], as JSON.
    pub statement: String,
    /// In base64.
    pub signature: String,
}

impl Document for ConciergeAnswer {
    const NAME: &'static str = "answer of the concierge";
}

/// Which hub is the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveHub {
    /// Its name, as the edges know it.
    pub active: String,
    /// When this was said, in milliseconds since 1970. Of two statements the later one holds.
    pub issued_ms: u64,
    /// Until when it may be followed, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Document for ActiveHub {
    const NAME: &'static str = "statement of the concierge";
}
