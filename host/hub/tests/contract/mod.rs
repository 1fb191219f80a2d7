//! What every backend must keep. Each story takes a maker of backends, so that it runs on any of them.

use holdfast_hub::backend::{
    Backend, BackendError, Batch, Event, Expect, Gap, Origin, Progress, Space, Write,
};
use holdfast_link::Mark;
use holdfast_types::{Envelope, Message, Name, Offset, Priority, Source, StableId, UnixMillis};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Makes a backend, and makes it again from what is durable.
pub trait Maker {
    /// What was opened before is closed.
    async fn open(&mut self) -> Arc<dyn Backend>;
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn event(n: u64, origin: Origin) -> Event {
    let source = Source::Child { child: name("press"), topic: None };
    let mut message = Message::new(format!("{n}"));
    message.properties.set("n", &n.to_string());
    Event {
        envelope: Arc::new(Envelope { message, source, received: UnixMillis(1000 + n), hops: 0 }),
        origin,
        brought: None,
    }
}

fn progress(sequence: u64) -> Progress {
    Progress {
        mark: Mark { epoch: 7, priority: Priority::DEFAULT, sequence: Offset(sequence) },
        gaps: 1,
        missing: 3,
        last_gap: Some(Gap { from: 1, to: 4, at: UnixMillis(5) }),
    }
}

async fn append(backend: &dyn Backend, batch: Batch) -> Result<(), BackendError> {
    let (answer, done) = oneshot::channel();
    backend.append(batch, Box::new(move |result| answer.send(result).unwrap()));
    done.await.unwrap()
}

pub async fn events_and_marks_are_durable_together(mut maker: impl Maker) {
    let backend = maker.open().await;
    let id = StableId { edge: name("edge-1"), epoch: 7, priority: Priority::DEFAULT, sequence: Offset(2) };
    let events = vec![
        event(0, Origin::Direct),
        event(1, Origin::Edge(id)),
        event(2, Origin::Volatile(name("edge-1"))),
    ];
    let mut appends = backend.appends();
    appends.borrow_and_update();
    let batch = Batch { events: events.clone(), progress: vec![(name("edge-1"), progress(2))], order: None };
    append(&*backend, batch).await.unwrap();
    appends.changed().await.unwrap();
    drop(backend);
    let backend = maker.open().await;
    let read = backend.events(0, 100, 1 << 20).await.unwrap();
    let (offsets, found): (Vec<u64>, Vec<Event>) = read.events.into_iter().unzip();
    assert_eq!(found, events);
    assert!(offsets.is_sorted_by(|one, other| one < other), "{offsets:?}");
    assert_eq!(backend.progress(&name("edge-1")).await.unwrap(), [progress(2)]);
    assert!(backend.progress(&name("edge-10")).await.unwrap().is_empty());
    assert!(backend.progress(&name("edge")).await.unwrap().is_empty());
    let span = backend.span().await.unwrap();
    assert_eq!((span.first, span.next), (offsets[0], read.next));
    let part = backend.events(offsets[1], 1, 1 << 20).await.unwrap();
    assert_eq!((part.events.len(), part.events[0].0, part.next), (1, offsets[1], offsets[2]));
    let end = backend.events(span.next, 10, 1 << 20).await.unwrap();
    assert_eq!((end.events.len(), end.next), (0, span.next));
    for (count, from) in [(0, span.next), (1, offsets[2]), (3, offsets[0]), (99, offsets[0])] {
        assert_eq!(backend.before_end(count).await.unwrap(), from, "{count} before the end");
    }
}

pub async fn many_batches_keep_their_order(mut maker: impl Maker) {
    let backend = maker.open().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let order = Some(Arc::default());
    for batch in 0..200_u64 {
        let events = (0..5).map(|n| event(batch * 5 + n, Origin::Direct)).collect();
        let tell = tell.clone();
        let given =
            Batch { events, progress: vec![(name("e"), progress(batch * 5 + 4))], order: order.clone() };
        backend.append(given, Box::new(move |result| tell.send((batch, result)).unwrap()));
    }
    for batch in 0..200 {
        assert_eq!(told.recv().await.unwrap(), (batch, Ok(())));
    }
    let read = backend.events(0, 5000, usize::MAX).await.unwrap();
    let bodies: Vec<String> = read
        .events
        .iter()
        .map(|(_, e)| String::from_utf8(e.envelope.message.body.to_vec()).unwrap())
        .collect();
    assert_eq!(bodies, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(backend.progress(&name("e")).await.unwrap()[0].mark.sequence, Offset(999));
}

pub async fn behind_a_batch_that_is_not_stored_none_of_its_order_is(mut maker: impl Maker) {
    let backend = maker.open().await;
    let order: Arc<holdfast_hub::backend::Chain> = Arc::default();
    let batch = |n| Batch {
        events: vec![event(n, Origin::Direct)],
        progress: Vec::new(),
        order: Some(order.clone()),
    };
    append(&*backend, batch(0)).await.unwrap();
    order.break_it();
    assert_eq!(append(&*backend, batch(1)).await, Err(BackendError::OutOfTurn));
    append(&*backend, Batch { order: None, ..batch(2) }).await.unwrap();
    assert_eq!(backend.events(0, 10, 1 << 20).await.unwrap().events.len(), 2);
}

pub async fn documents_are_compared_and_set_all_or_none(mut maker: impl Maker) {
    let backend = maker.open().await;
    let first = backend.put(vec![Write::set(Space::Twins, "a", "1").when(Expect::Absent)]).await.unwrap();
    let conflict = backend
        .put(vec![
            Write::set(Space::Twins, "b", "1"),
            Write::set(Space::Twins, "a", "2").when(Expect::Absent),
        ])
        .await;
    assert!(matches!(conflict, Err(BackendError::Conflict { space: Space::Twins, .. })), "{conflict:?}");
    assert_eq!(backend.get(Space::Twins, "b").await.unwrap(), None);
    let second =
        backend.put(vec![Write::set(Space::Twins, "a", "2").when(Expect::Revision(first))]).await.unwrap();
    assert!(second > first);
    assert!(
        backend.put(vec![Write::set(Space::Twins, "a", "3").when(Expect::Revision(first))]).await.is_err()
    );
    drop(backend);
    let backend = maker.open().await;
    let stored = backend.get(Space::Twins, "a").await.unwrap().unwrap();
    assert_eq!((stored.revision, &stored.value[..]), (second, b"2".as_slice()));
    assert_eq!(*backend.revision().borrow(), second);
    assert_eq!(backend.get(Space::Identities, "a").await.unwrap(), None, "spaces are apart");
    assert!(backend.put(vec![Write::delete(Space::Twins, "a")]).await.unwrap() > second);
    assert_eq!(backend.get(Space::Twins, "a").await.unwrap(), None);
}

pub async fn of_writers_at_once_one_wins_each_time(mut maker: impl Maker) {
    let backend = maker.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let backend = backend.clone();
        writers.spawn(async move {
            let mut done = 0;
            while done < 10 {
                let found = backend.get(Space::Twins, "count").await.unwrap();
                let count: u32 =
                    found.as_ref().map_or(0, |s| std::str::from_utf8(&s.value).unwrap().parse().unwrap());
                let expect = found.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
                let write = Write::set(Space::Twins, "count", (count + 1).to_string()).when(expect);
                done += u32::from(backend.put(vec![write]).await.is_ok());
            }
        });
    }
    writers.join_all().await;
    assert_eq!(backend.get(Space::Twins, "count").await.unwrap().unwrap().value, "80");
}

pub async fn many_changes_at_once_have_revisions_of_their_own(mut maker: impl Maker) {
    let backend = maker.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..200 {
        let backend = backend.clone();
        writers.spawn(async move {
            let own = Write::set(Space::Twins, &format!("t{n}"), n.to_string()).when(Expect::Absent);
            let shared = Write::set(Space::Identities, &format!("i{}", n % 3), n.to_string());
            (n, backend.put(vec![own, shared]).await.unwrap())
        });
    }
    let mut done = writers.join_all().await;
    done.sort_by_key(|(_, revision)| *revision);
    assert!(done.windows(2).all(|pair| pair[0].1 < pair[1].1), "{done:?}");
    drop(backend);
    let backend = maker.open().await;
    assert_eq!(*backend.revision().borrow(), done.last().unwrap().1);
    for (n, revision) in &done {
        assert_eq!(backend.get(Space::Twins, &format!("t{n}")).await.unwrap().unwrap().revision, *revision);
    }
    // Of the three documents that all of them write, each stands with its last change.
    let changes = backend.changes(0, 1000).await.unwrap();
    assert_eq!(changes.len(), 203);
    for shared in 0..3 {
        let last = done.iter().rfind(|(n, _)| n % 3 == shared).unwrap();
        let stored = backend.get(Space::Identities, &format!("i{shared}")).await.unwrap().unwrap();
        assert_eq!((stored.revision, stored.value), (last.1, last.0.to_string().into()));
    }
}

pub async fn lists_come_page_by_page_in_order(mut maker: impl Maker) {
    let backend = maker.open().await;
    for key in ["b/2", "a", "b/1", "c", "b/10"] {
        backend.put(vec![Write::set(Space::Devicebound, key, "x")]).await.unwrap();
    }
    let keys = |page: Vec<(holdfast_types::Text, _)>| {
        page.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        keys(backend.list(Space::Devicebound, "", None, 9).await.unwrap()),
        ["a", "b/1", "b/10", "b/2", "c"]
    );
    assert_eq!(keys(backend.list(Space::Devicebound, "b/", None, 2).await.unwrap()), ["b/1", "b/10"]);
    assert_eq!(keys(backend.list(Space::Devicebound, "b/", Some("b/10"), 2).await.unwrap()), ["b/2"]);
    assert!(backend.list(Space::Devicebound, "b/", Some("b/2"), 2).await.unwrap().is_empty());
}

pub async fn changes_since_a_revision_name_each_document_with_its_last(mut maker: impl Maker) {
    let backend = maker.open().await;
    let first = backend
        .put(vec![Write::set(Space::Identities, "a", "1"), Write::set(Space::Identities, "b", "1")])
        .await
        .unwrap();
    backend.put(vec![Write::set(Space::Statuses, "s", "not followed")]).await.unwrap();
    let second = backend.put(vec![Write::set(Space::Identities, "a", "2")]).await.unwrap();
    let third = backend.put(vec![Write::delete(Space::Identities, "b")]).await.unwrap();
    drop(backend);
    let backend = maker.open().await;
    let since = |after| {
        let backend = backend.clone();
        async move {
            let changes = backend.changes(after, 100).await.unwrap();
            changes.iter().map(|change| (change.revision, change.key.to_string())).collect::<Vec<_>>()
        }
    };
    assert_eq!(since(0).await, [(second, "a".to_owned()), (third, "b".to_owned())]);
    assert_eq!(since(first).await, [(second, "a".to_owned()), (third, "b".to_owned())]);
    assert_eq!(since(second).await, [(third, "b".to_owned())]);
    assert!(since(third).await.is_empty());
    assert_eq!(backend.changes(0, 1).await.unwrap().len(), 1);
}

/// A test of each story on the backends that an expression makes.
#[macro_export]
macro_rules! contract {
    ($maker:expr) => {
        $crate::contract!($maker, events_and_marks_are_durable_together,
            many_batches_keep_their_order,
            behind_a_batch_that_is_not_stored_none_of_its_order_is,
            documents_are_compared_and_set_all_or_none,
            of_writers_at_once_one_wins_each_time,
            many_changes_at_once_have_revisions_of_their_own,
            lists_come_page_by_page_in_order,
            changes_since_a_revision_name_each_document_with_its_last);
    };
    ($maker:expr, $($story:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            contract::$story($maker).await;
        })*
    };
}
