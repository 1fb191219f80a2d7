//! Logs and positions in them.

use crate::{Name, Text};
use std::fmt;

/// Milliseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// What stands before the child in the name of its log upstream.
const UPSTREAM_OF: &str = "upstream/";

/// A log: the ordered messages for one sink, in one queue for each priority.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(Text);

impl LogId {
    /// The log of what is bound upstream.
    pub fn upstream() -> Self {
        Self("upstream".into())
    }

    /// The log of what a child that goes up under its own identity sends upstream.
    pub fn upstream_of(child: &Name) -> Self {
        Self(format!("{UPSTREAM_OF}{child}").into())
    }

    /// The child whose log upstream this is; none of any other log.
    pub fn upstream_child(&self) -> Option<Name> {
        self.0.strip_prefix(UPSTREAM_OF).and_then(|child| Name::new(child).ok())
    }

    /// The log of a module's inputs.
    pub fn module(module: &Name) -> Self {
        Self(format!("module/{module}").into())
    }

    /// The log of messages from the cloud to a child.
    pub fn child(child: &Name) -> Self {
        Self(format!("child/{child}").into())
    }

    /// The log of messages for MQTT sessions, all of them together.
    pub fn sessions() -> Self {
        Self("sessions".into())
    }

    /// A log by its full name, as `queue list` shows it.
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The full name: `upstream`, `upstream/{child}`, `sessions`, `module/{name}` or `child/{name}`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({})", self.0)
    }
}

/// The priority of a route: 0 (highest) to 9, or the default, which is below 9 (IoT Edge: 2,000,000,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The lowest priority, that of a route that names none.
    pub const DEFAULT: Self = Self(10);

    /// Every priority, highest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=Self::DEFAULT.0).map(Self)
    }

    /// Priority `level`: 0 to 9, or 10 for the default.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::DEFAULT.0 { Some(Self(level)) } else { None }
    }

    /// 0 to 9; 10 is the default.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DEFAULT { f.write_str("default") } else { write!(f, "{}", self.0) }
    }
}

/// One queue of a log: first in, first out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    /// The log.
    pub log: LogId,
    /// The priority.
    pub priority: Priority,
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.log, self.priority)
    }
}

/// A position in one queue. Offsets are dense: the n-th message appended to a queue has offset n - 1, for the life of
/// the store, so a gap at a receiver is a loss and tail minus cursor is a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The identity of one stored message that never changes and is never given twice: a receiver that remembers the
/// highest sequence for each (edge, epoch, priority) can drop every duplicate and see every gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StableId {
    /// The edge; of a message in the log of a child that goes up under its own identity, the child.
    pub edge: Name,
    /// The life of the store: drawn at random when a store is made, and again when recovery found a loss.
    pub epoch: u64,
    /// The queue within the log.
    pub priority: Priority,
    /// The position in it.
    pub sequence: Offset,
}

impl StableId {
    /// That of a message in a log of an edge. A child's own log upstream is numbered by itself, so that its messages are told
    /// from those of the edge by the name of the child.
    pub fn in_log(log: &LogId, edge: &Name, epoch: u64, priority: Priority, sequence: Offset) -> Self {
        let edge = log.upstream_child().unwrap_or_else(|| edge.clone());
        Self { edge, epoch, priority, sequence }
    }
}

/// `edge/epoch/priority/sequence`; epoch in hexadecimal, the default priority as `d`.
impl fmt::Display for StableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}/", self.edge, self.epoch)?;
        if self.priority == Priority::DEFAULT {
            f.write_str("d")?;
        } else {
            write!(f, "{}", self.priority.level())?;
        }
        write!(f, "/{}", self.sequence)
    }
}

/// What happens to a message whose log has reached its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// The sender waits: no acknowledgement until there is room.
    Block,
    /// The oldest messages of the lowest priority make room, and are counted.
    #[default]
    DropOldest,
    /// The new message is dropped, and counted.
    DropNewest,
}

/// Whether a route's messages are on disk before they are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Recorded in the log, fsynced, then acknowledged.
    #[default]
    Durable,
    /// Handed over in memory; lost when the process ends.
    Volatile,
}
