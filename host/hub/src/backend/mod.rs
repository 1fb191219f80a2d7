//! Everything durable of the hub, behind one trait.
//!
//! Two kinds of things are kept. *Events*: one ordered stream with growing offsets, appended in batches together with the
//! marks of the edges that they came from, all or nothing. *Documents*: small values under a space and a key, changed in
//! batches that compare before they set. Documents of some spaces are *followed*: each batch of them gets a revision, and
//! what has changed since a revision can be listed.
//!
//! `tests/backend.rs` holds what every implementation must keep.

mod embedded;

pub use embedded::{Embedded, EmbeddedConfig};

use bytes::Bytes;
pub use holdfast_links::{Batch, Event, Gap, Origin, Progress};
pub use holdfast_store::Chain;
use holdfast_types::{Name, Text};
use std::{future::Future, pin::Pin};
use tokio::sync::{mpsc, watch};

/// An answer of a backend.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Why a backend did not do what it was asked for. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// A document is not as the writer expected.
    #[error("{space} {key} has changed meanwhile; read it again")]
    Conflict {
        /// Its space.
        space: Space,
        /// Its key.
        key: Text,
    },
    /// It can never be stored.
    #[error("it can never be stored: {0}")]
    Refused(String),
    /// It could not be stored or read now.
    #[error("the storage of the hub failed: {0}; try again")]
    Failed(String),
    /// An earlier one of its order was not stored.
    #[error("an earlier batch of the same order was not stored")]
    OutOfTurn,
    /// The hub is stopping.
    #[error("the hub is stopping; try again when it is back")]
    Stopping,
}

/// What documents there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Devices and modules, sealed.
    Identities,
    /// Their twins.
    Twins,
    /// Deployments.
    Deployments,
    /// For each edge, the revision of the last change that concerns it.
    Edges,
    /// How deployments fare on edges.
    Statuses,
    /// Messages that wait for devices.
    Devicebound,
    /// Numbers and names of the hub itself.
    Hub,
}

impl Space {
    /// Every space.
    pub const ALL: &'static [Self] = &[
        Self::Identities,
        Self::Twins,
        Self::Deployments,
        Self::Edges,
        Self::Statuses,
        Self::Devicebound,
        Self::Hub,
    ];

    /// Its name, for ever.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Twins => "twins",
            Self::Deployments => "deployments",
            Self::Edges => "edges",
            Self::Statuses => "statuses",
            Self::Devicebound => "devicebound",
            Self::Hub => "hub",
        }
    }

    /// The space of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|space| space.name() == name)
    }

    /// Whether what has changed in it can be listed.
    pub const fn is_followed(self) -> bool {
        matches!(self, Self::Identities | Self::Twins | Self::Deployments)
    }
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The revision of the batch that wrote it last.
    pub revision: u64,
    /// Its value.
    pub value: Bytes,
}

/// What a writer expects of a document before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// That there is none.
    Absent,
    /// That this revision wrote it last.
    Revision(u64),
}

impl Expect {
    /// That a document is as it was found.
    pub fn as_found(found: Option<&Stored>) -> Self {
        found.map_or(Self::Absent, |stored| Self::Revision(stored.revision))
    }
}

/// A change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: Text,
    /// Its value; none deletes it.
    pub value: Option<Bytes>,
    /// What it must be before.
    pub expect: Expect,
}

impl Write {
    /// Sets a document, whatever it was.
    pub fn set(space: Space, key: &str, value: impl Into<Bytes>) -> Self {
        Self { space, key: key.into(), value: Some(value.into()), expect: Expect::Anything }
    }

    /// Deletes a document, if it is there.
    pub fn delete(space: Space, key: &str) -> Self {
        Self { space, key: key.into(), value: None, expect: Expect::Anything }
    }

    /// The same write, if the document is as expected.
    #[must_use]
    pub fn when(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }
}

/// That a followed document has changed, or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// With which revision.
    pub revision: u64,
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: Text,
}

/// A document that another process has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    /// With which revision.
    pub revision: u64,
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: Text,
    /// What it was before.
    pub before: Option<Stored>,
    /// What it is now; none is gone.
    pub value: Option<Bytes>,
}

/// What is called when a batch is durable, or is known never to be. It must be quick and not call the backend.
pub type Appended = Box<dyn FnOnce(Result<(), BackendError>) + Send>;

/// A part of the stream.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Events with their offsets. Offsets that are missing are past their time, or unreadable.
    pub events: Vec<(u64, Event)>,
    /// Where the next read goes on.
    pub next: u64,
}

/// Where the stream begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The oldest offset that is kept.
    pub first: u64,
    /// The offset that the next event gets.
    pub next: u64,
}

/// Keeps what the hub must not lose.
pub trait Backend: Send + Sync + 'static {
    /// Appends events and sets marks in one step. `done` is called exactly once; for batches of one edge, and for those
    /// without one, in the order of the calls.
    fn append(&self, batch: Batch, done: Appended);

    /// Events at or above an offset: at most so many, and about so many bytes.
    fn events(&self, from: u64, events_max: usize, bytes_max: usize) -> Answer<'_, Events>;

    /// Where the stream begins and ends.
    fn span(&self) -> Answer<'_, Span>;

    /// The offset behind which so many events are left, or the oldest that is kept.
    fn before_end(&self, count: u64) -> Answer<'_, u64>;

    /// Tells how often something was appended: who waits for news waits for a change of it.
    fn appends(&self) -> watch::Receiver<u64>;

    /// The marks of an edge.
    fn progress(&self, edge: &Name) -> Answer<'_, Vec<Progress>>;

    /// Whether nothing of an edge is on its way from this process.
    fn is_idle(&self, _edge: &Name) -> bool {
        true
    }

    /// One document.
    fn get(&self, space: Space, key: &str) -> Answer<'_, Option<Stored>>;

    /// Documents whose keys begin with `prefix` and come after `after`, in the order of the keys' bytes.
    fn list(
        &self,
        space: Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<'_, Vec<(Text, Stored)>>;

    /// Changes documents, all or none; gives their revision.
    fn put(&self, writes: Vec<Write>) -> Answer<'_, u64>;

    /// The followed documents that have changed after a revision, each once with its last change, in that order.
    fn changes(&self, after: u64, limit: usize) -> Answer<'_, Vec<Changed>>;

    /// The revision of the last batch of documents.
    fn revision(&self) -> watch::Receiver<u64>;

    /// From now on, the documents that other processes write, in their order, each batch whole; none if this process is
    /// alone. Whoever has asked for it takes them: while too many wait, nothing is stored.
    fn heard(&self) -> Answer<'_, Option<mpsc::Receiver<Vec<DocumentChange>>>> {
        Box::pin(async { Ok(None) })
    }

    /// What is wrong with the storage now.
    fn fault(&self) -> Option<String> {
        None
    }
}
