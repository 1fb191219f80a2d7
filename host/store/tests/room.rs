//! Who gets room when it is short: bounds that hold, turns that go on, letters that are not lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use holdfast_store::{
    Ack, Append, Appended, Commit, CommitError, DeadLetter, QueueStatus, Store, StoreConfig,
};
use holdfast_types::{LogId, Offset, QueueId, WhenFull};
use std::sync::mpsc;
use support::{Folder, append, bodies, number, queue};

const QUOTA: u64 = 64_000;

fn small(config: &mut StoreConfig) {
    config.quota_bytes = QUOTA;
    config.segment_bytes = 4_000;
}

fn with(when_full: WhenFull, append: Append) -> Append {
    Append { when_full, ..append }
}

fn put(store: &Store, append: Append) -> Appended {
    store.commit_blocking(Commit { appends: vec![append], ..Commit::default() }).unwrap().appends[0]
}

fn status(store: &Store, queue: &QueueId) -> QueueStatus {
    store.queues().into_iter().find(|status| status.queue == *queue).unwrap()
}

/// Puts messages in until one has to wait; gives their number with it.
fn fill(store: &Store, to: &QueueId, bytes: usize) -> (u32, mpsc::Receiver<Result<(), CommitError>>) {
    let (send, waiting) = mpsc::channel();
    let (before, mut sent) = (store.stats().parked, 0);
    while store.stats().parked == before {
        let send = send.clone();
        let appends = vec![append(to, sent, bytes)];
        let commit = Commit { appends, ..Commit::default() };
        store.commit(commit, move |result| drop(send.send(result.map(|_| ())))).unwrap();
        // The committer has looked at it when it has done what came later.
        store.commit_blocking(Commit::default()).unwrap();
        sent += 1;
        assert!(sent < 10_000, "there is a bound");
    }
    (sent, waiting)
}

fn done_with(queue: &QueueId, offset: u64) -> Ack {
    Ack { queue: queue.clone(), cursor: Offset(offset + 1) }
}

#[test]
fn a_module_whose_own_messages_fill_everything_gets_done_with_them() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let (inbox, up) = (queue("module/m", 10), queue("upstream", 10));
    let (sent, _waiting) = fill(&store, &inbox, 1000);
    // Somebody else waits for room upstream; the module must not wait behind those who wait for it.
    let (_, _waiting_too) = fill(&store, &up, 1000);
    let chain = Some(std::sync::Arc::default());
    for offset in 0..u64::from(sent) - 1 {
        // What it sends is a little larger than what it is done with.
        let appends = vec![append(&up, u32::try_from(offset).unwrap(), 1020)];
        let acks = vec![done_with(&inbox, offset)];
        store.commit_blocking(Commit { appends, acks, chain: chain.clone(), ..Commit::default() }).unwrap();
        let used = store.stats().bytes;
        assert!(used <= QUOTA, "{used} bytes after {offset}");
    }
    assert_eq!(store.cursor(&inbox), Offset(u64::from(sent) - 1));
    assert_eq!(status(&store, &inbox).gone, status(&store, &up).gone, "and nobody lost anything");
}

#[test]
fn senders_leave_room_for_those_who_give_some_back() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let (sent, waiting) = fill(&store, &queue("module/m", 10), 1000);
    assert!(store.stats().bytes + 4_000 <= QUOTA, "{}", store.stats().bytes);
    assert_eq!(waiting.try_iter().count(), sent as usize - 1);
    // What could only use that room would wait for ever.
    let giant = append(&queue("upstream", 10), 0, 62_000);
    let refused = store.commit_blocking(Commit { appends: vec![giant], ..Commit::default() }).unwrap_err();
    assert!(refused.is_permanent(), "{refused}");
}

#[test]
fn parts_of_one_commit_that_fit_only_alone_are_refused_for_ever() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(|config| {
        small(config);
        config.log_quotas.insert(LogId::upstream(), 10_000);
    });
    let up = queue("upstream", 10);
    let appends: Vec<Append> = (0..3).map(|n| append(&up, n, 4000)).collect();
    let refused = store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap_err();
    assert!(matches!(refused, CommitError::LargerThanLog { .. }) && refused.is_permanent(), "{refused}");
    assert_eq!(store.tail(&up), Offset(0));
}

#[test]
fn when_all_is_full_the_oldest_of_any_log_that_allows_it_make_room() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let (stuck, up, high) = (queue("module/stuck", 10), queue("upstream", 10), queue("module/high", 1));
    let oldest = |append| with(WhenFull::DropOldest, append);
    (0..5).for_each(|n| {
        put(&store, oldest(append(&high, n, 1000)));
    });
    (0..100).for_each(|n| {
        assert!(matches!(put(&store, oldest(append(&stuck, n, 1000))), Appended::Stored(_)));
    });
    let before = status(&store, &stuck);
    assert!(before.gone.dropped_oldest > 0);
    for n in 0..20 {
        assert_eq!(put(&store, oldest(append(&up, n, 1000))), Appended::Stored(Offset(n.into())));
        assert!(store.stats().bytes <= QUOTA);
    }
    assert_eq!(bodies(&store, &up), (0..20).collect::<Vec<_>>(), "the new ones are all there");
    assert!(
        status(&store, &stuck).gone.dropped_oldest > before.gone.dropped_oldest,
        "and counted where they went"
    );
    assert_eq!(
        bodies(&store, &high),
        [0, 1, 2, 3, 4],
        "a higher priority does not make room for a lower one"
    );
    // The same after a start: what may go is known from the disk.
    drop(store);
    let (store, _) = folder.open_with(small);
    let before = status(&store, &stuck).waiting;
    (20..40).for_each(|n| {
        assert_eq!(put(&store, oldest(append(&up, n, 1000))), Appended::Stored(Offset(n.into())));
    });
    assert!(status(&store, &stuck).waiting < before);
}

#[test]
fn what_a_route_blocks_for_never_makes_room_for_others() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let (kept, up) = (queue("module/m", 10), queue("upstream", 10));
    let (sent, _waiting) = fill(&store, &kept, 1000);
    let newest = with(WhenFull::DropOldest, append(&up, 0, 1000));
    assert_eq!(put(&store, newest), Appended::Dropped);
    assert_eq!(status(&store, &up).gone.dropped_newest, 1, "and counted");
    assert_eq!(status(&store, &kept).waiting, u64::from(sent) - 1);
}

#[test]
fn a_message_larger_than_its_log_pushes_nothing_out() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(|config| {
        small(config);
        config.log_quotas.insert(LogId::upstream(), 10_000);
    });
    let up = queue("upstream", 10);
    (0..5).for_each(|n| {
        put(&store, with(WhenFull::DropOldest, append(&up, n, 1000)));
    });
    assert_eq!(put(&store, with(WhenFull::DropOldest, append(&up, 9, 20_000))), Appended::Dropped);
    assert_eq!(bodies(&store, &up), [0, 1, 2, 3, 4]);
}

#[test]
fn the_bound_holds_for_what_is_alive_whatever_the_sizes() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(|config| {
        small(config);
        config.log_quotas.insert(LogId::upstream(), 20_000);
    });
    let up = queue("upstream", 10);
    let mut cursor = 0;
    for round in 0..20_u32 {
        // Many small ones, some large ones; then the small ones are done.
        for n in 0..40 {
            let bytes = if n < 30 { 10 } else { 2_000 };
            put(&store, with(WhenFull::DropNewest, append(&up, round * 100 + n, bytes)));
        }
        let alive = store.peek(&up, None, 1000).unwrap();
        let bytes: usize = alive.iter().map(|stored| stored.entry.envelope.message.body.len()).sum();
        assert!(bytes <= 20_000, "{bytes} bytes of bodies are alive in a log of 20000");
        let small = alive.iter().take_while(|stored| number(&stored.entry) % 100 < 30).count();
        cursor += small.max(1) as u64;
        let acks = vec![Ack { queue: up.clone(), cursor: Offset(cursor) }];
        store.commit_blocking(Commit { acks, ..Commit::default() }).unwrap();
    }
}

fn letter(queue: &QueueId, offset: u64) -> DeadLetter {
    DeadLetter { queue: queue.clone(), offset: Offset(offset), reason: "it trapped".into(), attempts: 5 }
}

fn dead(store: &Store, queue: &QueueId) -> Vec<u32> {
    store.dead_letters(&queue.log, None, 1000).unwrap().iter().map(|letter| number(&letter.entry)).collect()
}

#[test]
fn a_dead_letter_has_room_also_when_all_is_full() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let inbox = queue("module/m", 10);
    let (sent, _waiting) = fill(&store, &inbox, 1000);
    for offset in 0..10 {
        let (acks, dead) = (vec![done_with(&inbox, offset)], vec![letter(&inbox, offset)]);
        store.commit_blocking(Commit { acks, dead, ..Commit::default() }).unwrap();
        assert!(store.stats().bytes <= QUOTA);
    }
    assert_eq!(dead(&store, &inbox), (0..10).collect::<Vec<_>>());
    assert!(sent > 20);
}

#[test]
fn a_dead_letter_that_finds_no_room_waits_with_its_message() {
    let folder = Folder::new();
    let (store, _) = folder.open_with(small);
    let (inbox, other) = (queue("module/m", 10), queue("module/other", 10));
    put(&store, append(&inbox, 7, 15_000));
    let (_, _waiting) = fill(&store, &other, 1000);
    let (send, done) = mpsc::channel();
    // Its message stays in the queue, below one that is not done, so that the letter needs room of its own.
    put_turn(&store, &other);
    let commit = Commit { dead: vec![letter(&inbox, 0)], ..Commit::default() };
    let parked = store.stats().parked;
    store.commit(commit, move |result| drop(send.send(result.map(|_| ())))).unwrap();
    store.commit_blocking(Commit::default()).unwrap();
    assert_eq!((store.stats().parked, done.try_recv().is_err()), (parked + 1, true));
    assert_eq!(bodies(&store, &inbox), [7], "it is where it was");
    store.purge(&other).unwrap();
    done.recv().unwrap().unwrap();
    assert_eq!((dead(&store, &inbox), bodies(&store, &inbox)), (vec![7], vec![]));
}

/// Something that asks for nothing but to be recorded.
fn put_turn(store: &Store, queue: &QueueId) {
    let acks = vec![Ack { queue: queue.clone(), cursor: Offset(0) }];
    store.commit_blocking(Commit { acks, ..Commit::default() }).unwrap();
}

#[test]
fn a_message_becomes_a_dead_letter_once() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let inbox = queue("module/m", 10);
    (0..4).for_each(|n| {
        put(&store, append(&inbox, n, 100));
    });
    let give_up = |store: &Store| {
        let commit = Commit { dead: vec![letter(&inbox, 2), letter(&inbox, 2)], ..Commit::default() };
        store.commit_blocking(commit).unwrap();
    };
    give_up(&store);
    give_up(&store);
    assert_eq!(dead(&store, &inbox), [2]);
    assert_eq!(bodies(&store, &inbox), [0, 1, 3], "whoever reads again does not get it again");
    drop(store);
    let (store, report) = folder.open();
    assert!(report.is_clean(), "{report}");
    give_up(&store);
    assert_eq!((dead(&store, &inbox), bodies(&store, &inbox)), (vec![2], vec![0, 1, 3]));
    store.commit_blocking(Commit { acks: vec![done_with(&inbox, 1)], ..Commit::default() }).unwrap();
    assert_eq!(store.cursor(&inbox), Offset(3));
    give_up(&store);
    assert_eq!(dead(&store, &inbox), [2]);
}

#[test]
fn a_dead_letter_that_cannot_be_read_refuses_its_commit() {
    let folder = Folder::new();
    let inbox = queue("module/m", 10);
    let (store, _) = folder.open_with(|config| config.memory = holdfast_store::MemoryProfile::Small);
    for start in (0..10_000).step_by(500) {
        let appends = (start..start + 500).map(|n| append(&inbox, n, 1000)).collect();
        store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
    }
    let files = support::files_under(&folder.path().join("store/packs"), "/packs/");
    assert!(!files.is_empty());
    files.iter().for_each(|path| support::damage(path));
    let commit =
        Commit { dead: vec![letter(&inbox, 0)], acks: vec![done_with(&inbox, 0)], ..Commit::default() };
    let refused = store.commit_blocking(commit).unwrap_err();
    assert!(matches!(refused, CommitError::Failed { .. }) && !refused.is_permanent(), "{refused}");
    assert_eq!(store.cursor(&inbox), Offset(0), "the cursor does not pass what was not kept");
    assert_eq!(dead(&store, &inbox).len(), 0);
    // The store goes on.
    put(&store, append(&queue("upstream", 10), 0, 100));
}

#[test]
fn a_store_whose_files_are_gone_acknowledges_nothing() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let up = queue("upstream", 10);
    put(&store, append(&up, 0, 100));
    let (here, away) = (folder.path().join("store"), folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let attempt =
        || store.commit_blocking(Commit { appends: vec![append(&up, 1, 100)], ..Commit::default() });
    support::until("it is noticed", || attempt().is_err());
    let refused = attempt().unwrap_err();
    assert!(refused.to_string().contains("are gone while it runs"), "{refused}");
    assert!(!here.join("db").exists(), "nothing was made in their place");
    // Another folder in its place is not the store either.
    std::fs::create_dir_all(here.join("db")).unwrap();
    std::fs::write(here.join("lock"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(attempt().is_err());
    let found: Vec<_> = std::fs::read_dir(&here).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(found.len(), 2, "it was written into: {found:?}");
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    support::until("it is back", || attempt().is_ok());
    let tail = store.tail(&up);
    drop(store);
    let (store, report) = folder.open();
    assert!(report.is_clean(), "{report}");
    assert_eq!(store.tail(&up), tail);
}
