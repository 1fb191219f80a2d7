//! The side that listens.

use super::{ALPN, Branch, IDLE_TIME_MAX, QuicStream, certificates, fault};
use crate::{HandshakeFault, ServerTls};
use quinn::{Endpoint, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Streams that a client may have open at once: the one of the session and a few beside it.
const STREAMS_MAX: u8 = 8;

/// Bytes that a client may send ahead on one stream, and on all of one connection: what one device can make the host hold.
/// What comes behind a lost packet of a stream waits here for two round trips or more; at 100 ms this is enough for 7 MB/s. A
/// quarter of the connection is left for other streams, so that an alarm finds room.
const STREAM_WINDOW_BYTES: u32 = 768 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that wait for a client's acknowledgement.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

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
        Ok(QuicStream {
            branch: Branch { send, receive, delivered: None },
            certificates: certificates(&connection),
            connection,
        })
    }
}
