//! From the open database to the index: states, segments, and the open segment of each queue.

use crate::{
    codec::Malformed,
    engine::{Engine, fault},
    error::StoreError,
    pack_files::{Packs, Place},
    queue_index::{Index, QueueIndex, Segment},
    record::{key, offset_of},
    recovery::report::{Loss, RecoveryReport},
    state::{decode_segment, decode_state, segment_prefix, state_key},
};
use fjall::Keyspace;
use holdfast_types::{Offset, QueueId};

/// The index of all queues, and what was found to be missing on the way.
pub(crate) fn index(engine: &Engine, report: &mut RecoveryReport) -> Result<Index, StoreError> {
    let mut index = Index::default();
    for (id, keyspace) in engine.queue_list() {
        let queue = queue(engine, &id, &keyspace, report)?;
        report.messages += queue.waiting();
        index.queues.insert(id, queue);
    }
    report.queues = index.queues.len();
    Ok(index)
}

fn queue(
    engine: &Engine,
    id: &QueueId,
    keyspace: &Keyspace,
    report: &mut RecoveryReport,
) -> Result<QueueIndex, StoreError> {
    let mut queue = QueueIndex::default();
    let state = engine.meta.get(state_key(id)).map_err(fault("read the state of a queue"))?;
    if let Some(Err(Malformed(reason))) = state.map(|value| decode_state(&mut queue, &value)) {
        report.damage(format!("the state of queue {id} cannot be read: {reason}"));
        queue = QueueIndex::default();
    }
    segments(engine, id, &mut queue, report)?;
    let remembered = queue.tail;
    let found = last_offset(keyspace).map_or(Offset(0), Offset::next);
    queue.tail = found.max(remembered).max(queue.cursor);
    let sealed = queue.segments.back().map_or(Offset(0), |segment| segment.end);
    let first = sealed.max(queue.open.first).max(queue.cursor).min(queue.tail);
    queue.open = Segment::empty_at(first);
    let mut packs = engine.packs(keyspace);
    open_segment(id, keyspace, &mut packs, &mut queue, report);
    check_segments(id, keyspace, &packs, &mut queue, report);
    let cursor = queue.cursor;
    queue.pass(cursor);
    Ok(queue)
}

fn segments(
    engine: &Engine,
    id: &QueueId,
    queue: &mut QueueIndex,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let prefix = segment_prefix(id);
    for guard in engine.meta.prefix(&prefix) {
        let (found, value) = guard.into_inner().map_err(fault("read the segments of a queue"))?;
        let first = offset_of(found.get(prefix.len()..).unwrap_or_default());
        match first.and_then(|first| decode_segment(first, &value)) {
            Ok(segment) => queue.segments.push_back(segment),
            Err(Malformed(reason)) => {
                report.damage(format!("a segment of queue {id} cannot be read: {reason}"));
            }
        }
    }
    Ok(())
}

/// The last offset in the keyspace. A damaged table at its end hides it; then the state's tail stands.
pub(super) fn last_offset(keyspace: &Keyspace) -> Option<Offset> {
    let found = keyspace.last_key_value()?.key().ok()?;
    // Housekeeping may have put a key behind that of a message, which begins with it.
    offset_of(found.get(..8)?).ok()
}

/// Makes the summary of the messages behind the last closed segment again. Reads at most about one segment.
fn open_segment(
    id: &QueueId,
    keyspace: &Keyspace,
    packs: &mut Packs,
    queue: &mut QueueIndex,
    report: &mut RecoveryReport,
) {
    let mut at = queue.open.first;
    if at >= queue.tail {
        return;
    }
    for guard in keyspace.range(key(at)..) {
        let Ok((found, value)) = guard.into_inner() else { break };
        let Ok(mut pack) = packs.open(&found, value.into()) else { break };
        if pack.next_offset() > at {
            report.lose(Loss { queue: Some(id.clone()), from: at, messages: pack.next_offset().0 - at.0 });
            at = pack.next_offset();
            queue.open.end = at;
        }
        if pack.skip_to(at).is_err() {
            break;
        }
        while let Some(Ok(record)) = pack.next() {
            queue.open.add(record.bytes as u64, record.received, record.expires, record.keep());
            at = record.offset.next();
        }
    }
    if at < queue.tail {
        report.lose(Loss { queue: Some(id.clone()), from: at, messages: queue.tail.0 - at.0 });
        // Readers find the rest unreadable and count it; the segment must not seem to end before the tail.
        queue.open.end = queue.tail;
    }
}

/// Whether each closed segment still ends with a message. A whole table or pack file that went missing shows here.
fn check_segments(
    id: &QueueId,
    keyspace: &Keyspace,
    packs: &Packs,
    queue: &mut QueueIndex,
    report: &mut RecoveryReport,
) {
    for segment in &queue.segments {
        let last = Offset(segment.end.0.saturating_sub(1));
        let found = keyspace.range(key(last)..=key(last)).next().and_then(|guard| guard.value().ok());
        let there = found.is_some_and(|value| match Place::decode(last, &value) {
            Ok(place) => place.is_none_or(|place| packs.holds(&place)),
            Err(Malformed(_)) => false,
        });
        if !there && last >= queue.cursor {
            report.lose(Loss { queue: Some(id.clone()), from: segment.first, messages: segment.count() });
        }
    }
}
