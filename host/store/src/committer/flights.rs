//! Light groups, which are on their way to the disk while the committer does something else (`pipeline.rs`).

use super::{Committer, LINGER_FROM, TICK};
use crate::{
    completions::Completion,
    config::Linger,
    error::CommitError,
    job::Job,
    message::Chain,
    pack_files::Ahead,
    plan::{End, Filed, Plan, Prepared},
    sync::{lock, read, write},
};
use holdfast_types::QueueId;
use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// Most messages of a light group. Where more come at once they share an fsync, which takes less of the processors and
/// of the disk for each; it is the few that gain by not waiting for the fsync of others.
const LIGHT_MESSAGES: usize = 8;

/// Most record bytes of a light group.
const LIGHT_BYTES: usize = 16 << 10;

/// Light groups on their way at once. Two fsyncs at once take little longer than one; a third would wait for them.
pub(crate) const FLIGHTS_MAX: usize = 2;

/// After so many groups in a row during which nothing else came, light ones stay in the journal: there is nobody who
/// could come behind them.
pub(super) const ALONE_MAX: u32 = 16;

/// A light group that is planned, and written unless that would have taken more than to write.
pub(crate) struct Flight {
    pub(crate) ticket: u64,
    prepared: Prepared,
    completions: Vec<Completion>,
    chains: Vec<Arc<Chain>>,
    ahead: Option<Ahead>,
    /// How often the database had been opened again when it was written. What was written before that is cut off.
    life: u64,
    started: Instant,
}

impl Flight {
    /// Waits until it is on disk, and says how long that took with the writing. Without any lock.
    pub(crate) fn sync(&self) -> io::Result<Duration> {
        self.ahead.as_ref().map_or(Ok(()), |ahead| ahead.file.sync_data())?;
        Ok(self.started.elapsed())
    }
}

/// What is known of a flight to those that come behind it.
pub(super) struct Aloft {
    ticket: u64,
    queue: QueueId,
    /// Where its queue will stand; `None` where nobody can come behind it.
    end: Option<End>,
    bytes: u64,
    /// As of its flight: when the database was opened again since, nobody can come behind it either.
    life: u64,
    /// One before it was not recorded.
    failed: Option<CommitError>,
}

impl Committer {
    /// Plans what came as a light group and writes it, behind one that is on its way if there is one. `None`, with
    /// nothing changed, if it is not light: it is to take the usual turn when nothing is on its way.
    pub(crate) fn take_off(&mut self) -> Option<Flight> {
        let queue = self.light_queue()?;
        let started = Instant::now();
        let shared = Arc::clone(&self.shared);
        let bytes = self.left_over().1 as u64;
        let mut completions = Vec::new();
        let prepared = {
            let index = read(&shared.index);
            let mut plan = Plan::new(&index, &shared);
            if plan.is_unknown(&queue) {
                return None;
            }
            if let Some(Aloft { end: Some(end), bytes, .. }) = self.aloft.back() {
                plan.follow(&queue, end, *bytes);
            }
            // So much that nothing has to go for it.
            let kept = plan.reserve;
            if !plan.total.fits(bytes + kept, 0) || !plan.log(&queue.log).fits(bytes, 0) {
                return None;
            }
            for job in std::mem::take(&mut self.left) {
                if let Job::Commit(job) = job {
                    completions.extend(self.add(&mut plan, job));
                }
            }
            plan.finish().for_pack_file()
        };
        let end = prepared.light().map(|(_, end)| end);
        let ahead = end.and_then(|_| self.write_ahead(&prepared));
        let life = lock(&shared.stats).reopened;
        self.tickets += 1;
        let ticket = self.tickets;
        let end = end.filter(|_| ahead.is_some());
        lock(&shared.stats).overlapped += u64::from(ahead.is_some() && !self.aloft.is_empty());
        self.aloft.push_back(Aloft { ticket, queue, end, bytes: prepared.bytes, life, failed: None });
        let chains = std::mem::take(&mut self.chains);
        Some(Flight { ticket, prepared, completions, chains, ahead, life, started })
    }

    /// The queue of what came, if that is light: a few messages for one queue, on a disk on which to wait for company
    /// gains nothing, while nothing else is to be done.
    fn light_queue(&self) -> Option<QueueId> {
        let (mean, life) = {
            let stats = lock(&self.shared.stats);
            (Duration::from_micros(stats.fsync_us_mean), stats.reopened)
        };
        let is_time = self.looked_around.elapsed() < TICK && self.parked.is_empty();
        let is_fast = self.shared.config.linger == Linger::Auto && !mean.is_zero() && mean < LINGER_FROM;
        let (messages, bytes) = self.left_over();
        if !is_time || !is_fast || self.alone >= ALONE_MAX || messages > LIGHT_MESSAGES || bytes > LIGHT_BYTES
        {
            return None;
        }
        let queue = self.left.first()?.only_queue()?;
        let is_alike = self.left.iter().all(|job| job.only_queue() == Some(queue));
        let can_follow = match self.aloft.back() {
            None => true,
            Some(before) => {
                let is_same = before.queue == *queue && before.life == life;
                self.aloft.len() < FLIGHTS_MAX && is_same && before.end.is_some() && before.failed.is_none()
            }
        };
        (is_alike && can_follow).then(|| queue.clone())
    }

    fn write_ahead(&self, prepared: &Prepared) -> Option<Ahead> {
        let shared = &self.shared;
        let slot = read(&shared.engine);
        let engine = slot.as_ref().filter(|_| shared.recovery.folder.check().is_ok())?;
        shared.recovery.watch_room(shared, engine, prepared.disk_bytes());
        let written = prepared.write_ahead(engine, !self.aloft.is_empty());
        // What has failed is written once more in its turn, and then that says why.
        written.ok().flatten()
    }

    /// Whether a flight is the next to come back.
    pub(crate) fn is_next(&self, flight: &Flight) -> bool {
        self.aloft.front().is_some_and(|first| first.ticket == flight.ticket)
    }

    /// After a panic, in which what was in hand may be half recorded: the database is closed, so that who writes next
    /// opens it again and cuts off what does not count, and nothing comes behind what was not recorded.
    pub(crate) fn give_up(&mut self, ticket: Option<u64>) {
        *write(&self.shared.engine) = None;
        let reason = "the thread that was to record it ended in a panic".into();
        let failed = CommitError::Failed { reason };
        self.aloft.retain(|flight| Some(flight.ticket) != ticket);
        self.aloft.iter_mut().for_each(|behind| behind.failed = Some(failed.clone()));
        self.chains.drain(..).for_each(|chain| chain.break_it());
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.aloft.is_empty()
    }

    /// Records a flight that is the next to come back, and completes its commits.
    pub(crate) fn land(&mut self, flight: Flight, synced: io::Result<Duration>) {
        let failed = self.aloft.pop_front().and_then(|own| own.failed);
        let Flight { prepared, completions, chains, ahead, life, .. } = flight;
        self.chains = chains;
        let recorded = match failed {
            // Its messages would come behind others that are not there.
            Some(error) => Err(error),
            None if prepared.messages == 0 => Ok(BTreeSet::new()),
            None => {
                let ahead = ahead.filter(|_| lock(&self.shared.stats).reopened == life);
                self.record(&prepared, ahead, synced).map(|()| self.take_in(prepared))
            }
        };
        if let Err(error) = &recorded {
            self.aloft.iter_mut().for_each(|behind| behind.failed = Some(error.clone()));
        }
        self.conclude(recorded, completions);
    }

    fn record(
        &self,
        prepared: &Prepared,
        ahead: Option<Ahead>,
        synced: io::Result<Duration>,
    ) -> Result<(), CommitError> {
        let Some(ahead) = ahead else { return self.write(prepared) };
        let failed = |error: io::Error| CommitError::Failed { reason: error.to_string().into() };
        let recorded = synced.map_err(failed).and_then(|took| self.try_record(prepared, ahead, took));
        self.or_once_more(recorded, prepared)
    }

    /// Tells the database of what is on disk.
    fn try_record(&self, prepared: &Prepared, ahead: Ahead, took: Duration) -> Result<(), CommitError> {
        let shared = &self.shared;
        let slot = read(&shared.engine);
        let (Some(engine), Some((queue, _))) = (slot.as_ref(), prepared.light()) else {
            return Err(CommitError::Failed { reason: "the database is closed".into() });
        };
        prepared.wait_for_flushes(engine)?;
        let filed = Filed::ahead(queue.clone(), ahead.places);
        let batch = prepared.batch(&read(&shared.index), engine, &filed)?;
        let told = engine.write_journal(0, || batch.commit());
        told.map_err(|error| CommitError::Failed { reason: crate::engine::reason_of(&error) })?;
        prepared.settle_ahead(engine, ahead.end, ahead.file);
        self.note_written(engine, prepared, true, took);
        Ok(())
    }
}
