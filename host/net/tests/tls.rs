//! Who is let in, who is believed, and what is said when not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

mod authority;

use authority::{Authority, EXPIRED, NOT_YET, VALID, Years};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, DialError, Door, HandshakeFault, HostName, Identity,
    ListenConfig, Listener, PlainTcp, Roots, ServerTls, ServerTlsConfig, Settings, Stream, Target, Timeouts,
    TlsFault, Transport, Way, dial, io_cause,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(10);

async fn listen(identity: Identity, clients: ClientAuth) -> Listener {
    open(Door::Tls(ServerTls::build(&ServerTlsConfig { identity, clients }).unwrap())).await
}

async fn open(door: Door) -> Listener {
    Listener::bind(ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door,
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::new("gateway.listen", "gateway.tls", "gateway.allow_remote_plain"),
    })
    .await
    .unwrap()
}

fn target(port: u16, roots: PathBuf, identity: Option<Identity>) -> Target {
    let config = ClientTlsConfig { roots: Roots::File(roots), identity, ..ClientTlsConfig::default() };
    let settings = Settings::new("upstream.url", "mqtts:// in upstream.url", "upstream.allow_plain");
    let way = Way::Tls(ClientTls::build(&config).unwrap());
    Target::new(HostName::new("localhost").unwrap(), port, way, settings)
}

/// Both ends of one handshake.
async fn meet(
    listener: &Listener,
    target: &Target,
) -> (Result<Stream, HandshakeFault>, Result<Stream, DialError>) {
    let accept = async { listener.accept().await.unwrap().handshake(SOON).await };
    tokio::join!(accept, dial(target, Timeouts::default()))
}

async fn refused(identity: Identity, roots: PathBuf) -> String {
    let listener = listen(identity, ClientAuth::None).await;
    let (_, dialled) = meet(&listener, &target(listener.local().port(), roots, None)).await;
    dialled.unwrap_err().to_string()
}

#[tokio::test]
async fn bytes_pass_both_ways_encrypted() {
    let authority = Authority::new("home");
    let listener = listen(authority.issue("localhost", VALID), ClientAuth::None).await;
    let (accepted, dialled) = meet(&listener, &target(listener.local().port(), authority.root(), None)).await;
    let (mut inside, mut outside) = (accepted.unwrap(), dialled.unwrap());
    assert!(outside.is_encrypted() && !outside.peer_certificates().is_empty());
    assert!(outside.describe_encryption().unwrap().starts_with("TLSv1_3"));
    outside.write_all(b"ping").await.unwrap();
    outside.flush().await.unwrap();
    let mut four = [0; 4];
    inside.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");
    inside.write_all(b"pong").await.unwrap();
    inside.flush().await.unwrap();
    outside.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"pong");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_believed_is_refused_with_its_fix() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    for (identity, parts) in [
        (home.issue("localhost", EXPIRED), ["TLS with localhost:", "expired", "days ago; renew it", "clock"]),
        (home.issue("localhost", NOT_YET), ["not valid yet", "clock of this machine", "battery", "begins"]),
        (
            stranger.issue("localhost", VALID),
            ["authority that is not trusted", "name the file", "ca_file", "add it"],
        ),
        (
            home.issue("elsewhere.example", VALID),
            [
                "is for elsewhere.example, not for localhost",
                "dial one of those names",
                "issued for localhost",
                "TLS",
            ],
        ),
    ] {
        let text = refused(identity, home.root()).await;
        for part in parts {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }
}

#[tokio::test]
async fn a_listener_that_wants_client_certificates_takes_in_only_those_it_trusts() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    let listener = listen(home.issue("localhost", VALID), ClientAuth::Required(home.root())).await;
    let port = listener.local().port();

    let known = target(port, home.root(), Some(home.issue("edge-1", VALID)));
    let (accepted, dialled) = meet(&listener, &known).await;
    assert!(dialled.is_ok() && !accepted.unwrap().peer_certificates().is_empty());

    for identity in [None, Some(stranger.issue("edge-2", VALID))] {
        let (accepted, dialled) = meet(&listener, &target(port, home.root(), identity)).await;
        assert!(accepted.is_err());
        // TLS 1.3 tells the client with its first read, TLS 1.2 during the handshake.
        let text = match dialled {
            Ok(mut stream) => io_cause(&stream.read_u8().await.unwrap_err()),
            Err(error) => error.to_string(),
        };
        assert!(text.contains("give it a client certificate and key that the other side trusts"), "{text}");
    }
}

#[tokio::test]
async fn a_port_without_tls_or_without_words_is_told_as_such() {
    let home = Authority::new("home");
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(socket.local_addr().unwrap().port(), home.root(), None);
    let babble = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        stream.write_all(b"220 mail.example.com ready\r\n").await.unwrap();
        let _ = stream.read_u8().await;
    };
    let ((), dialled) = tokio::join!(babble, dial(&target, Timeouts::default()));
    assert!(dialled.unwrap_err().to_string().contains("does not speak TLS on this port"));

    let hang_up = async { drop(socket.accept().await.unwrap()) };
    let ((), dialled) = tokio::join!(hang_up, dial(&target, Timeouts::default()));
    assert!(dialled.unwrap_err().to_string().contains("closed the connection during the TLS handshake"));

    let timeouts = Timeouts { handshake: Duration::from_millis(50), ..Timeouts::default() };
    let hold = async { socket.accept().await.unwrap() };
    let (_held, dialled) = tokio::join!(hold, dial(&target, timeouts));
    assert!(dialled.unwrap_err().to_string().contains("did not end within 50ms"));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (home, folder) = (Authority::new("home"), tempfile::tempdir().unwrap());
    let fault = |config: ClientTlsConfig| ClientTls::build(&config).unwrap_err();
    let absent = folder.path().join("absent.pem");
    let text = fault(ClientTlsConfig { roots: Roots::File(absent.clone()), ..ClientTlsConfig::default() });
    assert!(matches!(text, TlsFault::Unreadable { .. }), "{text}");
    let not_pem = folder.path().join("notes.txt");
    std::fs::write(&not_pem, "hello").unwrap();
    let text =
        fault(ClientTlsConfig { roots: Roots::File(not_pem), ..ClientTlsConfig::default() }).to_string();
    assert!(text.contains("notes.txt holds no certificate"), "{text}");
    let (one, other) = (home.issue("one", VALID), home.issue("other", VALID));
    let mixed = Identity { certificates: one.certificates, key: other.key };
    let config =
        ClientTlsConfig { roots: Roots::File(home.root()), identity: Some(mixed), ..Default::default() };
    assert!(fault(config).to_string().contains("do not belong together"));
}

#[tokio::test]
async fn a_listener_that_asks_takes_in_everybody_and_says_what_was_shown() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    let listener = listen(home.issue("localhost", VALID), ClientAuth::Asked).await;
    let port = listener.local().port();
    for (identity, shown) in [
        (None, 0),
        (Some(home.issue("sensor-1", VALID)), 1),
        (Some(stranger.issue("sensor-2", VALID)), 1),
        (Some(stranger.issue("sensor-3", EXPIRED)), 1),
    ] {
        let expected = identity.as_ref().map(|identity| leaf(&identity.certificates));
        let (accepted, dialled) = meet(&listener, &target(port, home.root(), identity)).await;
        let inside = accepted.unwrap();
        assert!(dialled.is_ok());
        assert_eq!(inside.transport(), Transport::Tls);
        assert_eq!(inside.peer_certificates().len(), shown);
        assert_eq!(inside.peer_certificates().first().cloned(), expected);
    }
}

fn leaf(file: &std::path::Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

/// A client that speaks this version only, and the certificate that it was shown.
async fn with_version(
    version: &'static rustls::SupportedProtocolVersion,
    root: PathBuf,
    port: u16,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(leaf(&root)).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = "localhost".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let home = Authority::new("home");
    let listener = listen(home.issue("localhost", VALID), ClientAuth::Asked).await;
    let port = listener.local().port();
    for (version, name) in [(&rustls::version::TLS12, "TLSv1_2"), (&rustls::version::TLS13, "TLSv1_3")] {
        let accept = async { listener.accept().await.unwrap().handshake(SOON).await };
        let (accepted, _client) = tokio::join!(accept, with_version(version, home.root(), port));
        assert!(accepted.unwrap().describe_encryption().unwrap().starts_with(name));
    }
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_from_the_next_handshake_on_and_open_connections_go_on() {
    let home = Authority::new("home");
    let identity = home.issue("localhost", VALID);
    let config = ServerTlsConfig { identity: identity.clone(), clients: ClientAuth::None };
    let tls = ServerTls::build(&config).unwrap();
    let listener = open(Door::Tls(tls.clone())).await;
    let target = target(listener.local().port(), home.root(), None);
    let (accepted, dialled) = meet(&listener, &target).await;
    let (mut inside, mut outside) = (accepted.unwrap(), dialled.unwrap());
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let before = leaf(&identity.certificates);
    let renewed = home.issue("localhost", Years(2020, 2099));
    std::fs::copy(&renewed.certificates, &identity.certificates).unwrap();
    let halfway = tls.reload().unwrap_err().to_string();
    assert!(halfway.contains("do not belong together"), "{halfway}");
    let (_accepted, dialled) = meet(&listener, &target).await;
    assert_eq!(dialled.unwrap().peer_certificates()[0], before, "the certificate from before is shown on");

    std::fs::copy(&renewed.key, &identity.key).unwrap();
    assert!(tls.reload().unwrap());
    let (_accepted, dialled) = meet(&listener, &target).await;
    assert_eq!(dialled.unwrap().peer_certificates()[0], leaf(&renewed.certificates));

    outside.write_all(b"still here").await.unwrap();
    outside.flush().await.unwrap();
    let mut ten = [0; 10];
    inside.read_exact(&mut ten).await.unwrap();
    assert_eq!(&ten, b"still here");
}

#[tokio::test]
async fn old_versions_garbage_half_a_handshake_and_silence_are_told_apart() {
    let home = Authority::new("home");
    let listener = listen(home.issue("localhost", VALID), ClientAuth::Asked).await;
    let address = listener.local();
    // A ClientHello of TLS 1.1 with one cipher suite.
    let body = [&[3_u8, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let old = [&[0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8][..], &body].concat();
    let within = Duration::from_millis(200);
    for (bytes, closes, expected) in [
        (old.clone(), false, "no TLS version or cipher suite in common"),
        (b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab".to_vec(), false, "does not speak TLS"),
        (old[..20].to_vec(), true, "closed the connection during the TLS handshake"),
        (old[..20].to_vec(), false, "did not end within 200ms"),
        (Vec::new(), false, "did not end within 200ms"),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        let held = (!closes).then_some(client);
        let fault = listener.accept().await.unwrap().handshake(within).await.unwrap_err().to_string();
        assert!(fault.contains(expected), "{expected:?}: {fault}");
        drop(held);
    }
}
