//! MQTT over QUIC: the first stream that the client opens carries the session; those that it opens later carry packets
//! beside it.
//!
//! 0-RTT is off: what a client sends in it can be sent again by anyone who recorded it, and a repeated PUBLISH is a second
//! reading. A client that returns pays one round trip more, and resumes its session of TLS all the same.

mod client;
mod congestion;
mod door;
mod knock;

pub(crate) use client::{Failed, connect};
pub(crate) use door::{QuicDoor, QuicIncoming};
pub(crate) use knock::Heard;

use crate::HandshakeFault;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use rustls::AlertDescription;
use rustls_pki_types::CertificateDer;
use std::{
    fmt,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What EMQX, NanoMQ and emqtt call MQTT over QUIC.
pub(crate) const ALPN: &[u8] = b"mqtt";

/// Silence after which a connection is lost. It outlasts three keep alives of 20 s, the most that address translation
/// in the usual networks lets a client wait, and an outage of a minute, after which a connection goes on as it was.
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);

/// Codes of errors from here on, 256 of them, are alerts of TLS (RFC 9001, section 4.8).
const CRYPTO_ERRORS: u64 = 0x100;

fn fault(error: ConnectionError) -> HandshakeFault {
    match error {
        ConnectionError::ConnectionClosed(frame) => match alert(u64::from(frame.error_code)) {
            // Nothing in common but QUIC itself.
            Some(AlertDescription::NoApplicationProtocol) => {
                HandshakeFault::Quic("the other side speaks another protocol on this port".to_owned())
            }
            Some(alert) => HandshakeFault::of_alert(alert),
            None => HandshakeFault::Closed,
        },
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset | ConnectionError::TimedOut => {
            HandshakeFault::Closed
        }
        other => HandshakeFault::Quic(other.to_string()),
    }
}

fn alert(code: u64) -> Option<AlertDescription> {
    let alert = u8::try_from(code.checked_sub(CRYPTO_ERRORS)?).ok()?;
    Some(alert.into())
}

/// What ended a connection, in one phrase, if `error` is of QUIC. A client learns only after the handshake that its
/// certificate was refused.
pub(crate) fn io_cause(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    let lost = match (inner.downcast_ref(), inner.downcast_ref()) {
        (Some(quinn::ReadError::ConnectionLost(lost)), _)
        | (_, Some(quinn::WriteError::ConnectionLost(lost))) => lost,
        _ => return None,
    };
    Some(match lost {
        ConnectionError::TimedOut => "the network carried nothing for too long".to_owned(),
        ConnectionError::Reset => "the other side does not know the connection any more".to_owned(),
        ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => {
            "the other side closed the connection without a word".to_owned()
        }
        ConnectionError::ConnectionClosed(_) => match fault(lost.clone()) {
            HandshakeFault::Closed => "the other side closed the connection".to_owned(),
            fault => fault.to_string(),
        },
        other => other.to_string(),
    })
}

/// The certificates that the other side showed.
fn certificates(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity().and_then(|shown| shown.downcast().ok());
    shown.map(|shown: Box<Vec<CertificateDer<'static>>>| *shown).unwrap_or_default()
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

/// Further streams of one connection, beside that of its session.
pub struct Branches {
    connection: Connection,
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branches").finish_non_exhaustive()
    }
}

impl Branches {
    /// The next one that the other side opens; none when the connection has ended. Cancel safe. A client has at most
    /// eight streams open at once, the one of its session among them.
    pub async fn next(&self) -> Option<Branch> {
        let (send, receive) = self.connection.accept_bi().await.ok()?;
        Some(Branch { send, receive, delivered: None })
    }

    /// Opens one, as [`Self::open`] does, if the other side allows one more at this moment.
    pub fn open_now(&self, rank: i32) -> Option<Branch> {
        let opening = pin!(self.open(rank));
        match opening.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(branch) => branch,
            Poll::Pending => None,
        }
    }

    /// Opens one; none when the connection has ended. Waits while the other side allows no more. The other side learns
    /// of it by the first bytes. Bytes of a higher `rank` leave before those of a lower one; that of a session has 0.
    pub async fn open(&self, rank: i32) -> Option<Branch> {
        let (send, receive) = self.connection.open_bi().await.ok()?;
        // A stream that was stopped already shows that with the first write.
        let _ = send.set_priority(rank);
        Some(Branch { send, receive, delivered: None })
    }
}

type Delivered = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// One stream of a QUIC connection.
pub struct Branch {
    send: SendStream,
    receive: RecvStream,
    /// Waits until the other side has everything, once no more is to come.
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
            // The other side ended the connection in order: that is the end of the stream, as the end of TCP is.
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

    /// Ends this direction, and waits until the other side has everything: a connection that is dropped before takes what is
    /// on its way with it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.delivered.is_none() {
            // A stream that the other side has stopped needs no end.
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
