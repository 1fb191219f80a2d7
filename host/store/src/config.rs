//! What a store is told when it is opened, and the limits that it keeps by itself.

use holdfast_types::LogId;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Most messages in one group commit. More would not make the fsync cheaper, but the wait for it longer.
pub const GROUP_MESSAGES_MAX: usize = 1024;

/// Most record bytes in one group commit, 4 MiB: half a memtable, so that one batch cannot overrun it. A single commit
/// that is larger than this is a group of its own.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Most commits waiting in the mailbox: two full groups of single messages, one being written and one ready.
pub const MAILBOX_COMMITS_MAX: usize = 2 * GROUP_MESSAGES_MAX;

/// Most record bytes waiting in the mailbox, 16 MiB; the first commit into an empty mailbox is always taken, so that
/// a message of any allowed size can pass.
pub const MAILBOX_BYTES_MAX: usize = 16 << 20;

/// Most commits parked because their log is full. What comes after is refused: the sender keeps its message.
pub const PARKED_COMMITS_MAX: usize = 1024;

/// Most record bytes parked because a log is full, 16 MiB.
pub const PARKED_BYTES_MAX: usize = 16 << 20;

/// Most bytes in one document value, 1 MiB: documents are small keyed values, rewritten whole.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Most bytes in a document's space and key together (fjall keys end at 65,535 bytes; ours stay far below).
pub const DOCUMENT_KEY_BYTES_MAX: usize = 4096;

/// Most bytes in the name of a log; the name is part of a keyspace name, which ends at 255.
pub const LOG_NAME_BYTES_MAX: usize = 200;

/// Most queues in one store. Each costs a keyspace: about 10 KB of memory, some 5 ms to make.
pub const QUEUES_MAX: usize = 1000;

/// How long the committer lingers before a group commit, so that more commits can join the fsync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    /// Until those that the last group served are back, at most a quarter of the mean fsync time and 2 ms:
    /// nothing for a single sender, nothing on a disk that syncs within 2 ms, twice the throughput on a slow one.
    #[default]
    Auto,
    /// A fixed time. 10 ms is the flash-friendly profile: fewer, fuller pages, and nothing written ahead.
    Fixed(Duration),
}

/// How much memory the store takes for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryProfile {
    /// 8 MiB for each queue that is being written, 8 MiB cache.
    #[default]
    Standard,
    /// 4 MiB for each queue that is being written, 2 MiB cache.
    Small,
}

impl MemoryProfile {
    pub(crate) const fn memtable_bytes(self) -> u64 {
        match self {
            Self::Standard => 8 << 20,
            Self::Small => 4 << 20,
        }
    }

    pub(crate) const fn cache_bytes(self) -> u64 {
        match self {
            Self::Standard => 8 << 20,
            Self::Small => 2 << 20,
        }
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The folder of the store; made when it is not there. One process at a time.
    pub path: PathBuf,
    /// Most bytes of records over all logs. On disk this is up to 1.08 times as much plus 200 MiB of journals.
    pub quota_bytes: u64,
    /// Most bytes of records in single logs; a log that is not named here is bounded by `quota_bytes` alone.
    pub log_quotas: BTreeMap<LogId, u64>,
    /// How long to wait for company before an fsync.
    pub linger: Linger,
    /// How much memory to take.
    pub memory: MemoryProfile,
    /// The unit in which space is given back, in bytes of records. Cut to a sixteenth of the smallest quota.
    pub segment_bytes: u64,
    /// Messages older than this are dropped, whatever their own time to live.
    pub age_max: Option<Duration>,
    /// Space kept occupied, and let go when the disk is full so that the store can carry on. 0 for none.
    pub ballast_bytes: u64,
}

impl StoreConfig {
    /// The defaults for a store in `path`: 1 GiB, segments of 8 MiB, ballast of 64 MiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            quota_bytes: 1 << 30,
            log_quotas: BTreeMap::new(),
            linger: Linger::Auto,
            memory: MemoryProfile::Standard,
            segment_bytes: 8 << 20,
            age_max: None,
            ballast_bytes: 64 << 20,
        }
    }

    /// The segment size that goes with the quotas: a queue bounded to little must give space back in little pieces.
    pub(crate) fn segment_bytes_effective(&self) -> u64 {
        let smallest = self.log_quotas.values().copied().chain([self.quota_bytes]).min().unwrap_or(u64::MAX);
        self.segment_bytes.min(smallest / 16).max(1)
    }

    pub(crate) fn log_quota(&self, log: &LogId) -> u64 {
        // Dead letters are looked at by people, one day; they must not crowd out what still has a way to go.
        let is_dead = crate::dead_letter::is_dead(log);
        // The same holds for what clients do not fetch.
        let usual =
            if is_dead || *log == LogId::sessions() { self.quota_bytes / 4 } else { self.quota_bytes };
        self.log_quotas.get(log).copied().unwrap_or(usual).min(self.quota_bytes)
    }
}
