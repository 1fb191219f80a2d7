//! MQTT over QUIC: the first stream that the client opens carries the session; those that it opens later carry packets
//! beside it.
//!
//! 0-RTT is off: what a client sends in it can be sent again by anyone who recorded it, and a repeated PUBLISH is a second
//! reading. A client that returns pays one round trip more, and resumes its session of TLS all the same.

use crate::{HandshakeFault, ServerTls};
use quinn::{
    Connection, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use rustls_pki_types::CertificateDer;
use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What EMQX, NanoMQ and emqtt call MQTT over QUIC.
const ALPN: &[u8] = b"mqtt";

/// Streams that a client may have open at once: the one of the session and a few beside it.
const STREAMS_MAX: u8 = 8;

/// Bytes that a client may send ahead on one stream, and on all of one connection: what one device can make the host hold.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that wait for a client's acknowledgement.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// Silence after which a connection is lost. It outlasts three keep alives of 20 s, the most that address translation
/// in the usual networks lets a client wait.
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);

/// Handshakes that wait to be taken in. More are refused.
const WAITING_MAX: usize = 256;

/// Bytes that those may send ahead, each and together.
const WAITING_BYTES_MAX: u64 = 16 << 10;
const WAITING_BYTES_TOTAL_MAX: u64 = 1 << 20;

/// From so many handshakes under way on, a client has to show that its address is its own before anything is computed
/// for it. That costs it a round trip; below, nobody pays.
const UNPROVED_MAX: usize = 32;

/// A bound port of UDP.
pub(crate) struct QuicDoor {
    endpoint: Endpoint,
    greeting: Arc<AtomicUsize>,
}

/// What the library would print is long and says little.
impl fmt::Debug for QuicDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicDoor").finish_non_exhaustive()
    }
}

/// Connections that are open go on; nobody else is let in.
impl Drop for QuicDoor {
    fn drop(&mut self) {
        self.endpoint.set_server_config(None);
    }
}

impl QuicDoor {
    pub(crate) fn bind(address: SocketAddr, tls: &ServerTls) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls.for_quic(ALPN)).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .migration(true)
            .max_incoming(WAITING_MAX)
            .incoming_buffer_size(WAITING_BYTES_MAX)
            .incoming_buffer_size_total(WAITING_BYTES_TOTAL_MAX);
        config.transport_config(Arc::new(transport()));
        Ok(Self { endpoint: Endpoint::server(config, address)?, greeting: Arc::default() })
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next client. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<QuicIncoming> {
        loop {
            let Some(incoming) = self.endpoint.accept().await else {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the UDP socket is broken"));
            };
            let crowded = self.greeting.load(Ordering::Relaxed) >= UNPROVED_MAX;
            if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
                // A client that cannot be told begins again by itself.
                let _ = incoming.retry();
                continue;
            }
            return Ok(QuicIncoming {
                incoming: Box::new(incoming),
                _greeting: Greeting::begin(&self.greeting),
            });
        }
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from(0_u8))
        .stream_receive_window(VarInt::from(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        // The client knows what its network needs.
        .keep_alive_interval(None)
        .max_idle_timeout(IDLE_TIME_MAX.try_into().ok());
    transport
}

/// Counts a handshake as long as it lives.
#[derive(Debug)]
struct Greeting(Arc<AtomicUsize>);

impl Greeting {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client before its handshake. Dropped, it is refused.
#[derive(Debug)]
pub(crate) struct QuicIncoming {
    // It is large and soon gone.
    incoming: Box<quinn::Incoming>,
    _greeting: Greeting,
}

impl QuicIncoming {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// The handshake, and the first stream of the client.
    pub(crate) async fn welcome(self) -> Result<QuicStream, HandshakeFault> {
        let connection = self.incoming.accept().map_err(fault)?.await.map_err(fault)?;
        let (send, receive) = connection.accept_bi().await.map_err(fault)?;
        let certificates = connection.peer_identity().and_then(|shown| shown.downcast().ok());
        let certificates = certificates.map(|shown: Box<Vec<CertificateDer<'static>>>| *shown);
        Ok(QuicStream {
            branch: Branch { send, receive, delivered: None },
            connection,
            certificates: certificates.unwrap_or_default(),
        })
    }
}

fn fault(error: ConnectionError) -> HandshakeFault {
    match error {
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut => HandshakeFault::Closed,
        other => HandshakeFault::Quic(other.to_string()),
    }
}

/// The stream of a session, and the connection that it belongs to.
pub(crate) struct QuicStream {
    branch: Branch,
    connection: Connection,
    certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicStream").field("branch", &self.branch).finish_non_exhaustive()
    }
}

impl QuicStream {
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn branches(&self) -> Branches {
        Branches { connection: self.connection.clone() }
    }

    pub(crate) fn branch(&mut self) -> &mut Branch {
        &mut self.branch
    }
}

/// Further streams that the client of one connection opens.
pub struct Branches {
    connection: Connection,
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branches").finish_non_exhaustive()
    }
}

impl Branches {
    /// The next one; none when the connection has ended. Cancel safe. A client has at most eight streams open at once, the
    /// one of its session among them.
    pub async fn next(&self) -> Option<Branch> {
        let (send, receive) = self.connection.accept_bi().await.ok()?;
        Some(Branch { send, receive, delivered: None })
    }
}

type Delivered = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// One stream of a QUIC connection.
pub struct Branch {
    send: SendStream,
    receive: RecvStream,
    /// Waits until the client has everything, once no more is to come.
    delivered: Option<Delivered>,
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("id", &self.send.id()).finish_non_exhaustive()
    }
}

impl AsyncRead for Branch {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(AsyncRead::poll_read(Pin::new(&mut self.get_mut().receive), cx, buf)) {
            // The client ended the connection in order: that is the end of the stream, as the end of TCP is.
            Err(error) if is_farewell(&error) => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

fn is_farewell(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(quinn::ReadError::ConnectionLost(
            ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed
        ))
    )
}

impl AsyncWrite for Branch {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().send), cx)
    }

    /// Ends this direction, and waits until the client has everything: a connection that is dropped before takes what is
    /// on its way with it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.delivered.is_none() {
            // A stream that the client has stopped needs no end.
            let _ = this.send.finish();
        }
        let delivered = this.delivered.get_or_insert_with(|| {
            let stopped = this.send.stopped();
            Box::pin(async move {
                let _ = stopped.await;
            })
        });
        delivered.as_mut().poll(cx).map(Ok)
    }
}
