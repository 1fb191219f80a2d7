//! Two threads that take turns as the committer.
//!
//! Most of the time one of them waits for what comes, and does all that is to be done with it, while the other waits for
//! its turn. But while the disk syncs a light group, a few messages for one queue, nothing else of the store is in use.
//! So who took it lets the other one plan and write the next light group behind it, and both are synced at once: a
//! message that comes in the middle of an fsync does not wait for its end. Groups that are not light wait until nothing
//! is on its way any more, and have the store to themselves.
//!
//! What holds all the same: groups are recorded, and their commits completed, in the order in which they were planned.
//! When one is not recorded, neither is one that was written behind it.

use crate::{
    committer::{Committer, FLIGHTS_MAX},
    shared::Shared,
    sync::lock,
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How many threads there are: one for each group that may be on its way.
pub(crate) const THREADS: usize = FLIGHTS_MAX;

pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    /// Held by who waits for what comes and plans it.
    planning: Mutex<()>,
    committer: Mutex<Committer>,
    /// A flight has come back.
    landed: Condvar,
    /// Threads that have not ended.
    running: Mutex<usize>,
}

impl Pipeline {
    pub(crate) fn new(shared: Arc<Shared>, committer: Committer) -> Self {
        let (planning, landed) = Default::default();
        Self { shared, planning, committer: Mutex::new(committer), landed, running: Mutex::new(THREADS) }
    }

    /// Runs until the mailbox is closed and empty.
    pub(crate) fn run(&self) {
        let _end = End(self);
        while self.turn() {}
    }

    /// Waits for what comes and carries it out. False at the end.
    fn turn(&self) -> bool {
        let mut landing = Landing { pipeline: self, ticket: None };
        let planning = lock(&self.planning);
        let (patience, linger, company, left) = lock(&self.committer).waits();
        // The committer is not locked meanwhile: a flight may come back.
        let drained = self.shared.mailbox.drain(patience, linger, company, left);
        let mut committer = lock(&self.committer);
        if !committer.take(drained) {
            return false;
        }
        let Some(flight) = committer.take_off() else {
            self.when(committer, Committer::is_at_rest).turn();
            return true;
        };
        landing.ticket = Some(flight.ticket);
        drop((committer, planning));
        let synced = flight.sync();
        let is_next = |committer: &Committer| committer.is_next(&flight);
        self.when(lock(&self.committer), is_next).land(flight, synced);
        true
    }

    /// Waits until something holds.
    fn when<'a>(
        &self,
        committer: MutexGuard<'a, Committer>,
        holds: impl Fn(&Committer) -> bool,
    ) -> MutexGuard<'a, Committer> {
        let waited = self.landed.wait_while(committer, |committer| !holds(committer));
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the other that a flight has come back, whatever became of it: who waits for it must not wait for ever.
struct Landing<'a> {
    pipeline: &'a Pipeline,
    ticket: Option<u64>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.pipeline.committer).give_up(self.ticket);
        }
        self.pipeline.landed.notify_all();
    }
}

/// A thread ends; the last one leaves things in order.
struct End<'a>(&'a Pipeline);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut running = lock(&self.0.running);
        *running -= 1;
        if *running == 0 {
            lock(&self.0.committer).end();
        }
    }
}
