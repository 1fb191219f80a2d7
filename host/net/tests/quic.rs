//! QUIC as streams of bytes: what is agreed on, further streams, an address that changes, and who is not let in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod authority;

use authority::{Authority, VALID};
use holdfast_net::{
    ClientAuth, Door, HandshakeFault, Identity, ListenConfig, Listener, PlainTcp, ServerTls, ServerTlsConfig,
    Settings, Stream, Transport,
};
use quinn::{ClientConfig, Connection, Endpoint, crypto::rustls::QuicClientConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::UdpSocket, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_secs(10);

async fn listen(home: &Authority) -> Listener {
    let identity = home.issue("localhost", VALID);
    let tls = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::Asked }).unwrap();
    Listener::bind(ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door: Door::Quic(tls),
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("gateway"),
    })
    .await
    .unwrap()
}

fn client(home: &Authority, protocol: &str, identity: Option<Identity>) -> Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(home.root()).unwrap()).unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from_pem_file(identity.certificates).unwrap();
            let key = PrivateKeyDer::from_pem_file(identity.key).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(
        QuicClientConfig::try_from(Arc::new(config)).unwrap(),
    )));
    endpoint
}

/// Both ends, with the first stream of the client open and `hello` said on it.
async fn meet(
    listener: &Listener,
    endpoint: &Endpoint,
) -> (Stream, Connection, quinn::SendStream, quinn::RecvStream) {
    let accept = async { listener.accept().await.unwrap().handshake(SOON).await.unwrap() };
    let dial = async {
        let connection = endpoint.connect(listener.local(), "localhost").unwrap().await.unwrap();
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(b"hello").await.unwrap();
        (connection, send, receive)
    };
    let (mut inside, (connection, send, receive)) = tokio::join!(accept, dial);
    let mut five = [0; 5];
    inside.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"hello");
    (inside, connection, send, receive)
}

#[tokio::test]
async fn the_first_stream_carries_the_session_and_further_ones_stand_beside_it() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    let endpoint = client(&home, "mqtt", Some(home.issue("sensor-1", VALID)));
    let (mut inside, connection, _send, mut receive) = meet(&listener, &endpoint).await;
    assert_eq!(inside.transport(), Transport::Quic);
    assert!(inside.is_encrypted() && inside.peer_certificates().len() == 1);

    let branches = inside.branches().unwrap();
    let (mut side, mut back) = connection.open_bi().await.unwrap();
    side.write_all(b"beside").await.unwrap();
    let mut branch = branches.next().await.unwrap();
    let mut six = [0; 6];
    branch.read_exact(&mut six).await.unwrap();
    branch.write_all(b"answer").await.unwrap();
    back.read_exact(&mut six).await.unwrap();
    assert_eq!(&six, b"answer");

    // More than every window, and nothing of it is lost when the stream ends behind it.
    let large = vec![7_u8; 3 << 20];
    let write = async {
        inside.write_all(&large).await.unwrap();
        inside.shutdown().await.unwrap();
        drop(inside);
    };
    let ((), read) = tokio::join!(write, receive.read_to_end(4 << 20));
    assert_eq!(read.unwrap().len(), large.len());
    drop((branch, branches));
    connection.closed().await;
}

#[tokio::test]
async fn a_client_whose_address_changes_goes_on() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    let endpoint = client(&home, "mqtt", None);
    let (mut inside, _connection, mut send, mut receive) = meet(&listener, &endpoint).await;
    endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    send.write_all(b"moved").await.unwrap();
    let mut five = [0; 5];
    inside.read_exact(&mut five).await.unwrap();
    inside.write_all(&five).await.unwrap();
    receive.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"moved");
}

#[tokio::test]
async fn a_client_that_leaves_in_order_is_the_end_of_the_stream() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    let endpoint = client(&home, "mqtt", None);
    let (mut inside, connection, _send, _receive) = meet(&listener, &endpoint).await;
    connection.close(0_u8.into(), b"");
    assert_eq!(inside.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn another_protocol_is_refused_and_a_client_without_a_stream_is_let_go() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    let other = client(&home, "h3", None);
    let accept = async { listener.accept().await.unwrap().handshake(SOON).await };
    let dial = async { other.connect(listener.local(), "localhost").unwrap().await };
    let (accepted, dialled) = tokio::join!(accept, dial);
    let fault = accepted.unwrap_err();
    assert!(
        matches!(fault, HandshakeFault::Quic(_)) && fault.to_string().contains("\"mqtt\" (ALPN)"),
        "{fault}"
    );
    assert!(dialled.is_err());

    let endpoint = client(&home, "mqtt", None);
    let within = Duration::from_millis(200);
    let accept = async { listener.accept().await.unwrap().handshake(within).await };
    let dial = async { endpoint.connect(listener.local(), "localhost").unwrap().await };
    let (accepted, dialled) = tokio::join!(accept, dial);
    assert_eq!(accepted.unwrap_err(), HandshakeFault::TimedOut(within));
    dialled.unwrap().closed().await;
}

#[tokio::test]
async fn when_handshakes_pile_up_a_client_has_to_prove_its_address_and_gets_in_all_the_same() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    // Packets that begin a handshake and go no further: each is taken in and left waiting.
    let endpoint = client(&home, "mqtt", None);
    let mut waiting = Vec::new();
    let mut dialling = Vec::new();
    for _ in 0..32 {
        dialling.push(endpoint.connect(listener.local(), "localhost").unwrap());
        waiting.push(listener.accept().await.unwrap());
    }
    let (mut inside, _connection, mut send, _receive) = meet(&listener, &endpoint).await;
    send.write_all(b"!").await.unwrap();
    assert_eq!(inside.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let home = Authority::new("home");
    let listener = listen(&home).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 1200, 1400] {
        for first in [0x00, 0x40, 0xc0, 0xff] {
            socket.send_to(&vec![first; length], listener.local()).unwrap();
        }
    }
    let endpoint = client(&home, "mqtt", None);
    meet(&listener, &endpoint).await;
}
