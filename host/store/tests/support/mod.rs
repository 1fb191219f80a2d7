//! What the store's tests share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "a test may fail")]

use holdfast_store::{Append, Clock, Entry, ReadLimit, RecoveryReport, Store, StoreConfig};
use holdfast_types::{
    Envelope, LogId, Message, Name, Offset, Priority, QueueId, Source, UnixMillis, WhenFull,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
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

/// Waits for a state.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The files below a folder whose path has `part` in it.
pub fn files_under(path: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = item.path();
        if path.is_dir() {
            found.extend(files_under(&path, part));
        } else if path.to_string_lossy().replace('\\', "/").contains(part) {
            found.push(path);
        }
    }
    found
}

/// Turns every byte of the front half of a file around.
pub fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let half = bytes.len() / 2;
    bytes[..half].iter_mut().for_each(|byte| *byte = !*byte);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
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
