//! The hub: devices of an unmodified SDK connect to it directly, and its commands show and reach them. The ports are fixed
//! in the SDK, so that each story has an address of its own.

use crate::support::{Hub, Sdk, holdfast, host, wait_for};
use serde_json::{Value, json};

fn hub_at(host: &str) -> Hub {
    Hub::prepare(&[format!("tls://{host}:8883")], host, "")
}

/// What a device and a service do, once; `round` is another number each time.
fn converse(hub: &Hub, sdk: &mut Sdk, device: &str, round: u64) {
    sdk.send(&json!({ "t": round }).to_string(), json!({ "a/b": "c+d e%&=é" }));
    let event = hub.json(&["monitor", "--from", "-1", "-n", "1"]).remove(0);
    assert_eq!((&event["device"], &event["body"]["t"]), (&json!(device), &json!(round)), "{event}");
    assert_eq!(event["properties"]["a/b"], "c+d e%&=é");
    assert!(event["system"]["connectionAuthMethod"].as_str().unwrap().contains("sas"), "{event}");

    hub.run(&["twin", "set", device, &json!({ "interval": round }).to_string()]).expect_good();
    assert_eq!(sdk.tells("desired")["patch"]["interval"], round);
    sdk.order(json!({ "do": "report", "patch": { "fan": { "rpm": round } } }));
    sdk.tells("reported");
    let shown = hub.json(&["twin", "show", device]).remove(0);
    assert_eq!(shown["reported"]["fan"]["rpm"], round);
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
    converse(&hub, &mut sdk, "pump", 1);

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

#[test]
fn what_the_hub_refuses_says_why_and_what_to_do() {
    let host = host(2);
    let mut hub = hub_at(&host);
    hub.run(&["status"]).expect_refused(&["127.0.0.1"]);
    hub.start();
    hub.run(&["device", "add", "line-1", "--edge"]).expect_good();
    hub.run(&["device", "add", "press", "--parent", "line-2"])
        .expect_refused(&["line-2 cannot be the parent of press", "add it first"]);
    hub.run(&["device", "add", "press", "--parent", "line-1"]).expect_good();
    hub.run(&["device", "add", "press"]).expect_refused(&["press exists already"]);
    hub.run(&["device", "add", "drill", "--parent", "press"]).expect_refused(&["it is no edge"]);
    hub.run(&["device", "remove", "line-1"]).expect_refused(&["line-1 is the parent of 1 devices"]);
    hub.run(&["device", "set", "line-1", "--parent", "line-1"]).expect_refused(&["above itself"]);
    hub.run(&["device", "add", "hub"]).expect_refused(&["the name of this hub"]);
    hub.run(&["device", "show", "nobody"]).expect_refused(&["there is no device nobody", "hub device add"]);
    hub.run(&["twin", "set", "press", "{\"a.b\": 1}"]).expect_refused(&["a.b"]);
    hub.run(&["monitor", "--from", "77", "--no-follow"]).expect_refused(&["there is no offset 77 yet"]);
    let manifest = hub.folder().join("m.json");
    std::fs::write(&manifest, r#"{"modulesContent":{"$edgeAgent":{}}}"#).unwrap();
    let manifest = manifest.to_str().unwrap();
    hub.run(&["deploy", "set", "d", manifest, "--condition", "tags.x ="]).expect_refused(&["at byte 8"]);
    hub.run(&["deploy", "set", "d", manifest, "--condition", "tags.x = 'y'"]).expect_good();
    assert_eq!(hub.json(&["deploy", "list"])[0]["id"], "d");
    // Without the token nobody is told anything.
    let token = hub.folder().join("wrong.token");
    std::fs::write(&token, "wrong\n").unwrap();
    hub.run(&["--token-file", token.to_str().unwrap(), "device", "list"]).expect_refused(&["no valid token"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(hub.folder().join("data/api.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    holdfast(hub.folder(), &["hub", "init", "."]).expect_refused(&["hub.toml is there already"]);
    assert!(hub.stop().success());
}
