//! Documents: a log that every process follows, and the state that it makes, in memory.
//!
//! Every change of documents is a message of the stream `documents`. It is published with the sequence that the last
//! message must have, and the batches in it were compared with the state up to that message; so all processes see the same
//! batches in the same order, each whole, and of two that change the same document at once one has to look again. What
//! waits for its turn in one process goes as one message.
//!
//! Each process holds all documents in memory. It hears of news over a plain subject, and looks by itself every second. When
//! the log has become longer than what it makes, a process writes the state as a snapshot (`snapshots.rs`) and lets the log
//! before it go.

use crate::{
    cluster::{Cluster, Sent},
    snapshots,
    state::{Above, BATCH_BITS, State, revision},
    wire::{Author, decode_documents, encode_documents},
};
use bytes::Bytes;
use holdfast_hub::backend::{BackendError, Changed, DocumentChange, Space, Stored, Write};
use holdfast_types::Text;
use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Changes that wait for their turn; one more waits to be taken.
const WAITING_MAX: usize = 4096;

/// Most batches in one message: a revision is the sequence of the message and the place of the batch, of eight bits.
const GROUP_BATCHES_MAX: usize = 1 << BATCH_BITS;

/// About the most bytes in one message.
const GROUP_BYTES: usize = 384 * 1024;

/// Messages of other processes that wait for the hub; while they do, nothing more is followed, and nothing stored.
const HEARD_MAX: usize = 10_000;

/// How long a message without an answer is published again before its batches are given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pause before it is published again.
const AGAIN: Duration = Duration::from_millis(100);

/// How often a process looks for news of which it has not heard.
const LOOK: Duration = Duration::from_secs(1);

/// A log of fewer bytes is not worth a snapshot; it may also become as long as the state itself.
const LOG_BYTES_MIN: usize = 64 << 20;

struct Waiting {
    writes: Vec<Write>,
    bytes: usize,
    done: oneshot::Sender<Result<u64, BackendError>>,
}

/// What only one task at a time does: to follow the log, or to write into it.
struct Turn {
    heard: Option<mpsc::Sender<Vec<DocumentChange>>>,
    /// Where the last snapshot was taken.
    snapshot: u64,
    log_bytes: usize,
}

/// The documents.
pub(crate) struct Documents {
    cluster: Arc<Cluster>,
    state: RwLock<State>,
    turn: Mutex<Turn>,
    waiting: mpsc::Sender<Waiting>,
    revision: watch::Sender<u64>,
    subject: String,
}

/// What following the log came to.
enum Followed {
    /// All is known, and this message was not among it.
    All,
    /// This process's own message is the last that is known.
    Own,
}

impl Documents {
    /// Reads everything that is stored.
    pub(crate) async fn open(cluster: Arc<Cluster>) -> Result<(Arc<Self>, Writer), String> {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let state = snapshots::load(&cluster).await?;
        let documents = Arc::new(Self {
            subject: format!("{}.documents", cluster.prefix),
            turn: Mutex::new(Turn { heard: None, snapshot: state.sequence, log_bytes: 0 }),
            revision: watch::channel(state.revision).0,
            state: RwLock::new(state),
            waiting,
            cluster,
        });
        documents.follow(&mut *documents.turn.lock().await, None).await?;
        Ok((documents.clone(), Writer { documents, queue }))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, space: Space, key: &str) -> Option<Stored> {
        self.state().get(space, key)
    }

    pub(crate) fn list(
        &self,
        space: Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(Text, Stored)> {
        self.state().list(space, prefix, after, limit)
    }

    pub(crate) fn changes(&self, after: u64, limit: usize) -> Vec<Changed> {
        self.state().changes(after, limit)
    }

    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// How many documents there are, and how many bytes they have.
    pub(crate) fn size(&self) -> (usize, usize) {
        let state = self.state();
        (state.len(), state.bytes)
    }

    /// From here on, what other processes write is told.
    pub(crate) async fn heard(&self) -> mpsc::Receiver<Vec<DocumentChange>> {
        let (tell, told) = mpsc::channel(HEARD_MAX);
        self.turn.lock().await.heard = Some(tell);
        told
    }

    pub(crate) async fn put(&self, writes: Vec<Write>) -> Result<u64, BackendError> {
        let size = |one: &Write| one.key.len() + one.value.as_ref().map_or(0, Bytes::len) + 32;
        let bytes: usize = writes.iter().map(size).sum();
        if bytes > self.cluster.payload_max {
            let max = self.cluster.payload_max;
            let why = format!(
                "the change has {bytes} bytes, the NATS servers take {max}; set max_payload in their configuration"
            );
            return Err(BackendError::Refused(why));
        }
        let (done, answer) = oneshot::channel();
        let stopping = |()| BackendError::Stopping;
        self.waiting.send(Waiting { writes, bytes, done }).await.map_err(|_| stopping(()))?;
        answer.await.map_err(|_| stopping(()))?
    }

    /// Takes what the log has behind what is known; `own` is a message of this process whose answer was lost.
    async fn follow(&self, turn: &mut Turn, own: Option<Author>) -> Result<Followed, String> {
        loop {
            let room = match &turn.heard {
                // Not before there is room to tell of it: who hears and who writes may be the same task.
                Some(heard) => match heard.clone().try_reserve_owned() {
                    Ok(room) => Some(room),
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        return Err(
                            "this hub is behind with what other hub processes have changed".to_owned()
                        );
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => {
                        turn.heard = None;
                        None
                    }
                },
                None => None,
            };
            let next = self.state().sequence + 1;
            let Some(bytes) = self.cluster.at(&self.cluster.documents, next).await? else {
                let (first, last) = self.cluster.span(&self.cluster.documents).await?;
                if last < next {
                    return Ok(Followed::All);
                }
                if first <= next {
                    // It was stored between the two questions.
                    continue;
                }
                // The log before it was let go: the snapshot has it.
                let newer = snapshots::load(&self.cluster).await?;
                if newer.sequence < next {
                    return Err(format!(
                        "the documents between {next} and {first} are neither in the log nor in a snapshot"
                    ));
                }
                turn.snapshot = newer.sequence;
                {
                    let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                    let changes = newer.since(&state);
                    *state = newer;
                    if let Some(room) = room {
                        room.send(changes);
                    }
                }
                self.tell_revision();
                continue;
            };
            turn.log_bytes += bytes.len();
            let (author, batches) = decode_documents(bytes).ok_or_else(|| {
                format!("message {next} of the log of documents is not understood; update this hub")
            })?;
            // Told while the state is held: who reads a revision finds told what made it.
            let is_own = own == Some(author);
            {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                let changes = state.apply(next, batches);
                if let Some(room) = room.filter(|_| !is_own) {
                    room.send(changes);
                }
            }
            self.tell_revision();
            if is_own {
                return Ok(Followed::Own);
            }
        }
    }

    /// Takes a message of this process that is stored right behind what is known.
    fn apply_own(&self, turn: &mut Turn, sequence: u64, body: Bytes) {
        turn.log_bytes += body.len();
        // What was just encoded can be decoded.
        let batches = decode_documents(body).map(|(_, batches)| batches).unwrap_or_default();
        self.state.write().unwrap_or_else(PoisonError::into_inner).apply(sequence, batches);
        self.tell_revision();
    }

    fn tell_revision(&self) {
        self.revision.send_replace(self.state().revision);
    }

    /// Looks for news now.
    async fn look(&self) -> Result<(), String> {
        self.follow(&mut *self.turn.lock().await, None).await.map(drop)
    }

    /// Follows the log until `stop`; `rung` wakes it before its time.
    pub(crate) async fn keep_up(self: Arc<Self>, rung: Arc<tokio::sync::Notify>, stop: CancellationToken) {
        let mut failed: Option<String> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = rung.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.look().await {
                Ok(()) if failed.take().is_some() => {
                    tracing::info!("the documents of the fleet are followed again");
                }
                Ok(()) => {}
                Err(error) => {
                    if failed.as_ref() != Some(&error) {
                        tracing::warn!(
                            error,
                            "the documents of the fleet are not followed for now; what is known of them stays"
                        );
                    }
                    failed = Some(error);
                }
            }
            self.shorten().await;
        }
    }

    /// Takes a snapshot if the log is long.
    async fn shorten(&self) {
        let (state, since) = {
            let turn = self.turn.lock().await;
            let state = self.state();
            let messages = state.sequence.saturating_sub(turn.snapshot);
            // Not all processes at the same message.
            let after = self.cluster.snapshot_after;
            let messages_min = after + self.cluster.process % (after / 4).max(1);
            let is_long = messages > messages_min
                && (messages > 100 * after || turn.log_bytes > LOG_BYTES_MIN.min(state.bytes));
            if !is_long {
                return;
            }
            (state.clone(), turn.snapshot)
        };
        match snapshots::save(&self.cluster, &state).await {
            Ok(sequence) => {
                let mut turn = self.turn.lock().await;
                if turn.snapshot == since {
                    (turn.snapshot, turn.log_bytes) = (sequence, 0);
                }
            }
            Err(error) => {
                tracing::warn!(error, "the log of documents could not be shortened; it is tried again");
            }
        }
    }
}

/// Writes the changes of this process, many in one message.
pub(crate) struct Writer {
    documents: Arc<Documents>,
    queue: mpsc::Receiver<Waiting>,
}

impl Writer {
    /// Writes until `stop`; `stored` is called behind each message.
    pub(crate) async fn run(mut self, stop: CancellationToken, stored: impl Fn() + Send) {
        let mut group: Vec<Waiting> = Vec::new();
        loop {
            if group.is_empty() {
                let first = tokio::select! {
                    () = stop.cancelled() => return,
                    first = self.queue.recv() => first,
                };
                let Some(first) = first else { return };
                group.push(first);
            }
            let mut bytes: usize = group.iter().map(|one| one.bytes).sum();
            let mut next = None;
            while group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES {
                let Ok(more) = self.queue.try_recv() else { break };
                if bytes + more.bytes > self.documents.cluster.payload_max {
                    next = Some(more);
                    break;
                }
                bytes += more.bytes;
                group.push(more);
            }
            self.documents.write(std::mem::take(&mut group), &stop).await;
            stored();
            group.extend(next);
        }
    }
}

impl Documents {
    /// Writes a group; each of its batches is told what came of it.
    async fn write(&self, mut group: Vec<Waiting>, stop: &CancellationToken) {
        let until = Instant::now() + PATIENCE;
        let mut turn = self.turn.lock().await;
        loop {
            let (sequence, ready) = self.compared(&mut group);
            if ready.is_empty() {
                return;
            }
            let author = self.cluster.author();
            let body = encode_documents(author, &ready);
            let failed = loop {
                let why = match self.cluster.put(self.subject.clone(), sequence, body.clone()).await {
                    Sent::Stored(at) if at == sequence + 1 => {
                        self.apply_own(&mut turn, at, body);
                        return told(group, at);
                    }
                    Sent::Stored(_) | Sent::Conflict => match self.follow(&mut turn, Some(author)).await {
                        Ok(Followed::Own) => return told(group, sequence + 1),
                        // Somebody else was first: look at what there is now.
                        Ok(Followed::All) => break None,
                        Err(why) => why,
                    },
                    Sent::Refused(why) => break Some(BackendError::Refused(why)),
                    Sent::Unknown(why) => why,
                };
                if Instant::now() > until {
                    break Some(BackendError::Failed(why));
                }
                tokio::select! {
                    () = stop.cancelled() => break Some(BackendError::Stopping),
                    () = tokio::time::sleep(AGAIN) => {}
                }
            };
            if let Some(error) = failed {
                // Who no longer waits needs no answer.
                group.into_iter().for_each(|one| drop(one.done.send(Err(error.clone()))));
                return;
            }
        }
    }

    /// Compares the batches with what is known, and answers those that do not fit. Gives behind which message the others
    /// may be stored.
    fn compared(&self, group: &mut Vec<Waiting>) -> (u64, Vec<Vec<Write>>) {
        let state = self.state();
        let (mut above, mut fitting, mut ready) = (Above::default(), Vec::new(), Vec::new());
        for one in group.drain(..) {
            match above.take(&state, &one.writes, revision(state.sequence + 1, ready.len())) {
                Ok(()) => {
                    ready.push(one.writes.clone());
                    fitting.push(one);
                }
                Err((space, key)) => drop(one.done.send(Err(BackendError::Conflict { space, key }))),
            }
        }
        *group = fitting;
        (state.sequence, ready)
    }
}

fn told(group: Vec<Waiting>, sequence: u64) {
    for (number, one) in group.into_iter().enumerate() {
        // Who no longer waits needs no answer.
        let _ = one.done.send(Ok(revision(sequence, number)));
    }
}
