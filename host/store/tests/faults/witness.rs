//! The outside record: what the writer was told is on disk, kept where the store's faults do not reach.

use crate::support::{START, TestClock, number, queue};
use holdfast_store::{ReadLimit, RecoveryReport, Store, StoreConfig};
use holdfast_types::{Offset, QueueId};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
};

pub const LEVELS: [u8; 2] = [0, 10];

/// Written by the writer, one line for each event, each in one write.
pub struct Witness(File);

impl Witness {
    pub fn append_to(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(line.as_bytes()).unwrap();
    }

    /// The message is on disk.
    pub fn stored(&self, level: u8, offset: Offset, number: u32) {
        self.line(&format!("s {level} {offset} {number}\n"));
    }

    /// The cursor will be moved there.
    pub fn passing(&self, level: u8, cursor: Offset) {
        self.line(&format!("p {level} {cursor} 0\n"));
    }

    /// The cursor has been moved there.
    pub fn passed(&self, level: u8, cursor: Offset) {
        self.line(&format!("c {level} {cursor} 0\n"));
    }

    /// A commit failed and was not acknowledged.
    pub fn failed(&self) {
        self.line("f 0 0 0\n");
    }

    /// The store was opened.
    pub fn opened(&self) {
        self.line("o 0 0 0\n");
    }
}

/// What the record says.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub stored: BTreeMap<(u8, u64), u32>,
    passing: BTreeMap<u8, u64>,
    passed: BTreeMap<u8, u64>,
    pub failed: u64,
    pub opened: u64,
}

impl Record {
    pub fn read(path: &Path) -> Self {
        let mut record = Self::default();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let n = |at: usize| parts[at].parse::<u64>().unwrap();
            let level = n(1) as u8;
            match parts[0] {
                "s" => {
                    let twice = record.stored.insert((level, n(2)), n(3) as u32);
                    assert_eq!(twice, None, "offset {} of level {level} was given twice", n(2));
                }
                "p" => record.passing.entry(level).or_default().clone_from(&n(2)),
                "c" => record.passed.entry(level).or_default().clone_from(&n(2)),
                "f" => record.failed += 1,
                _ => record.opened += 1,
            }
        }
        record
    }
}

pub fn config(path: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 256 << 10, ballast_bytes: 0, ..StoreConfig::new(path) }
}

pub fn open(path: &Path) -> (Store, RecoveryReport) {
    holdfast_store::open(config(path), Arc::new(TestClock::new(START))).unwrap()
}

/// Opens the store and compares it with the record: nothing acknowledged is missing, nothing has changed its place, no
/// cursor is before what was confirmed or beyond what was asked for.
pub fn check(path: &Path, record: &Record) -> RecoveryReport {
    let (store, report) = open(path);
    assert!(report.is_clean(), "{report}");
    for level in LEVELS {
        let queue = queue("upstream", level);
        let cursor = store.cursor(&queue).0;
        let (passed, passing) = (record.passed.get(&level), record.passing.get(&level));
        assert!(
            cursor >= passed.copied().unwrap_or(0),
            "cursor {cursor} of level {level} fell behind {passed:?}"
        );
        assert!(
            cursor <= passing.copied().unwrap_or(0),
            "cursor {cursor} of level {level} ran ahead of {passing:?}"
        );
        let found = all(&store, &queue);
        let numbers: BTreeMap<u64, u32> = found.iter().copied().collect();
        let dense = found.iter().map(|(offset, _)| *offset).eq(cursor..store.tail(&queue).0);
        assert!(dense, "level {level} has a gap after {cursor}");
        for ((_, offset), number) in record.stored.range((level, cursor)..=(level, u64::MAX)) {
            assert_eq!(numbers.get(offset), Some(number), "level {level}, offset {offset}");
        }
    }
    store.close().unwrap();
    report
}

/// Offset and number of everything in a queue.
pub fn all(store: &Store, queue: &QueueId) -> Vec<(u64, u32)> {
    let mut found = Vec::new();
    let mut from = Offset(0);
    while from < store.tail(queue) {
        let batch = store.read(queue, from, ReadLimit { messages: 10_000, bytes: 8 << 20 }).unwrap();
        for stored in &batch.entries {
            let number = number(&stored.entry);
            assert!(
                stored.entry.envelope.message.body[4..].iter().all(|byte| *byte == number as u8),
                "a body changed"
            );
            found.push((stored.offset.0, number));
        }
        if batch.next <= from {
            break;
        }
        from = batch.next;
    }
    found
}

impl Record {
    /// The same, but with the last cursor that was asked for in a later state of the record: the writer may have asked
    /// between the reading of the record and the copy of the disk.
    pub fn with_all_asked(&self, path: &Path) -> Self {
        Self { passing: Self::read(path).passing, ..self.clone() }
    }
}
