//! The format of what the store remembers about each queue, in the keyspace `meta`.
//!
//! ```text
//! key "epoch"                      value u64 LE
//! key "format"                     value u32 LE (3; 2 before there were groups behind others, 1 before pack files)
//! key "q" name                     value version u8 (1) | cursor | tail | first of open segment | expired up to | counters (5)
//!                                        | hole count, first hole, distance to the next ...
//!                                        | step count, (upto, zigzag of milliseconds) ...        all varints
//! key "s" name NUL first u64 BE    value version u8 (1) | end | bytes | received first | received last
//!                                        | expires last + 1, or 0 when one message never expires
//!                                        | [smallest record | largest record | 1 to keep]          all varints
//! ```
//! `name` is the name of the queue's keyspace. Queue states and segments are written in the batch that changes them, so
//! they agree with the queue after any crash. `tail` is that of the moment of writing; the real one is read from the
//! last key of the queue. Messages after the last segment form the open segment, whose summary is made again at start.

use crate::{
    codec::{Malformed, put_varint, varint},
    queue_index::{QueueIndex, Segment},
    status::Gone,
};
use holdfast_types::{LogId, Offset, Priority, QueueId, UnixMillis};
use std::collections::BTreeSet;

/// The format of the store as a whole.
pub(crate) const FORMAT: u32 = 3;
/// The ones before, which are the same without groups that are written behind others, and without `pack_files/`.
pub(crate) const FORMATS_BEFORE: [u32; 2] = [2, 1];
const VERSION: u8 = 1;

/// The keyspace of a queue.
pub(crate) fn keyspace_name(queue: &QueueId) -> String {
    format!("q/{}/{}", queue.log, queue.priority.level())
}

/// The queue of a keyspace, if it is one of a queue.
pub(crate) fn queue_of(keyspace: &str) -> Option<QueueId> {
    let (log, level) = keyspace.strip_prefix("q/")?.rsplit_once('/')?;
    Some(QueueId { log: LogId::named(log), priority: Priority::new(level.parse().ok()?)? })
}

pub(crate) fn state_key(queue: &QueueId) -> Vec<u8> {
    [b"q", keyspace_name(queue).as_bytes()].concat()
}

pub(crate) fn segment_prefix(queue: &QueueId) -> Vec<u8> {
    [b"s", keyspace_name(queue).as_bytes(), b"\0"].concat()
}

pub(crate) fn segment_key(queue: &QueueId, first: Offset) -> Vec<u8> {
    let mut key = segment_prefix(queue);
    key.extend(first.0.to_be_bytes());
    key
}

pub(crate) fn encode_segment(segment: &Segment) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_varint(&mut out, segment.end.0);
    put_varint(&mut out, segment.bytes);
    put_varint(&mut out, segment.received_first.0);
    put_varint(&mut out, segment.received_last.0);
    put_varint(&mut out, segment.expires_last.map_or(0, |at| at.0.saturating_add(1)));
    put_varint(&mut out, segment.smallest);
    put_varint(&mut out, segment.largest);
    put_varint(&mut out, segment.keep.into());
    out
}

pub(crate) fn decode_segment(first: Offset, mut value: &[u8]) -> Result<Segment, Malformed> {
    check_version(&mut value)?;
    let mut number = || varint(&mut value);
    let segment = Segment {
        first,
        end: Offset(number()?),
        bytes: number()?,
        received_first: UnixMillis(number()?),
        received_last: UnixMillis(number()?),
        expires_last: number()?.checked_sub(1).map(UnixMillis),
        // What is not known bounds nothing, and is not dropped for others.
        smallest: 0,
        largest: u64::MAX,
        keep: true,
    };
    if value.is_empty() {
        return Ok(segment);
    }
    let mut number = || varint(&mut value);
    Ok(Segment { smallest: number()?, largest: number()?, keep: number()? != 0, ..segment })
}

/// What is written about a queue; the rest follows from its segments and its last key.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub(crate) cursor: Offset,
    pub(crate) tail: Offset,
    pub(crate) open_first: Offset,
    pub(crate) gone: Gone,
    pub(crate) holes: &'a BTreeSet<Offset>,
    pub(crate) queue: &'a QueueIndex,
}

pub(crate) fn encode_state(state: &State<'_>) -> Vec<u8> {
    let mut out = vec![VERSION];
    let Gone { dropped_oldest, dropped_newest, expired, purged, unreadable } = state.gone;
    let (cursor, upto) = (state.cursor, state.queue.expired_upto.0);
    let counters = [dropped_oldest, dropped_newest, expired, purged, unreadable];
    for number in [cursor.0, state.tail.0, state.open_first.0, upto].into_iter().chain(counters) {
        put_varint(&mut out, number);
    }
    let holes = state.holes.range(cursor..);
    put_varint(&mut out, holes.clone().count() as u64);
    let mut before = 0;
    for hole in holes {
        put_varint(&mut out, hole.0 - before);
        before = hole.0;
    }
    put_varint(&mut out, state.queue.steps.len() as u64);
    for (upto, millis) in &state.queue.steps {
        put_varint(&mut out, upto.0);
        put_varint(&mut out, ((millis << 1) ^ (millis >> 63)).cast_unsigned());
    }
    out
}

/// Fills in what a state remembers.
pub(crate) fn decode_state(queue: &mut QueueIndex, mut value: &[u8]) -> Result<(), Malformed> {
    check_version(&mut value)?;
    let mut number = || varint(&mut value);
    queue.cursor = Offset(number()?);
    queue.tail = Offset(number()?);
    queue.open = Segment::empty_at(Offset(number()?));
    queue.expired_upto = Offset(number()?);
    queue.gone = Gone {
        dropped_oldest: number()?,
        dropped_newest: number()?,
        expired: number()?,
        purged: number()?,
        unreadable: number()?,
    };
    let mut at = 0_u64;
    for _ in 0..number()? {
        at = at.saturating_add(number()?);
        queue.holes.insert(Offset(at));
    }
    for _ in 0..number()? {
        let upto = Offset(number()?);
        let zigzag = number()?;
        queue.steps.push((upto, (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()));
    }
    Ok(())
}

fn check_version(value: &mut &[u8]) -> Result<(), Malformed> {
    match value.split_first() {
        Some((&VERSION, rest)) => {
            *value = rest;
            Ok(())
        }
        _ => Err(Malformed("it has an unknown version")),
    }
}
