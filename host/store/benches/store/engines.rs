//! What is compared: each takes bodies and completes them when they are on disk, all with the same group commit.

use holdfast_store::{
    Append, Commit, CommitError, Committed, Entry, Linger, Store, StoreConfig, SystemClock,
};
use holdfast_types::{Envelope, LogId, Message, Name, Priority, QueueId, Source, UnixMillis, WhenFull};
use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

type Completion = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;
pub type Done = Box<dyn FnOnce() + Send>;

pub trait Engine: Send + Sync {
    fn append(&self, body: bytes::Bytes, done: Done);

    /// What else is worth saying after a run.
    fn note(&self) -> String {
        String::new()
    }
}

/// What writes one group and syncs it.
pub trait Disk: Send + 'static {
    fn write(&mut self, bodies: &[bytes::Bytes]);
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(bytes::Bytes, Done)>,
    closed: bool,
}

/// The group commit of the others: one thread, one write, one sync, then the completions.
pub struct Grouped {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Grouped {
    pub fn new(mut disk: impl Disk, linger: Duration) -> Self {
        let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let shared = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            loop {
                let mut group = {
                    let (lock, filled) = &*shared;
                    let mut queue = lock.lock().unwrap();
                    while queue.waiting.is_empty() && !queue.closed {
                        queue = filled.wait(queue).unwrap();
                    }
                    if queue.waiting.is_empty() {
                        return;
                    }
                    if !linger.is_zero() {
                        drop(queue);
                        std::thread::sleep(linger);
                        queue = lock.lock().unwrap();
                    }
                    let take = queue.waiting.len().min(1024);
                    let rest = queue.waiting.split_off(take);
                    std::mem::replace(&mut queue.waiting, rest)
                };
                let bodies: Vec<_> = group.iter().map(|(body, _)| body.clone()).collect();
                disk.write(&bodies);
                group.drain(..).for_each(|(_, done)| done());
            }
        });
        Self { queue, thread: Some(thread) }
    }
}

impl Engine for Grouped {
    fn append(&self, body: bytes::Bytes, done: Done) {
        self.queue.0.lock().unwrap().waiting.push((body, done));
        self.queue.1.notify_one();
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        self.queue.0.lock().unwrap().closed = true;
        self.queue.1.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// An append-only file; `zeroed` was written full before, which is the limit of the disk.
pub struct Raw {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    zeroed: u64,
}

impl Raw {
    pub fn new(folder: &Path, zeroed: u64) -> Self {
        let mut file = File::create(folder.join("raw")).unwrap();
        let block = vec![0; 1 << 20];
        (0..zeroed >> 20).for_each(|_| file.write_all(&block).unwrap());
        file.sync_all().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        Self { file, buffer: Vec::new(), written: 0, zeroed }
    }
}

impl Disk for Raw {
    fn write(&mut self, bodies: &[bytes::Bytes]) {
        self.buffer.clear();
        for body in bodies {
            self.buffer.extend((body.len() as u32).to_le_bytes());
            self.buffer.extend(crc32c::crc32c(body).to_le_bytes());
            self.buffer.extend_from_slice(body);
        }
        if self.zeroed > 0 && self.written + self.buffer.len() as u64 > self.zeroed {
            self.file.seek(SeekFrom::Start(0)).unwrap();
            self.written = 0;
        }
        self.file.write_all(&self.buffer).unwrap();
        self.written += self.buffer.len() as u64;
        self.file.sync_data().unwrap();
    }
}

/// SQLite with a write-ahead log and full sync.
pub struct Sqlite(pub rusqlite::Connection);

impl Sqlite {
    pub fn new(folder: &Path) -> Self {
        let db = rusqlite::Connection::open(folder.join("sqlite")).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "synchronous", "FULL").unwrap();
        db.execute("CREATE TABLE IF NOT EXISTS q (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)", ()).unwrap();
        Self(db)
    }
}

impl Disk for Sqlite {
    fn write(&mut self, bodies: &[bytes::Bytes]) {
        let transaction = self.0.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO q (body) VALUES (?1)").unwrap();
            bodies.iter().for_each(|body| _ = insert.execute([&body[..]]).unwrap());
        }
        transaction.commit().unwrap();
    }
}

/// SQLite as it is mostly used: a transaction for each message.
pub struct OneByOne(pub Sqlite);

impl Disk for OneByOne {
    fn write(&mut self, bodies: &[bytes::Bytes]) {
        bodies.iter().for_each(|body| self.0.write(std::slice::from_ref(body)));
    }
}

pub fn queue() -> QueueId {
    QueueId { log: LogId::upstream(), priority: Priority::DEFAULT }
}

pub fn config(folder: &Path, linger: Linger) -> StoreConfig {
    StoreConfig {
        linger,
        quota_bytes: 1 << 40,
        ballast_bytes: 0,
        ..StoreConfig::new(folder.join("holdfast"))
    }
}

pub struct Holdfast {
    pub store: Store,
    source: Source,
    route: Arc<str>,
}

impl Holdfast {
    pub fn new(folder: &Path, linger: Linger) -> Self {
        let (store, _) = holdfast_store::open(config(folder, linger), Arc::new(SystemClock::new())).unwrap();
        let name = |text| Name::new(text).unwrap();
        let source = Source::Module { module: name("simulator"), output: Some(name("readings")) };
        Self { store, source, route: "readings".into() }
    }

    pub fn commit(&self, body: bytes::Bytes) -> Commit {
        let received = UnixMillis(1_700_000_000_000);
        let envelope =
            Envelope { message: Message::new(body), source: self.source.clone(), received, hops: 0 };
        let expires = Some(UnixMillis(received.0 + 7_200_000_000_000));
        let entry = Entry {
            envelope: Arc::new(envelope),
            input: None,
            route: self.route.clone(),
            expires,
            addressed: None,
        };
        Commit {
            appends: vec![Append { queue: queue(), entry, when_full: WhenFull::Block }],
            ..Commit::default()
        }
    }
}

impl Engine for Holdfast {
    fn note(&self) -> String {
        let stats = self.store.stats();
        format!("{} per fsync of {} us", stats.messages / stats.fsyncs.max(1), stats.fsync_us_mean)
    }

    fn append(&self, body: bytes::Bytes, done: Done) {
        let mut commit = self.commit(body);
        let mut completion: Completion = Box::new(move |result| {
            result.unwrap();
            done();
        });
        while let Err(full) = self.store.commit(commit, completion) {
            (commit, completion) = (full.commit, full.done);
            std::thread::yield_now();
        }
    }
}
