//! What the store knows about each queue without reading the disk: positions, counts, and a summary of each segment.

use crate::status::Gone;
use holdfast_types::{LogId, Offset, QueueId, UnixMillis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most messages taken out of the middle of one queue (dead letters sent again one by one).
pub(crate) const HOLES_MAX: usize = 4096;

/// Most steps of the clock remembered for one queue; older ones are added up.
const STEPS_MAX: usize = 16;

/// A run of messages that is dropped as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: Offset,
    /// The offset after the last message.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    /// The smallest record in it, in bytes; 0 when that is not known.
    pub(crate) smallest: u64,
    /// The largest record in it, in bytes; `u64::MAX` when that is not known.
    pub(crate) largest: u64,
    /// It holds a message that only its reader may remove: one of a route that does not say `drop-oldest`.
    pub(crate) keep: bool,
    pub(crate) received_first: UnixMillis,
    pub(crate) received_last: UnixMillis,
    /// When the last of them expires; `None` when one never does.
    pub(crate) expires_last: Option<UnixMillis>,
}

impl Segment {
    pub(crate) fn empty_at(first: Offset) -> Self {
        Self { first, end: first, expires_last: Some(UnixMillis(0)), ..Self::default() }
    }

    pub(crate) fn count(&self) -> u64 {
        self.end.0.saturating_sub(self.first.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end <= self.first
    }

    /// Bytes of the records at or above a cursor: never less than they are, exact where all records have one size. The
    /// size of each is not remembered, so what was passed counts as the smallest that it can have been.
    pub(crate) fn bytes_from(&self, cursor: Offset) -> u64 {
        let left = self.end.0.saturating_sub(self.first.max(cursor).0);
        let passed = self.count().saturating_sub(left);
        let rest = self.bytes.saturating_sub(passed.saturating_mul(self.smallest));
        rest.min(left.saturating_mul(self.largest))
    }

    /// Leaves out what is below the cursor. Only for the open segment, which has no key yet.
    pub(crate) fn pass(&mut self, cursor: Offset) {
        if cursor >= self.end {
            *self = Self::empty_at(self.end);
        } else if cursor > self.first {
            self.bytes = self.bytes_from(cursor);
            self.first = cursor;
        }
    }

    /// Takes in one more message at its end.
    pub(crate) fn add(&mut self, bytes: u64, received: UnixMillis, expires: Option<UnixMillis>, keep: bool) {
        if self.is_empty() {
            self.received_first = received;
            self.smallest = bytes;
        }
        self.end = self.end.next();
        self.bytes += bytes;
        self.smallest = self.smallest.min(bytes);
        self.largest = self.largest.max(bytes);
        self.keep |= keep;
        self.received_last = self.received_last.max(received);
        self.expires_last = match (self.expires_last, expires) {
            (Some(last), Some(new)) => Some(last.max(new)),
            _ => None,
        };
    }
}

/// One queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueIndex {
    pub(crate) cursor: Offset,
    pub(crate) tail: Offset,
    /// Closed segments that may hold messages at or above the cursor, in order. What lies between two of them was
    /// dropped.
    pub(crate) segments: VecDeque<Segment>,
    /// The segment that messages are appended to; its end is the tail.
    pub(crate) open: Segment,
    pub(crate) gone: Gone,
    /// Expired messages below this are counted.
    pub(crate) expired_upto: Offset,
    /// Unreadable messages below this are counted.
    pub(crate) unreadable_upto: Offset,
    /// Messages at or above the cursor that are done.
    pub(crate) holes: BTreeSet<Offset>,
    /// Steps of the wall clock that came when the queue's tail was there: for messages below, the clock is wrong by
    /// that many milliseconds.
    pub(crate) steps: Vec<(Offset, i64)>,
    /// How many changes are not on disk yet and need not be at once: counters of what readers found.
    pub(crate) dirty: u64,
}

impl QueueIndex {
    /// The segments that may hold messages, the open one last.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain((!self.open.is_empty()).then_some(&self.open))
    }

    /// A copy with no more segments than a reader needs that starts at `from`.
    pub(crate) fn view(&self, from: Offset) -> Self {
        /// More segments than one read can cross; a reader that has gone over all of them simply reads again.
        const SEGMENTS: usize = 16;
        let past = self.segments.partition_point(|segment| segment.end <= from);
        let segments: VecDeque<Segment> = self.segments.iter().skip(past).take(SEGMENTS).copied().collect();
        let open = if past + segments.len() < self.segments.len() { Segment::default() } else { self.open };
        let (cursor, tail, gone) = (self.cursor, self.tail, self.gone);
        let (expired_upto, unreadable_upto, dirty) = (self.expired_upto, self.unreadable_upto, self.dirty);
        let (holes, steps) = (self.holes.clone(), self.steps.clone());
        Self { cursor, tail, segments, open, gone, expired_upto, unreadable_upto, holes, steps, dirty }
    }

    /// Messages at or above the cursor that were not dropped.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting_from(self.cursor)
    }

    /// Bytes of records at or above the cursor, never less than they are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_from(self.cursor)
    }

    /// The same for a cursor that it might get.
    pub(crate) fn bytes_from(&self, cursor: Offset) -> u64 {
        self.live().map(|segment| segment.bytes_from(cursor)).sum()
    }

    /// Messages at or above a cursor that were not dropped.
    pub(crate) fn waiting_from(&self, cursor: Offset) -> u64 {
        let all: u64 = self.live().map(|s| s.end.0.saturating_sub(s.first.max(cursor).0)).sum();
        all.saturating_sub(self.holes.range(cursor..).count() as u64)
    }

    /// By how much the wall clock is wrong for the message at `offset`.
    pub(crate) fn step_at(&self, offset: Offset) -> i64 {
        self.steps.iter().filter(|(upto, _)| offset < *upto).map(|(_, millis)| millis).sum()
    }

    /// The time by which a message at `offset` is judged.
    pub(crate) fn now_at(&self, offset: Offset, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_add_signed(self.step_at(offset).saturating_neg()))
    }

    /// The wall clock was moved by `millis`: what is stored keeps the life it had left.
    pub(crate) fn clock_stepped(&mut self, millis: i64) {
        if self.cursor >= self.tail {
            self.steps.clear();
            return;
        }
        let cursor = self.cursor;
        self.steps.retain(|(upto, _)| *upto > cursor);
        if self.steps.len() >= STEPS_MAX {
            let (upto, oldest) = self.steps.remove(0);
            if let Some(next) = self.steps.first_mut() {
                *next = (upto.max(next.0), next.1.saturating_add(oldest));
            }
        }
        self.steps.push((self.tail, millis));
        self.dirty += 1;
    }

    /// Moves the cursor, drops what it passed, and returns the segments that are of no more use.
    pub(crate) fn pass(&mut self, cursor: Offset) -> Vec<Segment> {
        self.cursor = self.cursor.max(cursor).min(self.tail);
        while self.holes.remove(&self.cursor) {
            self.cursor = self.cursor.next();
        }
        self.holes = self.holes.split_off(&self.cursor);
        self.open.pass(self.cursor);
        let mut passed = Vec::new();
        while self.segments.front().is_some_and(|s| s.end <= self.cursor) {
            passed.extend(self.segments.pop_front());
        }
        passed
    }

    /// What lies below the cursor, and what lies above it and belongs to no segment, as ranges of offsets.
    pub(crate) fn dead_ranges(&self) -> Vec<(Offset, Offset)> {
        let mut from = Offset(0);
        let mut ranges = Vec::new();
        for segment in self.segments.iter().chain([&self.open]) {
            let first = segment.first.max(self.cursor.min(segment.end));
            if first > from {
                ranges.push((from, first));
            }
            from = segment.end.max(from);
        }
        ranges
    }
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) queues: BTreeMap<QueueId, QueueIndex>,
}

impl Index {
    /// The queues of one log, highest priority first.
    pub(crate) fn log<'a>(
        &'a self,
        log: &'a LogId,
    ) -> impl DoubleEndedIterator<Item = (&'a QueueId, &'a QueueIndex)> {
        let bound = |priority| QueueId { log: log.clone(), priority };
        let first = holdfast_types::Priority::new(0).unwrap_or_default();
        self.queues.range(bound(first)..=bound(holdfast_types::Priority::DEFAULT))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.queues.values().map(QueueIndex::bytes).sum()
    }

    pub(crate) fn log_bytes(&self, log: &LogId) -> u64 {
        self.log(log).map(|(_, queue)| queue.bytes()).sum()
    }

    /// The sum of all tails: how many messages were ever appended.
    pub(crate) fn appended(&self) -> u64 {
        self.queues.values().map(|queue| queue.tail.0).sum()
    }
}
