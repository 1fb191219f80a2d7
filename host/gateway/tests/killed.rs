//! What clients find when the host was killed, packet by packet: the new host has the files of the old one as they were
//! at that moment, and nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use Version::{V5, V311};
use holdfast_mqtt::*;
use support::*;

/// A client with a session that outlives its connection; says whether there was one.
async fn lasting(house: &House, version: Version, id: &str) -> (Client, bool) {
    let mut client = Client::dial(house.address, version).await;
    let hello = Connect { clean_start: false, session_expiry_s: 3600, ..connect(version, id) };
    let ack = client.connect(hello).await;
    assert_eq!(ack.reason, ReasonCode::Success);
    (client, ack.session_present)
}

fn publish(qos: QoS, id: PacketId, payload: &str) -> Publish {
    Publish { qos, packet_id: Some(id), ..Publish::new("plant/t", payload.to_owned()) }
}

async fn send_qos2(client: &mut Client, payload: &str) {
    let id = client.id();
    client.send(&Packet::Publish(publish(QoS::ExactlyOnce, id, payload))).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    client.send(&Packet::PubRel(Ack::new(id))).await;
    assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_for_a_client_that_was_away_is_there_with_its_subscriptions() {
    for (version, qos) in [(V311, 1), (V5, 1), (V5, 2)] {
        let house = House::new().await;
        let (mut client, present) = lasting(&house, version, "away").await;
        assert!(!present);
        client.subscribe("plant/#", qos).await;
        client.leave().await;
        let mut sender = house.client(V311, "sender").await;
        for n in 0..20 {
            match qos {
                1 => assert_eq!(sender.publish("plant/t", &n.to_string(), 1).await, ReasonCode::Success),
                _ => send_qos2(&mut sender, &n.to_string()).await,
            }
        }
        let house = house.killed().await;
        let mut sender = house.client(V311, "sender").await;
        match qos {
            1 => assert_eq!(sender.publish("plant/t", "20", 1).await, ReasonCode::Success),
            _ => send_qos2(&mut sender, "20").await,
        }
        let house = house.killed().await;
        let (mut client, present) = lasting(&house, version, "away").await;
        assert!(present);
        for n in 0..21 {
            let message = client.message().await;
            assert_eq!((&*message.payload, message.dup), (n.to_string().as_bytes(), false));
        }
        until("nothing is left", || house.broker.session_totals().positions == 0).await;
        house.broker.tidy_sessions().await;
        let house = house.killed().await;
        assert_eq!(house.broker.session_totals().positions, 0);
        let (mut client, _) = lasting(&house, version, "away").await;
        house.client(V311, "sender").await.publish("plant/t", "last", 1).await;
        assert_eq!(client.message().await.payload, "last");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_qos_2_is_sent_again_under_its_identifier_and_never_after_pubrec() {
    let house = House::new().await;
    let (mut client, _) = lasting(&house, V311, "c").await;
    client.subscribe("plant/#", 2).await;
    let mut sender = house.client(V311, "sender").await;
    send_qos2(&mut sender, "one").await;
    let Some(Packet::Publish(first)) = client.next().await else { panic!("no message") };
    assert_eq!((&*first.payload, first.qos), (&b"one"[..], QoS::ExactlyOnce));
    // Killed before PUBREC: the same message, the same identifier.
    let house = house.killed().await;
    let (mut client, present) = lasting(&house, V311, "c").await;
    let Some(Packet::Publish(again)) = client.next().await else { panic!("no message") };
    assert!(present && again.dup);
    assert_eq!((again.packet_id, &again.payload), (first.packet_id, &first.payload));
    let id = again.packet_id.unwrap();
    client.send(&Packet::PubRec(Ack::new(id))).await;
    assert_eq!(client.next().await, Some(Packet::PubRel(Ack::new(id))));
    // Killed after PUBREL has left: PUBREL again, and no message.
    let house = house.killed().await;
    let (mut client, _) = lasting(&house, V311, "c").await;
    assert_eq!(client.next().await, Some(Packet::PubRel(Ack::new(id))));
    let mut sender = house.client(V311, "sender").await;
    send_qos2(&mut sender, "two").await;
    let Some(Packet::Publish(second)) = client.next().await else { panic!("no message") };
    assert_eq!(second.payload, "two");
    assert_ne!(second.packet_id, Some(id), "the identifier is not free yet");
    client.send(&Packet::PubComp(Ack::new(id))).await;
    until("the first is done with", || house.broker.session_totals().positions == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pubrel_that_was_answered_before_anything_else_was_recorded_does_not_come_again() {
    let house = House::new().await;
    let (mut client, _) = lasting(&house, V5, "c").await;
    client.subscribe("plant/#", 2).await;
    let mut sender = house.client(V311, "sender").await;
    send_qos2(&mut sender, "one").await;
    assert_eq!(client.message().await.payload, "one");
    client.send(&Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp), "its PUBCOMP was read");
    let mut other = house.client(V311, "other").await;
    assert_eq!(
        other.publish("press/t", "x", 1).await,
        ReasonCode::Success,
        "and this was recorded after that"
    );
    let house = house.killed().await;
    let (mut client, present) = lasting(&house, V5, "c").await;
    assert!(present);
    client.send(&Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp), "and no PUBREL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_qos_2_that_is_sent_again_after_a_kill_is_recorded_once() {
    let house = House::new().await;
    let (mut client, _) = lasting(&house, V311, "c").await;
    let id = client.id();
    client.send(&Packet::Publish(publish(QoS::ExactlyOnce, id, "one"))).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    let house = house.killed().await;
    let (mut client, present) = lasting(&house, V311, "c").await;
    assert!(present);
    client.send(&Packet::Publish(Publish { dup: true, ..publish(QoS::ExactlyOnce, id, "one") })).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    assert_eq!(house.recorded(), 1);
    client.send(&Packet::PubRel(Ack::new(id))).await;
    assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
    // The identifier is free: a new message under it is a new message.
    let house = house.killed().await;
    let (mut client, _) = lasting(&house, V311, "c").await;
    client.send(&Packet::Publish(publish(QoS::ExactlyOnce, id, "two"))).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    assert_eq!(house.recorded(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_and_their_removal_are_there_after_a_kill() {
    let house = House::new().await;
    let mut sender = house.client(V5, "sender").await;
    for (topic, text) in [("plant/a", "1"), ("plant/b", "2"), ("plant/a", "")] {
        let id = sender.id();
        let publish = Publish { retain: true, ..publish(QoS::AtLeastOnce, id, text) };
        sender.send(&Packet::Publish(Publish { topic: topic.into(), ..publish })).await;
        assert_eq!(sender.next().await, Some(Packet::PubAck(Ack::new(id))));
    }
    let house = house.killed().await;
    let mut client = house.client(V5, "late").await;
    client.subscribe("plant/#", 1).await;
    let message = client.message().await;
    assert_eq!((&*message.topic, &*message.payload, message.retain), ("plant/b", &b"2"[..], true));
    house.client(V311, "sender").await.publish("plant/c", "live", 1).await;
    assert_eq!(client.message().await.payload, "live", "and nothing else was retained");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_of_a_client_that_was_connected_is_said_once() {
    let house = House::new().await;
    let (mut mourner, _) = lasting(&house, V311, "mourner").await;
    mourner.subscribe("plant/#", 1).await;
    mourner.leave().await;
    let mut dying = Client::dial(house.address, V311).await;
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "plant/will".into(),
        payload: "gone".into(),
        delay_s: 0,
        properties: PublishProperties::default(),
    };
    dying.connect(Connect { will: Some(will), ..connect(V311, "dying") }).await;
    let house = house.killed().await;
    until("the will is said", || house.counted().wills == 1).await;
    until("it is recorded", || house.broker.session_totals().positions == 1).await;
    let house = house.killed().await;
    let (mut mourner, _) = lasting(&house, V311, "mourner").await;
    assert_eq!(mourner.message().await.payload, "gone");
    assert_eq!(house.counted().wills, 0, "not once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_thousand_sessions_that_are_away_is_stored_once() {
    const SESSIONS: u64 = 1000;
    const MESSAGES: u64 = 50;
    let house = House::new().await;
    for n in 0..SESSIONS {
        let (mut client, _) = lasting(&house, V311, &format!("c{n}")).await;
        client.subscribe("plant/#", 1).await;
        client.leave().await;
    }
    let mut sender = house.client(V311, "sender").await;
    let body = "x".repeat(1000);
    for _ in 0..MESSAGES {
        sender.publish("plant/t", &body, 1).await;
    }
    let bytes = |house: &House| {
        let queues = house.broker.store().queues();
        queues
            .iter()
            .filter(|queue| queue.queue.log.as_str() == "sessions")
            .map(|queue| queue.bytes)
            .sum::<u64>()
    };
    let house = house.killed().await;
    let totals = house.broker.session_totals();
    assert_eq!((totals.sessions, totals.positions), (SESSIONS, SESSIONS * MESSAGES));
    let each = bytes(&house) / MESSAGES;
    println!("{MESSAGES} messages of 1000 bytes for {SESSIONS} sessions take {each} bytes each in the log");
    assert!((3000..3500).contains(&each), "{each} bytes for a message of 1000");
    for n in 0..SESSIONS {
        let (mut client, present) = lasting(&house, V311, &format!("c{n}")).await;
        assert!(present);
        for _ in 0..MESSAGES {
            assert_eq!(client.message().await.payload.len(), 1000);
        }
        client.leave().await;
    }
    until("all is acknowledged", || house.broker.session_totals().positions == 0).await;
    house.broker.tidy_sessions().await;
    assert_eq!(bytes(&house), 0);
}

/// A member of a group with a session that outlives its connection.
async fn member(house: &House, id: &str) -> Client {
    let (mut member, present) = lasting(house, V5, id).await;
    if !present {
        let wanted = Subscription::new("$share/group/plant/#", QoS::ExactlyOnce);
        let packet_id = member.id();
        let subscribe = Subscribe {
            packet_id,
            subscription_id: None,
            user_properties: vec![],
            subscriptions: vec![wanted],
        };
        member.send(&Packet::Subscribe(Box::new(subscribe))).await;
        let Some(Packet::SubAck(ack)) = member.next().await else { panic!("no SUBACK") };
        assert_eq!(ack.reasons, [ReasonCode::GrantedQos2]);
    }
    member
}

async fn numbers(client: &mut Client, count: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(std::str::from_utf8(&client.message().await.payload).unwrap().parse().unwrap());
    }
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_survives_a_kill_and_goes_to_the_member_that_comes_back() {
    let house = House::new().await;
    for name in ["first", "second"] {
        member(&house, name).await.leave().await;
    }
    let mut sender = house.client(V311, "sender").await;
    for n in 0..20 {
        sender.publish("plant/t", &n.to_string(), 1).await;
    }
    let house = house.killed().await;
    assert_eq!(house.broker.session_totals().positions, 20, "each is recorded for one of them");
    let mut second = member(&house, "second").await;
    assert_eq!(numbers(&mut second, 20).await, (0..20).collect::<Vec<_>>(), "also what the other was to get");
    until("all is acknowledged", || house.broker.session_totals().positions == 0).await;
    // Neither a kill nor the other member brings any of it again.
    house.broker.tidy_sessions().await;
    let house = house.killed().await;
    let mut first = member(&house, "first").await;
    first.send(&Packet::PingReq).await;
    assert_eq!(first.next().await, Some(Packet::PingResp));
    assert_eq!(house.broker.session_totals().positions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_that_ends_was_to_get_is_its_groups_also_after_a_kill() {
    let house = House::new().await;
    let (mut stays, mut ends) = (member(&house, "stays").await, member(&house, "ends").await);
    let mut sender = house.client(V311, "sender").await;
    send_qos2(&mut sender, "0").await;
    send_qos2(&mut sender, "1").await;
    let (Some(Packet::Publish(kept)), Some(Packet::Publish(begun))) = (stays.next().await, ends.next().await)
    else {
        panic!("each member gets one")
    };
    assert!(begun.qos == QoS::ExactlyOnce && kept.payload != begun.payload);
    drop((stays, ends));
    until("both are away", || house.counted().connections == 1).await;
    for n in 2..12 {
        sender.publish("plant/t", &n.to_string(), 1).await;
    }
    // A clean start ends the session; the host is killed before anything else happens.
    let mut fresh = Client::dial(house.address, V5).await;
    fresh.connect(connect(V5, "ends")).await;
    let house = house.killed().await;
    house.broker.tidy_sessions().await;
    let house = house.killed().await;
    let mut stays = member(&house, "stays").await;
    let again = stays.message().await;
    assert_eq!((&again.payload, again.dup, again.packet_id), (&kept.payload, true, kept.packet_id));
    let got = numbers(&mut stays, 10).await;
    assert_eq!(got, (2..12).collect::<Vec<_>>(), "but not what the other may have with QoS 2");
    until("all is acknowledged", || house.broker.session_totals().positions == 0).await;
    assert_eq!(house.broker.session_totals().sessions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_subscribed_by_itself_too_gets_a_copy_for_each() {
    let house = House::new().await;
    let mut client = member(&house, "both").await;
    client.subscribe("plant/+", 1).await;
    client.leave().await;
    house.client(V311, "sender").await.publish("plant/t", "7", 1).await;
    let house = house.killed().await;
    let mut client = member(&house, "both").await;
    assert_eq!(numbers(&mut client, 2).await, [7, 7]);
    until("all is acknowledged", || house.broker.session_totals().positions == 0).await;
}
