//! The durable log: append, read, cursors, retention, quota, recovery.
//!
//! What this room does: it keeps messages in logs, one queue for each priority, and small documents beside them. One
//! at a time writes; many commits share one atomic batch and one fsync; a commit completes only after that. Readers move
//! cursors forward; what all of a segment's messages have been passed by, or outlived, is dropped as a whole and its
//! space given back. It bounds itself in bytes, keeps dead letters, counts exactly, and repairs itself at start
//! (`recovery/`).
//!
//! What it does not do: it decides nothing about routes, retries or modules; nothing in it is async. It is the only
//! room that names the database below.
//!
//! The format of messages stands at the head of `record.rs`, that of the files they lie in at the head of `pack_files/`,
//! that of states and segments at the head of `state.rs`, that of the files of recovery at the heads of `recovery/*.rs`.

mod addressed;
mod clock;
mod codec;
mod committer;
mod completions;
mod config;
mod control;
mod dead_letter;
mod documents;
mod engine;
mod error;
mod fjall_compat;
mod housekeeping;
mod job;
mod journal_space;
mod mailbox;
mod message;
mod pack_files;
mod pick;
mod pipeline;
mod plan;
mod queue_index;
mod quota;
mod reader;
mod record;
mod recovery;
mod retention;
mod session_documents;
mod shared;
mod state;
mod status;
mod store;
mod sync;

pub use addressed::{Addressed, Recipient};
pub use clock::{Clock, SystemClock};
pub use config::{
    DOCUMENT_BYTES_MAX, DOCUMENT_KEY_BYTES_MAX, GROUP_BYTES_MAX, GROUP_MESSAGES_MAX, LOG_NAME_BYTES_MAX,
    Linger, MAILBOX_BYTES_MAX, MAILBOX_COMMITS_MAX, MemoryProfile, PARKED_BYTES_MAX, PARKED_COMMITS_MAX,
    QUEUES_MAX, StoreConfig,
};
pub use control::Which;
pub use error::{CommitError, Full, StoreError};
pub use message::{
    Ack, Append, Appended, Batch, Chain, Commit, Committed, DeadLetter, Death, DocumentWrite, Entry,
    ReadLimit, Stored, StoredDeadLetter,
};
pub use pick::Picked;
pub use recovery::{Loss, RecoveryReport};
pub use session_documents::{
    DocumentFault, Flight, FlowRecord, PacketRecord, SessionRecord, SubscriptionRecord, WillRecord,
};
pub use status::{Gone, QueuePosition, QueueStatus, StoreStats};
pub use store::{Store, open};
