//! What happens to messages, told as stories over the real store.
#![cfg(test)]

use holdfast_broker::{
    Broker, BrokerConfig, Budget, Delivery, DeploymentOrder, DeploymentOrigin, DeploymentPhase,
    DeploymentStatus, Interest, Losses, Publishing, Reader, Receipt, Refused, Room, Send, StateWrite,
    SubscriptionOptions, Turn,
};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Clock, StoreConfig, SystemClock};
use holdfast_types::{
    Durability, HOPS_MAX, LogId, Message, Name, Priority, QoS, Source, Topic, TopicFilter, UnixMillis,
    WhenFull,
};
use std::{
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn definition(route: &str, text: &str) -> RouteDefinition {
    RouteDefinition {
        name: route.into(),
        text: text.into(),
        priority: Priority::DEFAULT,
        time_to_live_secs: None,
        durability: Durability::Durable,
        when_full: WhenFull::default(),
        topic: None,
    }
}

fn broker_with(
    dir: &Path,
    routes: Vec<RouteDefinition>,
    clock: Arc<dyn Clock>,
    ttl: Option<Duration>,
) -> Broker {
    let (store, _) = holdfast_store::open(StoreConfig::new(dir), clock.clone()).unwrap();
    let routes = RouteTable::compile(routes).unwrap();
    Broker::new(BrokerConfig { edge: name("edge-1"), routes, time_to_live: ttl }, store, clock)
}

fn broker_over(store: StoreConfig, routes: Vec<RouteDefinition>) -> Broker {
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(store, clock.clone()).unwrap();
    let routes = RouteTable::compile(routes).unwrap();
    Broker::new(BrokerConfig { edge: name("edge-1"), routes, time_to_live: None }, store, clock)
}

fn broker(dir: &Path, routes: &[(&str, &str)]) -> Broker {
    let routes = routes.iter().map(|(n, t)| definition(n, t)).collect();
    broker_with(dir, routes, Arc::new(SystemClock::new()), None)
}

fn from_module(module: &str, output: &str) -> Source {
    Source::Module { module: name(module), output: Some(name(output)) }
}

fn from_child(child: &str, topic: &str) -> Source {
    Source::Child { child: name(child), topic: Some(Topic::new(topic).unwrap()) }
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8(d.envelope.message.body.to_vec()).unwrap()).collect()
}

async fn settle(reader: &Reader, turn: Turn) -> Result<(), Refused> {
    let (answer, wait) = oneshot::channel();
    reader.settle(turn, move |result| answer.send(result).unwrap());
    wait.await.unwrap()
}

#[tokio::test]
async fn a_message_is_read_in_order_and_what_was_acknowledged_stays_done_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let routes = [("up", "FROM /messages/* INTO $upstream")];
    {
        let broker = broker(dir.path(), &routes);
        for n in 0..5 {
            let receipt = broker.publish(from_child("c", "t"), Message::new(n.to_string())).await.unwrap();
            assert_eq!(receipt, Receipt { durable: 1, ..Receipt::default() });
        }
        let mut reader = broker.reader(LogId::upstream());
        let read = reader.next(3).await.unwrap();
        assert_eq!(bodies(&read), ["0", "1", "2"]);
        let done = read[..2].iter().map(|d| d.ticket).collect();
        settle(&reader, Turn { done, ..Turn::default() }).await.unwrap();
        broker.store().close().unwrap();
    }
    let broker = broker(dir.path(), &routes);
    let read = broker.reader(LogId::upstream()).next(10).await.unwrap();
    assert_eq!(bodies(&read), ["2", "3", "4"]);
    let ids: Vec<String> = read.iter().map(|d| d.id.clone().unwrap().to_string()).collect();
    assert!(ids[0].starts_with("edge-1/") && ids[0].ends_with("/d/2"), "{ids:?}");
}

#[tokio::test]
async fn higher_priority_is_read_first_and_one_sink_gets_one_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut urgent = definition("urgent", "FROM /messages/* WHERE level = 'high' INTO $upstream");
    urgent.priority = Priority::new(0).unwrap();
    let routes = vec![definition("all", "FROM /messages/* INTO $upstream"), urgent];
    let broker = broker_with(dir.path(), routes, Arc::new(SystemClock::new()), None);
    for (body, level) in [("1", "low"), ("2", "high"), ("3", "low"), ("4", "high")] {
        let mut message = Message::new(body);
        message.properties.set("level", level);
        assert_eq!(broker.publish(from_child("c", "t"), message).await.unwrap().durable, 1);
    }
    let mut reader = broker.reader(LogId::upstream());
    let first = reader.next(10).await.unwrap();
    assert_eq!(bodies(&first), ["2", "4"]);
    assert_eq!(&*first[0].route, "urgent");
    assert_eq!(bodies(&reader.next(10).await.unwrap()), ["1", "3"]);
}

#[tokio::test]
async fn a_dropped_module_sends_upstream_until_a_route_mentions_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[]);
    let receipt = broker.publish(from_module("m", "out"), Message::new("1")).await.unwrap();
    assert_eq!(receipt, Receipt::default(), "nobody runs m");
    assert_eq!(broker.counters().no_route, 1);

    broker.module_present(&name("m"), true);
    assert_eq!(broker.publish(from_module("m", "out"), Message::new("2")).await.unwrap().durable, 1);

    let other = "FROM /messages/modules/m/outputs/other INTO $upstream";
    broker.replace_routes(RouteTable::compile(vec![definition("other", other)]).unwrap());
    assert_eq!(broker.publish(from_module("m", "out"), Message::new("3")).await.unwrap().durable, 0);
    broker.module_present(&name("m"), false);
    assert_eq!(bodies(&broker.reader(LogId::upstream()).next(9).await.unwrap()), ["2"]);
}

#[tokio::test]
async fn what_a_hub_sends_to_the_edge_itself_enters_the_routes_and_does_not_go_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let orders = "FROM Topic(\"devices/+/messages/devicebound\") WHERE kind = 'order' INTO BrokeredEndpoint(\"/modules/horn/inputs/orders\")";
    let broker = broker(dir.path(), &[("up", "FROM /messages/* INTO $upstream"), ("orders", orders)]);
    let mut order = Message::new("sound");
    order.properties.set("kind", "order");
    assert_eq!(broker.cloud_to_edge(order).await.unwrap(), Receipt { durable: 1, ..Receipt::default() });
    assert_eq!(broker.cloud_to_edge(Message::new("other")).await.unwrap(), Receipt::default());
    assert_eq!(bodies(&broker.reader(LogId::module(&name("horn"))).next(9).await.unwrap()), ["sound"]);
    // A user that is called as the edge, and a device that publishes to such a topic, are other people.
    for (child, topic) in [
        ("edge-1", "plant/a"),
        ("c", "devices/edge-1/messages/devicebound"),
        ("edge-1", "devices/edge-1/messages/devicebound/x"),
    ] {
        assert_eq!(broker.publish(from_child(child, topic), Message::new(topic)).await.unwrap().durable, 1);
    }
    assert_eq!(broker.reader(LogId::upstream()).next(9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn new_routes_take_over_together_with_their_time_to_live_and_what_waits_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicU64::new(1_000_000)));
    let mut urgent = definition("urgent", "FROM /messages INTO $upstream");
    urgent.priority = Priority::new(1).unwrap();
    let broker = broker_with(dir.path(), vec![urgent], clock.clone(), Some(Duration::from_secs(60)));
    broker.publish(from_child("c", "t"), Message::new("old")).await.unwrap();

    let calm = definition("calm", "FROM /messages INTO $upstream");
    broker.replace_routing(RouteTable::compile(vec![calm]).unwrap(), Some(Duration::from_secs(5)));
    assert_eq!(broker.time_to_live(), Some(Duration::from_secs(5)));
    broker.publish(from_child("c", "t"), Message::new("new")).await.unwrap();
    let read = broker.reader(LogId::upstream()).next(9).await.unwrap();
    assert_eq!(bodies(&read), ["old"], "the old one keeps its priority");
    let waiting: Vec<_> =
        broker.store().queues().iter().map(|q| (q.queue.priority.level(), q.waiting)).collect();
    assert_eq!(waiting, [(1, 1), (10, 1)]);
    let expires: Vec<_> = broker
        .store()
        .positions(&LogId::upstream())
        .iter()
        .flat_map(|position| broker.store().peek(&position.queue, None, 9).unwrap())
        .map(|record| record.entry.expires.map(|at| at.0))
        .collect();
    assert_eq!(expires, [Some(1_060_000), Some(1_005_000)]);
}

#[tokio::test]
async fn of_the_orders_of_deployments_that_wait_the_newest_counts_and_its_status_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[]);
    let (link, host) = (broker.deployments(), broker.deployments());
    let order = |id: &str| DeploymentOrder {
        id: id.into(),
        origin: DeploymentOrigin::Hub,
        manifest: Some("{}".into()),
    };
    let mut watch = link.watch();
    assert_eq!(link.status().phase, DeploymentPhase::None);
    let first = link.order(order("one"));
    let second = link.order(order("two"));
    assert!(second > first && host.has_waiting());
    let (number, taken) = host.next().await;
    assert_eq!((number, &*taken.id), (second, "two"));
    let status = DeploymentStatus { order: number, id: taken.id, code: 200, ..DeploymentStatus::default() };
    host.show(status.clone());
    watch.changed().await.unwrap();
    assert_eq!(**watch.borrow_and_update(), status);
    host.show(status);
    assert!(!watch.has_changed().unwrap(), "nothing new was told");

    // One who waits is woken.
    let waits = tokio::spawn(async move { host.next().await.1.id });
    link.order(order("three"));
    assert_eq!(&*waits.await.unwrap(), "three");
}

#[tokio::test]
async fn a_turn_is_recorded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let into_m = "FROM /messages WHERE NOT is_defined($connectionModuleId) INTO BrokeredEndpoint(\"/modules/m/inputs/in\")";
    let routes = [("in", into_m), ("out", "FROM /messages/modules/m/* INTO $upstream")];
    {
        let broker = broker(dir.path(), &routes);
        broker.publish(from_child("c", "t"), Message::new("1")).await.unwrap();
        let mut reader = broker.reader(LogId::module(&name("m")));
        let read = reader.next(9).await.unwrap();
        assert_eq!(read[0].input, Some(name("in")));
        let turn = Turn {
            done: vec![read[0].ticket],
            sends: vec![Send { output: Some(name("out")), message: Message::new("one"), hops: 1 }],
            state: vec![StateWrite { key: "count".into(), value: Some("1".into()) }],
            ..Turn::default()
        };
        settle(&reader, turn).await.unwrap();
        assert_eq!(broker.documents().value("state/m", "count").unwrap().unwrap(), "1");
        // The next message is read, and the process ends before its turn.
        broker.publish(from_child("c", "t"), Message::new("2")).await.unwrap();
        reader.next(9).await.unwrap();
        broker.store().close().unwrap();
        let lost = settle(&reader, Turn::default()).await;
        assert_eq!(lost, Ok(()), "an empty turn asks nothing of the store");
    }
    let broker = broker(dir.path(), &routes);
    assert_eq!(bodies(&broker.reader(LogId::module(&name("m"))).next(9).await.unwrap()), ["2"]);
    assert_eq!(bodies(&broker.reader(LogId::upstream()).next(9).await.unwrap()), ["one"]);
    assert_eq!(broker.documents().value("state/m", "count").unwrap().unwrap(), "1");
}

#[tokio::test]
async fn after_a_turn_that_was_not_recorded_no_later_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("in", "FROM /messages INTO BrokeredEndpoint('modules/m/inputs/in')")]);
    for n in 0..3 {
        broker.publish(from_child("c", "t"), Message::new(n.to_string())).await.unwrap();
    }
    let mut reader = broker.reader(LogId::module(&name("m")));
    let read = reader.next(9).await.unwrap();
    broker.store().close().unwrap();
    let turn = |n: usize| Turn { done: vec![read[n].ticket], ..Turn::default() };
    assert_eq!(settle(&reader, turn(0)).await, Err(Refused::Stopping));
    assert!(matches!(settle(&reader, turn(1)).await, Err(Refused::NotRecorded(_))));
    reader.rewind();
    assert_eq!(reader.outstanding(), 0);
}

#[tokio::test]
async fn what_can_never_be_recorded_is_told_from_what_may_be_later() {
    let dir = tempfile::tempdir().unwrap();
    let routes = [
        ("in", "FROM /messages INTO BrokeredEndpoint('modules/m/inputs/in')"),
        ("up", "FROM /messages/modules/m INTO $upstream"),
    ];
    let mut config = StoreConfig::new(dir.path());
    config.log_quotas.insert(LogId::upstream(), 10_000);
    let blocking = |(n, t)| RouteDefinition { when_full: WhenFull::Block, ..definition(n, t) };
    let broker = broker_over(config, routes.map(blocking).into());
    broker.publish(from_child("c", "t"), Message::new("grow")).await.unwrap();
    let mut reader = broker.reader(LogId::module(&name("m")));
    let read = reader.next(9).await.unwrap();
    let giant = Send { output: Some(name("out")), message: Message::new(vec![7; 20_000]), hops: 1 };
    let turn = Turn { done: vec![read[0].ticket], sends: vec![giant], ..Turn::default() };
    let refused = settle(&reader, turn).await.unwrap_err();
    assert!(matches!(refused, Refused::CannotBeRecorded(_)) && refused.is_permanent(), "{refused}");
    reader.rewind();
    let read = reader.next(9).await.unwrap();
    let long = StateWrite { key: "k".into(), value: Some(vec![7; 2 << 20].into()) };
    let turn = Turn { done: vec![read[0].ticket], state: vec![long], ..Turn::default() };
    assert!(settle(&reader, turn).await.unwrap_err().is_permanent());
    reader.rewind();
    let read = reader.next(9).await.unwrap();
    assert_eq!(bodies(&read), ["grow"], "it is still there, for somebody to give it up");
    settle(&reader, Turn { dead: vec![(read[0].ticket, refused.to_string().into(), 1)], ..Turn::default() })
        .await
        .unwrap();
    broker.store().close().unwrap();
    let later = broker.publish(from_child("c", "t"), Message::new("late")).await.unwrap_err();
    assert!(!later.is_permanent(), "{later}");
}

/// A broker whose log upstream is full, with two messages for module `m`, whose outputs go upstream and wait.
async fn full_upstream(dir: &Path) -> Broker {
    let routes = [
        ("in", "FROM /messages/modules/sensor INTO BrokeredEndpoint('modules/m/inputs/in')"),
        ("up", "FROM /messages/modules/m INTO $upstream"),
        ("fill", "FROM /messages/modules/filler INTO $upstream"),
    ];
    let mut config = StoreConfig::new(dir);
    config.log_quotas.insert(LogId::upstream(), 10_000);
    let blocking = |(n, t)| RouteDefinition { when_full: WhenFull::Block, ..definition(n, t) };
    let broker = broker_over(config, routes.map(blocking).into());
    for n in 0..2 {
        broker.publish(from_module("sensor", "out"), Message::new(n.to_string())).await.unwrap();
    }
    while broker.store().stats().parked == 0 {
        broker.publish_then(from_module("filler", "out"), Message::new(vec![7; 1000]), |_| {});
        // The store has looked at it when it has done what came later.
        broker.store().commit_blocking(holdfast_store::Commit::default()).unwrap();
    }
    broker
}

/// A turn that is done with one message and sends one.
fn answered(read: &Delivery) -> Turn {
    let message = Message::new("effect");
    let send = Send { output: Some(name("out")), message, hops: 1 };
    Turn { done: vec![read.ticket], sends: vec![send], ..Turn::default() }
}

async fn effects(broker: &Broker) -> usize {
    // What waited for room comes in behind what is taken out.
    let mut upstream = broker.reader(LogId::upstream());
    let mut effects = 0;
    loop {
        broker.store().commit_blocking(holdfast_store::Commit::default()).unwrap();
        let read = upstream.take(99).unwrap();
        if read.is_empty() {
            return effects;
        }
        effects += read.iter().filter(|read| read.envelope.message.body == "effect").count();
        settle(&upstream, Turn { done: read.iter().map(|read| read.ticket).collect(), ..Turn::default() })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_turn_that_waits_for_room_goes_with_its_reader_and_is_done_once_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let broker = full_upstream(dir.path()).await;
    let log = LogId::module(&name("m"));
    let (answer, mut left) = oneshot::channel();
    {
        let mut reader = broker.reader(log.clone());
        let read = reader.next(1).await.unwrap();
        reader.settle(answered(&read[0]), move |result| answer.send(result).unwrap());
        broker.store().commit_blocking(holdfast_store::Commit::default()).unwrap();
        assert!(left.try_recv().is_err(), "it waits for room");
    }
    let mut reader = broker.reader(log.clone());
    let read = reader.next(9).await.unwrap();
    assert_eq!(bodies(&read), ["0", "1"]);
    assert!(left.await.unwrap().is_err(), "the turn of the first one was taken back before");
    let (answer, done) = oneshot::channel();
    reader.settle(answered(&read[0]), move |result| answer.send(result).unwrap());
    assert_eq!(effects(&broker).await, 1);
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_turn_that_waits_for_room_is_taken_back_by_a_rewind() {
    let dir = tempfile::tempdir().unwrap();
    let broker = full_upstream(dir.path()).await;
    let mut reader = broker.reader(LogId::module(&name("m")));
    let read = reader.next(1).await.unwrap();
    let (answer, done) = oneshot::channel();
    reader.settle(answered(&read[0]), move |result| answer.send(result).unwrap());
    reader.rewind();
    assert_eq!(reader.outstanding(), 0);
    let read = reader.next(9).await.unwrap();
    assert_eq!(bodies(&read), ["0", "1"], "both come again");
    assert!(done.await.unwrap().is_err());
    let (answer, done) = oneshot::channel();
    reader.settle(answered(&read[0]), move |result| answer.send(result).unwrap());
    assert_eq!(effects(&broker).await, 1, "what was taken back is not sent as well");
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_given_up_out_of_order_is_not_handed_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("up", "FROM /messages/* INTO $upstream")]);
    for n in 0..3 {
        broker.publish(from_child("c", "t"), Message::new(n.to_string())).await.unwrap();
    }
    let mut reader = broker.reader(LogId::upstream());
    for left in [["0", "1", "2"].as_slice(), ["0", "2"].as_slice()] {
        let read = reader.next(9).await.unwrap();
        assert_eq!(bodies(&read), left);
        // The second is given up while the first is still out; then the connection ends.
        settle(&reader, Turn { dead: vec![(read[1].ticket, "too large".into(), 1)], ..Turn::default() })
            .await
            .unwrap();
        reader.rewind();
    }
    assert_eq!(bodies(&reader.next(9).await.unwrap()), ["0"]);
    let dead = broker.store().dead_letters(&LogId::upstream(), None, 9).unwrap();
    let dead: Vec<_> = dead.iter().map(|letter| letter.entry.envelope.message.body.clone()).collect();
    assert_eq!(dead, ["1", "2"], "each is a dead letter once");
}

#[tokio::test]
async fn what_was_not_settled_comes_again_after_a_rewind_and_old_tickets_are_void() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("up", "FROM /messages/* INTO $upstream")]);
    for n in 0..4 {
        broker.publish(from_child("c", "t"), Message::new(n.to_string())).await.unwrap();
    }
    let mut reader = broker.reader(LogId::upstream());
    let first = reader.next(9).await.unwrap();
    reader.ack([first[0].ticket]);
    reader.rewind();
    reader.ack([first[1].ticket]);
    assert_eq!(bodies(&reader.next(9).await.unwrap()), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_dead_letter_passes_the_cursor_and_is_kept_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("in", "FROM /messages INTO BrokeredEndpoint('modules/m/inputs/in')")]);
    broker.publish(from_child("c", "t"), Message::new("poison")).await.unwrap();
    let log = LogId::module(&name("m"));
    let mut reader = broker.reader(log.clone());
    let read = reader.next(9).await.unwrap();
    settle(&reader, Turn { dead: vec![(read[0].ticket, "trapped".into(), 5)], ..Turn::default() })
        .await
        .unwrap();
    assert!(reader.take(9).unwrap().is_empty());
    let dead = broker.store().dead_letters(&log, None, 9).unwrap();
    assert_eq!((&*dead[0].death.reason, dead[0].death.attempts), ("trapped", 5));
    assert_eq!(dead[0].entry.envelope.message.body, "poison");
}

#[tokio::test]
async fn expired_messages_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000)));
    let routes = vec![definition("up", "FROM /messages/* INTO $upstream")];
    let broker = broker_with(dir.path(), routes, clock.clone(), Some(Duration::from_secs(10)));
    broker.publish(from_child("c", "t"), Message::new("old")).await.unwrap();
    let mut reader = broker.reader(LogId::upstream());
    clock.0.fetch_add(11_000, Ordering::Relaxed);
    assert!(reader.take(9).unwrap().is_empty());
    broker.publish(from_child("c", "t"), Message::new("new")).await.unwrap();
    assert_eq!(bodies(&reader.next(9).await.unwrap()), ["new"]);
}

#[tokio::test]
async fn volatile_messages_reach_the_reader_without_the_store_and_block_when_the_lane_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut route = definition("in", "FROM /messages INTO BrokeredEndpoint('modules/m/inputs/in')");
    route.durability = Durability::Volatile;
    route.when_full = WhenFull::Block;
    let broker = broker_with(dir.path(), vec![route], Arc::new(SystemClock::new()), None);
    let mut reader = broker.reader(LogId::module(&name("m")));
    let mut sent = 0;
    let waiting = loop {
        let (answer, mut wait) = oneshot::channel();
        broker.publish_then(from_child("c", "t"), Message::new(sent.to_string()), move |r| {
            answer.send(r).unwrap();
        });
        sent += 1;
        match wait.try_recv() {
            Ok(receipt) => assert_eq!(receipt.unwrap().volatile, 1),
            Err(_) => break wait,
        }
        assert!(sent < 1_000_000, "the lane has a bound");
    };
    assert_eq!(broker.store().stats().messages, 0);
    let read = reader.next(1).await.unwrap();
    assert_eq!((bodies(&read), read[0].id.clone()), (vec!["0".to_owned()], None));
    assert_eq!(waiting.await.unwrap().unwrap().volatile, 1, "a place became free");
    broker.module_present(&name("m"), false);
    assert_eq!(broker.lane_lengths(&LogId::module(&name("m"))), (0, 0));
}

#[tokio::test]
async fn modules_never_wait_for_each_other_in_a_circle_who_would_close_one_loses_the_message() {
    let dir = tempfile::tempdir().unwrap();
    // Three in a row, and the last sends to the first.
    let modules = ["a", "b", "c"];
    let blocking = |from: &str, to: &str| {
        let text = format!("FROM /messages/modules/{from}/* INTO BrokeredEndpoint('modules/{to}/inputs/in')");
        let route = definition(&format!("{from}-{to}"), &text);
        RouteDefinition { durability: Durability::Volatile, when_full: WhenFull::Block, ..route }
    };
    let routes = vec![blocking("a", "b"), blocking("b", "c"), blocking("c", "a")];
    let broker = broker_with(dir.path(), routes, Arc::new(SystemClock::new()), None);
    let log = |module: &str| LogId::module(&name(module));
    let mut readers: Vec<Reader> = modules.iter().map(|module| broker.reader(log(module))).collect();
    let turn = |n: usize| Turn {
        sends: (0..n)
            .map(|_| Send { output: Some(name("out")), message: Message::new("x"), hops: 0 })
            .collect(),
        ..Turn::default()
    };
    // Each fills the lane of the next one to its bound; nobody reads.
    for reader in &readers {
        settled(reader, turn(4_096)).await.unwrap();
    }
    let (a_waits, b_waits) = (settled(&readers[0], turn(1)), settled(&readers[1], turn(1)));
    assert_eq!([broker.lane_lengths(&log("b")).1, broker.lane_lengths(&log("c")).1], [1, 1]);
    // It would wait for itself over the two others.
    settled(&readers[2], turn(1)).await.unwrap();
    assert_eq!((broker.counters().dropped_volatile, broker.lane_lengths(&log("a")).1), (1, 0));
    // The others go on when there is room, and lose nothing.
    assert_eq!(readers[2].take(1).unwrap().len(), 1);
    b_waits.await.unwrap();
    assert_eq!(readers[1].take(1).unwrap().len(), 1);
    a_waits.await.unwrap();
    assert_eq!(broker.counters().dropped_volatile, 1);
}

/// Settles a turn. What is given tells when it has ended.
fn settled(reader: &Reader, turn: Turn) -> impl Future<Output = Result<(), Refused>> + use<> {
    let (answer, wait) = oneshot::channel();
    reader.settle(turn, move |result| answer.send(result).unwrap());
    async { wait.await.unwrap() }
}

fn on(filter: &str) -> Interest {
    TopicFilter::new(filter).unwrap().into()
}

fn numbered(n: u32) -> SubscriptionOptions {
    SubscriptionOptions { id: NonZeroU32::new(n), ..SubscriptionOptions::new(QoS::AtLeastOnce) }
}

#[tokio::test]
async fn subscribers_get_what_matches_and_a_slow_one_loses_without_holding_the_sender() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("alarm", "FROM /messages/modules/m/* INTO Topic(\"alarms/high\")")]);
    let mut quick = broker.subscribe(name("quick"), 100);
    quick.add(&on("plant/#"), numbered(1));
    quick.add(&on("alarms/+"), numbered(2));
    let slow = broker.subscribe(name("slow"), 1);
    slow.add(&on("plant/#"), numbered(1));
    for n in 0..3 {
        let receipt = broker.publish(from_child("c", "plant/t"), Message::new(n.to_string())).await.unwrap();
        assert_eq!(receipt.subscribers, if n == 0 { 2 } else { 1 });
    }
    broker.publish(from_module("m", "out"), Message::new("alarm")).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 4 {
        let one = quick.next().await.unwrap();
        got.push((one.topic.to_string(), one.ids.clone()));
    }
    assert_eq!(got[0], ("plant/t".to_owned(), vec![1]));
    assert_eq!(got[3], ("alarms/high".to_owned(), vec![2]));
    assert_eq!(slow.lost(), Losses { allowed: 0, promised: 2 });
    drop(slow);
    let receipt = broker.publish(from_child("c", "plant/t"), Message::new("x")).await.unwrap();
    assert_eq!(receipt.subscribers, 1);
}

#[tokio::test]
async fn many_subscriptions_are_changed_in_groups_and_messages_pass_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[]);
    // 320 filters that all match one topic: each level by its name or by a wildcard.
    let levels = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let filter = |n: usize| {
        let level = |(at, name)| if n >> at & 1 == 1 { "+" } else { name };
        on(&levels.iter().copied().enumerate().map(level).collect::<Vec<_>>().join("/"))
    };
    let all: Vec<_> = (0..320).map(|n| (filter(n), numbered(n as u32 + 1))).collect();
    let added: Vec<_> = all.iter().map(|(interest, options)| (interest, Some(*options))).collect();
    let ended: Vec<_> = all.iter().map(|(interest, _)| (interest, None)).collect();
    let room = Room { messages: 1_000_000, bytes: 1 << 30, budget: Budget::new(1 << 30) };
    let mut subscriber = broker.subscribe_within(name("s"), room);
    let (stop, topic) = (AtomicBool::new(false), levels.join("/"));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                broker.publish_then(from_child("c", &topic), Message::new("x"), |_| {});
            }
        });
        for _ in 0..20 {
            subscriber.change(&added);
            subscriber.change(&ended);
        }
        subscriber.change(&added);
        stop.store(true, Ordering::Relaxed);
    });
    broker.publish(from_child("c", &topic), Message::new("last")).await.unwrap();
    loop {
        let one = subscriber.next().await.unwrap();
        assert_eq!(one.ids.len() % 32, 0, "a message came between two of a group");
        if one.envelope.message.body == "last" {
            assert_eq!(one.ids.len(), 320);
            break;
        }
    }
}

#[tokio::test]
async fn subscribers_hold_so_many_bytes_and_leave_room_for_those_who_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[]);
    let budget = Budget::new(100_000);
    let plant = on("plant/#");
    let subscriber = |bytes| {
        let room = Room { messages: 1000, bytes, budget: budget.clone() };
        let subscriber = broker.subscribe_within(name("s"), room);
        subscriber.add(&plant, numbered(1));
        subscriber
    };
    let tiny = subscriber(1);
    let deaf: Vec<_> = (0..4).map(|_| subscriber(1_000_000)).collect();
    for _ in 0..100 {
        broker.publish(from_child("c", "plant/t"), Message::new(vec![b'x'; 1000])).await.unwrap();
        assert!(budget.used() <= 100_000);
    }
    assert_eq!(tiny.lost().total(), 99, "one message is held however large it is");
    assert!(deaf.iter().all(|one| one.lost().total() > 0));
    let mut reader = subscriber(1_000_000);
    for _ in 0..100 {
        broker.publish(from_child("c", "plant/t"), Message::new(vec![b'x'; 1000])).await.unwrap();
        reader.next().await.unwrap();
    }
    assert_eq!(reader.lost().total(), 0);
    drop((tiny, deaf));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn loops_and_giants_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(
        dir.path(),
        &[("loop", "FROM /messages/modules/m/* INTO BrokeredEndpoint('modules/m/inputs/in')")],
    );
    let giant = Message::new(vec![0; holdfast_types::BODY_BYTES_MAX + 1]);
    let refused = broker.publish(from_child("c", "t"), giant).await.unwrap_err();
    assert!(refused.to_string().contains("16777217 bytes"), "{refused}");

    broker.publish(from_module("m", "out"), Message::new("round")).await.unwrap();
    let mut reader = broker.reader(LogId::module(&name("m")));
    let mut rounds = 0;
    loop {
        let Some(read) = reader.take(1).unwrap().pop() else { break };
        rounds += 1;
        let hops = read.envelope.hops + 1;
        let send = Send { output: Some(name("out")), message: read.envelope.message.clone(), hops };
        settle(&reader, Turn { done: vec![read.ticket], sends: vec![send], ..Turn::default() })
            .await
            .unwrap();
    }
    assert_eq!(rounds, usize::from(HOPS_MAX) + 1);
}

#[tokio::test]
async fn a_watcher_sees_what_passes_and_which_route_took_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("up", "FROM /messages/* INTO $upstream")]);
    let mut tap = broker.tap();
    broker.publish(from_child("c", "t"), Message::new("1")).await.unwrap();
    let passing = tap.next().await.unwrap().unwrap();
    assert_eq!(passing.envelope.message.body, "1");
    assert_eq!(&*passing.decision.taken[0].route, "up");
}

#[tokio::test]
async fn what_a_member_of_a_group_leaves_behind_goes_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[]);
    let shared = Interest { group: Some("g".into()), ..on("plant/#") };
    let mut stays = broker.subscribe(name("stays"), 100);
    stays.add(&shared, SubscriptionOptions::new(QoS::ExactlyOnce));
    let mut leaves = broker.subscribe(name("leaves"), 100);
    leaves.add(&shared, SubscriptionOptions::new(QoS::AtLeastOnce));
    for n in 0..6 {
        let receipt = broker.publish(from_child("c", "plant/t"), Message::new(n.to_string())).await.unwrap();
        assert_eq!(receipt.subscribers, 1);
    }
    let unacknowledged = leaves.next().await.unwrap();
    leaves.leave([unacknowledged]);
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let one = stays.next().await.unwrap();
        assert_eq!(one.qos, QoS::AtLeastOnce, "as it was published");
        seen.push(String::from_utf8(one.envelope.message.body.to_vec()).unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_message_with_a_life_of_its_own_expires_in_every_log() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000)));
    let routes = vec![definition("up", "FROM /messages/* INTO $upstream")];
    let broker = broker_with(dir.path(), routes, clock.clone(), Some(Duration::from_secs(10)));
    let mut subscriber = broker.subscribe(name("s"), 10);
    subscriber.add(&on("t"), SubscriptionOptions::new(QoS::AtMostOnce));
    for (body, expiry_s) in [("short", Some(2)), ("long", Some(60)), ("ever", None)] {
        let publishing = Publishing { qos: QoS::AtMostOnce, expiry_s, ..Publishing::default() };
        let (answer, wait) = oneshot::channel();
        broker.publish_as(from_child("c", "t"), Message::new(body), publishing, |r| answer.send(r).unwrap());
        wait.await.unwrap().unwrap();
        let expires = expiry_s.map(|s| UnixMillis(1_800_000_000_000 + 1000 * u64::from(s)));
        assert_eq!(subscriber.next().await.unwrap().expires, expires);
    }
    let mut reader = broker.reader(LogId::upstream());
    clock.0.fetch_add(3_000, Ordering::Relaxed);
    assert_eq!(bodies(&reader.take(9).unwrap()), ["long", "ever"]);
}

#[tokio::test]
async fn a_value_of_its_own_is_there_when_it_is_answered_and_survives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_with(dir.path(), vec![], Arc::new(SystemClock::new()), None);
    let documents = broker.documents();
    let (first, last) =
        (documents.write("s", "k", Some("1".into())), documents.write("s", "k", Some("2".into())));
    last.await.unwrap();
    first.await.unwrap();
    assert_eq!(documents.value("s", "k").unwrap().unwrap(), "2");
    let too_large = vec![0; 17 << 20];
    let refused = documents.write("s", "k", Some(too_large.into())).await;
    assert!(matches!(refused, Err(Refused::CannotBeRecorded(_))), "{refused:?}");
    drop(documents.write("s", "gone", Some("3".into())));
    documents.write("s", "k", None).await.unwrap();
    broker.store().close().unwrap();
    drop((documents, broker));
    let broker = broker_with(dir.path(), vec![], Arc::new(SystemClock::new()), None);
    assert_eq!(broker.documents().value("s", "k").unwrap(), None);
    assert_eq!(broker.documents().value("s", "gone").unwrap().unwrap(), "3");
}

#[tokio::test]
async fn a_module_is_present_as_long_as_somebody_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_with(dir.path(), vec![], Arc::new(SystemClock::new()), None);
    assert!(!broker.is_module_present(&name("m")));
    broker.module_present(&name("m"), true);
    assert!(broker.is_module_present(&name("m")));
    broker.module_present(&name("m"), false);
    assert!(!broker.is_module_present(&name("m")));
}

/// A module that has sent these bodies in one turn, each by an output.
async fn sent(broker: &Broker, module: &str, sends: &[(&str, &str)]) {
    let send = |(output, body): &(&str, &str)| {
        let mut message = Message::new(body.to_string());
        message.properties.set("level", if body.len() > 2 { "high" } else { "low" });
        Send { output: Some(name(output)), message, hops: 1 }
    };
    let reader = broker.reader(LogId::module(&name(module)));
    settle(&reader, Turn { sends: sends.iter().map(send).collect(), ..Turn::default() }).await.unwrap();
}

#[tokio::test]
async fn what_a_turn_sends_goes_the_ways_of_each_message_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut routes = vec![
        definition("all", "FROM /messages/modules/m/outputs/a INTO Topic(\"all\")"),
        definition("some", "FROM /messages/modules/m/outputs/b WHERE level = 'high' INTO $upstream"),
        definition("next", "FROM /messages/modules/m/* INTO BrokeredEndpoint(\"/modules/n/inputs/i\")"),
    ];
    routes[2].durability = Durability::Volatile;
    let broker = broker_with(dir.path(), routes, Arc::new(SystemClock::new()), None);
    let mut subscriber = broker.subscribe(name("s"), 100);
    subscriber.add(&on("all"), SubscriptionOptions::new(QoS::AtLeastOnce));
    let mut tap = broker.tap();
    sent(&broker, "m", &[("a", "1"), ("a", "2"), ("b", "3"), ("b", "four"), ("b", "5"), ("a", "6")]).await;

    let mut heard = Vec::new();
    while heard.len() < 3 {
        subscriber.next_many(&mut heard, 10).await;
    }
    let heard: Vec<_> = heard.iter().map(|one| one.envelope.message.body.to_vec()).collect();
    assert_eq!(heard, [b"1", b"2", b"6"]);
    assert_eq!(bodies(&broker.reader(LogId::upstream()).next(10).await.unwrap()), ["four"]);
    let next = broker.reader(LogId::module(&name("n"))).next(10).await.unwrap();
    assert_eq!(bodies(&next), ["1", "2", "3", "four", "5", "6"]);
    for sinks in [2, 2, 1, 2, 1, 2] {
        assert_eq!(tap.next().await.unwrap().unwrap().decision.taken.len(), sinks);
    }
    assert_eq!(broker.counters().accepted, 6);
}

#[tokio::test]
async fn of_a_turn_each_subscriber_gets_what_there_is_room_for_and_a_group_shares_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), &[("all", "FROM /messages/modules/m/* INTO Topic(\"all\")")]);
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let few = broker.subscribe(name("few"), 3);
    few.add(&on("all"), options);
    // Not all of it fits into the bytes that it may hold, but some does.
    let room = Room { messages: 100, bytes: 2_500, budget: Budget::new(1 << 20) };
    let tight = broker.subscribe_within(name("tight"), room);
    tight.add(&on("all"), options);
    let shared = Interest { group: Some("g".into()), filter: TopicFilter::new("all").unwrap() };
    let mut members = ["x", "y"].map(|member| broker.subscribe(name(member), 100));
    members.iter().for_each(|member| assert!(member.add(&shared, options)));
    let body = "b".repeat(500);
    sent(&broker, "m", &[("out", &body), ("out", &body), ("out", &body), ("out", &body), ("out", &body)])
        .await;

    assert_eq!(few.lost(), Losses { allowed: 0, promised: 2 });
    let lost = tight.lost().promised;
    assert!((1..5).contains(&lost), "{lost}");
    let got = members.each_mut().map(|member| {
        let mut got = Vec::new();
        member.take(&mut got, 100, usize::MAX);
        got.len()
    });
    assert!(got.iter().sum::<usize>() == 5 && got.iter().all(|one| *one >= 2), "{got:?}");
}
