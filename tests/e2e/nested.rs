//! An edge under an edge under a hub, all of them the whole binary, with a device of the unmodified SDK at the lowest edge:
//! cut at any place, killed at any moment. The names of the stories begin with the requirement that they show.

use crate::support::{Above, Dice, Edge, Link, Publisher, Sdk, USER, host, number, wait_for, wait_within};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};

/// Everything goes up.
const ROUTES: &str = "[routes]\nup = 'FROM /messages/* INTO $upstream'\n";

/// A hub, an edge below it, and an edge below that; the links between them can be cut.
struct Tower {
    hub: Above,
    /// From the upper edge to the hub.
    high: Link,
    upper: Edge,
    /// From the lower edge to the upper one.
    low: Link,
    lower: Edge,
}

impl Tower {
    /// All of it, with these devices at the lower edge; nothing but the hub runs.
    fn built(number: u8, devices: &[&str]) -> Self {
        let hub = Above::started();
        let high = Link::to(hub.port());
        let upper = hub.edge_below("edge-1", None, &high, "", &[], "");
        // The one user of the tests comes in at the lower edge alone.
        let config = fs::read_to_string(upper.config()).unwrap();
        fs::write(upper.config(), config.replace(USER, "nobody-here")).unwrap();
        let low = Link::to(upper.gateway());
        let at = host(number);
        let doors = [format!("tls://{at}:8883")];
        let keys = format!("host_names = [\"{at}\"]\n");
        let lower = hub.edge_below("edge-2", Some("edge-1"), &low, ROUTES, &doors, &keys);
        for device in devices {
            hub.add(&[device, "--parent", "edge-2"]);
        }
        Self { hub, high, upper, low, lower }
    }

    fn start(&mut self) {
        self.upper.start();
        self.lower.start();
    }

    /// A device of the SDK at the lower edge.
    fn sdk(&self, device: &str) -> Sdk {
        wait_known(&self.lower, device);
        let shown = self.lower.json(&["device", "show", device, "--secrets"]).remove(0);
        Sdk::connected(&self.lower.authority(), shown["connection_string"].as_str().unwrap(), false)
    }

    fn bodies(&self) -> Vec<Value> {
        let events = self.hub.events();
        events.iter().filter(|event| event.get("kind").is_none()).map(|event| event["body"].clone()).collect()
    }

    fn stop(mut self) {
        assert!(self.lower.stop().success());
        assert!(self.upper.stop().success());
    }
}

fn wait_known(edge: &Edge, device: &str) {
    wait_for(&format!("an edge knows {device}"), || edge.run(&["device", "show", device]).good.then_some(()));
}

fn wait_forgotten(edge: &Edge, device: &str) {
    wait_for(&format!("an edge knows {device} no longer"), || {
        (!edge.run(&["device", "show", device]).good).then_some(())
    });
}

fn wait_desired(edge: &Edge, device: &str, desired: &Value) {
    wait_for(&format!("{device} is to have {desired}"), || {
        (edge.json(&["twin", "show", device]).remove(0)["desired"] == *desired).then_some(())
    });
}

#[test]
fn g5_telemetry_twins_methods_and_messages_go_through_two_edges() {
    let mut tower = Tower::built(40, &["press"]);
    tower.hub.run(&["twin", "set", "press", r#"{"interval": 5}"#]).expect_good();
    tower.start();
    let mut press = tower.sdk("press");
    press.order(json!({ "do": "twin" }));
    assert_eq!(press.tells("twin")["twin"]["desired"]["interval"], 5);
    press.send(r#"{"n":1}"#, json!({}));
    wait_for("the reading is at the hub", || (tower.bodies().len() == 1).then_some(()));
    let event = tower.hub.events().remove(0);
    assert_eq!((&event["device"], &event["edge"]), (&json!("press"), &json!("edge-2")));
    assert!(event["id"].as_str().unwrap().starts_with("edge-2/"), "the identity of its origin: {event}");

    // Downwards.
    tower.hub.run(&["twin", "set", "press", r#"{"interval": 6}"#]).expect_good();
    assert_eq!(press.tells("desired")["patch"]["interval"], 6);
    let reply = tower.hub.json(&["method", "press", "reboot", r#"{"hard":true}"#]).remove(0);
    assert_eq!(
        (&reply["status"], &reply["payload"]),
        (&json!(200), &json!({ "you said": { "hard": true } }))
    );
    let reply = tower.upper.json(&["method", "call", "press", "reboot", "{}"]).remove(0);
    assert_eq!(reply["status"], 200, "the edge between calls it as well");
    tower.hub.run(&["send", "press", "hello", "-p", "kind=a/b c"]).expect_good();
    let told = press.tells("message");
    assert_eq!((&told["body"], &told["properties"]["kind"]), (&json!("hello"), &json!("a/b c")));

    // Upwards, with the same versions everywhere.
    press.order(json!({ "do": "report", "patch": { "fan": { "rpm": 7 } } }));
    press.tells("reported");
    wait_for("the hub has what is reported", || {
        (tower.hub.twin("press")["reported"] == json!({ "fan": { "rpm": 7 } })).then_some(())
    });
    let above = tower.hub.twin("press");
    for edge in [&tower.upper, &tower.lower] {
        let here = edge.json(&["twin", "show", "press"]).remove(0);
        assert_eq!(here["reported_version"], above["reportedVersion"], "{here} {above}");
        assert_eq!(here["desired_version"], above["desiredVersion"], "{here} {above}");
    }
    tower.stop();
}

#[test]
fn g5_o6_each_edge_goes_on_for_those_below_it_whatever_is_cut_above() {
    let mut tower = Tower::built(41, &["press"]);
    tower.start();
    wait_known(&tower.lower, "press");
    tower.hub.run(&["twin", "set", "press", r#"{"a": 1}"#]).expect_good();
    wait_desired(&tower.lower, "press", &json!({ "a": 1 }));
    let mut press = tower.sdk("press");

    // The lower edge is cut off, and killed: its device comes in again, and is served.
    tower.low.cut();
    tower.lower.kill();
    assert_eq!(press.tells("connection")["connected"], false);
    tower.lower.start();
    while press.tells("connection")["connected"] == false {}
    press.send(r#"{"n":1}"#, json!({}));
    tower.hub.run(&["twin", "set", "press", r#"{"a": 2}"#]).expect_good();
    wait_desired(&tower.upper, "press", &json!({ "a": 2 }));

    // The upper one is cut off from the hub and killed; then it serves the lower one from what it has.
    tower.high.cut();
    tower.upper.kill();
    tower.upper.start();
    tower.low.mend();
    assert_eq!(press.tells("desired")["patch"]["a"], 2, "the upper edge knew it");
    press.send(r#"{"n":2}"#, json!({}));
    wait_for("both wait at the upper edge", || (tower.upper.waiting("upstream") == 2).then_some(()));
    press.order(json!({ "do": "report", "patch": { "seen": 2 } }));
    press.tells("reported");
    wait_for("the upper edge has the report", || {
        let twin = tower.upper.json(&["twin", "show", "press"]).remove(0);
        (twin["reported"]["seen"] == 2).then_some(())
    });
    let reply = tower.upper.json(&["method", "call", "press", "reboot", "{}"]).remove(0);
    assert_eq!(reply["status"], 200, "both talk without the hub");
    assert!(tower.bodies().is_empty(), "the hub is away");

    tower.high.mend();
    wait_for("all is at the hub", || (tower.bodies().len() == 2).then_some(()));
    assert_eq!(tower.bodies(), [json!({ "n": 1 }), json!({ "n": 2 })]);
    wait_for("the report is at the hub", || (tower.hub.twin("press")["reported"]["seen"] == 2).then_some(()));
    tower.stop();
}

#[test]
fn g5_o4_who_is_taken_away_is_cut_off_at_the_lowest_edge_and_who_is_added_can_connect() {
    let mut tower = Tower::built(42, &["press", "oven"]);
    tower.start();
    let mut press = tower.sdk("press");
    let mut oven = tower.sdk("oven");
    tower.hub.run(&["device", "set", "press", "--no-parent"]).expect_good();
    assert_eq!(press.tells("connection")["connected"], false, "cut off at once");
    wait_forgotten(&tower.upper, "press");
    wait_forgotten(&tower.lower, "press");
    tower.hub.add(&["mill", "--parent", "edge-2"]);
    let mut mill = tower.sdk("mill");
    mill.send(r#"{"from":"mill"}"#, json!({}));

    // While the lower edge is away, another one goes: it learns of it when it is back.
    tower.low.cut();
    tower.hub.run(&["device", "remove", "oven"]).expect_good();
    wait_forgotten(&tower.upper, "oven");
    oven.send(r#"{"from":"oven"}"#, json!({}));
    tower.low.mend();
    assert_eq!(oven.tells("connection")["connected"], false);
    wait_forgotten(&tower.lower, "oven");

    // A device of the lower edge is none of the upper one, and no edge passes its parent by.
    tower.upper.run(&["device", "show", "mill"]).expect_good();
    tower.hub.run(&["device", "add", "loop", "--edge", "--parent", "edge-2"]).expect_good();
    tower.hub.run(&["device", "set", "edge-1", "--parent", "loop"]).expect_refused(&["above itself"]);
    wait_for("the mill's message is at the hub", || {
        tower.bodies().contains(&json!({ "from": "mill" })).then_some(())
    });
    // With the lower edge all that is behind it goes.
    tower.hub.run(&["device", "set", "edge-2", "--no-parent"]).expect_good();
    wait_forgotten(&tower.upper, "mill");
    tower.stop();
}

#[test]
fn g5_o11_the_deployment_of_a_lower_edge_comes_through_the_upper_one_and_how_it_fares_goes_back() {
    let mut tower = Tower::built(43, &[]);
    tower.start();
    wait_known(&tower.upper, "edge-2");
    let manifest = json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": { "schemaVersion": "1.1", "runtime": { "type": "docker" },
            "systemModules": {}, "modules": {} } },
        "$edgeHub": { "properties.desired": { "schemaVersion": "1.1",
            "routes": { "up": "FROM /messages/* INTO $upstream" },
            "storeAndForwardConfiguration": { "timeToLiveSecs": 77 } } } } });
    fs::write(tower.hub.folder().join("low.json"), manifest.to_string()).unwrap();
    // The lower edge is away when it is given, and the hub is when it comes back.
    tower.low.cut();
    tower.hub.run(&["deploy", "set", "low", "low.json", "--device", "edge-2"]).expect_good();
    let revision = |edge: &str| {
        let edges = tower.hub.json(&["edges"]);
        edges.into_iter().find(|item| item["edge"] == edge).unwrap()
    };
    assert_eq!(revision("edge-1")["revision"], revision("edge-2")["revision"], "one change concerns both");
    // Changes come in their order, so that who has the later one has the deployment too.
    tower.hub.run(&["twin", "set", "edge-2", r#"{"later": true}"#]).expect_good();
    wait_desired(&tower.upper, "edge-2", &json!({ "later": true }));
    tower.high.cut();
    tower.low.mend();
    wait_for("it is applied", || {
        let shown = tower.lower.json(&["deployment", "show"]).remove(0);
        (shown["id"].as_str().is_some_and(|id| id.starts_with("low"))).then_some(())
    });
    tower.high.mend();
    wait_for("the hub knows how it fares", || {
        (revision("edge-2")["deployment"]["state"] == "applied").then_some(())
    });
    tower.stop();
}

#[test]
fn g5_n4_with_kills_of_both_edges_and_the_hub_the_consumer_sees_each_message_once_and_in_order() {
    let count = number("HOLDFAST_E2E_MESSAGES", 5_000);
    let mut dice = Dice::new(number("HOLDFAST_E2E_SEED", 1));
    let mut tower = Tower::built(44, &[USER]);
    tower.start();
    wait_for("the lower edge is synchronised", || {
        tower.lower.log().contains("this edge is synchronised").then_some(())
    });
    let mut publisher = Publisher::start(tower.lower.gateway(), "plant/counter", count);
    let patience = Duration::from_secs(60 + count / 50);
    for blow in 1..=10_u64 {
        let at = count * blow / 11 + dice.between(0, count / 20);
        wait_within(patience, &format!("{at} messages are acknowledged"), || {
            (publisher.acknowledged() >= at).then_some(())
        });
        thread::sleep(Duration::from_micros(dice.between(0, 20_000)));
        match blow % 5 {
            0 => {
                tower.hub.kill();
                tower.upper.kill();
                tower.lower.kill();
                tower.lower.launch();
                tower.upper.launch();
                tower.hub.launch();
            }
            1 => {
                tower.upper.kill();
                tower.upper.launch();
            }
            2 => {
                tower.lower.kill();
                tower.lower.launch();
            }
            3 => {
                tower.hub.kill();
                tower.hub.launch();
            }
            _ => {
                let link = if dice.between(0, 2) == 0 { &tower.high } else { &tower.low };
                link.cut();
                thread::sleep(Duration::from_millis(dice.between(0, 300)));
                link.mend();
            }
        }
    }
    let (acknowledged, _) = publisher.finish();
    for edge in [&tower.lower, &tower.upper] {
        wait_for("the edge answers", || edge.run(&["list"]).good.then_some(()));
        wait_within(patience, "nothing waits for upstream", || (edge.waiting("upstream") == 0).then_some(()));
    }
    let (events, again) = tower.hub.has_counted("edge-2", USER, count);
    println!("{count} messages, {events} events, {again} sent again by the device");
    assert!(acknowledged.len() as u64 >= count);
    tower.stop();
}
