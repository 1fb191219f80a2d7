//! What clients that keep to the protocol see.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use holdfast_gateway::Limits;
use holdfast_mqtt::*;
use holdfast_types::WhenFull;
use std::{sync::Arc, time::Duration};
use support::*;

use Version::{V5, V311};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_when_it_is_on_disk_and_acknowledgements_keep_their_order() {
    let house = House::new().await;
    let mut client = house.client(V311, "c").await;
    let ids: Vec<PacketId> = (0..300).map(|_| client.id()).collect();
    for id in &ids {
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(*id), ..Publish::new("plant/t", "x") };
        client.send(&Packet::Publish(publish)).await;
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(client.next().await, Some(Packet::PubAck(Ack::new(*id))));
        assert!(house.recorded() > n as u64, "acknowledged before it was recorded");
    }
    assert_eq!((house.recorded(), house.counted().messages_in), (300, 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos2_message_is_recorded_once_even_if_it_is_sent_again() {
    let house = House::new().await;
    let mut client = house.client(V311, "c").await;
    let id = client.id();
    let publish = Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), ..Publish::new("plant/t", "x") };
    client.send(&Packet::Publish(publish.clone())).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    client.send(&Packet::Publish(Publish { dup: true, ..publish })).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    client.send(&Packet::PubRel(Ack::new(id))).await;
    assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
    assert_eq!(house.recorded(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_known_user_with_its_password_is_let_in() {
    let house = House::new().await;
    for version in [V311, V5] {
        for (user, password) in [
            (Some("press"), Some("wrong")),
            (Some("nobody"), Some("secret")),
            (Some("press"), None),
            (None, None),
        ] {
            let mut client = Client::dial(house.address, version).await;
            let (user_name, password) = (user.map(Into::into), password.map(Into::into));
            let ack = client.connect(Connect { user_name, password, ..Connect::new(version, "c") }).await;
            assert_eq!(ack.reason, ReasonCode::BadUserNameOrPassword);
            assert_eq!(client.next().await, None);
        }
    }
    assert_eq!(house.counted().connects_refused, 8);
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_refused_and_never_acknowledged_as_done() {
    let house = House::new().await;
    let mut v5 = house.client(V5, "c5").await;
    assert_eq!(v5.publish("oven/t", "x", 1).await, ReasonCode::NotAuthorized);
    assert_eq!(v5.publish("press/t", "x", 1).await, ReasonCode::Success);
    assert_eq!(v5.subscribe("oven/#", 1).await, ReasonCode::NotAuthorized);
    assert_eq!(v5.subscribe("#", 1).await, ReasonCode::NotAuthorized);
    assert_eq!(v5.subscribe("$share/g/oven/#", 1).await, ReasonCode::NotAuthorized);
    let mut v311 = house.client(V311, "c3").await;
    assert_eq!(v311.subscribe("oven/#", 1).await, ReasonCode::UnspecifiedError);
    v311.publish("oven/t", "x", 0).await;
    assert_eq!(v311.publish("plant/t", "x", 1).await, ReasonCode::Success);
    let id = v311.id();
    let refused = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), ..Publish::new("oven/t", "x") };
    v311.send(&Packet::Publish(refused)).await;
    assert_eq!(v311.next().await, None, "version 3.1.1 has no word for no");
    assert_eq!((house.recorded(), house.counted().messages_refused), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_get_each_message_once_with_the_best_of_their_qualities() {
    let house = House::new().await;
    let mut sender = house.client(V311, "sender").await;
    let mut receiver = house.client(V311, "receiver").await;
    assert_eq!(receiver.subscribe("plant/#", 0).await, ReasonCode::Success);
    assert_eq!(receiver.subscribe("plant/+/t", 2).await, ReasonCode::GrantedQos2);
    for n in 0..500 {
        sender.publish("plant/1/t", &n.to_string(), 1).await;
    }
    for n in 0..500 {
        let message = receiver.message().await;
        assert_eq!((message.payload, message.qos), (n.to_string().into(), QoS::AtLeastOnce));
    }
    sender.publish("plant/2", "other", 1).await;
    assert_eq!(receiver.message().await.qos, QoS::AtMostOnce);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_version_5_reach_a_subscriber_of_version_5() {
    let house = House::new().await;
    let mut sender = house.client(V5, "sender").await;
    let mut receiver = house.client(V5, "receiver").await;
    let packet_id = receiver.id();
    let subscriptions = vec![Subscription::new("plant/#", QoS::AtMostOnce)];
    let subscribe = Subscribe { packet_id, subscription_id: Some(9), user_properties: vec![], subscriptions };
    receiver.send(&Packet::Subscribe(Box::new(subscribe))).await;
    receiver.next().await.unwrap();
    let properties = PublishProperties {
        content_type: Some("application/json".into()),
        response_topic: Some("plant/answers".into()),
        correlation_data: Some("42".into()),
        user_properties: vec![("unit".into(), "C".into())],
        ..Default::default()
    };
    let publish = Publish { properties: Some(Box::new(properties.clone())), ..Publish::new("plant/t", "x") };
    sender.send(&Packet::Publish(publish)).await;
    let expected = PublishProperties { subscription_ids: vec![9], ..properties };
    assert_eq!(receiver.message().await.properties, Some(Box::new(expected)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_connection_with_subscriptions_and_unacknowledged_messages() {
    let house = House::new().await;
    let lasting = Connect { clean_start: false, ..connect(V311, "lasting") };
    let mut client = Client::dial(house.address, V311).await;
    assert!(!client.connect(lasting.clone()).await.session_present);
    client.subscribe("plant/#", 1).await;
    let mut sender = house.client(V311, "sender").await;
    sender.publish("plant/t", "0", 1).await;
    assert!(matches!(client.next().await, Some(Packet::Publish(p)) if !p.dup), "and it is not acknowledged");
    drop(client);
    for n in 1..5 {
        sender.publish("plant/t", &n.to_string(), 1).await;
    }
    let mut client = Client::dial(house.address, V311).await;
    assert!(client.connect(lasting.clone()).await.session_present);
    for n in 0..5 {
        let message = client.message().await;
        assert_eq!((message.payload, message.dup), (n.to_string().into(), n == 0));
    }
    client.leave().await;
    let mut clean = Client::dial(house.address, V311).await;
    assert!(!clean.connect(connect(V311, "lasting")).await.session_present);
    clean.leave().await;
    let mut again = Client::dial(house.address, V311).await;
    assert!(
        !again.connect(lasting).await.session_present,
        "a clean session ends what was before and after it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_client_wins_and_other_users_cannot_take_it_over() {
    let house = House::new().await;
    let mut first = house.client(V5, "same").await;
    let mut second = house.client(V5, "same").await;
    assert_eq!(first.end().await, Some(ReasonCode::SessionTakenOver));
    let mut oven = Client::dial(house.address, V5).await;
    oven.connect(Connect { user_name: Some("oven".into()), ..connect(V5, "same") }).await;
    assert_eq!(second.publish("plant/t", "x", 1).await, ReasonCode::Success);
    assert_eq!(oven.publish("plant/t", "x", 1).await, ReasonCode::Success);
    assert_eq!(house.counted().taken_over, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_take_overs_leaves_one_connection() {
    let house = House::new().await;
    house.serves().await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let address = house.address;
        tasks.push(tokio::spawn(async move {
            let mut client = Client::dial(address, V311).await;
            client.send(&Packet::Connect(Box::new(connect(V311, "same")))).await;
            client.next().await.is_some()
                && tokio::time::timeout(Duration::from_secs(3), client.next()).await.is_err()
        }));
    }
    let mut left = 0;
    for task in tasks {
        left += usize::from(task.await.unwrap());
    }
    assert_eq!(left, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_said_when_a_client_is_gone_and_not_after_a_goodbye() {
    let house = House::new().await;
    let mut witness = house.client(V311, "witness").await;
    witness.subscribe("plant/wills", 1).await;
    let will = |payload: &'static str, delay_s| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "plant/wills".into(),
        payload: payload.into(),
        delay_s,
        properties: Default::default(),
    };
    let with = |id: &str, will| Connect { will: Some(will), ..connect(V5, id) };
    let mut polite = Client::dial(house.address, V5).await;
    polite.connect(with("polite", will("never", 0))).await;
    polite.leave().await;
    let mut lost = Client::dial(house.address, V5).await;
    lost.connect(with("lost", will("lost", 0))).await;
    drop(lost);
    assert_eq!(witness.message().await.payload, "lost");
    let mut late = Client::dial(house.address, V5).await;
    late.connect(Connect { session_expiry_s: 100, ..with("late", will("late", 1)) }).await;
    drop(late);
    let mut back = Client::dial(house.address, V5).await;
    back.connect(Connect { session_expiry_s: 3600, clean_start: false, ..with("late", will("later", 1)) })
        .await;
    let gone = std::time::Instant::now();
    drop(back);
    assert_eq!(
        witness.message().await.payload,
        "later",
        "the first client came back before its will was due"
    );
    assert!(gone.elapsed() >= Duration::from_secs(1), "its delay has passed, and its session has not ended");
    let mut forbidden = Client::dial(house.address, V5).await;
    let bad = Will { topic: "oven/wills".into(), ..will("x", 0) };
    assert_eq!(forbidden.connect(with("f", bad)).await.reason, ReasonCode::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_subscribed_a_moment_before_a_message_gets_it_though_the_host_sees_both_at_once() {
    let house = House::new().await;
    let mut sender = house.client(V5, "sender").await;
    let mut heard = 0;
    for n in 0..5 {
        let mut reader = house.client(V5, &format!("reader-{n}")).await;
        // Neither is in the middle of anything: only time makes it so.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let both = Arc::new(std::sync::Barrier::new(2));
        let busy = tokio::spawn({
            let both = both.clone();
            async move {
                both.wait();
                both.wait();
            }
        });
        // The only thread of the host has other work until both packets are there.
        both.wait();
        let packet_id = reader.id();
        let subscriptions = vec![Subscription::new("plant/#", QoS::AtMostOnce)];
        let subscribe =
            Subscribe { packet_id, subscription_id: None, user_properties: vec![], subscriptions };
        reader.send(&Packet::Subscribe(Box::new(subscribe))).await;
        sender.send(&Packet::Publish(Publish::new("plant/t", n.to_string()))).await;
        both.wait();
        busy.await.unwrap();
        assert!(matches!(reader.next().await, Some(Packet::SubAck(_))));
        // This one comes in any case, and behind the other if that came.
        sender.send(&Packet::Publish(Publish::new("plant/t", "later"))).await;
        if reader.message().await.payload == n.to_string() {
            heard += 1;
            assert_eq!(reader.message().await.payload, "later");
        }
        reader.leave().await;
    }
    // A machine under load may bring the two packets to the host in another order than they were sent.
    assert!(heard >= 3, "{heard} of 5 were heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_are_there_for_those_who_come_later() {
    let house = House::new().await;
    let mut sender = house.client(V311, "sender").await;
    for (topic, payload) in [("plant/a", "1"), ("plant/a", "2"), ("plant/b", "3"), ("plant/b", "")] {
        let id = sender.id();
        let publish = Publish {
            retain: true,
            qos: QoS::AtLeastOnce,
            packet_id: Some(id),
            ..Publish::new(topic, payload)
        };
        sender.send(&Packet::Publish(publish)).await;
        sender.next().await.unwrap();
    }
    let mut receiver = house.client(V311, "receiver").await;
    receiver.subscribe("plant/#", 1).await;
    let message = receiver.message().await;
    assert_eq!((&*message.topic, &message.payload[..], message.retain), ("plant/a", &b"2"[..], true));
    sender.publish("plant/a", "4", 1).await;
    let live = receiver.message().await;
    assert_eq!((&live.payload[..], live.retain), (&b"4"[..], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_given_up_and_one_that_pings_is_kept() {
    let house = House::new().await;
    let mut silent = Client::dial(house.address, V5).await;
    silent.connect(Connect { keep_alive_s: 1, ..connect(V5, "silent") }).await;
    let mut lively = Client::dial(house.address, V311).await;
    lively.connect(Connect { keep_alive_s: 1, ..connect(V311, "lively") }).await;
    let ping = async {
        loop {
            lively.send(&Packet::PingReq).await;
            assert_eq!(lively.next().await, Some(Packet::PingResp));
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    };
    let reason = tokio::select! { reason = silent.end() => reason, () = ping => None };
    assert_eq!(reason, Some(ReasonCode::KeepAliveTimeout));
    assert_eq!(lively.publish("plant/t", "x", 1).await, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_name_gets_one_and_is_told_the_terms() {
    let house = House::new().await;
    let mut client = Client::dial(house.address, V5).await;
    let ack = client.connect(Connect { session_expiry_s: u32::MAX, ..connect(V5, "") }).await;
    assert_eq!(ack.assigned_client_id.as_deref(), Some("auto-0000000000000007-0"));
    assert_eq!(ack.session_expiry_s, Some(24 * 3600));
    assert_eq!(ack.receive_maximum.map(u16::from), Some(1000));
    assert!(ack.shared_subscriptions_available);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_withholds_the_acknowledgement_and_the_client_stays_connected() {
    let house = House::with(Limits::default(), WhenFull::Block, 1 << 20).await;
    let mut client = Client::dial(house.address, V311).await;
    client.connect(Connect { keep_alive_s: 1, ..connect(V311, "c") }).await;
    let body = "x".repeat(16 << 10);
    let mut sent = 0_u64;
    for _ in 0..100 {
        let id = client.id();
        let publish =
            Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), ..Publish::new("plant/t", body.clone()) };
        client.send(&Packet::Publish(publish)).await;
        sent += 1;
    }
    let mut acked = 0_u64;
    let mut pings = 0;
    while pings < 4 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.send(&Packet::PingReq).await;
        loop {
            match client.next().await {
                Some(Packet::PubAck(_)) => acked += 1,
                Some(Packet::PingResp) => break,
                other => panic!("{other:?}"),
            }
        }
        pings += 1;
    }
    assert!(acked < sent, "the log cannot hold all of it");
    assert!(acked <= house.recorded());
    let mut reader = house.broker.reader(holdfast_types::LogId::upstream());
    while acked < sent {
        let deliveries = reader.next(100).await.unwrap();
        reader.ack(deliveries.into_iter().map(|delivery| delivery.ticket));
        while let Ok(packet) = tokio::time::timeout(Duration::from_millis(200), client.next()).await {
            assert!(matches!(packet, Some(Packet::PubAck(_))), "{packet:?}");
            acked += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_acknowledges_what_was_taken_and_says_goodbye() {
    let house = House::new().await;
    let mut client = house.client(V5, "c").await;
    let id = client.id();
    let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), ..Publish::new("plant/t", "x") };
    client.send(&Packet::Publish(publish)).await;
    until("it is taken", || house.counted().messages_in == 1).await;
    house.stop.cancel();
    assert_eq!(client.next().await, Some(Packet::PubAck(Ack::new(id))));
    assert_eq!(client.end().await, Some(ReasonCode::ServerShuttingDown));
    tokio::time::timeout(LONG, house.running).await.unwrap().unwrap();
}
