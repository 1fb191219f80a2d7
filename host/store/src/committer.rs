//! The one who writes.
//!
//! It takes what is queued (one group), plans it, writes it as one batch with one fsync, takes it into the index, and
//! only then hands the commits on to be completed. An acknowledgement can therefore never run ahead of the disk.
//!
//! Two threads take turns at it (`pipeline.rs`): while the disk syncs a light group of one, the other may plan and write
//! the next light one behind it. They come back in the order in which they went.

mod flights;

use crate::{
    completions::{Completion, Completions},
    config::{GROUP_MESSAGES_MAX, Linger, PARKED_BYTES_MAX, PARKED_COMMITS_MAX},
    control::Control,
    engine::Engine,
    error::CommitError,
    housekeeping::Work,
    job::{CommitJob, Job, Parked},
    mailbox::{Drained, Left},
    message::{Chain, Committed},
    plan::{Plan, Prepared},
    quota::{Room, Shortage},
    shared::Shared,
    sync::{lock, read, write},
};
pub(crate) use flights::FLIGHTS_MAX;
use flights::{ALONE_MAX, Aloft};
use holdfast_types::LogId;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often the committer looks around when nothing comes: counters that need not be written at once, clock, time to
/// live, commits that wait for room.
const TICK: Duration = Duration::from_millis(200);

/// Mean fsync from which automatic lingering pays: below, waking the senders takes as long as the fsync, and to write
/// one half of them while the other wakes up is better than to wait for all.
const LINGER_FROM: Duration = Duration::from_millis(2);

/// Longest automatic lingering: on a disk that is slower than this times four, waiting longer would only add to the
/// time that a sender waits.
const LINGER_MAX: Duration = Duration::from_millis(2);

/// Between two openings of a database for those who wait for room: it writes its tables after each, and must get to it.
const WAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Between two times that the journals are let go for want of room: the database is closed and opened for it.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Committer {
    shared: Arc<Shared>,
    completions: Completions,
    /// Commits that wait for room, in the order in which they came.
    parked: Vec<Parked>,
    /// The chains that the group in hand carries on.
    chains: Vec<Arc<Chain>>,
    /// What did not fit into the last group; the next one is so much smaller.
    left: Vec<Job>,
    /// Something was freed since the parked commits were looked at.
    freed: bool,
    /// Messages that the last group brought.
    last_group: usize,
    /// Messages that waited when the last group was on disk and nobody had been told of it yet.
    waited: usize,
    looked_around: Instant,
    /// When the database was opened again for those who wait for room.
    woken: Option<Instant>,
    /// When the journals were last emptied for want of room.
    emptied: Option<Instant>,
    retention: crate::retention::Retention,
    /// Light groups that are on their way, in the order in which they will come back.
    aloft: VecDeque<Aloft>,
    tickets: u64,
    /// Groups in a row during which nothing else came.
    alone: u32,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, completions: Completions) -> Self {
        let retention = crate::retention::Retention::new(&shared);
        Self {
            last_group: 0,
            waited: 0,
            shared,
            completions,
            parked: Vec::new(),
            chains: Vec::new(),
            left: Vec::new(),
            freed: false,
            looked_around: Instant::now(),
            woken: None,
            emptied: None,
            retention,
            aloft: VecDeque::new(),
            tickets: 0,
            alone: ALONE_MAX,
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// How long to wait for what, and what is left over of the last group.
    pub(crate) fn waits(&self) -> (Duration, Duration, usize, Left) {
        let (patience, linger, company) = self.patience();
        let (messages, bytes) = self.left_over();
        (patience, linger, company, Left { messages, bytes })
    }

    fn left_over(&self) -> (usize, usize) {
        self.left.iter().fold((0, 0), |(m, b), job| (m + job.messages(), b + job.bytes()))
    }

    /// Takes what came. False when there is nothing and nothing more will come.
    pub(crate) fn take(&mut self, drained: Drained) -> bool {
        match drained {
            Drained::Jobs(jobs) => {
                self.left.extend(jobs);
                self.last_group = self.left.iter().map(Job::messages).sum();
                true
            }
            Drained::Nothing => true,
            Drained::Closed => !self.left.is_empty(),
        }
    }

    /// When the mailbox is closed and empty.
    pub(crate) fn end(&mut self) {
        for parked in self.parked.drain(..) {
            parked.job.refuse(CommitError::Closed);
        }
        self.shared.write_down_state();
    }

    /// How long to wait for a first job, and then how long for how much company.
    ///
    /// Who was just completed tends to come back at once, but not all at the same moment: a group that goes without
    /// the late half makes that half wait for a whole fsync more. So automatic lingering lasts until as many messages
    /// have come as the last group had, besides those that waited already when it was on disk, but no longer than a
    /// quarter of an fsync: not to count those would let two halves take turns for ever. A single sender is there as
    /// soon as it has come, and on a fast disk the late half simply is the next group.
    fn patience(&self) -> (Duration, Duration, usize) {
        if !self.left.is_empty() || (self.freed && !self.parked.is_empty()) {
            return (Duration::ZERO, Duration::ZERO, 0);
        }
        let patience = TICK.saturating_sub(self.looked_around.elapsed());
        match self.shared.config.linger {
            Linger::Fixed(time) => (patience, time, GROUP_MESSAGES_MAX),
            Linger::Auto => (patience, self.lingering(), self.waited + self.last_group),
        }
    }

    /// How long to wait for company as long as the disk is as slow as it is; nothing on a fast one.
    fn lingering(&self) -> Duration {
        let mean = Duration::from_micros(lock(&self.shared.stats).fsync_us_mean);
        match self.shared.config.linger {
            Linger::Fixed(_) => Duration::ZERO,
            Linger::Auto if mean < LINGER_FROM => Duration::ZERO,
            Linger::Auto => (mean / 4).min(LINGER_MAX),
        }
    }

    /// One group: plan, write, take in, complete. Only when nothing is on its way.
    pub(crate) fn turn(&mut self) {
        let shared = Arc::clone(&self.shared);
        let tick = self.looked_around.elapsed() >= TICK;
        if self.left.is_empty() && self.parked.is_empty() && !tick {
            return;
        }
        if tick {
            self.looked_around = Instant::now();
            self.freed = true;
            self.retention.watch_clock(&shared);
            self.wake_a_failed_database();
            self.make_room();
        }
        let mut completions = Vec::new();
        let mut control = None;
        let prepared = {
            let index = read(&shared.index);
            let mut plan = Plan::new(&index, &shared);
            if tick {
                self.retention.plan(&shared, &mut plan);
            }
            self.fill_parked(&mut plan, &mut completions);
            self.fill(&mut plan, &mut completions, &mut control);
            plan.finish()
        };
        // Before anybody is told of this group: who is told may look.
        lock(&shared.stats).parked = self.parked.len() as u64;
        self.carry_out(prepared, completions);
        if let Some(control) = control {
            control.run(self);
        }
    }

    /// A database that failed in the background is opened again by the next commit. When all commits wait for room,
    /// which a failed database cannot give back, there is no next one; then it is done here.
    fn wake_a_failed_database(&mut self) {
        let alive = |engine: &Engine| {
            engine.db.persist(fjall::PersistMode::Buffer).map_err(crate::engine::fault("write"))
        };
        let again = self.woken.is_none_or(|at| at.elapsed() >= WAKE_PATIENCE);
        if self.parked.is_empty() || !again || self.shared.with_engine(alive).is_ok() {
            return;
        }
        self.woken = Some(Instant::now());
        if let Err(error) = self.shared.reopen() {
            tracing::warn!(%error, "the database failed while commits wait for room; it is tried again");
        }
    }

    /// On a disk that comes short of room the journals are let go, at a pace at which that is worth it.
    fn make_room(&mut self) {
        let again = self.emptied.is_none_or(|at| at.elapsed() >= EMPTY_PATIENCE);
        if !again || !self.shared.recovery.wants_journals_emptied(&self.shared) {
            return;
        }
        self.emptied = Some(Instant::now());
        match self.shared.empty_journals() {
            Ok(()) => self.shared.recovery.lift(&self.shared),
            Err(error) => tracing::warn!(%error, "the journals could not be let go; it is tried again"),
        }
    }

    /// Looks at parked commits again, oldest first; one that still waits holds back those behind it for the same log.
    /// Those whose chain was broken meanwhile go.
    fn fill_parked(&mut self, plan: &mut Plan<'_>, completions: &mut Vec<Completion>) {
        let is_broken = |parked: &Parked| parked.job.is_broken();
        if !std::mem::take(&mut self.freed) && !self.parked.iter().any(is_broken) {
            return;
        }
        for Parked { mut job, shortage } in std::mem::take(&mut self.parked) {
            let behind = self.parked.iter().any(|earlier| job.waits_behind(earlier));
            if behind && !job.is_broken() {
                self.parked.push(Parked { job, shortage });
                continue;
            }
            match self.room(plan, &mut job) {
                Room::Yes => completions.extend(self.add(plan, job)),
                Room::Never(error) => job.refuse(error),
                Room::Wait(shortage) => self.parked.push(Parked { job, shortage }),
                Room::NextGroup => {
                    self.freed = true;
                    self.parked.push(Parked { job, shortage });
                }
            }
        }
    }

    /// Plans what came in, up to the first thing that must wait for the next group.
    fn fill(
        &mut self,
        plan: &mut Plan<'_>,
        completions: &mut Vec<Completion>,
        control: &mut Option<Control>,
    ) {
        let mut jobs = std::mem::take(&mut self.left).into_iter();
        for job in jobs.by_ref() {
            let mut job = match job {
                Job::Commit(job) => job,
                Job::Control(next) => {
                    *control = Some(next);
                    break;
                }
            };
            let behind = self.parked.iter().find(|earlier| job.waits_behind(earlier));
            let answer = match behind {
                Some(earlier) if !job.is_broken() => Room::Wait(earlier.shortage.clone()),
                _ => self.room(plan, &mut job),
            };
            match answer {
                Room::Yes => completions.extend(self.add(plan, job)),
                Room::Never(error) => job.refuse(error),
                Room::Wait(shortage) => self.park(plan, job, shortage),
                Room::NextGroup => {
                    self.left.push(Job::Commit(job));
                    break;
                }
            }
        }
        self.left.extend(jobs);
    }

    fn room(&self, plan: &mut Plan<'_>, job: &mut CommitJob) -> Room {
        if job.is_broken() {
            return Room::Never(CommitError::OutOfTurn);
        }
        match job.dig(&self.shared, plan) {
            Ok(()) => job.wants().room(plan),
            Err(error) => Room::Never(error),
        }
    }

    fn park(&mut self, plan: &mut Plan<'_>, job: CommitJob, shortage: Shortage) {
        let bytes: usize = self.parked.iter().map(|parked| parked.job.bytes).sum();
        if self.parked.len() < PARKED_COMMITS_MAX && bytes + job.bytes <= PARKED_BYTES_MAX {
            self.parked.push(Parked { job, shortage });
            return;
        }
        job.refuse(shortage.refusal(plan, self.parked.len()));
    }

    /// Plans one commit that has room.
    fn add(&mut self, plan: &mut Plan<'_>, job: CommitJob) -> Option<Completion> {
        // It may have been broken since the room was looked for.
        if job.is_broken() {
            job.refuse(CommitError::OutOfTurn);
            return None;
        }
        self.chains.extend(job.chain.clone());
        plan.commits += 1;
        let appends = job.wants().settle(plan);
        self.freed |= !job.acks.is_empty();
        plan.documents.extend(job.documents);
        Some((job.done, Committed { appends }))
    }

    /// Writes a plan, takes it in, and hands its commits on to be completed.
    fn carry_out(&mut self, prepared: Prepared, completions: Vec<Completion>) {
        let recorded = self.write_and_apply(prepared);
        self.conclude(recorded, completions);
    }

    /// Completes commits of which it is known what became.
    fn conclude(&mut self, recorded: Result<BTreeSet<LogId>, CommitError>, completions: Vec<Completion>) {
        let (result, grown) = match recorded {
            Ok(grown) => (Ok(()), grown),
            Err(error) => (Err(error), BTreeSet::new()),
        };
        let chains = std::mem::take(&mut self.chains);
        if result.is_err() {
            // Before the next group is planned: nothing of it may follow from what was just lost.
            chains.iter().for_each(|chain| chain.break_it());
            lock(&self.shared.stats).failed += completions.len() as u64;
        }
        self.waited = self.shared.mailbox.waiting();
        let is_alone = self.waited == 0 && self.aloft.is_empty();
        self.alone = if is_alone { self.alone.saturating_add(1) } else { 0 };
        if !completions.is_empty() {
            self.completions.complete(completions, result, self.lingering() > Duration::ZERO);
        }
        // Senders first: they wait for nothing but this.
        self.wake_readers(&grown);
    }

    /// Writes a plan and takes it in.
    pub(crate) fn commit(&mut self, prepared: Prepared) -> Result<(), CommitError> {
        let grown = self.write_and_apply(prepared)?;
        self.wake_readers(&grown);
        Ok(())
    }

    fn wake_readers(&self, grown: &BTreeSet<LogId>) {
        grown.iter().for_each(|log| self.shared.wake(log));
    }

    /// Writes a plan and takes it in; gives the logs that grew, whose readers are to be woken.
    fn write_and_apply(&mut self, prepared: Prepared) -> Result<BTreeSet<LogId>, CommitError> {
        if prepared.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.write(&prepared)?;
        Ok(self.take_in(prepared))
    }

    /// Takes what is on disk into the index; gives the logs that grew.
    fn take_in(&mut self, prepared: Prepared) -> BTreeSet<LogId> {
        let (grown, shrunk) = prepared.apply(&mut write(&self.shared.index));
        self.freed |= !shrunk.is_empty();
        for queue in shrunk {
            self.shared.housekeeping.ask(Work::Drop(queue));
        }
        grown
    }

    /// One batch, one fsync. When the database fails it is closed, repaired and opened again, and the batch, of which
    /// recovery has removed every trace, is tried once more.
    fn write(&self, prepared: &Prepared) -> Result<(), CommitError> {
        self.shared.recovery.folder.check()?;
        let written = self.try_write(prepared);
        self.or_once_more(written, prepared)
    }

    fn or_once_more(&self, written: Result<(), CommitError>, prepared: &Prepared) -> Result<(), CommitError> {
        let Err(CommitError::Failed { reason }) = &written else { return written };
        tracing::error!(%reason, "a group commit failed; the database is closed, repaired and opened again");
        self.shared.reopen()?;
        self.try_write(prepared)
    }

    fn try_write(&self, prepared: &Prepared) -> Result<(), CommitError> {
        let shared = &self.shared;
        if read(&shared.engine).is_none() {
            shared.reopen()?;
        }
        let slot = read(&shared.engine);
        let Some(engine) = slot.as_ref() else {
            return Err(CommitError::Failed { reason: "the database is closed".into() });
        };
        prepared.wait_for_flushes(engine)?;
        shared.recovery.watch_room(shared, engine, prepared.disk_bytes());
        let started = Instant::now();
        let filed = prepared.file(engine)?;
        let batch = prepared.batch(&read(&shared.index), engine, &filed)?;
        // Space ahead is for what is synced.
        let ahead = if filed.is_alone() { 0 } else { prepared.journal_bytes(&filed) };
        engine
            .write_journal(ahead, || batch.commit())
            .map_err(|error| CommitError::Failed { reason: crate::engine::reason_of(&error) })?;
        engine.pack_files.settle();
        self.note_written(engine, prepared, filed.is_alone(), started.elapsed());
        Ok(())
    }

    /// `is_alone` says that the database was told without an fsync of its own.
    fn note_written(&self, engine: &Engine, prepared: &Prepared, is_alone: bool, took: Duration) {
        let shared = &self.shared;
        shared.unsynced.fetch_or(is_alone, Ordering::AcqRel);
        shared.note_committed(engine);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut stats = lock(&shared.stats);
        stats.fsyncs += 1;
        stats.commits += prepared.commits;
        stats.messages += prepared.messages;
        stats.record_bytes += prepared.bytes;
        stats.fsync_us_last = us;
        stats.fsync_us_mean = if stats.fsync_us_mean == 0 { us } else { (stats.fsync_us_mean * 7 + us) / 8 };
    }
}
