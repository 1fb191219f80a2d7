//! What clients that do not keep to the protocol, or to their limits, can do: end their own connection.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use bytes::BytesMut;
use holdfast_gateway::Limits;
use holdfast_mqtt::*;
use holdfast_types::WhenFull;
use std::time::Duration;
use support::*;
use tokio::io::AsyncWriteExt;

use Version::{V5, V311};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_end_their_own_connection_with_the_reason_and_no_other() {
    let house = House::new().await;
    let mut bystander = house.client(V311, "bystander-2").await;
    let long_topic = {
        let mut bytes = BytesMut::new();
        let topic = "a/".repeat(32_767);
        Codec::client(V5, 0).encode(&Packet::Publish(Publish::new(topic, "")), &mut bytes).unwrap();
        bytes.to_vec()
    };
    let cases: Vec<(&str, Vec<u8>, ReasonCode)> = vec![
        ("reserved type", vec![0x00, 0], ReasonCode::MalformedPacket),
        ("QoS 3", vec![0x36, 6, 0, 1, b't', 0, 1, 0], ReasonCode::MalformedPacket),
        ("not UTF-8", vec![0x30, 5, 0, 2, 0xC3, 0x28, 0], ReasonCode::MalformedPacket),
        ("U+0000 in the topic", vec![0x30, 4, 0, 1, 0, 0], ReasonCode::MalformedPacket),
        ("wildcard in the topic", vec![0x30, 4, 0, 1, b'#', 0], ReasonCode::TopicNameInvalid),
        ("topic that ends too late", vec![0x30, 3, 0xFF, 0xFF, b'a'], ReasonCode::MalformedPacket),
        ("packet of 256 MiB", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
        ("length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF], ReasonCode::MalformedPacket),
        (
            "second CONNECT",
            vec![0x10, 15, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 2, b'c', b'd'],
            ReasonCode::ProtocolError,
        ),
        ("packet of a server", vec![0xD0, 0], ReasonCode::ProtocolError),
        ("filter a#", vec![0x82, 8, 0, 1, 0, 0, 2, b'a', b'#', 0], ReasonCode::TopicFilterInvalid),
        ("alias 0", vec![0x30, 7, 0, 1, b't', 3, 0x23, 0, 0], ReasonCode::TopicAliasInvalid),
        ("alias over the maximum", vec![0x30, 7, 0, 1, b't', 3, 0x23, 0, 99], ReasonCode::TopicAliasInvalid),
    ];
    for (what, bytes, reason) in cases {
        let mut client = house.client(V5, "bad").await;
        client.stream.write_all(&bytes).await.unwrap();
        assert_eq!(client.end().await, Some(reason), "{what}");
        assert_eq!(bystander.publish("plant/t", "x", 1).await, ReasonCode::Success, "{what}");
    }
    let mut client = house.client(V5, "long").await;
    client.stream.write_all(&long_topic).await.unwrap();
    assert_eq!(
        client.publish("plant/t", "x", 1).await,
        ReasonCode::Success,
        "a topic of 65,534 bytes is refused alone"
    );
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_speak_no_mqtt_or_an_unknown_version_are_shown_out() {
    let house = House::new().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1], &[0xC0, 0], &[0xFF; 100]] {
        let mut client = Client::dial(house.address, V311).await;
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.next().await, None);
    }
    for level in [3, 6] {
        let mut client = Client::dial(house.address, V311).await;
        let bytes = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 1, b'c'];
        client.stream.write_all(&bytes).await.unwrap();
        let ack = client.next().await;
        assert!(
            matches!(&ack, Some(Packet::ConnAck(ack)) if ack.reason == ReasonCode::UnsupportedProtocolVersion),
            "{ack:?}"
        );
    }
    let mut nameless = Client::dial(house.address, V311).await;
    let refused = nameless.connect(Connect { clean_start: false, ..connect(V311, "") }).await;
    assert_eq!(refused.reason, ReasonCode::ClientIdentifierNotValid);
    assert_eq!(nameless.next().await, None);
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_packet_over_its_limit_is_refused_before_it_is_read() {
    let house = House::new().await;
    let mut client = Client::dial(house.address, V311).await;
    client.stream.write_all(&[0x10, 0xFF, 0xFF, 0x7F]).await.unwrap();
    assert_eq!(client.next().await, None);
    let mut client = house.client(V311, "c").await;
    client.stream.write_all(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await.unwrap();
    assert_eq!(client.next().await, None);
    let counted = house.counted();
    assert_eq!((counted.packets_over_limit, counted.protocol_errors), (2, 2));
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_a_first_packet_over_its_limit_sees_the_reason_and_a_clean_end() {
    let house = House::new().await;
    let mut hello = BytesMut::new();
    let user = Connect { client_id: "c".repeat(60_000).into(), ..connect(V5, "") };
    Codec::client(V5, 0).encode(&Packet::Connect(Box::new(user)), &mut hello).unwrap();
    let mut illegal = vec![0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 1, 0, 0, 0, 0, 1, b'c'];
    illegal.extend([0; 20_000]);
    for (bytes, reason) in [(&hello[..], ReasonCode::PacketTooLarge), (&illegal, ReasonCode::MalformedPacket)]
    {
        let mut client = Client::dial(house.address, V5).await;
        client.stream.write_all(bytes).await.unwrap();
        let ack = client.next().await;
        assert!(matches!(&ack, Some(Packet::ConnAck(ack)) if ack.reason == reason), "{ack:?}");
        // Nothing that was sent lies unread, so that the end is an end and not a reset.
        let mut rest = [0; 10];
        assert_eq!(tokio::io::AsyncReadExt::read(&mut client.stream, &mut rest).await.unwrap(), 0);
    }
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_on_sending_when_it_is_told_to_go_can_read_why_and_is_cut_off() {
    let house = House::new().await;
    let mut client = house.client(V5, "endless").await;
    client.stream.write_all(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await.unwrap();
    client.stream.write_all(&[0; 512 << 10]).await.unwrap();
    assert_eq!(client.end().await, Some(ReasonCode::PacketTooLarge));
    while client.stream.write_all(&[0; 16 << 10]).await.is_ok() {}
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_clients_that_say_nothing_is_bounded_and_cleared() {
    let limits = Limits {
        ungreeted_max: 20,
        ungreeted_waiting_max: 30,
        // Long enough that also a busy machine gives places away before.
        connect_time_max: Duration::from_secs(6),
        ..Limits::default()
    };
    let house = House::limited(limits).await;
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(Client::dial(house.address, V311).await);
    }
    until("who finds no room in the line takes a place", || house.counted().connections_pushed_out >= 10)
        .await;
    until("those who had a while make room", || house.counted().connections_pushed_out >= 30).await;
    until("the others are too late", || {
        let counted = house.counted();
        counted.connects_too_late + counted.connections_turned_away + counted.connections_pushed_out >= 60
    })
    .await;
    for client in &mut idle {
        assert_eq!(client.next().await, None);
    }
    until("there is room again", || house.counted().connections == 0).await;
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_say_nothing_keep_no_client_out() {
    let limits = Limits { connections_max: 3, ungreeted_max: 50, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(Client::dial(house.address, V311).await);
    }
    // Three that stay: one that has just gone may still count for a moment.
    let _three = [house.client(V5, "1").await, house.client(V5, "2").await, house.client(V5, "3").await];
    let mut fourth = Client::dial(house.address, V5).await;
    assert_eq!(fourth.connect(connect(V5, "4")).await.reason, ReasonCode::ServerUnavailable);
    assert_eq!(idle[0].next().await, None, "the oldest has made room");
    assert_eq!(house.counted().connections_over_limit, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_readers_that_do_not_read_hold_is_bounded_in_bytes_and_given_back() {
    let limits = Limits { packet_bytes_max: 1 << 20, queues_bytes_max: 8 << 20, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut deaf = Vec::new();
    for n in 0..3 {
        let mut client = house.client(V5, &format!("deaf-{n}")).await;
        client.subscribe("plant/#", 0).await;
        deaf.push(client);
    }
    let mut sender = house.client(V311, "sender").await;
    let body = "x".repeat(900_000);
    let mut most = 0;
    for _ in 0..100 {
        assert_eq!(sender.publish("plant/t", &body, 1).await, ReasonCode::Success);
        most = most.max(house.counted().queued_bytes);
    }
    assert!((4 << 20..=8 << 20).contains(&most), "{most}");
    until("losses are counted, though the clients read nothing", || house.counted().messages_lost > 200)
        .await;
    let mut reader = house.client(V311, "reader").await;
    reader.subscribe("plant/#", 1).await;
    for _ in 0..50 {
        assert_eq!(sender.publish("plant/t", "small", 1).await, ReasonCode::Success);
        assert_eq!(reader.message().await.payload, "small", "who reads has room");
    }
    drop(deaf);
    until("it is given back", || house.counted().queued_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_acknowledges_nothing_is_cut_off_at_its_bytes_with_the_reason() {
    let limits = Limits { queue_bytes_max: 100_000, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut slow = house.client(V5, "slow").await;
    slow.subscribe("plant/#", 1).await;
    let mut sender = house.client(V311, "sender").await;
    let body = "x".repeat(10_000);
    for _ in 0..20 {
        sender.publish("plant/t", &body, 1).await;
        assert!(house.counted().queued_bytes <= 100_000);
    }
    assert_eq!(slow.end().await, Some(ReasonCode::QuotaExceeded));
    until("it is given back", || house.counted().queued_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_by_the_dozen_do_not_keep_others_waiting_beyond_their_time() {
    // A machine with other work takes its time for each.
    let house = House::limited(Limits { connect_time_max: LONG, ..Limits::default() }).await;
    house.serves().await;
    let mut tasks = Vec::new();
    for n in 0..24 {
        let address = house.address;
        tasks.push(tokio::spawn(async move {
            let mut client = Client::dial(address, V311).await;
            let wrong = Connect { password: Some(format!("wrong {n}").into()), ..connect(V311, "w") };
            client.connect(wrong).await.reason
        }));
    }
    house.serves().await;
    for task in tasks {
        assert_eq!(task.await.unwrap(), ReasonCode::BadUserNameOrPassword);
    }
    assert!((1..=24).contains(&house.counted().password_checks_waited));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_loses_qos0_messages_and_holds_nobody() {
    let limits = Limits { queue_messages_max: 200, write_buffer_bytes_max: 16 << 10, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut slow = house.client(V5, "slow").await;
    slow.subscribe("plant/#", 0).await;
    let mut good = house.client(V311, "good").await;
    good.subscribe("plant/#", 0).await;
    let mut sender = house.client(V311, "sender").await;
    let body = "x".repeat(32 << 10);
    let start = std::time::Instant::now();
    for _ in 0..1500 {
        assert_eq!(sender.publish("plant/t", &body, 1).await, ReasonCode::Success);
        assert_eq!(good.message().await.payload.len(), body.len());
    }
    assert!(start.elapsed() < LONG);
    until("losses are counted", || house.broker.counters().lost_by_subscribers > 0).await;
    assert!(slow.message().await.payload.len() == body.len(), "it is still connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_qos1_messages_is_cut_off_with_the_reason() {
    let limits = Limits { queue_messages_max: 50, window_max: 10, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut slow = house.client(V5, "slow").await;
    slow.subscribe("plant/#", 1).await;
    let mut sender = house.client(V311, "sender").await;
    for _ in 0..200 {
        sender.publish("plant/t", "x", 1).await;
    }
    for _ in 0..10 {
        assert!(matches!(slow.next().await, Some(Packet::Publish(_))));
    }
    let mut acks = BytesMut::new();
    for n in 1..=10 {
        let ack = Packet::PubAck(Ack::new(PacketId::new(n).unwrap()));
        slow.codec.encode(&ack, &mut acks).unwrap();
    }
    slow.stream.write_all(&acks).await.unwrap();
    assert_eq!(slow.end().await, Some(ReasonCode::QuotaExceeded));
    assert_eq!(house.counted().too_slow, 1);
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_bytes_is_cut_off() {
    let limits = Limits {
        write_stall_max: Duration::from_millis(500),
        write_buffer_bytes_max: 16 << 10,
        queue_messages_max: 10,
        ..Limits::default()
    };
    let house = House::limited(limits).await;
    let mut slow = house.client(V311, "slow").await;
    slow.subscribe("plant/#", 0).await;
    let mut sender = house.client(V311, "sender").await;
    let body = "x".repeat(64 << 10);
    until("it is cut off", || {
        house.counted().connections == 1 || {
            futures_publish(&mut sender, &body);
            false
        }
    })
    .await;
    assert_eq!(house.counted().too_slow, 1);
}

/// Hands bytes over without waiting; what does not fit is left out.
fn futures_publish(client: &mut Client, body: &str) {
    let mut bytes = BytesMut::new();
    client.codec.encode(&Packet::Publish(Publish::new("plant/t", body.to_owned())), &mut bytes).unwrap();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match client.stream.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_ahead_of_a_full_log_is_held_back_and_counted_and_goes_on_when_there_is_room() {
    let house = House::with(Limits { unacked_max: 8, ..Limits::default() }, WhenFull::Block, 1 << 20).await;
    let mut client = house.client(V311, "c").await;
    let (body, mut sent) = ("x".repeat(16 << 10), 0);
    for _ in 0..100 {
        let packet_id = Some(client.id());
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id, ..Publish::new("plant/t", body.clone()) };
        client.send(&Packet::Publish(publish)).await;
        sent += 1;
    }
    until("it is not read from", || house.counted().held_back > 0).await;
    let mut reader = house.broker.reader(holdfast_types::LogId::upstream());
    let mut acknowledged = 0;
    while acknowledged < sent {
        tokio::select! {
            deliveries = reader.next(100) => {
                reader.ack(deliveries.unwrap().into_iter().map(|delivery| delivery.ticket));
            }
            packet = client.next() => {
                assert!(matches!(packet, Some(Packet::PubAck(_))), "{packet:?}");
                acknowledged += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_pace_is_slowed_down_and_not_cut_off() {
    let house = House::limited(Limits { messages_per_second_max: Some(100), ..Limits::default() }).await;
    let mut client = house.client(V311, "c").await;
    let start = std::time::Instant::now();
    for _ in 0..150 {
        assert_eq!(client.publish("plant/t", "x", 1).await, ReasonCode::Success);
    }
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_more_bytes_than_it_may_is_slowed_down_and_counted() {
    let limits = Limits { bytes_per_second_max: Some(100 << 10), ..Limits::default() };
    let house = House::limited(limits).await;
    let mut client = house.client(V311, "c").await;
    let start = std::time::Instant::now();
    let body = "x".repeat(10 << 10);
    for _ in 0..15 {
        assert_eq!(client.publish("plant/t", &body, 1).await, ReasonCode::Success);
    }
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert!(house.counted().paced > 0);
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_refused_and_left_out_of_a_wider_subscription() {
    let house = House::new().await;
    let mut press = house.client(V5, "press").await;
    let retained = Publish { retain: true, ..Publish::new("plant/secret/kept", "kept") };
    press.send(&Packet::Publish(retained)).await;
    assert_eq!(press.publish("plant/ready", "1", 1).await, ReasonCode::Success);
    for version in [V311, V5] {
        let mut oven = Client::dial(house.address, version).await;
        let user_name = Some("oven".into());
        oven.connect(Connect { user_name, ..connect(version, "oven") }).await;
        assert_eq!(oven.subscribe("plant/secret/+", 1).await, ReasonCode::UnspecifiedError);
        assert_eq!(oven.subscribe("plant/#", 1).await, ReasonCode::GrantedQos1);
        press.publish("plant/secret/t", "not for the oven", 1).await;
        press.publish("plant/t", "for all", 1).await;
        assert_eq!(oven.message().await.payload, "for all");
    }
    let mut oven = Client::dial(house.address, V5).await;
    oven.connect(Connect { user_name: Some("oven".into()), ..connect(V5, "oven") }).await;
    assert_eq!(oven.publish("plant/secret/t", "x", 1).await, ReasonCode::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_subscriptions_sessions_and_properties_are_refused_one_by_one() {
    let limits = Limits { subscriptions_max: 2, sessions_max: 2, ..Limits::default() };
    let house = House::limited(limits).await;
    let mut first = house.client(V5, "1").await;
    first.subscribe("plant/1", 0).await;
    first.subscribe("plant/2", 0).await;
    assert_eq!(first.subscribe("plant/3", 0).await, ReasonCode::QuotaExceeded);
    assert_eq!(first.subscribe("plant/2", 1).await, ReasonCode::GrantedQos1);
    let id = first.id();
    let properties = PublishProperties {
        user_properties: (0..20_000).map(|n| (n.to_string().into(), "".into())).collect(),
        ..Default::default()
    };
    let packet_id = Some(id);
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        packet_id,
        properties: Some(Box::new(properties)),
        ..Publish::new("plant/t", "")
    };
    first.send(&Packet::Publish(publish)).await;
    assert_eq!(first.next().await, Some(Packet::PubAck(Ack::with(id, ReasonCode::QuotaExceeded))));
    let _second = house.client(V5, "2").await;
    let mut third = Client::dial(house.address, V5).await;
    assert_eq!(third.connect(connect(V5, "3")).await.reason, ReasonCode::ServerUnavailable);
    let counted = house.counted();
    assert_eq!((counted.subscriptions_over_limit, counted.sessions_over_limit), (1, 1));
}
