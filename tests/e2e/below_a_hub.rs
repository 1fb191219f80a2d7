//! An edge below a hub, both the whole binary: synchronise once, run offline for ever, come back and compare. The names of
//! the stories begin with the requirement that they show.

use crate::support::{Above, Dice, Edge, Link, Publisher, Sdk, host, number, publish, wait_for, wait_within};
use serde_json::{Value, json};
use std::{
    fs, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Everything goes up.
const ROUTES: &str = "[routes]\nup = 'FROM /messages/* INTO $upstream'\n";

/// An edge whose gateway the SDK finds at `host`.
fn edge_at(hub: &Above, link: &Link, host: &str) -> Edge {
    hub.edge(link, ROUTES, &[format!("tls://{host}:8883")], &format!("host_names = [\"{host}\"]\n"))
}

fn wait_known(edge: &Edge, device: &str) {
    wait_for(&format!("the edge knows {device}"), || {
        edge.run(&["device", "show", device]).good.then_some(())
    });
}

fn wait_forgotten(edge: &Edge, device: &str) {
    wait_for(&format!("the edge knows {device} no longer"), || {
        (!edge.run(&["device", "show", device]).good).then_some(())
    });
}

/// What a child of this edge is given: the edge says the same of it as of its own devices.
fn connection_string(edge: &Edge, device: &str) -> String {
    let shown = edge.json(&["device", "show", device, "--secrets"]).remove(0);
    shown["connection_string"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
}

fn bodies(events: &[Value]) -> Vec<Value> {
    events.iter().filter(|event| event.get("kind").is_none()).map(|event| event["body"].clone()).collect()
}

#[test]
fn o5_and_o6_after_one_sync_edge_and_child_run_offline_through_kills() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = edge_at(&hub, &link, &host(2));
    hub.add(&["press", "--parent", "edge-1"]);
    hub.run(&["twin", "set", "press", r#"{"interval": 5}"#]).expect_good();
    edge.start();
    wait_known(&edge, "press");
    wait_for("the twin came with it", || {
        let twin = edge.json(&["twin", "show", "press"]).remove(0);
        (twin["desired"]["interval"] == 5).then_some(())
    });
    let sealed = edge.folder().join("data/identity.key");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(sealed).unwrap().permissions()) & 0o777,
        0o600
    );

    link.cut();
    edge.kill();
    edge.start();
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    press.order(json!({ "do": "twin" }));
    assert_eq!(press.tells("twin")["twin"]["desired"]["interval"], 5, "known offline");
    press.send(r#"{"n":1}"#, json!({}));
    // O3: those at the edge go on talking to each other.
    let reply = edge.json(&["method", "call", "press", "reboot", "{}"]).remove(0);
    assert_eq!(reply["status"], 200);
    edge.kill();
    assert_eq!(press.tells("connection")["connected"], false);
    edge.start();
    // O2: the child proves itself to the edge anew, without the hub.
    while press.tells("connection")["connected"] == false {}
    press.send(r#"{"n":2}"#, json!({}));
    assert!(hub.events().is_empty(), "the link is down");

    link.mend();
    wait_for("both are at the hub", || (bodies(&hub.events()).len() == 2).then_some(()));
    let events = hub.events();
    assert_eq!(bodies(&events), [json!({ "n": 1 }), json!({ "n": 2 })]);
    assert_eq!((&events[0]["device"], &events[0]["edge"]), (&json!("press"), &json!("edge-1")));
    assert!(edge.stop().success());
}

#[test]
fn o4_a_child_that_is_taken_away_is_cut_off_and_one_that_is_added_can_connect() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = edge_at(&hub, &link, &host(3));
    for child in ["press", "oven"] {
        hub.add(&[child, "--parent", "edge-1"]);
    }
    edge.start();
    wait_known(&edge, "oven");
    edge.run(&["device", "add", "bench"]).expect_good();
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    let mut oven = Sdk::connected(&edge.authority(), &connection_string(&edge, "oven"), false);

    // While the edge is linked.
    hub.run(&["device", "set", "press", "--no-parent"]).expect_good();
    assert_eq!(press.tells("connection")["connected"], false, "cut off at once");
    wait_forgotten(&edge, "press");
    hub.add(&["mill", "--parent", "edge-1"]);
    wait_known(&edge, "mill");
    let mut mill = Sdk::connected(&edge.authority(), &connection_string(&edge, "mill"), false);
    mill.send(r#"{"from":"mill"}"#, json!({}));

    // While it is not: at the next sync.
    link.cut();
    hub.run(&["device", "remove", "oven"]).expect_good();
    hub.run(&["device", "set", "press", "--parent", "edge-1"]).expect_good();
    oven.send(r#"{"from":"oven"}"#, json!({}));
    link.mend();
    assert_eq!(oven.tells("connection")["connected"], false);
    wait_forgotten(&edge, "oven");
    wait_known(&edge, "press");
    wait_known(&edge, "mill");
    // The SDK takes a plain no for an answer; it does not come back by itself.
    press.connect();

    // What was added at the edge is nobody else's, and what is the hub's is not changed here.
    let list = edge.run(&["device", "list"]).expect_good();
    let from =
        |device: &str| list.lines().find(|line| line.starts_with(device)).unwrap().split_whitespace().last();
    assert_eq!((from("bench"), from("mill")), (Some("local"), Some("hub")), "{list}");
    edge.run(&["device", "remove", "mill"]).expect_refused(&["the hub says that mill is a child of edge-1"]);
    edge.run(&["twin", "set", "mill", r#"{"a": 1}"#]).expect_refused(&["hub twin"]);
    wait_for("the mill's message is at the hub", || {
        hub.events().iter().any(|event| event["body"] == json!({ "from": "mill" })).then_some(())
    });
    assert!(edge.stop().success());
}

#[test]
fn o8_desired_and_reported_are_the_same_on_both_sides_after_any_time_apart() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = edge_at(&hub, &link, &host(4));
    hub.add(&["press", "--parent", "edge-1"]);
    edge.start();
    wait_known(&edge, "press");
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    let report = |press: &mut Sdk, patch: Value| {
        press.order(json!({ "do": "report", "patch": patch }));
        press.tells("reported");
    };
    let reported = |what: Value| {
        wait_for(&format!("the hub has {what}"), || (hub.twin("press")["reported"] == what).then_some(()));
    };
    report(&mut press, json!({ "fan": { "rpm": 1 }, "old": true }));
    reported(json!({ "fan": { "rpm": 1 }, "old": true }));
    hub.run(&["twin", "set", "press", r#"{"a": 1, "b": 1}"#]).expect_good();
    assert_eq!(press.tells("desired")["patch"]["a"], 1, "at once while linked");

    link.cut();
    for rpm in 2..20 {
        report(&mut press, json!({ "fan": { "rpm": rpm } }));
    }
    report(&mut press, json!({ "old": null }));
    hub.run(&["twin", "set", "press", r#"{"a": 2}"#]).expect_good();
    hub.run(&["twin", "set", "press", r#"{"b": null, "c": 3}"#]).expect_good();
    edge.kill();
    assert_eq!(press.tells("connection")["connected"], false);
    edge.start();
    while press.tells("connection")["connected"] == false {}
    link.mend();
    reported(json!({ "fan": { "rpm": 19 } }));
    wait_for("the edge has what is desired", || {
        let twin = edge.json(&["twin", "show", "press"]).remove(0);
        (twin["desired"] == json!({ "a": 2, "c": 3 })).then_some(())
    });
    let (above, here) = (hub.twin("press"), edge.json(&["twin", "show", "press"]).remove(0));
    for (there, name) in [("desiredVersion", "desired_version"), ("reportedVersion", "reported_version")] {
        assert_eq!(above[there], here[name], "{above} {here}");
    }
    press.order(json!({ "do": "twin" }));
    let twin = press.tells("twin")["twin"].clone();
    assert_eq!((&twin["desired"]["c"], &twin["desired"]["b"]), (&json!(3), &Value::Null));
    assert!(edge.stop().success());
}

#[test]
fn g1_methods_and_messages_of_the_hub_reach_a_child_of_an_edge() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = edge_at(&hub, &link, &host(5));
    hub.add(&["press", "--parent", "edge-1"]);
    edge.start();
    wait_known(&edge, "press");
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    let reply = hub.json(&["method", "press", "reboot", r#"{"hard":true}"#]).remove(0);
    assert_eq!(
        (&reply["status"], &reply["payload"]),
        (&json!(200), &json!({ "you said": { "hard": true } }))
    );
    assert_eq!(press.tells("method")["name"], "reboot");
    hub.run(&["send", "press", "hello", "-p", "kind=a/b c"]).expect_good();
    let told = press.tells("message");
    assert_eq!((&told["body"], &told["properties"]["kind"]), (&json!("hello"), &json!("a/b c")));

    // A message waits at the hub while the edge is away, and at the edge while the child is.
    link.cut();
    hub.run(&["send", "press", "later"]).expect_good();
    hub.run(&["method", "press", "reboot", "{}"]).expect_refused(&["not"]);
    press.order(json!({ "do": "leave" }));
    press.tells("left");
    link.mend();
    wait_for("it waits at the edge", || (edge.waiting("child/press") == 1).then_some(()));
    press.connect();
    assert_eq!(press.tells("message")["body"], "later");
    assert!(edge.stop().success());
}

#[test]
fn o1_o7_and_n4_with_kills_of_edge_and_hub_the_consumer_sees_each_message_once_and_in_order() {
    let count = number("HOLDFAST_E2E_MESSAGES", 5_000);
    let seed = number("HOLDFAST_E2E_SEED", 1);
    let mut dice = Dice::new(seed);
    let mut hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = hub.edge(&link, ROUTES, &[], "");
    // The user of the gateway is a child that the hub knows.
    hub.add(&["sensor-1", "--parent", "edge-1"]);
    edge.start();
    let mut publisher = Publisher::start(edge.gateway(), "plant/counter", count);
    let patience = Duration::from_secs(60 + count / 50);
    for blow in 1..=8_u64 {
        let at = count * blow / 9 + dice.between(0, count / 20);
        wait_within(patience, &format!("{at} messages are acknowledged"), || {
            (publisher.acknowledged() >= at).then_some(())
        });
        thread::sleep(Duration::from_micros(dice.between(0, 20_000)));
        match blow % 4 {
            0 => {
                hub.kill();
                edge.kill();
                edge.launch();
                hub.launch();
            }
            1 => {
                hub.kill();
                hub.launch();
            }
            2 => {
                edge.kill();
                edge.launch();
            }
            _ => {
                link.cut();
                thread::sleep(Duration::from_millis(dice.between(0, 300)));
                link.mend();
            }
        }
    }
    let (acknowledged, connections) = publisher.finish();
    wait_for("the edge answers", || edge.run(&["list"]).good.then_some(()));
    wait_within(patience, "nothing waits for upstream", || (edge.waiting("upstream") == 0).then_some(()));
    let (events, again) = hub.has_counted("edge-1", "sensor-1", count);
    println!(
        "{count} messages, {events} events, {again} sent again by the device, {connections} connections of it"
    );
    assert!(acknowledged.len() as u64 >= count);
    assert!(edge.stop().success());
}

#[test]
fn o9_the_time_to_live_of_the_hub_holds_offline_and_after_a_restart() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = hub.edge(&link, ROUTES, &[], "");
    hub.add(&["sensor-1", "--parent", "edge-1"]);
    let settings = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": { "schemaVersion": "1.1", "runtime": { "type": "docker" },
            "systemModules": {}, "modules": {} } },
        "$edgeHub": { "properties.desired": { "schemaVersion": "1.1",
            "routes": { "up": "FROM /messages/* INTO $upstream" },
            "storeAndForwardConfiguration": { "timeToLiveSecs": 1 } } } } });
    fs::write(hub.folder().join("short.json"), settings.to_string()).unwrap();
    hub.run(&["deploy", "set", "short", "short.json", "--device", "edge-1"]).expect_good();
    edge.start();
    edge.wait_log("this edge is synchronised");
    link.cut();
    edge.kill();
    edge.start();
    publish(edge.gateway(), &["-q", "1", "-t", "plant/a", "-m", "1"]).expect_good();
    let waits = edge.json(&["queue", "peek", "upstream", "-n", "1"]).remove(0);
    let (received, expires) = (waits["received_ms"].as_u64().unwrap(), waits["expires_ms"].as_u64().unwrap());
    assert_eq!(expires - received, 1_000, "the hub's time to live, without the hub");
    wait_for("its time is over", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now > Duration::from_millis(expires)).then_some(())
    });
    link.mend();
    wait_for("it has expired", || {
        let queues = edge.json(&["queue", "list"]);
        queues.iter().any(|queue| queue["log"] == "upstream" && queue["expired"] == 1).then_some(())
    });
    assert!(bodies(&hub.events()).is_empty());
    assert!(edge.stop().success());
}
