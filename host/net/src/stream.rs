//! One stream type, whatever carries the bytes.

use crate::{Branches, quic::QuicStream, raw::Raw, websocket::WebSocket};
use rustls_pki_types::CertificateDer;
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What carries the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP alone.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls,
    /// QUIC, over UDP.
    Quic,
}

impl Transport {
    /// Whether nobody on the way can read or change what is said.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketTls | Self::Quic)
    }
}

/// As it stands before an address in the configuration: `tcp`, `tls`, `ws`, `wss`, `quic`.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
            Self::Quic => "quic",
        })
    }
}

/// A connected stream of bytes. Both halves of one must be polled by the same task.
///
/// An encrypted one, and one in frames, gathers what is written: bytes leave at the latest with a flush.
#[derive(Debug)]
pub struct Stream {
    carrier: Carrier,
    peer: SocketAddr,
    acknowledges_soon: bool,
}

#[derive(Debug)]
enum Carrier {
    Raw(Raw),
    WebSocket(Box<WebSocket<Raw>>),
    Quic(Box<QuicStream>),
}

impl Stream {
    pub(crate) fn raw(raw: Raw, peer: SocketAddr) -> Self {
        Self { carrier: Carrier::Raw(raw), peer, acknowledges_soon: false }
    }

    pub(crate) fn websocket(socket: WebSocket<Raw>, peer: SocketAddr) -> Self {
        Self { carrier: Carrier::WebSocket(Box::new(socket)), peer, acknowledges_soon: false }
    }

    pub(crate) fn quic(stream: QuicStream, peer: SocketAddr) -> Self {
        Self { carrier: Carrier::Quic(Box::new(stream)), peer, acknowledges_soon: false }
    }

    fn tcp(&self) -> Option<&Raw> {
        match &self.carrier {
            Carrier::Raw(raw) => Some(raw),
            Carrier::WebSocket(socket) => Some(socket.raw()),
            Carrier::Quic(_) => None,
        }
    }

    /// Further streams that the other side opens beside this one; only QUIC has them.
    pub fn branches(&self) -> Option<Branches> {
        match &self.carrier {
            Carrier::Raw(_) | Carrier::WebSocket(_) => None,
            Carrier::Quic(stream) => Some(stream.branches()),
        }
    }

    /// The address of the other side.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// From now on what is read is acknowledged to the other side at once, where the system can do that (Linux).
    ///
    /// Else the system waits some 40 ms for bytes to go the other way. A peer that gathers small writes (Nagle's
    /// algorithm, which Mosquitto leaves on) sends the rest of its answers only after that acknowledgement; who waits
    /// for these answers before it writes on then stands still for this time. It costs a call to the system per read.
    pub fn acknowledge_soon(&mut self) {
        self.acknowledges_soon = true;
    }

    /// The system forgets the wish now and then, so it is told after each read.
    fn acknowledge_now(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(Err(error)) = self.tcp().map(|raw| raw.tcp().set_quickack(true)) {
            tracing::debug!(%error, peer = %self.peer, "what was read cannot be acknowledged at once");
        }
    }

    /// From now on TLS holds back about so many bytes, and so does the system where it can be told (Linux); what is written then
    /// waits, and something more urgent can still be written before it. Over QUIC streams have ranks instead.
    pub fn set_unsent_bytes_max(&mut self, bytes: u16) {
        let raw = match &mut self.carrier {
            Carrier::Raw(raw) => raw,
            Carrier::WebSocket(socket) => socket.raw_mut(),
            Carrier::Quic(_) => return,
        };
        raw.set_held_back_max(bytes.into());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = socket2::SockRef::from(raw.tcp()).set_tcp_notsent_lowat(bytes.into()) {
            tracing::debug!(%error, peer = %self.peer, "the system cannot be told to hold back less");
        }
    }

    /// The other side is known now: its frames may be this large. Where there are no frames, nothing changes.
    pub fn set_frame_bytes_max(&mut self, bytes: usize) {
        match &mut self.carrier {
            Carrier::Raw(_) | Carrier::Quic(_) => {}
            Carrier::WebSocket(socket) => socket.set_frame_bytes_max(bytes),
        }
    }

    /// Whether the bytes are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.transport().is_encrypted()
    }

    /// What carries the bytes.
    pub fn transport(&self) -> Transport {
        match &self.carrier {
            Carrier::Raw(Raw::Plain(_)) => Transport::Tcp,
            Carrier::Raw(Raw::Tls(_)) => Transport::Tls,
            Carrier::WebSocket(socket) => match socket.raw() {
                Raw::Plain(_) => Transport::WebSocket,
                Raw::Tls(_) => Transport::WebSocketTls,
            },
            Carrier::Quic(_) => Transport::Quic,
        }
    }

    /// The certificates that the other side showed, its own first; none if it showed none. It holds the key of the first.
    /// Whether it is to be believed is checked where this end is told whom to trust, and else left to the reader.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        if let Carrier::Quic(stream) = &self.carrier {
            return stream.certificates();
        }
        self.tcp().and_then(Raw::session).and_then(|session| session.peer_certificates()).unwrap_or_default()
    }

    /// The negotiated version and cipher suite, for people, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub fn describe_encryption(&self) -> Option<String> {
        if let Carrier::Quic(_) = &self.carrier {
            return Some("QUIC with TLSv1_3".to_owned());
        }
        let session = self.tcp()?.session()?;
        Some(format!("{:?} {:?}", session.protocol_version()?, session.negotiated_cipher_suite()?.suite()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = match &mut this.carrier {
            Carrier::Raw(raw) => Pin::new(raw).poll_read(cx, buf),
            Carrier::WebSocket(socket) => Pin::new(&mut **socket).poll_read(cx, buf),
            Carrier::Quic(stream) => Pin::new(stream.branch()).poll_read(cx, buf),
        };
        if this.acknowledges_soon && buf.filled().len() > before {
            this.acknowledge_now();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().carrier {
            Carrier::Raw(raw) => Pin::new(raw).poll_write(cx, buf),
            Carrier::WebSocket(socket) => Pin::new(&mut **socket).poll_write(cx, buf),
            Carrier::Quic(stream) => Pin::new(stream.branch()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Raw(raw) => Pin::new(raw).poll_flush(cx),
            Carrier::WebSocket(socket) => Pin::new(&mut **socket).poll_flush(cx),
            Carrier::Quic(stream) => Pin::new(stream.branch()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Raw(raw) => Pin::new(raw).poll_shutdown(cx),
            Carrier::WebSocket(socket) => Pin::new(&mut **socket).poll_shutdown(cx),
            Carrier::Quic(stream) => Pin::new(stream.branch()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().carrier {
            Carrier::Raw(raw) => Pin::new(raw).poll_write_vectored(cx, bufs),
            Carrier::WebSocket(socket) => Pin::new(&mut **socket).poll_write_vectored(cx, bufs),
            Carrier::Quic(stream) => Pin::new(stream.branch()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Raw(raw) => raw.is_write_vectored(),
            Carrier::WebSocket(_) | Carrier::Quic(_) => false,
        }
    }
}
