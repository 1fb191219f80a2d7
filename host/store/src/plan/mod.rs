//! One group commit before it is written: what it appends, which cursors it moves, what it drops. Nothing here touches
//! the disk, and the index does not change until the plan is on disk.
//!
//! A [`Plan`] holds a [`draft::Draft`] for each queue that it touches, and is [`Prepared`] when nothing more comes to it.

mod draft;
mod prepared;

pub(crate) use draft::{Draft, End};
pub(crate) use prepared::{Filed, Prepared};

use crate::{
    config::StoreConfig,
    queue_index::{Index, QueueIndex, Segment},
    record::Encoded,
    shared::Shared,
};
use bytes::Bytes;
use holdfast_types::{LogId, Offset, QueueId};
use std::collections::BTreeMap;

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

    /// Counts with what is on its way to a queue: what is planned comes behind that.
    pub(crate) fn follow(&mut self, queue: &QueueId, end: &End, bytes: u64) {
        if let Some(known) = self.index.queues.get(queue) {
            self.drafts.insert(queue.clone(), Draft::behind(known, end));
            self.charge(&queue.log, bytes);
        }
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
        Prepared { drafts, documents, only_appends, for_pack_file: false, commits, messages, bytes }
    }
}
