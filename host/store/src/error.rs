//! What can go wrong, as situations that the caller can act on.

use crate::message::Commit;
use holdfast_types::{LogId, QueueId, Text};
use std::{fmt, io, path::PathBuf};

/// A store could not be opened, read or told to do something.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open.
    #[error(
        "the store in {path} is open in another process; stop that process, or give this one its own folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused a file operation.
    #[error("cannot {what} {path}: {reason}{fix}", fix = fix_of(*kind))]
    File {
        /// What was tried, as a verb: `open`, `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The answer of the operating system.
        reason: Text,
        /// Its kind, for callers that tell a full disk from a missing right.
        kind: io::ErrorKind,
    },
    /// The folder holds a store of a format that this program does not know.
    #[error(
        "the store in {path} has format {found}, this program knows {known}; use the program that wrote it"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The database below reported a fault.
    #[error("the database could not {what}: {reason}; see the log for what recovery did")]
    Database {
        /// What was tried, as a verb.
        what: &'static str,
        /// The answer of the database.
        reason: Text,
    },
    /// No such queue.
    #[error("there is no queue {queue}; `holdfast queue list` shows those that are")]
    UnknownQueue {
        /// The queue asked for.
        queue: QueueId,
    },
    /// No such log.
    #[error("there is no log {log}; `holdfast queue list` shows those that are")]
    UnknownLog {
        /// The log asked for.
        log: LogId,
    },
    /// Too many dead letters were taken from the middle of the queue.
    #[error("{queue} has {max} messages taken out of its middle; requeue or purge all of it instead")]
    TooManyHoles {
        /// The queue.
        queue: QueueId,
        /// The bound.
        max: usize,
    },
    /// A change that the store was asked for could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        Self::File { what, path: path.into(), reason: error.to_string().into(), kind: error.kind() }
    }
}

/// What a person can do about an answer of the operating system, to be put behind it.
fn fix_of(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "; let the user that this runs as read and write there, or name another folder"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount it to be written, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; move away what is there, or name another folder"
        }
        _ => "",
    }
}

/// A commit was not recorded. Nothing of it is on disk, and nothing of it may be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The log is full, and so many commits wait for room already that this one cannot wait too.
    #[error(
        "log {log} is full ({bytes} of {bytes_max} bytes) and {parked} commits wait for room; drain it or raise its quota"
    )]
    LogFull {
        /// The log.
        log: LogId,
        /// Bytes in it.
        bytes: u64,
        /// Its bound.
        bytes_max: u64,
        /// Commits that wait for room.
        parked: usize,
    },
    /// What one commit brings is larger than the whole quota.
    #[error(
        "{bytes} bytes at once can never fit into log {log}, which is bounded to {bytes_max}; raise its quota"
    )]
    LargerThanLog {
        /// The log.
        log: LogId,
        /// Bytes of the records that the commit brings for it.
        bytes: u64,
        /// The bound of the log, or of all logs together if that is what it breaks.
        bytes_max: u64,
    },
    /// A document or its key is too large.
    #[error("document {space}/{key} has {bytes} bytes; at most {bytes_max} are kept")]
    DocumentTooLarge {
        /// Its space.
        space: Text,
        /// Its key.
        key: Text,
        /// Bytes of key or value, whichever is too large.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The name of a log is empty or too long.
    #[error("log name {name:?} has {bytes} bytes; give it 1 to {bytes_max}")]
    LogName {
        /// The name.
        name: Text,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// There are too many queues.
    #[error("the store has {queues_max} queues already and makes no more; delete logs that are not used")]
    TooManyQueues {
        /// The bound.
        queues_max: usize,
    },
    /// The disk did not take it, also not after the store was closed, repaired and opened again.
    #[error("the store could not write: {reason}; nothing of this commit was kept, send it again later")]
    Failed {
        /// The answer of the database or the operating system.
        reason: Text,
    },
    /// An earlier commit of its chain was not recorded.
    #[error("an earlier commit that this one follows from was not recorded; read again from the cursor")]
    OutOfTurn,
    /// The store was closed before the commit was written.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// Whether the same commit would be refused however often it is tried: it breaks a bound by itself. Who sent it
    /// must change it, or give it up.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::LargerThanLog { .. }
            | Self::DocumentTooLarge { .. }
            | Self::LogName { .. }
            | Self::TooManyQueues { .. } => true,
            Self::LogFull { .. } | Self::Failed { .. } | Self::OutOfTurn | Self::Closed => false,
        }
    }
}

/// The mailbox is full: the commit and its completion come back, to be tried again later.
pub struct Full<D> {
    /// The commit, as it was given.
    pub commit: Commit,
    /// The completion, not called.
    pub done: D,
}

impl<D> fmt::Debug for Full<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").field("commit", &self.commit).finish_non_exhaustive()
    }
}

impl<D> fmt::Display for Full<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store's mailbox is full; try again when earlier commits are done")
    }
}
