//! One connection: one task that reads, takes new messages and writes, in this order of urgency.

use crate::{
    LinkFault, LinkState,
    peer::Peer,
    probe::{Moved, Probe},
    run::INBOUND_PACKET_BYTES_MAX,
    sender::Sender,
};
use bytes::BytesMut;
use holdfast_net::{Stream, io_cause};
use std::{
    future::{Future, ready},
    io,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, WriteHalf},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Bytes gathered for one write before no more messages are taken: several times what a socket takes at once.
pub(crate) const OUT_BYTES_MAX: usize = 256 * 1024;

/// The same where some messages are more urgent than others, and about as many may wait in TLS and in the system: what is
/// urgent waits behind them. A path of 400 kB/s carries these in 20 ms.
pub(crate) const URGENT_OUT_BYTES_MAX: u16 = 8 * 1024;

/// Bytes made ready for one read: some thousand acknowledgements.
const READ_BYTES: usize = 16 * 1024;

/// Largest frame of a WebSocket: any packet, and what else the other side had ready with it.
const FRAME_BYTES_MAX: usize = 2 * INBOUND_PACKET_BYTES_MAX as usize;

/// How long the last bytes may take to leave when the link ends.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// When nothing is due, the timer is set so far ahead that it does not matter.
const FAR: Duration = Duration::from_secs(86_400);

/// How a connection ended.
pub(crate) enum Ended {
    /// It was told to stop.
    Stopped {
        /// Messages that were not acknowledged in time.
        unacknowledged: usize,
    },
    /// Another way is to be taken; this one has ended in order.
    Moving(Moved),
    /// Its token is about to expire: it is to be made anew at once. This one has ended in order.
    Renewed,
    /// It is of no more use.
    Failed(LinkFault),
}

impl Ended {
    /// Whether the other side ended it.
    pub(crate) fn is_by_peer(&self) -> bool {
        matches!(self, Self::Failed(fault) if fault.is_by_peer())
    }
}

/// Bytes on their way out.
#[derive(Default)]
struct Output {
    bytes: BytesMut,
    /// TLS may hold encrypted bytes back until it is told to flush.
    unflushed: bool,
}

impl Output {
    fn has_work(&self) -> bool {
        !self.bytes.is_empty() || self.unflushed
    }

    /// Writes all there is. Cancel safe: what is not written stays.
    async fn write(&mut self, stream: &mut WriteHalf<Stream>) -> io::Result<()> {
        while !self.bytes.is_empty() {
            self.unflushed = true;
            if stream.write_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        stream.flush().await?;
        self.unflushed = false;
        Ok(())
    }
}

impl Sender {
    /// Runs one connection to its end.
    pub(crate) async fn run(
        &mut self,
        mut stream: Stream,
        probe: &mut Probe,
        stop: &CancellationToken,
    ) -> Ended {
        self.open(stream.describe_encryption().map(Into::into), Instant::now().into_std());
        // IMPORTANT: else the link stands still for some 40 ms per window against a broker that gathers its small answers.
        stream.acknowledge_soon();
        stream.set_frame_bytes_max(FRAME_BYTES_MAX);
        if self.reader.has_priorities() {
            stream.set_unsent_bytes_max(URGENT_OUT_BYTES_MAX);
        }
        self.open_beside(stream.branches());
        let mut moving: Option<Moved> = None;
        let mut stopping = false;
        let (mut read, mut write) = tokio::io::split(stream);
        let (mut input, mut output) = (BytesMut::new(), Output::default());
        let mut drain_until: Option<Instant> = None;
        let records = self.records.clone();
        let peer = self.peer();
        let renew_at = self.renew_after().map(|after| Instant::now() + after);
        loop {
            let now = Instant::now();
            if let Err(fault) = self.step(now.into_std(), &mut output.bytes) {
                return Ended::Failed(fault);
            }
            if renew_at.is_some_and(|at| at <= now) && drain_until.is_none() {
                drain_until = Some(now + self.drain_within);
            }
            if drain_until.is_some_and(|until| until <= now || self.client.in_flight() == 0) {
                let ended = self.say_goodbye(&mut write, output).await;
                return match moving {
                    _ if stop.is_cancelled() => ended,
                    Some(moved) => Ended::Moving(moved),
                    None => Ended::Renewed,
                };
            }
            let (room, above) = match self.wanted() {
                _ if drain_until.is_some() => (0, None),
                // What is urgent has a stream of its own, or waits behind these bytes anyway.
                (_, None) if output.bytes.len() >= OUT_BYTES_MAX => (0, None),
                wanted => wanted,
            };
            if self.lanes.are_open() && output.has_work() {
                // What comes and goes on the streams beside may leave no pause: the session's own does not wait for one.
                let written = tokio::select! {
                    biased;
                    written = output.write(&mut write) => written,
                    () = ready(()) => Ok(()),
                };
                if let Err(error) = written {
                    return Ended::Failed(self.broken(&error));
                }
            }
            let due = self.due(drain_until.or(renew_at), now);
            probe.is_silent(self.is_silent(now.into_std()));
            input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    drain_until = Some(now + self.drain_within);
                    self.teller.state(LinkState::Draining);
                }
                () = records.bell.notified() => {
                    if let Some(refused) = records.take_fault() {
                        return Ended::Failed(LinkFault::NotRecorded(refused));
                    }
                }
                () = calls_to_send(peer.as_ref()) => {}
                got = read.read_buf(&mut input) => {
                    let taken = self.arrived(got).and_then(|()| self.receive(&mut input, now.into_std()));
                    if let Err(fault) = taken {
                        return Ended::Failed(fault);
                    }
                }
                arrived = self.lanes.arrived(), if self.lanes.are_open() => {
                    let mut input = match arrived {
                        Ok(input) => input,
                        Err(error) => return Ended::Failed(self.broken(&error)),
                    };
                    if let Err(fault) = self.receive(&mut input, now.into_std()) {
                        return Ended::Failed(fault);
                    }
                    self.lanes.put_back(input);
                }
                found = self.reader.next_above(room, above), if room > 0 => match found {
                    Ok(deliveries) => self.take(deliveries, above.is_some()),
                    Err(error) => return Ended::Failed(LinkFault::Read(error)),
                },
                written = output.write(&mut write), if output.has_work() => {
                    if let Err(error) = written {
                        return Ended::Failed(self.broken(&error));
                    }
                }
                moved = probe.moved(), if drain_until.is_none() && self.is_welcomed() => {
                    if moved.abandons {
                        // An answer that came meanwhile shows that all is well.
                        if self.is_silent(now.into_std()) {
                            return Ended::Moving(moved);
                        }
                        continue;
                    }
                    moving = Some(moved);
                    drain_until = Some(now + self.drain_within);
                }
                () = sleep_until(due) => {}
            }
        }
    }

    fn arrived(&self, got: io::Result<usize>) -> Result<(), LinkFault> {
        match got {
            Ok(1..) => Ok(()),
            Ok(0) if self.is_welcomed() => Err(LinkFault::Closed),
            Ok(_) => Err(LinkFault::NotWelcomed("the other side closed it".to_owned())),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &io::Error) -> LinkFault {
        let why = io_cause(error);
        if self.is_welcomed() { LinkFault::Broken(why) } else { LinkFault::NotWelcomed(why) }
    }

    fn due(&self, drain_until: Option<Instant>, now: Instant) -> Instant {
        let client = self.client.deadline().map(Instant::from_std);
        let hold = self.hold.until().filter(|_| self.client.in_flight() == 0).map(Instant::from_std);
        let suspects = self.poison_until().filter(|_| self.client.in_flight() == 0).map(Instant::from_std);
        let kept = self.horizon.due().map(Instant::from_std);
        let silent = self.silent_at().map(Instant::from_std).filter(|at| *at > now);
        [client, hold, suspects, kept, silent, drain_until].into_iter().flatten().min().unwrap_or(now + FAR)
    }

    async fn say_goodbye(&mut self, write: &mut WriteHalf<Stream>, mut output: Output) -> Ended {
        let unacknowledged = self.leave(Instant::now().into_std(), &mut output.bytes);
        let gone = within(GOODBYE_WITHIN, async {
            output.write(write).await?;
            write.shutdown().await
        });
        if let Err(error) = gone.await {
            tracing::debug!(%error, "the connection was not closed in order");
        }
        Ended::Stopped { unacknowledged }
    }
}

/// Waits until somebody calls the hub or answers it.
async fn calls_to_send(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.to_send().await,
        None => std::future::pending().await,
    }
}

async fn within(time: Duration, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
