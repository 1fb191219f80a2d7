//! What the committer is asked for, in the form in which it waits.

use crate::{
    completions::Done,
    control::Control,
    dead_letter::Letter,
    error::CommitError,
    message::{Ack, Chain, DeadLetter},
    plan::Plan,
    quota::{Shortage, Wants},
    record::Encoded,
    shared::Shared,
};
use bytes::Bytes;
use holdfast_types::{LogId, QueueId, WhenFull};
use std::sync::Arc;

pub(crate) struct EncodedAppend {
    pub(crate) queue: QueueId,
    pub(crate) record: Encoded,
    pub(crate) when_full: WhenFull,
}

impl EncodedAppend {
    /// What it takes of the quota.
    pub(crate) fn bytes(&self) -> u64 {
        self.record.len() as u64
    }
}

/// A commit in the form in which it waits.
pub(crate) struct CommitJob {
    pub(crate) appends: Vec<EncodedAppend>,
    pub(crate) acks: Vec<Ack>,
    pub(crate) chain: Option<Arc<Chain>>,
    /// Messages to give up that were not read yet.
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) documents: Vec<(Vec<u8>, Option<Bytes>)>,
    pub(crate) bytes: usize,
    pub(crate) done: Done,
}

impl CommitJob {
    /// Whether it must not be recorded before `other`.
    fn follows(&self, other: &Self) -> bool {
        matches!((&self.chain, &other.chain), (Some(own), Some(its)) if Arc::ptr_eq(own, its))
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.is_broken())
    }

    /// Whether it gives room back, or others that wait behind it do. It must not wait behind those whom it frees.
    fn gives_back(&self) -> bool {
        self.chain.is_some() || !self.acks.is_empty()
    }

    pub(crate) fn wants(&self) -> Wants<'_> {
        let Self { appends, letters, acks, .. } = self;
        Wants { appends, letters, acks, gives_back: self.gives_back() }
    }

    /// Reads what is to become a dead letter, and forgets what already is one.
    pub(crate) fn dig(&mut self, shared: &Shared, plan: &Plan<'_>) -> Result<(), CommitError> {
        for letter in std::mem::take(&mut self.dead) {
            let letter = Letter::dig(shared, plan, &letter)?;
            self.bytes += letter.as_ref().map_or(0, |letter| letter.append.record.len());
            let is_known = |one: &Letter| self.letters.iter().any(|other| other.is_same(one));
            self.letters.extend(letter.filter(|letter| !is_known(letter)));
        }
        self.letters.retain(|letter| letter.is_waiting(plan));
        Ok(())
    }

    /// Whether it has to let `earlier`, which waits for room, go first.
    pub(crate) fn waits_behind(&self, earlier: &Parked) -> bool {
        if self.follows(&earlier.job) {
            return true;
        }
        let goes_to = |log: &LogId| earlier.job.appends.iter().any(|append| append.queue.log == *log);
        let blocks = |append: &&EncodedAppend| append.when_full == WhenFull::Block;
        // What frees the very room that the earlier one waits for would wait for itself.
        let frees = |log: &LogId| {
            let waits_for_all = earlier.shortage.of_all && self.gives_back();
            waits_for_all || self.acks.iter().any(|ack| ack.queue.log == *log)
        };
        let mut logs = self.appends.iter().filter(blocks).map(|append| &append.queue.log);
        logs.any(|log| goes_to(log) && !frees(log))
    }

    /// Tells that it was not recorded, and that nothing after it in its chain may be.
    pub(crate) fn refuse(self, error: CommitError) {
        if let Some(chain) = &self.chain {
            chain.break_it();
        }
        (self.done)(Err(error));
    }
}

/// A commit that waits for room.
pub(crate) struct Parked {
    pub(crate) job: CommitJob,
    /// What it waits for; behind another one of its chain, what that one waits for.
    pub(crate) shortage: Shortage,
}

/// What the committer is asked for.
pub(crate) enum Job {
    Commit(CommitJob),
    Control(Control),
}

impl Job {
    pub(crate) fn messages(&self) -> usize {
        match self {
            Self::Commit(job) => job.appends.len().max(1),
            Self::Control(_) => 1,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Commit(job) => job.bytes,
            Self::Control(_) => 0,
        }
    }

    /// The queue that it appends to, if that is one and it does nothing else.
    pub(crate) fn only_queue(&self) -> Option<&QueueId> {
        let Self::Commit(CommitJob { appends, acks, dead, letters, documents, .. }) = self else {
            return None;
        };
        let queue = &appends.first()?.queue;
        let is_all = acks.is_empty() && dead.is_empty() && letters.is_empty() && documents.is_empty();
        (is_all && appends.iter().all(|append| append.queue == *queue)).then_some(queue)
    }
}
