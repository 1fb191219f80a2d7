//! Whether a commit finds room, and who has to go when it does not.
//!
//! Bytes are those of the records at or above the cursors, counted per log and over all logs, and never counted as less
//! than they are. The bounds hold at every moment for what is alive; on disk, space follows by whole segments.
//!
//! A commit's own acks count first: what they free is there for its own messages. A log with a `Block` append that does
//! not fit parks the whole commit. `DropNewest` leaves the new message out. `DropOldest` passes over whole segments:
//! when its own log is full, of that log, the lowest priority first; when all logs together are full, of any log whose
//! messages may all go so, dead letters first, then the lowest priority, then the oldest. It never passes over messages
//! of a higher priority than the one that comes. A dead letter makes room among dead letters alone, and waits otherwise.
//!
//! One segment of the room over all logs is kept for those who give some back: commits with acks, and turns. Without it
//! a module whose own messages fill everything could never record that it is done with one of them.

use crate::{
    config::QUEUES_MAX,
    dead_letter::{Letter, is_dead},
    error::CommitError,
    job::EncodedAppend,
    message::{Ack, Appended},
    plan::Plan,
    queue_index::{QueueIndex, Segment},
};
use holdfast_types::{LogId, Offset, QueueId, WhenFull};
use std::collections::BTreeMap;

/// The answer for a whole commit.
pub(crate) enum Room {
    /// It fits, or knows what to drop.
    Yes,
    /// It waits until there is room.
    Wait(Shortage),
    /// What it would have to drop is not on disk yet: it belongs into the next group.
    NextGroup,
    /// It will never fit.
    Never(CommitError),
}

/// Where there is no room.
#[derive(Clone, Debug)]
pub(crate) struct Shortage {
    /// The log that was to take a message.
    pub(crate) log: LogId,
    /// Whether it is all logs together that are full, and not this one.
    pub(crate) of_all: bool,
}

impl Shortage {
    pub(crate) fn of_log(log: &LogId) -> Self {
        Self { log: log.clone(), of_all: false }
    }

    fn of_all(log: &LogId) -> Self {
        Self { log: log.clone(), of_all: true }
    }

    /// The refusal of a commit that cannot wait either.
    pub(crate) fn refusal(&self, plan: &mut Plan<'_>, parked: usize) -> CommitError {
        let fill = if self.of_all { plan.total } else { *plan.log(&self.log) };
        CommitError::LogFull { log: self.log.clone(), bytes: fill.bytes, bytes_max: fill.bytes_max, parked }
    }
}

/// What one commit wants of the quota.
pub(crate) struct Wants<'a> {
    pub(crate) appends: &'a [EncodedAppend],
    pub(crate) letters: &'a [Letter],
    pub(crate) acks: &'a [Ack],
    /// Whether it may use the room that is kept for those who give some back.
    pub(crate) gives_back: bool,
}

impl Wants<'_> {
    /// Looks whether all of it can be planned.
    pub(crate) fn room(&self, plan: &mut Plan<'_>) -> Room {
        if self.fits_as_it_is(plan) {
            return Room::Yes;
        }
        if self.makes_too_many_queues(plan) {
            return Room::Never(CommitError::TooManyQueues { queues_max: QUEUES_MAX });
        }
        let must = self.bytes_of(|append| append.when_full == WhenFull::Block);
        let all_must: u64 = must.values().sum();
        if let Some(error) = self.breaks_a_bound(plan, &must, all_must) {
            return Room::Never(error);
        }
        let (freed, all_freed) = self.freed(plan);
        let freed = |log: &LogId| freed.get(log).copied().unwrap_or(0);
        for (log, bytes) in &must {
            if !plan.log(log).fits(*bytes, freed(log)) {
                return Room::Wait(Shortage::of_log(log));
            }
        }
        let (all, kept) = (plan.total, self.kept(plan));
        let first = must.keys().next();
        if let Some(log) = first.filter(|_| !all.fits(all_must + kept, all_freed)) {
            return Room::Wait(Shortage::of_all(log));
        }
        // Only what is on disk can be pushed out. When the plan itself already fills the log, the rest of the group
        // waits for the next fsync rather than to overrun the bound.
        let mut may = self.bytes_of(|append| append.when_full == WhenFull::DropOldest);
        let all_max = plan.config.quota_bytes.saturating_sub(kept);
        let (mut letters, mut letter) = (0, None);
        for append in self.letters.iter().map(|letter| &letter.append) {
            // One that can never be kept is not waited for.
            if append.bytes() <= plan.log(&append.queue.log).bytes_max.min(all_max) {
                *may.entry(&append.queue.log).or_default() += append.bytes();
                letters += append.bytes();
                letter = Some(append);
            }
        }
        let all_may: u64 = may.values().sum();
        let is_over = !all.fits(all_must + all_may + kept, all_freed)
            || may.iter().any(|(log, bytes)| {
                let bytes = bytes + must.get(log).copied().unwrap_or(0);
                !plan.log(log).fits(bytes, freed(log))
            });
        if is_over && plan.messages > 0 && all_may > 0 {
            return Room::NextGroup;
        }
        let lacking = all.lacks(all_must + letters + kept, all_freed);
        match letter.map(|letter| (letter, search(plan, &letter.queue, 0, lacking, self.acks))) {
            Some((letter, None)) => Room::Wait(Shortage::of_all(&letter.queue.log)),
            Some((_, Some(_))) | None => Room::Yes,
        }
    }

    /// Plans acks, dead letters and appends of a commit that found room, in this order.
    pub(crate) fn settle(&self, plan: &mut Plan<'_>) -> Vec<Appended> {
        for ack in self.acks {
            plan.pass(&ack.queue, ack.cursor);
        }
        for append in self.appends.iter().filter(|append| append.when_full == WhenFull::Block) {
            plan.charge(&append.queue.log, append.bytes());
        }
        for letter in self.letters {
            let placed = self.place(plan, &letter.append);
            letter.leave(plan, placed);
        }
        self.appends.iter().map(|append| self.place(plan, append)).collect()
    }

    fn place(&self, plan: &mut Plan<'_>, append: &EncodedAppend) -> Appended {
        let (log, bytes) = (&append.queue.log, append.bytes());
        let kept = self.kept(plan);
        let fits = match append.when_full {
            // Charged before anything else was placed.
            WhenFull::Block => return Appended::Stored(plan.push(&append.queue, &append.record)),
            WhenFull::DropNewest => plan.log(log).fits(bytes, 0) && plan.total.fits(bytes + kept, 0),
            WhenFull::DropOldest => {
                let of_log = plan.log(log).lacks(bytes, 0);
                let of_all = plan.total.lacks(bytes + kept, 0);
                // A message that is larger than the bound pushes nothing out: it could not stay all the same.
                let is_hopeless = plan.log(log).bytes_max < bytes || plan.total.bytes_max < bytes + kept;
                let victims =
                    if is_hopeless { None } else { search(plan, &append.queue, of_log, of_all, &[]) };
                victims.as_ref().into_iter().flatten().for_each(|(victim, to)| pass_over(plan, victim, *to));
                victims.is_some()
            }
        };
        if fits {
            plan.charge(log, bytes);
            return Appended::Stored(plan.push(&append.queue, &append.record));
        }
        let draft = plan.draft(&append.queue);
        draft.gone.dropped_newest += 1;
        draft.state = true;
        Appended::Dropped
    }

    /// The usual case, looked at without counting for each log: so much room is left that all of it fits, whatever is
    /// freed.
    fn fits_as_it_is(&self, plan: &mut Plan<'_>) -> bool {
        let all: u64 = self.appends.iter().map(EncodedAppend::bytes).sum();
        let kept = self.kept(plan);
        self.letters.is_empty()
            && plan.total.fits(all + kept, 0)
            && self.appends.iter().all(|a| plan.log(&a.queue.log).fits(all, 0) && !plan.is_unknown(&a.queue))
    }

    fn kept(&self, plan: &Plan<'_>) -> u64 {
        if self.gives_back { 0 } else { plan.reserve }
    }

    fn makes_too_many_queues(&self, plan: &Plan<'_>) -> bool {
        let letters = self.letters.iter().map(|letter| &letter.append);
        let mut unknown: Vec<&QueueId> =
            self.appends.iter().chain(letters).map(|a| &a.queue).filter(|q| plan.is_unknown(q)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        !unknown.is_empty() && plan.queues() + unknown.len() > QUEUES_MAX
    }

    fn bytes_of(&self, wanted: impl Fn(&EncodedAppend) -> bool) -> BTreeMap<&LogId, u64> {
        let mut bytes = BTreeMap::new();
        for append in self.appends.iter().filter(|append| wanted(append)) {
            *bytes.entry(&append.queue.log).or_default() += append.bytes();
        }
        bytes
    }

    /// Whether what must be stored is more than a log, or all logs, could ever hold. A disk that is full now may have
    /// room later and is no such bound.
    fn breaks_a_bound(
        &self,
        plan: &mut Plan<'_>,
        must: &BTreeMap<&LogId, u64>,
        all: u64,
    ) -> Option<CommitError> {
        let all_max = plan.config.quota_bytes.saturating_sub(self.kept(plan));
        let too_much = |log: &LogId, bytes, bytes_max| {
            (bytes > bytes_max).then(|| CommitError::LargerThanLog { log: log.clone(), bytes, bytes_max })
        };
        let single = must.iter().find_map(|(log, bytes)| {
            let bytes_max = plan.log(log).bytes_max.min(all_max);
            too_much(log, *bytes, bytes_max)
        });
        single.or_else(|| must.keys().next().and_then(|log| too_much(log, all, all_max)))
    }

    /// What the acks free, for each log and together.
    fn freed(&self, plan: &Plan<'_>) -> (BTreeMap<&LogId, u64>, u64) {
        let (mut logs, mut all) = (BTreeMap::new(), 0);
        let mut cursors: BTreeMap<&QueueId, Offset> = BTreeMap::new();
        for ack in self.acks {
            let cursor = cursors.entry(&ack.queue).or_default();
            *cursor = ack.cursor.max(*cursor);
        }
        for (queue, cursor) in cursors {
            let freed = plan.freed_by(queue, cursor);
            *logs.entry(&queue.log).or_default() += freed;
            all += freed;
        }
        (logs, all)
    }
}

/// Finds whole segments on disk to pass over so that so many bytes of the log and of all logs get free. None when there
/// are not enough; then nothing has to go in vain. What `acks` pass is gone already.
fn search(
    plan: &Plan<'_>,
    incoming: &QueueId,
    mut of_log: u64,
    mut of_all: u64,
    acks: &[Ack],
) -> Option<BTreeMap<QueueId, Offset>> {
    let mut found = BTreeMap::new();
    let cursor = |found: &BTreeMap<QueueId, Offset>, id: &QueueId| {
        let acked =
            acks.iter().filter(|ack| ack.queue == *id).map(|ack| ack.cursor).max().unwrap_or_default();
        found.get(id).copied().unwrap_or_default().max(plan.cursor(id)).max(acked)
    };
    let front = |found: &BTreeMap<QueueId, Offset>, id: &QueueId, queue: &QueueIndex| {
        let from = cursor(found, id);
        queue.live().find(|segment| segment.end > from).copied()
    };
    while of_log > 0 || of_all > 0 {
        let queues = plan.index.queues.iter().filter(|(id, _)| id.priority >= incoming.priority);
        let candidates = queues.filter_map(|(id, queue)| Some((id, front(&found, id, queue)?)));
        let allowed = candidates.filter(|(id, segment)| {
            let own = id.log == incoming.log;
            own || (of_log == 0 && (is_dead(&id.log) || (!segment.keep && !is_dead(&incoming.log))))
        });
        let order = |(id, segment): &(&QueueId, Segment)| {
            let lowest_first = std::cmp::Reverse(id.priority);
            (!is_dead(&id.log), segment.keep, lowest_first, segment.received_first)
        };
        let (id, segment) = allowed.min_by_key(order)?;
        let before = plan.freed_by(id, cursor(&found, id));
        let freed = plan.freed_by(id, segment.end) - before;
        of_log = of_log.saturating_sub(if id.log == incoming.log { freed } else { 0 });
        of_all = of_all.saturating_sub(freed);
        found.insert(id.clone(), segment.end);
    }
    Some(found)
}

fn pass_over(plan: &mut Plan<'_>, victim: &QueueId, to: Offset) {
    let Some(queue) = plan.index.queues.get(victim) else { return };
    let from = plan.cursor(victim);
    let draft = plan.draft(victim);
    draft.gone.dropped_oldest += queue.waiting_from(from).saturating_sub(queue.waiting_from(to));
    if to >= queue.tail {
        // The open segment was passed as far as it is on disk; what comes now starts a new one.
        draft.seal();
    }
    plan.pass(victim, to);
}
