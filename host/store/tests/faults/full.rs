//! A disk that is full: back-pressure, not loss; and room again when something is dropped.

use crate::{
    power::Mount,
    support::{append, queue},
    witness::{all, config},
};
use holdfast_store::{Append, Appended, Commit, Store, StoreConfig, SystemClock};
use holdfast_types::WhenFull;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

#[test]
fn a_full_disk_refuses_new_messages_and_keeps_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(64 << 20, &dir.path().join("mnt")) else {
        eprintln!("skipped: a tmpfs of its own needs root");
        return;
    };
    let path = mount.path().join("store");
    let open = || {
        let config = StoreConfig { ballast_bytes: 12 << 20, segment_bytes: 1 << 20, ..config(&path) };
        holdfast_store::open(config, Arc::new(SystemClock::new())).unwrap()
    };
    let up = queue("upstream", 10);
    let (mut store, _) = open();
    let (mut total, mut refused) = (0, 0);
    // Each time everything is given up, the disk has to take as much again: journals must not be left to hold it.
    for round in 0..4 {
        let acknowledged = fill(&store, &mut refused);
        total += acknowledged.len();
        assert!(acknowledged.len() > 500, "{} fit in round {round}", acknowledged.len());
        assert_eq!(all(&store, &up), acknowledged);
        if round == 0 {
            drop(store);
            let (opened, report) = open();
            assert!(report.is_clean(), "{report}");
            assert_eq!(all(&opened, &up), acknowledged);
            store = opened;
        }
        assert_eq!(store.purge(&up).unwrap(), acknowledged.len() as u64);
    }
    let started = Instant::now();
    loop {
        let done =
            store.commit_blocking(Commit { appends: vec![append(&up, 1, 20_000)], ..Commit::default() });
        if done.is_ok() && store.stats().bytes > 5 << 20 {
            break;
        }
        if done.is_err() {
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the store did not get going again");
    }
    println!("disk full: {total} messages acknowledged, 0 lost, {refused} commits refused");
}

/// Appends until the store drops the newest because it knows that the disk is full; until then commits may fail. What
/// was dropped since the logs were emptied, before the room was back, is not the end yet.
fn fill(store: &Store, refused: &mut u64) -> Vec<(u64, u32)> {
    let up = queue("upstream", 10);
    let mut acknowledged = Vec::new();
    let started = Instant::now();
    for n in 0.. {
        let newest = Append { when_full: WhenFull::DropNewest, ..append(&up, n, 20_000) };
        match store.commit_blocking(Commit { appends: vec![newest], ..Commit::default() }) {
            Ok(done) => match done.appends[0] {
                Appended::Stored(offset) => acknowledged.push((offset.0, n)),
                Appended::Dropped if acknowledged.len() > 500 => return acknowledged,
                Appended::Dropped => std::thread::sleep(Duration::from_millis(20)),
            },
            Err(_) => {
                *refused += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "after {} messages the store does not get on; {} reopened",
            acknowledged.len(),
            store.stats().reopened
        );
    }
    acknowledged
}
