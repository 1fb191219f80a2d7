//! Plain TCP: only where it is allowed, and what is said when a port cannot be had or reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

use holdfast_net::{
    DialError, Door, HostName, ListenConfig, ListenError, Listener, PlainTcp, Settings, Target, Timeouts,
    Way, dial,
};
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn listen(address: &str, plain: PlainTcp) -> ListenConfig {
    let address: SocketAddr = address.parse().unwrap();
    ListenConfig {
        address,
        door: Door::Tcp,
        plain,
        settings: Settings::new("gateway.listen", "gateway.tls", "gateway.allow_remote_plain"),
    }
}

fn target(host: &str, port: u16, plain: PlainTcp) -> Target {
    let settings = Settings::new("upstream.url", "mqtts:// in upstream.url", "upstream.allow_plain");
    Target { plain, ..Target::new(HostName::new(host).unwrap(), port, Way::Tcp, settings) }
}

#[tokio::test]
async fn loopback_needs_no_permission() {
    let listener = Listener::bind(listen("127.0.0.1:0", PlainTcp::LoopbackOnly)).await.unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let target = target(host, listener.local().port(), PlainTcp::LoopbackOnly);
        let accept = async { listener.accept().await.unwrap().handshake(Duration::from_secs(10)).await };
        let (accepted, dialled) = tokio::join!(accept, dial(&target, Timeouts::default()));
        let (mut inside, mut outside) = (accepted.unwrap(), dialled.unwrap());
        outside.write_all(b"x").await.unwrap();
        assert_eq!(inside.read_u8().await.unwrap(), b'x');
        assert!(!inside.is_encrypted() && inside.peer_certificates().is_empty());
    }
}

#[tokio::test]
async fn plain_tcp_beyond_loopback_is_refused_until_the_setting_says_otherwise() {
    let refused = Listener::bind(listen("0.0.0.0:0", PlainTcp::LoopbackOnly)).await.unwrap_err().to_string();
    assert!(
        refused.contains("gateway.allow_remote_plain = true") && refused.contains("gateway.tls"),
        "{refused}"
    );
    assert!(Listener::bind(listen("0.0.0.0:0", PlainTcp::Allowed)).await.is_ok());

    let away = target("192.0.2.1", 1883, PlainTcp::LoopbackOnly);
    let error = dial(&away, Timeouts::default()).await.unwrap_err();
    assert!(error.needs_a_person());
    let text = error.to_string();
    assert!(text.contains("192.0.2.1:1883") && text.contains("upstream.allow_plain = true"), "{text}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_way_to_find_its_holder() {
    let first = Listener::bind(listen("127.0.0.1:0", PlainTcp::LoopbackOnly)).await.unwrap();
    let again = listen(&first.local().to_string(), PlainTcp::LoopbackOnly);
    let error = Listener::bind(again).await.unwrap_err();
    assert!(matches!(error, ListenError::PortTaken { .. }));
    let (text, port) = (error.to_string(), first.local().port());
    assert!(text.contains(&format!("port {port} of")) && text.contains("gateway.listen"), "{text}");
    if cfg!(target_os = "linux") {
        assert!(text.contains(&format!("ss -ltunp 'sport = :{port}'")), "{text}");
    }
}

#[tokio::test]
async fn an_address_of_another_machine_cannot_be_listened_on() {
    let error = Listener::bind(listen("192.0.2.1:0", PlainTcp::Allowed)).await.unwrap_err();
    assert!(matches!(error, ListenError::AddressNotAvailable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1 (this machine only)"));
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_two_things() {
    let free = Listener::bind(listen("127.0.0.1:0", PlainTcp::LoopbackOnly)).await.unwrap().local().port();
    let error =
        dial(&target("127.0.0.1", free, PlainTcp::LoopbackOnly), Timeouts::default()).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("check that the broker runs there"));

    let error = dial(&target("no-such-host.invalid", 1883, PlainTcp::Allowed), Timeouts::default())
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Unresolved { .. }), "{error}");
    assert!(error.to_string().contains("check the spelling in upstream.url"), "{error}");
}
