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
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, QuicTls, Roots, ServerTls, ServerTlsConfig,
    Target, Timeouts, Transport, Way,
};
use holdfast_upstream::{ChoiceRules, Place, UpstreamConfig, Version, WayState};
use std::time::Duration;
use support::{
    Edge, Link, config,
    taker::Taker,
    target,
    udp::{Path, UdpPath},
    until,
};

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
        choice: ChoiceRules { return_after: SOON, failover_after: SOON },
        timeouts: Timeouts { quic: Duration::from_millis(500), ..Timeouts::default() },
        ..config(0, Version::V5)
    }
}

fn place(name: &str, targets: Vec<Target>) -> Place {
    Place { name: name.into(), targets }
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
