//! Messages given up: kept in a log of their own, with where they come from and why.
//!
//! The dead letters of log `x` lie in the default queue of log `dead/x`, bounded like any log (a quarter of the quota
//! unless it has its own); the oldest go first. They do not expire by their route's time to live.

use crate::{
    committer::EncodedAppend,
    error::StoreError,
    message::{DeadLetter, Death, Entry, StoredDeadLetter},
    plan::Plan,
    quota::place,
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

/// Plans to copy a message to the dead letters of its log.
pub(crate) fn bury(shared: &Shared, plan: &mut Plan<'_>, letter: &DeadLetter) {
    let found = shared.with_engine(|engine| reader::one(engine, &letter.queue, letter.offset));
    let entry = match found {
        Ok(Some((entry, _))) => entry,
        Ok(None) => {
            tracing::warn!(queue = %letter.queue, offset = %letter.offset, "a dead letter is no longer in its queue");
            return;
        }
        Err(error) => {
            tracing::error!(queue = %letter.queue, offset = %letter.offset, %error, "a dead letter cannot be read");
            return;
        }
    };
    let death = Death {
        priority: letter.queue.priority,
        offset: letter.offset,
        reason: letter.reason.clone(),
        attempts: letter.attempts,
    };
    let record = Encoded::new(&Entry { expires: None, ..entry }, Some(&death));
    let queue = queue_of_dead(&letter.queue.log);
    place(plan, &EncodedAppend { queue, record, when_full: WhenFull::DropOldest });
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
