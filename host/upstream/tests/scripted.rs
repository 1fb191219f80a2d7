//! Against a broker that does what the story says: refusals, limits, silence, and brokers that break the rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

mod support;

use holdfast_mqtt::{
    Ack, AckProperties, ConnAck, Disconnect, Packet, PacketId, PublishProperties, QoS, ReasonCode,
};
use holdfast_types::{Message, Name, Source, Topic};
use holdfast_upstream::{LinkState, Upstream, UpstreamConfig, Version};
use std::{num::NonZeroU16, sync::Mutex, time::Duration};
use support::{
    Edge, Link, config,
    scripted::{Scripted, Visitor, property, welcome},
};

async fn start(version: Version, count: u64) -> (Edge, Scripted, Link) {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.fill("meter", 0, count).await;
    let link = edge.link(config(broker.port, version));
    (edge, broker, link)
}

async fn take(visitor: &mut Visitor, count: usize) -> Vec<(String, PacketId)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(visitor.body().await);
    }
    taken
}

#[tokio::test]
async fn a_receive_maximum_of_one_is_kept() {
    let (edge, broker, link) = start(Version::V5, 20).await;
    let mut visitor = broker.welcomed(ConnAck { receive_maximum: NonZeroU16::new(1), ..welcome() }).await;
    for n in 0..20 {
        let (body, id) = visitor.body().await;
        assert_eq!(body, n.to_string());
        if n == 0 {
            assert!(visitor.is_silent().await, "one at a time");
        }
        visitor.answer(id, ReasonCode::Success).await;
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn acknowledgements_out_of_order_move_the_cursor_over_the_whole_prefix_only() {
    let (edge, broker, link) = start(Version::V5, 4).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let sent = take(&mut visitor, 4).await;
    for n in [1, 3] {
        visitor.answer(sent[n].1, ReasonCode::Success).await;
    }
    support::until("two are acknowledged", || link.status.status().counters.acknowledged == 2).await;
    assert_eq!(edge.waiting(), 4, "the first is not acknowledged");
    visitor.answer(sent[0].1, ReasonCode::Success).await;
    support::until("the prefix is passed", || edge.waiting() == 2).await;
    drop(visitor);
    let mut visitor = broker.welcomed(welcome()).await;
    let again = take(&mut visitor, 2).await;
    assert_eq!([&*again[0].0, &*again[1].0], ["2", "3"], "from the cursor on");
    for (_, id) in again {
        visitor.answer(id, ReasonCode::Success).await;
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn a_connection_closed_mid_window_repeats_what_was_not_acknowledged_under_the_same_identity() {
    let (edge, broker, mut link) = start(Version::V5, 5).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let mut first = Vec::new();
    for _ in 0..5 {
        first.push(visitor.publish().await);
    }
    visitor.answer(first[0].packet_id.unwrap(), ReasonCode::Success).await;
    support::until("one is passed", || edge.waiting() == 4).await;
    drop(visitor);
    let complaint = link.complaint().await;
    assert!(complaint.contains("closed the connection") || complaint.contains("reset"), "{complaint}");
    let mut visitor = broker.welcomed(welcome()).await;
    for before in &first[1..] {
        let again = visitor.publish().await;
        assert_eq!(again.payload, before.payload);
        assert!(!again.dup, "a clean session begins anew");
        assert_eq!(property(&again, "holdfast-id"), property(before, "holdfast-id"));
        visitor.answer(again.packet_id.unwrap(), ReasonCode::Success).await;
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn a_kept_session_is_resumed_with_dup_and_the_old_identifiers() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.fill("meter", 0, 3).await;
    let link = edge.link(UpstreamConfig { clean_start: false, ..config(broker.port, Version::V5) });
    let mut visitor = broker.welcomed(welcome()).await;
    assert!(!visitor.connect.clean_start && visitor.connect.session_expiry_s > 0);
    let sent = take(&mut visitor, 3).await;
    visitor.answer(sent[0].1, ReasonCode::Success).await;
    support::until("one is passed", || edge.waiting() == 2).await;
    drop(visitor);
    let mut visitor = broker.welcomed(ConnAck { session_present: true, ..welcome() }).await;
    for (body, id) in &sent[1..] {
        let again = visitor.publish().await;
        assert_eq!((again.dup, again.packet_id), (true, Some(*id)));
        assert_eq!(again.payload, body.as_bytes());
        visitor.answer(*id, ReasonCode::Success).await;
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn what_the_broker_never_takes_becomes_a_dead_letter_with_its_words() {
    let (edge, broker, link) = start(Version::V5, 4).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let sent = take(&mut visitor, 4).await;
    let reasons = [ReasonCode::NotAuthorized, ReasonCode::PayloadFormatInvalid, ReasonCode::TopicNameInvalid];
    for ((_, id), reason) in sent.iter().zip(reasons) {
        let mut ack = Ack::with(*id, reason);
        let reason_string = Some("not on my watch".into());
        ack.properties = Some(Box::new(AckProperties { reason_string, ..AckProperties::default() }));
        visitor.send(Packet::PubAck(ack)).await;
    }
    visitor.answer(sent[3].1, ReasonCode::NoMatchingSubscribers).await;
    edge.drained().await;
    let dead = edge.dead_letters();
    assert_eq!(dead.len(), 3);
    for (letter, reason) in dead.iter().zip(reasons) {
        let why = letter.death.reason.to_string();
        assert!(why.contains(reason.text()) && why.contains("\"not on my watch\""), "{why}");
    }
    let counters = link.status.status().counters;
    assert_eq!((counters.acknowledged, counters.given_up), (1, 3));
    link.stop().await;
}

#[tokio::test]
async fn a_quota_is_waited_out_and_the_refused_go_first_one_at_a_time() {
    let (edge, broker, link) = start(Version::V5, 6).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let sent = take(&mut visitor, 6).await;
    visitor.answer(sent[0].1, ReasonCode::Success).await;
    visitor.answer(sent[1].1, ReasonCode::QuotaExceeded).await;
    for (_, id) in &sent[2..5] {
        visitor.answer(*id, ReasonCode::QuotaExceeded).await;
    }
    assert!(visitor.is_silent().await, "nothing while the last is not answered");
    visitor.answer(sent[5].1, ReasonCode::Success).await;
    let (body, id) = visitor.body().await;
    assert_eq!(body, "1");
    assert!(visitor.is_silent().await, "one at a time");
    visitor.answer(id, ReasonCode::QuotaExceeded).await;
    for expected in ["1", "2", "3", "4"] {
        let (body, id) = visitor.body().await;
        assert_eq!(body, expected);
        visitor.answer(id, ReasonCode::Success).await;
    }
    edge.drained().await;
    assert_eq!(edge.dead_letters().len(), 0);
    assert_eq!(link.status.status().counters.deferred, 5);
    link.stop().await;
}

#[tokio::test]
async fn a_message_that_fails_again_and_again_does_not_hold_up_the_rest_for_ever() {
    let (edge, broker, link) = start(Version::V5, 3).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let mut attempts = 0;
    while attempts < 10 {
        let (body, id) = visitor.body().await;
        let reason = if body == "0" { ReasonCode::UnspecifiedError } else { ReasonCode::Success };
        attempts += u32::from(body == "0");
        visitor.answer(id, reason).await;
    }
    edge.drained().await;
    let dead = edge.dead_letters();
    assert_eq!((dead.len(), dead[0].death.attempts), (1, 10));
    assert!(dead[0].death.reason.contains("unspecified error"));
    link.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_the_broker_becomes_a_dead_letter_and_the_rest_passes() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.publish("meter", Message::new("before")).await;
    edge.publish("meter", Message::new(vec![b'x'; 5000])).await;
    edge.publish("meter", Message::new("after")).await;
    let link = edge.link(config(broker.port, Version::V5));
    let limits = ConnAck { maximum_packet_bytes: Some(1000), topic_alias_maximum: 10, ..welcome() };
    let mut visitor = broker.welcomed(limits).await;
    for expected in ["before", "after"] {
        let (body, id) = visitor.body().await;
        assert_eq!(body, expected);
        visitor.answer(id, ReasonCode::Success).await;
    }
    edge.drained().await;
    let why = edge.dead_letters()[0].death.reason.to_string();
    assert!(why.contains("the peer takes at most 1000"), "{why}");
    link.stop().await;
}

#[tokio::test]
async fn a_message_without_a_possible_topic_becomes_a_dead_letter() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.publish("meter", Message::new("no child")).await;
    let link = edge.link(UpstreamConfig { topic: "{child}".into(), ..config(broker.port, Version::V5) });
    let _visitor = broker.welcomed(welcome()).await;
    edge.drained().await;
    let why = edge.dead_letters()[0].death.reason.to_string();
    assert!(why.contains("no topic can be made for it: the topic is empty"), "{why}");
    link.stop().await;
}

#[tokio::test]
async fn topics_follow_the_source_and_a_template_of_the_route_wins() {
    let mut routes = support::routes();
    routes[0].topic = Some("alarm/{edge}/{route}/{priority}".to_owned());
    routes.push(holdfast_routes::RouteDefinition::new("children", "FROM /messages/* INTO $upstream"));
    let (edge, broker) = (Edge::with_routes(routes), Scripted::new().await);
    let topic = "a/{edge}/{module}/{output}/{child}/{topic}".into();
    let link = edge.link(UpstreamConfig { topic, ..config(broker.port, Version::V311) });
    let mut visitor = broker.welcomed(welcome()).await;
    let child = |topic: Option<&str>| Source::Child {
        child: Name::new("c1").unwrap(),
        topic: topic.map(|topic| Topic::new(topic).unwrap()),
    };
    for (source, expected) in [
        (support::source("meter"), "a/edge-1/meter/out"),
        (support::source("alarms"), "alarm/edge-1/alarms/0"),
        (child(Some("plant/1")), "a/edge-1/c1/plant/1"),
        (child(None), "a/edge-1/c1"),
    ] {
        edge.broker.publish(source, Message::new("x")).await.unwrap();
        let publish = visitor.publish().await;
        assert_eq!(publish.topic, expected);
        visitor.answer(publish.packet_id.unwrap(), ReasonCode::Success).await;
    }
    edge.broker.replace_routes(holdfast_routes::RouteTable::compile(support::routes()).unwrap());
    edge.publish("alarms", Message::new("x")).await;
    let publish = visitor.publish().await;
    assert_eq!(publish.topic, "a/edge-1/alarms/out", "new routes, new templates");
    visitor.answer(publish.packet_id.unwrap(), ReasonCode::Success).await;
    link.stop().await;
}

#[tokio::test]
async fn refusals_say_what_to_change() {
    for (version, ack, parts) in [
        (Version::V5, ConnAck::new(ReasonCode::BadUserNameOrPassword), ["(0x86)", "check upstream.user and"]),
        (
            Version::V311,
            ConnAck::new(ReasonCode::BadUserNameOrPassword),
            ["bad user name", "upstream.password"],
        ),
        (
            Version::V311,
            ConnAck::new(ReasonCode::ClientIdentifierNotValid),
            ["client identifier", "upstream.client_id"],
        ),
        (
            Version::V5,
            ConnAck::new(ReasonCode::UnsupportedProtocolVersion),
            ["protocol version", "set upstream.version"],
        ),
        (Version::V5, ConnAck::new(ReasonCode::ServerBusy), ["server busy", "tried again"]),
        (Version::V5, ConnAck { maximum_qos: QoS::AtMostOnce, ..welcome() }, ["QoS 0 only", "allow QoS 1"]),
        (Version::V5, ConnAck { session_present: true, ..welcome() }, ["old session", "MQTT-3.2.2-2"]),
    ] {
        let (edge, broker, mut link) = start(version, 1).await;
        broker.welcomed(ack).await;
        let complaint = link.complaint().await;
        for part in parts {
            assert!(complaint.contains(part), "{part:?} in {complaint:?}");
        }
        link.stop().await;
        assert_eq!(edge.waiting(), 1, "nothing is lost");
    }
}

#[tokio::test]
async fn brokers_that_are_silent_or_break_the_rules_are_left_and_dialled_again() {
    let hurried = |port| UpstreamConfig {
        keep_alive: Duration::from_secs(1),
        answer_within: Duration::from_millis(200),
        ack_within: Duration::from_millis(1500),
        ..config(port, Version::V5)
    };
    // No CONNACK.
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    let mut link = edge.link(hurried(broker.port));
    let held = broker.visitor().await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("no CONNACK within 200ms"), "{complaint}");
    drop(held);
    // No PINGRESP.
    let held = broker.welcomed(welcome()).await;
    link.connected().await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("did not answer PINGREQ"), "{complaint}");
    drop(held);
    // Pings are answered, messages are not.
    edge.fill("meter", 0, 1).await;
    let mut visitor = broker.welcomed(welcome()).await;
    link.connected().await;
    while let Some(packet) = visitor.packet().await {
        if packet == Packet::PingReq {
            visitor.send(Packet::PingResp).await;
        }
    }
    let complaint = link.complaint().await;
    assert!(complaint.contains("1 messages are in flight and the server acknowledged none"), "{complaint}");
    // An acknowledgement of nothing.
    let mut visitor = broker.welcomed(welcome()).await;
    link.connected().await;
    visitor.answer(PacketId::new(999).unwrap(), ReasonCode::Success).await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("packet 999, which is not in flight"), "{complaint}");
    // Something that is no MQTT.
    let mut stream = broker.stream().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    link.reaches("waiting for a web server", |state| {
        matches!(state, LinkState::Waiting { reason, .. } if reason.contains("does not keep to MQTT"))
    })
    .await;
    drop(stream);
    // Closed before the welcome.
    drop(broker.visitor().await);
    link.reaches("waiting after a slammed door", |state| {
        matches!(state, LinkState::Waiting { reason, .. } if reason.contains("before the broker had welcomed it"))
    })
    .await;
    // Sent away.
    let mut visitor = broker.welcomed(welcome()).await;
    visitor.send(Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SessionTakenOver)))).await;
    link.reaches("waiting after a takeover", |state| {
        matches!(state, LinkState::Waiting { reason, .. } if reason.contains("uses the same upstream.client_id"))
    })
    .await;
    assert_eq!(edge.waiting(), 1, "nothing is lost");
    link.stop().await;
}

#[tokio::test]
async fn expiry_aliases_and_the_end_of_a_session_are_as_mqtt_5_wants_them() {
    let mut routes = support::routes();
    routes[1].time_to_live_secs = Some(100);
    let (edge, broker) = (Edge::with_routes(routes), Scripted::new().await);
    edge.fill("meter", 0, 2).await;
    let link = edge.link(UpstreamConfig { topic: "t".into(), ..config(broker.port, Version::V5) });
    let mut visitor = broker.welcomed(ConnAck { topic_alias_maximum: 4, ..welcome() }).await;
    let (first, second) = (visitor.publish().await, visitor.publish().await);
    let properties = |publish: &holdfast_mqtt::Publish| -> PublishProperties {
        *publish.properties.clone().expect("properties")
    };
    assert!(matches!(properties(&first).message_expiry_s, Some(95..=100)), "{first:?}");
    assert_eq!((&*first.topic, &*second.topic), ("t", ""));
    assert_eq!(properties(&first).topic_alias, properties(&second).topic_alias);
    let stopping = tokio::spawn(link.stop());
    assert!(visitor.is_silent().await, "the window is waited for");
    for publish in [first, second] {
        visitor.answer(publish.packet_id.unwrap(), ReasonCode::Success).await;
    }
    assert!(matches!(visitor.packet().await, Some(Packet::Disconnect(_))));
    assert_eq!(stopping.await.unwrap().unacknowledged, 0);
    edge.drained().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_it_was_told() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.fill("meter", 0, 3).await;
    let drain_within = Duration::from_millis(100);
    let link = edge.link(UpstreamConfig { drain_within, ..config(broker.port, Version::V5) });
    let mut visitor = broker.welcomed(welcome()).await;
    take(&mut visitor, 3).await;
    assert_eq!(link.stop().await.unacknowledged, 3);
    assert_eq!(edge.waiting(), 3, "they are sent again at the next start");
}

#[tokio::test]
async fn a_store_that_fails_stops_the_link_from_claiming_what_is_not_recorded() {
    let (edge, broker, mut link) = start(Version::V5, 3).await;
    let mut visitor = broker.welcomed(welcome()).await;
    let sent = take(&mut visitor, 3).await;
    edge.store.close().unwrap();
    visitor.answer(sent[0].1, ReasonCode::Success).await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("the store did not record what the broker acknowledged"), "{complaint}");
    assert!(visitor.packet().await.is_none(), "the connection is closed");
    link.stop().await;
}

#[tokio::test]
async fn large_messages_are_bounded_in_bytes_and_all_pass() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    for n in 0..6_u8 {
        edge.publish("meter", Message::new(vec![b'a' + n; 100_000])).await;
    }
    let link = edge.link(UpstreamConfig { window_bytes: 150_000, ..config(broker.port, Version::V5) });
    let mut visitor = broker.welcomed(welcome()).await;
    let (first, second) = (visitor.body().await, visitor.body().await);
    assert!(visitor.is_silent().await, "two fill the window in bytes");
    for (_, id) in [&first, &second] {
        visitor.answer(*id, ReasonCode::Success).await;
    }
    for n in 2..6 {
        let (body, id) = visitor.body().await;
        assert_eq!(body.as_bytes()[0], b'a' + n);
        visitor.answer(id, ReasonCode::Success).await;
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_configuration_is_told_at_once() {
    let mut routes = support::routes();
    let edge = Edge::with_routes(routes.clone());
    let bad = UpstreamConfig {
        topic: "a/{egde}/#".into(),
        client_id: "".into(),
        window: 0,
        keep_alive: Duration::from_secs(100_000),
        password: Some(holdfast_upstream::Secret("p".into())),
        ..config(1, Version::V311)
    };
    let text = Upstream::build(bad, &edge.broker).err().unwrap().to_string();
    for part in [
        "upstream.topic: {egde} is not a placeholder",
        "upstream.window: 0 is out of range",
        "upstream.keep_alive: ",
        "upstream.client_id: it is empty",
        "upstream.user: MQTT 3.1.1 allows no password without a user name",
    ] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    let silent = UpstreamConfig { topic: "t".into(), ..config(1, Version::V311) };
    let upstream = Upstream::build(silent, &edge.broker).ok().unwrap();
    assert!(upstream.notes()[0].text.contains("cannot drop duplicates"));
    drop(upstream);

    routes[0].topic = Some("x/{".to_owned());
    let edge = Edge::with_routes(routes);
    let text = Upstream::build(config(1, Version::V5), &edge.broker).err().unwrap().to_string();
    assert!(text.contains("routes.alarms.topic: a brace at byte 2 has no partner"), "{text}");
}

/// Answers all messages but those whose body begins with `poison`: over these it hangs up. Notes what it took for the
/// first time.
async fn hang_up_over_poison(broker: &Scripted, taken: &Mutex<Vec<String>>) {
    loop {
        let mut visitor = broker.welcomed(welcome()).await;
        while let Some(packet) = visitor.packet().await {
            let Packet::Publish(publish) = packet else { continue };
            let body = String::from_utf8(publish.payload.to_vec()).unwrap();
            if body.starts_with("poison") {
                break;
            }
            visitor.answer(publish.packet_id.unwrap(), ReasonCode::Success).await;
            let mut taken = taken.lock().unwrap();
            if !taken.contains(&body) {
                taken.push(body);
            }
        }
    }
}

#[tokio::test]
async fn messages_over_which_the_broker_hangs_up_become_dead_letters_and_the_rest_arrives() {
    for clean_start in [true, false] {
        let (edge, broker) = (Edge::new(), Scripted::new().await);
        edge.fill("meter", 0, 10).await;
        edge.publish("meter", Message::new("poison 1")).await;
        edge.publish("meter", Message::new("poison 2")).await;
        edge.fill("meter", 10, 300).await;
        let link = edge.link(UpstreamConfig { clean_start, ..config(broker.port, Version::V5) });
        let taken = Mutex::default();
        tokio::select! {
            () = hang_up_over_poison(&broker, &taken) => {}
            () = edge.drained() => {}
        }
        let expected: Vec<_> = (0..310).map(|n| n.to_string()).collect();
        assert_eq!(*taken.lock().unwrap(), expected, "all others arrive in order");
        let dead = edge.dead_letters();
        let bodies: Vec<_> = dead.iter().map(|letter| letter.death.reason.to_string()).collect();
        assert_eq!(dead.len(), 2, "{bodies:?}");
        for part in ["closed 3 connections over it", "up/meter/edge-1/", "body of 8 bytes"] {
            assert!(bodies[0].contains(part), "{part:?} in {bodies:?}");
        }
        let counters = link.status.status().counters;
        assert_eq!(counters.given_up, 2);
        assert!(counters.acknowledged >= 310, "{counters:?}");
        link.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_whatever_comes_makes_no_dead_letters() {
    let (edge, broker, link) = start(Version::V5, 20).await;
    for _ in 0..25 {
        let mut visitor = broker.welcomed(welcome()).await;
        visitor.body().await;
    }
    assert_eq!((edge.dead_letters().len(), edge.waiting()), (0, 20));
    // It is well again: everything arrives, what was suspected too.
    let taken = Mutex::default();
    tokio::select! {
        () = hang_up_over_poison(&broker, &taken) => {}
        () = edge.drained() => {}
    }
    let mut numbers: Vec<u32> = taken.lock().unwrap().iter().map(|body| body.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(edge.dead_letters().len(), 0);
    link.stop().await;
}

#[tokio::test]
async fn a_suspect_that_is_all_there_is_waits_until_another_message_shows_that_the_link_carries() {
    let (edge, broker) = (Edge::new(), Scripted::new().await);
    edge.publish("meter", Message::new("poison")).await;
    let link = edge.link(config(broker.port, Version::V5));
    for _ in 0..7 {
        assert_eq!(broker.welcomed(welcome()).await.body().await.0, "poison");
    }
    let mut visitor = broker.welcomed(welcome()).await;
    assert!(visitor.is_silent().await, "it is kept back");
    assert_eq!(edge.dead_letters().len(), 0);
    edge.publish("meter", Message::new("another")).await;
    let (body, id) = visitor.body().await;
    assert_eq!(body, "another");
    visitor.answer(id, ReasonCode::Success).await;
    assert_eq!(visitor.body().await.0, "poison", "one more try");
    drop(visitor);
    edge.drained().await;
    assert_eq!((edge.dead_letters().len(), edge.dead_letters()[0].death.attempts), (1, 3));
    link.stop().await;
}
