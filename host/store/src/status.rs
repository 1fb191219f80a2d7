//! What the store says about itself.

use holdfast_types::{Offset, QueueId, UnixMillis};

/// One queue in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The queue.
    pub queue: QueueId,
    /// Messages between cursor and tail that have not been dropped. Expired ones count until they are found.
    pub waiting: u64,
    /// Bytes of their records; within the segment that is being read, by share.
    pub bytes: u64,
    /// When the host took the oldest of them.
    pub oldest: Option<UnixMillis>,
    /// The next offset that is not done.
    pub cursor: Offset,
    /// The offset that the next message gets.
    pub tail: Offset,
    /// What was not delivered, and why.
    pub gone: Gone,
    /// Messages of this queue in the dead-letter queue of its log, as far as they are still there, are counted there:
    /// this is how many letters wait in it, for the whole log.
    pub dead: u64,
}

/// Messages that left a queue without being delivered, since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Dropped as the oldest, to make room.
    pub dropped_oldest: u64,
    /// Dropped on arrival because the log was full.
    pub dropped_newest: u64,
    /// Dropped after their time to live, or past the store's age bound.
    pub expired: u64,
    /// Purged by hand.
    pub purged: u64,
    /// Lost to a damaged disk: acknowledged once and unreadable now.
    pub unreadable: u64,
}

impl Gone {
    /// Those that went for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped_oldest.saturating_add(self.dropped_newest)
    }

    pub(crate) fn plus(self, more: Self) -> Self {
        Self {
            dropped_oldest: self.dropped_oldest + more.dropped_oldest,
            dropped_newest: self.dropped_newest + more.dropped_newest,
            expired: self.expired + more.expired,
            purged: self.purged + more.purged,
            unreadable: self.unreadable + more.unreadable,
        }
    }
}

/// Where a queue stands. Read from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// The queue.
    pub queue: QueueId,
    /// The next offset that is not done.
    pub cursor: Offset,
    /// The offset that the next message gets.
    pub tail: Offset,
}

/// The store in numbers, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Group commits that reached the disk; each is one fsync.
    pub fsyncs: u64,
    /// Groups that were written while the one before was being synced.
    pub overlapped: u64,
    /// Commits in them.
    pub commits: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of records in them.
    pub record_bytes: u64,
    /// Length of the last write with its fsync, in microseconds.
    pub fsync_us_last: u64,
    /// Mean of the recent ones, in microseconds.
    pub fsync_us_mean: u64,
    /// How often the database failed and was closed, repaired and opened again.
    pub reopened: u64,
    /// Commits that failed.
    pub failed: u64,
    /// Commits that wait for room now.
    pub parked: u64,
    /// Bytes of records in all logs now.
    pub bytes: u64,
}
