//! Chapters 3.3 to 3.7, 4.3 to 4.6 and 4.9: messages, their properties, qualities of service, order and flow.

use super::*;
use std::num::NonZeroU16;

#[tokio::test(flavor = "multi_thread")]
async fn each_quality_of_service_has_its_answers_with_the_identifier_of_the_message() {
    let house = House::new().await;
    for version in BOTH {
        let mut client = house.client(version, "c").await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let one = Publish { qos, ..message("plant/t", "x") };
            assert_eq!(publish(&mut client, one).await, ReasonCode::Success);
        }
        client.send(&Packet::PingReq).await;
        assert_eq!(client.next().await, Some(Packet::PingResp), "and no answer more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_the_lesser_of_what_was_published_and_granted() {
    let house = House::new().await;
    let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        for granted in all {
            let mut client = house.client(version, "c").await;
            subscribe(&mut client, None, vec![Subscription::new("plant/t", granted)]).await;
            for qos in all {
                publish(&mut sender, Publish { qos, ..message("plant/t", "x") }).await;
                let got = client.message().await;
                assert_eq!((got.qos, got.dup), (qos.min(granted), false), "{qos:?} {granted:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_sender_arrive_in_its_order() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        let mut client = house.client(version, "c").await;
        client.subscribe("plant/#", 2).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            // All of them are under way at once.
            let mut ids = Vec::new();
            for n in 0..20 {
                let packet_id = (qos != QoS::AtMostOnce).then(|| sender.id());
                let one = Publish { qos, packet_id, ..Publish::new("plant/t", n.to_string()) };
                sender.send(&Packet::Publish(one)).await;
                ids.extend(packet_id);
            }
            for id in &ids {
                let answer = match qos {
                    QoS::ExactlyOnce => Packet::PubRec(Ack::new(*id)),
                    _ => Packet::PubAck(Ack::new(*id)),
                };
                assert_eq!(sender.next().await, Some(answer), "answers are in the order of the messages");
            }
            if qos == QoS::ExactlyOnce {
                for id in ids {
                    sender.send(&Packet::PubRel(Ack::new(id))).await;
                    assert_eq!(sender.next().await, Some(Packet::PubComp(Ack::new(id))));
                }
            }
            for n in 0..20 {
                assert_eq!(client.message().await.payload, n.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_reach_every_subscriber_unaltered_and_in_order() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    let mut clients = [house.client(Version::V5, "c").await, house.client(Version::V5, "d").await];
    for client in &mut clients {
        client.subscribe("plant/#", 1).await;
    }
    let pair = |name: &'static str, value: &'static str| (name.into(), value.into());
    let properties = PublishProperties {
        payload_is_utf8: true,
        response_topic: Some("plant/answers".into()),
        correlation_data: Some(bytes::Bytes::from_static(&[0, 0xFF, 7])),
        content_type: Some("text/plain".into()),
        user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3"), pair("", "")],
        ..Default::default()
    };
    let sent = Publish { properties: Some(Box::new(properties.clone())), ..message("plant/t", "text") };
    publish(&mut sender, sent).await;
    for client in &mut clients {
        assert_eq!(client.message().await.properties.map(|all| *all), Some(properties.clone()));
    }
    let mut old = house.client(Version::V311, "old").await;
    old.subscribe("plant/old", 1).await;
    let sent = Publish { properties: Some(Box::default()), ..message("plant/old", "x") };
    publish(&mut sender, sent).await;
    assert_eq!(old.message().await.payload, "x", "version 3.1.1 gets the message without them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_not_the_text_it_is_said_to_be_is_refused() {
    let house = House::new().await;
    let mut client = house.client(Version::V5, "c").await;
    let properties = PublishProperties { payload_is_utf8: true, ..Default::default() };
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let bad = Publish {
            qos,
            properties: Some(Box::new(properties.clone())),
            ..Publish::new("plant/t", &[0xC3, 0x28][..])
        };
        assert_eq!(publish(&mut client, bad).await, ReasonCode::PayloadFormatInvalid);
    }
    assert_eq!(house.recorded(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_tells_the_rest_of_its_life_and_is_not_delivered_after_it() {
    let house = House::new().await;
    let (mut away, _) = session(&house, Version::V5, "away", true).await;
    away.subscribe("plant/#", 1).await;
    away.leave().await;
    let mut sender = house.client(Version::V5, "sender").await;
    for (payload, expiry) in [("short", Some(1)), ("long", Some(100)), ("ever", None)] {
        let properties = PublishProperties { message_expiry_s: expiry, ..Default::default() };
        let sent = Publish { properties: Some(Box::new(properties)), ..message("plant/t", payload) };
        publish(&mut sender, sent).await;
    }
    // A life counts in seconds: nothing but time ends it.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let (mut back, present) = session(&house, Version::V5, "away", false).await;
    assert!(present);
    let long = back.message().await;
    assert_eq!(long.payload, "long");
    let rest = long.properties.unwrap().message_expiry_s.unwrap();
    assert!((50..100).contains(&rest), "{rest}");
    let ever = back.message().await;
    assert_eq!((&*ever.payload, ever.properties), (&b"ever"[..], None));
    assert_eq!(house.counted().messages_expired, 1);
}

fn aliased(topic: &'static str, alias: u16) -> Publish {
    let properties = PublishProperties { topic_alias: NonZeroU16::new(alias), ..Default::default() };
    Publish { properties: Some(Box::new(properties)), ..message(topic, "x") }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_alias_up_to_the_maximum_is_taken_and_ends_with_its_connection() {
    let house = House::new().await;
    let mut reader = house.client(Version::V5, "reader").await;
    reader.subscribe("plant/#", 0).await;
    let mut client = Client::dial(house.address, Version::V5).await;
    let max = client.connect(connect(Version::V5, "c")).await.topic_alias_maximum;
    assert!(max > 0);
    for alias in 1..=max {
        publish(&mut client, aliased("plant/t", alias)).await;
        publish(&mut client, aliased("", alias)).await;
        for _ in 0..2 {
            let got = reader.message().await;
            assert_eq!((&*got.topic, got.properties), ("plant/t", None));
        }
    }
    client.leave().await;
    for (topic, alias, reason) in
        [("", 1, ReasonCode::ProtocolError), ("plant/t", max + 1, ReasonCode::TopicAliasInvalid)]
    {
        let mut client = house.client(Version::V5, "c").await;
        let packet_id = Some(client.id());
        client.send(&Packet::Publish(Publish { packet_id, ..aliased(topic, alias) })).await;
        assert_eq!(client.end().await, Some(reason));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_uses_no_more_topic_aliases_than_the_client_takes() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    for max in [0, 1] {
        let mut client = Client::dial(house.address, Version::V5).await;
        client.connect(Connect { topic_alias_maximum: max, ..connect(Version::V5, "c") }).await;
        client.subscribe("plant/#", 1).await;
        for topic in ["plant/a", "plant/a", "plant/b"] {
            publish(&mut sender, message(topic, "x")).await;
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let got = client.message().await;
            let alias = got.properties.and_then(|all| all.topic_alias);
            seen.push((got.topic.to_string(), alias.map_or(0, NonZeroU16::get)));
        }
        let expected = match max {
            0 => [("plant/a", 0), ("plant/a", 0), ("plant/b", 0)],
            _ => [("plant/a", 1), ("", 1), ("plant/b", 0)],
        };
        assert_eq!(seen, expected.map(|(topic, alias)| (topic.to_owned(), alias)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_messages_are_sent_than_the_client_takes_and_nothing_else_is_held() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    let mut client = Client::dial(house.address, Version::V5).await;
    client.connect(Connect { receive_maximum: NonZeroU16::new(2), ..connect(Version::V5, "c") }).await;
    client.subscribe("plant/#", 2).await;
    for payload in ["1", "2", "3"] {
        publish(&mut sender, Publish { qos: QoS::ExactlyOnce, ..message("plant/t", payload) }).await;
    }
    let mut ids = Vec::new();
    for payload in ["1", "2"] {
        match client.next().await {
            Some(Packet::Publish(got)) if got.payload == payload => ids.push(got.packet_id.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    client.send(&Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp), "the third waits, the answer does not");
    client.send(&Packet::PubRec(Ack::new(ids[0]))).await;
    assert_eq!(client.next().await, Some(Packet::PubRel(Ack::new(ids[0]))));
    client.send(&Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp), "PUBREC gives no room");
    client.send(&Packet::PubComp(Ack::new(ids[0]))).await;
    assert!(matches!(client.next().await, Some(Packet::Publish(got)) if got.payload == "3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unacknowledged_messages_come_again_on_the_next_connection_only_and_in_order() {
    let house = House::new().await;
    for version in BOTH {
        let name = format!("c-{version}");
        let (mut client, _) = session(&house, version, &name, false).await;
        client.subscribe("plant/#", 2).await;
        let mut sender = house.client(version, "sender").await;
        for (qos, payload) in [(1, "1"), (2, "2"), (2, "3"), (1, "4")] {
            let qos = QoS::from_level(qos).unwrap();
            publish(&mut sender, Publish { qos, ..message("plant/t", payload) }).await;
        }
        let mut ids = Vec::new();
        for _ in 0..4 {
            match client.next().await {
                Some(Packet::Publish(got)) if !got.dup => ids.push(got.packet_id.unwrap()),
                other => panic!("{other:?}"),
            }
        }
        client.send(&Packet::PubRec(Ack::new(ids[1]))).await;
        assert_eq!(client.next().await, Some(Packet::PubRel(Ack::new(ids[1]))));
        client.send(&Packet::PingReq).await;
        assert_eq!(client.next().await, Some(Packet::PingResp), "nothing comes twice on one connection");
        drop(client);
        let (mut back, present) = session(&house, version, &name, false).await;
        assert!(present);
        for (at, payload) in [(0, "1"), (2, "3"), (3, "4")] {
            if at == 2 {
                assert_eq!(back.next().await, Some(Packet::PubRel(Ack::new(ids[1]))), "not PUBLISH again");
            }
            match back.next().await {
                Some(Packet::Publish(got)) => {
                    assert_eq!(
                        (got.dup, got.packet_id, &*got.payload),
                        (true, Some(ids[at]), payload.as_bytes())
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_client_refuses_is_not_sent_again() {
    let house = House::new().await;
    let (mut client, _) = session(&house, Version::V5, "c", true).await;
    client.subscribe("plant/#", 2).await;
    let mut sender = house.client(Version::V5, "sender").await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publish(&mut sender, Publish { qos, ..message("plant/t", "x") }).await;
        let Some(Packet::Publish(got)) = client.next().await else { panic!("no message") };
        let refusal = Ack::with(got.packet_id.unwrap(), ReasonCode::QuotaExceeded);
        let refusal = match qos {
            QoS::ExactlyOnce => Packet::PubRec(refusal),
            _ => Packet::PubAck(refusal),
        };
        client.send(&refusal).await;
    }
    client.send(&Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp), "no PUBREL for what was refused");
    client.leave().await;
    let (mut back, _) = session(&house, Version::V5, "c", false).await;
    back.send(&Packet::PingReq).await;
    assert_eq!(back.next().await, Some(Packet::PingResp));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos2_message_sent_again_is_delivered_once_and_a_released_identifier_is_new() {
    let house = House::new().await;
    for version in BOTH {
        let mut reader = house.client(version, "reader").await;
        reader.subscribe("plant/#", 0).await;
        let mut client = house.client(version, "c").await;
        let id = client.id();
        let sent = Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), ..Publish::new("plant/t", "once") };
        for dup in [false, true, true] {
            client.send(&Packet::Publish(Publish { dup, ..sent.clone() })).await;
            assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
        }
        client.send(&Packet::PubRel(Ack::new(id))).await;
        assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
        client.send(&Packet::Publish(Publish { payload: "new".into(), ..sent })).await;
        assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
        assert_eq!(reader.message().await.payload, "once");
        assert_eq!(reader.message().await.payload, "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos1_message_with_an_identifier_that_was_acknowledged_is_new() {
    let house = House::new().await;
    for version in BOTH {
        let mut reader = house.client(version, "reader").await;
        reader.subscribe("plant/#", 1).await;
        let mut client = house.client(version, "c").await;
        let id = client.id();
        for (dup, payload) in [(false, "1"), (true, "2")] {
            let sent = Publish { dup, packet_id: Some(id), ..message("plant/t", payload) };
            client.send(&Packet::Publish(sent)).await;
            assert_eq!(client.next().await, Some(Packet::PubAck(Ack::new(id))));
            let got = reader.message().await;
            assert_eq!((&*got.payload, got.dup), (payload.as_bytes(), false), "DUP is not handed on");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_was_refused_is_free_for_a_new_message() {
    let house = House::new().await;
    let mut reader = house.client(Version::V5, "reader").await;
    reader.subscribe("plant/#", 0).await;
    let mut client = house.client(Version::V5, "c").await;
    let id = client.id();
    let sent = |topic, payload| {
        let publish = Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), ..message(topic, payload) };
        Packet::Publish(publish)
    };
    client.send(&sent("oven/t", "refused")).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::with(id, ReasonCode::NotAuthorized))));
    client.send(&sent("plant/t", "new")).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    assert_eq!(reader.message().await.payload, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos2_message_that_has_begun_its_way_completes_it_beyond_its_life() {
    let house = House::new().await;
    let (mut reader, _) = session(&house, Version::V5, "reader", true).await;
    reader.subscribe("plant/#", 2).await;
    let mut client = house.client(Version::V5, "c").await;
    let id = client.id();
    let properties = PublishProperties { message_expiry_s: Some(1), ..Default::default() };
    let sent = Publish {
        qos: QoS::ExactlyOnce,
        packet_id: Some(id),
        properties: Some(Box::new(properties)),
        ..message("plant/t", "short")
    };
    client.send(&Packet::Publish(sent)).await;
    assert_eq!(client.next().await, Some(Packet::PubRec(Ack::new(id))));
    let Some(Packet::Publish(first)) = reader.next().await else { panic!("no message") };
    drop(reader);
    // A life counts in seconds: nothing but time ends it.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    client.send(&Packet::PubRel(Ack::new(id))).await;
    assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
    let (mut back, present) = session(&house, Version::V5, "reader", false).await;
    assert!(present);
    let again = back.message().await;
    assert_eq!((&*again.payload, again.dup, again.packet_id), (&b"short"[..], true, first.packet_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_recorded_ends_the_connection_that_it_came_on() {
    let house = House::new().await;
    let mut bystander = house.client(Version::V311, "bystander").await;
    let mut client = house.client(Version::V311, "c").await;
    house.broker.store().close().unwrap();
    let id = client.id();
    let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), ..Publish::new("plant/t", "x") };
    client.send(&Packet::Publish(publish)).await;
    assert_eq!(client.end().await, None, "no acknowledgement, and no more of this connection");
    bystander.send(&Packet::PingReq).await;
    assert_eq!(bystander.next().await, Some(Packet::PingResp), "others stay");
}
