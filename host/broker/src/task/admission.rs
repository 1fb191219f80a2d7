//! What is let in, and what the sender is told.

use holdfast_types::{BODY_BYTES_MAX, HOPS_MAX, Message, PROPERTIES_MAX};

/// What became of a message that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Sinks that have it on disk.
    pub durable: u16,
    /// Sinks that have it in memory.
    pub volatile: u16,
    /// Subscribers of local topics that it was handed to.
    pub subscribers: u32,
    /// Sinks whose log was full and whose route says to drop the new message.
    pub dropped: u16,
}

impl Receipt {
    /// What became of the message elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.durable = self.durable.saturating_add(other.durable);
        self.volatile = self.volatile.saturating_add(other.volatile);
        self.subscribers = self.subscribers.saturating_add(other.subscribers);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The body is over the limit. Trying again does not help.
    #[error("the body has {bytes} bytes; at most {max} are taken: split it or send a reference")]
    BodyTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many application properties. Trying again does not help.
    #[error("the message has {count} application properties; at most {max} are taken")]
    TooManyProperties {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The message has passed too many modules: the routes form a loop.
    #[error(
        "the message has passed {max} modules and was given up: the routes form a loop, see `holdfast routes list`"
    )]
    TooManyHops {
        /// The limit.
        max: u8,
    },
    /// As many messages wait for the child as may.
    #[error("{max} messages wait for this child, the most that may; send again when it has taken some")]
    TooManyPending {
        /// The limit.
        max: usize,
    },
    /// The message has expired before it was taken. Trying again does not help.
    #[error("the message has expired already; give it a later expiry, and compare the clocks")]
    Expired,
    /// The store is full.
    #[error("the store is full; free space, or raise store.quota in holdfast.toml")]
    NoRoom,
    /// The store could not record it. Nothing was acknowledged; trying again may help.
    #[error("the message was not recorded: {0}")]
    NotRecorded(String),
    /// The store will never record it: it is larger than a log may grow, or a value is too large. Trying again does not
    /// help.
    #[error("the message can never be recorded: {0}")]
    CannotBeRecorded(String),
    /// The host is stopping.
    #[error("the host is stopping; send again when it is back")]
    Stopping,
}

impl Refused {
    /// Whether trying the same again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::BodyTooLarge { .. }
            | Self::TooManyProperties { .. }
            | Self::TooManyHops { .. }
            | Self::Expired
            | Self::CannotBeRecorded(_) => true,
            Self::TooManyPending { .. } | Self::NoRoom | Self::NotRecorded(_) | Self::Stopping => false,
        }
    }
}

/// The checks that every message passes before it is decided.
pub(crate) fn check(message: &Message, hops: u8) -> Result<(), Refused> {
    if message.body.len() > BODY_BYTES_MAX {
        return Err(Refused::BodyTooLarge { bytes: message.body.len(), max: BODY_BYTES_MAX });
    }
    if message.properties.len() > PROPERTIES_MAX {
        return Err(Refused::TooManyProperties { count: message.properties.len(), max: PROPERTIES_MAX });
    }
    if hops > HOPS_MAX {
        return Err(Refused::TooManyHops { max: HOPS_MAX });
    }
    Ok(())
}
