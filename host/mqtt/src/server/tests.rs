//! Sessions as stories: packets in, actions and acknowledgements out.

use super::*;
use crate::*;
use std::time::{Duration, Instant};

const V311: Rules = Rules {
    version: Version::V311,
    keep_alive_s: 10,
    window: 3,
    unacked_max: 4,
    topic_alias_maximum: 0,
    client_aliases: 0,
};
const V5: Rules = Rules { version: Version::V5, topic_alias_maximum: 2, ..V311 };

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

fn message(qos: QoS, n: u16) -> Publish {
    let packet_id = (qos != QoS::AtMostOnce).then(|| id(n));
    Publish { qos, packet_id, ..Publish::new("t", "x") }
}

fn connection(rules: Rules) -> Connection {
    Connection::new(rules, Session::default(), Instant::now())
}

/// Feeds a packet and gives the tickets that it opened and the packets to send at once.
fn feed(c: &mut Connection, packet: Packet) -> (Vec<Ticket>, Vec<Packet>) {
    let mut actions = Vec::new();
    c.packet(packet, &mut actions).unwrap();
    let (mut tickets, mut sent) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Publish { ticket, .. } => tickets.push(ticket),
            Action::Send(packet) => sent.push(packet),
            other => panic!("{other:?}"),
        }
    }
    (tickets, sent)
}

fn publish(c: &mut Connection, publish: Publish) -> Option<Ticket> {
    feed(c, Packet::Publish(publish)).0.pop()
}

fn ready(c: &mut Connection) -> Vec<Packet> {
    let mut sent = Vec::new();
    c.ready(|packet| sent.push(packet)).unwrap();
    sent
}

#[test]
fn acknowledgements_leave_in_order_of_arrival_whatever_the_order_of_the_records() {
    let mut c = connection(V311);
    let first = publish(&mut c, message(QoS::AtLeastOnce, 7)).unwrap();
    let nothing = publish(&mut c, message(QoS::AtMostOnce, 0)).unwrap();
    let second = publish(&mut c, message(QoS::ExactlyOnce, 3)).unwrap();
    c.settle(second, Outcome::Taken);
    c.settle(nothing, Outcome::Taken);
    assert_eq!(ready(&mut c), []);
    assert_eq!((c.unsettled(), c.unsettled_bytes()), (3, 3));
    c.settle(first, Outcome::Taken);
    assert_eq!(ready(&mut c), [Packet::PubAck(Ack::new(id(7))), Packet::PubRec(Ack::new(id(3)))]);
    assert_eq!((c.unsettled(), c.unsettled_bytes()), (0, 0));
}

#[test]
fn a_qos2_message_sent_again_is_acknowledged_but_not_handed_on_again() {
    let mut c = connection(V311);
    let ticket = publish(&mut c, message(QoS::ExactlyOnce, 1)).unwrap();
    let again = Publish { dup: true, ..message(QoS::ExactlyOnce, 1) };
    assert_eq!(feed(&mut c, Packet::Publish(again.clone())), (vec![], vec![]));
    c.settle(ticket, Outcome::Taken);
    assert_eq!(ready(&mut c), [Packet::PubRec(Ack::new(id(1)))]);
    assert_eq!(feed(&mut c, Packet::Publish(again)), (vec![], vec![Packet::PubRec(Ack::new(id(1)))]));
    let release = feed(&mut c, Packet::PubRel(Ack::new(id(1)))).1;
    assert_eq!(release, [Packet::PubComp(Ack::new(id(1)))]);
    let unknown = feed(&mut c, Packet::PubRel(Ack::new(id(1)))).1;
    assert_eq!(unknown, [Packet::PubComp(Ack::with(id(1), ReasonCode::PacketIdentifierNotFound))]);
    assert!(publish(&mut c, message(QoS::ExactlyOnce, 1)).is_some());
}

#[test]
fn a_qos2_message_whose_record_is_open_when_the_connection_ends_is_taken_again() {
    let mut c = connection(V311);
    let recorded = publish(&mut c, message(QoS::ExactlyOnce, 1)).unwrap();
    publish(&mut c, message(QoS::ExactlyOnce, 2)).unwrap();
    c.settle(recorded, Outcome::Taken);
    ready(&mut c);
    let mut next = Connection::new(V311, c.into_session(), Instant::now());
    assert_eq!(publish(&mut next, Publish { dup: true, ..message(QoS::ExactlyOnce, 1) }), None);
    assert!(publish(&mut next, Publish { dup: true, ..message(QoS::ExactlyOnce, 2) }).is_some());
}

#[test]
fn a_refusal_is_told_in_version_5_and_ends_the_connection_in_version_311() {
    let refused = Outcome::Refused(ReasonCode::NotAuthorized);
    let mut c = connection(V5);
    let ticket = publish(&mut c, message(QoS::AtLeastOnce, 1)).unwrap();
    c.settle(ticket, refused);
    assert_eq!(ready(&mut c), [Packet::PubAck(Ack::with(id(1), ReasonCode::NotAuthorized))]);
    let mut c = connection(V311);
    let ticket = publish(&mut c, message(QoS::AtLeastOnce, 1)).unwrap();
    c.settle(ticket, refused);
    assert_eq!(c.ready(|_| panic!("nothing may be sent")), Err(ReasonCode::NotAuthorized));
    let mut c = connection(V311);
    let ticket = publish(&mut c, message(QoS::AtMostOnce, 0)).unwrap();
    c.settle(ticket, refused);
    assert_eq!(ready(&mut c), []);
}

#[test]
fn the_window_closes_and_opens_and_what_is_not_acknowledged_is_sent_again_in_order() {
    let mut c = connection(V311);
    let send = |c: &mut Connection, qos| match c.deliver(Publish { qos, ..Publish::new("t", "x") }) {
        Packet::Publish(publish) => publish.packet_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(send(&mut c, QoS::AtLeastOnce), Some(id(1)));
    assert_eq!(send(&mut c, QoS::ExactlyOnce), Some(id(2)));
    assert_eq!(send(&mut c, QoS::AtMostOnce), None);
    assert_eq!(send(&mut c, QoS::AtLeastOnce), Some(id(3)));
    assert_eq!(c.room(), 0);
    let (_, sent) = feed(&mut c, Packet::PubRec(Ack::new(id(2))));
    assert_eq!(sent, [Packet::PubRel(Ack::new(id(2)))]);
    feed(&mut c, Packet::PubAck(Ack::new(id(3))));
    assert_eq!(c.room(), 1);
    let mut next = Connection::new(V311, c.into_session(), Instant::now());
    let again: Vec<_> = std::iter::from_fn(|| next.again()).collect();
    assert!(matches!(&again[0], Packet::Publish(p) if p.dup && p.packet_id == Some(id(1))));
    assert_eq!(again[1..], [Packet::PubRel(Ack::new(id(2)))]);
}

#[test]
fn identifiers_go_round_and_never_meet_one_in_use() {
    let mut outgoing = Outgoing::default();
    let message = Publish { qos: QoS::AtLeastOnce, ..Publish::new("t", "x") };
    let kept = outgoing.send(message.clone()).packet_id.unwrap();
    for n in 2..=u16::MAX {
        assert_eq!(outgoing.send(message.clone()).packet_id, Some(id(n)));
        outgoing.puback(id(n)).unwrap();
    }
    assert_eq!((outgoing.len(), outgoing.room(10)), (1, 0), "the next identifier would be {kept}");
    outgoing.puback(kept).unwrap();
    assert_eq!(outgoing.room(10), 10);
    assert_eq!(outgoing.send(message).packet_id, Some(id(1)));
}

#[test]
fn acknowledgements_that_do_not_fit_end_the_connection_and_unknown_ones_do_not() {
    let mut c = connection(V311);
    c.deliver(Publish { qos: QoS::ExactlyOnce, ..Publish::new("t", "x") });
    let mut actions = Vec::new();
    assert!(c.packet(Packet::PubAck(Ack::new(id(1))), &mut actions).is_err());
    assert!(c.packet(Packet::PubComp(Ack::new(id(1))), &mut actions).is_err());
    assert!(c.packet(Packet::PubAck(Ack::new(id(99))), &mut actions).is_ok());
    assert!(c.packet(Packet::PubComp(Ack::new(id(99))), &mut actions).is_ok());
}

#[test]
fn a_client_of_version_5_that_sends_more_than_it_may_is_told_which_rule_it_broke() {
    let mut c = connection(V5);
    for n in 1..=4 {
        publish(&mut c, message(QoS::AtLeastOnce, n));
    }
    let error = c.packet(Packet::Publish(message(QoS::AtLeastOnce, 5)), &mut Vec::new()).unwrap_err();
    assert_eq!((error.reason, error.clause), (ReasonCode::ReceiveMaximumExceeded, Some("MQTT-3.3.4-7")));
}

#[test]
fn topic_aliases_are_resolved_and_bad_ones_refused() {
    let mut c = connection(V5);
    let aliased = |topic: &'static str, alias: u16| {
        let properties = PublishProperties { topic_alias: Some(id(alias)), ..Default::default() };
        Packet::Publish(Publish { properties: Some(Box::new(properties)), ..Publish::new(topic, "x") })
    };
    let mut actions = Vec::new();
    c.packet(aliased("a/b", 2), &mut actions).unwrap();
    c.packet(aliased("", 2), &mut actions).unwrap();
    assert!(actions.iter().all(|a| matches!(a, Action::Publish { publish, .. } if publish.topic == "a/b")));
    assert_eq!(c.packet(aliased("", 1), &mut actions).unwrap_err().reason, ReasonCode::ProtocolError);
    assert_eq!(c.packet(aliased("a", 3), &mut actions).unwrap_err().clause, Some("MQTT-3.3.2-9"));
}

#[test]
fn packets_that_only_a_server_sends_and_a_second_connect_are_refused() {
    let mut c = connection(V311);
    for packet in [
        Packet::PingResp,
        Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
        Packet::Connect(Box::new(Connect::new(Version::V311, "c"))),
    ] {
        let error = c.packet(packet, &mut Vec::new()).unwrap_err();
        assert_eq!(error.reason, ReasonCode::ProtocolError, "{error}");
    }
}

#[test]
fn a_silent_client_is_given_up_after_one_and_a_half_times_its_keep_alive() {
    let start = Instant::now();
    let mut c = Connection::new(V311, Session::default(), start);
    assert_eq!(c.deadline(), Some(start + Duration::from_secs(15)));
    c.heard(start + Duration::from_secs(9));
    assert_eq!(c.deadline(), Some(start + Duration::from_secs(24)));
    let never = Connection::new(Rules { keep_alive_s: 0, ..V311 }, Session::default(), start);
    assert_eq!(never.deadline(), None);
}

#[test]
fn topics_towards_the_client_get_as_many_aliases_as_it_takes_and_what_is_sent_again_has_none() {
    let mut c = connection(Rules { client_aliases: 1, ..V5 });
    let mut send = |topic: &'static str| match c
        .deliver(Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, "x") })
    {
        Packet::Publish(publish) => c.aliased(&publish),
        other => panic!("{other:?}"),
    };
    let said = |sent: Option<Publish>| {
        let sent = sent.unwrap();
        let alias = sent.properties.and_then(|properties| properties.topic_alias);
        (sent.topic.to_string(), alias.map(|alias| alias.get()))
    };
    assert_eq!(said(send("plant/1")), ("plant/1".to_owned(), Some(1)));
    assert_eq!(said(send("plant/1")), (String::new(), Some(1)));
    assert_eq!(said(send("plant/2")), ("plant/2".to_owned(), None));
    c.forget_alias("plant/1");
    let mut next = Connection::new(V5, c.into_session(), Instant::now());
    let again: Vec<_> = std::iter::from_fn(|| next.again()).collect();
    assert!(
        again.iter().all(
            |packet| matches!(packet, Packet::Publish(p) if !p.topic.is_empty() && p.properties.is_none())
        )
    );
    assert!(connection(V5).aliased(&Publish::new("plant/1", "x")).is_none());
}

#[test]
fn what_is_sent_again_keeps_to_the_window_of_the_new_connection() {
    let mut c = connection(V5);
    for _ in 0..3 {
        c.deliver(Publish { qos: QoS::AtLeastOnce, ..Publish::new("t", "x") });
    }
    let mut next = Connection::new(Rules { window: 1, ..V5 }, c.into_session(), Instant::now());
    for n in 1..=3 {
        assert!(matches!(next.again(), Some(Packet::Publish(p)) if p.dup && p.packet_id == Some(id(n))));
        assert!((next.again().is_none(), next.room()) == (true, 0), "the window is full");
        feed(&mut next, Packet::PubAck(Ack::new(id(n))));
    }
    assert!(next.again().is_none());
    assert_eq!(next.room(), 1);
}
