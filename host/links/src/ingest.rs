//! Telemetry of one edge: each message once, in order, and what is missing is seen.
//!
//! Of each (epoch, priority) the highest sequence is a mark, stored in the same batch as the messages below it. A message
//! at or below its mark is a duplicate: it is acknowledged when the batches before it are durable, and dropped. One that is
//! more than one above it leaves a gap, which is counted with the mark, logged, and passed over.
//!
//! The marks in memory are ahead of the disk by the batches that are on their way. Those are one order: when one is not
//! stored, none of the later ones is, the marks are read again, and the edge sends again on its next connection. A
//! connection that takes the place of another goes on with the same marks, so that what both bring is stored once.

use holdfast_gateway::Fates;
use holdfast_link::Mark;
use holdfast_mqtt::{
    ReasonCode,
    server::{Outcome, Ticket},
};
use holdfast_store::Chain;
use holdfast_types::{Envelope, Name, Offset, Priority, Soon, StableId, UnixMillis};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where an event came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a device that is connected here.
    Direct,
    /// Through an edge, where it was stored.
    Edge(StableId),
    /// Through an edge, which did not store it.
    Volatile(Name),
}

/// A message in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The message, its proved source, and when it was taken.
    pub envelope: Arc<Envelope>,
    /// Which way it came.
    pub origin: Origin,
    /// The identity that the edge gave it that brings it, if it was made at another one; marks follow it. Not kept.
    pub brought: Option<StableId>,
}

/// How far an edge's messages of one epoch and priority are stored, and what is missing below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The highest sequence.
    pub mark: Mark,
    /// How often the sequence jumped.
    pub gaps: u64,
    /// How many sequences were jumped over.
    pub missing: u64,
    /// The last jump.
    pub last_gap: Option<Gap>,
}

/// Sequences that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// One after the last.
    pub to: u64,
    /// When that was seen.
    pub at: UnixMillis,
}

/// Events and marks that are stored together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In this order.
    pub events: Vec<Event>,
    /// The marks afterwards.
    pub progress: Vec<(Name, Progress)>,
    /// The order that it belongs to: batches of one order are stored as they were given, and when one is not, none of
    /// the later ones is.
    pub order: Option<Arc<Chain>>,
}

/// What is called when a batch is durable, or is known never to be. It must be quick.
pub type Appended = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Keeps events together with the marks of the edges that they came from.
pub trait Keeps: Send + Sync + 'static {
    /// Appends events and sets marks in one step. `done` is called exactly once, in the order of the calls.
    fn append(&self, batch: Batch, done: Appended);

    /// The marks of an edge.
    fn progress<'a>(&'a self, edge: &'a Name) -> Soon<'a, Result<Vec<Progress>, String>>;
}

/// A message that came over the link.
pub struct Came {
    /// Its place on the connection.
    pub ticket: Ticket,
    /// None if it is not to be stored: the edge may not send it. Its sequence counts all the same.
    pub event: Option<holdfast_link::Event>,
    /// What the edge is told of it.
    pub outcome: Outcome,
    /// What the mark of this edge follows: the identity that the edge itself gave it.
    pub id: Option<StableId>,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages stored.
    pub stored: AtomicU64,
    /// Messages that came again.
    pub duplicates: AtomicU64,
    /// Sequences that never came.
    pub missing: AtomicU64,
    /// Messages that the edge may not send, or that cannot be read.
    pub refused: AtomicU64,
}

/// The telemetry of one edge, over all its connections.
pub struct Ingest {
    edge: Name,
    keeps: Arc<dyn Keeps>,
    counts: Arc<Counts>,
    in_order: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// None until they are read.
    marks: Option<HashMap<(u64, Priority), Progress>>,
    order: Arc<Chain>,
    /// Counts how often the marks were thrown away, so that a late failure throws away only its own.
    generation: u64,
    /// Batches on their way.
    open: usize,
    /// Counts the batches, so that what was read before one is not taken for news behind it.
    reckoned: u64,
}

impl Ingest {
    /// That of an edge.
    pub fn new(edge: Name, keeps: Arc<dyn Keeps>, counts: Arc<Counts>) -> Self {
        Self { edge, keeps, counts, in_order: Mutex::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_refused(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the marks unless messages are on their way, and gives what is stored. Another process of a hub may have stored
    /// more than this one knows of.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn marks(&self) -> Result<Vec<Progress>, String> {
        let before = self.state().reckoned;
        let stored = self.keeps.progress(&self.edge).await?;
        let mut state = self.state();
        if state.open == 0 && (state.marks.is_none() || state.reckoned == before) {
            let marks = stored.iter().map(|one| ((one.mark.epoch, one.mark.priority), *one));
            state.marks = Some(marks.collect());
            state.order = Arc::default();
        }
        Ok(stored)
    }

    /// Stores what came, in order, and tells the fate of each message when it is durable.
    pub fn take(self: &Arc<Self>, came: Vec<Came>, now: UnixMillis, fates: &Arc<dyn Fates>) {
        // Batches are handed over in the order in which they were reckoned. One that refuses at once calls back
        // before it returns, so that this is not the lock of the state.
        let _in_order = self.in_order.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<_> = came.iter().map(|one| (one.ticket, one.outcome)).collect();
        let reckoned = self.reckon(came, now);
        let Some((batch, generation)) = reckoned else {
            // Before the first call, or behind a failure: the edge comes again.
            return fates.tell(told.into_iter().map(again).collect());
        };
        let (me, fates, count) = (self.clone(), fates.clone(), batch.events.len() as u64);
        let done = move |result: Result<(), String>| {
            me.ended(result.is_ok(), generation);
            match result {
                Ok(()) => {
                    me.counts.stored.fetch_add(count, Ordering::Relaxed);
                    fates.tell(told);
                }
                Err(error) => {
                    tracing::error!(
                        edge = %me.edge, %error, messages = told.len(),
                        "telemetry was not stored; the edge sends it again"
                    );
                    fates.tell(told.into_iter().map(again).collect());
                }
            }
        };
        self.keeps.append(batch, Box::new(done));
    }

    /// What is to be stored of it, and the generation of the marks that this follows upon. None while they are not known.
    fn reckon(&self, came: Vec<Came>, now: UnixMillis) -> Option<(Batch, u64)> {
        let mut state = self.state();
        let state = &mut *state;
        let marks = state.marks.as_mut()?;
        let mut events = Vec::with_capacity(came.len());
        let mut touched = HashSet::new();
        for one in came {
            let Some(id) = one.id else {
                events.extend(one.event.map(|event| stored(event, Origin::Volatile(self.edge.clone()), now)));
                continue;
            };
            let key = (id.epoch, id.priority);
            touched.insert(key);
            let known = marks.get(&key).copied();
            if known.is_some_and(|known| id.sequence <= known.mark.sequence) {
                self.counts.duplicates.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            marks.insert(key, self.reached(known, key, id.sequence, now));
            // Consumers see where a message was made; the mark follows the edge that brings it.
            events.extend(one.event.map(|event| {
                let (origin, brought) = match event.origin.clone() {
                    Some(origin) => (origin, Some(id)),
                    None => (id, None),
                };
                Event { brought, ..stored(event, Origin::Edge(origin), now) }
            }));
        }
        let progress = touched.iter().filter_map(|key| Some((self.edge.clone(), *marks.get(key)?)));
        let batch = Batch { progress: progress.collect(), order: Some(state.order.clone()), events };
        state.open += 1;
        state.reckoned += 1;
        Some((batch, state.generation))
    }

    fn ended(&self, is_stored: bool, generation: u64) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        if !is_stored && state.generation == generation {
            state.generation += 1;
            state.marks = None;
        }
    }

    fn reached(
        &self,
        known: Option<Progress>,
        (epoch, priority): (u64, Priority),
        sequence: Offset,
        now: UnixMillis,
    ) -> Progress {
        let next = known.map_or(0, |known| known.mark.sequence.next().0);
        let mark = Mark { epoch, priority, sequence };
        let mut progress = known.unwrap_or(Progress { mark, gaps: 0, missing: 0, last_gap: None });
        progress.mark = mark;
        if sequence.0 > next {
            let missing = sequence.0 - next;
            progress.gaps += 1;
            progress.missing += missing;
            progress.last_gap = Some(Gap { from: next, to: sequence.0, at: now });
            self.counts.missing.fetch_add(missing, Ordering::Relaxed);
            tracing::warn!(
                edge = %self.edge, %priority, epoch = format!("{epoch:016x}"), from = next, to = sequence.0, missing,
                "messages of an edge are missing: they expired or were dropped there, or another hub has them"
            );
        }
        progress
    }
}

/// The edge is to send it again: not sayable in an acknowledgement, so that the connection ends.
fn again((ticket, _): (Ticket, Outcome)) -> (Ticket, Outcome) {
    (ticket, Outcome::Refused(ReasonCode::ServerBusy))
}

fn stored(event: holdfast_link::Event, origin: Origin, received: UnixMillis) -> Event {
    let holdfast_link::Event { source, message, .. } = event;
    Event { envelope: Arc::new(Envelope { message, source, received, hops: 0 }), origin, brought: None }
}
