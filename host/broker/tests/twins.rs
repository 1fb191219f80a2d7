//! What happens to twins, told as stories over the real store.
#![cfg(test)]

use holdfast_broker::{
    Broker, BrokerConfig, DesiredPatch, Refused, Report, Send, Turn, Twin, TwinError, Twins,
};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{StoreConfig, SystemClock};
use holdfast_types::{
    Durability, HOPS_MAX, Identity, LogId, Message, Name, Priority, Source, StableId, Topic, WhenFull,
};
use serde_json::{Map, Value, json};
use std::{path::Path, sync::Arc};
use tokio::sync::oneshot;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn who(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn definition(text: &str) -> RouteDefinition {
    RouteDefinition {
        name: "route".into(),
        text: text.into(),
        priority: Priority::DEFAULT,
        time_to_live_secs: None,
        durability: Durability::Durable,
        when_full: WhenFull::default(),
        topic: None,
    }
}

/// A broker with one route.
fn broker(dir: &Path, route: &str) -> Broker {
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(StoreConfig::new(dir), clock.clone()).unwrap();
    let routes = RouteTable::compile(vec![definition(route)]).unwrap();
    Broker::new(BrokerConfig { edge: name("edge-1"), routes, time_to_live: None }, store, clock)
}

const CHANGES_UP: &str = "FROM /twinChangeNotifications INTO $upstream";

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn twin(twins: &Twins, text: &str) -> (Value, u64, Value, u64) {
    let Twin { desired, desired_version, reported, reported_version } = twins.get(&who(text)).await.unwrap();
    (desired.into(), desired_version, reported.into(), reported_version)
}

/// What waits upstream: who sent it, and its body.
async fn upstream(broker: &Broker) -> Vec<(String, Value)> {
    let found = broker.reader(LogId::upstream()).take(1000).unwrap();
    let body = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
    found.iter().map(|d| (d.envelope.source.to_string(), body(&d.envelope.message.body))).collect()
}

async fn settle(reader: &holdfast_broker::Reader, turn: Turn) -> Result<(), Refused> {
    let (answer, wait) = oneshot::channel();
    reader.settle(turn, move |result| answer.send(result).unwrap());
    wait.await.unwrap()
}

#[tokio::test]
async fn a_twin_survives_the_store_and_its_changes_go_to_the_routes_once() {
    let dir = tempfile::tempdir().unwrap();
    {
        let broker = broker(dir.path(), CHANGES_UP);
        let twins = broker.twins();
        assert_eq!(twin(&twins, "press-7").await, (json!({}), 1, json!({}), 1));
        assert_eq!(twins.report(&who("press-7"), json!({"t": 20, "old": 1})).await, Ok(2));
        assert_eq!(twins.report(&who("press-7"), json!({"old": null, "a": {"b": "c"}})).await, Ok(3));
        assert_eq!(twins.desire(&who("press-7"), json!({"set": 21})).await, Ok(2));
        assert_eq!(twins.report(&who("edge-1/m"), json!({"up": true})).await, Ok(2));
        broker.store().close().unwrap();
    }
    let broker = broker(dir.path(), CHANGES_UP);
    let twins = broker.twins();
    let expected = (json!({"set": 21}), 2, json!({"t": 20, "a": {"b": "c"}}), 3);
    assert_eq!(twin(&twins, "press-7").await, expected);
    assert_eq!(twins.identities().unwrap(), [who("edge-1/m"), who("press-7")]);
    let told = upstream(&broker).await;
    let reported = |value: Value| json!({"properties": {"reported": value}});
    assert_eq!(
        told,
        [
            ("twin press-7".to_owned(), reported(json!({"t": 20, "old": 1, "$version": 2}))),
            ("twin press-7".to_owned(), reported(json!({"old": null, "a": {"b": "c"}, "$version": 3}))),
            ("twin edge-1/m".to_owned(), reported(json!({"up": true, "$version": 2}))),
        ]
    );
    twins.remove(&who("press-7")).await.unwrap();
    assert_eq!(twin(&twins, "press-7").await, (json!({}), 1, json!({}), 1));
    assert_eq!(twins.identities().unwrap(), [who("edge-1/m")]);
}

#[tokio::test]
async fn a_route_finds_a_change_by_what_it_includes() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "FROM /twinChangeNotifications WHERE twin_change_includes(properties.reported.alarm) INTO $upstream";
    let broker = broker(dir.path(), text);
    for patch in [json!({"t": 1}), json!({"alarm": {"level": 3}}), json!({"t": 2})] {
        broker.twins().report(&who("press-7"), patch).await.unwrap();
    }
    assert_eq!(upstream(&broker).await.len(), 1);
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let twins = broker.twins();
    let press = who("press-7");
    twins.report(&press, json!({"t": 20})).await.unwrap();
    for (patch, status, why) in [
        (json!([]), 400, "an array"),
        (json!({"a": {"b.c": 1}}), 400, "a.b.c"),
        (json!({"a": [null]}), 400, "a[0]"),
        (json!({"a": "t".repeat(5000)}), 400, "4096"),
        ((0..9).map(|n| (format!("k{n}"), json!("t".repeat(4000)))).collect(), 413, "32768"),
    ] {
        let error = twins.report(&press, patch.clone()).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(twins.desire(&press, patch).await.unwrap_err().status(), status);
    }
    let other = twins.report_if(&press, json!({"t": 21}), Some(1)).await.unwrap_err();
    assert_eq!((other.status(), other), (412, TwinError::OtherVersion { expected: 1, version: 2 }));
    assert_eq!(twins.report_if(&press, json!({"t": 22}), Some(2)).await, Ok(3));
    assert_eq!(twin(&twins, "press-7").await, (json!({}), 1, json!({"t": 22}), 3));
    assert_eq!(upstream(&broker).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_many_at_once_are_all_there_and_each_has_a_version_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200_u64 {
        let twins = broker.twins();
        let target = who(["press-7", "edge-1/m"][usize::from(n % 2 == 1)]);
        tasks
            .spawn(async move { (n % 2, twins.report(&target, json!({format!("k{n}"): n})).await.unwrap()) });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    let all: Vec<_> = (0..2).flat_map(|of| (2..102).map(move |version| (of, version))).collect();
    assert_eq!(versions, all);
    for (text, odd) in [("press-7", 0), ("edge-1/m", 1)] {
        let (_, _, reported, version) = twin(&broker.twins(), text).await;
        assert_eq!(version, 101);
        let expected: Map<_, _> =
            (0..200).filter(|n| n % 2 == odd).map(|n| (format!("k{n}"), json!(n))).collect();
        assert_eq!(reported, Value::Object(expected));
    }
    // The messages tell of the versions in their order.
    let told: Vec<u64> =
        upstream(&broker).await.iter().filter(|(of, _)| of == "twin press-7").map(version).collect();
    assert_eq!(told, (2..102).collect::<Vec<_>>());
}

fn version((_, body): &(String, Value)) -> u64 {
    body["properties"]["reported"]["$version"].as_u64().unwrap()
}

#[tokio::test]
async fn a_watcher_hears_each_durable_change_in_order_and_one_far_behind_hears_all_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let twins = broker.twins();
    let press = who("press-7");
    twins.desire(&press, json!({"before": 1, "gone": {"x": 1}})).await.unwrap();
    let mut watch = twins.watch(&press);
    let mut sleeper = twins.watch(&press);
    assert_eq!(watch.take(), None);
    for n in 0..40_u64 {
        twins.desire(&press, json!({"n": n, "gone": null})).await.unwrap();
        let change = watch.next().await;
        assert_eq!(change, DesiredPatch { version: n + 3, patch: json!({"n": n, "gone": null}) });
        assert_eq!(twin(&twins, "press-7").await.1, n + 3, "it is on disk before it is told");
    }
    // 40 changes: 16, of which the 17th made one; so again; and six after it.
    let mut document = json!({"before": 1, "gone": {"x": 1}});
    let mut versions = Vec::new();
    while let Some(DesiredPatch { version, patch }) = sleeper.take() {
        json_merge(&mut document, &patch);
        versions.push(version);
    }
    assert_eq!(document, json!({"before": 1, "n": 39}));
    assert!(versions.len() <= 16 && versions.is_sorted() && versions.last() == Some(&42), "{versions:?}");

    twins.report(&press, json!({"n": 1})).await.unwrap();
    assert_eq!(watch.take(), None, "reported properties are the owner's own");
    twins.replace_desired(&press, json!({"n": 1, "k": null}), 42).await.unwrap();
    assert_eq!(watch.take(), None, "what is not newer changes nothing");
    assert_eq!(twin(&twins, "press-7").await.0, json!({"before": 1, "n": 39}));
    twins.replace_desired(&press, json!({"n": 1, "k": null}), 50).await.unwrap();
    let replaced = DesiredPatch { version: 50, patch: json!({"n": 1, "before": null}) };
    assert_eq!(watch.take(), Some(replaced));
    assert_eq!(twin(&twins, "press-7").await.0, json!({"n": 1}));
    assert_eq!(twin(&twins, "press-7").await.1, 50);
}

/// Merging as an independent few lines.
fn json_merge(document: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else { return *document = patch.clone() };
    if !document.is_object() {
        *document = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            document.as_object_mut().unwrap().remove(key);
        } else {
            json_merge(&mut document[key], change);
        }
    }
}

/// What a module reports in a turn.
fn report(onto: &mut Map<String, Value>, patch: Value, hops: u8) -> Report {
    Twins::apply_report(onto, patch, hops).unwrap()
}

#[tokio::test]
async fn a_report_of_a_turn_is_recorded_with_it_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let route = "FROM /* INTO $upstream";
    {
        let broker = broker(dir.path(), route);
        let reader = broker.reader(LogId::module(&name("m")));
        let mut own = Map::new();
        let mut answers = Vec::new();
        // Turns on top of one another, before the first of them is on disk.
        for n in 0..5 {
            let turn = Turn {
                sends: vec![Send {
                    output: None,
                    message: Message::new(json!({"n": n}).to_string()),
                    hops: 1,
                }],
                reports: vec![
                    report(&mut own, json!({"n": n}), 1),
                    report(&mut own, json!({format!("k{n}"): true}), 1),
                ],
                ..Turn::default()
            };
            let (answer, wait) = oneshot::channel();
            reader.settle(turn, move |result| answer.send(result).unwrap());
            answers.push(wait);
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap(), Ok(()));
        }
        broker.store().close().unwrap();
        let lost = Turn { reports: vec![report(&mut own, json!({"n": 99}), 1)], ..Turn::default() };
        assert!(settle(&reader, lost).await.is_err());
    }
    let broker = broker(dir.path(), route);
    let expected = json!({"n": 4, "k0": true, "k1": true, "k2": true, "k3": true, "k4": true});
    assert_eq!(twin(&broker.twins(), "edge-1/m").await, (json!({}), 1, expected, 11));
    let told: Vec<_> = upstream(&broker).await.into_iter().filter(|(of, _)| of.starts_with("twin")).collect();
    assert_eq!(told.iter().map(version).collect::<Vec<_>>(), (2..12).collect::<Vec<_>>());
    assert_eq!(upstream(&broker).await.len(), 15);
}

#[tokio::test]
async fn reports_of_a_loop_end_and_the_twin_stands() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let reader = broker.reader(LogId::module(&name("m")));
    let mut own = Map::new();
    let reports = vec![report(&mut own, json!({"n": 1}), HOPS_MAX + 1)];
    settle(&reader, Turn { reports, ..Turn::default() }).await.unwrap();
    assert_eq!(twin(&broker.twins(), "edge-1/m").await.2, json!({"n": 1}));
    assert!(upstream(&broker).await.is_empty());
    assert_eq!(broker.counters().refused, 1);
}

#[tokio::test]
async fn turns_that_were_not_recorded_leave_the_twin_and_the_next_begin_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    // The log of `full` is full, so that a turn with a message for it waits.
    let broker = broker(dir.path(), CHANGES_UP);
    let reader = broker.reader(LogId::module(&name("m")));
    let mut own = Map::new();
    let first = Turn { reports: vec![report(&mut own, json!({"n": 1}), 1)], ..Turn::default() };
    settle(&reader, first).await.unwrap();
    let twins = broker.twins();
    // Somebody else changes it meanwhile: the next turn is reckoned onto that.
    twins.report(&who("edge-1/m"), json!({"other": true})).await.unwrap();
    let second = Turn { reports: vec![report(&mut own, json!({"n": 2}), 1)], ..Turn::default() };
    settle(&reader, second).await.unwrap();
    assert_eq!(twin(&twins, "edge-1/m").await, (json!({}), 1, json!({"n": 2, "other": true}), 4));
}

#[tokio::test]
async fn a_twin_that_cannot_be_read_says_so_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let write = |value: &'static str| holdfast_store::Commit {
        documents: vec![holdfast_store::DocumentWrite {
            space: "twin/reported".into(),
            key: "press-7".into(),
            value: Some(value.into()),
        }],
        ..holdfast_store::Commit::default()
    };
    let twins = broker.twins();
    let press = who("press-7");
    for (value, why) in [("not JSON", "expected"), (r#"{"format":9,"version":3,"document":{}}"#, "format 9")]
    {
        broker.store().commit_blocking(write(value)).unwrap();
        let error = twins.get(&press).await.unwrap_err();
        assert!(error.to_string().contains(why) && error.status() == 500, "{error}");
        assert!(twins.report(&press, json!({"t": 1})).await.is_err());
        twins.remove(&press).await.unwrap();
        assert_eq!(twins.report(&press, json!({"t": 1})).await, Ok(2));
    }
    broker.store().close().unwrap();
    assert_eq!(twins.report(&press, json!({"t": 1})).await.unwrap_err().status(), 500);
}

#[tokio::test]
async fn messages_between_changes_of_twins_are_not_taken_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let source = Source::Child { child: name("press-7"), topic: Some(Topic::new("t").unwrap()) };
    broker.publish(source, Message::new("{}")).await.unwrap();
    broker.twins().report(&who("press-7"), json!({"t": 1})).await.unwrap();
    let read = broker.reader(LogId::upstream()).take(9).unwrap();
    let ids: Vec<StableId> = read.iter().filter_map(|d| d.id.clone()).collect();
    assert_eq!((read.len(), ids.len()), (1, 1));
    let as_map = object(serde_json::from_slice(&read[0].envelope.message.body).unwrap());
    assert!(as_map.contains_key("properties"));
}

#[tokio::test]
async fn what_a_hub_has_of_a_report_is_taken_where_it_is_newer_and_what_is_unsent_stands_above() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(dir.path(), CHANGES_UP);
    let twins = broker.twins();
    let press = who("press-7");
    let mut watch = twins.watch_reported();
    twins.report(&press, json!({"a": 1, "b": 1})).await.unwrap();
    twins.report(&press, json!({"b": 2})).await.unwrap();
    assert_eq!(
        watch.next().await.into_iter().collect::<Vec<_>>(),
        std::slice::from_ref(&press),
        "both as one"
    );
    assert_eq!(twins.adopt_reported(&press, json!({"z": 1}), 3, 3).await, Ok(3), "not newer");
    assert_eq!(twin(&twins, "press-7").await.2, json!({"a": 1, "b": 2}));
    assert_eq!(
        twins.adopt_reported(&press, json!({"b": 9, "c": 3}), 7, 2).await,
        Ok(8),
        "version 3 was not sent"
    );
    assert_eq!(twin(&twins, "press-7").await.2, json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(twins.adopt_reported(&press, json!({"c": 4}), 9, 8).await, Ok(9), "all was sent");
    assert_eq!(twin(&twins, "press-7").await.2, json!({"c": 4}));
    assert!(matches!(twins.adopt_reported(&press, json!([]), 10, 9).await, Err(TwinError::Invalid(_))));
    assert_eq!(upstream(&broker).await.len(), 2, "what comes from above is not told to it");
    let patch = Twins::difference(&object(json!({"a": {"x": 1}, "b": 1})), &object(json!({"a": {"x": 2}})));
    assert_eq!(Value::Object(patch), json!({"a": {"x": 2}, "b": null}));
}

#[tokio::test]
async fn a_message_of_a_hub_is_taken_once_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let press = name("press-7");
    for from in [0, 5] {
        let broker = broker(dir.path(), CHANGES_UP);
        for n in (from..from + 10).chain(from..from + 3) {
            let message = Message::new(n.to_string());
            broker.cloud_to_device_once(&press, message, None, &format!("id-{n}")).await.unwrap();
        }
        broker.store().close().unwrap();
    }
    let broker = broker(dir.path(), CHANGES_UP);
    let found = broker.reader(LogId::child(&press)).take(100).unwrap();
    let bodies: Vec<String> =
        found.iter().map(|one| String::from_utf8(one.envelope.message.body.to_vec()).unwrap()).collect();
    assert_eq!(bodies, (0..15).map(|n: u32| n.to_string()).collect::<Vec<_>>());
}
