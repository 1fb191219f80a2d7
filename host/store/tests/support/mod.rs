//! What the store's tests share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "a test may fail")]

use holdfast_store::{Append, Clock, Entry, ReadLimit, RecoveryReport, Store, StoreConfig};
use holdfast_types::{
    Envelope, LogId, Message, Name, Offset, Priority, QueueId, Source, UnixMillis, WhenFull,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A clock that stands still until it is told to go on.
#[derive(Debug)]
pub struct TestClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl TestClock {
    pub fn new(wall: u64) -> Self {
        Self { wall: AtomicU64::new(wall), monotonic: AtomicU64::new(0) }
    }

    /// Time passes.
    pub fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.monotonic.fetch_add(millis, Ordering::SeqCst);
    }

    /// Somebody sets the clock.
    pub fn set(&self, wall: u64) {
        self.wall.store(wall, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

pub const START: u64 = 1_700_000_000_000;

/// A folder for one store, and the clock of that store.
pub struct Folder {
    pub dir: tempfile::TempDir,
    pub clock: Arc<TestClock>,
}

impl Folder {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(TestClock::new(START)) }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> StoreConfig {
        StoreConfig { ballast_bytes: 0, ..StoreConfig::new(self.dir.path().join("store")) }
    }

    pub fn open(&self) -> (Store, RecoveryReport) {
        self.open_with(|_| {})
    }

    pub fn open_with(&self, change: impl FnOnce(&mut StoreConfig)) -> (Store, RecoveryReport) {
        let mut config = self.config();
        change(&mut config);
        holdfast_store::open(config, self.clock.clone()).unwrap()
    }
}

pub fn queue(log: &str, level: u8) -> QueueId {
    QueueId { log: LogId::named(log), priority: Priority::new(level).unwrap() }
}

/// A message whose body begins with its number, `bytes` long.
pub fn entry(number: u32, bytes: usize, expires: Option<UnixMillis>) -> Entry {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(bytes.max(4), number as u8);
    let source =
        Source::Module { module: Name::new("simulator").unwrap(), output: Some(Name::new("out").unwrap()) };
    let envelope = Envelope { message: Message::new(body), source, received: UnixMillis(START), hops: 0 };
    Entry { envelope: Arc::new(envelope), input: None, route: "r".into(), expires, addressed: None }
}

pub fn append(queue: &QueueId, number: u32, bytes: usize) -> Append {
    Append { queue: queue.clone(), entry: entry(number, bytes, None), when_full: WhenFull::Block }
}

pub fn number(entry: &Entry) -> u32 {
    u32::from_be_bytes(entry.envelope.message.body[..4].try_into().unwrap())
}

/// The numbers of all messages that a reader gets from the cursor on.
pub fn bodies(store: &Store, queue: &QueueId) -> Vec<u32> {
    let mut all = Vec::new();
    let mut from = Offset(0);
    loop {
        let batch = store.read(queue, from, ReadLimit::default()).unwrap();
        all.extend(batch.entries.iter().map(|stored| number(&stored.entry)));
        if batch.entries.is_empty() && (batch.next <= from || batch.next >= store.tail(queue)) {
            return all;
        }
        from = batch.next;
    }
}
