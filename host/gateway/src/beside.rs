//! Streams beside the one of the session, which only QUIC has: what comes on one is answered on it.
//!
//! Messages to the client go on the stream of the session. Packets of the connection itself (CONNECT, PINGREQ, DISCONNECT,
//! AUTH) belong there too. Nothing that is said on such a stream outlives it: where it has gone, the answer goes on the
//! stream of the session.

use crate::{connection::Client, end::End};
use bytes::{Buf, BytesMut};
use holdfast_mqtt::{Packet, PacketId};
use holdfast_net::{Branch, Branches};
use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams beside that of the session; QUIC lets a client have eight in all.
const STREAMS_MAX: usize = 7;

/// Bytes taken from one of them at once.
const READ_BYTES: usize = 2 << 10;

/// The streams of one connection.
pub(crate) struct Beside {
    door: Option<Branches>,
    open: Vec<Open>,
    /// On which stream a message of the client came whose acknowledgement is due.
    askers: HashMap<PacketId, u64>,
    opened: u64,
}

struct Open {
    number: u64,
    stream: Branch,
    inbuf: BytesMut,
    out: BytesMut,
    /// The client sends nothing more here.
    ended: bool,
}

/// What has happened on one of them.
pub(crate) enum News {
    /// The client has opened one; none if it can open no more.
    Opened(Option<Branch>),
    /// So many bytes have come.
    Bytes(usize),
    /// It has gone.
    Gone(u64),
}

impl Beside {
    pub(crate) fn new(door: Option<Branches>) -> Self {
        Self { door, open: Vec::new(), askers: HashMap::new(), opened: 0 }
    }

    /// Whether there may be such streams.
    pub(crate) fn is_possible(&self) -> bool {
        self.door.is_some() || !self.open.is_empty()
    }

    /// Whether bytes wait to be taken.
    pub(crate) fn has_bytes(&self) -> bool {
        self.open.iter().any(|open| !open.inbuf.is_empty())
    }

    /// Writes what is to be written and waits for the next news. Cancel safe. `reading` tells whether bytes may be taken.
    pub(crate) async fn news(&mut self, reading: bool) -> News {
        let Self { door, open, askers, .. } = self;
        let can_open = door.is_some() && open.len() < STREAMS_MAX;
        let opened = async {
            match door {
                Some(door) => door.next().await,
                None => None,
            }
        };
        tokio::select! {
            branch = opened, if can_open => News::Opened(branch),
            news = poll_fn(|cx| poll(open, askers, cx, reading)) => news,
        }
    }

    fn take_in(&mut self, branch: Option<Branch>) {
        let Some(stream) = branch else {
            self.door = None;
            return;
        };
        self.opened += 1;
        let (inbuf, out) = (BytesMut::new(), BytesMut::new());
        self.open.push(Open { number: self.opened, stream, inbuf, out, ended: false });
    }

    fn forget(&mut self, number: u64) {
        self.open.retain(|open| open.number != number);
        self.askers.retain(|_, asker| *asker != number);
    }

    /// Where the answer to a message goes, if not on the stream of the session.
    pub(crate) fn answers(&mut self, packet: &Packet) -> Option<&mut BytesMut> {
        let id = match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) => ack.packet_id,
            _ => return None,
        };
        let number = self.askers.remove(&id)?;
        self.open.iter_mut().find(|open| open.number == number).map(|open| &mut open.out)
    }
}

fn poll(
    open: &mut [Open],
    askers: &HashMap<PacketId, u64>,
    cx: &mut Context<'_>,
    reading: bool,
) -> Poll<News> {
    for one in open {
        if let Poll::Ready(news) = one.poll(askers, cx, reading) {
            return Poll::Ready(news);
        }
    }
    Poll::Pending
}

impl Open {
    fn poll(&mut self, askers: &HashMap<PacketId, u64>, cx: &mut Context<'_>, reading: bool) -> Poll<News> {
        let number = self.number;
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Ready(Ok(written)) if written > 0 => self.out.advance(written),
                Poll::Ready(_) => return Poll::Ready(News::Gone(number)),
                Poll::Pending => break,
            }
        }
        if self.ended {
            // It goes when nothing is owed on it any more.
            let owed = !self.out.is_empty() || askers.values().any(|asker| *asker == number);
            return if owed { Poll::Pending } else { Poll::Ready(News::Gone(number)) };
        }
        if !reading {
            return Poll::Pending;
        }
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                self.ended = true;
                Poll::Ready(News::Bytes(0))
            }
            Poll::Ready(Ok(())) => {
                self.inbuf.extend_from_slice(buf.filled());
                Poll::Ready(News::Bytes(buf.filled().len()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(News::Gone(number)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Client {
    pub(crate) fn beside_news(&mut self, news: News) -> Result<(), End> {
        match news {
            News::Opened(branch) => self.beside.take_in(branch),
            News::Gone(number) => self.beside.forget(number),
            News::Bytes(count) => {
                self.connection.heard(Instant::now());
                self.spend(0, count);
                return self.process_beside();
            }
        }
        Ok(())
    }

    /// Takes the packets that are in the buffers of these streams, as far as the client may be ahead.
    pub(crate) fn process_beside(&mut self) -> Result<(), End> {
        for at in 0..self.beside.open.len() {
            // The stream takes the place of that of the session for as long as its packets are taken.
            let Some(open) = self.beside.open.get_mut(at) else { break };
            let (number, mut inbuf) = (open.number, std::mem::take(&mut open.inbuf));
            std::mem::swap(&mut self.out, &mut open.out);
            let taken = self.take_beside(number, &mut inbuf);
            if let Some(open) = self.beside.open.get_mut(at) {
                std::mem::swap(&mut self.out, &mut open.out);
                open.inbuf = inbuf;
            }
            taken?;
        }
        self.release()
    }

    fn take_beside(&mut self, number: u64, inbuf: &mut BytesMut) -> Result<(), End> {
        let mut taken = 0;
        while self.may_take_packets() {
            let Some(packet) = self.codec.decode(inbuf).map_err(End::Protocol)? else { break };
            if !may_stand_beside(&packet) {
                return Err(End::Misplaced(packet.name()));
            }
            if let Packet::Publish(publish) = &packet
                && let Some(id) = publish.packet_id
            {
                self.beside.askers.insert(id, number);
            }
            taken += self.take(packet)?;
        }
        self.count_messages(taken);
        Ok(())
    }
}

/// PUBLISH to UNSUBACK: what does not concern the connection itself.
fn may_stand_beside(packet: &Packet) -> bool {
    !matches!(
        packet,
        Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::PingReq
            | Packet::PingResp
            | Packet::Disconnect(_)
            | Packet::Auth(_)
    )
}
