//! How a sink reads its log: by cursor, highest priority first or each by its share, first in first out within one.

use super::{broker::Inner, lane::Lane, twins::Report};
use crate::core::{
    drain::{Drain, Shares},
    outstanding::Outstanding,
};
use bytes::Bytes;
use holdfast_store::{Ack, Chain, Commit, QueuePosition, ReadLimit, StoreError};
use holdfast_types::{Envelope, LogId, Message, Name, Offset, Priority, QueueId, StableId, Text, UnixMillis};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most bytes that one call of [`Reader::next`] brings into memory, unless a single message is larger.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// A message handed to a sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What the sink gives back when it is done.
    pub ticket: Ticket,
    /// The identity of the record; none for a volatile message.
    pub id: Option<StableId>,
    /// The input of the module it is for; none upstream.
    pub input: Option<Name>,
    /// The route that took it.
    pub route: Text,
    /// When it is too old to be of use.
    pub expires: Option<UnixMillis>,
    /// The message and who sent it.
    pub envelope: Arc<Envelope>,
}

/// Which message a sink is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub(crate) Place);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Volatile,
    Durable {
        priority: Priority,
        offset: Offset,
        /// Tickets from before a rewind are void: their messages are handed out again.
        generation: u32,
    },
}

impl Ticket {
    pub(crate) const VOLATILE: Self = Self(Place::Volatile);

    /// Whether the message is recorded and would be handed out again after a crash.
    pub fn is_durable(&self) -> bool {
        self.0 != Place::Volatile
    }
}

/// What a module did with the messages of one turn. All of it becomes durable together, or none.
#[derive(Default)]
pub struct Turn {
    /// Messages that are done.
    pub done: Vec<Ticket>,
    /// Messages that were given up: reason and attempts.
    pub dead: Vec<(Ticket, Text, u32)>,
    /// What the module sent, in order.
    pub sends: Vec<Send>,
    /// What the module wrote to its state, in order.
    pub state: Vec<StateWrite>,
    /// What the module reported of itself, in order.
    pub reports: Vec<Report>,
}

/// A message that a module sends.
pub struct Send {
    /// The output.
    pub output: Option<Name>,
    /// The message.
    pub message: Message,
    /// The hops of the message that was being handled, or 0 from a timer.
    pub hops: u8,
}

/// A value that a module writes to its state.
pub struct StateWrite {
    /// The key.
    pub key: Text,
    /// The value; none deletes the key.
    pub value: Option<Bytes>,
}

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the log {log} could not be read: {source}")]
pub struct ReadError {
    /// The log.
    pub log: LogId,
    /// Why.
    pub source: StoreError,
}

/// Reads one log for one sink.
pub struct Reader {
    pub(crate) inner: Arc<Inner>,
    pub(crate) log: LogId,
    /// The module whose log this is. Only modules have outputs and state.
    pub(crate) module: Option<Name>,
    pub(crate) lane: Arc<Lane>,
    progress: Arc<Mutex<Progress>>,
    /// Held from the reckoning of a turn's cursors until the store has its commit, so that commits arrive in the order
    /// of their cursors. Not the lock above: a store that refuses at once calls back before it returns.
    pub(crate) submission: Mutex<()>,
    /// Whose turn it is, so that neither volatile nor durable messages starve the other.
    volatile_first: bool,
    /// Whose turn it is among the priorities.
    shares: Shares,
    reads: bool,
    /// Turns that were taken back, or those of a reader before this one, may still be recorded: where to go on is not
    /// known yet.
    settling: bool,
}

#[derive(Default)]
pub(crate) struct Progress {
    queues: BTreeMap<Priority, Outstanding>,
    pub(crate) generation: u32,
    chain: Arc<Chain>,
    /// A turn of this generation was not recorded: nothing more of it counts.
    pub(crate) failed: bool,
    /// Turns of this generation under way that send or store something.
    pub(crate) with_effects: usize,
    /// Turns of this generation under way that give messages up.
    pub(crate) with_dead: usize,
}

impl Reader {
    pub(crate) fn new(inner: Arc<Inner>, log: LogId) -> Self {
        let lane = inner.lane(&log);
        lane.reads(true);
        let module = log.as_str().strip_prefix("module/").and_then(|name| Name::new(name).ok());
        Self {
            inner,
            log,
            module,
            lane,
            progress: Arc::default(),
            submission: Mutex::default(),
            volatile_first: true,
            shares: Shares::default(),
            reads: true,
            settling: true,
        }
    }

    /// The time by which messages expire.
    pub fn now(&self) -> UnixMillis {
        self.inner.clock.now()
    }

    /// Says whether this reader reads, or will soon. While it does not, senders of volatile messages do not wait for
    /// room: what is beyond the bound is dropped and counted.
    pub fn set_reading(&mut self, reads: bool) {
        if std::mem::replace(&mut self.reads, reads) != reads {
            let dropped = self.lane.reads(reads) as u64;
            self.inner.count_volatile_drops(&self.log, dropped);
        }
    }

    /// Says how the priorities of the log share what is read; until then they are read in order. It concerns recorded messages:
    /// volatile ones are taken in turns with them.
    pub fn set_drain(&mut self, drain: Drain) {
        self.shares.set(drain);
    }

    /// The log.
    pub fn log(&self) -> &LogId {
        &self.log
    }

    /// Waits for the next messages, at most `max`. Highest priority first unless they [share](Self::set_drain) it, never two
    /// priorities of the log at once; volatile messages take turns with recorded ones. Cancel safe: what was not returned is read again.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        self.next_above(max, None).await
    }

    /// The same, but only recorded messages that are more urgent than `bound`, if there is one. Where priorities share what is
    /// read, only while it is their turn.
    pub async fn next_above(
        &mut self,
        max: usize,
        bound: Option<Priority>,
    ) -> Result<Vec<Delivery>, ReadError> {
        loop {
            let found = self.take_above(max, bound)?;
            if !found.is_empty() {
                return Ok(found);
            }
            self.lane.bell.notified().await;
        }
    }

    /// Waits until there may be something to [`take`](Self::take) that was not there at the last look. Cancel safe.
    pub async fn rung(&self) {
        self.lane.bell.notified().await;
    }

    /// What can be had now without waiting; empty if there is nothing.
    pub fn take(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        self.take_above(max, None)
    }

    fn take_above(&mut self, max: usize, bound: Option<Priority>) -> Result<Vec<Delivery>, ReadError> {
        let mut found = Vec::new();
        for volatile in [self.volatile_first, !self.volatile_first] {
            if volatile {
                if bound.is_none() {
                    self.lane.take(max, &mut found);
                }
            } else {
                self.take_recorded(max, bound, &mut found)
                    .map_err(|source| ReadError { log: self.log.clone(), source })?;
            }
            if !found.is_empty() {
                self.volatile_first = !volatile;
                break;
            }
        }
        Ok(found)
    }

    /// Whether routes give the messages of this log several priorities.
    pub fn has_priorities(&self) -> bool {
        let table = self.inner.routes();
        let upstream = self.log.upstream_child().map(|_| LogId::upstream());
        let here = Some(upstream.as_ref().unwrap_or(&self.log));
        let mut all = table
            .routes()
            .iter()
            .filter(|route| route.sink.log().as_ref() == here)
            .map(|route| route.priority);
        let first = all.next();
        all.any(|other| Some(other) != first)
    }

    fn take_recorded(
        &mut self,
        max: usize,
        bound: Option<Priority>,
        found: &mut Vec<Delivery>,
    ) -> Result<(), StoreError> {
        if self.settling {
            if !self.lane.is_settled() {
                return Ok(());
            }
            self.settling = false;
        }
        let mut waiting = self.waiting();
        self.shares.order(&mut waiting, |at| at.queue.priority);
        for at in &waiting {
            let priority = at.queue.priority;
            if bound.is_some_and(|bound| priority >= bound) {
                break;
            }
            self.take_of(at, max, found)?;
            if !found.is_empty() {
                let bodies = found.iter().map(|delivery| delivery.envelope.message.body.len());
                self.shares.charge(priority, bodies, waiting.iter().map(|at| at.queue.priority));
                break;
            }
        }
        Ok(())
    }

    /// The queues that hold what was not handed out yet, the most urgent first.
    fn waiting(&self) -> Vec<QueuePosition> {
        let mut all = self.inner.store.positions(&self.log);
        let mut progress = self.progress();
        all.retain(|at| {
            let outstanding = progress.outstanding(at.queue.priority, at.cursor);
            // An operator's purge or an expiry may have moved the cursor past us.
            outstanding.advance(at.cursor);
            outstanding.position() < at.tail
        });
        all
    }

    /// Takes from one queue, unless all that is left there has expired.
    fn take_of(
        &self,
        QueuePosition { queue, cursor, tail }: &QueuePosition,
        max: usize,
        found: &mut Vec<Delivery>,
    ) -> Result<(), StoreError> {
        while found.is_empty() {
            let (position, generation) = {
                let mut progress = self.progress();
                let generation = progress.generation;
                (progress.outstanding(queue.priority, *cursor).position(), generation)
            };
            if position >= *tail {
                break;
            }
            let limit = ReadLimit { messages: max, bytes: READ_BYTES_MAX };
            let batch = self.inner.store.read(queue, position, limit)?;
            let mut progress = self.progress();
            if progress.generation != generation {
                continue;
            }
            let outstanding = progress.outstanding(queue.priority, *cursor);
            for stored in batch.entries {
                outstanding.hand_out(stored.offset);
                found.push(self.delivery(queue, generation, stored));
            }
            outstanding.advance(batch.next);
            if found.is_empty() {
                // All of it had expired: the cursor passes it, unless something before it is still out.
                let passed = (outstanding.len() == 0).then(|| outstanding.cursor());
                drop(progress);
                self.pass_expired(queue, passed);
                if batch.next <= position {
                    break;
                }
            }
        }
        Ok(())
    }

    fn delivery(&self, queue: &QueueId, generation: u32, stored: holdfast_store::Stored) -> Delivery {
        let entry = stored.entry;
        Delivery {
            ticket: Ticket(Place::Durable { priority: queue.priority, offset: stored.offset, generation }),
            id: Some(StableId::in_log(
                &queue.log,
                &self.inner.edge,
                self.inner.store.epoch(),
                queue.priority,
                stored.offset,
            )),
            input: entry.input,
            route: entry.route,
            expires: entry.expires,
            envelope: entry.envelope,
        }
    }

    fn pass_expired(&self, queue: &QueueId, cursor: Option<Offset>) {
        let Some(cursor) = cursor else { return };
        let acks = vec![Ack { queue: queue.clone(), cursor }];
        // In the chain of the turns: what is before the expired ones is settled, but may not be recorded yet.
        let _in_order = self.submission.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = Some(self.progress().chain());
        let under_way = self.lane.begin();
        // Losing this is harmless: expired messages are passed again after a restart.
        self.inner.store.commit_when_room(Commit { acks, chain, ..Commit::default() }, |_| drop(under_way));
    }

    /// Tells that messages are done, with nothing else to record. Does not wait: after a crash, messages that were
    /// told of in the last moments may be handed out again.
    pub fn ack(&self, tickets: impl IntoIterator<Item = Ticket>) {
        self.settle(Turn { done: tickets.into_iter().collect(), ..Turn::default() }, |_| {});
    }

    /// Forgets what was handed out and not told of as done; it will be handed out again, in order. Tickets from before
    /// are void. Turns under way that send or store something are taken back unless the disk has them already; those that
    /// give messages up stay as they are. Until the store has told the end of both, nothing is handed out.
    pub fn rewind(&mut self) {
        let mut progress = self.progress();
        progress.generation = progress.generation.wrapping_add(1);
        let lost = std::mem::take(&mut progress.failed) || progress.with_effects > 0;
        let settling = lost || progress.with_dead > 0;
        (progress.with_effects, progress.with_dead) = (0, 0);
        if lost {
            std::mem::take(&mut progress.chain).break_it();
            progress.queues.clear();
        } else {
            let all = progress.queues.values_mut();
            all.for_each(|outstanding| *outstanding = Outstanding::at(outstanding.cursor()));
        }
        drop(progress);
        self.settling |= settling;
    }

    /// How many recorded messages are handed out and not passed by the cursor.
    pub fn outstanding(&self) -> usize {
        self.progress().queues.values().map(Outstanding::len).sum()
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared_progress(&self) -> Arc<Mutex<Progress>> {
        self.progress.clone()
    }
}

impl Drop for Reader {
    /// Takes back what this reader's turns would send or store and is not on disk: whoever reads the log next does it
    /// again, and it must not be done twice.
    fn drop(&mut self) {
        let progress = self.progress();
        if progress.with_effects > 0 {
            progress.chain.break_it();
        }
        drop(progress);
        // Nobody reads: senders do not wait for room.
        self.set_reading(false);
    }
}

impl Progress {
    fn outstanding(&mut self, priority: Priority, cursor: Offset) -> &mut Outstanding {
        self.queues.entry(priority).or_insert_with(|| Outstanding::at(cursor))
    }

    /// The chain of this generation's turns: none of them is recorded before, or without, an earlier one.
    pub(crate) fn chain(&self) -> Arc<Chain> {
        self.chain.clone()
    }

    /// Notes that a message is done. Gives the queue's new cursor if it moves.
    pub(crate) fn done(&mut self, ticket: Ticket) -> Option<(Priority, Offset)> {
        match ticket.0 {
            Place::Durable { priority, offset, generation } if generation == self.generation => {
                let cursor = self.queues.get_mut(&priority)?.done(offset)?;
                Some((priority, cursor))
            }
            Place::Durable { .. } | Place::Volatile => None,
        }
    }

    /// Whether a ticket is of the generation that counts.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        match ticket.0 {
            Place::Volatile => true,
            Place::Durable { generation, .. } => generation == self.generation,
        }
    }
}
