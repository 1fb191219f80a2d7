//! Chapters 1.5, 2.1, 3.1, 3.8, 3.10 and 4.13: what is formed otherwise than it should be.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A text as it is written.
fn field(bytes: &[u8]) -> Vec<u8> {
    [&[0, bytes.len() as u8], bytes].concat()
}

/// What is answered to bytes on a new connection, up to its end.
async fn answer(house: &House, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::dial(house.address, Version::V5).await;
    client.stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = client.stream.read_to_end(&mut answer);
    tokio::time::timeout(support::LONG, read).await.expect("the connection ends").unwrap();
    answer
}

/// A packet on a connection that was accepted ends it, in version 5 with a reason.
async fn ends(house: &House, version: Version, bytes: &[u8], reason: ReasonCode) {
    let mut client = house.client(version, "bad").await;
    client.stream.write_all(bytes).await.unwrap();
    assert_eq!(client.end().await, (version == Version::V5).then_some(reason), "{version} {bytes:x?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_bits_of_a_header_end_the_connection() {
    let house = House::new().await;
    for version in BOTH {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let subscribe = [&[0, 1][..], none, &field(b"plant/t"), &[0]].concat();
        let unsubscribe = [&[0, 1][..], none, &field(b"plant/t")].concat();
        let cases = [
            (0x60, vec![0, 1]),
            (0x63, vec![0, 1]),
            (0x80, subscribe.clone()),
            (0x83, subscribe),
            (0xA0, unsubscribe.clone()),
            (0xA3, unsubscribe),
            (0xC1, vec![]),
            (0xE1, vec![]),
        ];
        for (first, body) in cases {
            let packet = [&[first, body.len() as u8], &body[..]].concat();
            ends(&house, version, &packet, ReasonCode::MalformedPacket).await;
        }
    }
    ends(&house, Version::V5, &[0xF1, 0], ReasonCode::MalformedPacket).await;
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_which_version_3_1_1_has_no_code_is_the_end_of_the_connection_alone() {
    let house = House::new().await;
    // Larger than a stranger's first packet may be. Its length says so before the rest of it has come.
    let connect = [&[0x10, 0xA0, 0x9C, 0x01][..], &field(b"MQTT"), &[4, 0xC2, 0, 60], &field(b"c")].concat();
    assert!(answer(&house, &connect).await.is_empty());
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_whose_flags_and_fields_do_not_fit_ends_the_connection() {
    let house = House::new().await;
    let id = field(b"c");
    let (name, password) = (field(b"press"), field(b"secret"));
    for version in [4, 5] {
        let none: &[u8] = if version == 5 { &[0] } else { &[] };
        let will = [none, &field(b"plant/wills"), &field(b"gone")].concat();
        let connect = |flags: u8, fields: &[&[u8]]| {
            let body = [&field(b"MQTT")[..], &[version, flags, 0, 60], none, &fields.concat()].concat();
            [&[0x10, body.len() as u8][..], &body].concat()
        };
        let mut cases = vec![
            ("no identifier", connect(0x02, &[])),
            ("reserved flag", connect(0xC3, &[&id, &name, &password])),
            ("will QoS without will", connect(0xCA, &[&id, &name, &password])),
            ("will retain without will", connect(0xE2, &[&id, &name, &password])),
            ("will QoS 3", connect(0xDE, &[&id, &will, &name, &password])),
            ("will flag without will", connect(0x06, &[&id])),
            ("will flag without payload", connect(0x06, &[&id, none, &field(b"plant/wills")])),
            ("will without its flag", connect(0xC2, &[&id, &will, &name, &password])),
            ("user flag without user", connect(0x82, &[&id])),
            ("user without its flag", connect(0x02, &[&id, &name])),
            ("password flag without password", connect(0xC2, &[&id, &name])),
            ("password without its flag", connect(0x82, &[&id, &name, &password])),
            ("fields in another order", connect(0xC6, &[&id, &name, &password, &[0xFF], &will])),
        ];
        if version == 4 {
            cases.push(("password flag without user flag", connect(0x42, &[&id, &password])));
        }
        for (what, bytes) in cases {
            let answered = answer(&house, &bytes).await;
            // Version 5 may say why; version 3.1.1 has no word for it.
            assert!(version == 5 || answered.is_empty(), "{what}: {answered:x?}");
            assert!(answered.is_empty() || (answered[0], answered[3] >= 0x80) == (0x20, true), "{what}");
        }
        let right = connect(0xC6, &[&id, &will, &name, &password]);
        let whole = [&right[..], &[0xE0, 0]].concat();
        assert_eq!(answer(&house, &whole).await[3], 0, "the same with all that belongs to it is accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_anywhere_in_a_packet_are_checked() {
    let house = House::new().await;
    for text in [&[0xC3, 0x28][..], &[0xED, 0xA0, 0x80], &[b'a', 0]] {
        let bad = field(text);
        for version in BOTH {
            let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            for (first, end) in [(0x82, &[0][..]), (0xA2, &[])] {
                let body = [&[0, 1], none, &bad, end].concat();
                let packet = [&[first, body.len() as u8][..], &body].concat();
                ends(&house, version, &packet, ReasonCode::MalformedPacket).await;
            }
        }
        // Response topic, content type, name and value of a user property.
        let properties = [
            [&[0x08][..], &bad].concat(),
            [&[0x03][..], &bad].concat(),
            [&[0x26][..], &bad, &field(b"value")].concat(),
            [&[0x26][..], &field(b"name"), &bad].concat(),
        ];
        for all in properties {
            let body = [&field(b"plant/t")[..], &[all.len() as u8], &all].concat();
            let packet = [&[0x30, body.len() as u8][..], &body].concat();
            ends(&house, Version::V5, &packet, ReasonCode::MalformedPacket).await;
        }
    }
    assert_eq!(house.recorded(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_filter_or_with_reserved_options_end_the_connection() {
    let house = House::new().await;
    for version in BOTH {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        for first in [0x82, 0xA2] {
            let packet = [&[first, 2 + none.len() as u8, 0, 1][..], none].concat();
            ends(&house, version, &packet, ReasonCode::ProtocolError).await;
        }
        let options: &[u8] = match version {
            Version::V5 => &[0x40, 0x80],
            Version::V311 => &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x03],
        };
        for option in options {
            let body = [&[0, 1], none, &field(b"plant/t"), &[*option]].concat();
            let packet = [&[0x82, body.len() as u8][..], &body].concat();
            ends(&house, version, &packet, ReasonCode::MalformedPacket).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_would_not_fit_are_not_said() {
    let house = House::new().await;
    // Room for the CONNACK that tells the terms, and hardly more.
    let hello = || Connect { maximum_packet_bytes: Some(32), ..connect(Version::V5, "small") };
    let mut refused = Client::dial(house.address, Version::V5).await;
    let ack = refused.connect(Connect { password: Some("wrong".into()), ..hello() }).await;
    assert_eq!((ack.reason, ack.reason_string), (ReasonCode::BadUserNameOrPassword, None));
    assert_eq!(ack.user_properties, []);
    let mut client = Client::dial(house.address, Version::V5).await;
    let ack = client.connect(hello()).await;
    assert_eq!((ack.reason, ack.reason_string), (ReasonCode::Success, None));
    let (one, two, three) = (client.id(), client.id(), client.id());
    let oven = |qos, id| Packet::Publish(Publish { qos, packet_id: Some(id), ..message("oven/t", "x") });
    client.send(&oven(QoS::AtLeastOnce, one)).await;
    assert_eq!(client.next().await, Some(Packet::PubAck(Ack::with(one, ReasonCode::NotAuthorized))));
    client.send(&oven(QoS::ExactlyOnce, two)).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::with(two, ReasonCode::NotAuthorized))));
    client.send(&Packet::PubRel(Ack::new(two))).await;
    let unknown = Ack::with(two, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(client.next().await, Some(Packet::PubComp(unknown)));
    let subscribe = Subscribe {
        packet_id: three,
        subscription_id: None,
        user_properties: vec![],
        subscriptions: vec![Subscription::new("oven/#", QoS::AtMostOnce)],
    };
    client.send(&Packet::Subscribe(Box::new(subscribe))).await;
    match client.next().await {
        Some(Packet::SubAck(ack)) => assert_eq!(
            (ack.reasons, ack.properties),
            (vec![ReasonCode::NotAuthorized], AckProperties::default())
        ),
        other => panic!("{other:?}"),
    }
    let unsubscribe =
        Unsubscribe { packet_id: three, filters: vec!["oven/#".into()], user_properties: vec![] };
    client.send(&Packet::Unsubscribe(Box::new(unsubscribe))).await;
    match client.next().await {
        Some(Packet::UnsubAck(ack)) => assert_eq!(
            (ack.reasons, ack.properties),
            (vec![ReasonCode::NoSubscriptionExisted], AckProperties::default())
        ),
        other => panic!("{other:?}"),
    }
}
