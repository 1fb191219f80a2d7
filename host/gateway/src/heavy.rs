//! Long work takes turns, so that nobody waits for it.
//!
//! A thread that serves one connection serves no other meanwhile. The packets of a client are therefore taken for so long at
//! once, and so many messages for a client, and then the other connections are looked at. Whoever has more, as a client that
//! floods topics on which hundreds listen, and they, goes on with half of the threads at most, which all of these share: a
//! client that needs little finds a thread that is free. The handshakes of strangers are arithmetic: those of QUIC have a half of
//! their own, so that a newcomer does not wait behind a flood, and all others are done elsewhere (`strangers.rs`).

use crate::{connection::Client, end::End, outbound::BATCH_MESSAGES_MAX};
use holdfast_broker::Published;
use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::ready,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
};
use tokio_util::sync::PollSemaphore;

/// Longest time for packets of one client at once: a full read of small messages for a few subscribers, a hundred or two of them. Two
/// thirds more would be a third more messages a second from one client to fifty, and the others beside floods would see it.
const TURN_TIME_MAX: Duration = Duration::from_micros(150);

/// After how many steps of its tasks a thread of the runtime looks what has come over the network. A step of a flood takes as
/// long as a turn, so that with tokio's own 61 a packet could lie for many milliseconds while all threads have something to do.
pub const EVENT_INTERVAL: u32 = 13;

/// Whose turn it is.
pub(crate) struct Heavy {
    floods: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Heavy {
    /// Half of the threads that there are processors for.
    pub(crate) fn new() -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self::of((threads / 2).max(1))
    }

    fn of(turns: usize) -> Self {
        Self { floods: Arc::new(Semaphore::new(turns)), handshakes: Arc::new(Semaphore::new(turns)) }
    }

    /// Waits for a turn in a flood, behind those who wait already, and then until the other connections of this thread were looked at:
    /// whose turn it becomes runs right behind the one before, and the runtime counts a row of them as one step. Cancel safe.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = self.floods.clone().acquire_owned().await.ok();
        yield_now().await;
        // The system too lets a thread that never rests go on for milliseconds while others wait, as the store's may for which
        // all wait whose messages are to be on disk.
        std::thread::yield_now();
        turn
    }

    /// Shakes hands with a stranger, each step in a turn. Who waits for the other side holds none.
    pub(crate) async fn in_turns<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut turns = PollSemaphore::new(self.handshakes.clone());
        poll_fn(|context| {
            let _turn = ready!(turns.poll_acquire(context));
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Client {
    /// Takes the packets that are in the buffer, as far as the client may be ahead and its turn lasts.
    pub(crate) fn process(&mut self) -> Result<(), End> {
        if self.more {
            return Ok(());
        }
        let end = Instant::now() + TURN_TIME_MAX;
        let mut taken = 0_usize;
        while self.may_take_packets() {
            let Some(packet) = self.codec.decode(&mut self.inbuf).map_err(End::Protocol)? else { break };
            taken += self.take(packet)?;
            if Instant::now() >= end {
                self.more = !self.inbuf.is_empty();
                break;
            }
        }
        self.link_flush();
        self.count_messages(taken);
        // Refusals are settled at once.
        self.release()?;
        self.check_sendable()
    }

    /// Writes messages that were taken for the client. If as many came as are taken at once, the next are for a turn.
    pub(crate) fn hand_out(&mut self, messages: &mut Vec<Published>) -> Result<(), End> {
        self.flooded = messages.len() >= BATCH_MESSAGES_MAX;
        self.write_messages(messages)
    }

    /// The same with what was left of the last turn, from the client and for it.
    pub(crate) fn go_on(&mut self, messages: &mut Vec<Published>) -> Result<(), End> {
        if std::mem::take(&mut self.flooded) {
            let wanted = self.wanted();
            self.subscriptions.take(messages, wanted);
            self.hand_out(messages)?;
        }
        if std::mem::take(&mut self.more) { self.process() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn who_waits_for_the_other_side_holds_no_turn_and_who_works_has_one() {
        let heavy = Heavy::of(1);
        let mut context = Context::from_waker(Waker::noop());
        let mut steps = 0;
        let mut work = Box::pin(heavy.in_turns(poll_fn(|_| {
            steps += 1;
            assert_eq!(heavy.handshakes.available_permits(), 0, "a step is a turn");
            if steps < 3 { Poll::Pending } else { Poll::Ready(()) }
        })));
        assert!(work.as_mut().poll(&mut context).is_pending());
        assert_eq!(heavy.handshakes.available_permits(), 1, "it waits");
        let other = heavy.handshakes.clone().try_acquire_owned().unwrap();
        assert!(work.as_mut().poll(&mut context).is_pending(), "it is another's turn");
        drop(other);
        assert!(work.as_mut().poll(&mut context).is_pending());
        assert!(work.as_mut().poll(&mut context).is_ready());
    }
}
