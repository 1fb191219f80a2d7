//! Reading single messages by their offsets. The session log is read so: each session needs its own few of many.

use crate::{
    codec::Malformed,
    engine::fault,
    error::StoreError,
    message::{Entry, ReadLimit},
    pack_files::{Packs, Unreadable},
    queue_index::QueueIndex,
    record::{Pack, Record, key, offset_of},
    shared::Shared,
    sync::read,
};
use holdfast_types::{Offset, QueueId};

/// What was found at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picked {
    /// The message.
    Entry(Entry),
    /// The message, past its time: for whoever has begun to send it and has to complete that (MQTT-4.3.3-7).
    Expired(Entry),
    /// Nothing any more: it is below the cursor, has been dropped, or cannot be read.
    Gone,
}

/// Reads the messages at `offsets`, in that order, until the limit is reached; gives at least one answer if any was
/// asked for. Offsets that rise within a pack are read in one go.
pub(crate) fn pick(
    shared: &Shared,
    queue: &QueueId,
    offsets: &[Offset],
    limit: ReadLimit,
) -> Result<Vec<Picked>, StoreError> {
    let lowest = offsets.iter().min().copied().unwrap_or_default();
    let Some(index) = read(&shared.index).queues.get(queue).map(|index| index.view(lowest)) else {
        return Ok(offsets.iter().map(|_| Picked::Gone).collect());
    };
    shared.with_engine(|engine| {
        let mut keyspace = engine.queue(queue).map(|keyspace| (engine.packs(&keyspace), keyspace));
        let mut open: Option<Pack> = None;
        let mut picked = Vec::new();
        let mut bytes = 0;
        for &offset in offsets.iter().take(limit.messages) {
            let mut found = Picked::Gone;
            let is_there = (index.cursor..index.tail).contains(&offset);
            if let Some((packs, keyspace)) = keyspace.as_mut().filter(|_| is_there) {
                if !open.as_ref().is_some_and(|pack| pack.holds(offset)) {
                    open = match keyspace.range(key(offset)..).next() {
                        Some(guard) => {
                            let (at, value) = guard.into_inner().map_err(fault("read a message"))?;
                            opened(queue, packs, offset, (&at, value.into()))?
                        }
                        None => None,
                    };
                }
                if let Some(record) = open.as_mut().and_then(|pack| take(queue, pack, offset)) {
                    let size = record.bytes;
                    let expired = is_expired(shared, &index, &record);
                    if let Ok((entry, _)) = record.decode() {
                        bytes += size;
                        found = if expired { Picked::Expired(entry) } else { Picked::Entry(entry) };
                    }
                }
            }
            picked.push(found);
            if bytes >= limit.bytes {
                break;
            }
        }
        Ok(picked)
    })
}

fn opened(
    queue: &QueueId,
    packs: &mut Packs,
    offset: Offset,
    (at, value): (&[u8], bytes::Bytes),
) -> Result<Option<Pack>, StoreError> {
    match packs.open(at, value) {
        Ok(pack) => Ok(Some(pack)),
        Err(Unreadable::Damaged(Malformed(reason))) => {
            let last = offset_of(at).unwrap_or(offset);
            tracing::error!(%queue, %offset, %last, reason, "messages are unreadable and are skipped");
            Ok(None)
        }
        Err(Unreadable::Disk(error)) => Err(error),
    }
}

fn take(queue: &QueueId, pack: &mut Pack, offset: Offset) -> Option<Record> {
    if !pack.holds(offset) {
        return None;
    }
    let record = pack.skip_to(offset).and_then(|()| pack.next().transpose());
    match record {
        Ok(record) => record,
        Err(Malformed(reason)) => {
            tracing::error!(%queue, %offset, reason, "a message is unreadable and is skipped");
            None
        }
    }
}

fn is_expired(shared: &Shared, index: &QueueIndex, record: &Record) -> bool {
    let now = index.now_at(record.offset, shared.clock.now());
    let old = shared
        .config
        .age_max
        .is_some_and(|age| u128::from(now.0) > u128::from(record.received.0).saturating_add(age.as_millis()));
    old || record.expires.is_some_and(|expires| expires <= now)
}
