//! Children that go up under their own identities, each with a log of its own.
#![cfg(test)]

use holdfast_broker::{Broker, BrokerConfig, ChildLinks, Delivery, PassedOn, Receipt};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Chain, StoreConfig, SystemClock};
use holdfast_types::{Durability, Identity, LogId, Message, Name, Priority, Source};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::oneshot;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn child(text: &str) -> Source {
    Source::Child { child: name(text), topic: None }
}

fn own(text: &str) -> LogId {
    LogId::upstream_of(&name(text))
}

/// Carries the children that it is told of, and remembers what it was told.
#[derive(Default)]
struct Links {
    carried: Mutex<BTreeSet<Name>>,
    present: Mutex<Vec<(Name, bool)>>,
}

impl Links {
    fn of(children: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            carried: Mutex::new(children.iter().map(|one| name(one)).collect()),
            ..Self::default()
        })
    }

    fn forget(&self, child: &str) {
        self.carried.lock().unwrap().remove(&name(child));
    }
}

impl ChildLinks for Links {
    fn carries(&self, child: &Name) -> bool {
        self.carried.lock().unwrap().contains(child)
    }

    fn comes(&self, child: &Name) {
        assert!(self.carries(child));
    }

    fn present(&self, child: &Name, present: bool) {
        self.present.lock().unwrap().push((child.clone(), present));
    }
}

fn broker(dir: &Path) -> Broker {
    let mut urgent = RouteDefinition::new("urgent", "FROM /messages/* WHERE level = 'high' INTO $upstream");
    urgent.priority = Priority::new(0).unwrap();
    let mut lossy = RouteDefinition::new("lossy", "FROM /messages/* WHERE level = 'none' INTO $upstream");
    lossy.durability = Durability::Volatile;
    lossy.priority = Priority::new(1).unwrap();
    let all = RouteDefinition::new("all", "FROM /messages/* INTO $upstream");
    let beside =
        RouteDefinition::new("beside", "FROM /messages/* INTO BrokeredEndpoint(\"/modules/m/inputs/i\")");
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(StoreConfig::new(dir), clock.clone()).unwrap();
    let routes = RouteTable::compile(vec![urgent, lossy, all, beside]).unwrap();
    Broker::new(BrokerConfig { edge: name("edge-1"), routes, time_to_live: None }, store, clock)
}

async fn publish(broker: &Broker, source: Source, body: &str, level: &str) -> Receipt {
    let mut message = Message::new(body.to_owned());
    message.properties.set("level", level);
    broker.publish(source, message).await.unwrap()
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8(d.envelope.message.body.to_vec()).unwrap()).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    let short = |d: &Delivery| {
        let id = d.id.clone().unwrap().to_string();
        let parts: Vec<_> = id.split('/').collect();
        format!("{}/{}/{}", parts[0], parts[2], parts[3])
    };
    deliveries.iter().map(short).collect()
}

#[tokio::test]
async fn what_such_a_child_sends_upstream_has_a_log_of_its_own_and_all_else_is_the_edges() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path());
    broker.set_child_links(Some(Links::of(&["press"])));
    let twin = Source::TwinChange { device: name("press"), module: None };
    let module = Source::Module { module: name("press"), output: None };
    for (source, body) in
        [(child("press"), "1"), (child("oven"), "2"), (module, "3"), (twin, "4"), (child("press"), "5")]
    {
        publish(&broker, source, body, "low").await;
    }
    publish(&broker, child("press"), "6", "high").await;
    assert_eq!(broker.waiting_of_children(), BTreeMap::from([(name("press"), 3)]));
    assert!(!broker.has_nothing_of(&name("press")) && broker.has_nothing_of(&name("oven")));

    let mut press = broker.reader(own("press"));
    assert!(press.has_priorities(), "its routes are those into $upstream");
    let urgent = press.next(9).await.unwrap();
    assert_eq!((bodies(&urgent), ids(&urgent)), (vec!["6".to_owned()], vec!["press/0/0".to_owned()]));
    let rest = press.next(9).await.unwrap();
    assert_eq!(bodies(&rest), ["1", "5"]);
    assert_eq!(ids(&rest), ["press/d/0", "press/d/1"], "told from the edge's by the name");
    let edges = broker.reader(LogId::upstream()).next(9).await.unwrap();
    assert_eq!((bodies(&edges), &*ids(&edges)[0]), (vec!["2".to_owned(), "3".to_owned()], "edge-1/d/0"));
    // What else takes it is not concerned.
    assert_eq!(broker.reader(LogId::module(&name("m"))).next(9).await.unwrap().len(), 5);
}

#[tokio::test]
async fn what_an_edge_below_hands_on_for_such_a_child_is_the_childs_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path());
    broker.set_child_links(Some(Links::of(&["press"])));
    let passed = |text: &str| PassedOn {
        source: child(text),
        message: Message::new(text.to_owned()),
        priority: Priority::new(3).unwrap(),
    };
    let (told, heard) = oneshot::channel();
    broker.pass_on(vec![passed("press"), passed("oven")], Vec::new(), Arc::new(Chain::default()), |result| {
        told.send(result).unwrap();
    });
    heard.await.unwrap().unwrap();
    let read = broker.reader(own("press")).next(9).await.unwrap();
    assert_eq!((bodies(&read), ids(&read)), (vec!["press".to_owned()], vec!["press/3/0".to_owned()]));
    assert_eq!(bodies(&broker.reader(LogId::upstream()).next(9).await.unwrap()), ["oven"]);
}

#[tokio::test]
async fn volatile_messages_of_such_a_child_wait_in_its_own_lane() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path());
    broker.set_child_links(Some(Links::of(&["press"])));
    assert_eq!(publish(&broker, child("press"), "1", "none").await.volatile, 1);
    assert_eq!(broker.lane_lengths(&own("press")), (1, 0));
    assert_eq!(broker.lane_lengths(&LogId::upstream()), (0, 0));
    assert_eq!(broker.waiting_of_children(), BTreeMap::from([(name("press"), 1)]));
    assert!(!broker.has_nothing_of(&name("press")));
    // They do not outlive what they wait for.
    assert_eq!(broker.give_to_edge(&name("press")).await.unwrap(), 0);
    assert!(broker.has_nothing_of(&name("press")));
    assert_eq!(broker.counters().dropped_volatile, 1);
}

#[tokio::test]
async fn what_is_left_in_the_log_of_a_child_that_has_none_any_more_goes_up_as_the_edges_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    {
        let broker = broker(dir.path());
        let links = Links::of(&["press"]);
        broker.set_child_links(Some(links.clone()));
        for n in 0..600 {
            publish(&broker, child("press"), &n.to_string(), if n % 3 == 0 { "high" } else { "low" }).await;
        }
        // Some of it was taken already.
        let mut reader = broker.reader(own("press"));
        let first = reader.next(10).await.unwrap();
        reader.ack(first.iter().map(|one| one.ticket));
        drop(reader);
        links.forget("press");
        publish(&broker, child("press"), "late", "low").await;
        assert_eq!(broker.give_to_edge(&name("press")).await.unwrap(), 590);
        assert_eq!(broker.give_to_edge(&name("press")).await.unwrap(), 0);
        assert!(broker.has_nothing_of(&name("press")) && broker.waiting_of_children().is_empty());
        broker.store().close().unwrap();
    }
    let broker = broker(dir.path());
    assert!(broker.has_nothing_of(&name("press")), "also after a restart");
    let mut reader = broker.reader(LogId::upstream());
    let (mut urgent, mut rest) = (Vec::new(), Vec::new());
    while urgent.len() + rest.len() < 591 {
        let read = reader.next(1000).await.unwrap();
        let is_urgent = read[0].id.as_ref().unwrap().priority != Priority::DEFAULT;
        assert!(read.iter().all(|one| *one.route == *if is_urgent { "urgent" } else { "all" }));
        if is_urgent { &mut urgent } else { &mut rest }.extend(bodies(&read));
    }
    let expected = |high: bool| (0..600).filter(move |n| (n % 3 == 0) == high).map(|n| n.to_string());
    assert_eq!(urgent, expected(true).skip(10).collect::<Vec<_>>());
    assert_eq!(rest[0], "late", "what came after the change stands before what was given later");
    assert_eq!(rest[1..], expected(false).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_carries_children_hears_of_devices_that_come_and_go_and_not_of_modules() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path());
    let links = Links::of(&[]);
    let press = Identity::device(name("press"));
    broker.present(&press, true);
    broker.set_child_links(Some(links.clone()));
    broker.present(&press, true);
    broker.present(&Identity::module(name("press"), name("m")), true);
    broker.present(&press, false);
    broker.set_child_links(None);
    broker.present(&press, true);
    assert_eq!(*links.present.lock().unwrap(), [(name("press"), true), (name("press"), false)]);
}
