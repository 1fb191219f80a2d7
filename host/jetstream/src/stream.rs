//! Telemetry as it is read: an offset is the sequence of a message of the stream, and the place of the event in it.
//!
//! So offsets grow, and have gaps between the messages of the stream. The sequence is counted from 0 here; the place has
//! twelve bits, which leaves room for a million million messages below 2^53, up to which every reader of JSON counts.

use crate::{cluster::Cluster, lanes::count, wire::decode_events};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use holdfast_hub::backend::{BackendError, Events, Span};

/// Bits of an offset that name the place within a message.
pub(crate) const PLACE_BITS: u32 = 12;

/// Messages that are asked for at once.
const AHEAD: usize = 16;

/// How far back the end of the stream is looked through for a number of events.
const BACK_MAX: u64 = 10_000;

fn failed(why: String) -> BackendError {
    BackendError::Failed(why)
}

fn offset(sequence: u64, place: usize) -> u64 {
    (sequence.saturating_sub(1) << PLACE_BITS) | place as u64
}

/// Where the stream begins and ends.
pub(crate) async fn span(cluster: &Cluster) -> Result<Span, BackendError> {
    let (first, last) = cluster.span(&cluster.events).await.map_err(failed)?;
    Ok(Span { first: offset(first, 0).min(offset(last + 1, 0)), next: offset(last + 1, 0) })
}

/// Messages of a range in their order; none where one is gone.
fn messages(
    cluster: &Cluster,
    range: std::ops::RangeInclusive<u64>,
) -> impl futures_util::Stream<Item = (u64, Result<Option<Bytes>, String>)> {
    let one = move |sequence| async move { (sequence, cluster.at(&cluster.events, sequence).await) };
    stream::iter(range).map(one).buffered(AHEAD)
}

/// Events from an offset on.
pub(crate) async fn events(
    cluster: &Cluster,
    from: u64,
    events_max: usize,
    bytes_max: usize,
) -> Result<Events, BackendError> {
    let (first, last) = cluster.span(&cluster.events).await.map_err(failed)?;
    let wanted = (from >> PLACE_BITS) + 1;
    let begin = wanted.max(first);
    let mut read = Events { events: Vec::new(), next: from.max(offset(first, 0)).min(offset(last + 1, 0)) };
    if begin > last {
        read.next = from;
        return Ok(read);
    }
    let mut messages = std::pin::pin!(messages(cluster, begin..=last));
    let mut bytes = 0;
    while let Some((sequence, found)) = messages.next().await {
        let found = match found {
            Ok(found) => found,
            // What was read so far is good; the next read tells.
            Err(_) if !read.events.is_empty() => return Ok(read),
            Err(why) => return Err(failed(why)),
        };
        let telemetry = found.map(decode_events);
        if let Some(None) = &telemetry {
            tracing::error!(
                sequence,
                "a message of the stream of telemetry is not understood and is passed over"
            );
        }
        for (place, event) in telemetry.flatten().into_iter().flatten().enumerate() {
            let at = offset(sequence, place);
            if at < from {
                continue;
            }
            if read.events.len() >= events_max || (bytes >= bytes_max && !read.events.is_empty()) {
                read.next = at;
                return Ok(read);
            }
            bytes += event.envelope.message.size_bytes();
            read.events.push((at, event));
        }
        read.next = offset(sequence + 1, 0);
        if read.events.len() >= events_max || bytes >= bytes_max {
            return Ok(read);
        }
    }
    Ok(read)
}

/// The offset behind which a number of events is left.
pub(crate) async fn before_end(cluster: &Cluster, wanted: u64) -> Result<u64, BackendError> {
    let (first, last) = cluster.span(&cluster.events).await.map_err(failed)?;
    let (mut left, mut at) = (wanted, last + 1);
    while left > 0 && at > first && last + 1 - at < BACK_MAX {
        at -= 1;
        let count = cluster.at(&cluster.events, at).await.map_err(failed)?.map_or(0, count);
        if count >= left {
            return Ok(offset(at, usize::try_from(count - left).unwrap_or_default()));
        }
        left -= count;
    }
    Ok(offset(at, 0))
}
