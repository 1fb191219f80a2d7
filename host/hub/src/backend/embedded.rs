//! The backend on the embedded store.
//!
//! The stream is the log `events`. Its cursor never moves, but when the log is full and its oldest part goes; age is the
//! life of each record. The route of a record says where it came from: nothing (directly), the stable identity that the
//! edge gave it, or the name of the edge.
//!
//! Documents, in spaces of the store:
//!
//! * `hub/{space}`, key as given: revision (8 bytes), place within its batch (2 bytes), value.
//! * `hub-changes`, key `{revision:016x}/{place:04x}`: `{space} NUL {key}` of a followed document whose last change that
//!   is. Written with the change and deleted with the next one. That of a deleted document stays.
//! * `hub-marks`, key `{edge}/{epoch:016x}/{priority:02}`: sequence, gaps, missing, and of the last gap from, to and time,
//!   8 bytes each.
//! * `hub-numbers`, key `revision`: the last revision, 8 bytes.
//!
//! Numbers are big-endian. All of it is written by this file and deleted as said.

use super::{
    Answer, Appended, Backend, BackendError, Batch, Changed, Event, Events, Expect, Gap, Origin, Progress,
    Space, Span, Stored, Write,
};
use bytes::{BufMut, Bytes, BytesMut};
use holdfast_link::{Mark, event::parse_id};
use holdfast_store::{Append, Commit, CommitError, DocumentWrite, Entry, ReadLimit, Store, StoreError};
use holdfast_types::{LogId, Name, Offset, Priority, QueueId, Text, UnixMillis, WhenFull};
use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Mutex, oneshot, watch};

const CHANGES: &str = "hub-changes";
const MARKS: &str = "hub-marks";
const NUMBERS: &str = "hub-numbers";
const REVISION: &str = "revision";
const HEAD_BYTES: usize = 10;

/// Most marks of one edge: 11 priorities of some hundred lives of its store.
const MARKS_MAX: usize = 4096;

/// Most documents changed at once; each has a place of two bytes.
const WRITES_MAX: usize = 10_000;

/// How the stream is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbeddedConfig {
    /// How long an event is kept; none is as long as there is room.
    pub age_max: Option<Duration>,
}

/// The backend on a store of this process.
pub struct Embedded(Arc<Inner>);

struct Inner {
    store: Store,
    stream: QueueId,
    age_max_ms: Option<u64>,
    appended: watch::Sender<u64>,
    revision: watch::Sender<u64>,
    /// One group of batches of documents at a time: it is compared, and on disk, before the next one is looked at.
    turn: Mutex<()>,
    /// Batches that wait for the turn; whoever gets it next writes all of them in one commit.
    waiting: std::sync::Mutex<VecDeque<Waiting>>,
}

struct Waiting {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<u64, BackendError>>,
}

/// Batches that are stored in one commit; no two of them have a document in common.
#[derive(Default)]
struct Group {
    documents: Vec<DocumentWrite>,
    taken: HashSet<(Space, Text)>,
    told: Vec<(u64, oneshot::Sender<Result<u64, BackendError>>)>,
}

impl Embedded {
    /// The log of the stream; its quota is the bound of the stream in bytes.
    pub fn stream() -> LogId {
        LogId::named("events")
    }

    /// A backend on an open store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Store, config: EmbeddedConfig) -> Result<Self, BackendError> {
        let found = store.document(NUMBERS, REVISION).map_err(unread)?;
        let revision = found.and_then(|bytes| number(&bytes, 0)).unwrap_or_default();
        let inner = Arc::new(Inner {
            stream: QueueId { log: Self::stream(), priority: Priority::DEFAULT },
            age_max_ms: config.age_max.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            appended: watch::channel(0).0,
            revision: watch::channel(revision).0,
            turn: Mutex::default(),
            waiting: std::sync::Mutex::default(),
            store,
        });
        let bell = Arc::downgrade(&inner);
        let ring = move || {
            if let Some(inner) = bell.upgrade() {
                inner.appended.send_modify(|count| *count += 1);
            }
        };
        inner.store.on_append(&Self::stream(), Arc::new(ring));
        Ok(Self(inner))
    }
}

fn unread(error: StoreError) -> BackendError {
    match error {
        StoreError::Closed => BackendError::Stopping,
        error => BackendError::Failed(error.to_string()),
    }
}

fn uncommitted(error: CommitError) -> BackendError {
    match error {
        CommitError::Closed => BackendError::Stopping,
        CommitError::OutOfTurn => BackendError::OutOfTurn,
        error if error.is_permanent() => BackendError::Refused(error.to_string()),
        error => BackendError::Failed(error.to_string()),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?))
}

fn space_on_disk(space: Space) -> Text {
    format!("hub/{space}").into()
}

fn change_key(revision: u64, place: u16) -> Text {
    format!("{revision:016x}/{place:04x}").into()
}

fn write(space: &str, key: Text, value: Option<Bytes>) -> DocumentWrite {
    DocumentWrite { space: space.into(), key, value }
}

/// Splits what is on disk into revision, place and value.
fn open(bytes: &Bytes) -> Option<(u64, u16, Bytes)> {
    let revision = number(bytes, 0)?;
    let place = u16::from_be_bytes(bytes.get(8..HEAD_BYTES)?.try_into().ok()?);
    Some((revision, place, bytes.slice(HEAD_BYTES..)))
}

fn mark_write(edge: &Name, progress: &Progress) -> DocumentWrite {
    let Progress { mark, gaps, missing, last_gap } = progress;
    let key = format!("{edge}/{:016x}/{:02}", mark.epoch, mark.priority.level());
    let gap = last_gap.unwrap_or(Gap { from: 0, to: 0, at: UnixMillis(0) });
    let mut value = BytesMut::with_capacity(48);
    for one in [mark.sequence.0, *gaps, *missing, gap.from, gap.to, gap.at.0] {
        value.put_u64(one);
    }
    write(MARKS, key.into(), Some(value.freeze()))
}

fn read_mark(key: &str, value: &[u8]) -> Option<Progress> {
    let mut parts = key.rsplitn(3, '/');
    let (priority, epoch) = (parts.next()?, parts.next()?);
    let gap = Gap { from: number(value, 3)?, to: number(value, 4)?, at: UnixMillis(number(value, 5)?) };
    Some(Progress {
        mark: Mark {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            priority: Priority::new(priority.parse().ok()?)?,
            sequence: Offset(number(value, 0)?),
        },
        gaps: number(value, 1)?,
        missing: number(value, 2)?,
        last_gap: (gap.to > gap.from).then_some(gap),
    })
}

fn route(origin: &Origin) -> Text {
    match origin {
        Origin::Direct => "".into(),
        Origin::Edge(id) => id.to_string().into(),
        Origin::Volatile(edge) => edge.text().clone(),
    }
}

fn origin(route: &str) -> Origin {
    match (parse_id(route), Name::new(route)) {
        (Some(id), _) => Origin::Edge(id),
        (None, Ok(edge)) => Origin::Volatile(edge),
        (None, Err(_)) => Origin::Direct,
    }
}

impl Inner {
    fn entry(&self, event: Event) -> Entry {
        let Event { envelope, origin, .. } = event;
        let expires = self.age_max_ms.map(|age| UnixMillis(envelope.received.0.saturating_add(age)));
        Entry { input: None, route: route(&origin), expires, addressed: None, envelope }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may go in one commit of what waits. Who is not as expected is told at once.
    fn group(&self) -> Group {
        let (mut group, mut revision) = (Group::default(), *self.revision.borrow());
        let mut waiting = self.waiting();
        while let Some(next) = waiting.front() {
            let meets = next.writes.iter().any(|one| group.taken.contains(&(one.space, one.key.clone())));
            if meets || group.taken.len() + next.writes.len() > WRITES_MAX && !group.taken.is_empty() {
                break;
            }
            let Some(Waiting { writes, done }) = waiting.pop_front() else { break };
            let names: Vec<_> = writes.iter().map(|one| (one.space, one.key.clone())).collect();
            match self.compared(writes, revision + 1) {
                Ok(documents) => {
                    revision += 1;
                    group.documents.extend(documents);
                    group.taken.extend(names);
                    group.told.push((revision, done));
                }
                // Who no longer waits needs no answer.
                Err(error) => drop(done.send(Err(error))),
            }
        }
        group
    }

    /// Commits what waits; the caller holds the turn.
    async fn put_waiting(&self) {
        let Group { mut documents, told, .. } = self.group();
        let Some((revision, _)) = told.last() else { return };
        let revision = *revision;
        documents.push(write(
            NUMBERS,
            REVISION.into(),
            Some(Bytes::copy_from_slice(&revision.to_be_bytes())),
        ));
        let (answer, committed) = oneshot::channel();
        self.store.commit_when_room(Commit { documents, ..Commit::default() }, move |result| {
            // The receiver is below, or the hub is stopping.
            let _ = answer.send(result);
        });
        let result = match committed.await {
            Ok(result) => result.map(drop).map_err(uncommitted),
            Err(_) => Err(BackendError::Stopping),
        };
        if result.is_ok() {
            self.revision.send_replace(revision);
        }
        for (revision, done) in told {
            // Who no longer waits needs no answer.
            let _ = done.send(result.clone().map(|()| revision));
        }
    }

    /// What a batch writes, if the documents are as it expects them.
    fn compared(&self, writes: Vec<Write>, revision: u64) -> Result<Vec<DocumentWrite>, BackendError> {
        if writes.len() > WRITES_MAX {
            let (count, max) = (writes.len(), WRITES_MAX);
            return Err(BackendError::Refused(format!("{count} documents at once; at most {max}")));
        }
        let mut documents = Vec::with_capacity(2 * writes.len());
        for (place, one) in writes.into_iter().enumerate() {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            let space = space_on_disk(one.space);
            let before = self.store.document(&space, &one.key).map_err(unread)?;
            let before = before.as_ref().and_then(open);
            let as_expected = match (one.expect, &before) {
                (Expect::Anything, _) | (Expect::Absent, None) => true,
                (Expect::Revision(revision), Some((found, ..))) => revision == *found,
                (Expect::Absent, Some(_)) | (Expect::Revision(_), None) => false,
            };
            if !as_expected {
                return Err(BackendError::Conflict { space: one.space, key: one.key });
            }
            if one.space.is_followed() {
                if let Some((revision, place, _)) = before {
                    documents.push(write(CHANGES, change_key(revision, place), None));
                }
                let what = format!("{}\0{}", one.space, one.key);
                documents.push(write(CHANGES, change_key(revision, place), Some(what.into())));
            }
            let value = one.value.map(|value| {
                let mut bytes = BytesMut::with_capacity(HEAD_BYTES + value.len());
                bytes.put_u64(revision);
                bytes.put_u16(place);
                bytes.put_slice(&value);
                bytes.freeze()
            });
            documents.push(DocumentWrite { space, key: one.key, value });
        }
        Ok(documents)
    }
}

impl Backend for Embedded {
    fn append(&self, batch: Batch, done: Appended) {
        let Batch { events, progress, order } = batch;
        let appends = events.into_iter().map(|event| Append {
            queue: self.0.stream.clone(),
            entry: self.0.entry(event),
            when_full: WhenFull::DropOldest,
        });
        let commit = Commit {
            appends: appends.collect(),
            documents: progress.iter().map(|(edge, progress)| mark_write(edge, progress)).collect(),
            chain: order,
            ..Commit::default()
        };
        self.0.store.commit_when_room(commit, move |result| done(result.map(drop).map_err(uncommitted)));
    }

    fn events(&self, from: u64, events_max: usize, bytes_max: usize) -> Answer<'_, Events> {
        let inner = self.0.clone();
        let limit = ReadLimit { messages: events_max, bytes: bytes_max };
        let read = move || {
            let batch = inner.store.read(&inner.stream, Offset(from), limit).map_err(unread)?;
            let events = batch.entries.into_iter().map(|stored| {
                let origin = origin(&stored.entry.route);
                (stored.offset.0, Event { envelope: stored.entry.envelope, origin, brought: None })
            });
            Ok(Events { events: events.collect(), next: batch.next.0 })
        };
        Box::pin(
            async move { tokio::task::spawn_blocking(read).await.unwrap_or(Err(BackendError::Stopping)) },
        )
    }

    fn span(&self) -> Answer<'_, Span> {
        let (store, stream) = (&self.0.store, &self.0.stream);
        let span = Span { first: store.cursor(stream).0, next: store.tail(stream).0 };
        Box::pin(async move { Ok(span) })
    }

    fn before_end(&self, count: u64) -> Answer<'_, u64> {
        Box::pin(async move {
            let span = self.span().await?;
            Ok(span.next.saturating_sub(count).max(span.first))
        })
    }

    fn appends(&self) -> watch::Receiver<u64> {
        self.0.appended.subscribe()
    }

    fn progress(&self, edge: &Name) -> Answer<'_, Vec<Progress>> {
        let found = self.0.store.documents(MARKS, &format!("{edge}/"), MARKS_MAX).map_err(unread);
        let read = found.map(|all| all.iter().filter_map(|(key, value)| read_mark(key, value)).collect());
        Box::pin(async move { read })
    }

    fn get(&self, space: Space, key: &str) -> Answer<'_, Option<Stored>> {
        let found = self.0.store.document(&space_on_disk(space), key).map_err(unread);
        let stored = found.map(|bytes| {
            let (revision, _, value) = open(&bytes?)?;
            Some(Stored { revision, value })
        });
        Box::pin(async move { stored })
    }

    fn list(
        &self,
        space: Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<'_, Vec<(Text, Stored)>> {
        let found = self.0.store.documents_after(&space_on_disk(space), prefix, after, limit);
        let listed = found.map_err(unread).map(|all| {
            let stored = |(key, bytes): (Text, Bytes)| {
                let (revision, _, value) = open(&bytes)?;
                Some((key, Stored { revision, value }))
            };
            all.into_iter().filter_map(stored).collect()
        });
        Box::pin(async move { listed })
    }

    fn put(&self, writes: Vec<Write>) -> Answer<'_, u64> {
        let inner = self.0.clone();
        // In a task of its own: who no longer waits leaves no turn half done.
        let put = async move {
            let (done, mut answer) = oneshot::channel();
            inner.waiting().push_back(Waiting { writes, done });
            loop {
                let _turn = inner.turn.lock().await;
                // Those before may have written it with theirs.
                match answer.try_recv() {
                    Ok(result) => return result,
                    Err(oneshot::error::TryRecvError::Empty) => inner.put_waiting().await,
                    Err(oneshot::error::TryRecvError::Closed) => return Err(BackendError::Stopping),
                }
            }
        };
        Box::pin(async move { tokio::spawn(put).await.unwrap_or(Err(BackendError::Stopping)) })
    }

    fn changes(&self, after: u64, limit: usize) -> Answer<'_, Vec<Changed>> {
        let from = change_key(after, u16::MAX);
        let found = self.0.store.documents_after(CHANGES, "", Some(&from), limit).map_err(unread);
        let changes = found.map(|all| {
            let read = |(key, value): (Text, Bytes)| {
                let revision = u64::from_str_radix(key.split('/').next()?, 16).ok()?;
                let (space, key) = std::str::from_utf8(&value).ok()?.split_once('\0')?;
                Some(Changed { revision, space: Space::of(space)?, key: key.into() })
            };
            all.into_iter().filter_map(read).collect()
        });
        Box::pin(async move { changes })
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }
}
