//! Against a real mosquitto: whatever happens to the link, nothing is missing and the order holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

mod support;

use holdfast_types::{Message, Name, Properties, Source, SystemKey, Topic};
use holdfast_upstream::{Payload, Secret, UpstreamConfig, Version};
use std::{process::Stdio, time::Duration};
use support::{
    Edge, config,
    mosquitto::Mosquitto,
    proxy::{Proxy, Way},
    receiver::Receiver,
    source,
};
use tokio::io::{AsyncBufReadExt, BufReader};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

#[tokio::test]
async fn a_backlog_arrives_whole_in_order_and_once() {
    for version in VERSIONS {
        let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
        let receiver = Receiver::at(mosquitto.port).await;
        edge.fill("meter", 0, 3000).await;
        let mut link = edge.link(config(mosquitto.port, version));
        link.connected().await;
        assert_eq!(receiver.has_all(3000).await, 0, "no duplicates without a cut");
        edge.drained().await;
        let counters = link.status.status().counters;
        assert_eq!((counters.sent, counters.acknowledged, counters.given_up), (3000, 3000, 0));
        assert_eq!(link.stop().await.unacknowledged, 0);
    }
}

#[tokio::test]
async fn cuts_lose_nothing_and_repeat_at_most_a_window_each() {
    for version in VERSIONS {
        let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
        let receiver = Receiver::at(mosquitto.port).await;
        let proxy = Proxy::to(mosquitto.port).await;
        let link = edge.link(UpstreamConfig { window: 50, ..config(proxy.port, version) });
        let cuts = 5;
        for round in 0..cuts {
            edge.fill("meter", round * 2000, 2000).await;
            edge.fill("alarms", round * 100, 100).await;
            let goal = usize::try_from(round * 2100).unwrap() + 500;
            support::until("some of it has arrived", || receiver.len() >= goal).await;
            proxy.set(Way::Cut);
            tokio::time::sleep(Duration::from_millis(30)).await;
            proxy.set(Way::Open);
        }
        let duplicates = receiver.has_all(2100 * usize::try_from(cuts).unwrap()).await;
        assert!(duplicates <= 50 * usize::try_from(cuts).unwrap(), "{duplicates} duplicates");
        edge.drained().await;
        link.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_is_restarted_gets_the_rest() {
    for (version, clean_start) in [(Version::V311, true), (Version::V5, true), (Version::V5, false)] {
        let (edge, mut mosquitto) = (Edge::new(), Mosquitto::start());
        let receiver = Receiver::at(mosquitto.port).await;
        let mut link = edge.link(UpstreamConfig { clean_start, ..config(mosquitto.port, version) });
        link.connected().await;
        edge.fill("meter", 0, 2000).await;
        support::until("some of it has arrived", || receiver.len() >= 100).await;
        mosquitto.end();
        link.complaint().await;
        edge.fill("meter", 2000, 2000).await;
        mosquitto.begin();
        receiver.has_all(4000).await;
        edge.drained().await;
        link.stop().await;
    }
}

#[tokio::test]
async fn a_link_that_is_dead_without_a_word_is_found_and_dialled_again() {
    for way in [Way::BlackHole, Way::HalfOpen] {
        let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
        let receiver = Receiver::at(mosquitto.port).await;
        let proxy = Proxy::to(mosquitto.port).await;
        let hurried = UpstreamConfig {
            keep_alive: Duration::from_secs(1),
            answer_within: Duration::from_millis(300),
            ack_within: Duration::from_secs(30),
            ..config(proxy.port, Version::V5)
        };
        let mut link = edge.link(hurried);
        link.connected().await;
        proxy.set(way);
        edge.fill("meter", 0, 1000).await;
        let complaint = link.complaint().await;
        assert!(complaint.contains("did not answer PINGREQ within 300ms"), "{complaint}");
        proxy.set(Way::Open);
        let duplicates = receiver.has_all(1000).await;
        assert!(duplicates <= 256, "{duplicates}: at most the window");
        edge.drained().await;
        link.stop().await;
    }
}

#[tokio::test]
async fn alarms_pass_a_backlog() {
    let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
    let receiver = Receiver::at(mosquitto.port).await;
    edge.fill("meter", 0, 5000).await;
    edge.fill("alarms", 0, 10).await;
    let link = edge.link(config(mosquitto.port, Version::V5));
    receiver.has_all(5010).await;
    assert_eq!(receiver.alarms_among_first(10), 10, "the last to enter are the first to leave");
    // An alarm that comes while a backlog leaves waits for what is in flight, not for the backlog.
    edge.fill("meter", 5000, 5000).await;
    edge.fill("alarms", 10, 1).await;
    receiver.has_all(10_011).await;
    assert_eq!(receiver.alarms_among_first(10_010), 11, "the alarm was not the last");
    link.stop().await;
}

#[tokio::test]
async fn an_independent_subscriber_sees_body_and_properties() {
    let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
    let mut process = tokio::process::Command::new("stdbuf")
        .args(["-oL", "mosquitto_sub"])
        .args([
            "-h",
            "127.0.0.1",
            "-V",
            "5",
            "-q",
            "1",
            "-t",
            "#",
            "-C",
            "1",
            "-d",
            "-F",
            "got %t|%p|%C|%D|%P",
        ])
        .args(["-p", &mosquitto.port.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("mosquitto_sub is installed: apt-get install mosquitto-clients");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("SUBACK") {}

    let link = edge
        .link(UpstreamConfig { topic: "t/{edge}/{source}".into(), ..config(mosquitto.port, Version::V5) });
    let mut message = Message::new("{\"t\":21.5}");
    message.properties = Properties::from_iter([
        ("unit", "C"),
        ("holdfast-id", "forged"),
        ("IoTHub-Connection-Device-Id", "forged"),
    ]);
    message.system.set(SystemKey::ContentType, "application/json");
    message.system.set(SystemKey::CorrelationId, "c-7");
    message.system.set(SystemKey::MessageId, "m-1");
    edge.publish("meter", message).await;

    let line = loop {
        let line = lines.next_line().await.unwrap().expect("mosquitto_sub gets the message");
        if let Some(got) = line.strip_prefix("got ") {
            break got.to_owned();
        }
    };
    let epoch = format!("{:016x}", edge.store.epoch());
    assert!(line.starts_with("t/edge-1/meter/out|{\"t\":21.5}|application/json|"), "{line}");
    for part in [&format!("holdfast-id:edge-1/{epoch}/d/0"), "holdfast-source:meter/out", "unit:C", "c-7"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(line.contains("holdfast-messageId:m-1") && line.contains("holdfast-created:20"), "{line}");
    assert!(!line.contains("forged"), "nobody speaks for the host: {line}");
    link.stop().await;
}

#[tokio::test]
async fn who_is_not_allowed_hears_which_settings_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-c", "-b", passwords.to_str().unwrap(), "edge", "right"])
        .status()
        .unwrap();
    assert!(made.success());
    let mosquitto =
        Mosquitto::with(&format!("allow_anonymous false\npassword_file {}\n", passwords.display()));
    for version in VERSIONS {
        let edge = Edge::new();
        let with = |password: &'static [u8]| UpstreamConfig {
            user: Some("edge".into()),
            password: Some(Secret(password.into())),
            ..config(mosquitto.port, version)
        };
        let mut link = edge.link(with(b"wrong"));
        let complaint = link.complaint().await;
        assert!(complaint.contains("not authorized (0x87)"), "{complaint}");
        assert!(complaint.contains("check upstream.user, upstream.password"), "{complaint}");
        assert!(link.status.status().last_error.is_some());
        link.stop().await;
        let mut link = edge.link(with(b"right"));
        link.connected().await;
        link.stop().await;
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_window_and_nothing_comes_twice_afterwards() {
    let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
    let receiver = Receiver::at(mosquitto.port).await;
    edge.fill("meter", 0, 2000).await;
    for goal in [1, 300, 1000] {
        let link = edge.link(config(mosquitto.port, Version::V5));
        support::until("some of it has arrived", || receiver.len() >= goal).await;
        assert_eq!(link.stop().await.unacknowledged, 0);
    }
    let link = edge.link(config(mosquitto.port, Version::V5));
    assert_eq!(receiver.has_all(2000).await, 0);
    link.stop().await;
}

#[tokio::test]
async fn an_envelope_holds_everything_where_the_protocol_cannot() {
    let (edge, mosquitto) = (Edge::new(), Mosquitto::start());
    let mut process = tokio::process::Command::new("stdbuf")
        .args(["-oL", "mosquitto_sub"])
        .args(["-h", "127.0.0.1", "-q", "1", "-t", "#", "-C", "2", "-d", "-F", "got %p"])
        .args(["-p", &mosquitto.port.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("SUBACK") {}
    let payload = Payload::Envelope;
    let link =
        edge.link(UpstreamConfig { payload, topic: "t".into(), ..config(mosquitto.port, Version::V311) });
    let mut message = Message::new("{\"t\":21.5}");
    message.properties.set("unit", "C");
    edge.broker.publish(source("meter"), message).await.unwrap();
    edge.publish("meter", Message::new(vec![0xff])).await;
    let mut got = Vec::new();
    while got.len() < 2 {
        let line = lines.next_line().await.unwrap().unwrap();
        got.extend(
            line.strip_prefix("got ").map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap()),
        );
    }
    assert_eq!(got[0]["body"]["t"], 21.5);
    assert_eq!(got[0]["properties"]["unit"], "C");
    assert_eq!(got[0]["source"], "meter/out");
    assert!(got[0]["id"].as_str().unwrap().ends_with("/d/0"));
    assert_eq!(got[1]["base64"], "/w==");
    link.stop().await;
}

#[tokio::test]
async fn characters_that_mosquitto_hangs_up_on_arrive_encoded() {
    let routes = vec![holdfast_routes::RouteDefinition::new("all", "FROM /messages/* INTO $upstream")];
    let (edge, mosquitto) = (Edge::with_routes(routes), Mosquitto::start());
    let mut process = tokio::process::Command::new("stdbuf")
        .args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-V", "5", "-q", "1", "-t", "#", "-C", "2", "-d"])
        .args(["-F", "got %t|%p|%P", "-p", &mosquitto.port.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("SUBACK") {}
    for (body, topic) in [("odd", "sensors/\u{1}\u{1f}\u{85}\u{ffff}"), ("usual", "sensors/1")] {
        let topic = Some(Topic::new(topic).unwrap());
        let mut message = Message::new(body);
        message.properties.set("note", "two\nlines, 5%20");
        message.properties.set("plain", "5%20");
        let child = Source::Child { child: Name::new("c1").unwrap(), topic };
        edge.broker.publish(child, message).await.unwrap();
    }
    let topic = "t/{child}/{topic}".into();
    let link = edge.link(UpstreamConfig { topic, ..config(mosquitto.port, Version::V5) });
    let mut got = Vec::new();
    while got.len() < 2 {
        let line = lines.next_line().await.unwrap().unwrap();
        got.extend(line.strip_prefix("got ").map(ToOwned::to_owned));
    }
    assert!(got[0].starts_with("t/c1/sensors/%01%1F%C2%85%EF%BF%BF|odd|"), "{got:?}");
    for part in [
        "holdfast-source:c1:sensors/%01%1F%C2",
        "note:two%0Alines, 5%2520",
        "holdfast-escaped:note",
        "plain:5%20",
    ] {
        assert!(got[0].contains(part), "{part} in {got:?}");
    }
    assert!(got[1].starts_with("t/c1/sensors/1|usual|"), "{got:?}");
    edge.drained().await;
    let counters = link.status.status().counters;
    assert_eq!((counters.connected, counters.given_up), (1, 0));
    link.stop().await;
}
