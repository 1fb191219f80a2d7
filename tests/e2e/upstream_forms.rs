//! What a receiver upstream sees when its broker speaks only MQTT 3.1.1, which has no properties.

use crate::support::{Broker, Edge, Receiver};
use serde_json::Value;

#[test]
fn with_an_old_broker_the_envelope_carries_properties_and_the_stable_id() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let edge = Edge::started(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"3.1.1\"\npayload = \"envelope\"\ntopic = \"up/{{edge}}\"\n",
        broker.port()
    ));
    for text in ["{\"t\":1}", "{\"t\":2}"] {
        edge.run(&["send", "--from", "oven/heat", "-p", "level=high", "-j", text]).expect_good();
    }
    receiver.wait("the second message", |message| message["payload"].as_str().unwrap().contains("{\"t\":2}"));
    let seen = receiver.seen();
    assert!(
        seen.iter().all(|message| message["topic"] == "up/edge-1" && message["id"].is_null()),
        "{seen:?}"
    );
    let envelopes: Vec<Value> = seen
        .iter()
        .map(|message| serde_json::from_str(message["payload"].as_str().unwrap()).unwrap())
        .collect();
    for (sequence, envelope) in envelopes.iter().enumerate() {
        assert_eq!(envelope["source"], "oven/heat");
        assert_eq!(envelope["properties"]["level"], "high");
        assert_eq!(envelope["body"]["t"], sequence + 1);
        let id = envelope["id"].as_str().unwrap();
        assert!(id.starts_with("edge-1/") && id.ends_with(&format!("/{sequence}")), "{id}");
    }
}
