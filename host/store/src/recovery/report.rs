//! What recovery found and did, for people and for programs.

use holdfast_types::{Offset, QueueId};
use std::{fmt, path::PathBuf};

/// What was found when the store was opened. All quiet is the normal case, also after a crash or a power cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The store is new.
    pub created: bool,
    /// Queues found.
    pub queues: usize,
    /// Messages waiting in them.
    pub messages: u64,
    /// Bytes of a batch cut off at the end of the journal: it was being written when the power went, and was never
    /// acknowledged.
    pub torn_bytes: u64,
    /// Acknowledged messages that are gone.
    pub losses: Vec<Loss>,
    /// Damage that was found and what was done about it, in sentences.
    pub damage: Vec<String>,
    /// Files put aside before they were repaired.
    pub copies: Vec<PathBuf>,
    /// The epoch was drawn anew, because acknowledged data is lost and offsets may be given a second time.
    pub epoch_redrawn: bool,
}

/// Acknowledged messages that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The queue, when it is known.
    pub queue: Option<QueueId>,
    /// The first of them.
    pub from: Offset,
    /// How many.
    pub messages: u64,
}

impl RecoveryReport {
    /// Whether nothing was lost and nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.losses.is_empty() && self.damage.is_empty()
    }

    /// How many acknowledged messages are known to be gone.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.messages).sum()
    }

    pub(crate) fn damage(&mut self, what: String) {
        tracing::error!("{what}");
        self.damage.push(what);
    }

    pub(crate) fn lose(&mut self, loss: Loss) {
        tracing::error!("{loss}");
        self.losses.push(loss);
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged messages are gone", self.messages)?;
        match &self.queue {
            Some(queue) => write!(f, " from queue {queue}, the first at offset {}", self.from),
            None => f.write_str("; the disk did not keep what it said it had"),
        }
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queues with {} messages", self.queues, self.messages)?;
        if self.torn_bytes > 0 {
            write!(f, "; {} bytes of an unfinished batch were cut off", self.torn_bytes)?;
        }
        for line in &self.damage {
            write!(f, "; {line}")?;
        }
        for loss in &self.losses {
            write!(f, "; {loss}")?;
        }
        for copy in &self.copies {
            write!(f, "; the damaged file is kept as {}", copy.display())?;
        }
        if self.epoch_redrawn {
            f.write_str("; a new epoch begins")?;
        }
        Ok(())
    }
}
