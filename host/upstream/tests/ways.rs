//! Which way messages take: fallback, return, failover, and what is told of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

#[path = "../../net/tests/authority/mod.rs"]
mod authority;
mod support;

use authority::{Authority, VALID};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_broker::{Drain, Percent};
use holdfast_link::{ActiveHub, ConciergeAnswer, Document};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, ListenConfig, Listener, PlainTcp, QuicTls, Roots,
    ServerTls, ServerTlsConfig, Settings, Target, Timeouts, Transport, Way,
};
use holdfast_upstream::{ChoiceRules, Concierge, KeepAcknowledged, Place, UpstreamConfig, Version, WayState};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{
    Edge, LONG, Link, config,
    proxy::{self, Proxy},
    taker::Taker,
    target,
    udp::{Path, UdpPath},
    until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_millis(200);

fn secure(home: &Authority) -> ServerTls {
    let identity = home.issue("localhost", VALID);
    ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::None }).unwrap()
}

fn client(home: &Authority) -> ClientTlsConfig {
    ClientTlsConfig { roots: Roots::File(home.root()), ..ClientTlsConfig::default() }
}

fn tls(home: &Authority) -> ClientTls {
    ClientTls::build(&client(home)).unwrap()
}

fn quic(home: &Authority) -> Way {
    Way::Quic(QuicTls::build(&client(home)).unwrap())
}

fn by(port: u16, way: Way) -> Target {
    Target { host: HostName::new("localhost").unwrap(), way, ..target(port) }
}

/// A link in a hurry.
fn to(places: Vec<Place>) -> UpstreamConfig {
    UpstreamConfig {
        places,
        choice: ChoiceRules { return_after: SOON, failover_after: SOON, returns: true },
        timeouts: Timeouts { quic: Duration::from_millis(500), ..Timeouts::default() },
        ..config(0, Version::V5)
    }
}

fn place(name: &str, targets: Vec<Target>) -> Place {
    Place { name: name.into(), hub: None, targets }
}

async fn goes_by(link: &Link, transport: Transport) {
    until("the link goes that way", || link.status.status().transport == Some(transport)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_by_every_way() {
    let home = Authority::new("home");
    for (door, way, transport) in [
        (Door::Tcp, Way::Tcp, Transport::Tcp),
        (Door::WebSocket, Way::WebSocket("/mqtt".into()), Transport::WebSocket),
        (Door::Tls(secure(&home)), Way::Tls(tls(&home)), Transport::Tls),
        (
            Door::WebSocketTls(secure(&home)),
            Way::WebSocketTls(tls(&home), "/$iothub/websocket".into()),
            Transport::WebSocketTls,
        ),
        (Door::Quic(secure(&home)), quic(&home), Transport::Quic),
    ] {
        let (edge, hub) = (Edge::new(), Taker::behind(door).await);
        edge.fill("meter", 0, 3000).await;
        let mut link = edge.link(to(vec![place("hub", vec![by(hub.port(), way)])]));
        link.connected().await;
        goes_by(&link, transport).await;
        assert_eq!(hub.has_all(3000).await, 0, "{transport}");
        edge.drained().await;
        link.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_swallowed_the_link_falls_back_and_returns_without_a_gap_when_it_passes() {
    let home = Authority::new("home");
    let over_quic = Taker::behind(Door::Quic(secure(&home))).await;
    let over_tls =
        Taker::at("127.0.0.1:0".parse().unwrap(), Door::Tls(secure(&home)), over_quic.taken.clone()).await;
    let path = UdpPath::to(over_quic.port(), Path { swallows: true, ..Path::default() }).await;
    let edge = Edge::new();
    let ways = vec![by(path.port, quic(&home)), by(over_tls.port(), Way::Tls(tls(&home)))];
    let mut link = edge.link(to(vec![place("hub", ways)]));
    link.connected().await;
    goes_by(&link, Transport::Tls).await;
    edge.fill("meter", 0, 500).await;
    over_tls.has_all(500).await;
    let ways = link.status.status().ways;
    assert!(
        matches!(&ways[0].state, WayState::Failed(why) if why.contains("did not answer QUIC")),
        "{ways:?}"
    );
    assert!(ways[1].in_use && !ways[0].in_use);

    path.change(|path| path.swallows = false);
    goes_by(&link, Transport::Quic).await;
    edge.fill("meter", 500, 500).await;
    assert_eq!(over_quic.has_all(1000).await, 0, "the way that worked was not cut");
    assert_eq!(link.status.status().counters.connected, 2);

    // And back once more when it is swallowed under way: the connection is given up, and what works is taken.
    assert_eq!(link.status.status().ways[1].state, WayState::Works);
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_gone_is_left_for_the_next_and_taken_again_when_it_is_healthy() {
    let first = Taker::behind(Door::Tcp).await;
    let second = Taker::at("127.0.0.1:0".parse().unwrap(), Door::Tcp, first.taken.clone()).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![
        place("hub-a", vec![target(first.port())]),
        place("hub-b", vec![target(second.port())]),
    ]));
    link.connected().await;
    assert_eq!(&*link.status.status().target, "hub-a");
    edge.fill("meter", 0, 200).await;
    first.has_all(200).await;

    let (address, taken) = (first.address, first.taken.clone());
    drop(first);
    edge.fill("meter", 200, 200).await;
    second.has_all(400).await;
    assert_eq!(&*link.status.status().target, "hub-b");

    let first = Taker::at(address, Door::Tcp, taken).await;
    until("it is back at the preferred hub", || &*link.status.status().target == "hub-a").await;
    edge.fill("meter", 400, 200).await;
    first.has_all(600).await;
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_which_hub_to_use_moves_there_and_stays() {
    let first = Taker::behind(Door::Tcp).await;
    let second = Taker::behind(Door::Tcp).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![
        place("hub-a", vec![target(first.port())]),
        place("hub-b", vec![target(second.port())]),
    ]));
    link.connected().await;
    edge.fill("meter", 0, 50).await;
    edge.drained().await;
    assert_eq!(link.status.use_place(Some("hub-c")), Err(vec!["hub-a".into(), "hub-b".into()]));
    link.status.use_place(Some("hub-b")).unwrap();
    until("it is at the other hub", || second.connections() == 1).await;
    edge.fill("meter", 50, 50).await;
    edge.drained().await;
    assert_eq!((first.len(), second.len()), (50, 50));

    link.status.use_place(None).unwrap();
    until("it is back", || &*link.status.status().target == "hub-a" && first.connections() > 1).await;
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_quic_a_link_whose_address_changes_again_and_again_loses_and_repeats_nothing() {
    let home = Authority::new("home");
    let hub = Taker::behind(Door::Quic(secure(&home))).await;
    let path = UdpPath::to(hub.port(), Path::default()).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![place("hub", vec![by(path.port, quic(&home))])]));
    link.connected().await;
    for round in 0..5 {
        edge.fill("meter", round * 400, 400).await;
        path.change(|path| path.address += 1);
        hub.has_all(400 * (usize::try_from(round).unwrap() + 1)).await;
    }
    assert_eq!((hub.connections(), link.status.status().counters.connected), (1, 1));
    assert_eq!(hub.has_all(2000).await, 0);
    link.stop().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_other_ways_are_not_tried_for_it() {
    use holdfast_mqtt::{ConnAck, ReasonCode};
    let broker = support::scripted::Scripted::new().await;
    let other = Taker::behind(Door::Tcp).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![place("hub", vec![target(broker.port), target(other.port())])]));
    let _visitor = broker.welcomed(ConnAck::new(ReasonCode::BadUserNameOrPassword)).await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("upstream.password"), "{complaint}");
    assert_eq!(other.connections(), 0);
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_refuses_the_edge_is_left_for_the_next_as_one_that_is_out_of_reach() {
    let first = support::scripted::Scripted::new().await;
    let second = Taker::behind(Door::Tcp).await;
    let edge = Edge::new();
    let link = edge.link(to(vec![
        place("hub-a", vec![target(first.port)]),
        place("hub-b", vec![target(second.port())]),
    ]));
    let refuses = async {
        loop {
            let refusal = holdfast_mqtt::ConnAck::new(holdfast_mqtt::ReasonCode::NotAuthorized);
            drop(first.welcomed(refusal).await);
        }
    };
    tokio::select! {
        () = refuses => {}
        () = until("it is at the next one", || link.status.status().state.is_connected()) => {}
    }
    assert_eq!(&*link.status.status().target, "hub-b");
    edge.fill("meter", 0, 50).await;
    second.has_all(50).await;
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_acknowledged_before_it_died_for_good_is_with_the_next_one_and_no_hub_gets_it_twice() {
    let first = Taker::behind(Door::Tcp).await;
    let second = Taker::behind(Door::Tcp).await;
    let way = Proxy::to(first.port()).await;
    let edge = Edge::new();
    let keep_acknowledged = KeepAcknowledged { time: LONG, bytes: 1 << 20 };
    let mut link = edge.link(UpstreamConfig {
        keep_acknowledged,
        choice: ChoiceRules { return_after: LONG, failover_after: Duration::from_secs(2), returns: true },
        ..to(vec![place("hub-a", vec![target(way.port)]), place("hub-b", vec![target(second.port())])])
    });
    link.connected().await;
    edge.fill("meter", 0, 300).await;
    assert_eq!(first.has_all(300).await, 0);
    until("all is acknowledged", || link.status.status().counters.acknowledged == 300).await;
    assert_eq!(edge.waiting(), 300, "the cursor trails");

    // A connection that breaks is no reason to send it again.
    way.set(proxy::Way::Cut);
    edge.fill("meter", 300, 50).await;
    way.set(proxy::Way::Open);
    assert_eq!(first.has_all(350).await, 0);

    drop(first);
    way.set(proxy::Way::Cut);
    edge.fill("meter", 350, 50).await;
    assert_eq!(second.has_all(400).await, 0);
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_let_go_when_its_time_is_over_or_when_it_is_too_much() {
    let hub = Taker::behind(Door::Tcp).await;
    for (time, bytes, left) in [(SOON, 1 << 20, 0), (LONG, 100, 25)] {
        let edge = Edge::new();
        let mut link = edge.link(UpstreamConfig {
            keep_acknowledged: KeepAcknowledged { time, bytes },
            ..to(vec![place("hub", vec![target(hub.port())])])
        });
        link.connected().await;
        // Four bytes each.
        edge.fill("meter", 1000, 500).await;
        until("it is let go", || edge.waiting() == left).await;
        link.stop().await;
    }
}

/// How many messages come between an alarm's begin and its end, while bulk leaves over a path of 400 kB/s whose router would
/// hold 128 kB; and how many come in two of its round trips and 50 ms. More of the bulk is under way than a stream takes
/// before the other side lets it go on.
async fn alarm_behind_bulk(streams: bool) -> (usize, f64) {
    let home = Authority::new("home");
    let hub = Taker::behind(Door::Quic(secure(&home))).await;
    let delay = Duration::from_millis(25);
    let path = UdpPath::to(hub.port(), Path { delay, rate: Some(400_000), ..Path::default() }).await;
    let edge = Edge::new();
    edge.fill_of("meter", 0, 30_000, 300).await;
    let config = UpstreamConfig {
        window: 2500,
        streams,
        drain_within: Duration::ZERO,
        ..to(vec![place("hub", vec![by(path.port, quic(&home))])])
    };
    let mut link = edge.link(config);
    link.connected().await;
    until("bulk is under way", || hub.len() > 1500).await;
    let (begun, first) = (Instant::now(), hub.len());
    let mut waited = Vec::new();
    for n in 0..5 {
        let before = hub.len();
        edge.fill("alarms", n, 1).await;
        let count = usize::try_from(n).unwrap() + 1;
        until("the alarm is there", || hub.taken.lock().unwrap().alarms.len() == count).await;
        waited.push(hub.taken.lock().unwrap().alarms[count - 1] - before);
    }
    let in_a_second = (hub.len() - first) as f64 / begun.elapsed().as_secs_f64();
    assert!(hub.len() < 27_000, "bulk was under way all the time");
    assert_eq!(hub.taken.lock().unwrap().beside, usize::from(streams));
    hub.taken.lock().unwrap().account.assert_whole_and_in_order();
    link.stop().await;
    waited.sort_unstable();
    (waited[waited.len() / 2], in_a_second * (4.0 * delay.as_secs_f64() + 0.05))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_on_a_stream_of_its_own_does_not_wait_for_bulk() {
    let ((alone, carried), (among, _)) = (alarm_behind_bulk(true).await, alarm_behind_bulk(false).await);
    println!(
        "{alone} messages passed an alarm on its own stream, {among} among the bulk; {carried:.0} in two round trips"
    );
    // A full router would let twice as many pass.
    assert!(
        (alone as f64) < carried,
        "{alone} messages passed it, {carried} come in two round trips and 50 ms"
    );
    assert!(alone * 2 < among, "{alone} messages passed it on its own stream, {among} among the bulk");
}

/// How many of the first 3000 messages are urgent, where an urgent backlog and another leave together; and how many urgent ones
/// come before the last of the others.
async fn urgent_of_two_backlogs(drain: Drain, door: Door, way: Way) -> (usize, usize) {
    let (edge, hub) = (Edge::new(), Taker::behind(door).await);
    // Streams of QUIC wait for each other where the path is narrower than the window.
    let path = Path { delay: Duration::from_millis(5), rate: Some(2_000_000), ..Path::default() };
    let path = UdpPath::to(hub.port(), path).await;
    let port = if matches!(way, Way::Quic(_)) { path.port } else { hub.port() };
    edge.fill_of("alarms", 0, 8000, 300).await;
    edge.fill_of("meter", 0, 1500, 300).await;
    let config = UpstreamConfig { drain, ..to(vec![place("hub", vec![by(port, way)])]) };
    let mut link = edge.link(config);
    link.connected().await;
    hub.has_all(9500).await;
    edge.drained().await;
    link.stop().await;
    let taken = hub.taken.lock().unwrap();
    let is_urgent = |queue: &&String| queue.ends_with("/0");
    let arrivals = &taken.account.arrivals;
    let last = arrivals.iter().rposition(|queue| !is_urgent(&queue)).unwrap();
    let urgent_of_first = |count: usize| arrivals[..count].iter().filter(is_urgent).count();
    (urgent_of_first(3000), urgent_of_first(last))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_backlog_goes_first_or_leaves_the_others_their_share_of_the_link() {
    let home = Authority::new("home");
    let ways =
        || [(Door::Tls(secure(&home)), Way::Tls(tls(&home))), (Door::Quic(secure(&home)), quic(&home))];
    for (door, way) in ways() {
        // What is less urgent waits for all of it.
        assert_eq!(urgent_of_two_backlogs(Drain::InOrder, door, way).await, (3000, 8000));
    }
    for (door, way) in ways() {
        let share = Drain::Share(Percent::new(75).unwrap());
        let (urgent, before_last) = urgent_of_two_backlogs(share, door, way).await;
        // Windows of either may be under way when the count ends.
        assert!(urgent.abs_diff(2250) <= 384, "{urgent} of 3000");
        // A quarter of the link brings 1500 messages while three quarters bring 4500.
        assert!(before_last.abs_diff(4500) <= 768, "{before_last} urgent ones before the last of the others");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_answers_nothing_any_more_is_left_for_another_before_it_is_given_up() {
    let home = Authority::new("home");
    let over_quic = Taker::behind(Door::Quic(secure(&home))).await;
    let over_tls =
        Taker::at("127.0.0.1:0".parse().unwrap(), Door::Tls(secure(&home)), over_quic.taken.clone()).await;
    let path = UdpPath::to(over_quic.port(), Path::default()).await;
    let edge = Edge::new();
    let ways = vec![by(path.port, quic(&home)), by(over_tls.port(), Way::Tls(tls(&home)))];
    let mut link = edge.link(to(vec![place("hub", ways)]));
    link.connected().await;
    goes_by(&link, Transport::Quic).await;
    edge.fill("meter", 0, 100).await;
    over_quic.has_all(100).await;
    path.change(|path| path.swallows = true);
    let begun = Instant::now();
    edge.fill("meter", 100, 100).await;
    over_tls.has_all(200).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "long before QUIC or MQTT give the connection up");
    goes_by(&link, Transport::Tls).await;
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_way_answers_nothing_no_try_of_it_waits_for_the_one_before() {
    let home = Authority::new("home");
    let hub = Taker::behind(Door::Tls(secure(&home))).await;
    let proxy = Proxy::to(hub.port()).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![place("hub", vec![by(proxy.port, Way::Tls(tls(&home)))])]));
    link.connected().await;
    edge.fill("meter", 0, 10).await;
    hub.has_all(10).await;
    proxy.set(proxy::Way::BlackHole);
    edge.fill("meter", 10, 10).await;
    // The connection in use and the most tries that there may be beside it, each of which hears nothing.
    until("tries are under way beside each other", || proxy.open() == 5).await;
    proxy.set(proxy::Way::Open);
    hub.has_all(20).await;
    until("the tries that came to nothing are ended", || proxy.open() == 1).await;
    link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_a_link_over_quic_goes_on_as_soon_as_the_path_does() {
    let home = Authority::new("home");
    let hub = Taker::behind(Door::Quic(secure(&home))).await;
    let delay = Duration::from_millis(25);
    let path = UdpPath::to(hub.port(), Path { delay, ..Path::default() }).await;
    let edge = Edge::new();
    let mut link = edge.link(to(vec![place("hub", vec![by(path.port, quic(&home))])]));
    link.connected().await;
    edge.fill("meter", 0, 100).await;
    hub.has_all(100).await;
    path.change(|path| path.swallows = true);
    edge.fill("meter", 100, 10).await;
    // The probes of QUIC itself would come 4.7 s and 9.5 s after the last answer.
    tokio::time::sleep(Duration::from_secs(5)).await;
    path.change(|path| path.swallows = false);
    let mended = Instant::now();
    hub.has_all(110).await;
    assert!(mended.elapsed() < Duration::from_secs(2), "{:?}", mended.elapsed());
    assert_eq!((hub.connections(), hub.has_all(110).await), (1, 0), "it is the same connection");
    link.stop().await;
}

/// Answers every request with what it has to say now.
async fn concierge(home: &Authority, says: Arc<Mutex<String>>) -> u16 {
    let listener = Listener::bind(ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door: Door::Tls(secure(home)),
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("concierge"),
    })
    .await
    .unwrap();
    let port = listener.local().port();
    tokio::spawn(async move {
        loop {
            let Ok(mut stream) = listener.accept().await.unwrap().handshake(LONG).await else { continue };
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(b"GET /active HTTP/1.0\r\n"));
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", says.lock().unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Who asked may be gone.
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn the_concierge_moves_an_edge_from_hub_to_hub_also_over_a_restart_and_nobody_else_can() {
    let home = Authority::new("home");
    let signing = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let statement = |key: &Ed25519KeyPair, hub: &str, issued_ms: u64| {
        let said = ActiveHub { active: hub.to_owned(), issued_ms, expires_ms: u64::MAX }.encode().unwrap();
        let signature = BASE64_STANDARD.encode(key.sign(&said));
        let statement = String::from_utf8(said.to_vec()).unwrap();
        String::from_utf8(ConciergeAnswer { statement, signature }.encode().unwrap().to_vec()).unwrap()
    };
    let says = Arc::new(Mutex::new(statement(&signing, "hub-b", 1)));
    let port = concierge(&home, says.clone()).await;
    let (first, second) = (Taker::behind(Door::Tcp).await, Taker::behind(Door::Tcp).await);
    let edge = Edge::new();
    let config = |port: u16| UpstreamConfig {
        concierge: Some(Concierge {
            target: by(port, Way::Tls(tls(&home))),
            path: "/active".into(),
            key: signing.public_key().as_ref().try_into().unwrap(),
            interval: Duration::from_millis(20),
        }),
        ..to(vec![place("hub-a", vec![target(first.port())]), place("hub-b", vec![target(second.port())])])
    };
    let at = |link: &Link, hub: &'static str| {
        let status = link.status.clone();
        move || &*status.status().target == hub && status.status().state.is_connected()
    };
    let mut link = edge.link(config(port));
    link.connected().await;
    until("it is where it was told to be", at(&link, "hub-b")).await;
    *says.lock().unwrap() = statement(&signing, "hub-a", 3);
    until("it has moved", at(&link, "hub-a")).await;
    let junk = "nonsense".to_owned();
    for said in [
        statement(&stranger, "hub-b", 4),
        statement(&signing, "hub-b", 2),
        statement(&signing, "hub-c", 5),
        junk,
    ] {
        *says.lock().unwrap() = said;
        edge.fill("meter", 0, 1).await;
        edge.drained().await;
        tokio::time::sleep(SOON).await;
        assert!(at(&link, "hub-a")());
    }
    *says.lock().unwrap() = statement(&signing, "hub-b", 6);
    until("it has moved", at(&link, "hub-b")).await;
    // The operator may say otherwise, until the concierge names another hub.
    link.status.use_place(Some("hub-a")).unwrap();
    until("the operator was heard", at(&link, "hub-a")).await;
    *says.lock().unwrap() = statement(&signing, "hub-b", 7);
    tokio::time::sleep(SOON).await;
    assert!(at(&link, "hub-a")());
    link.stop().await;

    // With a concierge that is gone, it goes where it was sent last, and not to the preferred hub.
    let before = first.connections();
    let mut link = edge.link(config(1));
    link.connected().await;
    assert!(at(&link, "hub-b")());
    assert_eq!(first.connections(), before);
    link.stop().await;
}
