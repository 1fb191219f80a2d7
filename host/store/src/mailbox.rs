//! The bounded way to the committer.

use crate::{
    committer::Job,
    config::{GROUP_BYTES_MAX, GROUP_MESSAGES_MAX, MAILBOX_BYTES_MAX, MAILBOX_COMMITS_MAX},
    sync::lock,
};
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    /// Places kept for jobs that are still being made.
    reserved: usize,
    messages: usize,
    bytes: usize,
    closed: bool,
    /// The committer lingers until this many messages wait; 0 when it does not linger.
    wanted: usize,
}

impl Inner {
    fn is_full(&self) -> bool {
        self.jobs.len() + self.reserved >= MAILBOX_COMMITS_MAX || self.bytes >= MAILBOX_BYTES_MAX
    }
}

/// What the committer got out of the mailbox.
pub(crate) enum Drained {
    Jobs(Vec<Job>),
    Nothing,
    Closed,
}

/// Why a job was not taken; it comes back.
pub(crate) enum Refusal {
    Full,
    Closed,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Condvar,
    emptied: Condvar,
}

impl Mailbox {
    /// Keeps a place for one job, so that it is put into its form on disk only when it will be taken, and outside of
    /// the lock. The place must be filled with [`Self::fill`] or given up.
    pub(crate) fn reserve(&self) -> Result<(), Refusal> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Refusal::Closed);
        }
        if inner.is_full() {
            return Err(Refusal::Full);
        }
        inner.reserved += 1;
        Ok(())
    }

    /// Fills a place that was kept, or gives it up. The job comes back when the mailbox was closed meanwhile.
    pub(crate) fn fill(&self, job: Option<Job>) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        inner.reserved -= 1;
        match job {
            Some(job) if inner.closed => return Err(Box::new(job)),
            Some(job) => self.push(&mut inner, job),
            None => self.emptied.notify_one(),
        }
        Ok(())
    }

    /// Waits for room. Gives the job back when the mailbox was closed.
    pub(crate) fn send(&self, job: Job) -> Result<(), Box<Job>> {
        let mut inner = lock(&self.inner);
        while inner.is_full() && !inner.closed {
            inner = self.emptied.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return Err(Box::new(job));
        }
        self.push(&mut inner, job);
        Ok(())
    }

    fn push(&self, inner: &mut Inner, job: Job) {
        let was_empty = inner.jobs.is_empty();
        inner.messages += job.messages();
        inner.bytes += job.bytes();
        inner.jobs.push_back(job);
        // A committer that sleeps waits for the first job; one that lingers, for company of a certain size.
        let is_enough =
            inner.wanted > 0 && (inner.messages >= inner.wanted || inner.bytes >= GROUP_BYTES_MAX);
        if was_empty || is_enough {
            inner.wanted = 0;
            self.filled.notify_one();
        }
    }

    /// Waits up to `patience` for a first job, then up to `linger` until `company` messages wait, and takes one group.
    pub(crate) fn drain(&self, patience: Duration, linger: Duration, company: usize) -> Drained {
        let mut inner = lock(&self.inner);
        if inner.jobs.is_empty() && !inner.closed {
            let waited = self.filled.wait_timeout_while(inner, patience, |i| i.jobs.is_empty() && !i.closed);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.jobs.is_empty() {
            return if inner.closed { Drained::Closed } else { Drained::Nothing };
        }
        let company = company.min(GROUP_MESSAGES_MAX);
        let until = Instant::now() + linger;
        while !inner.closed && inner.messages < company && inner.bytes < GROUP_BYTES_MAX {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner.wanted = company;
            inner = self.filled.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.wanted = 0;
        let jobs = Self::take_group(&mut inner);
        self.emptied.notify_all();
        Drained::Jobs(jobs)
    }

    fn take_group(inner: &mut Inner) -> Vec<Job> {
        let mut group = Vec::with_capacity(inner.jobs.len().min(GROUP_MESSAGES_MAX));
        let (mut messages, mut bytes) = (0, 0);
        while let Some(job) = inner.jobs.front() {
            let fits =
                messages + job.messages() <= GROUP_MESSAGES_MAX && bytes + job.bytes() <= GROUP_BYTES_MAX;
            if !group.is_empty() && !fits {
                break;
            }
            messages += job.messages();
            bytes += job.bytes();
            group.extend(inner.jobs.pop_front());
        }
        inner.messages -= messages;
        inner.bytes -= bytes;
        group
    }

    /// Takes no more; what is in it is still drained.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}
