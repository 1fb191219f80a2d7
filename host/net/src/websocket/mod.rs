//! MQTT over WebSocket (MQTT 5, section 6; RFC 6455): binary frames, whose borders mean nothing, as a stream of bytes.

mod request;
mod upgrade;

pub(crate) use request::request;
pub(crate) use upgrade::accept;

use bytes::{Buf, Bytes};
use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::{
    Error, Message,
    error::{CapacityError, ProtocolError},
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

/// Bytes read at once; the buffer for them is there as long as the connection.
const READ_BYTES: usize = 2 << 10;

/// Largest frame that is written. What is longer becomes several, so that nothing is held twice.
const WRITE_FRAME_BYTES_MAX: usize = 16 << 10;

/// Most bytes that wait to be written: one frame and answers to pings, with their heads. At this bound nothing more is
/// taken to be written, and pings go unanswered.
const WRITE_BYTES_MAX: usize = 2 * WRITE_FRAME_BYTES_MAX;

/// Largest frame, and message in several frames, from a peer of whom nothing is known yet.
const FIRST_FRAME_BYTES_MAX: usize = 64 << 10;

/// A stream of bytes in frames over another one.
pub(crate) struct WebSocket<S> {
    raw: S,
    context: WebSocketContext,
    /// The rest of the frame that was read last.
    unread: Bytes,
}

/// The system's words would be those of the library.
impl<S: std::fmt::Debug> std::fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket").field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Goes on behind the handshake; `rest` came behind its last byte.
    fn begun(raw: S, rest: Vec<u8>, role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(WRITE_BYTES_MAX - 1)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_frame_size(Some(FIRST_FRAME_BYTES_MAX))
            .max_message_size(Some(FIRST_FRAME_BYTES_MAX));
        let context = WebSocketContext::from_partially_read(rest, role, Some(config));
        Self { raw, context, unread: Bytes::new() }
    }

    /// From now on frames may be this large. A larger one ends the connection before memory is taken for it.
    pub(crate) fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.context.set_config(|config| {
            config.max_frame_size = Some(bytes);
            config.max_message_size = Some(bytes);
        });
    }

    pub(crate) fn raw(&self) -> &S {
        &self.raw
    }

    pub(crate) fn raw_mut(&mut self) -> &mut S {
        &mut self.raw
    }

    /// Lends the library the stream below for one call.
    fn call<T>(
        &mut self,
        cx: &mut Context<'_>,
        what: impl FnOnce(&mut WebSocketContext, &mut Lent<'_, '_, S>) -> tungstenite::Result<T>,
    ) -> tungstenite::Result<T> {
        what(&mut self.context, &mut Lent { raw: &mut self.raw, cx })
    }

    /// The next message whose bytes are part of the stream; none at the end of it.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.call(cx, |context, raw| context.read(raw)) {
                Ok(Message::Binary(bytes)) if bytes.is_empty() => {}
                Ok(Message::Binary(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(Message::Text(_)) => {
                    self.say_goodbye(cx, CloseCode::Unsupported, "MQTT is sent in binary frames");
                    let why = "the other side sent a text frame; MQTT goes in binary frames [MQTT-6.0.0-1]";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                // The library answers pings, and a close with the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if is_end(&error) => return Poll::Ready(Ok(None)),
                Err(Error::Io(error)) => return Poll::Ready(Err(error)),
                Err(error) => {
                    let code = match error {
                        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::Size,
                        _ => CloseCode::Protocol,
                    };
                    self.say_goodbye(cx, code, "");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }

    /// Tells the other side why the connection ends, if there is room for it.
    fn say_goodbye(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame { code, reason: reason.into() };
        // A peer that takes no bytes is not told.
        let _ = self.call(cx, |context, raw| context.close(raw, Some(frame)));
    }
}

fn is_end(error: &Error) -> bool {
    matches!(
        error,
        Error::ConnectionClosed
            | Error::AlreadyClosed
            // Many peers close the connection below without a word.
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

fn outcome(result: tungstenite::Result<()>) -> Poll<io::Result<()>> {
    match result {
        Ok(()) => Poll::Ready(Ok(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(Error::Io(error)) => Poll::Ready(Err(error)),
        Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() {
            match ready!(this.poll_message(cx))? {
                Some(bytes) => this.unread = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let part = this.unread.split_to(this.unread.len().min(buf.remaining()));
        buf.put_slice(&part);
        if !this.unread.has_remaining() {
            // An empty rest would keep the whole frame.
            this.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // What waits leaves first, so that never more than one frame waits.
        ready!(outcome(this.call(cx, |context, raw| context.flush(raw))))?;
        let part = buf.get(..WRITE_FRAME_BYTES_MAX).unwrap_or(buf);
        let frame = Message::Binary(Bytes::copy_from_slice(part));
        // Pending means that the frame waits in the library, to leave with the next call.
        let _ = outcome(this.call(cx, |context, raw| context.write(raw, frame)))?;
        let _ = outcome(this.call(cx, |context, raw| context.flush(raw)))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        outcome(self.get_mut().call(cx, |context, raw| context.flush(raw)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.call(cx, |context, raw| context.close(raw, None)) {
            Err(error) if is_end(&error) => {}
            closed => ready!(outcome(closed))?,
        }
        Pin::new(&mut this.raw).poll_shutdown(cx)
    }
}

/// The stream below as the library wants it: calls that would wait say so. Reads and writes wake the same task, the one
/// that polls; so both halves of a stream must be polled by one task.
struct Lent<'r, 'c, S> {
    raw: &'r mut S,
    cx: &'r mut Context<'c>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Lent<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        now(Pin::new(&mut *self.raw).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Lent<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.raw).poll_write(self.cx, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.raw).poll_flush(self.cx))
    }
}
