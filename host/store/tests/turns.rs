//! Commits that continue one another: none may pass what an earlier one has not recorded.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use holdfast_store::{Ack, Append, Chain, Commit, CommitError, Store};
use holdfast_types::{Offset, QueueId, WhenFull};
use std::sync::{Arc, mpsc};
use support::{Folder, bodies, entry, queue};

fn blocking(queue: &QueueId, number: u32) -> Append {
    Append { queue: queue.clone(), entry: entry(number, 1000, None), when_full: WhenFull::Block }
}

/// The turn that is done with the message at `offset` of `inbox`, and sends one to `outbox`.
fn turn(chain: &Arc<Chain>, inbox: &QueueId, offset: u64, outbox: Option<&QueueId>) -> Commit {
    Commit {
        appends: outbox.iter().map(|queue| blocking(queue, u32::try_from(offset).unwrap())).collect(),
        acks: vec![Ack { queue: inbox.clone(), cursor: Offset(offset + 1) }],
        chain: Some(chain.clone()),
        ..Commit::default()
    }
}

fn filled(folder: &Folder, inbox: &QueueId, outbox: &QueueId) -> Store {
    let (store, _) = folder.open_with(|config| {
        config.log_quotas.insert(outbox.log.clone(), 4_000);
        config.segment_bytes = 1_000;
    });
    for n in 0..3 {
        let appends = vec![blocking(inbox, n)];
        store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
    }
    store
}

#[test]
fn a_turn_waits_behind_the_one_that_waits_for_room() {
    let folder = Folder::new();
    let (inbox, outbox) = (queue("module/m", 10), queue("upstream", 10));
    let store = filled(&folder, &inbox, &outbox);
    let (waited, waiting) = mpsc::channel();
    let mut puts = 0;
    // Until one has to wait for room.
    while store.stats().parked == 0 {
        let waited = waited.clone();
        let appends = vec![blocking(&outbox, puts)];
        store
            .commit(Commit { appends, ..Commit::default() }, move |result| waited.send(result).unwrap())
            .unwrap();
        puts += 1;
        // The committer is asked something, so that it has looked at the commit.
        store.commit_blocking(Commit::default()).unwrap();
        assert!(puts < 100, "the log has a bound");
    }
    let chain = Arc::default();
    let (done, turns) = mpsc::channel();
    for (offset, to) in [(0, Some(&outbox)), (1, None), (2, None)] {
        let done = done.clone();
        store
            .commit(turn(&chain, &inbox, offset, to), move |result| done.send((offset, result)).unwrap())
            .unwrap();
    }
    store.commit_blocking(Commit::default()).unwrap();
    assert_eq!(store.cursor(&inbox), Offset(0), "no turn passes the first");
    store.purge(&outbox).unwrap();
    for expected in 0..3 {
        let (offset, result) = turns.recv().unwrap();
        assert_eq!((offset, result.is_ok()), (expected, true));
    }
    assert_eq!(store.cursor(&inbox), Offset(3));
    assert_eq!(bodies(&store, &outbox).last(), Some(&0), "what the first turn sent is there");
    for _ in 0..puts {
        waiting.recv().unwrap().unwrap();
    }
}

#[test]
fn no_turn_is_recorded_after_one_that_was_not() {
    let folder = Folder::new();
    let (inbox, outbox) = (queue("module/m", 10), queue("upstream", 10));
    let store = filled(&folder, &inbox, &outbox);
    let chain = Arc::default();
    let giant = Append { queue: outbox.clone(), entry: entry(0, 10_000, None), when_full: WhenFull::Block };
    let never = Commit { appends: vec![giant], ..turn(&chain, &inbox, 0, None) };
    assert!(matches!(store.commit_blocking(never).unwrap_err(), CommitError::LargerThanLog { .. }));
    // A turn of a timer moves no cursor; it follows from the others all the same.
    let timer =
        Commit { appends: vec![blocking(&outbox, 7)], chain: Some(chain.clone()), ..Commit::default() };
    assert_eq!(store.commit_blocking(timer).unwrap_err(), CommitError::OutOfTurn);
    assert_eq!(store.commit_blocking(turn(&chain, &inbox, 1, None)).unwrap_err(), CommitError::OutOfTurn);
    assert_eq!((store.cursor(&inbox), store.tail(&outbox)), (Offset(0), Offset(0)), "nothing was recorded");
    let anew = Arc::default();
    store.commit_blocking(turn(&anew, &inbox, 0, Some(&outbox))).unwrap();
    assert_eq!(store.cursor(&inbox), Offset(1));
}

#[test]
fn a_turn_that_waits_for_room_can_be_taken_back() {
    let folder = Folder::new();
    let (inbox, outbox) = (queue("module/m", 10), queue("upstream", 10));
    let store = filled(&folder, &inbox, &outbox);
    let mut puts = 0;
    while store.stats().parked == 0 {
        let appends = vec![blocking(&outbox, puts)];
        store.commit(Commit { appends, ..Commit::default() }, |_| {}).unwrap();
        puts += 1;
        store.commit_blocking(Commit::default()).unwrap();
    }
    let chain: Arc<Chain> = Arc::default();
    let (done, turns) = mpsc::channel();
    for (offset, to) in [(0, Some(&outbox)), (1, None)] {
        let done = done.clone();
        store.commit(turn(&chain, &inbox, offset, to), move |result| done.send(result).unwrap()).unwrap();
    }
    store.commit_blocking(Commit::default()).unwrap();
    assert_eq!(store.stats().parked, 3);
    chain.break_it();
    // Nothing was freed: they do not wait for room any more.
    for _ in 0..2 {
        assert_eq!(turns.recv().unwrap().unwrap_err(), CommitError::OutOfTurn);
    }
    store.purge(&outbox).unwrap();
    store.commit_blocking(Commit::default()).unwrap();
    assert_eq!(store.cursor(&inbox), Offset(0));
    assert_eq!(bodies(&store, &outbox).len(), 1, "only who waited before them is there");
}
