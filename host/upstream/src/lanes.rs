//! Streams beside that of the session, one for each priority, where the transport has them (QUIC).
//!
//! What is urgent then waits neither behind bytes of less urgent messages that were written before, nor for what the
//! network lost of them. Messages of the default priority, which most are, stay on the stream of the session. Within a
//! priority all messages of one connection take the same stream, so their order is kept. A stream is opened with the first
//! message of its priority; where the other side allows no more streams, that priority stays on the stream of the session
//! too.

use bytes::{Buf, BytesMut};
use holdfast_broker::Drain;
use holdfast_net::{Branch, Branches};
use holdfast_types::Priority;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes taken from one stream at once: some hundred acknowledgements.
const READ_BYTES: usize = 4 * 1024;

/// The streams of one connection.
#[derive(Default)]
pub(crate) struct Lanes {
    door: Option<Branches>,
    drain: Drain,
    open: Vec<Lane>,
    /// Where each priority goes that was seen: the place in `open`, or the stream of the session.
    of: BTreeMap<Priority, Option<usize>>,
    /// Whose bytes were taken last.
    taken: usize,
}

struct Lane {
    stream: Branch,
    input: BytesMut,
    output: BytesMut,
    unflushed: bool,
}

impl Lanes {
    pub(crate) fn new(door: Option<Branches>, drain: Drain) -> Self {
        Self { door, drain, ..Self::default() }
    }

    /// Where bytes of this priority are to be put; none is the stream of the session.
    pub(crate) fn output(&mut self, priority: Priority) -> Option<&mut BytesMut> {
        let door = self.door.as_ref().filter(|_| priority != Priority::DEFAULT)?;
        let open = &mut self.open;
        let place = *self.of.entry(priority).or_insert_with(|| {
            let rank = match self.drain {
                Drain::InOrder => i32::from(Priority::DEFAULT.level()) - i32::from(priority.level()),
                // A stream of less rank sends nothing while one above it has bytes: there would be no share for it.
                Drain::Share(_) => 0,
            };
            let stream = door.open_now(rank)?;
            open.push(Lane { stream, input: BytesMut::new(), output: BytesMut::new(), unflushed: false });
            Some(open.len() - 1)
        });
        open.get_mut(place?).map(|lane| &mut lane.output)
    }

    /// Writes what is to be written and waits until bytes have come. Cancel safe. What is no whole packet yet is to be put
    /// back.
    pub(crate) async fn arrived(&mut self) -> io::Result<BytesMut> {
        let place = poll_fn(|cx| {
            for (place, lane) in self.open.iter_mut().enumerate() {
                if let Poll::Ready(result) = lane.poll(cx) {
                    return Poll::Ready(result.map(|()| place));
                }
            }
            Poll::Pending
        })
        .await?;
        self.taken = place;
        let lane = self.open.get_mut(place).ok_or(io::ErrorKind::NotConnected)?;
        Ok(std::mem::take(&mut lane.input))
    }

    /// Keeps the rest of what was taken last.
    pub(crate) fn put_back(&mut self, rest: BytesMut) {
        if let Some(lane) = self.open.get_mut(self.taken) {
            lane.input = rest;
        }
    }

    /// Whether there is anything to wait for.
    pub(crate) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Lane {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.input.extend_from_slice(buf.filled());
        Poll::Ready(Ok(()))
    }
}
