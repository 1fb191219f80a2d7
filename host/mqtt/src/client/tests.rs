//! Stories of a client and a server that is played by the test.

use super::*;
use crate::AckProperties;

struct Bench {
    client: Client<u32>,
    now: Instant,
}

fn options() -> Options {
    Options {
        version: Version::V5,
        client_id: "edge".into(),
        user_name: None,
        password: None,
        clean_start: true,
        session_expiry_s: 3600,
        keep_alive_s: 30,
        window: NonZeroU16::new(4).unwrap(),
        window_bytes: 1000,
        topic_aliases_max: 0,
        answer_within: Duration::from_secs(10),
        ack_within: Duration::from_secs(60),
        maximum_packet_bytes: 65_536,
        will: None,
        user_properties: Vec::new(),
        acknowledge_by_hand: false,
    }
}

impl Bench {
    fn new(options: Options) -> Self {
        Self { client: Client::new(options), now: Instant::now() }
    }

    fn actions(&mut self) -> Vec<Action<u32>> {
        std::iter::from_fn(|| self.client.next_action()).collect()
    }

    fn connect(&mut self, ack: ConnAck) -> Vec<Action<u32>> {
        self.client.open(self.now);
        assert!(matches!(self.actions()[..], [Action::Send(Packet::Connect(_))]));
        self.receive(Packet::ConnAck(Box::new(ack)))
    }

    fn receive(&mut self, packet: Packet) -> Vec<Action<u32>> {
        self.client.receive(packet, self.now);
        self.actions()
    }

    fn publish(&mut self, ticket: u32, topic: &str) -> Publish {
        self.client.publish(ticket, Publish::new(topic, vec![0; 10]), self.now).unwrap();
        match self.actions().pop() {
            Some(Action::Send(Packet::Publish(publish))) => publish,
            other => panic!("{other:?}"),
        }
    }

    fn ack(&mut self, id: u16) -> Vec<Action<u32>> {
        self.receive(Packet::PubAck(Ack::new(PacketId::new(id).unwrap())))
    }

    fn after(&mut self, seconds: u64) -> Vec<Action<u32>> {
        self.now += Duration::from_secs(seconds);
        self.client.tick(self.now);
        self.actions()
    }
}

fn welcome() -> ConnAck {
    ConnAck::new(ReasonCode::Success)
}

fn taken(ticket: u32) -> Action<u32> {
    Action::Acknowledged { ticket, reason: ReasonCode::Success, words: None }
}

fn resent(actions: &[Action<u32>]) -> Vec<(u16, bool)> {
    let publish = |action: &Action<u32>| match action {
        Action::Send(Packet::Publish(p)) => Some((p.packet_id.unwrap().get(), p.dup)),
        _ => None,
    };
    actions.iter().filter_map(publish).collect()
}

#[test]
fn the_window_is_the_smaller_of_ours_and_the_servers_and_counts_from_the_oldest() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.client.room(), 0, "nothing before CONNACK");
    let granted = bench.connect(ConnAck { receive_maximum: NonZeroU16::new(3), ..welcome() });
    assert!(matches!(&granted[..], [Action::Connected(Granted { window: 3, session_present: false, .. })]));
    for ticket in 1..=3 {
        bench.publish(ticket, "t");
    }
    assert_eq!(bench.client.room(), 0);
    assert!(bench.client.publish(4, Publish::new("t", ""), bench.now).is_err());
    assert_eq!(bench.ack(2), [taken(2)]);
    assert_eq!((bench.client.room(), bench.client.in_flight()), (0, 2), "the oldest still waits");
    assert_eq!(bench.ack(1), [taken(1)]);
    assert_eq!((bench.client.room(), bench.client.in_flight()), (2, 1));
}

#[test]
fn payload_bytes_in_flight_are_bounded_but_one_large_message_passes() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    bench.client.publish(1, Publish::new("t", vec![0; 5000]), bench.now).unwrap();
    assert_eq!(bench.client.room(), 0);
    bench.actions();
    bench.ack(1);
    assert_eq!(bench.client.room(), 4);
}

#[test]
fn a_kept_session_sends_again_with_dup_in_order_within_the_new_receive_maximum() {
    let mut bench = Bench::new(Options { clean_start: false, ..options() });
    bench.connect(welcome());
    for ticket in 1..=4 {
        bench.publish(ticket, "t");
    }
    bench.ack(2);
    bench.client.closed();
    let again =
        bench.connect(ConnAck { session_present: true, receive_maximum: NonZeroU16::new(2), ..welcome() });
    assert_eq!(resent(&again), [(1, true), (3, true)], "2 was acknowledged; two at a time");
    assert_eq!(bench.client.room(), 0, "the old ones go first");
    let next = bench.ack(1);
    assert_eq!((next[0].clone(), resent(&next)), (taken(1), vec![(4, true)]));
    bench.ack(3);
    bench.ack(4);
    assert_eq!(bench.client.room(), 2);
}

#[test]
fn a_session_that_the_server_forgot_is_forgotten_here_too() {
    let mut bench = Bench::new(Options { clean_start: false, ..options() });
    bench.connect(welcome());
    bench.publish(1, "t");
    bench.client.closed();
    let again = bench.connect(welcome());
    assert!(matches!(&again[..], [Action::Connected(Granted { session_present: false, .. })]));
    assert_eq!((bench.client.in_flight(), bench.client.room()), (0, 4));
    let publish = bench.publish(2, "t");
    assert_eq!((publish.packet_id.unwrap().get(), publish.dup), (2, false), "identifiers go on");
}

#[test]
fn negative_acknowledgements_come_with_their_words() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    bench.publish(9, "t");
    let properties = AckProperties { reason_string: Some("too dear".into()), ..AckProperties::default() };
    let mut ack = Ack::with(PacketId::MIN, ReasonCode::QuotaExceeded);
    ack.properties = Some(Box::new(properties));
    let expected =
        Action::Acknowledged { ticket: 9, reason: ReasonCode::QuotaExceeded, words: Some("too dear".into()) };
    assert_eq!(bench.receive(Packet::PubAck(ack)), [expected]);
}

#[test]
fn a_server_that_breaks_the_rules_is_left() {
    let fault = |packet: Packet| {
        let mut bench = Bench::new(options());
        bench.connect(welcome());
        bench.publish(1, "t");
        match &bench.receive(packet)[..] {
            [Action::Fail(fault)] => fault.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(fault(Packet::PubAck(Ack::new(PacketId::new(9).unwrap()))).contains("packet 9"));
    assert!(fault(Packet::PingReq).contains("PINGREQ"));
    let bye =
        Disconnect { reason_string: Some("bye".into()), ..Disconnect::new(ReasonCode::ServerShuttingDown) };
    assert!(fault(Packet::Disconnect(Box::new(bye))).contains("server shutting down (0x8B): \"bye\""));
}

#[test]
fn refusals_are_told_with_reason_and_words() {
    let refused = |ack: ConnAck| {
        let mut bench = Bench::new(options());
        match &bench.connect(ack)[..] {
            [Action::Fail(fault)] => fault.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(ConnAck::new(ReasonCode::BadUserNameOrPassword)).contains("bad user name or password"));
    assert!(refused(ConnAck { maximum_qos: QoS::AtMostOnce, ..welcome() }).contains("QoS 0 only"));
    assert!(refused(ConnAck { session_present: true, ..welcome() }).contains("old session"));
}

#[test]
fn silence_is_answered_with_a_ping_and_no_answer_ends_the_connection() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    assert_eq!(bench.client.deadline(), Some(bench.now + Duration::from_secs(30)));
    assert_eq!(bench.after(29), []);
    assert_eq!(bench.after(1), [Action::Send(Packet::PingReq)]);
    assert_eq!(bench.client.deadline(), Some(bench.now + Duration::from_secs(10)));
    assert_eq!(bench.receive(Packet::PingResp), []);
    assert_eq!(bench.after(30), [Action::Send(Packet::PingReq)]);
    assert!(matches!(bench.after(10)[..], [Action::Fail(Fault::NoPingResp { .. })]));
}

#[test]
fn a_sender_on_a_dead_link_pings_although_it_is_not_silent_itself() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    bench.after(20);
    bench.publish(1, "t");
    assert_eq!(bench.after(10), [Action::Send(Packet::PingReq)], "nothing was received for 30 s");
}

#[test]
fn a_server_that_answers_pings_but_acknowledges_nothing_is_left() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    bench.publish(1, "t");
    bench.after(30);
    bench.receive(Packet::PingResp);
    assert!(matches!(bench.after(30)[..], [Action::Fail(Fault::NoPubAck { in_flight: 1, .. })]));
}

#[test]
fn no_connack_ends_the_attempt_and_the_server_sets_the_keep_alive() {
    let mut bench = Bench::new(options());
    bench.client.open(bench.now);
    bench.actions();
    assert!(matches!(bench.after(10)[..], [Action::Fail(Fault::NoConnAck { .. })]));
    bench.client.closed();
    bench.connect(ConnAck { server_keep_alive_s: Some(5), ..welcome() });
    assert_eq!(bench.after(5), [Action::Send(Packet::PingReq)]);
}

#[test]
fn aliases_stand_for_topics_that_come_again_and_end_with_the_connection() {
    let mut bench = Bench::new(Options { topic_aliases_max: 8, ..options() });
    bench.connect(ConnAck { topic_alias_maximum: 1, ..welcome() });
    let alias = |p: &Publish| p.properties.as_ref().and_then(|p| p.topic_alias).map(NonZeroU16::get);
    let first = bench.publish(1, "a");
    assert_eq!((&*first.topic, alias(&first)), ("a", Some(1)));
    let second = bench.publish(2, "a");
    assert_eq!((&*second.topic, alias(&second)), ("", Some(1)));
    let other = bench.publish(3, "b");
    assert_eq!((&*other.topic, alias(&other)), ("b", None), "the server takes one alias only");
    bench.client.closed();
    bench.connect(ConnAck { topic_alias_maximum: 1, ..welcome() });
    let again = bench.publish(4, "a");
    assert_eq!((&*again.topic, alias(&again)), ("a", Some(1)));
    assert_eq!(bench.client.withdraw(again.packet_id.unwrap(), "a"), Some(4));
    let fresh = bench.publish(5, "a");
    assert_eq!(&*fresh.topic, "a", "the withdrawn packet never told the server what the alias means");
}

#[test]
fn what_comes_is_acknowledged_and_handed_on() {
    let mut bench = Bench::new(options());
    bench.connect(welcome());
    let mut stray = Publish::new("t", "x");
    let received = |publish: &Publish| Action::Received(Box::new(publish.clone()));
    assert_eq!(bench.receive(Packet::Publish(stray.clone())), [received(&stray)]);
    (stray.qos, stray.packet_id) = (QoS::AtLeastOnce, PacketId::new(7));
    let answer = bench.receive(Packet::Publish(stray.clone()));
    let ack = Ack::new(PacketId::new(7).unwrap());
    assert_eq!(answer, [Action::Send(Packet::PubAck(ack.clone())), received(&stray)]);
    stray.qos = QoS::ExactlyOnce;
    let answer = bench.receive(Packet::Publish(stray.clone()));
    assert_eq!(answer, [Action::Send(Packet::PubRec(ack)), received(&stray)]);
}

fn filters(count: u16) -> Vec<Subscription> {
    (0..count).map(|n| Subscription::new(format!("f/{n}"), QoS::AtLeastOnce)).collect()
}

fn suback(id: PacketId, reason: ReasonCode) -> Packet {
    Packet::SubAck(Box::new(SubAck {
        packet_id: id,
        reasons: vec![reason],
        properties: AckProperties::default(),
    }))
}

fn subscribed(actions: &[Action<u32>]) -> Vec<(String, PacketId)> {
    let subscribe = |action: &Action<u32>| match action {
        Action::Send(Packet::Subscribe(all)) => {
            Some((all.subscriptions[0].filter.to_string(), all.packet_id))
        }
        _ => None,
    };
    actions.iter().filter_map(subscribe).collect()
}

#[test]
fn what_is_subscribed_is_subscribed_at_each_connection_before_what_is_sent_again() {
    let mut bench = Bench::new(Options { clean_start: false, ..options() });
    bench.client.set_subscriptions(filters(2));
    let first = subscribed(&bench.connect(welcome()));
    assert_eq!(first.iter().map(|(filter, _)| &**filter).collect::<Vec<_>>(), ["f/0", "f/1"]);
    let message = bench.publish(1, "t").packet_id.unwrap();
    assert!(first.iter().all(|(_, id)| *id != message && id.get() > in_flight::ID_MAX));
    assert_eq!(bench.receive(suback(first[1].1, ReasonCode::NotAuthorized)), []);
    let all = bench.receive(suback(first[0].1, ReasonCode::GrantedQos1));
    assert_eq!(all, [Action::Subscribed { refused: vec!["f/1".into()] }]);
    assert_eq!(
        bench.receive(suback(first[0].1, ReasonCode::GrantedQos1)),
        [Action::Fail(Fault::Unexpected("SUBACK"))]
    );

    bench.client.closed();
    bench.client.set_subscriptions(filters(20));
    let again = bench.connect(ConnAck { session_present: true, ..welcome() });
    assert_eq!(subscribed(&again).len(), usize::from(SUBSCRIPTIONS_MAX));
    assert_eq!(resent(&again), [(message.get(), true)]);
    assert!(matches!(again.last(), Some(Action::Send(Packet::Publish(_)))), "subscriptions go first");
    bench.ack(message.get());
    let late = bench.after(10);
    assert_eq!(late, [Action::Fail(Fault::NoSubAck { after: Duration::from_secs(10) })]);
}

#[test]
fn a_driver_that_acknowledges_by_hand_says_when() {
    let mut bench = Bench::new(Options { acknowledge_by_hand: true, ..options() });
    bench.connect(welcome());
    let id = PacketId::new(7).unwrap();
    let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), ..Publish::new("t", "x") };
    assert_eq!(bench.receive(Packet::Publish(publish.clone())), [Action::Received(Box::new(publish))]);
    bench.client.acknowledge(id, bench.now);
    assert_eq!(bench.actions(), [Action::Send(Packet::PubAck(Ack::new(id)))]);
    bench.client.closed();
    bench.client.acknowledge(id, bench.now);
    assert_eq!(bench.actions(), [], "it came over another connection");
}
