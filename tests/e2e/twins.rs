//! Twins, methods and messages to children, from the command line to a module and back, with the link down.

use crate::support::{Edge, free_port, wait_for};
use serde_json::{Value, json};

/// Nobody listens upstream.
fn offline() -> Edge {
    let routes = r#"
[routes]
warm = 'FROM /messages INTO BrokeredEndpoint("/modules/thermostat/inputs/readings")'
heat = 'FROM /messages/modules/thermostat/* INTO $upstream'
changes = 'FROM /twinChangeNotifications INTO $upstream'
"#;
    Edge::prepare(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\n{routes}",
        free_port()
    ))
}

fn twin(edge: &Edge, who: &str) -> Value {
    edge.json(&["twin", "show", who]).remove(0)
}

/// Waits until a twin reports this.
fn wait_reported(edge: &Edge, who: &str, key: &str, value: &Value) -> Value {
    wait_for(&format!("{who} reports {key} = {value}"), || {
        let twin = twin(edge, who);
        (&twin["reported"][key] == value).then_some(twin)
    })
}

#[test]
fn what_is_desired_survives_a_kill_and_reaches_the_module_with_the_link_down() {
    let mut edge = offline();
    edge.plug("thermostat", "thermostat", "");
    edge.start();
    edge.wait_module("thermostat", "running");
    wait_reported(&edge, "/thermostat", "setPoint", &json!(18.0));

    let set = edge.json(&["twin", "set", "/thermostat", r#"{"setPoint": 21, "note": "day"}"#]).remove(0);
    assert_eq!((&set["who"], &set["desired_version"]), (&json!("edge-1/thermostat"), &json!(2)));
    edge.json(&["twin", "set", "press-7", r#"{"speed": 3}"#]);
    // At once after the answer.
    edge.kill();
    edge.start();
    let after = wait_reported(&edge, "/thermostat", "setPoint", &json!(21.0));
    assert_eq!(after["desired"], json!({"setPoint": 21, "note": "day"}));
    assert_eq!(after["desired_version"], 2);
    assert_eq!(twin(&edge, "press-7")["desired"], json!({"speed": 3}));

    // While it runs, and again from the command line to the module's report.
    edge.run(&["twin", "set", "/thermostat", r#"{"setPoint": 23, "note": null}"#]).expect_good();
    let changed = wait_reported(&edge, "/thermostat", "setPoint", &json!(23.0));
    assert_eq!(changed["desired"], json!({"setPoint": 23}));
    assert_eq!(changed["reported"]["version"], 3);
    edge.run(&["twin", "set", "/thermostat", r#"{"setPoint": 90}"#]).expect_good();
    wait_for("what cannot be is refused in the report", || {
        let refused = twin(&edge, "/thermostat")["reported"]["refused"].as_str().map(str::to_owned);
        refused.filter(|why| why.contains("5 to 35")).map(drop)
    });

    // The changes wait for the link.
    assert!(edge.waiting("upstream") > 0);
    let shown = edge.run(&["twin", "show", "edge-1/thermostat"]).expect_good();
    assert!(shown.contains("reported, version") && shown.contains("\"setPoint\": 23.0"), "{shown}");
    let listed = edge.run(&["twin", "list"]).expect_good();
    assert!(listed.starts_with("WHO") && listed.contains("edge-1/thermostat") && listed.contains("press-7"));
    edge.run(&["twin", "remove", "press-7"]).expect_good();
    assert_eq!(twin(&edge, "press-7")["desired_version"], 1);
    assert!(edge.stop().success());
}

#[test]
fn a_method_is_called_from_the_command_line_and_its_effects_are_on_disk_when_it_answers() {
    let mut edge = offline();
    edge.plug("thermostat", "thermostat", "");
    edge.start();
    edge.wait_module("thermostat", "running");
    edge.run(&["send", "--json-body", "--from", "press-7:plant/t", r#"{"temperature": 5}"#]).expect_good();
    wait_reported(&edge, "/thermostat", "switchedOn", &json!(1));
    let reply = edge.json(&["method", "call", "/thermostat", "reset"]).remove(0);
    assert_eq!(reply, json!({"status": 200, "payload": {"switchedOn": 1}}));
    edge.kill();
    edge.start();
    edge.wait_module("thermostat", "running");
    let reported = twin(&edge, "/thermostat")["reported"].clone();
    assert_eq!((&reported["switchedOn"], &reported["heating"]), (&json!(0), &json!(true)));
    let shown = edge.run(&["method", "call", "/thermostat", "reset"]).expect_good();
    assert_eq!(shown, "status 200\n{\n  \"switchedOn\": 0\n}\n");

    edge.run(&["method", "call", "/thermostat", "explode"]).expect_refused(&["status 404", "no method"]);
    edge.run(&["method", "call", "press-7", "reset"]).expect_refused(&["press-7 is not connected"]);
    edge.run(&["method", "call", "/thermostat", "reset", "{no"]).expect_refused(&["no JSON"]);
    edge.run(&["method", "call", "/thermostat", "reset", "--timeout", "2"]).expect_refused(&["5 to 300 s"]);
    edge.run(&["method", "call", "a/b/c", "reset"]).expect_refused(&["names nobody", "/MODULE"]);
    edge.run(&["twin", "set", "/thermostat", "{no"]).expect_refused(&["is no JSON"]);
    edge.run(&["twin", "set", "/thermostat", "[1]"]).expect_refused(&["not a JSON object"]);
    edge.run(&["twin", "set", "/thermostat", r#"{"a.b": 1}"#]).expect_refused(&["a.b", "rename it"]);
    assert!(edge.stop().success());
}

#[test]
fn messages_wait_for_a_child_over_a_kill_fifty_of_them() {
    let mut edge = offline();
    edge.start();
    for n in 0..50 {
        let body = n.to_string();
        let said = edge
            .run(&["cloud-to-device", "press-7", &body, "-p", "kind=order", "--expires-in", "1h"])
            .expect_good();
        assert!(said.contains("holdfast device add press-7"), "nobody of that name was added: {said}");
    }
    edge.run(&["cloud-to-device", "press-7", "51"]).expect_refused(&["50 messages wait for this child"]);
    edge.run(&["cloud-to-device", "press-7", "x", "--expires-in", "soon"]).expect_refused(&["90s, 10m"]);
    edge.run(&["cloud-to-device", "press-8", "x", "--expires-in", "3d"])
        .expect_refused(&["2 days at most", "2d or less"]);
    edge.kill();
    edge.start();
    assert_eq!(edge.waiting("child/press-7"), 50);
    let first = edge.json(&["queue", "peek", "child/press-7", "-n", "1"]).remove(0);
    assert_eq!(first["from"], json!({"module": {"module": "$edgeHub"}}), "{first}");
    edge.run(&["cloud-to-device", "press 7", "x"]).expect_refused(&["is not allowed in a name"]);
    assert!(edge.stop().success());
}
