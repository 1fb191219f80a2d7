//! Telemetry on its way into the stream: one lane for each edge, and one for devices that are connected here.
//!
//! What waits in a lane becomes one message of the stream: the events, and all marks of the edge afterwards, so that message
//! and high-water mark are one write. It is published with the sequence that the last message of the edge's subject must
//! have. So one message of a lane is under way at a time, and whatever waits meanwhile goes with the next one; and of two
//! processes that both have a connection of the same edge only one can write behind the other's last message: the other one
//! is told so, fails its batches, reads the marks again, and the edge sends again.
//!
//! When no answer comes, the same message with the same expectation is published again until there is one: it is stored
//! once at most, since its own first copy would be the last message of the subject. Which one that is says its author.
//! (`Nats-Msg-Id` is not used: it is remembered for a time only, and also for messages that were refused.)
//!
//! The last message of an edge may be past its time before the edge sends again. So the marks are also a document,
//! `marks/{edge}`, written when a lane rests, and again and again while it does not.

use crate::{
    cluster::{Cluster, Sent, token},
    documents::Documents,
    wire::{self, Author, decode_head, decode_marks, encode_event, encode_marks, encode_telemetry},
};
use bytes::BytesMut;
use holdfast_hub::backend::{Appended, BackendError, Batch, Event, Expect, Origin, Progress, Space, Write};
use holdfast_link::Mark;
use holdfast_types::Name;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// About the most bytes of events in one message: large enough that its head and its round trip do not count, small
/// enough that a replica takes it in a few milliseconds.
const GROUP_BYTES: usize = 384 * 1024;

/// Most events in one message: an offset is the sequence of the message and the place in it, of twelve bits.
pub(crate) const GROUP_EVENTS_MAX: usize = 1 << crate::stream::PLACE_BITS;

/// Most bytes that wait in all lanes. What comes then is refused, and its connection ended.
const WAITING_BYTES_MAX: usize = 512 << 20;

/// How long a message without an answer is published again before its batches are given up: longer than an election.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before a message without an answer is published again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a lane is without work before its marks are written as a document.
const REST: Duration = Duration::from_secs(10);

/// How often the marks of a lane that never rests are written as a document.
const MARKS_EVERY: Duration = Duration::from_secs(60);

/// Which lane: of an edge, or that of devices that are connected to this process.
type Key = Option<Name>;

struct Waiting {
    batch: Batch,
    bytes: usize,
    done: Appended,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    is_running: bool,
    /// What is stored; none while it is not known.
    stored: Option<StoredMarks>,
    /// When the marks were last a document.
    kept: Option<Instant>,
}

#[derive(Clone, Default)]
struct StoredMarks {
    /// The sequence of the last message of the subject; 0 if there is none.
    last: u64,
    marks: BTreeMap<(u64, u8), Progress>,
}

/// All lanes of this process.
pub(crate) struct Lanes {
    cluster: Arc<Cluster>,
    documents: Arc<Documents>,
    lanes: Mutex<HashMap<Key, Lane>>,
    waiting_bytes: AtomicUsize,
    pub(crate) appended: Box<dyn Fn(u64) + Send + Sync>,
    pub(crate) counts: Counts,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: AtomicU64,
    pub(crate) again: AtomicU64,
    pub(crate) conflicts: AtomicU64,
}

fn key_of(batch: &Batch) -> Result<Key, BackendError> {
    let mut edges = batch.progress.iter().map(|(edge, _)| edge);
    let of_event = |event: &Event| match &event.origin {
        Origin::Direct => None,
        Origin::Edge(id) => Some(event.brought.as_ref().unwrap_or(id).edge.clone()),
        Origin::Volatile(edge) => Some(edge.clone()),
    };
    match edges.next() {
        Some(first) if edges.all(|edge| edge == first) => Ok(Some(first.clone())),
        Some(_) => Err(BackendError::Refused("a batch with marks of two edges".to_owned())),
        None => Ok(batch.events.first().and_then(of_event)),
    }
}

/// Whether one knows of a sequence that the other does not.
fn is_ahead(one: &[Progress], other: &[Progress]) -> bool {
    one.iter().any(|one| {
        let same = |other: &&Progress| {
            (other.mark.epoch, other.mark.priority) == (one.mark.epoch, one.mark.priority)
        };
        other.iter().find(same).is_none_or(|other| other.mark.sequence < one.mark.sequence)
    })
}

fn document_key(edge: &Name) -> String {
    format!("marks/{edge}")
}

impl Lanes {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        documents: Arc<Documents>,
        tasks: TaskTracker,
        stop: CancellationToken,
        appended: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            documents,
            lanes: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            appended,
            counts: Counts::default(),
            tasks,
            stop,
        })
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subject(&self, key: &Key) -> String {
        match key {
            Some(edge) => format!("{}.events.edge.{}", self.cluster.prefix, token(edge.as_str())),
            None => format!("{}.events.direct.{:016x}", self.cluster.prefix, self.cluster.process),
        }
    }

    pub(crate) fn append(self: &Arc<Self>, batch: Batch, done: Appended) {
        let key = match key_of(&batch) {
            Ok(key) => key,
            Err(error) => return done(Err(error)),
        };
        if self.stop.is_cancelled() {
            return done(Err(BackendError::Stopping));
        }
        let bytes = batch.events.iter().map(|event| event.envelope.message.size_bytes() + 64).sum();
        if self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > WAITING_BYTES_MAX {
            self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            if let Some(order) = &batch.order {
                order.break_it();
            }
            let why = format!("{WAITING_BYTES_MAX} bytes of telemetry wait for the NATS servers already");
            return done(Err(BackendError::Failed(why)));
        }
        let start = {
            let mut lanes = self.lanes();
            let lane = lanes.entry(key.clone()).or_default();
            lane.waiting.push_back(Waiting { batch, bytes, done });
            !std::mem::replace(&mut lane.is_running, true)
        };
        if start {
            let me = self.clone();
            self.tasks.spawn(async move { me.run(key).await });
        }
    }

    /// What one message takes of what waits; none if nothing waits.
    fn next(&self, key: &Key) -> Option<(Vec<Waiting>, Option<StoredMarks>)> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(key)?;
        let (mut group, mut bytes, mut events) = (Vec::new(), 0, 0);
        while let Some(next) = lane.waiting.front() {
            let is_first = group.is_empty();
            let (with, count) = (bytes + next.bytes, events + next.batch.events.len());
            if !is_first && (with > GROUP_BYTES || count > GROUP_EVENTS_MAX) {
                break;
            }
            (bytes, events) = (with, count);
            group.extend(lane.waiting.pop_front());
        }
        if group.is_empty() {
            lane.is_running = false;
            return None;
        }
        Some((group, lane.stored.clone()))
    }

    async fn run(self: Arc<Self>, key: Key) {
        while let Some((group, stored)) = self.next(&key) {
            let bytes: usize = group.iter().map(|one| one.bytes).sum();
            // Behind a batch that is not stored none of its order is.
            let is_broken = |one: &Waiting| one.batch.order.as_ref().is_some_and(|order| order.is_broken());
            let (broken, group): (Vec<_>, Vec<_>) = group.into_iter().partition(is_broken);
            broken.into_iter().for_each(|one| (one.done)(Err(BackendError::OutOfTurn)));
            if !group.is_empty() {
                let (batches, dones): (Vec<_>, Vec<_>) =
                    group.into_iter().map(|one| (one.batch, one.done)).unzip();
                let result = self.store(&key, &batches, stored).await;
                let stored = result.as_ref().ok().cloned();
                if let Some(lane) = self.lanes().get_mut(&key) {
                    lane.stored = stored;
                }
                if result.is_err() {
                    batches
                        .iter()
                        .filter_map(|batch| batch.order.as_ref())
                        .for_each(|order| order.break_it());
                }
                let told = result.map(drop);
                dones.into_iter().for_each(|done| done(told.clone()));
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Stores batches, in one message if they fit.
    async fn store(
        &self,
        key: &Key,
        batches: &[Batch],
        stored: Option<StoredMarks>,
    ) -> Result<StoredMarks, BackendError> {
        let mut stored = match stored {
            Some(stored) => stored,
            None => self.load_patiently(key).await?,
        };
        let (mut body, mut count) = (BytesMut::new(), 0);
        for event in batches.iter().flat_map(|batch| &batch.events) {
            let before = body.len();
            encode_event(&mut body, event);
            let is_full =
                body.len() > self.cluster.payload_max.min(2 * GROUP_BYTES) || count == GROUP_EVENTS_MAX;
            if is_full && count > 0 {
                // The part is as far as its own events; the marks of all of it stand in the last one.
                let rest = body.split_off(before);
                self.publish(key, &mut stored, count, &body).await?;
                (body, count) = (rest, 0);
            }
            count += 1;
            if let Origin::Edge(id) = &event.origin {
                let id = event.brought.as_ref().unwrap_or(id);
                let mark = Mark { epoch: id.epoch, priority: id.priority, sequence: id.sequence };
                let of = stored.marks.entry((id.epoch, id.priority.level()));
                let progress = of.or_insert(Progress { mark, gaps: 0, missing: 0, last_gap: None });
                progress.mark = mark;
            }
        }
        for (_, progress) in batches.iter().flat_map(|batch| &batch.progress) {
            stored.marks.insert((progress.mark.epoch, progress.mark.priority.level()), *progress);
        }
        self.publish(key, &mut stored, count, &body).await?;
        Ok(stored)
    }

    async fn publish(
        &self,
        key: &Key,
        stored: &mut StoredMarks,
        count: usize,
        events: &[u8],
    ) -> Result<(), BackendError> {
        let marks: Vec<Progress> = stored.marks.values().copied().collect();
        let author = self.cluster.author();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let body = encode_telemetry(author, &marks, count, events);
        let until = Instant::now() + PATIENCE;
        let subject = self.subject(key);
        loop {
            let why = match self.cluster.put(subject.clone(), stored.last, body.clone()).await {
                Sent::Stored(sequence) => {
                    stored.last = sequence;
                    break;
                }
                Sent::Refused(why) => return Err(BackendError::Refused(why)),
                Sent::Conflict => match self.is_own(key, author, stored, &marks).await {
                    Ok(Conflict::Own(sequence)) => {
                        stored.last = sequence;
                        break;
                    }
                    // The last message is past its time, and nobody has written since.
                    Ok(Conflict::Gone) => {
                        stored.last = 0;
                        continue;
                    }
                    Ok(Conflict::Other) => {
                        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
                        let why = "another hub process has written for this edge meanwhile";
                        return Err(BackendError::Failed(why.to_owned()));
                    }
                    Err(why) => why,
                },
                Sent::Unknown(why) => why,
            };
            self.counts.again.fetch_add(1, Ordering::Relaxed);
            if Instant::now() > until {
                return Err(BackendError::Failed(why));
            }
            self.pause().await?;
        }
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        (self.appended)(stored.last);
        Ok(())
    }

    async fn pause(&self) -> Result<(), BackendError> {
        tokio::select! {
            () = self.stop.cancelled() => Err(BackendError::Stopping),
            () = tokio::time::sleep(AGAIN) => Ok(()),
        }
    }

    /// Looks who wrote the message that stands where another one was expected.
    async fn is_own(
        &self,
        key: &Key,
        author: Author,
        expected: &StoredMarks,
        marks: &[Progress],
    ) -> Result<Conflict, String> {
        let found = self.cluster.last(&self.cluster.events, &self.subject(key)).await?;
        Ok(match found {
            Some((sequence, bytes)) => match decode_head(bytes) {
                Some((wrote, _)) if wrote == author => Conflict::Own(sequence),
                _ => Conflict::Other,
            },
            // What another process had written would stand in the document.
            None => {
                let kept = key.as_ref().map(|edge| self.kept(edge)).unwrap_or_default();
                if expected.last == 0 || is_ahead(&kept, marks) { Conflict::Other } else { Conflict::Gone }
            }
        })
    }

    async fn load_patiently(&self, key: &Key) -> Result<StoredMarks, BackendError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.load(key).await {
                Ok(found) => return Ok(found),
                Err(why) if Instant::now() > until => return Err(BackendError::Failed(why)),
                Err(_) => self.pause().await?,
            }
        }
    }

    /// What is stored of an edge, by its last message and by the document of its marks.
    async fn load(&self, key: &Key) -> Result<StoredMarks, String> {
        let found = self.cluster.last(&self.cluster.events, &self.subject(key)).await?;
        let mut stored = StoredMarks::default();
        let mut take = |progress: Vec<Progress>| {
            for one in progress {
                let of = stored.marks.entry((one.mark.epoch, one.mark.priority.level())).or_insert(one);
                if one.mark.sequence > of.mark.sequence {
                    *of = one;
                }
            }
        };
        if let Some(edge) = key {
            take(self.kept(edge));
        }
        if let Some((sequence, bytes)) = found {
            let (_, marks) = decode_head(bytes)
                .ok_or_else(|| format!("message {sequence} of the stream of telemetry is not understood"))?;
            take(marks);
            stored.last = sequence;
        }
        Ok(stored)
    }

    fn kept(&self, edge: &Name) -> Vec<Progress> {
        let found = self.documents.get(Space::Hub, &document_key(edge));
        found.and_then(|stored| decode_marks(stored.value)).unwrap_or_default()
    }

    /// The marks of an edge, as they are stored now.
    pub(crate) async fn progress(&self, edge: &Name) -> Result<Vec<Progress>, BackendError> {
        let key = Some(edge.clone());
        let loaded = self.load_patiently(&key).await?;
        let marks = loaded.marks.values().copied().collect();
        let mut lanes = self.lanes();
        match lanes.get_mut(&key) {
            // What is under way knows better, or is told.
            Some(lane) if lane.is_running => {}
            Some(lane) => lane.stored = Some(loaded),
            None => drop(lanes.insert(key, Lane { stored: Some(loaded), ..Lane::default() })),
        }
        Ok(marks)
    }

    /// Writes the marks of lanes that rest, and of those that never do, as documents; forgets lanes that rest.
    pub(crate) async fn keep_marks(self: Arc<Self>) {
        let mut seen: HashMap<Key, u64> = HashMap::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(REST) => {}
            }
            let mut due = Vec::new();
            for (key, lane) in self.lanes().iter_mut() {
                let (Some(edge), Some(stored)) = (key, &lane.stored) else { continue };
                let is_resting = seen.insert(key.clone(), stored.last) == Some(stored.last);
                let is_late = lane.kept.is_none_or(|kept| kept.elapsed() > MARKS_EVERY);
                if (is_resting && lane.kept.is_some()) || is_late {
                    due.push((edge.clone(), stored.clone(), is_resting && !lane.is_running));
                    lane.kept = Some(Instant::now());
                }
            }
            for (edge, stored, is_resting) in due {
                let before = self.documents.get(Space::Hub, &document_key(&edge));
                let marks: Vec<Progress> = stored.marks.values().copied().collect();
                let value = encode_marks(&marks);
                let known = before.as_ref().and_then(|before| decode_marks(before.value.clone()));
                // Another process may know more by now.
                let is_news = known.is_none_or(|known| known != marks && !is_ahead(&known, &marks));
                if is_news && !marks.is_empty() {
                    let expect = before.map_or(Expect::Absent, |before| Expect::Revision(before.revision));
                    let write = Write::set(Space::Hub, &document_key(&edge), value).when(expect);
                    // One that another process has written meanwhile is tried again with the next round.
                    if self.documents.put(vec![write]).await.is_err() {
                        continue;
                    }
                }
                if is_resting {
                    let mut lanes = self.lanes();
                    let key = Some(edge);
                    let idle = |lane: &Lane| {
                        !lane.is_running && lane.stored.as_ref().is_some_and(|now| now.last == stored.last)
                    };
                    if lanes.get(&key).is_some_and(idle) {
                        lanes.remove(&key);
                        seen.remove(&key);
                    }
                }
            }
        }
    }

    /// Waits until nothing of an edge is under way.
    pub(crate) fn is_running(&self, edge: &Name) -> bool {
        self.lanes().get(&Some(edge.clone())).is_some_and(|lane| lane.is_running)
    }
}

enum Conflict {
    /// The message itself, whose answer was lost.
    Own(u64),
    /// None at all any more.
    Gone,
    /// Somebody else's.
    Other,
}

/// How many events a message holds; one that is not understood holds none.
pub(crate) fn count(bytes: bytes::Bytes) -> u64 {
    wire::decode_count(bytes).unwrap_or_default().into()
}
