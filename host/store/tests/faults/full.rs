//! A disk that is full: back-pressure, not loss; and room again when something is dropped.

use crate::{
    power::Mount,
    support::{append, queue},
    witness::{all, config},
};
use holdfast_store::{Append, Appended, Commit, StoreConfig, SystemClock};
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
    let (store, _) = open();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let started = Instant::now();
    // Newest are dropped once the store knows that the disk is full; until then commits may fail.
    for n in 0.. {
        let newest = Append { when_full: WhenFull::DropNewest, ..append(&up, n, 20_000) };
        match store.commit_blocking(Commit { appends: vec![newest], ..Commit::default() }) {
            Ok(done) => match done.appends[0] {
                Appended::Stored(offset) => acknowledged.push((offset.0, n)),
                Appended::Dropped => break,
            },
            Err(_) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the store never noticed; {} reopened",
            store.stats().reopened
        );
    }
    assert!(acknowledged.len() > 500, "{} fit", acknowledged.len());
    assert_eq!(all(&store, &up), acknowledged);
    drop(store);
    let (store, report) = open();
    assert!(report.is_clean(), "{report}");
    assert_eq!(all(&store, &up), acknowledged);
    let waiting = store.purge(&up).unwrap();
    assert_eq!(waiting, acknowledged.len() as u64);
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
    println!("disk full: {} messages acknowledged, 0 lost, {refused} commits refused", acknowledged.len());
}
