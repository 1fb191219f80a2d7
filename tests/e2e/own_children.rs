//! Children under their own identities at an IoT Hub: devices of an unmodified SDK at an edge, and above it a hub of Holdfast in the dialect
//! of IoT Hub, which stands for one of Azure. The ports are fixed in the SDK, so that edge and hub have addresses of their own.

use crate::{
    hub::converse,
    support::{Edge, Hub, Sdk, host, wait_for},
};
use serde_json::{Value, json};
use std::fs;

fn key_of(added: &Value) -> String {
    let connection = added["connection_string"].as_str().unwrap();
    let key = connection.split_once("SharedAccessKey=").unwrap().1;
    key.split(';').next().unwrap().to_owned()
}

/// Who sent the messages of the hub whose body has this number.
fn senders(hub: &Hub, number: u64) -> Vec<Value> {
    let events = hub.events().into_iter().filter(|event| event["body"]["t"] == number);
    events.map(|event| event["device"].clone()).collect()
}

#[test]
fn children_are_devices_of_the_iot_hub_by_themselves_and_one_that_it_refuses_holds_up_nobody() {
    let (above, here) = (host(31), host(32));
    let mut hub = Hub::prepare(&[format!("tls://{above}:8883")], &above, "");
    hub.start();
    let key = key_of(&hub.json(&["device", "add", "edge-1"]).remove(0));
    let key_of_pump = key_of(&hub.json(&["device", "add", "pump"]).remove(0));
    hub.run(&["device", "add", "press"]).expect_good();
    let config = format!(
        "[hub]\nhost_name = \"hub.example.net\"\n[upstream]\nprofile = \"iot-hub\"\nhub = \"hub.example.net\"\n\
         url = \"mqtts://{above}\"\nkey_file = \"edge.key\"\nca_file = {:?}\nbackoff_min = \"100 ms\"\n\
         backoff_max = \"300 ms\"\nchildren = \"own\"\n[routes]\nup = 'FROM /messages/* INTO $upstream'\n",
        hub.authority()
    );
    let mut edge =
        Edge::with_gateway(&config, &[format!("tls://{here}:8883")], &format!("host_names = [\"{here}\"]\n"));
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    edge.start();
    let pump = edge.json(&["device", "add", "pump", "--key", &key_of_pump]).remove(0);
    let press = edge.json(&["device", "add", "press"]).remove(0);
    let connect = |edge: &Edge, device: &Value| {
        Sdk::connected(&edge.authority(), device["connection_string"].as_str().unwrap(), false)
    };

    // Telemetry, twin both ways, methods and messages are the child's own.
    let mut sdk = connect(&edge, &pump);
    converse(&hub, &mut sdk, "pump", 1);
    assert_eq!(senders(&hub, 1), ["pump"]);
    edge.run(&["twin", "set", "pump", r#"{"a": 7}"#]).expect_refused(&["the twin of the device pump"]);

    // The press has another key here than there.
    let mut pressing = connect(&edge, &press);
    pressing.send(r#"{"t": 100}"#, json!({}));
    let reason = wait_for("the press is refused", || {
        edge.json(&["status"])[0]["upstream"]["children"]["troubled"]["press"].as_str().map(str::to_owned)
    });
    assert!(reason.contains("register the device press at the hub"), "{reason}");
    converse(&hub, &mut sdk, "pump", 2);
    assert_eq!((edge.waiting("upstream/press"), edge.waiting("upstream/pump")), (1, 0));
    let shown = edge.run(&["status"]).expect_good();
    assert!(shown.contains("1 connected upstream under their own identities, 1 not"), "{shown}");
    assert!(shown.contains("child press is not connected upstream: "), "{shown}");

    // A kill later it has the same, and what waited is there, once.
    edge.kill();
    hub.run(&["device", "remove", "press"]).expect_good();
    hub.run(&["device", "add", "press", "--key", &key_of(&press)]).expect_good();
    edge.start();
    wait_for("it is at the hub", || (senders(&hub, 100) == ["press"]).then_some(()));
    wait_for("the log is empty", || (edge.waiting("upstream/press") == 0).then_some(()));
    while sdk.tells("connection")["connected"] == false {}
    converse(&hub, &mut sdk, "pump", 3);

    // Removed here, it has nothing of its own any more, and the hub sees it go.
    edge.run(&["device", "remove", "pump"]).expect_good();
    wait_for("the hub knows that it is gone", || {
        (hub.json(&["device", "show", "pump"])[0]["connected"] == false).then_some(())
    });
    assert!(edge.stop().success());
    assert!(hub.stop().success());
}
