//! What happens to method calls and to messages from the cloud, told as stories over the real store.
#![cfg(test)]

use bytes::Bytes;
use holdfast_broker::{
    Broker, BrokerConfig, DEVICEBOUND_BYTES_MAX, DEVICEBOUND_LIFE_MAX, DEVICEBOUND_PENDING_MAX,
    METHOD_BYTES_MAX, METHOD_NAME_MAX, METHODS_IN_FLIGHT_MAX, MethodError, MethodReply, MethodTimes, Refused,
};
use holdfast_routes::RouteTable;
use holdfast_store::{Clock, StoreConfig};
use holdfast_types::{Identity, LogId, Message, Name, SystemKey, UnixMillis};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn who(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn broker_at(dir: &Path, clock: Arc<TestClock>) -> Broker {
    let (store, _) = holdfast_store::open(StoreConfig::new(dir), clock.clone()).unwrap();
    let routes = RouteTable::compile(Vec::new()).unwrap();
    Broker::new(BrokerConfig { edge: name("edge-1"), routes, time_to_live: None }, store, clock)
}

fn broker(dir: &Path) -> Broker {
    broker_at(dir, Arc::new(TestClock(AtomicU64::new(1_000_000))))
}

fn reply(payload: &'static str) -> MethodReply {
    MethodReply { status: 200, payload: payload.into() }
}

fn times(response: u64, connect: u64) -> MethodTimes {
    MethodTimes { response: Duration::from_secs(response), connect: Duration::from_secs(connect) }
}

#[tokio::test]
async fn a_call_reaches_its_server_and_the_reply_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let methods = broker(dir.path()).methods();
    let press = who("press-7");
    let mut server = methods.serve(&press);
    let serve = async {
        let call = server.next().await.unwrap();
        assert_eq!((&*call.name, &*call.payload), ("reset", &b"{\"hard\":true}"[..]));
        call.reply(MethodReply { status: 201, payload: "{}".into() });
    };
    let call = methods.call(&press, "reset", "{\"hard\":true}".into(), MethodTimes::default());
    let (answer, ()) = tokio::join!(call, serve);
    assert_eq!(answer, Ok(MethodReply { status: 201, payload: "{}".into() }));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_there_is_waited_for_as_long_as_the_caller_says() {
    let dir = tempfile::tempdir().unwrap();
    let methods = broker(dir.path()).methods();
    let press = who("press-7");
    let error = methods.call(&press, "reset", Bytes::new(), MethodTimes::default()).await.unwrap_err();
    assert_eq!((error.status(), &error), (404, &MethodError::NotConnected { target: press.clone() }));
    assert_eq!(methods.call(&press, "reset", Bytes::new(), times(5, 3)).await.unwrap_err().status(), 404);

    let waiting = methods.call(&press, "reset", Bytes::new(), times(5, 300));
    let arrives = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        let mut server = methods.serve(&press);
        server.next().await.unwrap().reply(reply("1"));
        assert!(methods.is_served(&press));
    };
    assert_eq!(tokio::join!(waiting, arrives).0, Ok(reply("1")));
    assert!(!methods.is_served(&press), "a server that has gone serves nobody");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_given_up_and_who_goes_away_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let methods = broker(dir.path()).methods();
    let press = who("press-7");
    let mut server = methods.serve(&press);
    let error = methods.call(&press, "slow", Bytes::new(), times(7, 0)).await.unwrap_err();
    assert_eq!(error.status(), 504);
    assert!(error.to_string().contains("within 7 s"), "{error}");

    let call = methods.call(&press, "reset", Bytes::new(), times(5, 0));
    let drops = async {
        let call = server.next().await.unwrap();
        assert_eq!(&*call.name, "reset", "the one that was given up is passed over");
        drop(call);
    };
    let error = tokio::join!(call, drops).0.unwrap_err();
    assert_eq!(
        (error.status(), error),
        (504, MethodError::Gone { target: press.clone(), name: "reset".into() })
    );

    // The newest server wins; what the old one has in hand it may answer, what it has not taken is gone.
    let taken = methods.call(&press, "taken", Bytes::new(), times(5, 0));
    let left = methods.call(&press, "left", Bytes::new(), times(5, 0));
    let replaced = async {
        let taken = server.next().await.unwrap();
        let mut newer = methods.serve(&press);
        assert!(server.next().await.is_none());
        taken.reply(reply("old"));
        drop(server);
        assert!(methods.is_served(&press));
        newer.next().await.unwrap().reply(reply("new"));
    };
    let later = async {
        tokio::task::yield_now().await;
        methods.call(&press, "later", Bytes::new(), times(5, 0)).await
    };
    let (taken, left, (), later) = tokio::join!(taken, left, replaced, later);
    assert_eq!(taken, Ok(reply("old")));
    assert_eq!(left, Err(MethodError::Gone { target: press, name: "left".into() }));
    assert_eq!(later, Ok(reply("new")));
}

#[tokio::test(start_paused = true)]
async fn a_server_has_so_many_calls_in_hand_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let methods = broker(dir.path()).methods();
    let press = who("press-7");
    let mut server = methods.serve(&press);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..METHODS_IN_FLIGHT_MAX {
        let (methods, press) = (methods.clone(), press.clone());
        callers.spawn(async move { methods.call(&press, "m", Bytes::new(), MethodTimes::default()).await });
    }
    let mut held = Vec::new();
    while held.len() < METHODS_IN_FLIGHT_MAX {
        held.push(server.next().await.unwrap());
    }
    let error = methods.call(&press, "m", Bytes::new(), MethodTimes::default()).await.unwrap_err();
    assert_eq!((error.status(), error), (429, MethodError::Busy { target: press.clone() }));
    held.pop().unwrap().reply(reply(""));
    let call = methods.call(&press, "m", Bytes::new(), MethodTimes::default());
    let serve = async { server.next().await.unwrap().reply(reply("again")) };
    assert_eq!(tokio::join!(call, serve).0, Ok(reply("again")));
    held.into_iter().for_each(|call| call.reply(reply("")));
    assert!(callers.join_all().await.iter().all(|answer| *answer == Ok(reply(""))));
}

#[tokio::test]
async fn each_bound_of_a_call_refuses_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let methods = broker(dir.path()).methods();
    let press = who("press-7");
    let mut server = methods.serve(&press);
    let large = Bytes::from(vec![b'x'; METHOD_BYTES_MAX + 1]);
    let long = "m".repeat(METHOD_NAME_MAX + 1);
    for (name, payload, times, status, why) in [
        ("", Bytes::new(), times(30, 0), 400, "1 to 100"),
        (&*long, Bytes::new(), times(30, 0), 400, "1 to 100"),
        ("a/b", Bytes::new(), times(30, 0), 400, "`/`"),
        ("ä", Bytes::new(), times(30, 0), 400, "ASCII"),
        ("m", large.clone(), times(30, 0), 413, "131073 bytes"),
        ("m", Bytes::new(), times(4, 0), 400, "5 to 300 s"),
        ("m", Bytes::new(), times(301, 0), 400, "5 to 300 s"),
        ("m", Bytes::new(), times(30, 301), 400, "0 to 300 s"),
    ] {
        let error = methods.call(&press, name, payload, times).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let call = methods.call(&press, "m", Bytes::from(vec![b'x'; METHOD_BYTES_MAX]), times(30, 0));
    let serve =
        async { server.next().await.unwrap().reply(MethodReply { status: 200, payload: large.clone() }) };
    assert_eq!(tokio::join!(call, serve).0.unwrap_err().status(), 413);
}

#[tokio::test]
async fn what_the_cloud_sends_to_a_child_waits_in_order_over_a_restart_until_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let press = name("press-7");
    {
        let broker = broker(dir.path());
        for n in 0..3 {
            broker.cloud_to_device(&press, Message::new(n.to_string()), None).await.unwrap();
        }
        let mut reader = broker.reader(LogId::child(&press));
        let read = reader.next(9).await.unwrap();
        let first = &read[0].envelope;
        assert_eq!(first.source.to_string(), "$edgeHub");
        assert_eq!(first.message.system.value(SystemKey::To), Some("/devices/press-7/messages/devicebound"));
        reader.ack([read[0].ticket]);
        broker.store().close().unwrap();
    }
    let broker = broker(dir.path());
    let read = broker.reader(LogId::child(&press)).next(9).await.unwrap();
    let bodies: Vec<_> = read.iter().map(|d| d.envelope.message.body.clone()).collect();
    assert_eq!(bodies, ["1", "2"]);
    assert_eq!(
        broker
            .store()
            .tail(&holdfast_types::QueueId {
                log: LogId::child(&name("press-8")),
                priority: holdfast_types::Priority::DEFAULT
            })
            .0,
        0,
        "each child has its own"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_messages_wait_for_a_child_and_no_more_and_expired_ones_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicU64::new(1_000_000)));
    let broker = broker_at(dir.path(), clock.clone());
    let press = name("press-7");
    let mut senders = tokio::task::JoinSet::new();
    for n in 0..2 * DEVICEBOUND_PENDING_MAX {
        let (broker, press) = (broker.clone(), press.clone());
        let expires = Some(UnixMillis(if n % 2 == 0 { 1_001_000 } else { 2_000_000 }));
        senders.spawn(async move { broker.cloud_to_device(&press, Message::new("m"), expires).await });
    }
    let answers = senders.join_all().await;
    let full = Refused::TooManyPending { max: DEVICEBOUND_PENDING_MAX };
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), DEVICEBOUND_PENDING_MAX);
    assert!(answers.iter().all(|answer| answer.is_ok() || *answer == Err(full.clone())));
    broker.cloud_to_device(&name("press-8"), Message::new("m"), None).await.unwrap();

    clock.0.store(2_000_001, Ordering::Relaxed);
    broker.cloud_to_device(&press, Message::new("later"), None).await.unwrap();
    let mut reader = broker.reader(LogId::child(&press));
    let read = reader.next(9).await.unwrap();
    assert_eq!(read[0].envelope.message.body, "later");
    let two_days = u64::try_from(DEVICEBOUND_LIFE_MAX.as_millis()).unwrap();
    assert_eq!(read[0].expires, Some(UnixMillis(2_000_001 + two_days)));
}

#[tokio::test]
async fn a_message_for_a_child_that_is_too_large_or_too_late_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path());
    let press = name("press-7");
    let large = Message::new(vec![0; DEVICEBOUND_BYTES_MAX + 1]);
    let error = broker.cloud_to_device(&press, large, None).await.unwrap_err();
    assert_eq!(error, Refused::BodyTooLarge { bytes: DEVICEBOUND_BYTES_MAX + 1, max: DEVICEBOUND_BYTES_MAX });
    let late = broker.cloud_to_device(&press, Message::new(""), Some(UnixMillis(1_000_000))).await;
    assert_eq!(late, Err(Refused::Expired));
    broker.cloud_to_device(&press, Message::new(vec![0; DEVICEBOUND_BYTES_MAX]), None).await.unwrap();
}
