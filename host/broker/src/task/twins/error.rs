//! Why a twin was not read or changed.

use crate::{core::twin::TwinFault, task::admission::Refused};
use holdfast_store::StoreError;

/// Why a twin was not read or changed. After one, nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// The patch or the document breaks a rule. Trying again does not help.
    #[error("the twin was not changed: {0}")]
    Invalid(#[from] TwinFault),
    /// The twin has another version than the caller expected.
    #[error("the twin was not changed: it has version {version}, not {expected}; read it again")]
    OtherVersion {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        version: u64,
    },
    /// The store holds something else than a twin in its place.
    #[error("the twin of {who} cannot be read ({why}); remove it and let it be written anew")]
    Unreadable {
        /// Whose.
        who: String,
        /// Why.
        why: String,
    },
    /// The store could not be read.
    #[error("the twin of {who} cannot be read: {why}")]
    Store {
        /// Whose.
        who: String,
        /// Why.
        why: String,
    },
    /// The store could not record it; trying again may help.
    #[error("the twin was not changed: {0}")]
    NotRecorded(String),
    /// The host is stopping.
    #[error("the host is stopping; try again when it is back")]
    Stopping,
}

impl TwinError {
    /// The status as IoT Hub gives it: 400 malformed, 412 another version, 413 too large, 500 not read or recorded,
    /// 503 stopping.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Invalid(TwinFault::DocumentTooLarge { .. } | TwinFault::PatchTooLarge { .. }) => 413,
            Self::Invalid(_) => 400,
            Self::OtherVersion { .. } => 412,
            Self::Unreadable { .. } | Self::Store { .. } | Self::NotRecorded(_) => 500,
            Self::Stopping => 503,
        }
    }

    pub(super) fn store(who: &impl ToString, error: &StoreError) -> Self {
        Self::Store { who: who.to_string(), why: error.to_string() }
    }
}

impl From<Refused> for TwinError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stopping => Self::Stopping,
            refused => Self::NotRecorded(refused.to_string()),
        }
    }
}
