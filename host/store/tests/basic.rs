//! The life of messages in one store, opened, closed and opened again.

mod support;

use holdfast_store::{
    Ack, Appended, Commit, CommitError, Committed, DeadLetter, DocumentWrite, ReadLimit, Which,
};
use holdfast_types::{LogId, Offset};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use support::{Folder, append, bodies, queue};

#[test]
fn what_was_committed_is_read_in_order_also_after_reopening() {
    let folder = Folder::new();
    let up = queue("upstream", 10);
    {
        let (store, report) = folder.open();
        assert!(report.created);
        for n in 0..100_u32 {
            let done = store
                .commit_blocking(Commit { appends: vec![append(&up, n, 20)], ..Commit::default() })
                .unwrap();
            assert_eq!(done.appends, [Appended::Stored(Offset(n.into()))]);
        }
        assert_eq!(bodies(&store, &up), (0..100).collect::<Vec<_>>());
        store.close().unwrap();
    }
    let (store, report) = folder.open();
    assert!(report.is_clean() && !report.created, "{report}");
    assert_eq!(report.messages, 100);
    assert_eq!(bodies(&store, &up), (0..100).collect::<Vec<_>>());
    let ack = Ack { queue: up.clone(), cursor: Offset(40) };
    store.commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
    assert_eq!(bodies(&store, &up), (40..100).collect::<Vec<_>>());
    let status = store.queues();
    assert_eq!((status[0].waiting, status[0].cursor, status[0].tail), (60, Offset(40), Offset(100)));
}

#[test]
fn a_dead_letter_keeps_its_reason_and_goes_back_where_it_came_from() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let work = queue("module/m", 3);
    for n in 0..3 {
        store.commit_blocking(Commit { appends: vec![append(&work, n, 20)], ..Commit::default() }).unwrap();
    }
    let dead =
        DeadLetter { queue: work.clone(), offset: Offset(0), reason: "it trapped".into(), attempts: 5 };
    let ack = Ack { queue: work.clone(), cursor: Offset(1) };
    store.commit_blocking(Commit { dead: vec![dead], acks: vec![ack], ..Commit::default() }).unwrap();
    let log = LogId::named("module/m");
    let letters = store.dead_letters(&log, None, 10).unwrap();
    assert_eq!((letters.len(), &*letters[0].death.reason, letters[0].death.attempts), (1, "it trapped", 5));
    assert_eq!(store.queues()[0].dead, 1);
    assert_eq!(store.requeue(&log, Which::All, None).unwrap(), 1);
    assert_eq!(bodies(&store, &work), [1, 2, 0]);
    assert_eq!(store.queues()[0].dead, 0);
}

#[test]
fn documents_are_written_with_the_messages_and_found_by_prefix() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let write = |key: &str, value: Option<&'static str>| DocumentWrite {
        space: "state/m".into(),
        key: key.into(),
        value: value.map(Into::into),
    };
    let documents = vec![write("a/1", Some("x")), write("a/2", Some("y")), write("b", Some("z"))];
    store.commit_blocking(Commit { documents, ..Commit::default() }).unwrap();
    store.commit_blocking(Commit { documents: vec![write("a/1", None)], ..Commit::default() }).unwrap();
    assert_eq!(store.document("state/m", "b").unwrap().as_deref(), Some(&b"z"[..]));
    let found = store.documents("state/m", "a/", 10).unwrap();
    assert_eq!(found.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a/2"]);
    assert!(store.documents("state", "", 10).unwrap().is_empty());
}

#[test]
fn a_purge_counts_what_it_took_and_a_read_stops_at_its_limit() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let up = queue("upstream", 0);
    let appends = (0..50).map(|n| append(&up, n, 1000)).collect();
    store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
    let batch = store.read(&up, Offset(10), ReadLimit { messages: 7, bytes: usize::MAX }).unwrap();
    assert_eq!((batch.entries.len(), batch.next), (7, Offset(17)));
    let batch = store.read(&up, Offset(0), ReadLimit { messages: 100, bytes: 2000 }).unwrap();
    assert_eq!(batch.entries.len(), 2);
    assert_eq!(store.purge(&up).unwrap(), 50);
    assert_eq!((store.queues()[0].waiting, store.queues()[0].gone.purged), (0, 50));
    assert_eq!(store.stats().bytes, 0);
}

/// A few senders who each wait for their message: what they send comes in the middle of the fsync of others.
#[test]
fn groups_that_are_synced_at_once_are_completed_in_the_order_of_their_offsets() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let up = queue("upstream", 10);
    let completed = Arc::new(Mutex::new(Vec::new()));
    let number = AtomicU32::new(0);
    let begun = Instant::now();
    let is_enough = || store.stats().overlapped > 200 || begun.elapsed() > Duration::from_secs(20);
    std::thread::scope(|scope| {
        for sender in 0..3_u32 {
            let (store, up, completed, number, is_enough) = (&store, &up, &completed, &number, &is_enough);
            scope.spawn(move || {
                for round in 0.. {
                    if is_enough() {
                        return;
                    }
                    let n = number.fetch_add(1, Ordering::Relaxed);
                    let (send, receive) = mpsc::sync_channel(1);
                    let completed = Arc::clone(completed);
                    let done = move |result: Result<Committed, CommitError>| {
                        if let [Appended::Stored(offset)] = result.unwrap().appends[..] {
                            completed.lock().unwrap().push((offset.0, n));
                        }
                        send.send(()).unwrap();
                    };
                    // Now and then one that is not light, or does something else besides.
                    let bytes = if round % 61 == 7 { 40_000 } else { 100 };
                    let acks =
                        (round % 43 == 5).then(|| Ack { queue: up.clone(), cursor: Offset(round / 2) });
                    let commit = Commit {
                        appends: vec![append(up, n, bytes)],
                        acks: acks.filter(|_| sender == 0).into_iter().collect(),
                        ..Commit::default()
                    };
                    store.commit_when_room(commit, done);
                    receive.recv().unwrap();
                }
            });
        }
    });
    let overlapped = store.stats().overlapped;
    assert!(overlapped > 0, "no group was written while another one was being synced");
    let completed = std::mem::take(&mut *completed.lock().unwrap());
    assert!(completed.iter().map(|(offset, _)| *offset).eq(0..completed.len() as u64), "{completed:?}");
    let cursor = usize::try_from(store.cursor(&up).0).unwrap();
    let expected: Vec<u32> = completed.iter().skip(cursor).map(|(_, n)| *n).collect();
    assert_eq!(bodies(&store, &up), expected);
    drop(store);
    let (store, report) = folder.open();
    assert!(report.is_clean(), "{report}");
    assert_eq!(bodies(&store, &up), expected);
}

#[test]
fn a_store_whose_last_handle_goes_in_a_completion_is_closed() {
    let folder = Folder::new();
    let up = queue("upstream", 10);
    for round in 0..8 {
        let (store, report) = folder.open();
        assert_eq!((report.is_clean(), report.messages), (true, round), "{report}");
        let last = store.clone();
        let (send, receive) = mpsc::sync_channel(1);
        let done = move |result: Result<Committed, CommitError>| {
            receive.recv().unwrap();
            result.unwrap();
            drop(last);
        };
        store.commit_when_room(Commit { appends: vec![append(&up, 1, 20)], ..Commit::default() }, done);
        drop(store);
        send.send(()).unwrap();
        let is_closed = || holdfast_store::open(folder.config(), folder.clock.clone()).is_ok();
        support::until("the store is closed", is_closed);
    }
}
