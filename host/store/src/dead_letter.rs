//! Messages given up: kept in a log of their own, with where they come from and why.
//!
//! The dead letters of log `x` lie in the default queue of log `dead/x`, bounded like any log (a quarter of the quota
//! unless it has its own); the oldest go first. They do not expire by their route's time to live.
//!
//! A message becomes a dead letter once: what the cursor has not passed yet is taken out of its queue in the same commit,
//! so that nobody can get it, and give it up, again. A commit whose letter cannot be read or has no room is not recorded;
//! the message stays where it is.

use crate::{
    error::{CommitError, StoreError},
    job::EncodedAppend,
    message::{Appended, DeadLetter, Death, Entry, StoredDeadLetter},
    plan::Plan,
    queue_index::HOLES_MAX,
    reader,
    record::Encoded,
    shared::Shared,
    sync::read,
};
use holdfast_types::{LogId, Offset, Priority, QueueId, WhenFull};

pub(crate) const PREFIX: &str = "dead/";

/// The queue that holds the dead letters of a log.
pub(crate) fn queue_of_dead(log: &LogId) -> QueueId {
    QueueId { log: LogId::named(&format!("{PREFIX}{log}")), priority: Priority::DEFAULT }
}

/// The log whose dead letters this log holds.
pub(crate) fn log_of_living(log: &LogId) -> Option<LogId> {
    log.as_str().strip_prefix(PREFIX).map(LogId::named)
}

/// Whether this is a log of dead letters.
pub(crate) fn is_dead(log: &LogId) -> bool {
    log.as_str().starts_with(PREFIX)
}

/// A message on its way to the dead letters of its log.
pub(crate) struct Letter {
    queue: QueueId,
    offset: Offset,
    pub(crate) append: EncodedAppend,
}

impl Letter {
    /// Reads the message that is given up. None when it is not in its queue any more, by a purge or as a letter
    /// already.
    pub(crate) fn dig(
        shared: &Shared,
        plan: &Plan<'_>,
        letter: &DeadLetter,
    ) -> Result<Option<Self>, CommitError> {
        if !plan.is_waiting(&letter.queue, letter.offset) {
            return Ok(None);
        }
        let found = shared.with_engine(|engine| reader::one(engine, &letter.queue, letter.offset));
        let entry = found.map(|found| found.map(|(entry, _)| entry)).map_err(|error| error.to_string());
        let entry = entry.and_then(|found| found.ok_or_else(|| "it is not in its queue".to_owned()));
        let entry = entry.map_err(|reason| {
            let (queue, offset) = (&letter.queue, letter.offset);
            let reason = format!("message {offset} of {queue} cannot become a dead letter: {reason}");
            tracing::error!(%queue, %offset, reason, "a commit is refused");
            CommitError::Failed { reason: reason.into() }
        })?;
        let death = Death {
            priority: letter.queue.priority,
            offset: letter.offset,
            reason: letter.reason.clone(),
            attempts: letter.attempts,
        };
        let when_full = WhenFull::DropOldest;
        let record = Encoded::new(&Entry { expires: None, ..entry }, Some(&death), when_full);
        let append = EncodedAppend { queue: queue_of_dead(&letter.queue.log), record, when_full };
        Ok(Some(Self { queue: letter.queue.clone(), offset: letter.offset, append }))
    }

    /// Whether both are of one message.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.queue, self.offset) == (&other.queue, other.offset)
    }

    /// Whether the message is still there to be given up.
    pub(crate) fn is_waiting(&self, plan: &Plan<'_>) -> bool {
        plan.is_waiting(&self.queue, self.offset)
    }

    /// Takes the message out of its queue, when it has its place.
    pub(crate) fn leave(&self, plan: &mut Plan<'_>, placed: Appended) {
        let known = plan.index.queues.get(&self.queue);
        let draft = plan.draft(&self.queue);
        if placed == Appended::Dropped {
            let (queue, offset) = (&self.queue, self.offset);
            tracing::error!(%queue, %offset, "a dead letter is larger than its log may be, and is dropped");
            draft.gone.dropped_newest += 1;
            draft.state = true;
        }
        if self.offset >= draft.cursor {
            let holes = draft.holes.get_or_insert_with(|| known.map(|q| q.holes.clone()).unwrap_or_default());
            // Beyond the bound it may become a letter twice, after a crash; that is the milder fault.
            if holes.len() < HOLES_MAX {
                holes.insert(self.offset);
                draft.state = true;
            }
        }
    }
}

/// The first dead letters of a log from an offset on.
pub(crate) fn letters(
    shared: &Shared,
    log: &LogId,
    from: Option<Offset>,
    messages: usize,
) -> Result<Vec<StoredDeadLetter>, StoreError> {
    let queue = queue_of_dead(log);
    let found = reader::look(shared, &queue, from.unwrap_or_default(), messages)?;
    let letter = |(offset, entry, death): (Offset, _, Option<Death>)| {
        death.map(|death| StoredDeadLetter { offset, entry, death })
    };
    Ok(found.into_iter().filter_map(letter).collect())
}

/// How many wait.
pub(crate) fn count(shared: &Shared, log: &LogId) -> u64 {
    read(&shared.index).queues.get(&queue_of_dead(log)).map_or(0, |queue| queue.waiting())
}
