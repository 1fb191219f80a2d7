//! The bounded way to the committer.

use crate::{
    config::{GROUP_BYTES_MAX, GROUP_MESSAGES_MAX, MAILBOX_BYTES_MAX, MAILBOX_COMMITS_MAX},
    job::Job,
    sync::lock,
};
use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    messages: usize,
    senders_waiting: usize,
    closed: bool,
    /// The committer lingers until this many messages wait; 0 when it does not linger.
    wanted: usize,
}

/// What the committer got out of the mailbox.
pub(crate) enum Drained {
    Jobs(Vec<Job>),
    Nothing,
    Closed,
}

/// What the committer took out earlier and has still to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Why a job was not taken; it comes back.
pub(crate) enum Refusal {
    Full,
    Closed,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    /// Jobs that are in it or have a place kept.
    places: AtomicUsize,
    /// Bytes of the jobs that are in it.
    bytes: AtomicUsize,
    is_closed: AtomicBool,
    filled: Condvar,
    emptied: Condvar,
}

impl Mailbox {
    /// Keeps a place for one job, so that it is put into its form on disk only when it will be taken. Without the lock:
    /// many senders come at once. The place must be filled with [`Self::fill`].
    pub(crate) fn reserve(&self) -> Result<(), Refusal> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Refusal::Closed);
        }
        let before = self.places.fetch_add(1, Ordering::AcqRel);
        if before >= MAILBOX_COMMITS_MAX || self.bytes.load(Ordering::Acquire) >= MAILBOX_BYTES_MAX {
            self.places.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// Fills a place that was kept. The job comes back when the mailbox was closed meanwhile.
    pub(crate) fn fill(&self, job: Job) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Box::new(job));
        }
        self.push(&mut inner, job);
        Ok(())
    }

    /// Waits for room. Gives the job back when the mailbox was closed.
    pub(crate) fn send(&self, job: Job) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        while !inner.closed && self.is_full() {
            inner.senders_waiting += 1;
            inner = self.emptied.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.senders_waiting -= 1;
        }
        if inner.closed {
            return Err(Box::new(job));
        }
        self.places.fetch_add(1, Ordering::AcqRel);
        self.push(&mut inner, job);
        Ok(())
    }

    fn push(&self, inner: &mut Inner, job: Job) {
        let was_empty = inner.jobs.is_empty();
        inner.messages += job.messages();
        let bytes = self.bytes.fetch_add(job.bytes(), Ordering::AcqRel) + job.bytes();
        inner.jobs.push_back(job);
        // A committer that sleeps waits for the first job; one that lingers, for company of a certain size.
        let is_enough = inner.wanted > 0 && (inner.messages >= inner.wanted || bytes >= GROUP_BYTES_MAX);
        if was_empty || is_enough {
            inner.wanted = 0;
            self.filled.notify_one();
        }
    }

    /// Messages that wait now.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.inner).messages
    }

    /// Waits up to `patience` for a first job, then up to `linger` until `company` messages wait, and takes one group, of
    /// which `left` is what the last one left over: the committer never holds more than a group.
    pub(crate) fn drain(&self, patience: Duration, linger: Duration, company: usize, left: Left) -> Drained {
        let mut inner = lock(&self.inner);
        let company = company.min(GROUP_MESSAGES_MAX);
        if inner.jobs.is_empty() && !inner.closed {
            let waited = self.filled.wait_timeout_while(inner, patience, |i| i.jobs.is_empty() && !i.closed);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.jobs.is_empty() {
            return if inner.closed { Drained::Closed } else { Drained::Nothing };
        }
        let until = Instant::now() + linger;
        while !inner.closed
            && inner.messages < company
            && self.bytes.load(Ordering::Acquire) < GROUP_BYTES_MAX
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner.wanted = company;
            inner = self.filled.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.wanted = 0;
        let jobs = self.take_group(&mut inner, left);
        // A condition variable costs a system call even when nobody waits for it.
        if inner.senders_waiting > 0 {
            self.emptied.notify_all();
        }
        Drained::Jobs(jobs)
    }

    fn is_full(&self) -> bool {
        self.places.load(Ordering::Acquire) >= MAILBOX_COMMITS_MAX
            || self.bytes.load(Ordering::Acquire) >= MAILBOX_BYTES_MAX
    }

    fn take_group(&self, inner: &mut Inner, left: Left) -> Vec<Job> {
        let mut group = Vec::with_capacity(inner.jobs.len().min(GROUP_MESSAGES_MAX));
        let (mut messages, mut bytes) = (0, 0);
        while let Some(job) = inner.jobs.front() {
            let fits = left.messages + messages + job.messages() <= GROUP_MESSAGES_MAX
                && left.bytes + bytes + job.bytes() <= GROUP_BYTES_MAX;
            let is_first = group.is_empty() && left.messages == 0;
            if !is_first && !fits {
                break;
            }
            messages += job.messages();
            bytes += job.bytes();
            group.extend(inner.jobs.pop_front());
        }
        inner.messages -= messages;
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.places.fetch_sub(group.len(), Ordering::AcqRel);
        group
    }

    /// Takes no more; what is in it is still drained.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        lock(&self.inner).closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::CommitJob;

    fn job(bytes: usize) -> Job {
        let (appends, acks, dead, letters, documents) = Default::default();
        Job::Commit(CommitJob {
            appends,
            acks,
            chain: None,
            dead,
            letters,
            documents,
            bytes,
            done: Box::new(|_| {}),
        })
    }

    fn take(mailbox: &Mailbox, left: Left) -> usize {
        match mailbox.drain(Duration::ZERO, Duration::ZERO, 0, left) {
            Drained::Jobs(jobs) => jobs.len(),
            Drained::Nothing | Drained::Closed => 0,
        }
    }

    #[test]
    fn what_the_committer_has_not_done_yet_counts_and_keeps_the_mailbox_full() {
        let mailbox = Mailbox::default();
        for _ in 0..MAILBOX_COMMITS_MAX {
            mailbox.reserve().map_err(|_| "full").unwrap();
            mailbox.fill(job(10)).map_err(|_| "closed").unwrap();
        }
        assert!(mailbox.reserve().is_err());
        let whole = Left { messages: GROUP_MESSAGES_MAX, bytes: 0 };
        assert_eq!(take(&mailbox, whole), 0, "a whole group is in hand");
        assert!(mailbox.reserve().is_err(), "so the senders still have to wait");
        let all_bytes = Left { messages: 1, bytes: GROUP_BYTES_MAX };
        assert_eq!(take(&mailbox, all_bytes), 0);
        assert_eq!(take(&mailbox, Left { messages: GROUP_MESSAGES_MAX - 3, bytes: 0 }), 3);
        assert_eq!(take(&mailbox, Left::default()), GROUP_MESSAGES_MAX);
        assert!(mailbox.reserve().is_ok());
    }

    #[test]
    fn a_job_larger_than_a_group_passes_alone() {
        let mailbox = Mailbox::default();
        for _ in 0..2 {
            mailbox.reserve().map_err(|_| "full").unwrap();
            mailbox.fill(job(GROUP_BYTES_MAX + 1)).map_err(|_| "closed").unwrap();
        }
        assert_eq!(take(&mailbox, Left { messages: 1, bytes: 1 }), 0);
        assert_eq!((take(&mailbox, Left::default()), take(&mailbox, Left::default())), (1, 1));
    }
}
