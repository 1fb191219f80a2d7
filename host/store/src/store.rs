//! The handle that other rooms hold.

use crate::{
    clock::Clock,
    committer::Committer,
    completions::{Done, completions},
    config::{LOG_NAME_BYTES_MAX, StoreConfig},
    control::{Answer, Control, Which},
    dead_letter, documents,
    error::{CommitError, Full, StoreError},
    housekeeping,
    job::{CommitJob, EncodedAppend, Job},
    mailbox::{Mailbox, Refusal},
    message::{Append, Batch, Commit, Committed, ReadLimit, Stored, StoredDeadLetter},
    pick::{self, Picked},
    pipeline::{Pipeline, THREADS},
    reader,
    record::Encoded,
    recovery::{Opened, Recovery, RecoveryReport},
    shared::Shared,
    status::{QueuePosition, QueueStatus, StoreStats},
    sync::{lock, read, write},
};
use bytes::Bytes;
use holdfast_types::{LogId, Offset, QueueId, Text};
use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

/// Opens the store, repairing what a crash left and reporting what it could not repair.
pub fn open(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<(Store, RecoveryReport), StoreError> {
    let Opened { recovery, engine, index, epoch, report } = Recovery::open(&config, &*clock)?;
    let shared = Arc::new(Shared {
        unsynced: AtomicBool::new(false),
        committed_upto: AtomicU64::new(crate::fjall_compat::next_batch(&engine.db)),
        config,
        clock,
        engine: RwLock::new(Some(engine)),
        index: RwLock::new(index),
        mailbox: Mailbox::default(),
        stats: Mutex::default(),
        wakes: RwLock::default(),
        housekeeping: housekeeping::Housekeeping::default(),
        recovery,
        reopen_failed: Mutex::default(),
    });
    let (completions, completer) = completions();
    let committer = Committer::new(Arc::clone(&shared), completions);
    let pipeline = Arc::new(Pipeline::new(Arc::clone(&shared), committer));
    let commits = || {
        let pipeline = Arc::clone(&pipeline);
        spawn("holdfast-store", move || pipeline.run())
    };
    let mut threads = std::iter::repeat_with(commits).take(THREADS).collect::<Result<Vec<_>, _>>()?;
    drop(pipeline);
    threads.push(spawn("holdfast-store-done", move || completer.run())?);
    threads.push(spawn("holdfast-store-housekeeping", {
        let shared = Arc::clone(&shared);
        move || housekeeping::run(&shared)
    })?);
    let owner = Owner { shared: Arc::clone(&shared), threads: Mutex::new(threads), is_handed_over: false };
    Ok((Store { shared, epoch, owner: Arc::new(owner) }, report))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| StoreError::file("start the thread", name, &error))
}

/// The store. Cloning gives another handle; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    epoch: u64,
    owner: Arc<Owner>,
}

/// Stops the threads when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// It was handed over to a thread of its own to be closed there.
    is_handed_over: bool,
}

impl Owner {
    fn close(&self) -> Result<(), StoreError> {
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return Ok(());
        }
        self.shared.mailbox.close();
        let me = std::thread::current().id();
        for thread in threads {
            if thread.thread().name() == Some("holdfast-store-housekeeping") {
                self.shared.housekeeping.stop();
            }
            // A thread cannot wait for itself.
            if thread.thread().id() != me && thread.join().is_err() {
                tracing::error!("a thread of the store ended with a panic");
            }
        }
        let synced = self.shared.with_engine(crate::engine::Engine::sync);
        self.shared.recovery.keep_marks(&self.shared);
        self.shared.recovery.let_go_of_pack_files();
        *write(&self.shared.engine) = None;
        synced
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A completion that holds the last handle runs on one of the threads that would be waited for.
        let me = std::thread::current().id();
        if lock(&self.threads).iter().any(|thread| thread.thread().id() == me) {
            if self.is_handed_over {
                // There is no other thread to be had. What waits is written; nobody waits for that.
                self.shared.mailbox.close();
                return;
            }
            let threads = Mutex::new(std::mem::take(&mut *lock(&self.threads)));
            let owner = Self { shared: Arc::clone(&self.shared), threads, is_handed_over: true };
            if let Err(error) = spawn("holdfast-store-close", move || drop(owner)) {
                tracing::error!(%error, "the store could not be closed; what was acknowledged is on disk");
            }
            return;
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store did not close well; what was acknowledged is on disk");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.shared.config.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Hands a commit to the committer. `done` is called exactly once, on the store's completing thread, in order, after everything in
    /// the commit is on disk, or with the reason why nothing of it is; it must be quick and must not call back into
    /// `commit_blocking`. (A commit that breaks a bound is refused at once, on the caller's thread.) A commit with a
    /// `Block` append to a full log waits, in order, while commits to other logs and acks go on.
    ///
    /// # Errors
    /// The mailbox is full; commit and completion come back. Try again when earlier ones are done.
    pub fn commit<D>(&self, commit: Commit, done: D) -> Result<(), Full<D>>
    where
        D: FnOnce(Result<Committed, CommitError>) + Send + 'static,
    {
        if let Err(error) = check(&commit) {
            done(Err(error));
            return Ok(());
        }
        match self.shared.mailbox.reserve() {
            Err(Refusal::Full) => return Err(Full { commit, done }),
            Err(Refusal::Closed) => {
                done(Err(CommitError::Closed));
                return Ok(());
            }
            Ok(()) => {}
        }
        if let Err(job) = self.shared.mailbox.fill(encode(commit, Box::new(done))) {
            refuse(*job);
        }
        Ok(())
    }

    /// The same, but waits on the caller's thread while the mailbox is full, which lasts about one fsync. Must not be
    /// called from a completion: that would wait for itself.
    pub fn commit_when_room<D>(&self, commit: Commit, done: D)
    where
        D: FnOnce(Result<Committed, CommitError>) + Send + 'static,
    {
        if let Err(error) = check(&commit) {
            done(Err(error));
            return;
        }
        if let Err(job) = self.shared.mailbox.send(encode(commit, Box::new(done))) {
            refuse(*job);
        }
    }

    /// The same for threads that may wait: for room in the mailbox and for the disk.
    ///
    /// # Errors
    /// Nothing of the commit was recorded.
    pub fn commit_blocking(&self, commit: Commit) -> Result<Committed, CommitError> {
        check(&commit)?;
        let (send, receive) = mpsc::sync_channel(1);
        let done = move |result| {
            // The receiver waits below; it cannot have gone.
            let _ = send.send(result);
        };
        let job = encode(commit, Box::new(done));
        if self.shared.mailbox.send(job).is_err() {
            return Err(CommitError::Closed);
        }
        receive.recv().unwrap_or(Err(CommitError::Closed))
    }

    /// Reads messages at or above `from` (and the cursor) that are on disk. Expired, dropped and unreadable ones are
    /// left out; expired and unreadable ones are counted. When nothing comes back but `next` is above `from`, what is
    /// below `next` is of no more use and may be acknowledged.
    ///
    /// # Errors
    /// The database cannot be read as a whole. Damage to single messages is no error but counted.
    pub fn read(&self, queue: &QueueId, from: Offset, limit: ReadLimit) -> Result<Batch, StoreError> {
        reader::read_batch(&self.shared, queue, from, limit)
    }

    /// Reads the messages at `offsets`, in that order, until the limit is reached: an answer for each, at least one.
    /// Nothing is counted.
    ///
    /// # Errors
    /// The database cannot be read as a whole. A message that is damaged is gone.
    pub fn pick(
        &self,
        queue: &QueueId,
        offsets: &[Offset],
        limit: ReadLimit,
    ) -> Result<Vec<Picked>, StoreError> {
        pick::pick(&self.shared, queue, offsets, limit)
    }

    /// The next offset of the queue that is not done; 0 for a queue that was never used.
    pub fn cursor(&self, queue: &QueueId) -> Offset {
        read(&self.shared.index).queues.get(queue).map_or(Offset(0), |queue| queue.cursor)
    }

    /// The offset that the next message of the queue gets. Everything below is on disk.
    pub fn tail(&self, queue: &QueueId) -> Offset {
        read(&self.shared.index).queues.get(queue).map_or(Offset(0), |queue| queue.tail)
    }

    /// The queues of a log, highest priority first, from memory.
    pub fn positions(&self, log: &LogId) -> Vec<QueuePosition> {
        let index = read(&self.shared.index);
        let position = |(id, queue): (&QueueId, &crate::queue_index::QueueIndex)| QueuePosition {
            queue: id.clone(),
            cursor: queue.cursor,
            tail: queue.tail,
        };
        index.log(log).map(position).collect()
    }

    /// Calls `wake` after every durable append to `log`, on the committer's thread. It must be quick.
    pub fn on_append(&self, log: &LogId, wake: Arc<dyn Fn() + Send + Sync>) {
        write(&self.shared.wakes).entry(log.clone()).or_default().push(wake);
    }

    /// The life of the store: drawn when it was made, and again when recovery found that acknowledged data is lost.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// One document.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn document(&self, space: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        documents::one(&self.shared, space, key)
    }

    /// The documents of a space whose keys begin with `prefix`, in order of their keys, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn documents(
        &self,
        space: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(Text, Bytes)>, StoreError> {
        documents::many(&self.shared, space, prefix, None, limit)
    }

    /// The same, but only those whose keys come after `after`: page by page.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn documents_after(
        &self,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Text, Bytes)>, StoreError> {
        documents::many(&self.shared, space, prefix, after, limit)
    }

    /// Every queue in numbers. Dead-letter queues are not listed; their letters are counted at their log.
    pub fn queues(&self) -> Vec<QueueStatus> {
        let ids: Vec<QueueId> = read(&self.shared.index).queues.keys().cloned().collect();
        let living = ids.iter().filter(|id| dead_letter::log_of_living(&id.log).is_none());
        living.filter_map(|id| self.status(id)).collect()
    }

    fn status(&self, id: &QueueId) -> Option<QueueStatus> {
        let queue = read(&self.shared.index).queues.get(id).cloned()?;
        let first = reader::look(&self.shared, id, queue.cursor, 1).unwrap_or_default();
        Some(QueueStatus {
            queue: id.clone(),
            waiting: queue.waiting(),
            bytes: queue.bytes(),
            oldest: first.first().map(|(_, entry, _)| entry.envelope.received),
            cursor: queue.cursor,
            tail: queue.tail,
            gone: queue.gone,
            dead: dead_letter::count(&self.shared, &id.log),
        })
    }

    /// The first `messages` of a queue from its cursor or from `from` on, expired ones too. Changes and counts nothing.
    ///
    /// # Errors
    /// No such queue, or the database cannot be read.
    pub fn peek(
        &self,
        queue: &QueueId,
        from: Option<Offset>,
        messages: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        if !read(&self.shared.index).queues.contains_key(queue) {
            return Err(StoreError::UnknownQueue { queue: queue.clone() });
        }
        let found = reader::look(&self.shared, queue, from.unwrap_or_default(), messages)?;
        Ok(found.into_iter().map(|(offset, entry, _)| Stored { offset, entry }).collect())
    }

    /// Drops everything that waits in one queue. Returns how many messages that were.
    ///
    /// # Errors
    /// No such queue, or it could not be committed.
    pub fn purge(&self, queue: &QueueId) -> Result<u64, StoreError> {
        if !read(&self.shared.index).queues.contains_key(queue) {
            return Err(StoreError::UnknownQueue { queue: queue.clone() });
        }
        self.control(|answer| Control::Purge(vec![queue.clone()], answer))
    }

    /// Drops everything that waits in all queues of a log; its dead letters stay. Returns how many messages that were.
    ///
    /// # Errors
    /// No such log, or it could not be committed.
    pub fn purge_log(&self, log: &LogId) -> Result<u64, StoreError> {
        let queues: Vec<QueueId> = read(&self.shared.index).log(log).map(|(id, _)| id.clone()).collect();
        if queues.is_empty() {
            return Err(StoreError::UnknownLog { log: log.clone() });
        }
        self.control(|answer| Control::Purge(queues, answer))
    }

    /// The dead letters of a log, from an offset of its dead-letter queue on.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn dead_letters(
        &self,
        log: &LogId,
        from: Option<Offset>,
        messages: usize,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        dead_letter::letters(&self.shared, log, from, messages)
    }

    /// Drops the dead letters of a log. Returns how many that were.
    ///
    /// # Errors
    /// It could not be committed.
    pub fn purge_dead_letters(&self, log: &LogId) -> Result<u64, StoreError> {
        self.control(|answer| Control::Purge(vec![dead_letter::queue_of_dead(log)], answer))
    }

    /// Sends dead letters again to the queues they came from, at their tails, with `life` as their new time to live.
    /// Returns how many.
    ///
    /// # Errors
    /// The log is full, or it could not be committed; those that were not sent stay dead letters.
    pub fn requeue(&self, log: &LogId, which: Which, life: Option<Duration>) -> Result<u64, StoreError> {
        self.control(|answer| Control::Requeue(log.clone(), which, life, answer))
    }

    /// Deletes a log with its queues, counters and dead letters. Its offsets begin again at 0 when it is used again,
    /// so that this is for logs whose module is gone. Returns how many messages were dropped.
    ///
    /// # Errors
    /// No such log, or it could not be committed.
    pub fn delete_log(&self, log: &LogId) -> Result<u64, StoreError> {
        self.control(|answer| Control::DeleteLog(log.clone(), answer))
    }

    /// The store in numbers.
    pub fn stats(&self) -> StoreStats {
        let bytes = read(&self.shared.index).bytes();
        StoreStats { bytes, ..*lock(&self.shared.stats) }
    }

    /// Writes what waits, completes it, and closes. Later calls answer that the store is closed. Closing twice is
    /// closing once.
    ///
    /// # Errors
    /// The last sync failed; what was acknowledged before is on disk all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        self.owner.close()
    }

    fn control(&self, make: impl FnOnce(Answer) -> Control) -> Result<u64, StoreError> {
        let (send, receive) = mpsc::sync_channel(1);
        if let Err(job) = self.shared.mailbox.send(Job::Control(make(send))) {
            refuse(*job);
        }
        receive.recv().unwrap_or(Err(StoreError::Closed))
    }
}

fn refuse(job: Job) {
    match job {
        Job::Commit(job) => (job.done)(Err(CommitError::Closed)),
        Job::Control(control) => control.refuse(),
    }
}

fn check(commit: &Commit) -> Result<(), CommitError> {
    for append in &commit.appends {
        let name = append.queue.log.as_str();
        if name.is_empty() || name.len() > LOG_NAME_BYTES_MAX {
            let (bytes, bytes_max) = (name.len(), LOG_NAME_BYTES_MAX);
            return Err(CommitError::LogName { name: name.into(), bytes, bytes_max });
        }
    }
    commit.documents.iter().try_for_each(documents::check)
}

/// Puts a checked commit into its form on disk, on the caller's thread.
fn encode(commit: Commit, done: Done) -> Job {
    let encoded = |append: &Append| EncodedAppend {
        queue: append.queue.clone(),
        record: Encoded::new(&append.entry, None, append.when_full),
        when_full: append.when_full,
    };
    let appends: Vec<EncodedAppend> = commit.appends.iter().map(encoded).collect();
    let documents: Vec<_> = commit.documents.into_iter().map(documents::key_and_value).collect();
    let records: usize = appends.iter().map(|append| append.record.len()).sum();
    let values: usize =
        documents.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum();
    let bytes = records + values;
    Job::Commit(CommitJob {
        appends,
        acks: commit.acks,
        chain: commit.chain,
        dead: commit.dead,
        letters: Vec::new(),
        documents,
        bytes,
        done,
    })
}
