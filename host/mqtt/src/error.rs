//! What can be wrong with bytes that came in, and with packets that should go out.

use crate::{ReasonCode, Version};
use std::{borrow::Cow, fmt};

/// The peer broke the protocol. The connection ends with [`ProtocolError::reason`] (MQTT 5, section 4.13); a client of
/// MQTT 3.1.1 cannot be told and is only cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// What a peer of MQTT 5 is told.
    pub reason: ReasonCode,
    /// The normative statement that was broken, as `MQTT-3.3.1-2`, in the numbering of the version that was spoken.
    /// Absent where the specification states the rule without a number.
    pub clause: Option<&'static str>,
    /// What was wrong, with the values that were found.
    pub text: Cow<'static, str>,
}

impl ProtocolError {
    /// An error without a numbered clause.
    pub(crate) fn new(reason: ReasonCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, clause: None, text: text.into() }
    }

    /// The same, with the clause that was broken.
    pub(crate) fn clause(mut self, clause: &'static str) -> Self {
        self.clause = Some(clause);
        self
    }

    /// The same, where the two versions number the clause differently.
    pub(crate) fn clauses(self, version: Version, v311: &'static str, v5: &'static str) -> Self {
        match version {
            Version::V311 => self.clause(v311),
            Version::V5 => self.clause(v5),
        }
    }

    /// Bytes that do not make a packet.
    pub(crate) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ReasonCode::MalformedPacket, text)
    }

    /// A well-made packet that is not allowed here.
    pub(crate) fn violation(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ReasonCode::ProtocolError, text)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.clause {
            Some(clause) => write!(f, " [{clause}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A packet cannot be written. Nothing of it is in the buffer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Larger than the peer takes (MQTT-3.1.2-24, MQTT-3.2.2-15) or than MQTT can express.
    #[error("the packet has {bytes} bytes; the peer takes at most {max}")]
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// A text or binary field longer than its two-byte length can say.
    #[error("{field} has {bytes} bytes; MQTT allows at most 65535")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// The fields contradict each other, for instance QoS 1 without a packet identifier.
    #[error("{0}")]
    Contradiction(&'static str),
    /// MQTT 3.1.1 has no such packet.
    #[error("MQTT 3.1.1 has no {0} packet")]
    NotInVersion(&'static str),
}
