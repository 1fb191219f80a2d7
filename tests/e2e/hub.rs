//! The hub: devices of an unmodified SDK connect to it directly, and its commands show and reach them. The ports are fixed
//! in the SDK, so that each story has an address of its own.

use crate::support::{Edge, Hub, Sdk, holdfast, host, publish, wait_for};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

fn hub_at(host: &str) -> Hub {
    Hub::prepare(&[format!("tls://{host}:8883")], host, "")
}

/// What a device and a service do, once; `round` is another number each time.
pub(crate) fn converse(hub: &Hub, sdk: &mut Sdk, device: &str, round: u64) {
    sdk.send(&json!({ "t": round }).to_string(), json!({ "a/b": "c+d e%&=é" }));
    // An edge between them acknowledges before it has sent it on.
    let event = wait_for("the hub has the message", || {
        hub.events().into_iter().rev().find(|event| event["device"] == device && event["body"]["t"] == round)
    });
    assert_eq!(event["properties"]["a/b"], "c+d e%&=é");
    assert!(event["system"]["connectionAuthMethod"].as_str().unwrap().contains("sas"), "{event}");

    hub.run(&["twin", "set", device, &json!({ "interval": round }).to_string()]).expect_good();
    assert_eq!(sdk.tells("desired")["patch"]["interval"], round);
    sdk.order(json!({ "do": "report", "patch": { "fan": { "rpm": round } } }));
    sdk.tells("reported");
    // So it is with what is reported.
    wait_for("the hub has the report", || {
        (hub.json(&["twin", "show", device])[0]["reported"]["fan"]["rpm"] == round).then_some(())
    });
    sdk.order(json!({ "do": "twin" }));
    let twin = sdk.tells("twin")["twin"].clone();
    assert_eq!(
        (&twin["desired"]["interval"], &twin["reported"]["fan"]["rpm"]),
        (&json!(round), &json!(round))
    );

    let payload = json!({ "in": round });
    let reply = hub.json(&["method", device, "reboot", &payload.to_string()]).remove(0);
    assert_eq!(reply, json!({ "status": 200, "payload": { "you said": payload } }));
    assert_eq!(sdk.tells("method")["name"], "reboot");

    let body = format!("hello {round}");
    hub.run(&["send", device, &body, "-p", "kind=a/b c", "-s", "messageId=c-1"]).expect_good();
    let told = told_of(sdk, &body);
    assert_eq!(told["message_id"], "c-1");
    assert_eq!(told["properties"]["kind"], "a/b c");
}

/// The message of this body. One whose acknowledgement was cut off by the end of its connection comes again before it.
fn told_of(sdk: &mut Sdk, body: &str) -> Value {
    loop {
        let told = sdk.tells("message");
        if told["body"] == body {
            return told;
        }
    }
}

#[test]
fn a_device_of_an_unmodified_sdk_works_at_the_hub_directly_and_over_a_kill() {
    let host = host(1);
    let mut hub = hub_at(&host);
    hub.start();
    let pump = hub.json(&["device", "add", "pump"]).remove(0);
    let connection = pump["connection_string"].as_str().unwrap();
    assert!(connection.starts_with("HostName=hub.example.net;DeviceId=pump;SharedAccessKey="), "{pump}");
    let connection = format!("{connection};GatewayHostName={host}");
    let mut sdk = Sdk::connected(&hub.authority(), &connection, false);
    assert_eq!(hub.json(&["device", "show", "pump"])[0]["connected"], true);
    // Nobody is between them: what the hub has acknowledged, it shows.
    sdk.order(json!({ "do": "report", "patch": { "fan": { "rpm": 7 } } }));
    sdk.tells("reported");
    assert_eq!(hub.json(&["twin", "show", "pump"])[0]["reported"]["fan"]["rpm"], 7);
    converse(&hub, &mut sdk, "pump", 1);
    let last = hub.json(&["monitor", "--from", "-1", "-n", "1"]);
    assert_eq!(last, hub.events().split_off(hub.events().len() - 1));

    hub.kill();
    assert_eq!(sdk.tells("connection")["connected"], false);
    hub.start();
    while sdk.tells("connection")["connected"] == false {}
    converse(&hub, &mut sdk, "pump", 2);
    let bodies: Vec<Value> = hub.events().iter().map(|event| event["body"]["t"].clone()).collect();
    assert_eq!(bodies, [1, 2], "what was acknowledged is there once, and in order");

    // A message for a device that is away waits for it; a no of the operator ends the connection at once.
    hub.run(&["device", "disable", "pump"]).expect_good();
    assert_eq!(sdk.tells("connection")["connected"], false);
    wait_for("the hub knows that it is gone", || {
        (hub.json(&["device", "show", "pump"])[0]["connected"] == false).then_some(())
    });
    hub.run(&["method", "pump", "reboot", "{}"]).expect_refused(&["pump is not connected"]);
    hub.run(&["send", "pump", "later"]).expect_good();
    // It is gone before it may come back, and take the message.
    drop(sdk);
    hub.run(&["device", "enable", "pump"]).expect_good();
    let mut sdk = Sdk::connected(&hub.authority(), &connection, false);
    told_of(&mut sdk, "later");
    assert!(hub.stop().success());
}

/// A hub takes devices in the dialect of IoT Hub, and so stands here for one of Azure: it knows nothing of what is below the
/// device that the edge is to it.
#[test]
fn an_edge_is_a_device_of_an_iot_hub_in_its_dialect_and_goes_on_through_kills_of_both() {
    let at = host(6);
    let mut hub = Hub::prepare(&[format!("tls://{at}:8883"), format!("wss://{at}:443")], &at, "");
    hub.start();
    let added = hub.json(&["device", "add", "edge-1"]).remove(0);
    let connection = added["connection_string"].as_str().unwrap();
    let key = connection.split_once("SharedAccessKey=").unwrap().1;
    let config = format!(
        "[upstream]\nprofile = \"iot-hub\"\nhub = \"hub.example.net\"\nurl = \"mqtts://{at}\"\nkey_file = \"edge.key\"\n\
         ca_file = {:?}\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n\
         [routes]\nup = 'FROM /messages/* INTO $upstream'\n",
        hub.authority()
    );
    let mut edge = Edge::with_gateway(&config, &[], "content_type = \"application/json\"\n");
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    edge.start();
    let send = |edge: &Edge, n: u64| {
        let body = json!({ "n": n }).to_string();
        edge.run(&["send", "--from", "oven/heat", "-j", "-p", "kind=a/b c&d", &body]).expect_good();
    };
    send(&edge, 1);
    wait_for("it is at the hub", || (hub.events().len() == 1).then_some(()));
    let event = hub.events().remove(0);
    assert_eq!((&event["device"], &event["body"]["n"]), (&json!("edge-1"), &json!(1)), "{event}");
    assert_eq!(event["properties"]["kind"], "a/b c&d");
    assert_eq!(event["properties"]["holdfast-source"], "oven/heat");
    assert_eq!(event["system"]["contentType"], "application/json");
    assert!(edge.run(&["check"]).expect_good().contains("welcomes us"));

    // Away, killed, back; and by the other way.
    hub.kill();
    send(&edge, 2);
    edge.kill();
    edge.start();
    publish(edge.gateway(), &["-q", "1", "-t", "plant/a", "-m", r#"{"n":3}"#]).expect_good();
    hub.start();
    wait_for("all three are there", || (by_identity(&hub).len() == 3).then_some(()));
    assert!(edge.stop().success());
    edge.start_with(&[], &[("UpstreamProtocol", "MqttWs")]);
    send(&edge, 4);
    wait_for("the fourth is there", || (by_identity(&hub).len() == 4).then_some(()));
    assert_eq!(edge.json(&["status"])[0]["upstream"]["transport"], "wss");
    assert_eq!(by_identity(&hub).into_values().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(edge.stop().success());

    // With the key of another device it is told what to look at.
    fs::write(edge.folder().join("edge.key"), "a2V5a2V5a2V5a2V5a2V5a2V5").unwrap();
    edge.run(&["check"]).expect_refused(&[
        "the hub refuses us",
        "upstream.key_file",
        "device edge-1 of the IoT Hub",
    ]);
    assert!(hub.stop().success());
}

/// An edge whose upstream is a hub in the dialect of IoT Hub. Messages from the cloud go to the thermostat.
fn edge_of_an_iot_hub(hub: &Hub, at: &str) -> Edge {
    let added = hub.json(&["device", "add", "edge-1"]).remove(0);
    let key =
        added["connection_string"].as_str().unwrap().split_once("SharedAccessKey=").unwrap().1.to_owned();
    let config = format!(
        "[upstream]\nprofile = \"iot-hub\"\nhub = \"hub.example.net\"\nurl = \"mqtts://{at}\"\nkey_file = \"edge.key\"\n\
         ca_file = {:?}\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n[routes]\n\
         orders = 'FROM Topic(\"devices/+/messages/devicebound\") INTO BrokeredEndpoint(\"/modules/thermostat/inputs/readings\")'\n\
         up = 'FROM /messages/* INTO $upstream'\n",
        hub.authority()
    );
    let edge = Edge::prepare(&config);
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    edge.plug("thermostat", "thermostat", "");
    edge
}

/// Waits until the twin of the edge at the hub reports this of the thermostat.
fn wait_reported(hub: &Hub, key: &str, value: &Value) {
    wait_for(&format!("the hub has {key} = {value}"), || {
        let twin = hub.json(&["twin", "show", "edge-1"]).remove(0);
        (&twin["reported"]["modules"]["thermostat"][key] == value).then_some(())
    });
}

#[test]
fn an_iot_hub_reaches_an_edge_and_its_modules_and_both_sides_agree_after_they_were_apart() {
    let at = host(7);
    let mut hub = hub_at(&at);
    hub.start();
    let mut edge = edge_of_an_iot_hub(&hub, &at);
    edge.start();
    wait_reported(&hub, "setPoint", &json!(18.0));
    let thermostat = |point: f64| json!({ "modules": { "thermostat": { "setPoint": point } } }).to_string();
    hub.run(&["twin", "set", "edge-1", &thermostat(21.0)]).expect_good();
    wait_reported(&hub, "setPoint", &json!(21.0));

    // Methods: of a module, of the agent, of nobody.
    let reply = hub.json(&["method", "edge-1", "thermostat~reset", "{}"]).remove(0);
    assert_eq!(reply, json!({ "status": 200, "payload": { "switchedOn": 0 } }));
    assert_eq!(hub.json(&["method", "edge-1", "ping"]).remove(0)["status"], 200);
    hub.run(&["method", "edge-1", "nobody~reset"]).expect_refused(&["status 404", "is not connected"]);

    // A message: it is too cold, so the thermostat switches on and says so, twice; the order itself does not go up.
    hub.run(&["send", "edge-1", r#"{"temperature": 5}"#, "-s", "contentType=application/json"]).expect_good();
    wait_reported(&hub, "switchedOn", &json!(1));
    assert!(hub.events().iter().all(|event| event["body"]["temperature"].is_null()), "{:?}", hub.events());
    let fix = "under modules.thermostat of the twin of the device edge-1";
    edge.run(&["twin", "set", "/thermostat", r#"{"setPoint": 7}"#]).expect_refused(&[fix]);
    edge.run(&["twin", "set", "edge-1", r#"{"a": 7}"#]).expect_refused(&["are those that the hub"]);

    // Apart: the hub is changed while the edge is down, and the edge while the hub is.
    edge.kill();
    hub.run(&["twin", "set", "edge-1", &thermostat(19.0)]).expect_good();
    hub.run(&["send", "edge-1", r#"{"temperature": 35}"#, "-s", "contentType=application/json"])
        .expect_good();
    hub.kill();
    edge.start();
    edge.wait_module("thermostat", "running");
    edge.json(&["method", "call", "/thermostat", "reset"]);
    wait_for("it is reported at the edge", || {
        (edge.json(&["twin", "show", "/thermostat"])[0]["reported"]["switchedOn"] == 0).then_some(())
    });
    edge.kill();
    hub.start();
    edge.start();
    wait_reported(&hub, "setPoint", &json!(19.0));
    wait_reported(&hub, "switchedOn", &json!(0));
    wait_reported(&hub, "heating", &json!(false));
    assert!(edge.stop().success());
    assert!(hub.stop().success());
}

/// What the device counted, by the stable identity of each message: a hub of Azure hands on what came twice, and its consumer
/// drops it by this.
fn by_identity(hub: &Hub) -> BTreeMap<u64, u64> {
    let number = |event: &Value| {
        let id = event["properties"]["holdfast-id"].as_str().unwrap_or_else(|| panic!("{event}"));
        (id.rsplit_once('/').unwrap().1.parse().unwrap(), event["body"]["n"].as_u64().unwrap())
    };
    hub.events().iter().map(number).collect()
}

#[test]
fn what_the_hub_refuses_says_why_and_what_to_do() {
    let host = host(2);
    let mut hub = hub_at(&host);
    hub.run(&["status"]).expect_refused(&["no hub answers at 127.0.0.1:", "holdfast hub run", "hub.listen"]);
    hub.start();
    assert_eq!(hub.json(&["status"])[0]["follows"], Value::Null);
    hub.run(&["device", "add", "line-1", "--edge"]).expect_good();
    hub.run(&["device", "add", "press", "--parent", "line-2"])
        .expect_refused(&["line-2 cannot be the parent of press", "add it first"]);
    hub.run(&["device", "add", "press", "--parent", "line-1"]).expect_good();
    hub.run(&["device", "add", "press"]).expect_refused(&["press exists already"]);
    hub.run(&["device", "add", "drill", "--parent", "press"]).expect_refused(&["it is no edge"]);
    hub.run(&["device", "remove", "line-1"]).expect_refused(&["line-1 is the parent of 1 devices"]);
    hub.run(&["device", "set", "line-1", "--parent", "line-1"]).expect_refused(&["above itself"]);
    hub.run(&["device", "add", "hub"]).expect_refused(&["the name of this hub"]);
    hub.run(&["send", "press", "x", "--expires-in", "30d"])
        .expect_refused(&["2 days (172800 s) at most", "2592000 s are asked for"]);
    hub.run(&["send", "press", "x", "--expires-in", "2d"]).expect_good();
    hub.run(&["device", "show", "nobody"]).expect_refused(&["there is no device nobody", "hub device add"]);
    hub.run(&["twin", "set", "press", "{\"a.b\": 1}"]).expect_refused(&["a.b"]);
    hub.run(&["monitor", "--from", "77", "--no-follow"]).expect_refused(&["there is no offset 77 yet"]);
    let manifest = hub.folder().join("m.json");
    fs::write(&manifest, r#"{"modulesContent":{"$edgeAgent":{}}}"#).unwrap();
    let manifest = manifest.to_str().unwrap();
    hub.run(&["deploy", "set", "d", manifest, "--condition", "tags.x ="]).expect_refused(&["at byte 8"]);
    hub.run(&["deploy", "set", "d", manifest, "--condition", "tags.x = 'y'"]).expect_good();
    assert_eq!(hub.json(&["deploy", "list"])[0]["id"], "d");
    // Without the token nobody is told anything.
    let token = hub.folder().join("wrong.token");
    fs::write(&token, "wrong\n").unwrap();
    hub.run(&["--token-file", token.to_str().unwrap(), "device", "list"]).expect_refused(&["no valid token"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(hub.folder().join("data/api.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    holdfast(hub.folder(), &["hub", "init", "."]).expect_refused(&["hub.toml is there already"]);
    assert!(hub.stop().success());
}
