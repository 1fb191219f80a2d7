//! What a plan does to one queue.

use crate::{
    engine::Engine,
    error::CommitError,
    pack_files::Place,
    queue_index::{QueueIndex, Segment},
    record::{Encoded, PackBuilder, key},
    state::{State, encode_segment, encode_state, segment_key, state_key},
    status::Gone,
};
use bytes::Bytes;
use fjall::OwnedWriteBatch;
use holdfast_types::{Offset, QueueId};
use std::collections::BTreeSet;

/// Where a queue will stand when what is on its way to it is on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    next: Offset,
    open: Segment,
}

/// What a plan does to one queue.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Where its first message goes.
    pub(super) from: Offset,
    /// Where the next message goes.
    pub(crate) next: Offset,
    pub(crate) cursor: Offset,
    open: Segment,
    builder: PackBuilder,
    pub(super) packs: Vec<(Offset, Bytes)>,
    /// Segments that were closed by this plan.
    sealed: Vec<Segment>,
    /// Closed segments that are dropped from the middle of the queue.
    pub(crate) dropped: Vec<Segment>,
    /// What is added to the counters.
    pub(crate) gone: Gone,
    /// The new set of messages taken out of the middle, if it changes.
    pub(crate) holes: Option<BTreeSet<Offset>>,
    /// Whether the queue's state must be written.
    pub(crate) state: bool,
    dirty_seen: u64,
}

impl Draft {
    pub(super) fn of(queue: &QueueIndex) -> Self {
        let (next, cursor, open, dirty_seen) = (queue.tail, queue.cursor, queue.open, queue.dirty);
        Self { from: next, next, cursor, open, dirty_seen, state: dirty_seen > 0, ..Self::default() }
    }

    /// That of a queue behind what is still on its way to it.
    pub(super) fn behind(queue: &QueueIndex, end: &End) -> Self {
        Self { from: end.next, next: end.next, open: end.open, ..Self::of(queue) }
    }

    /// Where the queue will stand, if nothing is done to it but to append, and no segment is closed.
    pub(super) fn end(&self) -> Option<End> {
        let is_light = self.sealed.is_empty() && self.dropped.is_empty() && !self.state;
        is_light.then_some(End { next: self.next, open: self.open })
    }

    pub(super) fn push(&mut self, record: &Encoded, segment_bytes: u64) -> Offset {
        if self.builder.is_full_for(record.len()) {
            self.finish_pack();
        }
        self.builder.push(record);
        let offset = self.next;
        self.next = offset.next();
        self.open.add(record.len() as u64, record.received, record.expires, record.keep);
        if self.open.bytes >= segment_bytes {
            self.seal();
        }
        offset
    }

    pub(super) fn finish_pack(&mut self) {
        if self.builder.count() > 0 {
            let last = Offset(self.next.0.saturating_sub(1));
            let value = self.builder.finish(last);
            self.packs.push((last, value.into()));
        }
    }

    /// Closes the open segment, so that it can be dropped as a whole.
    pub(crate) fn seal(&mut self) {
        self.finish_pack();
        if !self.open.is_empty() {
            self.sealed.push(std::mem::replace(&mut self.open, Segment::empty_at(self.next)));
            self.state = true;
        }
    }

    /// Moves the cursor forward.
    pub(super) fn pass(&mut self, cursor: Offset) {
        if cursor > self.cursor {
            self.cursor = cursor;
            self.open.pass(cursor);
            self.state = true;
        }
    }

    /// Bytes that live between two cursors, as the index will count them when the plan is on disk.
    pub(super) fn bytes_between(&self, queue: Option<&QueueIndex>, from: Offset, to: Offset) -> u64 {
        let closed = queue.into_iter().flat_map(|queue| &queue.segments).chain(&self.sealed);
        let passed = closed
            .skip_while(|segment| segment.end <= from)
            .take_while(|segment| segment.first < to)
            .filter(|segment| !self.dropped.contains(segment));
        let of = |segment: &Segment| segment.bytes_from(from).saturating_sub(segment.bytes_from(to));
        passed.chain([&self.open]).map(of).sum()
    }

    pub(super) fn write(
        &self,
        queue_id: &QueueId,
        queue: &QueueIndex,
        engine: &Engine,
        places: Option<&Vec<Place>>,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), CommitError> {
        let keyspace = engine.queue_or_new(queue_id)?;
        match places {
            Some(places) => {
                for ((last, _), place) in self.packs.iter().zip(places) {
                    batch.insert(&keyspace, key(*last), place.encode(*last));
                }
            }
            None => {
                for (last, value) in &self.packs {
                    batch.insert(&keyspace, key(*last), value.clone());
                }
            }
        }
        for segment in self.sealed.iter().filter(|s| s.end > self.cursor && !self.dropped.contains(s)) {
            batch.insert(&engine.meta, segment_key(queue_id, segment.first), encode_segment(segment));
        }
        let passed = queue.segments.iter().filter(|s| s.end <= self.cursor);
        for segment in passed.chain(self.dropped.iter().filter(|s| s.end > self.cursor)) {
            batch.remove(&engine.meta, segment_key(queue_id, segment.first));
        }
        if self.state {
            let gone = queue.gone.plus(self.gone);
            let holes = self.holes.as_ref().unwrap_or(&queue.holes);
            let (cursor, tail, open_first) = (self.cursor, self.next, self.open.first);
            let state = State { cursor, tail, open_first, gone, holes, queue };
            batch.insert(&engine.meta, state_key(queue_id), encode_state(&state));
        }
        Ok(())
    }

    pub(super) fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|(_, pack)| pack.len() as u64).sum()
    }

    /// Whether it does nothing but append. What it writes besides, when it closes a segment, follows from what it
    /// appends.
    pub(super) fn only_appends(&self, queue: &QueueIndex) -> bool {
        self.cursor == queue.cursor
            && self.dropped.is_empty()
            && self.holes.is_none()
            && self.gone == Gone::default()
    }

    pub(super) fn apply(self, queue: &mut QueueIndex) -> bool {
        queue.tail = self.next;
        queue.open = self.open;
        queue.segments.extend(self.sealed);
        queue.segments.retain(|segment| !self.dropped.contains(segment));
        queue.gone = queue.gone.plus(self.gone);
        if let Some(holes) = self.holes {
            queue.holes = holes;
        }
        if self.state {
            queue.dirty -= self.dirty_seen.min(queue.dirty);
        }
        let was = queue.cursor;
        let passed = queue.pass(self.cursor);
        let is_drained = queue.cursor > was && queue.cursor >= queue.tail;
        is_drained || !passed.is_empty() || !self.dropped.is_empty()
    }
}
