//! A socket that knocks: while nothing is heard, the last datagrams are sent again, byte for byte.
//!
//! QUIC itself sends a probe into the silence ever more rarely: after an outage of a minute the next one may be half a
//! minute away, and so long a way that works again stays unused. A datagram that comes twice is harmless, for QUIC takes
//! each packet once; so the last probe, which carries the oldest bytes that wait, can be sent again at little cost until
//! one of its copies gets through. How often follows from how long nothing was heard: the time that is lost after an outage
//! is a small part of the outage, and of the datagrams there are only logarithmically many.

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::sleep};

/// What is sent within this time is one attempt: a probe is two packets.
const ATTEMPT: Duration = Duration::from_millis(10);

/// Attempts without an answer after which it is silent: the first, and the first probe of QUIC.
const SILENT_AFTER: u32 = 2;

/// Of the silence so far, the part that is waited between two knocks: after a minute 25 ms. What knocks need not be what the
/// other side lacks; then it is sent one round trip after the knock was heard, so there is no time to lose before.
const PART: u32 = 2400;

/// Shortest wait between two knocks: a knock that is lost costs no more than this.
const WAIT_MIN: Duration = Duration::from_millis(25);

/// The wait before the first: longer than round trips are, but for those by satellite.
const WAIT_FIRST: Duration = Duration::from_millis(250);

/// Longest: an hour of silence.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Datagrams that are kept to be sent again: the two of a probe.
const KEPT: usize = 2;

/// When something was last heard, over all connections to the same peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long nothing was heard; the first question is the beginning.
    fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now).elapsed()
    }
}

#[derive(Debug)]
pub(super) struct Knocking {
    below: Arc<dyn AsyncUdpSocket>,
    heard: Heard,
    state: Mutex<State>,
    silent: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    /// When something was last heard or sent.
    moved: Instant,
    /// Attempts since something was heard.
    attempts: u32,
    last: VecDeque<Datagram>,
}

#[derive(Clone, Debug)]
struct Datagram {
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl Knocking {
    /// Over another socket. What knocks ends with it.
    pub(super) fn over(below: Arc<dyn AsyncUdpSocket>, heard: Heard) -> Arc<Self> {
        let state = State { moved: Instant::now(), attempts: 0, last: VecDeque::new() };
        let silent = Arc::new(Notify::new());
        let socket = Arc::new(Self { below, heard, state: Mutex::new(state), silent: silent.clone() });
        tokio::spawn(knock(Arc::downgrade(&socket), silent));
        socket
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was sent: what of it may be needed again is kept.
    fn sent(&self, transmit: &Transmit<'_>) {
        let now = Instant::now();
        let mut state = self.state();
        if now.saturating_duration_since(state.moved) >= ATTEMPT || state.attempts == 0 {
            state.attempts = state.attempts.saturating_add(1);
        }
        state.moved = now;
        // A stream of datagrams that is answered is not copied.
        if state.attempts < SILENT_AFTER && !state.last.is_empty() {
            return;
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let Some(bytes) = transmit.contents.chunks(size).next_back() else { return };
        while state.last.len() >= KEPT {
            state.last.pop_front();
        }
        state.last.push_back(Datagram { to: transmit.destination, ecn: transmit.ecn, bytes: bytes.to_vec() });
        if state.attempts == SILENT_AFTER {
            self.silent.notify_one();
        }
    }

    fn was_heard(&self) {
        self.heard.now();
        let mut state = self.state();
        state.moved = Instant::now();
        state.attempts = 0;
        state.last.clear();
    }

    /// Sends one of the last datagrams again. Tells whether it is still silent.
    fn knock(&self) -> bool {
        let datagram = {
            let mut state = self.state();
            if state.attempts < SILENT_AFTER {
                return false;
            }
            state.last.rotate_left(1);
            state.last.back().cloned()
        };
        if let Some(Datagram { to, ecn, bytes }) = datagram {
            let transmit =
                Transmit { destination: to, ecn, contents: &bytes, segment_size: None, src_ip: None };
            // Where the system has no way just now, there will be another knock.
            let _ = self.below.try_send(&transmit);
        }
        true
    }
}

async fn knock(socket: Weak<Knocking>, silent: Arc<Notify>) {
    loop {
        silent.notified().await;
        let mut wait = WAIT_FIRST;
        loop {
            sleep(wait).await;
            let Some(alive) = socket.upgrade() else { return };
            if !alive.knock() {
                break;
            }
            wait = (alive.heard.silence() / PART).clamp(WAIT_MIN, WAIT_MAX);
        }
    }
}

/// Else the task that knocks would wait for ever.
impl Drop for Knocking {
    fn drop(&mut self) {
        self.silent.notify_one();
    }
}

impl AsyncUdpSocket for Knocking {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.below.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.below.try_send(transmit)?;
        self.sent(transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.below.poll_recv(cx, bufs, meta);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.was_heard();
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.below.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.below.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.below.may_fragment()
    }
}
