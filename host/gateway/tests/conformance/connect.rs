//! Chapters 3.1, 3.2, 3.12, 3.14 and 4.1: connections, sessions, wills, goodbyes.

use super::*;
use holdfast_gateway::Limits;
use support::until;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_is_connect_and_there_is_no_second() {
    let house = House::new().await;
    for version in BOTH {
        let mut early = Client::dial(house.address, version).await;
        early.send(&Packet::PingReq).await;
        assert_eq!(early.next().await, None, "no CONNACK, and nothing before it");
        let mut twice = house.client(version, "twice").await;
        twice.send(&Packet::Connect(Box::new(connect(version, "twice")))).await;
        if version == Version::V5 {
            match twice.next().await {
                Some(Packet::Disconnect(told)) => assert_eq!(told.reason, ReasonCode::ProtocolError),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(twice.next().await, None, "and there is no second CONNACK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_told_no_session_and_nothing_it_sent_behind_connect_counts() {
    let house = House::new().await;
    for version in BOTH {
        let (kept, _) = session(&house, version, "c", false).await;
        kept.leave().await;
        let mut client = Client::dial(house.address, version).await;
        let (password, session_expiry_s) = (Some("wrong".into()), 3600);
        let wrong = Connect { password, session_expiry_s, clean_start: false, ..connect(version, "c") };
        client.send(&Packet::Connect(Box::new(wrong))).await;
        client.send(&Packet::Publish(Publish::new("plant/t", "x"))).await;
        match client.next().await {
            Some(Packet::ConnAck(ack)) => {
                assert_eq!((ack.reason, ack.session_present), (ReasonCode::BadUserNameOrPassword, false));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.next().await, None);
        assert!(session(&house, version, "c", false).await.1, "and yet there is one");
    }
    assert_eq!(house.recorded(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_kept_as_long_as_was_agreed_and_a_clean_start_ends_it() {
    let house = House::new().await;
    for version in BOTH {
        let (mut client, present) = session(&house, version, "keeps", false).await;
        assert!(!present);
        client.subscribe("plant/#", 1).await;
        client.leave().await;
        house.client(version, "sender").await.publish("plant/t", "while away", 1).await;
        let (mut other, present) = session(&house, version, "keeps-2", false).await;
        other.send(&Packet::PingReq).await;
        let answer = other.next().await;
        assert_eq!((present, answer), (false, Some(Packet::PingResp)), "another name is another session");
        other.leave().await;
        session(&house, version, "keeps-2", true).await.0.leave().await;
        let (mut client, present) = session(&house, version, "keeps", false).await;
        assert!(present);
        assert_eq!(client.message().await.payload, "while away");
        client.leave().await;
        let (mut client, present) = session(&house, version, "keeps", true).await;
        assert!(!present);
        house.client(version, "sender").await.publish("plant/t", "to nobody", 1).await;
        client.send(&Packet::PingReq).await;
        assert_eq!(client.next().await, Some(Packet::PingResp), "the subscription is gone");
        client.leave().await;
        house.client(version, "keeps").await.leave().await;
        let (client, present) = session(&house, version, "keeps", false).await;
        assert!(!present, "the session of a clean client ended with its connection");
        client.leave().await;
        session(&house, version, "keeps", true).await.0.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_can_shorten_the_life_of_a_session_but_not_begin_it() {
    let house = House::new().await;
    let bye = |s| {
        let goodbye = Disconnect::new(ReasonCode::Success);
        Packet::Disconnect(Box::new(Disconnect { session_expiry_s: Some(s), ..goodbye }))
    };
    let (mut client, _) = session(&house, Version::V5, "c", false).await;
    client.send(&bye(0)).await;
    assert_eq!(client.end().await, None, "the server says nothing to a goodbye and closes");
    let (client, present) = session(&house, Version::V5, "c", false).await;
    assert!(!present);
    client.leave().await;
    let mut client = house.client(Version::V5, "short").await;
    client.send(&bye(60)).await;
    assert_eq!(client.end().await, Some(ReasonCode::ProtocolError));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_has_its_quality_its_retain_flag_and_its_properties_in_order() {
    let house = House::new().await;
    let user = |pairs: &[(&'static str, &'static str)]| -> UserProperties {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    for version in BOTH {
        let mut witness = house.client(version, "witness").await;
        let wills = format!("plant/wills/{version}/#");
        assert_eq!(witness.subscribe(&wills, 2).await, ReasonCode::GrantedQos2);
        let properties = match version {
            Version::V5 => PublishProperties {
                user_properties: user(&[("b", "1"), ("a", "2"), ("b", "3")]),
                payload_is_utf8: true,
                ..PublishProperties::default()
            },
            Version::V311 => PublishProperties::default(),
        };
        let expected = (version == Version::V5).then(|| properties.clone());
        for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, true), (QoS::ExactlyOnce, true)] {
            let topic = format!("plant/wills/{version}/{}", qos.level());
            let will = Will {
                qos,
                retain,
                topic: topic.clone().into(),
                payload: "gone".into(),
                delay_s: 0,
                properties: properties.clone(),
            };
            let mut client = Client::dial(house.address, version).await;
            client.connect(Connect { will: Some(will), ..connect(version, "c") }).await;
            drop(client);
            let heard = witness.message().await;
            assert_eq!((heard.topic.to_string(), heard.qos, heard.retain), (topic.clone(), qos, false));
            assert_eq!(heard.properties.map(|all| *all), expected);
            let mut later = house.client(version, "later").await;
            later.subscribe(&topic, 2).await;
            if retain {
                let kept = later.message().await;
                assert_eq!((&*kept.payload, kept.retain), (&b"gone"[..], true));
            } else {
                later.send(&Packet::PingReq).await;
                assert_eq!(later.next().await, Some(Packet::PingResp), "nothing was kept");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_will_is_not_said_if_the_client_returns_and_is_said_when_its_session_ends() {
    let house = House::new().await;
    let mut witness = house.client(Version::V5, "witness").await;
    witness.subscribe("plant/wills", 1).await;
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "plant/wills".into(),
        payload: "gone".into(),
        delay_s: 3600,
        properties: PublishProperties::default(),
    };
    let hello = |clean_start, will: Option<Will>| Connect {
        clean_start,
        session_expiry_s: 3600,
        will,
        ..connect(Version::V5, "c")
    };
    for clean in [false, true] {
        let mut client = Client::dial(house.address, Version::V5).await;
        client.connect(hello(true, Some(will.clone()))).await;
        drop(client);
        until("the client is away", || house.counted().connections == 1).await;
        let mut client = Client::dial(house.address, Version::V5).await;
        assert_eq!(client.connect(hello(clean, None)).await.session_present, !clean);
        client.publish("plant/wills", "here again", 1).await;
        let first = witness.message().await.payload;
        assert_eq!(first, if clean { "gone" } else { "here again" });
        if clean {
            assert_eq!(witness.message().await.payload, "here again");
        }
        client.leave().await;
        until("the client is away", || house.counted().connections == 1).await;
    }
    let mut client = Client::dial(house.address, Version::V5).await;
    client.connect(hello(true, Some(Will { delay_s: 1, ..will }))).await;
    drop(client);
    assert_eq!(witness.message().await.payload, "gone", "its delay is over, and its session is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_will_is_said_after_a_goodbye_and_one_is_after_a_goodbye_that_asks_for_it() {
    let house = House::new().await;
    for version in BOTH {
        let mut witness = house.client(version, "witness").await;
        witness.subscribe("plant/wills", 1).await;
        let will = Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "plant/wills".into(),
            payload: "gone".into(),
            delay_s: 0,
            properties: PublishProperties::default(),
        };
        for reason in [ReasonCode::Success, ReasonCode::DisconnectWithWill] {
            let mut client = Client::dial(house.address, version).await;
            client.connect(Connect { will: Some(will.clone()), ..connect(version, "c") }).await;
            client.send(&Packet::Disconnect(Box::new(Disconnect::new(reason)))).await;
            client.end().await;
        }
        let wills = u64::from(version == Version::V5);
        until("the will is said", || house.counted().wills == wills).await;
        house.client(version, "sender").await.publish("plant/wills", "after", 1).await;
        if version == Version::V5 {
            assert_eq!(witness.message().await.payload, "gone");
        }
        assert_eq!(witness.message().await.payload, "after", "version 3.1.1 has a plain goodbye only");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_taken_over_by_the_next_of_its_name_and_told_so() {
    let house = House::new().await;
    for version in BOTH {
        let mut first = house.client(version, "c").await;
        let _second = house.client(version, "c").await;
        assert_eq!(first.end().await, (version == Version::V5).then_some(ReasonCode::SessionTakenOver));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_legal_length_are_taken() {
    let house = House::new().await;
    let long = "n".repeat(1000);
    for version in BOTH {
        for name in ["c", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ", &long] {
            house.client(version, name).await.leave().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_not_utf8_or_hold_null_close_the_connection() {
    let house = House::new().await;
    for text in [&[0xC3, 0x28][..], &[0xED, 0xA0, 0x80], &[b'a', 0]] {
        for version in [4, 5] {
            let field = |bytes: &[u8]| [&[0, bytes.len() as u8], bytes].concat();
            let none: &[u8] = if version == 5 { &[0] } else { &[] };
            let will = |topic: &[u8]| [none, &field(topic), &field(b"w")].concat();
            // Client identifier, will topic, user name.
            let bodies = [
                (0x02, field(text)),
                (0x06, [field(b"c"), will(text)].concat()),
                (0x82, [field(b"c"), field(text)].concat()),
            ];
            for (flags, payload) in bodies {
                let body = [&field(b"MQTT")[..], &[version, flags, 0, 0], none, &payload].concat();
                let mut client = Client::dial(house.address, Version::V311).await;
                let bytes = [&[0x10, body.len() as u8][..], &body].concat();
                tokio::io::AsyncWriteExt::write_all(&mut client.stream, &bytes).await.unwrap();
                let mut rest = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut rest).await.unwrap();
                assert!(rest.is_empty() || (rest[0], rest[3]) == (0x20, 0x81), "{rest:?}");
            }
        }
    }
    house.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_at_the_front_of_a_text_belongs_to_it() {
    let house = House::new().await;
    for version in BOTH {
        let mut client = house.client(version, "c").await;
        client.subscribe("plant/\u{FEFF}x", 0).await;
        client.publish("plant/x", "without", 0).await;
        client.publish("plant/\u{FEFF}x", "with", 0).await;
        assert_eq!(said(&client.message().await), ("plant/\u{FEFF}x".to_owned(), "with".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_packet_is_larger_than_the_client_takes() {
    let house = House::new().await;
    let mut sender = house.client(Version::V5, "sender").await;
    let mut small = Client::dial(house.address, Version::V5).await;
    small.connect(Connect { maximum_packet_bytes: Some(40), ..connect(Version::V5, "small") }).await;
    small.subscribe("plant/#", 1).await;
    for payload in ["fits", &"x".repeat(100), "fits too"] {
        sender.publish("plant/t", payload, 1).await;
    }
    assert_eq!(small.message().await.payload, "fits");
    assert_eq!(small.message().await.payload, "fits too");
    // The reason for the end fits, its words would not.
    small.send(&Packet::Auth(Box::new(auth(ReasonCode::ReAuthenticate)))).await;
    match small.next().await {
        Some(Packet::Disconnect(told)) => {
            assert_eq!((told.reason, told.reason_string), (ReasonCode::ProtocolError, None));
            assert_eq!(told.user_properties, []);
        }
        other => panic!("{other:?}"),
    }
    let mut tiny = Client::dial(house.address, Version::V5).await;
    let hello = Connect { maximum_packet_bytes: Some(5), ..connect(Version::V5, "tiny") };
    tiny.send(&Packet::Connect(Box::new(hello))).await;
    assert_eq!(tiny.next().await, None, "not even CONNACK may be larger, and nothing goes before it");
}

fn auth(reason: ReasonCode) -> Auth {
    Auth {
        reason,
        authentication_method: None,
        authentication_data: None,
        reason_string: None,
        user_properties: vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_given_only_to_clients_that_want_them_and_never_with_a_session_expiry() {
    let house = House::new().await;
    for wanted in [true, false] {
        let mut client = Client::dial(house.address, Version::V5).await;
        let hello = Connect { request_problem_information: wanted, ..connect(Version::V5, "c") };
        assert_eq!(client.connect(hello).await.response_information, None);
        let packet_id = client.id();
        let subscriptions = vec![Subscription::new("oven/#", QoS::AtMostOnce)];
        let subscribe =
            Subscribe { packet_id, subscription_id: None, user_properties: vec![], subscriptions };
        client.send(&Packet::Subscribe(Box::new(subscribe))).await;
        match client.next().await {
            Some(Packet::SubAck(ack)) if wanted || ack.properties == AckProperties::default() => {}
            other => panic!("{other:?}"),
        }
        client.send(&Packet::Auth(Box::new(auth(ReasonCode::ReAuthenticate)))).await;
        match client.next().await {
            Some(Packet::Disconnect(told)) => {
                assert_eq!((told.reason_string.is_some(), told.session_expiry_s), (wanted, None));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.next().await, None, "DISCONNECT is the last packet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keep_alive_is_the_clients_unless_the_server_says_its_own() {
    let house = House::limited(Limits { keep_alive_max_s: Some(30), ..Limits::default() }).await;
    for (asked, told) in [(0, Some(30)), (31, Some(30)), (30, None), (5, None)] {
        let mut client = Client::dial(house.address, Version::V5).await;
        let ack = client.connect(Connect { keep_alive_s: asked, ..connect(Version::V5, "c") }).await;
        assert_eq!(ack.server_keep_alive_s, told, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_of_authentication_is_refused_and_auth_is_never_sent() {
    let house = House::new().await;
    let mut client = Client::dial(house.address, Version::V5).await;
    let hello = Connect { authentication_method: Some("SCRAM".into()), ..connect(Version::V5, "c") };
    let ack = client.connect(hello).await;
    assert_eq!((ack.reason, ack.authentication_method), (ReasonCode::BadAuthenticationMethod, None));
    assert_eq!(client.next().await, None);
    let mut client = Client::dial(house.address, Version::V5).await;
    let ack = client.connect(connect(Version::V5, "c")).await;
    assert_eq!((ack.authentication_method, ack.authentication_data), (None, None));
    client.send(&Packet::Auth(Box::new(auth(ReasonCode::ContinueAuthentication)))).await;
    assert_eq!(client.end().await, Some(ReasonCode::ProtocolError));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ping_is_answered() {
    let house = House::new().await;
    for version in BOTH {
        let mut client = house.client(version, "c").await;
        for _ in 0..3 {
            client.send(&Packet::PingReq).await;
            assert_eq!(client.next().await, Some(Packet::PingResp));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nameless_get_a_name_of_their_own() {
    let house = House::new().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let mut client = Client::dial(house.address, Version::V5).await;
        let ack = client
            .connect(Connect { clean_start: false, session_expiry_s: 3600, ..connect(Version::V5, "") })
            .await;
        assert!(!ack.session_present);
        names.push(ack.assigned_client_id.unwrap().to_string());
        client.leave().await;
    }
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{names:?}");
        let (client, present) = session(&house, Version::V5, name, false).await;
        assert!(present, "the session has the name that was told");
        client.leave().await;
    }
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut client = house.client(Version::V311, "").await;
        client.subscribe("plant/t", 0).await;
        both.push(client);
    }
    both[0].publish("plant/t", "to both", 0).await;
    for client in &mut both {
        assert_eq!(client.message().await.payload, "to both", "neither has taken the other over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_expiry_has_passed_after_the_connection_and_not_before() {
    let house = House::new().await;
    let hello = || Connect { clean_start: false, session_expiry_s: 1, ..connect(Version::V5, "c") };
    let mut client = Client::dial(house.address, Version::V5).await;
    client.connect(hello()).await;
    // An expiry counts in seconds: nothing but time ends it.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let mut next = Client::dial(house.address, Version::V5).await;
    assert!(next.connect(hello()).await.session_present, "it is counted from the end of the connection");
    next.leave().await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let mut late = Client::dial(house.address, Version::V5).await;
    assert!(!late.connect(hello()).await.session_present);
}
