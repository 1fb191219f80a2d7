//! What goes into a commit and what comes out of a read.

use crate::addressed::Addressed;
use bytes::Bytes;
use holdfast_types::{Envelope, Name, Offset, Priority, QueueId, Text, UnixMillis, WhenFull};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// One atomic change: all of it is on disk, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Messages to append.
    pub appends: Vec<Append>,
    /// Cursors to move.
    pub acks: Vec<Ack>,
    /// The chain that it belongs to, if its order within one matters.
    pub chain: Option<Arc<Chain>>,
    /// Messages to copy to the dead-letter queue of their log.
    pub dead: Vec<DeadLetter>,
    /// Small keyed values to set or delete.
    pub documents: Vec<DocumentWrite>,
}

/// Commits that follow from one another, such as the turns of one module: they are recorded in the order in which they
/// came. While one waits for room the later ones wait behind it, and when one is not recorded none of the later ones is.
/// Who gave them may break the chain too; what of it is not being written by then is refused.
#[derive(Debug, Default)]
pub struct Chain(AtomicBool);

impl Chain {
    /// Whether nothing of it will be recorded any more.
    pub fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Lets nothing of it be recorded any more. What is being written at this moment may still be; its completion
    /// tells, as it does for each of the others.
    pub fn break_it(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// One message for one queue.
#[derive(Clone, Debug)]
pub struct Append {
    /// The queue; made on first use.
    pub queue: QueueId,
    /// The message.
    pub entry: Entry,
    /// What to do when the log has reached its bound.
    pub when_full: WhenFull,
}

/// A message as a queue holds it. Cloning costs reference counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message with its source.
    pub envelope: Arc<Envelope>,
    /// The input of the module that it is for.
    pub input: Option<Name>,
    /// The route that sent it here.
    pub route: Text,
    /// When it is of no more use.
    pub expires: Option<UnixMillis>,
    /// The sessions that it is for. Only in the session log.
    pub addressed: Option<Arc<Addressed>>,
}

/// Everything below `cursor` is done. A cursor only ever moves forward; an older one is no error and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The queue.
    pub queue: QueueId,
    /// The next offset that is not done.
    pub cursor: Offset,
}

/// A message given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its queue.
    pub queue: QueueId,
    /// Its offset.
    pub offset: Offset,
    /// Why.
    pub reason: Text,
    /// How often it was tried.
    pub attempts: u32,
}

/// A small keyed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentWrite {
    /// The space, for example `state/{module}`. It must not hold the character U+0000.
    pub space: Text,
    /// The key within the space.
    pub key: Text,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

/// What became of a commit that is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// For each append, in order.
    pub appends: Vec<Appended>,
}

/// What became of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk, at this offset.
    Stored(Offset),
    /// The log was full, and this message was the one to go. It is counted.
    Dropped,
}

/// How much one read may return. At least one message is returned if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Most messages.
    pub messages: usize,
    /// Most bytes of records; the message that reaches it is the last.
    pub bytes: usize,
}

impl Default for ReadLimit {
    /// 256 messages, 1 MiB.
    fn default() -> Self {
        Self { messages: 256, bytes: 1 << 20 }
    }
}

/// A message as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the queue.
    pub offset: Offset,
    /// The message.
    pub entry: Entry,
}

/// What one read returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The messages, in order. Offsets that are missing expired, were dropped, or cannot be read; all are counted.
    pub entries: Vec<Stored>,
    /// Where the next read goes on. When nothing came back, everything below is of no more use and may be acknowledged.
    pub next: Offset,
}

/// A dead letter as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its place in the dead-letter queue.
    pub offset: Offset,
    /// The message.
    pub entry: Entry,
    /// Where it comes from, and why it is here.
    pub death: Death,
}

/// Where a dead letter comes from, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The priority of the queue it was given up in.
    pub priority: Priority,
    /// Its offset there.
    pub offset: Offset,
    /// Why.
    pub reason: Text,
    /// How often it was tried.
    pub attempts: u32,
}
