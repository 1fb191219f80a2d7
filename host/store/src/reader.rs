//! Reading: straight from the database, from a position on, never from the head.

use crate::{
    codec::Malformed,
    config::StoreConfig,
    engine::{Engine, fault},
    error::StoreError,
    message::{Batch, Death, Entry, ReadLimit, Stored},
    pack_files::{Packs, Unreadable},
    queue_index::{QueueIndex, Segment},
    record::{Record, key, offset_of},
    shared::Shared,
    sync::{read, write},
};
use bytes::Bytes;
use holdfast_types::{Offset, QueueId, UnixMillis};

/// What a reader met besides messages.
#[derive(Debug, Default)]
struct Found {
    expired: u64,
    expired_upto: Offset,
    /// Ranges that should hold messages and cannot be read.
    unreadable: Vec<(Offset, Offset)>,
}

/// One pass over a part of a queue.
struct Pass<'a> {
    shared: &'a Shared,
    queue: &'a QueueId,
    config: &'a StoreConfig,
    now: UnixMillis,
    /// The queue as it was when the read began.
    index: QueueIndex,
    keep_expired: bool,
    found: Found,
}

/// Reads messages at or above `from` that are on disk, alive and not done.
pub(crate) fn read_batch(
    shared: &Shared,
    queue: &QueueId,
    from: Offset,
    limit: ReadLimit,
) -> Result<Batch, StoreError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let (next, found) = pass(shared, queue, from, false, |record| {
        bytes += record.bytes;
        let offset = record.offset;
        let (entry, _) = record.decode()?;
        entries.push(Stored { offset, entry });
        Ok(entries.len() < limit.messages && bytes < limit.bytes)
    })?;
    note(shared, queue, found);
    Ok(Batch { entries, next })
}

/// Looks at messages without counting anything; also at those that have expired and are still there.
pub(crate) fn look(
    shared: &Shared,
    queue: &QueueId,
    from: Offset,
    messages: usize,
) -> Result<Vec<(Offset, Entry, Option<Death>)>, StoreError> {
    let mut entries = Vec::new();
    if messages == 0 {
        return Ok(entries);
    }
    pass(shared, queue, from, true, |record| {
        let offset = record.offset;
        let (entry, death) = record.decode()?;
        entries.push((offset, entry, death));
        Ok(entries.len() < messages)
    })?;
    Ok(entries)
}

/// The message at exactly this offset, wherever the cursor is. Takes no lock on the index.
pub(crate) fn one(
    engine: &Engine,
    queue: &QueueId,
    offset: Offset,
) -> Result<Option<(Entry, Option<Death>)>, StoreError> {
    let Some(keyspace) = engine.queue(queue) else { return Ok(None) };
    let Some(guard) = keyspace.range(key(offset)..).next() else { return Ok(None) };
    let (found, value) = guard.into_inner().map_err(fault("read a message"))?;
    let malformed =
        |Malformed(reason)| StoreError::Database { what: "read a message", reason: reason.into() };
    let mut pack = engine.packs(&keyspace).open(&found, value.into()).map_err(|fault| match fault {
        Unreadable::Damaged(reason) => malformed(reason),
        Unreadable::Disk(error) => error,
    })?;
    pack.skip_to(offset).map_err(malformed)?;
    match pack.next() {
        Some(record) => {
            let record = record.map_err(malformed)?;
            if record.offset == offset { record.decode().map(Some).map_err(malformed) } else { Ok(None) }
        }
        None => Ok(None),
    }
}

/// Goes over the messages from `from` to the tail until `take` says stop. Returns where to go on.
fn pass(
    shared: &Shared,
    queue: &QueueId,
    from: Offset,
    keep_expired: bool,
    mut take: impl FnMut(Record) -> Result<bool, Malformed>,
) -> Result<(Offset, Found), StoreError> {
    let Some(index) = read(&shared.index).queues.get(queue).map(|index| index.view(from)) else {
        return Ok((from, Found::default()));
    };
    let (config, now) = (&shared.config, shared.clock.now());
    let mut pass = Pass { shared, queue, config, now, index, keep_expired, found: Found::default() };
    let next = shared.with_engine(|engine| pass.segments(engine, from, &mut take))?;
    Ok((next, pass.found))
}

impl Pass<'_> {
    fn segments(
        &mut self,
        engine: &Engine,
        from: Offset,
        take: &mut impl FnMut(Record) -> Result<bool, Malformed>,
    ) -> Result<Offset, StoreError> {
        let Some(keyspace) = engine.queue(self.queue) else { return Ok(from) };
        let mut packs = engine.packs(&keyspace);
        let mut at = from.max(self.index.cursor);
        let live: Vec<Segment> = self.index.live().copied().collect();
        for segment in live {
            if segment.end <= at {
                continue;
            }
            at = at.max(segment.first);
            // A range is opened once for each segment: what lies between two of them was dropped and may linger.
            let mut range = keyspace.range(key(at)..=key(Offset(segment.end.0.saturating_sub(1))));
            while at < segment.end {
                let Some(guard) = range.next() else {
                    self.lost(at, segment.end, "there is nothing where messages should be");
                    at = segment.end;
                    break;
                };
                match guard.into_inner() {
                    Ok((found, value)) => {
                        let (next, go_on) = self.pack(&mut packs, at, (&found, value.into()), take)?;
                        at = next;
                        if !go_on {
                            return Ok(at);
                        }
                    }
                    Err(error) => {
                        if !is_damage(&error) {
                            return Err(fault("read messages")(error));
                        }
                        let next = self.next_readable(&keyspace, &mut packs, at, segment.end);
                        self.lost(at, next, &crate::engine::reason_of(&error));
                        at = next;
                        range = keyspace.range(key(at)..=key(Offset(segment.end.0.saturating_sub(1))));
                    }
                }
            }
        }
        Ok(at)
    }

    /// One pack. Returns where to go on, and whether to.
    fn pack(
        &mut self,
        packs: &mut Packs,
        from: Offset,
        (found, value): (&[u8], Bytes),
        take: &mut impl FnMut(Record) -> Result<bool, Malformed>,
    ) -> Result<(Offset, bool), StoreError> {
        let end = offset_of(found).map_or(from.next(), Offset::next);
        let mut pack = match packs.open(found, value) {
            Ok(pack) => pack,
            Err(Unreadable::Damaged(Malformed(reason))) => {
                self.lost(from, end, reason);
                return Ok((end, true));
            }
            Err(Unreadable::Disk(error)) => return Err(error),
        };
        if pack.next_offset() > from {
            self.lost(from, pack.next_offset(), "there is a gap between two packs");
        }
        if let Err(Malformed(reason)) = pack.skip_to(from) {
            self.lost(from, end, reason);
            return Ok((end, true));
        }
        let mut at = pack.next_offset();
        while let Some(record) = pack.next() {
            let kept =
                record.and_then(|record| if self.is_wanted(&record) { take(record) } else { Ok(true) });
            match kept {
                Ok(go_on) => {
                    at = pack.next_offset();
                    if !go_on {
                        return Ok((at, false));
                    }
                }
                Err(Malformed(reason)) => {
                    self.lost(at, end, reason);
                    return Ok((end, true));
                }
            }
        }
        Ok((end, true))
    }

    fn is_wanted(&mut self, record: &Record) -> bool {
        if self.index.holes.contains(&record.offset) {
            return false;
        }
        let now = self.index.now_at(record.offset, self.now);
        let old = self.config.age_max.is_some_and(|age| {
            u128::from(now.0) > u128::from(record.received.0).saturating_add(age.as_millis())
        });
        let dead = old || record.expires.is_some_and(|expires| expires <= now);
        if dead && !self.keep_expired && record.offset >= self.index.expired_upto {
            self.found.expired += 1;
            self.found.expired_upto = record.offset.next();
        }
        !dead || self.keep_expired
    }

    fn lost(&mut self, from: Offset, to: Offset, reason: &str) {
        if from >= to || self.is_passed_since(from, to) {
            return;
        }
        let messages = to.0 - from.0;
        tracing::error!(queue = %self.queue, %from, %to, messages, reason, "messages are unreadable and are skipped");
        self.found.unreadable.push((from, to));
    }

    /// Whether what the index spoke of when the read began was given up meanwhile, and may be deleted by now.
    fn is_passed_since(&self, from: Offset, to: Offset) -> bool {
        let now = read(&self.shared.index);
        let lives = |queue: &QueueIndex| {
            to > queue.cursor && queue.live().any(|segment| segment.first < to && from < segment.end)
        };
        !now.queues.get(self.queue).is_some_and(lives)
    }

    /// Past a damaged block: the first offset from which a pack can be read again, found by halving.
    fn next_readable(
        &self,
        keyspace: &fjall::Keyspace,
        packs: &mut Packs,
        from: Offset,
        end: Offset,
    ) -> Offset {
        let mut reads = |at: Offset| {
            let last = key(Offset(end.0.saturating_sub(1)));
            match keyspace.range(key(at)..=last).next() {
                Some(guard) => match guard.into_inner() {
                    Ok((found, value)) => {
                        packs.open(&found, value.into()).ok().map(|pack| pack.next_offset())
                    }
                    Err(_) => None,
                },
                None => Some(end),
            }
        };
        let (mut bad, mut good) = (from.0, end.0);
        let mut best = end;
        while bad + 1 < good {
            let middle = bad + (good - bad) / 2;
            match reads(Offset(middle)) {
                Some(at) => {
                    best = at.max(Offset(bad + 1)).min(best);
                    good = middle;
                }
                None => bad = middle,
            }
        }
        best
    }
}

/// Whether an error is about the bytes of a table, and not about the disk or the database as a whole.
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::LsmError;
    match error {
        fjall::Error::Storage(LsmError::Io(io)) | fjall::Error::Io(io) => {
            matches!(io.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData)
        }
        fjall::Error::Storage(_) | fjall::Error::Decompress(_) | fjall::Error::InvalidTag(_) => true,
        _ => false,
    }
}

/// Takes into the index what a reader found. Everything is counted once, however often it is read again.
fn note(shared: &Shared, queue: &QueueId, found: Found) {
    if found.expired == 0 && found.unreadable.is_empty() {
        return;
    }
    let mut index = write(&shared.index);
    let Some(index) = index.queues.get_mut(queue) else { return };
    if found.expired > 0 && found.expired_upto > index.expired_upto {
        index.expired_upto = found.expired_upto;
        index.gone.expired += found.expired;
        index.dirty += 1;
    }
    for (from, to) in found.unreadable {
        if index.unreadable_upto < to {
            index.gone.unreadable += to.0 - from.max(index.unreadable_upto).0;
            index.unreadable_upto = to;
            index.dirty += 1;
        }
    }
}
