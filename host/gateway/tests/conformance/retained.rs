//! Chapter 3.3.1: retained messages.

use super::*;

fn asking(handling: RetainHandling) -> Subscription {
    Subscription { retain_handling: handling, ..Subscription::new("plant/kept/#", QoS::AtLeastOnce) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_retained_message_of_a_topic_is_kept_and_an_empty_one_ends_it() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        let mut live = house.client(version, "live").await;
        live.subscribe("plant/kept/#", 1).await;
        for one in
            [retained("plant/kept/a", "1"), retained("plant/kept/a", "2"), message("plant/kept/a", "3")]
        {
            publish(&mut sender, one).await;
            let heard = live.message().await;
            assert!(!heard.retain, "a message that passes by is not marked");
        }
        let mut later = house.client(version, "later").await;
        later.subscribe("plant/kept/a", 2).await;
        let kept = later.message().await;
        assert_eq!((&*kept.payload, kept.retain, kept.qos), (&b"2"[..], true, QoS::AtLeastOnce));
        later.leave().await;
        publish(&mut sender, retained("plant/kept/a", "")).await;
        assert_eq!(live.message().await.payload, "", "it is delivered as any other");
        let mut last = house.client(version, "last").await;
        last.subscribe("plant/kept/a", 1).await;
        last.send(&Packet::PingReq).await;
        assert_eq!(last.next().await, Some(Packet::PingResp), "nothing is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_takes_no_retained_message_with_it() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        publish(&mut sender, retained("plant/kept/s", "stays")).await;
        sender.leave().await;
        let mut later = house.client(version, "later").await;
        later.subscribe("plant/kept/s", 0).await;
        assert_eq!(later.message().await.payload, "stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_of_qos0_takes_the_place_of_the_one_before() {
    let house = House::new().await;
    for version in BOTH {
        let mut sender = house.client(version, "sender").await;
        publish(&mut sender, retained("plant/kept/q", "old")).await;
        let new = Publish { qos: QoS::AtMostOnce, ..retained("plant/kept/q", "new") };
        publish(&mut sender, new).await;
        publish(&mut sender, message("plant/other", "sync")).await;
        let mut later = house.client(version, "later").await;
        later.subscribe("plant/kept/q", 1).await;
        let kept = later.message().await;
        assert_eq!((&*kept.payload, kept.qos), (&b"new"[..], QoS::AtMostOnce));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscriber_says_when_it_wants_retained_messages() {
    let house = House::new().await;
    publish(&mut house.client(Version::V5, "sender").await, retained("plant/kept/h", "kept")).await;
    let cases = [
        (RetainHandling::Always, [true, true]),
        (RetainHandling::IfNew, [true, false]),
        (RetainHandling::Never, [false, false]),
    ];
    for (handling, expected) in cases {
        let mut client = house.client(Version::V5, "c").await;
        for comes in expected {
            subscribe(&mut client, Some(5), vec![asking(handling)]).await;
            if comes {
                let kept = client.message().await;
                assert_eq!((kept.retain, &*kept.payload), (true, &b"kept"[..]));
                assert_eq!(kept.properties.unwrap().subscription_ids, [5]);
            }
            client.send(&Packet::PingReq).await;
            assert_eq!(client.next().await, Some(Packet::PingResp), "{handling:?}: and no more");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retain_flag_is_cleared_unless_the_subscriber_wants_it_as_published() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    for as_published in [false, true] {
        let mut client = house.client(Version::V5, "c").await;
        let wanted = Subscription {
            retain_as_published: as_published,
            ..Subscription::new("plant/flag", QoS::AtLeastOnce)
        };
        subscribe(&mut client, None, vec![wanted]).await;
        publish(&mut sender, retained("plant/flag", "")).await;
        assert_eq!(client.message().await.retain, as_published);
        publish(&mut sender, message("plant/flag", "plain")).await;
        assert!(!client.message().await.retain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_counts_its_life_down_and_ends_with_it() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    for (topic, expiry) in [("plant/kept/long", 100), ("plant/kept/short", 1)] {
        let properties = PublishProperties { message_expiry_s: Some(expiry), ..Default::default() };
        let publish_it = Publish { properties: Some(Box::new(properties)), ..retained(topic, "x") };
        publish(&mut sender, publish_it).await;
    }
    // A life counts in seconds: nothing but time ends it.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut later = house.client(Version::V5, "later").await;
    later.subscribe("plant/kept/#", 1).await;
    let kept = later.message().await;
    assert_eq!(kept.topic, "plant/kept/long");
    let rest = kept.properties.unwrap().message_expiry_s.unwrap();
    assert!((50..100).contains(&rest), "{rest}");
    later.send(&Packet::PingReq).await;
    assert_eq!(later.next().await, Some(Packet::PingResp));
}
