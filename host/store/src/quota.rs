//! Whether a commit finds room, and who has to go when it does not.
//!
//! Bytes are those of the records, counted per log and over all logs. A log with a `Block` append that does not fit
//! parks the whole commit; `DropOldest` passes the cursor over whole segments of the lowest priority first, but never
//! over messages of a higher priority than the one that comes; `DropNewest` leaves the new message out.

use crate::{
    committer::EncodedAppend,
    config::QUEUES_MAX,
    error::CommitError,
    message::Appended,
    plan::Plan,
    queue_index::{QueueIndex, Segment},
};
use holdfast_types::{LogId, Offset, QueueId, WhenFull};
use std::collections::BTreeMap;

/// The answer for a whole commit.
pub(crate) enum Room {
    /// It fits, or knows what to drop.
    Yes,
    /// It waits until this log has room.
    Wait(LogId),
    /// What it would have to drop is not on disk yet: it belongs into the next group.
    NextGroup,
    /// It will never fit.
    Never(CommitError),
}

/// Looks whether all appends of one commit can be planned.
pub(crate) fn room(plan: &mut Plan<'_>, appends: &[EncodedAppend]) -> Room {
    let mut blocking: BTreeMap<&LogId, u64> = BTreeMap::new();
    let (mut all, mut droppable) = (0, 0);
    for append in appends {
        let is_new =
            !plan.drafts.contains_key(&append.queue) && !plan.index.queues.contains_key(&append.queue);
        if is_new && plan.index.queues.len() + plan.drafts.len() >= QUEUES_MAX {
            return Room::Never(CommitError::TooManyQueues { queues_max: QUEUES_MAX });
        }
        let bytes = append.record.len() as u64;
        let bytes_max = plan.log(&append.queue.log).bytes_max;
        match append.when_full {
            WhenFull::Block if bytes > bytes_max => {
                return Room::Never(CommitError::LargerThanLog {
                    log: append.queue.log.clone(),
                    bytes,
                    bytes_max,
                });
            }
            WhenFull::Block => {
                *blocking.entry(&append.queue.log).or_default() += bytes;
                all += bytes;
            }
            WhenFull::DropOldest => droppable += bytes,
            WhenFull::DropNewest => {}
        }
    }
    for (log, bytes) in blocking {
        let fill = *plan.log(log);
        let alone = fill.bytes == 0 && plan.total.has_room(bytes);
        let fits = fill.has_room(bytes) && plan.total.has_room(all);
        if !alone && !fits {
            return Room::Wait(log.clone());
        }
    }
    // A drop-oldest append can only push out what is on disk. When the plan itself already fills the log, the rest of
    // the group waits for the next fsync rather than to overrun the bound.
    let over = |plan: &mut Plan<'_>, a: &EncodedAppend| {
        a.when_full == WhenFull::DropOldest
            && !(plan.log(&a.queue.log).has_room(droppable) && plan.total.has_room(droppable))
    };
    if plan.messages > 0 && appends.iter().any(|append| over(plan, append)) {
        Room::NextGroup
    } else {
        Room::Yes
    }
}

/// Plans one append of a commit that found room.
pub(crate) fn place(plan: &mut Plan<'_>, append: &EncodedAppend) -> Appended {
    let bytes = append.record.len() as u64;
    let fits = plan.log(&append.queue.log).has_room(bytes) && plan.total.has_room(bytes);
    let fits = fits
        || match append.when_full {
            WhenFull::Block => true,
            WhenFull::DropOldest => make_room(plan, &append.queue, bytes),
            WhenFull::DropNewest => false,
        };
    if fits {
        return Appended::Stored(plan.push(&append.queue, &append.record));
    }
    let draft = plan.draft(&append.queue);
    draft.gone.dropped_newest += 1;
    draft.state = true;
    Appended::Dropped
}

/// Passes over the oldest segments of the log until there is room. False when there is nothing left to pass over.
fn make_room(plan: &mut Plan<'_>, incoming: &QueueId, bytes: u64) -> bool {
    let victims: Vec<QueueId> = plan
        .index
        .log(&incoming.log)
        .rev()
        .map(|(id, _)| id.clone())
        .take_while(|id| id.priority >= incoming.priority)
        .collect();
    for victim in victims {
        let Some(queue) = plan.index.queues.get(&victim) else { continue };
        loop {
            if plan.log(&incoming.log).has_room(bytes) && plan.total.has_room(bytes) {
                return true;
            }
            let from = plan.draft(&victim).cursor;
            let Some(to) = oldest_end(queue, from) else { break };
            pass_over(plan, &victim, queue, to);
        }
    }
    plan.log(&incoming.log).has_room(bytes) && plan.total.has_room(bytes)
}

/// The end of the oldest segment on disk that has messages at or above `from`.
fn oldest_end(queue: &QueueIndex, from: Offset) -> Option<Offset> {
    queue.live().find(|segment| segment.end > from).map(|segment: &Segment| segment.end)
}

fn pass_over(plan: &mut Plan<'_>, victim: &QueueId, queue: &QueueIndex, to: Offset) {
    let draft = plan.draft(victim);
    let from = draft.cursor;
    draft.gone.dropped_oldest += queue.waiting_from(from) - queue.waiting_from(to);
    draft.pass(to);
    if to >= queue.tail {
        // The open segment was passed as far as it is on disk; what comes now starts a new one.
        draft.seal();
    }
    plan.free(&victim.log, queue.bytes_from(from).saturating_sub(queue.bytes_from(to)));
}
