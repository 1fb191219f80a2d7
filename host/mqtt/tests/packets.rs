//! Legal packets come back as they were written; illegal ones are refused with the clause that they break.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use bytes::{Bytes, BytesMut};
use holdfast_mqtt::*;
use proptest::{option::of as option, prelude::*};

const MAX: usize = 64 * 1024;

fn codec(version: Version) -> Codec {
    Codec::client(version, MAX)
}

fn decode(version: Version, bytes: &[u8]) -> Result<Option<Packet>, ProtocolError> {
    codec(version).decode(&mut BytesMut::from(bytes))
}

/// Both versions, the bytes, the reason, and the clause in each version.
#[track_caller]
fn refused(version: Version, bytes: &[u8], reason: ReasonCode, clause: Option<&str>) {
    let error = decode(version, bytes).expect_err("it is illegal");
    assert_eq!((error.reason, error.clause), (reason, clause), "{error}");
}

use ReasonCode::{
    ClientIdentifierNotValid, GrantedQos1, MalformedPacket as Malformed, NotAuthorized, PacketTooLarge,
    ProtocolError as Violation, SessionTakenOver, Success, TopicAliasInvalid, TopicFilterInvalid,
    TopicNameInvalid, UnsupportedProtocolVersion,
};
use Version::{V5, V311};

#[test]
fn illegal_headers() {
    for (version, flags) in [(V311, "MQTT-2.2.2-2"), (V5, "MQTT-2.1.3-1")] {
        refused(version, &[0x80, 5, 0, 1, 0, 1, b'a'], Malformed, Some(flags));
        refused(version, &[0x60, 2, 0, 1], Malformed, Some(flags));
        refused(version, &[0xC1, 0], Malformed, Some(flags));
        refused(version, &[0x00, 0], Malformed, None);
        refused(version, &[0xC0, 1, 0], Malformed, None);
    }
    refused(V311, &[0xF0, 0], Malformed, None);
    refused(V311, &[0x30, 0x80, 0x80, 0x80, 0x80], Malformed, None);
    refused(V5, &[0x30, 0x80, 0x80, 0x80, 0x80], Malformed, Some("MQTT-1.5.5-1"));
    refused(V5, &[0xC0, 0x80, 0x00], Malformed, Some("MQTT-1.5.5-1"));
}

#[test]
fn a_length_in_more_bytes_than_it_needs_is_taken_in_3_1_1_alone() {
    let read = |codec: &mut Codec, bytes: &[u8]| codec.decode(&mut BytesMut::from(bytes));
    for bytes in [&[0xC0, 0x80, 0x00][..], &[0xC0, 0x80, 0x80, 0x80, 0x00]] {
        assert_eq!(read(&mut Codec::client(V311, 100), bytes), Ok(Some(Packet::PingReq)));
    }
    for level in [4, 5] {
        let connect = [0x10, 0x8d + level - 4, 0x80, 0x00, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0];
        let client_id: &[u8] = if level == 4 { &[0, 1, b'c'] } else { &[0, 0, 1, b'c'] };
        let mut codec = Codec::server(100);
        let packet = read(&mut codec, &[&connect[..], client_id].concat());
        match level {
            4 => assert!(matches!(packet, Ok(Some(Packet::Connect(_)))), "{packet:?}"),
            _ => assert_eq!(packet.unwrap_err().clause, Some("MQTT-1.5.5-1")),
        }
        assert_eq!(codec.version(), (level == 4).then_some(V311));
    }
}

#[test]
fn a_packet_over_the_limit_is_refused_by_its_header_alone() {
    let mut codec = Codec::client(V311, 100);
    let mut buffer = BytesMut::from(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F][..]);
    let error = codec.decode(&mut buffer).unwrap_err();
    assert_eq!(error.reason, PacketTooLarge);
    assert_eq!(error.text, "PUBLISH has 268435460 bytes; at most 100 are taken");
    let mut exact = BytesMut::from(&[0x30, 98, 0, 1, b't'][..]);
    assert_eq!(codec.decode(&mut exact), Ok(None));
}

#[test]
fn illegal_publishes() {
    for version in [V311, V5] {
        refused(version, &[0x36, 5, 0, 1, b't', 0, 1], Malformed, Some("MQTT-3.3.1-4"));
        refused(version, &[0x38, 3, 0, 1, b't'], Violation, Some("MQTT-3.3.1-2"));
    }
    refused(V311, &[0x30, 3, 0, 1, b'#'], TopicNameInvalid, Some("MQTT-3.3.2-2"));
    refused(V311, &[0x30, 4, 0, 2, b'a', b'+'], TopicNameInvalid, Some("MQTT-3.3.2-2"));
    refused(V311, &[0x30, 3, 0, 1, 0], Malformed, Some("MQTT-1.5.3-2"));
    refused(V5, &[0x30, 4, 0, 1, 0, 0], Malformed, Some("MQTT-1.5.4-2"));
    refused(V311, &[0x30, 4, 0, 2, 0xC3, 0x28], Malformed, Some("MQTT-1.5.3-1"));
    refused(V5, &[0x30, 6, 0, 3, 0xED, 0xA0, 0x80, 0], Malformed, Some("MQTT-1.5.4-1"));
    refused(V311, &[0x32, 5, 0, 1, b't', 0, 0], Violation, Some("MQTT-2.3.1-1"));
    refused(V5, &[0x32, 6, 0, 1, b't', 0, 0, 0], Violation, Some("MQTT-2.2.1-3"));
    refused(V311, &[0x30, 3, 0, 9, b't'], Malformed, None);
    let with = |properties: &[u8]| {
        let length = properties.len() as u8;
        [&[0x30, length + 4, 0, 1, b't', length], properties].concat()
    };
    refused(V5, &with(&[0x23, 0, 0]), TopicAliasInvalid, Some("MQTT-3.3.2-8"));
    refused(V5, &with(&[0x23, 0, 1, 0x23, 0, 1]), Violation, None);
    refused(V5, &with(&[0x01, 2]), Violation, None);
    refused(V5, &with(&[0x0B, 0]), Violation, None);
    refused(V5, &with(&[0x08, 0, 1, b'#']), TopicNameInvalid, Some("MQTT-3.3.2-14"));
    refused(V5, &with(&[0x11, 0, 0, 0, 1]), Malformed, None);
    refused(V5, &with(&[0x26, 0, 1, b'a']), Malformed, None);
}

#[test]
fn topics_and_filters_without_a_character() {
    let clause = Some("MQTT-4.7.3-1");
    refused(V311, &[0x30, 2, 0, 0], TopicNameInvalid, clause);
    // In version 5 the alias that would stand for it is missing.
    refused(V5, &[0x30, 3, 0, 0, 0], Violation, clause);
    refused(V311, &[0x82, 5, 0, 1, 0, 0, 0], TopicFilterInvalid, clause);
    refused(V5, &[0x82, 6, 0, 1, 0, 0, 0, 0], TopicFilterInvalid, clause);
    refused(V311, &[0xA2, 4, 0, 1, 0, 0], TopicFilterInvalid, clause);
    refused(V5, &[0xA2, 5, 0, 1, 0, 0, 0], TopicFilterInvalid, clause);
}

fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [&[0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60], rest].concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

#[test]
fn illegal_connects() {
    let named = &[0, 1, b'c'];
    refused(V311, &connect(4, 0x03, named), Malformed, Some("MQTT-3.1.2-3"));
    refused(V311, &connect(4, 0x0A, named), Malformed, Some("MQTT-3.1.2-13"));
    refused(V5, &connect(5, 0x0A, &[0, 0, 1, b'c']), Malformed, Some("MQTT-3.1.2-11"));
    refused(V311, &connect(4, 0x22, named), Malformed, Some("MQTT-3.1.2-15"));
    refused(V311, &connect(4, 0x1E, named), Malformed, Some("MQTT-3.1.2-14"));
    refused(V311, &connect(4, 0x42, &[0, 1, b'c', 0, 1, b'p']), Malformed, Some("MQTT-3.1.2-22"));
    refused(V311, &connect(4, 0x00, &[0, 0]), ClientIdentifierNotValid, Some("MQTT-3.1.3-8"));
    refused(V311, &connect(4, 0x02, &[0, 1, b'c', 9]), Malformed, None);
    refused(V311, &connect(3, 0x02, named), UnsupportedProtocolVersion, Some("MQTT-3.1.2-2"));
    refused(V311, &connect(6, 0x02, named), UnsupportedProtocolVersion, Some("MQTT-3.1.2-2"));
    let will = [&named[..], &[0, 1, b'#', 0, 0]].concat();
    refused(V311, &connect(4, 0x06, &will), TopicNameInvalid, Some("MQTT-4.7.1-1"));
    refused(V5, &connect(5, 0x02, &[3, 0x21, 0, 0, 0, 1, b'c']), Violation, None);
    refused(V5, &connect(5, 0x02, &[5, 0x27, 0, 0, 0, 0, 0, 1, b'c']), Violation, None);
    refused(V5, &connect(5, 0x02, &[4, 0x16, 0, 1, 1, 0, 1, b'c']), Violation, None);
    let other = [0x10, 9, 0, 4, b'H', b'T', b'T', b'P', 4, 2, 0];
    refused(V311, &other, UnsupportedProtocolVersion, Some("MQTT-3.1.2-1"));
    let error = Codec::server(MAX).decode(&mut BytesMut::from(&b"GET / HTTP/1.1\r\n"[..])).unwrap_err();
    assert_eq!(error.clause, Some("MQTT-3.1.0-1"));
}

#[test]
fn a_client_of_version_5_may_be_without_a_name_and_keep_its_session() {
    let packet = decode(V5, &connect(5, 0x00, &[0, 0, 0])).unwrap();
    assert!(matches!(packet, Some(Packet::Connect(c)) if c.client_id.is_empty() && !c.clean_start));
}

#[test]
fn illegal_subscriptions() {
    refused(V311, &[0x82, 2, 0, 1], Violation, Some("MQTT-3.8.3-3"));
    refused(V5, &[0x82, 3, 0, 1, 0], Violation, Some("MQTT-3.8.3-2"));
    refused(V311, &[0x82, 6, 0, 0, 0, 1, b'a', 0], Violation, Some("MQTT-2.3.1-1"));
    refused(V311, &[0x82, 6, 0, 1, 0, 1, b'a', 3], Malformed, Some("MQTT-3-8.3-4"));
    refused(V311, &[0x82, 6, 0, 1, 0, 1, b'a', 4], Malformed, Some("MQTT-3-8.3-4"));
    refused(V5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], Malformed, Some("MQTT-3.8.3-5"));
    refused(V311, &[0x82, 7, 0, 1, 0, 2, b'a', b'#', 0], TopicFilterInvalid, Some("MQTT-4.7.1-2"));
    refused(V5, &[0x82, 8, 0, 1, 0, 0, 2, b'a', b'+', 0], TopicFilterInvalid, Some("MQTT-4.7.1-2"));
    let share = [&[0x82, 16, 0, 1, 0, 0, 10][..], b"$share/g/a", &[4]].concat();
    refused(V5, &share, Violation, Some("MQTT-3.8.3-4"));
    refused(V311, &[0xA2, 2, 0, 1], Violation, Some("MQTT-3.10.3-2"));
    refused(V5, &[0xA2, 3, 0, 1, 0], Violation, Some("MQTT-3.10.3-2"));
}

#[test]
fn illegal_acknowledgements_and_the_rest() {
    refused(V311, &[0x40, 2, 0, 0], Violation, Some("MQTT-2.3.1-1"));
    refused(V311, &[0x40, 3, 0, 1, 0], Malformed, None);
    refused(V5, &[0x40, 3, 0, 1, 0x92], Malformed, None);
    refused(V5, &[0x62, 3, 0, 1, 0x87], Malformed, None);
    refused(V311, &[0xE0, 1, 0], Malformed, None);
    refused(V5, &[0xE0, 1, 1], Malformed, None);
    refused(V5, &[0xF0, 1, 1], Malformed, None);
    refused(V5, &[0xF0, 1, 0x18], Violation, None);
    refused(V5, &[0xF0, 2, 0x18, 0], Violation, None);
    refused(V311, &[0x20, 2, 2, 0], Malformed, None);
    refused(V311, &[0x20, 2, 0, 6], Malformed, None);
    refused(V311, &[0x20, 2, 1, 5], Violation, Some("MQTT-3.2.2-4"));
    refused(V311, &[0x90, 3, 0, 1, 3], Malformed, None);
    refused(V311, &[0x90, 2, 0, 1], Malformed, None);
}

#[test]
fn what_cannot_be_written_leaves_nothing_in_the_buffer() {
    let mut codec = codec(V311);
    codec.peer_max_packet_bytes = 50;
    let mut buffer = BytesMut::new();
    let too_large = Packet::Publish(Publish::new("t", vec![0; 46]));
    assert_eq!(codec.encode(&too_large, &mut buffer), Err(EncodeError::TooLarge { bytes: 51, max: 50 }));
    let topic = Packet::Publish(Publish::new("t".repeat(65_536), ""));
    codec.peer_max_packet_bytes = PACKET_BYTES_MAX;
    let long = EncodeError::FieldTooLong { field: "topic", bytes: 65_536 };
    assert_eq!(codec.encode(&topic, &mut buffer), Err(long));
    let no_id = Packet::Publish(Publish { qos: QoS::AtLeastOnce, ..Publish::new("t", "") });
    assert!(matches!(codec.encode(&no_id, &mut buffer), Err(EncodeError::Contradiction(_))));
    assert!(buffer.is_empty());
}

fn text() -> impl Strategy<Value = bytestring::ByteString> {
    "[a-z/äΩ🙂]{1,12}".prop_map(Into::into)
}

fn user() -> impl Strategy<Value = UserProperties> {
    prop::collection::vec((text(), text()), 0..3)
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Into::into)
}

fn properties() -> impl Strategy<Value = PublishProperties> {
    (any::<bool>(), option(any::<u32>()), option(text()), option(data()), option(text()), user()).prop_map(
        |(
            payload_is_utf8,
            message_expiry_s,
            response_topic,
            correlation_data,
            content_type,
            user_properties,
        )| {
            PublishProperties {
                payload_is_utf8,
                message_expiry_s,
                response_topic,
                correlation_data,
                content_type,
                user_properties,
                ..Default::default()
            }
        },
    )
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|n| PacketId::new(n).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn publish() -> impl Strategy<Value = Packet> {
    (qos(), any::<bool>(), any::<bool>(), text(), packet_id(), properties(), data()).prop_map(
        |(qos, dup, retain, topic, id, all, payload)| {
            let needs = qos != QoS::AtMostOnce;
            let properties = (!all.is_empty()).then(|| Box::new(all));
            let packet_id = needs.then_some(id);
            Packet::Publish(Publish { dup: dup && needs, qos, retain, topic, packet_id, properties, payload })
        },
    )
}

fn connect_packet() -> impl Strategy<Value = Packet> {
    let will = (qos(), any::<bool>(), text(), data(), any::<u32>(), properties()).prop_map(
        |(qos, retain, topic, payload, delay_s, properties)| Will {
            qos,
            retain,
            topic,
            payload,
            delay_s,
            properties,
        },
    );
    (any::<bool>(), any::<u16>(), text(), option(will), option(text()), option(data()), any::<u32>(), user())
        .prop_map(
            |(clean_start, keep_alive_s, client_id, will, user_name, password, session_expiry_s, user)| {
                Packet::Connect(Box::new(Connect {
                    clean_start,
                    keep_alive_s,
                    will,
                    user_name,
                    password,
                    session_expiry_s,
                    user_properties: user,
                    ..Connect::new(V5, client_id)
                }))
            },
        )
}

fn other() -> impl Strategy<Value = Packet> {
    let ack = (packet_id(), prop::option::of(text()), user()).prop_map(|(packet_id, reason_string, user)| {
        let all = AckProperties { reason_string, user_properties: user };
        let properties = (all != AckProperties::default()).then(|| Box::new(all));
        Ack { packet_id, reason: Success, properties }
    });
    let subscription =
        (text(), qos(), any::<bool>(), any::<bool>()).prop_map(|(filter, qos, local, retain)| Subscription {
            no_local: local,
            retain_as_published: retain,
            ..Subscription::new(filter, qos)
        });
    let subscriptions = prop::collection::vec(subscription, 1..4);
    prop_oneof![
        ack.prop_flat_map(|ack| {
            prop::sample::select(vec![
                Packet::PubAck(ack.clone()),
                Packet::PubRec(ack.clone()),
                Packet::PubRel(ack.clone()),
                Packet::PubComp(ack),
            ])
        }),
        (packet_id(), prop::option::of(1..268_435_455_u32), user(), subscriptions).prop_map(
            |(packet_id, subscription_id, user_properties, subscriptions)| {
                Packet::Subscribe(Box::new(Subscribe {
                    packet_id,
                    subscription_id,
                    user_properties,
                    subscriptions,
                }))
            }
        ),
        (packet_id(), prop::collection::vec(text(), 1..4), user()).prop_map(
            |(packet_id, filters, user_properties)| {
                Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, filters, user_properties }))
            }
        ),
        packet_id().prop_map(|packet_id| {
            let reasons = vec![GrantedQos1, NotAuthorized];
            Packet::SubAck(Box::new(SubAck { packet_id, reasons, properties: AckProperties::default() }))
        }),
        (any::<bool>(), prop::option::of(text()), user()).prop_map(|(present, id, user)| {
            let mut ack = ConnAck::new(Success);
            (ack.session_present, ack.assigned_client_id, ack.user_properties) = (present, id, user);
            Packet::ConnAck(Box::new(ack))
        }),
        Just(Packet::Disconnect(Box::new(Disconnect::new(SessionTakenOver)))),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(packet in prop_oneof![publish(), connect_packet(), other()], cut in 0_usize..500) {
        let mut codec = codec(V5);
        let mut wire = BytesMut::new();
        codec.encode(&packet, &mut wire).unwrap();
        let whole = wire.clone();
        let mut part = BytesMut::from(&wire[..cut.min(wire.len() - 1)]);
        prop_assert_eq!(codec.decode(&mut part).unwrap(), None, "a part is no packet");
        prop_assert_eq!(codec.decode(&mut wire).unwrap(), Some(packet));
        prop_assert!(wire.is_empty());
        let mut library = rmqtt_codec::v5::Codec::default();
        let read = tokio_util::codec::Decoder::decode(&mut library, &mut whole.clone());
        prop_assert!(read.is_ok(), "the oracle refuses {:?}: {:?}", whole, read);
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error_and_never_a_panic_or_a_reservation(
        bytes in prop::collection::vec(any::<u8>(), 0..200), v5: bool, server: bool,
    ) {
        let version = if v5 { V5 } else { V311 };
        let mut codec = if server { Codec::server(MAX) } else { Codec::client(version, MAX) };
        let mut buffer = BytesMut::from(&bytes[..]);
        let before = buffer.capacity();
        while let Ok(Some(_)) = codec.decode(&mut buffer) {}
        prop_assert!(buffer.capacity() <= before);
    }

    #[test]
    fn a_damaged_packet_that_the_oracle_refuses_is_refused_here_too(
        packet in prop_oneof![publish(), connect_packet(), other()], at in any::<prop::sample::Index>(), to: u8,
    ) {
        let mut codec = codec(V5);
        let mut wire = BytesMut::new();
        codec.encode(&packet, &mut wire).unwrap();
        let at = at.index(wire.len());
        wire[at] = to;
        let mut library = rmqtt_codec::v5::Codec::default();
        let theirs = tokio_util::codec::Decoder::decode(&mut library, &mut wire.clone());
        let ours = codec.decode(&mut wire.clone());
        if let (Ok(Some(taken)), Err(error)) = (&ours, &theirs) {
            prop_assert!(library_is_wrong(taken), "taken here: {taken:?}; the oracle: {error}");
        }
    }
}

/// Legal packets that the oracle refuses: a client without a name that keeps its session, a message that expires at
/// once, and an acknowledgement that ends behind its reason code.
fn library_is_wrong(packet: &Packet) -> bool {
    match packet {
        Packet::Connect(c) => {
            let expired = c.will.as_ref().is_some_and(|w| w.properties.message_expiry_s == Some(0));
            (c.client_id.is_empty() && !c.clean_start) || expired
        }
        Packet::Publish(p) => p.properties.as_ref().is_some_and(|p| p.message_expiry_s == Some(0)),
        Packet::PubAck(a) | Packet::PubRec(a) | Packet::PubRel(a) | Packet::PubComp(a) => {
            a.properties.is_none()
        }
        _ => false,
    }
}
