//! One stream type, whatever carries the bytes.

use rustls_pki_types::CertificateDer;
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// What carries the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// As it stands before an address in the configuration: `tcp`, `tls`.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// A connected stream of bytes.
///
/// An encrypted one gathers what is written: bytes leave at the latest with a flush.
#[derive(Debug)]
pub struct Stream {
    carrier: Carrier,
    peer: SocketAddr,
    acknowledges_soon: bool,
}

#[derive(Debug)]
enum Carrier {
    Plain(TcpStream),
    // A TLS connection holds its buffers inline; boxed, a `Stream` stays small to move.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { carrier: Carrier::Plain(stream), peer, acknowledges_soon: false }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>, peer: SocketAddr) -> Self {
        Self { carrier: Carrier::Tls(Box::new(stream)), peer, acknowledges_soon: false }
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
        {
            let stream = match &self.carrier {
                Carrier::Plain(stream) => stream,
                Carrier::Tls(stream) => stream.get_ref().0,
            };
            if let Err(error) = stream.set_quickack(true) {
                tracing::debug!(%error, peer = %self.peer, "what was read cannot be acknowledged at once");
            }
        }
    }

    /// Whether the bytes are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.carrier, Carrier::Tls(_))
    }

    /// What carries the bytes.
    pub fn transport(&self) -> Transport {
        match &self.carrier {
            Carrier::Plain(_) => Transport::Tcp,
            Carrier::Tls(_) => Transport::Tls,
        }
    }

    /// The certificates that the other side showed, its own first; none if it showed none. It holds the key of the first.
    /// Whether it is to be believed is checked where this end is told whom to trust, and else left to the reader.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match &self.carrier {
            Carrier::Plain(_) => &[],
            Carrier::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    /// The negotiated version and cipher suite, for people, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub fn describe_encryption(&self) -> Option<String> {
        let Carrier::Tls(stream) = &self.carrier else { return None };
        let session = stream.get_ref().1;
        Some(format!("{:?} {:?}", session.protocol_version()?, session.negotiated_cipher_suite()?.suite()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = match &mut this.carrier {
            Carrier::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Carrier::Tls(s) => Pin::new(s).poll_read(cx, buf),
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
            Carrier::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Carrier::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(s) => Pin::new(s).poll_flush(cx),
            Carrier::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Carrier::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Carrier::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Plain(s) => s.is_write_vectored(),
            Carrier::Tls(s) => s.is_write_vectored(),
        }
    }
}
