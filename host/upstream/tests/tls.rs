//! Over TLS to a mosquitto with certificates of a test authority.

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

use authority::{Authority, EXPIRED, VALID};
use holdfast_net::{ClientTls, ClientTlsConfig, HostName, Identity, Roots, Way};
use holdfast_upstream::{UpstreamConfig, Version};
use support::{Edge, config, mosquitto::Mosquitto};

fn secured(identity: &Identity, more: &str) -> Mosquitto {
    let (certificate, key) = (identity.certificates.display(), identity.key.display());
    Mosquitto::with(&format!("certfile {certificate}\nkeyfile {key}\nallow_anonymous true\n{more}"))
}

fn over_tls(port: u16, authority: &Authority, identity: Option<Identity>) -> UpstreamConfig {
    let roots = Roots::File(authority.root());
    let tls = ClientTlsConfig { roots, identity, ..ClientTlsConfig::default() };
    let mut config = config(port, Version::V5);
    let target = &mut config.places[0].targets[0];
    target.host = HostName::new("localhost").unwrap();
    target.way = Way::Tls(ClientTls::build(&tls).unwrap());
    config
}

#[tokio::test]
async fn messages_pass_over_tls_and_the_status_says_how() {
    let (edge, home) = (Edge::new(), Authority::new("home"));
    let mosquitto = secured(&home.issue("localhost", VALID), "");
    let mut link = edge.link(over_tls(mosquitto.port, &home, None));
    link.connected().await;
    assert!(link.status.status().encryption.unwrap().starts_with("TLSv1_3"));
    edge.fill("meter", 0, 5000).await;
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn a_broker_that_cannot_prove_itself_gets_nothing_and_the_reason_is_told() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    for (identity, part) in [
        (home.issue("localhost", EXPIRED), "expired"),
        (home.issue("elsewhere.example", VALID), "is for elsewhere.example, not for localhost"),
        (stranger.issue("localhost", VALID), "issued by an authority that is not trusted here"),
    ] {
        let edge = Edge::new();
        let mosquitto = secured(&identity, "");
        edge.fill("meter", 0, 1).await;
        let mut link = edge.link(over_tls(mosquitto.port, &home, None));
        let complaint = link.complaint().await;
        assert!(complaint.starts_with("TLS with localhost:") && complaint.contains(part), "{complaint}");
        link.stop().await;
        assert_eq!(edge.waiting(), 1);
    }
}

#[tokio::test]
async fn a_broker_that_wants_a_client_certificate_says_so_and_takes_the_right_one() {
    let (edge, home) = (Edge::new(), Authority::new("home"));
    let more = format!("cafile {}\nrequire_certificate true\n", home.root().display());
    let mosquitto = secured(&home.issue("localhost", VALID), &more);
    let mut link = edge.link(over_tls(mosquitto.port, &home, None));
    let complaint = link.complaint().await;
    assert!(complaint.contains("client certificate"), "{complaint}");
    link.stop().await;
    let mut link = edge.link(over_tls(mosquitto.port, &home, Some(home.issue("edge-1", VALID))));
    link.connected().await;
    edge.fill("meter", 0, 100).await;
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn tls_to_a_plain_port_and_plain_to_a_tls_port_are_told_apart() {
    let (edge, home) = (Edge::new(), Authority::new("home"));
    let plain = Mosquitto::start();
    let mut link = edge.link(over_tls(plain.port, &home, None));
    let complaint = link.complaint().await;
    assert!(complaint.contains("TLS on this port") || complaint.contains("TLS handshake"), "{complaint}");
    link.stop().await;

    let secure = secured(&home.issue("localhost", VALID), "");
    let mut link = edge.link(config(secure.port, Version::V5));
    let complaint = link.complaint().await;
    assert!(complaint.contains("may want TLS on this port"), "{complaint}");
    link.stop().await;
}
