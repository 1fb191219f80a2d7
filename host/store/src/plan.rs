//! One group commit before it is written: what it appends, which cursors it moves, what it drops. Nothing here touches
//! the disk, and the index does not change until the plan is on disk.

use crate::{
    config::StoreConfig,
    engine::Engine,
    error::CommitError,
    fjall_compat,
    pack_files::{Mark, Place},
    queue_index::{Index, QueueIndex, Segment},
    record::{Encoded, PackBuilder, key},
    shared::Shared,
    state::{State, encode_segment, encode_state, segment_key, state_key},
    status::Gone,
};
use bytes::Bytes;
use fjall::OwnedWriteBatch;
use holdfast_types::{LogId, Offset, QueueId};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan does to one queue.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Where its first message goes.
    from: Offset,
    /// Where the next message goes.
    pub(crate) next: Offset,
    pub(crate) cursor: Offset,
    open: Segment,
    builder: PackBuilder,
    packs: Vec<(Offset, Bytes)>,
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
    fn of(queue: &QueueIndex) -> Self {
        let (next, cursor, open, dirty_seen) = (queue.tail, queue.cursor, queue.open, queue.dirty);
        Self { from: next, next, cursor, open, dirty_seen, state: dirty_seen > 0, ..Self::default() }
    }

    fn push(&mut self, record: &Encoded, segment_bytes: u64) -> Offset {
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

    fn finish_pack(&mut self) {
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
    fn pass(&mut self, cursor: Offset) {
        if cursor > self.cursor {
            self.cursor = cursor;
            self.open.pass(cursor);
            self.state = true;
        }
    }

    /// Bytes that live between two cursors, as the index will count them when the plan is on disk.
    fn bytes_between(&self, queue: Option<&QueueIndex>, from: Offset, to: Offset) -> u64 {
        let closed = queue.into_iter().flat_map(|queue| &queue.segments).chain(&self.sealed);
        let passed = closed
            .skip_while(|segment| segment.end <= from)
            .take_while(|segment| segment.first < to)
            .filter(|segment| !self.dropped.contains(segment));
        let of = |segment: &Segment| segment.bytes_from(from).saturating_sub(segment.bytes_from(to));
        passed.chain([&self.open]).map(of).sum()
    }

    fn write(
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

    fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|(_, pack)| pack.len() as u64).sum()
    }

    /// Whether it does nothing but append. What it writes besides, when it closes a segment, follows from what it
    /// appends.
    fn only_appends(&self, queue: &QueueIndex) -> bool {
        self.cursor == queue.cursor
            && self.dropped.is_empty()
            && self.holes.is_none()
            && self.gone == Gone::default()
    }

    fn apply(self, queue: &mut QueueIndex) -> bool {
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

/// How full a log will be when the plan is on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
}

impl Fill {
    /// Whether there is room for so many bytes when `freed` have gone.
    pub(crate) fn fits(&self, bytes: u64, freed: u64) -> bool {
        self.lacks(bytes, freed) == 0
    }

    /// How many bytes more would have to go.
    pub(crate) fn lacks(&self, bytes: u64, freed: u64) -> u64 {
        self.bytes.saturating_sub(freed).saturating_add(bytes).saturating_sub(self.bytes_max)
    }

    fn free(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// One group commit.
pub(crate) struct Plan<'a> {
    pub(crate) index: &'a Index,
    pub(crate) config: &'a StoreConfig,
    segment_bytes: u64,
    pub(crate) drafts: BTreeMap<QueueId, Draft>,
    logs: BTreeMap<LogId, Fill>,
    pub(crate) total: Fill,
    /// Room over all logs that is kept for those who give some back: [`crate::quota`].
    pub(crate) reserve: u64,
    queues_new: usize,
    pub(crate) documents: Vec<(Vec<u8>, Option<Bytes>)>,
    pub(crate) commits: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Packs from which a group that does nothing but append goes to a pack file: below, its place would take as much as
/// the pack.
const ALONE_BYTES_MIN: u64 = 1 << 10;
/// Packs from which those of any group do: to write them twice then takes as long as another fsync.
const WITH_OTHERS_BYTES_MIN: u64 = 96 << 10;

/// The packs of a plan that are in pack files.
#[derive(Debug, Default)]
pub(crate) struct Filed {
    places: BTreeMap<QueueId, Vec<Place>>,
    /// Whether they are all that the plan needs to have on disk.
    alone: bool,
}

impl Filed {
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }
}

/// A plan that is complete, no longer bound to the index it was made from.
#[derive(Default)]
pub(crate) struct Prepared {
    drafts: BTreeMap<QueueId, Draft>,
    documents: Vec<(Vec<u8>, Option<Bytes>)>,
    /// It does nothing but append to one queue.
    only_appends: bool,
    pub(crate) commits: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(index: &'a Index, shared: &'a Shared) -> Self {
        let config = &shared.config;
        let bytes_max = config.quota_bytes.min(shared.recovery.ceiling());
        let total = Fill { bytes: index.bytes(), bytes_max };
        let segment_bytes = config.segment_bytes_effective();
        let (drafts, logs, documents, queues_new) = Default::default();
        Self {
            index,
            config,
            segment_bytes,
            drafts,
            logs,
            total,
            reserve: segment_bytes,
            queues_new,
            documents,
            commits: 0,
            messages: 0,
            bytes: 0,
        }
    }

    pub(crate) fn draft(&mut self, queue: &QueueId) -> &mut Draft {
        if !self.drafts.contains_key(queue) {
            let known = self.index.queues.get(queue).map(Draft::of);
            let draft = known.unwrap_or_else(|| {
                self.queues_new += 1;
                Draft::default()
            });
            self.drafts.insert(queue.clone(), draft);
        }
        self.drafts.entry(queue.clone()).or_default()
    }

    pub(crate) fn log(&mut self, log: &LogId) -> &mut Fill {
        if !self.logs.contains_key(log) {
            let bytes_max = self.config.log_quota(log);
            self.logs.insert(log.clone(), Fill { bytes: self.index.log_bytes(log), bytes_max });
        }
        self.logs.entry(log.clone()).or_default()
    }

    /// Whether a queue is neither on disk nor planned.
    pub(crate) fn is_unknown(&self, queue: &QueueId) -> bool {
        !self.drafts.contains_key(queue) && !self.index.queues.contains_key(queue)
    }

    /// Queues that there will be.
    pub(crate) fn queues(&self) -> usize {
        self.index.queues.len() + self.queues_new
    }

    /// Counts bytes as taken in a log.
    pub(crate) fn charge(&mut self, log: &LogId, bytes: u64) {
        self.log(log).bytes += bytes;
        self.total.bytes += bytes;
    }

    /// Counts bytes as freed in a log.
    pub(crate) fn free(&mut self, log: &LogId, bytes: u64) {
        self.log(log).free(bytes);
        self.total.free(bytes);
    }

    /// Where the queue's cursor will be.
    pub(crate) fn cursor(&self, queue: &QueueId) -> Offset {
        let known = || self.index.queues.get(queue).map_or(Offset(0), |queue| queue.cursor);
        self.drafts.get(queue).map_or_else(known, |draft| draft.cursor)
    }

    /// Whether the message at an offset is on disk and will be neither passed nor taken out.
    pub(crate) fn is_waiting(&self, queue: &QueueId, offset: Offset) -> bool {
        let Some(known) = self.index.queues.get(queue) else { return false };
        let draft = self.drafts.get(queue);
        let holes = draft.and_then(|draft| draft.holes.as_ref()).unwrap_or(&known.holes);
        let covers = |segment: &Segment| segment.first <= offset && offset < segment.end;
        offset >= self.cursor(queue)
            && known.live().any(covers)
            && !draft.is_some_and(|draft| draft.dropped.iter().any(covers))
            && !holes.contains(&offset)
    }

    /// What moving a cursor would free. Only what is on disk can be passed.
    pub(crate) fn freed_by(&self, queue: &QueueId, to: Offset) -> u64 {
        let Some(known) = self.index.queues.get(queue) else { return 0 };
        let (from, to) = (self.cursor(queue), to.min(known.tail));
        if to <= from {
            return 0;
        }
        let fresh = || Draft::of(known);
        let held = |draft: &Draft| draft.bytes_between(Some(known), from, to);
        self.drafts.get(queue).map_or_else(|| held(&fresh()), held)
    }

    /// Moves a cursor over what is on disk, and counts what that frees. False when the queue is not on disk.
    pub(crate) fn pass(&mut self, queue: &QueueId, to: Offset) -> bool {
        let Some(known) = self.index.queues.get(queue) else { return false };
        let freed = self.freed_by(queue, to);
        self.draft(queue).pass(to.min(known.tail));
        self.free(&queue.log, freed);
        true
    }

    /// Appends what was charged.
    pub(crate) fn push(&mut self, queue: &QueueId, record: &Encoded) -> Offset {
        let bytes = record.len() as u64;
        self.messages += 1;
        self.bytes += bytes;
        let segment_bytes = self.segment_bytes;
        self.draft(queue).push(record, segment_bytes)
    }

    pub(crate) fn finish(mut self) -> Prepared {
        self.drafts.values_mut().for_each(Draft::finish_pack);
        let fresh = QueueIndex::default();
        let queue = |id: &QueueId| self.index.queues.get(id).unwrap_or(&fresh);
        let only_appends = self.documents.is_empty()
            && self.drafts.len() == 1
            && self.drafts.iter().all(|(id, draft)| draft.only_appends(queue(id)));
        let Self { drafts, documents, commits, messages, bytes, .. } = self;
        Prepared { drafts, documents, only_appends, commits, messages, bytes }
    }
}

impl Prepared {
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.values().all(|draft| draft.packs.is_empty() && !draft.state && draft.dropped.is_empty())
            && self.documents.is_empty()
    }

    /// Writes packs to pack files, if they are worth it. They are on disk afterwards.
    pub(crate) fn file(&self, engine: &Engine) -> Result<Filed, CommitError> {
        let (least, mark) = if self.only_appends {
            (ALONE_BYTES_MIN, Mark::Alone)
        } else {
            (WITH_OTHERS_BYTES_MIN, Mark::Named)
        };
        let mut places = BTreeMap::new();
        for (id, draft) in self.drafts.iter().filter(|(_, draft)| draft.pack_bytes() >= least) {
            let number = fjall_compat::keyspace_number(&engine.queue_or_new(id)?);
            let written = engine.pack_files.write(number, draft.from, &draft.packs, mark);
            let written =
                written.map_err(|error| CommitError::Failed { reason: error.to_string().into() })?;
            places.insert(id.clone(), written);
        }
        let alone = self.only_appends && !places.is_empty();
        Ok(Filed { places, alone })
    }

    /// About how many bytes it is on the disk, and not more.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.journal_bytes(&Filed::default())
    }

    /// About how many bytes it is in the journal, and not more.
    pub(crate) fn journal_bytes(&self, filed: &Filed) -> u64 {
        const ITEM_BYTES: usize = 21;
        let inside = self.drafts.iter().filter(|(id, _)| !filed.places.contains_key(id));
        let packs = inside.flat_map(|(_, draft)| &draft.packs).map(|(_, pack)| 8 + pack.len());
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let documents = self.documents.iter().map(|(key, written)| key.len() + value(written));
        packs.chain(documents).map(|bytes| (ITEM_BYTES + bytes) as u64).sum()
    }

    /// Everything as one batch, but for what is in pack files.
    pub(crate) fn batch(
        &self,
        index: &Index,
        engine: &Engine,
        filed: &Filed,
    ) -> Result<OwnedWriteBatch, CommitError> {
        let items: usize = self.drafts.values().map(|d| d.packs.len() + 2).sum();
        let batch = OwnedWriteBatch::with_capacity(engine.db.clone(), items + self.documents.len());
        let mode = if filed.alone { fjall::PersistMode::Buffer } else { fjall::PersistMode::SyncData };
        let mut batch = batch.durability(Some(mode));
        let fresh = QueueIndex::default();
        for (id, draft) in &self.drafts {
            let queue = index.queues.get(id).unwrap_or(&fresh);
            draft.write(id, queue, engine, filed.places.get(id), &mut batch)?;
        }
        for (key, value) in &self.documents {
            match value {
                Some(value) => batch.insert(&engine.documents, key.clone(), value.clone()),
                None => batch.remove(&engine.documents, key.clone()),
            }
        }
        Ok(batch)
    }

    /// Waits until the background has caught up with what the batch touches, as long as it is alive. Without this the
    /// database would wait by itself, for ever when its background has died of a full disk.
    pub(crate) fn wait_for_flushes(&self, engine: &Engine) -> Result<(), CommitError> {
        for queue in self.drafts.keys() {
            let Some(keyspace) = engine.queue(queue) else { continue };
            while fjall_compat::is_congested(&keyspace) {
                let alive = engine.db.persist(fjall::PersistMode::Buffer);
                alive.map_err(|error| CommitError::Failed { reason: crate::engine::reason_of(&error) })?;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Takes the plan into the index. Returns the logs that got messages and the queues that lost segments.
    pub(crate) fn apply(self, index: &mut Index) -> (BTreeSet<LogId>, Vec<QueueId>) {
        let mut grown = BTreeSet::new();
        let mut shrunk = Vec::new();
        for (id, draft) in self.drafts {
            let queue = index.queues.entry(id.clone()).or_default();
            if draft.next > queue.tail {
                grown.insert(id.log.clone());
            }
            if draft.apply(queue) {
                shrunk.push(id);
            }
        }
        (grown, shrunk)
    }
}
