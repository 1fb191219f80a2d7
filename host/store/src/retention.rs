//! What is past its time goes, segment by segment, wherever in the queue it lies.
//!
//! A segment knows when its last message expires. When that is past, the segment is taken out of the index in a
//! committed batch, and then its tables are dropped; a long-lived message at the head does not keep short-lived ones
//! behind it on the disk. Single messages that expired are skipped and counted by readers.
//!
//! The wall clock is not believed when it jumps (`clock.rs`): what was stored before a step is judged by the time
//! before the step, so that a clock set from 1970 to today does not expire what nobody had a chance to deliver.

use crate::{
    clock::StepWatch,
    config::StoreConfig,
    plan::Plan,
    queue_index::{QueueIndex, Segment},
    shared::Shared,
    sync::write,
};
use holdfast_types::{Offset, QueueId, UnixMillis};

pub(crate) struct Retention {
    watch: StepWatch,
}

impl Retention {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self { watch: StepWatch::new(&*shared.clock) }
    }

    /// Remembers a step of the wall clock for all that is stored.
    pub(crate) fn watch_clock(&mut self, shared: &Shared) {
        let Some(millis) = self.watch.step(&*shared.clock) else { return };
        tracing::warn!(millis, "the wall clock was set; what is stored keeps the life it had left");
        write(&shared.index).queues.values_mut().for_each(|queue| queue.clock_stepped(millis));
    }

    /// Plans to drop segments that are past their time, and to write counters that are not on disk yet.
    pub(crate) fn plan(&mut self, shared: &Shared, plan: &mut Plan<'_>) {
        let now = shared.clock.now();
        let index = plan.index;
        for (id, queue) in &index.queues {
            if queue.dirty > 0 {
                plan.draft(id).state = true;
            }
            let dead: Vec<Segment> = queue
                .live()
                .filter(|segment| is_past(segment, queue, now, &shared.config))
                .copied()
                .collect();
            for segment in dead {
                drop_segment(plan, id, queue, &segment);
            }
        }
    }
}

fn is_past(segment: &Segment, queue: &QueueIndex, now: UnixMillis, config: &StoreConfig) -> bool {
    // The first message is judged by the most steps, the last by the fewest; both must agree.
    let first = queue.now_at(segment.first, now);
    let last = queue.now_at(Offset(segment.end.0.saturating_sub(1)), now);
    let now = first.min(last);
    let old = config.age_max.is_some_and(|age| {
        u128::from(now.0) > u128::from(segment.received_last.0).saturating_add(age.as_millis())
    });
    old || segment.expires_last.is_some_and(|expires| expires <= now)
}

fn drop_segment(plan: &mut Plan<'_>, id: &QueueId, queue: &QueueIndex, segment: &Segment) {
    let is_open = segment.first == queue.open.first;
    let draft = plan.draft(id);
    let from = segment.first.max(draft.cursor);
    let in_holes = queue.holes.range(from..segment.end).count() as u64;
    let counted = queue.expired_upto.clamp(from, segment.end.max(from)).0 - from.0;
    draft.gone.expired += (segment.end.0.saturating_sub(from.0)).saturating_sub(in_holes + counted);
    draft.state = true;
    let is_head =
        queue.live().next().is_some_and(|head| head.first == segment.first) || draft.cursor >= segment.first;
    if is_open {
        draft.seal();
    }
    if is_head {
        plan.pass(id, segment.end);
    } else {
        draft.dropped.push(*segment);
        plan.free(&id.log, segment.bytes);
    }
}
