//! Clients of MQTT that nobody here wrote, at the edge's own gateway.

use crate::support::{
    Broker, Edge, PASSWORD, PATIENCE, Receiver, Subscriber, USER, publish, python_says, ready_made,
};
use rumqttc::v5::{
    Client, Connection, Event, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish, PublishProperties},
    },
};

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

/// A client of rumqttc, version 5, with a session that stays.
fn rumqttc(port: u16, id: &str, clean: bool) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_credentials(USER, PASSWORD).set_clean_start(clean).set_session_expiry_interval(Some(600));
    // What is asked for goes out while its packets are waited for.
    Client::new(options, 1000)
}

/// The next packet that is wanted.
fn next<T>(connection: &mut Connection, what: &str, wanted: impl Fn(Packet) -> Option<T>) -> T {
    loop {
        match connection.recv_timeout(PATIENCE) {
            Ok(Ok(Event::Incoming(packet))) => {
                if let Some(found) = wanted(packet) {
                    return found;
                }
            }
            Ok(Ok(Event::Outgoing(_))) => {}
            end => panic!("waiting for {what}: {end:?}"),
        }
    }
}

fn session_present(connection: &mut Connection) -> bool {
    let ack = |packet| if let Packet::ConnAck(ack) = packet { Some(ack) } else { None };
    next(connection, "CONNACK", ack).session_present
}

fn subscribe(client: &Client, connection: &mut Connection) {
    client.subscribe("plant/#", QoS::ExactlyOnce).unwrap();
    next(connection, "SUBACK", |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
}

fn message(connection: &mut Connection) -> Publish {
    next(connection, "a message", |packet| if let Packet::Publish(one) = packet { Some(one) } else { None })
}

#[test]
fn rumqttc_talks_with_each_quality_of_version_5_and_keeps_its_session_through_a_kill() {
    let mut edge = Edge::started("");
    let (client, mut connection) = rumqttc(edge.gateway(), "talks", true);
    assert!(!session_present(&mut connection));
    subscribe(&client, &mut connection);
    let properties = PublishProperties {
        message_expiry_interval: Some(600),
        response_topic: Some("plant/answers".into()),
        correlation_data: Some("c-1".into()),
        user_properties: vec![("line".into(), "1".into()), ("line".into(), "2".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for n in 0..100 {
            let body = format!("{n} with {qos:?}");
            client.publish_with_properties("plant/rumqttc", qos, false, body, properties.clone()).unwrap();
        }
        for n in 0..100 {
            let one = message(&mut connection);
            assert_eq!((one.payload, one.qos), (format!("{n} with {qos:?}").into(), qos));
            let got = one.properties.unwrap();
            let left_s = got.message_expiry_interval.unwrap();
            assert!((1..=600).contains(&left_s), "{left_s}");
            assert_eq!(PublishProperties { message_expiry_interval: Some(600), ..got }, properties);
        }
    }
    drop((client, connection));
    let (client, mut connection) = rumqttc(edge.gateway(), "leaves", true);
    assert!(!session_present(&mut connection));
    subscribe(&client, &mut connection);
    drop((client, connection));
    edge.kill();
    edge.start();
    publish(edge.gateway(), &["-q", "2", "-t", "plant/meanwhile", "-m", "while it was away"]).expect_good();
    let (_client, mut connection) = rumqttc(edge.gateway(), "leaves", false);
    assert!(session_present(&mut connection));
    let one = message(&mut connection);
    assert_eq!((one.payload, one.qos), ("while it was away".into(), QoS::ExactlyOnce));
    assert!(edge.stop().success());
}
