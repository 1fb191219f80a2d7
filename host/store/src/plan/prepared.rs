//! A plan that is complete: to pack files, to the database's batch, and into the index.

use super::{Draft, End};
use crate::{
    engine::Engine,
    error::CommitError,
    fjall_compat,
    pack_files::{Ahead, Mark, Place},
    queue_index::{Index, QueueIndex},
};
use bytes::Bytes;
use fjall::OwnedWriteBatch;
use holdfast_types::{LogId, QueueId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

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
    /// What is in the pack file of one queue, and all there is.
    pub(crate) fn ahead(queue: QueueId, places: Vec<Place>) -> Self {
        Self { places: BTreeMap::from([(queue, places)]), alone: true }
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }
}

/// A plan that is complete, no longer bound to the index it was made from.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(super) drafts: BTreeMap<QueueId, Draft>,
    pub(super) documents: Vec<(Vec<u8>, Option<Bytes>)>,
    /// It does nothing but append to one queue.
    pub(super) only_appends: bool,
    /// It goes to a pack file however small it is, if it does nothing but append.
    pub(super) for_pack_file: bool,
    pub(crate) commits: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Prepared {
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.values().all(|draft| draft.packs.is_empty() && !draft.state && draft.dropped.is_empty())
            && self.documents.is_empty()
    }

    /// The same, but for a pack file if it does nothing but append: others may want to come behind it.
    pub(crate) fn for_pack_file(self) -> Self {
        Self { for_pack_file: true, ..self }
    }

    /// The one queue that it appends to, and where that will stand, if it does nothing else and closes no segment.
    pub(crate) fn light(&self) -> Option<(&QueueId, End)> {
        let (queue, draft) = self.drafts.first_key_value().filter(|_| self.only_appends)?;
        Some((queue, draft.end()?))
    }

    /// Writes a light plan to the pack file of its queue, to be synced by the caller; `None` where that takes more.
    pub(crate) fn write_ahead(&self, engine: &Engine, is_behind: bool) -> Result<Option<Ahead>, CommitError> {
        let Some((queue, draft)) = self.drafts.first_key_value() else { return Ok(None) };
        let Some(keyspace) = engine.queue(queue).filter(|keyspace| !fjall_compat::is_congested(keyspace))
        else {
            return Ok(None);
        };
        let number = fjall_compat::keyspace_number(&keyspace);
        let written = engine.pack_files.write_ahead(number, &draft.packs, is_behind);
        written.map_err(|error| CommitError::Failed { reason: error.to_string().into() })
    }

    /// What was written ahead counts. The file can be used again.
    pub(crate) fn settle_ahead(&self, engine: &Engine, end: u64, file: File) {
        let keyspace = self.drafts.keys().next().and_then(|queue| engine.queue(queue));
        if let Some(keyspace) = keyspace {
            engine.pack_files.settle_to(fjall_compat::keyspace_number(&keyspace), end, file);
        }
    }

    /// Writes packs to pack files, if they are worth it. They are on disk afterwards.
    pub(crate) fn file(&self, engine: &Engine) -> Result<Filed, CommitError> {
        let (least, mark) = if self.only_appends {
            (if self.for_pack_file { 0 } else { ALONE_BYTES_MIN }, Mark::Alone)
        } else {
            (WITH_OTHERS_BYTES_MIN, Mark::Named)
        };
        engine.pack_files.begin();
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
            let before = queue.gone.dropped();
            let has_shrunk = draft.apply(queue);
            let dropped = queue.gone.dropped();
            // At the first one, and whenever they have become twice as many.
            if dropped.checked_ilog2() > before.checked_ilog2() {
                tracing::warn!(queue = %id, dropped, "a log is full and loses messages, as its routes say; see `holdfast queue list`");
            }
            if has_shrunk {
                shrunk.push(id);
            }
        }
        (grown, shrunk)
    }
}
