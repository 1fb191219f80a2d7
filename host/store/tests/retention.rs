//! What goes, when, and what that leaves: time to live, quotas, space on the disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use holdfast_store::{Ack, Append, Appended, Commit, CommitError, Store, StoreConfig};
use holdfast_types::{LogId, Offset, QueueId, UnixMillis, WhenFull};
use std::{path::Path, sync::mpsc, time::Duration};
use support::{Folder, START, append, bodies, entry, queue, until};

fn put(store: &Store, append: Append) -> Appended {
    store.commit_blocking(Commit { appends: vec![append], ..Commit::default() }).unwrap().appends[0]
}

fn with_life(queue: &QueueId, number: u32, bytes: usize, seconds: u64) -> Append {
    let expires = Some(UnixMillis(START + seconds * 1000));
    Append { queue: queue.clone(), entry: entry(number, bytes, expires), when_full: WhenFull::Block }
}

fn small_segments(config: &mut StoreConfig) {
    config.segment_bytes = 4_000;
}

#[test]
fn short_lived_segments_go_from_behind_a_long_lived_head() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small_segments);
    let up = queue("upstream", 10);
    (0..10).for_each(|n| {
        put(&store, with_life(&up, n, 1000, 100_000));
    });
    (10..50).for_each(|n| {
        put(&store, with_life(&up, n, 1000, 10));
    });
    (50..60).for_each(|n| {
        put(&store, with_life(&up, n, 1000, 100_000));
    });
    let before = store.stats().bytes;
    folder.clock.pass(Duration::from_secs(11));
    until("the segments in the middle are gone", || store.stats().bytes < before / 2);
    let expected: Vec<u32> = (0..10).chain(50..60).collect();
    assert_eq!(bodies(&store, &up), expected);
    let status = &store.queues()[0];
    assert_eq!((status.gone.expired, status.cursor), (40, Offset(0)));
    drop(store);
    let (store, report) = folder.open_with(small_segments);
    assert!(report.is_clean(), "{report}");
    assert_eq!(bodies(&store, &up), expected);
    assert_eq!(store.queues()[0].gone.expired, 40);
}

#[test]
fn a_clock_set_forward_by_years_expires_nothing() {
    let folder = Folder::new();
    let up = queue("upstream", 10);
    let (store, _) = folder.open_with(small_segments);
    (0..20).for_each(|n| {
        put(&store, with_life(&up, n, 1000, 60));
    });
    std::thread::sleep(Duration::from_millis(450));
    folder.clock.set(START + 1_000_000_000);
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(bodies(&store, &up).len(), 20);
    drop(store);
    let (store, _) = folder.open_with(small_segments);
    assert_eq!(bodies(&store, &up).len(), 20, "the step is remembered");
    folder.clock.pass(Duration::from_secs(61));
    assert_eq!(bodies(&store, &up).len(), 0, "and their own time still ends them");
}

#[test]
fn a_clock_that_starts_in_the_past_keeps_what_is_stored() {
    let folder = Folder::new();
    let up = queue("upstream", 10);
    let (store, _) = folder.open();
    put(&store, with_life(&up, 0, 100, 60));
    drop(store);
    folder.clock.set(0);
    let (store, _) = folder.open();
    assert_eq!(bodies(&store, &up), [0]);
    folder.clock.pass(Duration::from_secs(61));
    assert!(bodies(&store, &up).is_empty(), "61 s later it is past its time, whatever the date");
}

#[test]
fn a_full_log_parks_who_blocks_in_order_and_lets_others_and_acks_pass() {
    let folder = Folder::new();
    let full = |config: &mut StoreConfig| {
        config.segment_bytes = 1_000;
        config.log_quotas.insert(LogId::named("upstream"), 10_000);
    };
    let (store, _) = folder.open_with(full);
    let (up, other) = (queue("upstream", 10), queue("module/m", 10));
    (0..9).for_each(|n| {
        put(&store, append(&up, n, 1000));
    });
    let (send, done) = mpsc::channel();
    for n in 9..15 {
        let send = send.clone();
        let commit = Commit { appends: vec![append(&up, n, 1000)], ..Commit::default() };
        store.commit(commit, move |result| send.send((n, result)).unwrap()).unwrap();
    }
    until("they are parked", || store.stats().parked == 6);
    put(&store, append(&other, 0, 1000));
    let newest = Append { when_full: WhenFull::DropNewest, ..append(&up, 99, 1000) };
    assert_eq!(put(&store, newest), Appended::Dropped);
    assert!(done.try_recv().is_err());
    let ack = Ack { queue: up.clone(), cursor: Offset(9) };
    store.commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
    for n in 9..15 {
        let (number, result) = done.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!((number, result.unwrap().appends), (n, vec![Appended::Stored(Offset(n.into()))]));
    }
    assert_eq!(bodies(&store, &up), (9..15).collect::<Vec<_>>());
    let large = Append { queue: up.clone(), entry: entry(0, 20_000, None), when_full: WhenFull::Block };
    let refused = store.commit_blocking(Commit { appends: vec![large], ..Commit::default() });
    assert!(matches!(refused, Err(CommitError::LargerThanLog { .. })));
}

#[test]
fn the_oldest_of_the_lowest_priority_make_room_and_are_counted() {
    let folder = Folder::new();
    let full = |config: &mut StoreConfig| {
        config.segment_bytes = 1_000;
        config.log_quotas.insert(LogId::named("upstream"), 20_000);
    };
    let (store, _) = folder.open_with(full);
    let (high, low) = (queue("upstream", 0), queue("upstream", 10));
    let oldest = |append: Append| Append { when_full: WhenFull::DropOldest, ..append };
    (0..8).for_each(|n| {
        put(&store, oldest(append(&high, n, 1000)));
    });
    (0..8).for_each(|n| {
        put(&store, oldest(append(&low, 100 + n, 1000)));
    });
    (8..20).for_each(|n| {
        put(&store, oldest(append(&high, n, 1000)));
    });
    let status = store.queues();
    let of = |queue: &QueueId| status.iter().find(|status| status.queue == *queue).unwrap().clone();
    assert_eq!(of(&low).waiting, 0);
    assert_eq!(of(&low).gone.dropped_oldest, 8);
    assert_eq!(of(&high).waiting + of(&high).gone.dropped_oldest, 20);
    assert!(store.stats().bytes <= 20_000);
    // A low message may not push out a high one: it is itself the one to go.
    assert_eq!(put(&store, oldest(append(&low, 200, 10_000))), Appended::Dropped);
    let left = bodies(&store, &high);
    assert_eq!(left.last(), Some(&19));
}

fn disk_bytes(path: &Path) -> u64 {
    let mut total = 0;
    let items = match std::fs::read_dir(path) {
        // What is deleted meanwhile takes nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
        items => items.unwrap(),
    };
    for item in items {
        let item = item.unwrap();
        let name = item.file_name();
        if item.path().is_dir() {
            total += disk_bytes(&item.path());
        } else if !name.to_string_lossy().ends_with(".jnl") {
            total += item.metadata().map_or(0, |found| found.len());
        }
    }
    total
}

#[test]
fn space_comes_back_soon_after_the_acknowledgement() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(|config| config.memory = holdfast_store::MemoryProfile::Small);
    let up = queue("upstream", 10);
    let tail = 40_000;
    for start in (0..tail).step_by(1000) {
        let appends = (start..start + 1000).map(|n| append(&up, n, 1000)).collect();
        store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
    }
    let files = folder.path().join("store");
    assert!(disk_bytes(&files) > 40_000_000);
    let ack = Ack { queue: up.clone(), cursor: Offset(tail.into()) };
    store.commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
    until("the space is back", || disk_bytes(&files) < 6_000_000);
    drop(store);
    let (store, report) = folder.open();
    assert!(report.is_clean(), "{report}");
    assert_eq!((store.queues()[0].waiting, store.tail(&up)), (0, Offset(tail.into())));
    assert_eq!(put(&store, append(&up, 1, 100)), Appended::Stored(Offset(tail.into())));
}
