//! Dialling by every way: what comes through, and what is told where nothing does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod authority;

use authority::{Authority, EXPIRED, VALID, Years};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, DialError, Door, HandshakeFault, HostName, Identity,
    ListenConfig, Listener, Names, PlainTcp, Proxy, ProxyFault, QuicTls, Roots, ServerTls, ServerTlsConfig,
    Settings, Stream, Target, Timeouts, Transport, Way, dial, io_cause,
};
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SOON: Duration = Duration::from_secs(10);
const IMPATIENT: Timeouts = Timeouts {
    resolve: SOON,
    connect: Duration::from_millis(500),
    handshake: Duration::from_millis(500),
    quic: Duration::from_millis(500),
};

fn settings() -> Settings {
    Settings::new("upstream.url", "mqtts:// in upstream.url", "upstream.allow_plain")
}

fn target(port: u16, way: Way) -> Target {
    Target::new(HostName::new("localhost").unwrap(), port, way, settings())
}

fn client(home: &Authority, identity: Option<Identity>) -> ClientTlsConfig {
    ClientTlsConfig { roots: Roots::File(home.root()), identity, ..ClientTlsConfig::default() }
}

fn tls(home: &Authority) -> ClientTls {
    ClientTls::build(&client(home, None)).unwrap()
}

fn quic(home: &Authority) -> Way {
    Way::Quic(QuicTls::build(&client(home, None)).unwrap())
}

fn server(home: &Authority, years: Years, clients: ClientAuth) -> ServerTls {
    let identity = home.issue("localhost", years);
    ServerTls::build(&ServerTlsConfig { identity, clients }).unwrap()
}

async fn listen(door: Door) -> Listener {
    Listener::bind(ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door,
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("gateway"),
    })
    .await
    .unwrap()
}

/// Says back what it hears, on every stream.
fn echo(listener: Listener) -> u16 {
    let port = listener.local().port();
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(stream) = incoming.handshake(SOON).await else { return };
                let (mut read, mut write) = tokio::io::split(stream);
                let mut bytes = vec![0; 16 << 10];
                while let Ok(count @ 1..) = read.read(&mut bytes).await {
                    write.write_all(&bytes[..count]).await.unwrap();
                    write.flush().await.unwrap();
                }
            });
        }
    });
    port
}

/// More than every buffer on the way holds.
async fn converse(stream: Stream) {
    let sent: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let write_all = async {
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
    };
    let mut heard = vec![0; sent.len()];
    let (read_all, ()) = tokio::join!(read.read_exact(&mut heard), write_all);
    read_all.unwrap();
    assert!(heard == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_through_by_every_way_that_there_is_a_door_for() {
    let home = Authority::new("home");
    let secure = || server(&home, VALID, ClientAuth::Asked);
    for (door, way, transport) in [
        (Door::Tcp, Way::Tcp, Transport::Tcp),
        (Door::Tls(secure()), Way::Tls(tls(&home)), Transport::Tls),
        (Door::WebSocket, Way::WebSocket("/mqtt".into()), Transport::WebSocket),
        (
            Door::WebSocketTls(secure()),
            Way::WebSocketTls(tls(&home), "/$iothub/websocket".into()),
            Transport::WebSocketTls,
        ),
        (Door::Quic(secure()), quic(&home), Transport::Quic),
    ] {
        let port = echo(listen(door).await);
        let mut stream = dial(&target(port, way), Timeouts::default()).await.unwrap();
        assert_eq!(stream.transport(), transport);
        stream.set_frame_bytes_max(1 << 20);
        converse(stream).await;
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_told_the_same_over_quic_as_over_tls() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    for (authority, years, told) in [
        (&home, EXPIRED, "expired"),
        (&home, authority::NOT_YET, "not valid yet; check the clock"),
        (&stranger, VALID, "an authority that is not trusted here"),
    ] {
        let port = echo(listen(Door::Quic(server(authority, years, ClientAuth::None))).await);
        let error = dial(&target(port, quic(&home)), Timeouts::default()).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.to_string().starts_with("QUIC with localhost:"), "{error}");
    }
    let port = echo(listen(Door::Quic(server(&home, VALID, ClientAuth::None))).await);
    let elsewhere = Target { host: HostName::new("127.0.0.1").unwrap(), ..target(port, quic(&home)) };
    let error = dial(&elsewhere, Timeouts::default()).await.unwrap_err();
    assert!(error.to_string().contains("is for localhost, not for 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_client_without_the_certificate_that_is_wanted_learns_it_over_quic_too() {
    let home = Authority::new("home");
    let port = echo(listen(Door::Quic(server(&home, VALID, ClientAuth::Required(home.root())))).await);
    let told = match dial(&target(port, quic(&home)), Timeouts::default()).await {
        Err(error) => error.to_string(),
        // With TLS 1.3 the refusal comes behind the handshake.
        Ok(mut stream) => io_cause(&stream.read_u8().await.unwrap_err()),
    };
    assert!(told.contains("client certificate"), "{told}");
}

#[tokio::test]
async fn a_firewall_that_swallows_udp_is_told_from_a_broker_that_is_gone() {
    let home = Authority::new("home");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = dial(&target(silent.local_addr().unwrap().port(), quic(&home)), IMPATIENT).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { transport: Transport::Quic, .. }), "{error}");
    assert!(error.to_string().contains("did not answer QUIC") && error.to_string().contains("outgoing UDP"));
}

#[tokio::test]
async fn what_is_no_websocket_is_told_with_what_it_answered() {
    let told = async |path: &str, port: u16| {
        dial(&target(port, Way::WebSocket(path.into())), IMPATIENT).await.unwrap_err().to_string()
    };
    let port = echo(listen(Door::WebSocket).await);
    let text = told("/elsewhere", port).await;
    assert!(text.contains("404 Not Found") && text.contains("/mqtt"), "{text}");
    let text = told("/mqtt", echo(listen(Door::Tcp).await)).await;
    assert!(text.contains("does not answer in HTTP"), "{text}");
    let text = told("/mqtt", answering("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n").await).await;
    assert!(text.contains("302 Found"), "{text}");
    let stale = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let text = told("/mqtt", answering(stale).await).await;
    assert!(text.contains("for another request"), "{text}");
}

/// Gives everybody the same answer once the request has ended.
async fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.read_u8().await;
        }
    });
    port
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A proxy that lets through whoever gives the password `secret` for the user `edge`, to the host of the test and no other.
/// Also counts those that it let through.
async fn proxy() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let through = Arc::new(AtomicUsize::new(0));
    let count = through.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let request = head(&mut near).await;
                // The name is the proxy's to resolve; the edge could not.
                let wanted =
                    request.strip_prefix("CONNECT broker.invalid:").and_then(|rest| rest.split_once(' '));
                let answer = if !request.contains("Proxy-Authorization: Basic ZWRnZTpzZWNyZXQ=\r\n") {
                    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
                } else if wanted.is_none() {
                    "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
                } else {
                    "HTTP/1.1 200 Connection established\r\n\r\n"
                };
                near.write_all(answer.as_bytes()).await.unwrap();
                let Some((port, _)) = wanted.filter(|_| answer.contains(" 200 ")) else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let mut far = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, through)
}

fn through(port: u16, password: Option<&str>) -> Option<Proxy> {
    Some(Proxy {
        host: HostName::new("127.0.0.1").unwrap(),
        port,
        credentials: password.map(|password| ("edge".to_owned(), password.to_owned())),
        setting: "net.proxy".into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_websocket_go_through_a_proxy_that_wants_a_password() {
    let home = Authority::new("home");
    let identity = home.issue("broker.invalid", VALID);
    let secure = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::None }).unwrap();
    let (proxy, passed) = proxy().await;
    for (door, way) in [
        (Door::Tls(secure.clone()), Way::Tls(tls(&home))),
        (Door::WebSocketTls(secure.clone()), Way::WebSocketTls(tls(&home), "/mqtt".into())),
    ] {
        let port = echo(listen(door).await);
        let host = HostName::new("broker.invalid").unwrap();
        let target = Target { host, proxy: through(proxy, Some("secret")), ..target(port, way) };
        let mut stream = dial(&target, Timeouts::default()).await.unwrap();
        stream.set_frame_bytes_max(1 << 20);
        converse(stream).await;
    }
    assert_eq!(passed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_proxy_that_makes_no_way_says_why_and_what_to_do() {
    let home = Authority::new("home");
    let (port, passed) = proxy().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let not_http = answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let unreachable = answering("HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    let told = async |proxy: Option<Proxy>| {
        let target = Target { proxy, ..target(8883, Way::Tls(tls(&home))) };
        match dial(&target, IMPATIENT).await.unwrap_err() {
            DialError::Proxy { fault, setting, .. } => {
                assert_eq!(&*setting, "net.proxy");
                fault
            }
            other => panic!("{other}"),
        }
    };
    assert!(matches!(told(through(port, None)).await, ProxyFault::WantsPassword));
    assert!(
        matches!(told(through(port, Some("wrong"))).await, ProxyFault::PasswordRefused(user) if user == "edge")
    );
    let denied = told(through(port, Some("secret"))).await;
    assert!(denied.to_string().contains("localhost:8883 (403 Forbidden)"), "{denied}");
    assert!(matches!(told(through(gone, None)).await, ProxyFault::Unreachable(_)));
    assert!(matches!(told(through(not_http, None)).await, ProxyFault::NotAProxy(_)));
    assert!(matches!(told(through(unreachable, None)).await, ProxyFault::NoWay { .. }));
    assert_eq!(passed.load(Ordering::Relaxed), 0);
    // The password is for the proxy alone.
    assert!(!format!("{:?}", through(port, Some("secret"))).contains("secret"));
}

#[tokio::test]
async fn unencrypted_bytes_on_this_machine_pass_by_the_proxy() {
    let port = echo(listen(Door::WebSocket).await);
    let target = Target { proxy: through(1, None), ..target(port, Way::WebSocket("/mqtt".into())) };
    dial(&target, Timeouts::default()).await.unwrap();
}

/// A name server that knows `broker.test`, answers nothing for `silent.test`, and knows nothing else.
fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let query = &bytes[..length];
            // Behind the head of 12 bytes stand the labels of the name, then its type and class (RFC 1035, section 4.1.2).
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let name = String::from_utf8_lossy(&query[12..end - 5]).to_ascii_lowercase();
            if name.contains("silent") {
                continue;
            }
            let wants_v4 = query[end - 4..end - 2] == [0, 1];
            let known = name.contains("broker");
            let answers = u8::from(known && wants_v4);
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
            answer.extend(&query[12..end]);
            if answers == 1 {
                // The name again by its place, A, IN, 60 s, four bytes of address.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn name_servers_that_are_set_are_asked_and_nobody_else() {
    let server = name_server();
    let names = Names::of_servers(&[server], "net.name_servers").unwrap();
    let port = echo(listen(Door::Tcp).await);
    let of = |host: &str, resolve| {
        let target =
            Target { host: HostName::new(host).unwrap(), names: names.clone(), ..target(port, Way::Tcp) };
        async move { dial(&target, Timeouts { resolve, ..Timeouts::default() }).await }
    };
    converse(of("broker.test", SOON).await.unwrap()).await;
    let gone = of("nobody.test", SOON).await.unwrap_err().to_string();
    assert!(
        gone.contains("no such name") && gone.contains(&format!("net.name_servers ({server})")),
        "{gone}"
    );
    let silent = of("silent.test", Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(silent.contains("no answer within 300ms"), "{silent}");
}

/// A resumed handshake shows no certificate: it succeeds where a new one would be refused.
#[tokio::test]
async fn a_client_that_comes_back_over_quic_resumes_its_session() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    let identity = home.issue("localhost", VALID);
    let tls =
        ServerTls::build(&ServerTlsConfig { identity: identity.clone(), clients: ClientAuth::None }).unwrap();
    let port = echo(listen(Door::Quic(tls.clone())).await);
    let known = target(port, quic(&home));
    let mut stream = dial(&known, Timeouts::default()).await.unwrap();
    // The ticket comes behind the handshake, before what is said back.
    stream.write_all(b"?").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'?');

    let other = stranger.issue("localhost", VALID);
    std::fs::copy(other.certificates, identity.certificates).unwrap();
    std::fs::copy(other.key, identity.key).unwrap();
    assert!(tls.reload().unwrap());
    let mut stream = dial(&known, Timeouts::default()).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    assert!(dial(&target(port, quic(&home)), Timeouts::default()).await.is_err());
}

#[tokio::test]
async fn a_connection_over_quic_goes_on_when_the_address_of_the_edge_changes() {
    let home = Authority::new("home");
    let port = echo(listen(Door::Quic(server(&home, VALID, ClientAuth::None))).await);
    let relay = relay(port).await;
    let mut stream = dial(&target(relay.port, quic(&home)), Timeouts::default()).await.unwrap();
    for round in 0..3_u8 {
        stream.write_all(&[round; 3000]).await.unwrap();
        stream.flush().await.unwrap();
        let mut heard = [9; 3000];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [round; 3000]);
        relay.moves.fetch_add(1, Ordering::Relaxed);
    }
}

/// A relay of datagrams, as address translation is: the server sees the relay's address. It takes another port whenever
/// `moves` was raised.
struct Relay {
    port: u16,
    moves: Arc<AtomicUsize>,
}

async fn relay(to: u16) -> Relay {
    let near = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let relay = Relay { port: near.local_addr().unwrap().port(), moves: Arc::default() };
    let moves = relay.moves.clone();
    tokio::spawn(async move {
        let mut moved = 0;
        let mut far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut client = None;
        let (mut up_bytes, mut down_bytes) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut up_bytes) => {
                    client = Some(from);
                    let now = moves.load(Ordering::Relaxed);
                    if std::mem::replace(&mut moved, now) != now {
                        far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    }
                    far.send_to(&up_bytes[..length], ("127.0.0.1", to)).await.unwrap();
                }
                Ok((length, _)) = far.recv_from(&mut down_bytes) => {
                    near.send_to(&down_bytes[..length], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    relay
}

#[test]
fn faults_of_a_handshake_name_what_was_begun() {
    let error = DialError::Handshake {
        host: HostName::new("hub").unwrap(),
        port: 443,
        transport: Transport::WebSocketTls,
        fault: HandshakeFault::Closed,
    };
    assert!(error.to_string().starts_with("WebSocket with hub:443: "), "{error}");
}
