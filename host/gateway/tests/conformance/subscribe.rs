//! Chapters 3.8 to 3.11, 4.7 and 4.8: subscriptions, their options, and shared ones.

use super::*;
use support::until;

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_has_its_reason_in_its_place() {
    let house = House::new().await;
    for version in BOTH {
        let mut client = house.client(version, "c").await;
        let qos = |level| QoS::from_level(level).unwrap();
        let wanted = [("plant/a", 2), ("oven/no", 1), ("plant/b", 0), ("plant/c", 1)];
        let wanted = wanted.map(|(filter, level)| Subscription::new(filter, qos(level)));
        let no = match version {
            Version::V5 => ReasonCode::NotAuthorized,
            Version::V311 => ReasonCode::UnspecifiedError,
        };
        let expected = [ReasonCode::GrantedQos2, no, ReasonCode::Success, ReasonCode::GrantedQos1];
        assert_eq!(subscribe(&mut client, None, wanted.to_vec()).await, expected);
        // A filter that names the same topics is another one.
        let gone =
            unsubscribe(&mut client, &["plant/b", "plant/nothing", "plant/a", "plant/+", "plant/#"]).await;
        let nothing = unsubscribe(&mut client, &["plant/nothing"]).await;
        if version == Version::V5 {
            use ReasonCode::{NoSubscriptionExisted as No, Success};
            assert_eq!((gone, nothing), (vec![Success, No, Success, No, No], vec![No]));
        }
        let mut sender = house.client(version, "sender").await;
        for topic in ["plant/a", "plant/b", "plant/c"] {
            publish(&mut sender, message(topic, "x")).await;
            if topic == "plant/c" {
                assert_eq!(client.message().await.topic, topic);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_with_the_same_filter_takes_the_place_of_the_one_before() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        let mut client = house.client(version, "c").await;
        for (id, qos) in [(1, QoS::ExactlyOnce), (2, QoS::AtMostOnce)] {
            let id = (version == Version::V5).then_some(id);
            subscribe(&mut client, id, vec![Subscription::new("plant/t", qos)]).await;
            publish(&mut sender, message("plant/t", "x")).await;
            let got = client.message().await;
            assert_eq!(got.qos, qos.min(QoS::AtLeastOnce));
            let ids = got.properties.map(|all| all.subscription_ids).unwrap_or_default();
            assert_eq!(ids, id.into_iter().collect::<Vec<u32>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_subscriptions_give_one_copy_with_the_best_quality_and_all_identifiers() {
    let house = House::new().await;
    let mut client = house.client(Version::V5, "c").await;
    for (id, filter, qos) in [
        (1, "plant/+", QoS::AtMostOnce),
        (2, "plant/#", QoS::ExactlyOnce),
        (3, "plant/other", QoS::AtMostOnce),
    ] {
        subscribe(&mut client, Some(id), vec![Subscription::new(filter, qos)]).await;
    }
    let mut sender = house.client(Version::V5, "sender").await;
    for payload in ["first", "second"] {
        publish(&mut sender, Publish { qos: QoS::ExactlyOnce, ..message("plant/t", payload) }).await;
        let got = client.message().await;
        assert_eq!((&*got.payload, got.qos), (payload.as_bytes(), QoS::ExactlyOnce));
        let mut ids = got.properties.unwrap().subscription_ids;
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_nothing_of_its_own_gets_nothing_of_its_own() {
    let house = House::new().await;
    let mut client = house.client(Version::V5, "c").await;
    let wanted = Subscription { no_local: true, ..Subscription::new("plant/t", QoS::AtLeastOnce) };
    subscribe(&mut client, None, vec![wanted]).await;
    publish(&mut client, message("plant/t", "mine")).await;
    let mut other = house.client(Version::V5, "other").await;
    publish(&mut other, message("plant/t", "another's")).await;
    assert_eq!(client.message().await.payload, "another's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_an_unsubscription_is_still_acknowledged_to_the_end() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        let mut client = house.client(version, "c").await;
        client.subscribe("plant/t", 2).await;
        publish(&mut sender, Publish { qos: QoS::ExactlyOnce, ..message("plant/t", "x") }).await;
        let Some(Packet::Publish(got)) = client.next().await else { panic!("no message") };
        unsubscribe(&mut client, &["plant/t"]).await;
        publish(&mut sender, message("plant/t", "after")).await;
        let id = got.packet_id.unwrap();
        client.send(&Packet::PubRec(Ack::new(id))).await;
        assert_eq!(client.next().await, Some(Packet::PubRel(Ack::new(id))));
        client.send(&Packet::PubComp(Ack::new(id))).await;
        client.send(&Packet::PingReq).await;
        assert_eq!(client.next().await, Some(Packet::PingResp), "nothing new comes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_compared_byte_by_byte() {
    let house = House::new().await;
    for version in BOTH {
        let mut client = house.client(version, "c").await;
        client.subscribe("plant/Ä", 0).await;
        // A capital, and the same letter as two characters.
        for topic in ["plant/ä", "plant/A\u{308}", "plant//Ä", "plant/Ä/", "plant/Ä"] {
            client.publish(topic, topic, 0).await;
        }
        assert_eq!(client.message().await.payload, "plant/Ä");
    }
}

/// Members of a group, each with its own connection.
async fn members(house: &House, version: Version, qos: QoS) -> Vec<Client> {
    let mut all = Vec::new();
    for name in ["member-1", "member-2"] {
        let (mut member, _) = session(house, version, name, true).await;
        let shared = Subscription::new("$share/group/plant/#", qos);
        assert!(!subscribe(&mut member, None, vec![shared]).await[0].is_failure());
        all.push(member);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_each_message_once_and_its_members_take_turns() {
    let house = House::new().await;
    for version in BOTH {
        let mut members = members(&house, version, QoS::AtLeastOnce).await;
        let mut alone = house.client(version, "alone").await;
        alone.subscribe("plant/#", 0).await;
        let mut sender = house.client(version, "sender").await;
        for n in 0..10 {
            sender.publish("plant/t", &n.to_string(), 1).await;
        }
        let mut seen = Vec::new();
        for member in &mut members {
            for _ in 0..5 {
                let got = member.message().await;
                assert_eq!(got.qos, QoS::AtLeastOnce);
                seen.push(String::from_utf8(got.payload.to_vec()).unwrap());
            }
        }
        seen.sort();
        assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        for n in 0..10 {
            assert_eq!(alone.message().await.payload, n.to_string(), "others get all of them");
        }
        for member in &mut members {
            assert!(!unsubscribe(member, &["$share/group/plant/#"]).await.iter().any(|r| r.is_failure()));
        }
        sender.publish("plant/t", "to nobody", 1).await;
        members[0].send(&Packet::PingReq).await;
        assert_eq!(members[0].next().await, Some(Packet::PingResp));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_no_retained_messages_and_its_own_granted_quality() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    publish(&mut sender, retained("plant/kept", "x")).await;
    let mut members = members(&house, Version::V5, QoS::AtMostOnce).await;
    publish(&mut sender, message("plant/t", "new")).await;
    for member in &mut members {
        member.send(&Packet::PingReq).await;
    }
    let mut came = 0;
    for member in &mut members {
        loop {
            match member.next().await {
                Some(Packet::Publish(got)) => {
                    assert_eq!((&*got.payload, got.qos), (&b"new"[..], QoS::AtMostOnce));
                    came += 1;
                }
                Some(Packet::PingResp) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(came, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_that_ends_has_not_acknowledged_goes_to_another_but_never_twice() {
    let house = House::new().await;
    let mut members = members(&house, Version::V5, QoS::ExactlyOnce).await;
    let mut sender = house.client(Version::V5, "sender").await;
    for (qos, payload) in [(QoS::AtLeastOnce, "one"), (QoS::ExactlyOnce, "two")] {
        publish(&mut sender, Publish { qos, ..message("plant/t", payload) }).await;
        publish(&mut sender, Publish { qos, ..message("plant/t", payload) }).await;
    }
    let mut leaver = members.remove(0);
    for _ in 0..2 {
        assert!(matches!(leaver.next().await, Some(Packet::Publish(_))), "not acknowledged");
    }
    let goodbye = Disconnect::new(ReasonCode::Success);
    leaver.send(&Packet::Disconnect(Box::new(Disconnect { session_expiry_s: Some(0), ..goodbye }))).await;
    leaver.end().await;
    let mut stayer = members.remove(0);
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(String::from_utf8(stayer.message().await.payload.to_vec()).unwrap());
    }
    got.sort();
    assert_eq!(got, ["one", "one", "two"], "a QoS 2 message that was sent to one member goes to no other");
    stayer.send(&Packet::PingReq).await;
    assert_eq!(stayer.next().await, Some(Packet::PingResp));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_refuses_a_message_ends_it_and_one_that_returns_completes_its_own() {
    let house = House::new().await;
    let mut members = members(&house, Version::V5, QoS::ExactlyOnce).await;
    let mut sender = house.client(Version::V5, "sender").await;
    publish(&mut sender, message("plant/t", "refused")).await;
    publish(&mut sender, Publish { qos: QoS::ExactlyOnce, ..message("plant/t", "two") }).await;
    let Some(Packet::Publish(got)) = members[0].next().await else { panic!("no message") };
    assert_eq!(got.payload, "refused");
    let refusal = Ack::with(got.packet_id.unwrap(), ReasonCode::ImplementationSpecificError);
    members[0].send(&Packet::PubAck(refusal)).await;
    let Some(Packet::Publish(two)) = members[1].next().await else { panic!("no message") };
    assert_eq!(two.payload, "two");
    drop(members.remove(1));
    until("the member is away", || house.counted().connections == 2).await;
    members[0].send(&Packet::PingReq).await;
    assert_eq!(members[0].next().await, Some(Packet::PingResp), "neither message goes to the other member");
    let (mut back, present) = session(&house, Version::V5, "member-2", false).await;
    assert!(present);
    let again = back.message().await;
    assert_eq!((&*again.payload, again.dup, again.packet_id), (&b"two"[..], true, two.packet_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_none_or_that_asks_for_no_local_is_refused() {
    let house = House::new().await;
    for (filter, no_local, reason) in [
        ("$share/group/plant/#", true, ReasonCode::ProtocolError),
        ("$share/group", false, ReasonCode::TopicFilterInvalid),
        ("$share//plant", false, ReasonCode::TopicFilterInvalid),
        ("$share/+/plant", false, ReasonCode::TopicFilterInvalid),
    ] {
        let mut client = house.client(Version::V5, "c").await;
        let packet_id = client.id();
        let subscriptions = vec![Subscription { no_local, ..Subscription::new(filter, QoS::AtMostOnce) }];
        let subscribe =
            Subscribe { packet_id, subscription_id: None, user_properties: vec![], subscriptions };
        client.send(&Packet::Subscribe(Box::new(subscribe))).await;
        assert_eq!(client.end().await, Some(reason), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_subscription_loses_no_message_and_brings_the_retained_again() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        publish(&mut sender, retained("plant/kept/now", "kept")).await;
        let mut client = house.client(version, "c").await;
        assert_eq!(client.subscribe("plant/#", 1).await, ReasonCode::GrantedQos1);
        assert_eq!(client.message().await.payload, "kept");
        let sending = tokio::spawn(async move {
            for n in 0..200 {
                sender.publish("plant/t", &n.to_string(), 1).await;
            }
        });
        let (mut numbers, mut kept, mut granted) = (Vec::new(), 0, 0);
        while numbers.len() < 200 || granted < 20 || kept < 20 {
            if numbers.len() >= granted * 10 && granted < 20 {
                let packet_id = client.id();
                let subscribe = Subscribe {
                    packet_id,
                    subscription_id: None,
                    user_properties: vec![],
                    subscriptions: vec![Subscription::new("plant/#", QoS::AtLeastOnce)],
                };
                client.send(&Packet::Subscribe(Box::new(subscribe))).await;
                granted += 1;
            }
            match client.next().await {
                Some(Packet::Publish(got)) => {
                    client.send(&Packet::PubAck(Ack::new(got.packet_id.unwrap()))).await;
                    let (_, payload) = said(&got);
                    match payload.parse::<usize>() {
                        Ok(n) => numbers.push(n),
                        Err(_) => kept += 1,
                    }
                }
                Some(Packet::SubAck(ack)) => assert_eq!(ack.reasons, [ReasonCode::GrantedQos1]),
                other => panic!("{other:?}"),
            }
        }
        sending.await.unwrap();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }
}
