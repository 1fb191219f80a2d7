//! What people do to queues: purge, requeue, delete. Carried out by the committer, between two groups.

use crate::{
    committer::Committer,
    dead_letter::queue_of_dead,
    error::StoreError,
    job::EncodedAppend,
    message::{Ack, Death, Entry},
    plan::Plan,
    queue_index::HOLES_MAX,
    quota::{Room, Shortage, Wants},
    reader,
    record::Encoded,
    shared::Shared,
    state::{segment_prefix, state_key},
    sync::{read, write},
};
use holdfast_types::{LogId, Offset, QueueId, UnixMillis, WhenFull};
use std::sync::{Arc, mpsc::SyncSender};

/// Which dead letters to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are there when the call is made.
    All,
    /// The one at this offset of the dead-letter queue.
    One(Offset),
}

/// Dead letters sent again in one batch.
const REQUEUE_MESSAGES: usize = 256;

pub(crate) type Answer = SyncSender<Result<u64, StoreError>>;

pub(crate) enum Control {
    Purge(Vec<QueueId>, Answer),
    Requeue(LogId, Which, Option<std::time::Duration>, Answer),
    DeleteLog(LogId, Answer),
}

impl Control {
    pub(crate) fn run(self, committer: &mut Committer) {
        let (result, answer) = match self {
            Self::Purge(queues, answer) => (purge(committer, &queues), answer),
            Self::Requeue(log, which, life, answer) => (requeue(committer, &log, which, life), answer),
            Self::DeleteLog(log, answer) => (delete(committer, &log), answer),
        };
        // Whoever asked may have stopped waiting; what was done stays done.
        let _ = answer.send(result);
    }

    pub(crate) fn refuse(self) {
        let (Self::Purge(_, answer) | Self::Requeue(_, _, _, answer) | Self::DeleteLog(_, answer)) = self;
        let _ = answer.send(Err(StoreError::Closed));
    }
}

fn purge(committer: &mut Committer, queues: &[QueueId]) -> Result<u64, StoreError> {
    let shared = committer.shared();
    let mut purged = 0;
    let prepared = {
        let index = read(&shared.index);
        let mut plan = Plan::new(&index, &shared);
        for id in queues {
            let Some(queue) = index.queues.get(id) else { continue };
            let waiting = queue.waiting();
            purged += waiting;
            let draft = plan.draft(id);
            draft.gone.purged += waiting;
            draft.seal();
            plan.pass(id, queue.tail);
        }
        plan.finish()
    };
    committer.commit(prepared)?;
    Ok(purged)
}

fn requeue(
    committer: &mut Committer,
    log: &LogId,
    which: Which,
    life: Option<std::time::Duration>,
) -> Result<u64, StoreError> {
    let shared = committer.shared();
    let dead = queue_of_dead(log);
    let Some((mut at, end)) = read(&shared.index).queues.get(&dead).map(|queue| (queue.cursor, queue.tail))
    else {
        return Ok(0);
    };
    if let Which::One(offset) = which {
        return requeue_some(committer, log, &dead, offset, 1, life).map(|(sent, _)| sent);
    }
    let mut sent = 0;
    while at < end {
        let left = usize::try_from(end.0 - at.0).unwrap_or(usize::MAX).min(REQUEUE_MESSAGES);
        let (some, next) = requeue_some(committer, log, &dead, at, left, life)?;
        sent += some;
        if next <= at {
            break;
        }
        at = next;
    }
    Ok(sent)
}

/// Sends dead letters from `from` on again, in one batch with their removal.
fn requeue_some(
    committer: &mut Committer,
    log: &LogId,
    dead: &QueueId,
    from: Offset,
    messages: usize,
    life: Option<std::time::Duration>,
) -> Result<(u64, Offset), StoreError> {
    let shared = committer.shared();
    let letters = reader::look(&shared, dead, from, messages)?;
    let exact = messages > 1 || letters.first().is_some_and(|(offset, ..)| *offset == from);
    let Some(last) = letters.last().map(|(offset, ..)| offset.next()).filter(|_| exact) else {
        return Ok((0, from));
    };
    let expires = life.map(|life| {
        UnixMillis(shared.clock.now().0.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX)))
    });
    let appends: Vec<EncodedAppend> = letters
        .iter()
        .filter_map(|(_, entry, death)| Some(revived(log, entry, death.as_ref()?, expires)))
        .collect();
    let sent = appends.len() as u64;
    let prepared = {
        let index = read(&shared.index);
        let mut plan = Plan::new(&index, &shared);
        let Some(queue) = index.queues.get(dead) else { return Ok((0, from)) };
        let is_first = from <= queue.cursor;
        let acks: Vec<Ack> =
            is_first.then(|| Ack { queue: dead.clone(), cursor: last }).into_iter().collect();
        let wants = Wants { appends: &appends, acks: &acks, letters: &[], gives_back: true };
        match wants.room(&mut plan) {
            Room::Yes => {}
            Room::Never(error) => return Err(error.into()),
            Room::Wait(short) => return Err(short.refusal(&mut plan, 0).into()),
            Room::NextGroup => return Err(Shortage::of_log(log).refusal(&mut plan, 0).into()),
        }
        wants.settle(&mut plan);
        if !is_first {
            let draft = plan.draft(dead);
            let mut holes = queue.holes.clone();
            holes.extend(letters.iter().map(|(offset, ..)| *offset));
            if holes.len() > HOLES_MAX {
                return Err(StoreError::TooManyHoles { queue: dead.clone(), max: HOLES_MAX });
            }
            draft.holes = Some(holes);
            draft.state = true;
        }
        plan.finish()
    };
    committer.commit(prepared)?;
    Ok((sent, last))
}

/// A dead letter as a message for the queue it came from.
fn revived(log: &LogId, entry: &Entry, death: &Death, expires: Option<UnixMillis>) -> EncodedAppend {
    let queue = QueueId { log: log.clone(), priority: death.priority };
    let when_full = WhenFull::Block;
    let record = Encoded::new(&Entry { expires, ..entry.clone() }, None, when_full);
    EncodedAppend { queue, record, when_full }
}

/// Deletes the queues of a log, their states and their dead letters.
fn delete(committer: &mut Committer, log: &LogId) -> Result<u64, StoreError> {
    let shared: Arc<Shared> = committer.shared();
    let dead = queue_of_dead(log);
    let queues: Vec<QueueId> = {
        let index = read(&shared.index);
        let dead = index.queues.contains_key(&dead).then_some(dead);
        index.log(log).map(|(id, _)| id.clone()).chain(dead).collect()
    };
    if queues.is_empty() {
        return Err(StoreError::UnknownLog { log: log.clone() });
    }
    let purged = purge(committer, &queues)?;
    let fault = crate::engine::fault("delete a log");
    shared.with_engine(|engine| {
        let mut batch = engine.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for queue in &queues {
            batch.remove(&engine.meta, state_key(queue));
            for guard in engine.meta.prefix(segment_prefix(queue)) {
                batch.remove(&engine.meta, guard.key().map_err(&fault)?);
            }
        }
        engine.write_journal(0, || batch.commit()).map_err(&fault)?;
        shared.note_committed(engine);
        queues.iter().try_for_each(|queue| engine.delete_queue(queue))
    })?;
    write(&shared.index).queues.retain(|id, _| !queues.contains(id));
    // A mark that still counts the deleted messages would be taken for a loss after a crash.
    shared.recovery.keep_marks(&shared);
    Ok(purged)
}
