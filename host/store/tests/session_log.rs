//! The session log: one record for many sessions, read one by one.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use holdfast_store::{Ack, Addressed, Append, Commit, Picked, ReadLimit, Recipient};
use holdfast_types::{LogId, Offset, Priority, QueueId, Topic, UnixMillis, WhenFull};
use std::{sync::Arc, time::Duration};
use support::{Folder, START, entry, number};

fn sessions() -> QueueId {
    QueueId { log: LogId::sessions(), priority: Priority::DEFAULT }
}

fn addressed(n: u32, bytes: usize, sessions_count: u32, expires: Option<UnixMillis>) -> Append {
    let recipients = (0..sessions_count).map(|session| Recipient {
        session,
        qos: 1,
        retain: false,
        ids: Vec::new(),
        shared: None,
    });
    let topic = Topic::new("plant/t").unwrap();
    let addressed = Addressed {
        topic,
        qos: 1,
        retain: false,
        order: None,
        properties: None,
        recipients: recipients.collect(),
    };
    let entry = holdfast_store::Entry { addressed: Some(Arc::new(addressed)), ..entry(n, bytes, expires) };
    Append { queue: sessions(), entry, when_full: WhenFull::DropOldest }
}

fn picked(found: &[Picked]) -> Vec<Option<u32>> {
    let one = |one: &Picked| match one {
        Picked::Entry(entry) => Some(number(entry)),
        Picked::Expired(_) | Picked::Gone => None,
    };
    found.iter().map(one).collect()
}

#[test]
fn messages_are_picked_by_offset_wherever_they_lie_and_what_is_gone_is_said_to_be() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let soon = Some(UnixMillis(START + 1000));
    for group in 0..10_u32 {
        // The fifth of each ten lives for a second.
        let appends = (0..10).map(|n| addressed(group * 10 + n, 100, 3, soon.filter(|_| n == 5)));
        let commit = Commit { appends: appends.collect(), ..Commit::default() };
        store.commit_blocking(commit).unwrap();
    }
    let offsets = [99, 3, 4, 5, 41, 40, 1000].map(Offset);
    let all = store.pick(&sessions(), &offsets, ReadLimit::default()).unwrap();
    assert_eq!(picked(&all), [Some(99), Some(3), Some(4), Some(5), Some(41), Some(40), None]);
    folder.clock.pass(Duration::from_secs(2));
    let ack = Ack { queue: sessions(), cursor: Offset(4) };
    store.commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
    drop(store);
    let (store, _) = folder.open();
    let all = store.pick(&sessions(), &offsets, ReadLimit::default()).unwrap();
    assert_eq!(picked(&all), [Some(99), None, Some(4), None, Some(41), Some(40), None]);
    let one = store.pick(&sessions(), &offsets, ReadLimit { messages: 9, bytes: 1 }).unwrap();
    assert_eq!(picked(&one), [Some(99)], "the message that reaches the limit is the last");
}

#[test]
fn a_message_for_a_thousand_sessions_is_stored_once() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    for n in 0..100 {
        let commit = Commit { appends: vec![addressed(n, 1000, 1000, None)], ..Commit::default() };
        store.commit_blocking(commit).unwrap();
    }
    let bytes = store.stats().bytes;
    assert!((100 * 3000..100 * 3200).contains(&bytes), "{bytes} bytes for 100 messages of 1000 bytes");
    let found = store.pick(&sessions(), &[Offset(7)], ReadLimit::default()).unwrap();
    let [Picked::Entry(entry)] = &*found else { panic!("{found:?}") };
    let recipients = &entry.addressed.as_ref().unwrap().recipients;
    assert!(recipients.iter().map(|one| one.session).eq(0..1000));
}
