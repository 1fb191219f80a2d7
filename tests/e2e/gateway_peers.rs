//! Clients of MQTT that nobody here wrote, at the edge's own gateway.

use crate::support::{Broker, Edge, Receiver, Subscriber, publish, python_says, ready_made};

const LOCAL: &str = r#"
[routes]
readings = 'FROM /messages/modules/simulator/* INTO Topic("local/readings")'
from-devices = 'FROM /messages WHERE NOT is_defined($connectionModuleId) INTO $upstream'
"#;

#[test]
fn a_modules_route_into_a_topic_reaches_mosquitto_sub() {
    let edge = Edge::started(LOCAL);
    let sink = Subscriber::start(edge.gateway(), "local/#", &[]);
    edge.drop_in("simulator.wasm", &ready_made("simulator"));
    for number in 1..=3 {
        let line = sink.wait(&format!("\"number\":{number},"));
        assert!(line.starts_with("local/readings {"), "{line}");
    }
}

#[test]
fn mosquitto_pub_is_a_source_for_subscribers_here_and_for_upstream_with_either_version() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let edge = Edge::started(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\n{LOCAL}",
        broker.port()
    ));
    let old = Subscriber::start(edge.gateway(), "plant/#", &["-V", "311", "-i", "old"]);
    let new = Subscriber::start(edge.gateway(), "plant/+/t", &["-V", "5", "-i", "new"]);
    for (version, qos, text) in
        [("311", "0", "a"), ("311", "1", "b"), ("311", "2", "c"), ("5", "1", "d"), ("5", "2", "e")]
    {
        let body = format!("from {version} with {qos}: {text}");
        publish(edge.gateway(), &["-V", version, "-q", qos, "-t", "plant/one/t", "-m", &body]).expect_good();
        for sink in [&old, &new] {
            assert_eq!(sink.wait(&body), format!("plant/one/t {body}"));
        }
        let up = receiver.wait(&body, |message| message["payload"] == body);
        assert_eq!(
            (&up["topic"], &up["source"]),
            (&"up/sensor-1/plant/one/t".into(), &"sensor-1:plant/one/t".into())
        );
    }
}

#[test]
fn what_is_not_allowed_is_refused_by_name_and_the_rest_goes_on() {
    let edge = Edge::started("");
    let sink = Subscriber::start(edge.gateway(), "#", &[]);
    let refused = publish(edge.gateway(), &["-V", "5", "-q", "1", "-t", "office/door", "-m", "no"]);
    assert!(refused.err.contains("Not authorized"), "{refused:?}");
    edge.wait_log("add \"office/door\" to publish of user sensor-1");
    // MQTT 3.1.1 knows no refusal of a message; it must not arrive all the same.
    publish(edge.gateway(), &["-q", "0", "-t", "office/door", "-m", "no"]);
    publish(edge.gateway(), &["-q", "1", "-t", "plant/door", "-m", "yes"]).expect_good();
    assert_eq!(sink.wait("door"), "plant/door yes");
}

#[test]
fn paho_publishes_and_subscribes_with_either_version_and_keeps_its_session() {
    let mut edge = Edge::started("");
    let gateway = edge.gateway();
    for version in ["3.1.1", "5"] {
        let said = python_says("peers.py", &[&gateway.to_string(), version, "talk"]);
        assert!(said.contains("500 messages in order"), "{said}");
    }
    // A session outlives its connection: what came meanwhile with QoS 1 is there afterwards.
    for version in ["3.1.1", "5"] {
        python_says("peers.py", &[&gateway.to_string(), version, "leave"]);
        publish(gateway, &["-q", "1", "-t", "plant/meanwhile", "-m", "while you were away"]).expect_good();
        let said = python_says("peers.py", &[&gateway.to_string(), version, "return"]);
        assert!(said.contains("while you were away"), "{said}");
    }
    assert!(edge.stop().success());
}
