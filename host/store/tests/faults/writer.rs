//! The process that is killed: four producers, two priorities, a reader that acknowledges.

use crate::{
    support::{append, queue},
    witness::{LEVELS, Witness, config},
};
use holdfast_store::{Ack, Appended, Commit, SystemClock};
use holdfast_types::Offset;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How a writer is to write.
#[derive(Clone, Debug)]
pub struct Plan {
    pub store: PathBuf,
    pub record: PathBuf,
    /// The first number, so that no two messages over all rounds have the same.
    pub from: u32,
    /// Commits of each producer; the writer ends after that.
    pub commits: u32,
    pub bytes_max: u32,
    pub ballast_bytes: u64,
}

impl Plan {
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let Self { store, record, from, commits, bytes_max, ballast_bytes } = self;
        let plan = format!(
            "{}\n{}\n{from}\n{commits}\n{bytes_max}\n{ballast_bytes}",
            store.display(),
            record.display()
        );
        command.args(["writer::a_writer", "--exact", "--nocapture"]).env("HOLDFAST_FAULT_WRITER", plan);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub fn start(&self) -> Child {
        self.command().spawn().unwrap()
    }
}

/// Waits until a writer has opened the store `times` times in all.
pub fn wait_for_open(record: &Path, child: &mut Child, times: u64) {
    let start = Instant::now();
    while crate::witness::Record::read(record).opened < times {
        assert!(start.elapsed() < Duration::from_secs(60), "the writer did not open the store");
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the writer ended with {status} before it opened the store");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_writer() {
    let Ok(plan) = std::env::var("HOLDFAST_FAULT_WRITER") else { return };
    let parts: Vec<&str> = plan.lines().collect();
    let n = |at: usize| parts[at].parse::<u32>().unwrap();
    write(Path::new(parts[0]), Path::new(parts[1]), n(2), n(3), n(4), parts[5].parse().unwrap());
}

fn write(store: &Path, record: &Path, from: u32, commits: u32, bytes_max: u32, ballast_bytes: u64) {
    let witness = Witness::append_to(record);
    let config = holdfast_store::StoreConfig { ballast_bytes, ..config(store) };
    let (store, _) = holdfast_store::open(config, Arc::new(SystemClock::new())).unwrap();
    witness.opened();
    let number = AtomicU32::new(from);
    let done = AtomicU64::new(0);
    let failures = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for producer in 0..4_u32 {
            let (store, witness, number, done, failures) = (&store, &witness, &number, &done, &failures);
            scope.spawn(move || {
                for n in 0..commits {
                    // For a while all write to one queue, so that light groups follow one another; then to both.
                    let is_mixed = n / 40 % 2 == 1;
                    let level =
                        LEVELS[(n as usize / 80 + usize::from(is_mixed) * (producer + n) as usize) % 2];
                    let queue = queue("upstream", level);
                    let first = number.fetch_add(3, Ordering::Relaxed);
                    // Mostly small, now and then one that is larger than a pack.
                    let bytes = if n % 17 == 3 && is_mixed { bytes_max } else { 40 + first % 700 };
                    let appends =
                        (first..first + 1 + n % 3).map(|n| append(&queue, n, bytes as usize)).collect();
                    match store.commit_blocking(Commit { appends, ..Commit::default() }) {
                        Ok(committed) => {
                            for (at, appended) in committed.appends.iter().enumerate() {
                                let Appended::Stored(offset) = *appended else { continue };
                                witness.stored(level, offset, first + at as u32);
                            }
                        }
                        Err(_) => {
                            witness.failed();
                            failures.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (store, witness, done) = (&store, &witness, &done);
        scope.spawn(move || {
            while done.load(Ordering::Relaxed) < 4 {
                for level in LEVELS {
                    let queue = queue("upstream", level);
                    let (cursor, tail) = (store.cursor(&queue).0, store.tail(&queue).0);
                    let to = Offset(cursor + (tail - cursor) / 3);
                    witness.passing(level, to);
                    let acks = vec![Ack { queue, cursor: to }];
                    if store.commit_blocking(Commit { acks, ..Commit::default() }).is_ok() {
                        witness.passed(level, to);
                    }
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        });
    });
    // A failure to close well is one of the faults.
    let _ = store.close();
}
