//! The turn that is being filled, and those that wait for the disk.

use crate::host::Host;
use crate::state::ModuleState;
use crate::status::Shared;
use crate::twin::ModuleTwin;
use holdfast_broker::{Delivery, MethodCall, MethodReply, Reader, Refused, Send, Ticket, Turn};
use holdfast_types::{StableId, Text};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes sent after which a turn is closed, so that few large messages do not wait in memory for many small ones.
const TURN_BYTES: u64 = 1024 * 1024;

/// A call whose effects are in a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Call {
    /// `start`, `stop` or a timer.
    #[default]
    Own,
    /// A message, with its identity if it is recorded.
    Message(Option<StableId>),
}

/// Whose effects a turn holds: who is to blame if the store will never take them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blame {
    pub(super) calls: u32,
    /// The last of them; the one, if there is one.
    pub(super) last: Call,
}

/// Why a turn was not recorded.
#[derive(Debug)]
pub(super) struct NotRecorded {
    pub(super) refused: Refused,
    pub(super) blame: Blame,
}

/// What the calls since the last record did.
#[derive(Default)]
pub(super) struct OpenTurn {
    turn: Turn,
    bytes: u64,
    writes: bool,
    handled: u32,
    expired: u32,
    last: Call,
    /// Replies to methods that leave when the turn is recorded.
    replies: Vec<(MethodCall, MethodReply)>,
    /// Counts from 1; the writes of each turn are kept under its number until they are committed.
    number: u64,
}

impl OpenTurn {
    pub(super) fn new() -> Self {
        Self { number: 1, ..Self::default() }
    }

    /// A call has succeeded: takes what it sent and stored. It was for these messages, or for none.
    pub(super) fn keep(&mut self, host: &mut Host, done: &[Delivery], hops: u8) {
        self.bytes += host.outbox.bytes();
        self.turn.sends.extend(host.outbox.take().map(|(output, message)| Send { output, message, hops }));
        self.writes |= host.state.keep(self.number);
        self.turn.reports.extend(host.twin.keep(self.number, hops));
        self.turn.done.extend(done.iter().map(|delivery| delivery.ticket));
        self.last = done.last().map_or(Call::Own, |delivery| Call::Message(delivery.id.clone()));
        self.handled += u32::try_from(done.len()).unwrap_or(u32::MAX).max(1);
    }

    /// Messages and bytes that it sends so far.
    pub(super) fn sent(&self) -> (u64, u64) {
        (self.turn.sends.len() as u64, self.bytes)
    }

    /// A method has been called with success.
    pub(super) fn reply(&mut self, call: MethodCall, reply: MethodReply) {
        self.replies.push((call, reply));
    }

    /// A message is too old to be handled.
    pub(super) fn pass_expired(&mut self, ticket: Ticket) {
        self.turn.done.push(ticket);
        self.handled += 1;
        self.expired += 1;
    }

    /// A message is given up.
    pub(super) fn give_up(&mut self, ticket: Ticket, reason: &str, attempts: u32) {
        self.turn.dead.push((ticket, Text::from(reason), attempts));
        self.handled += 1;
    }

    /// How many messages may be handled before it is time to record it.
    pub(super) const fn room(&self, messages_max: u32) -> u32 {
        messages_max.saturating_sub(self.handled)
    }

    /// Whether it is time to record it.
    pub(super) fn is_full(&self, messages_max: u32) -> bool {
        self.bytes >= TURN_BYTES || self.handled >= messages_max
    }

    fn is_empty(&self) -> bool {
        self.handled == 0
    }

    /// Hands the turn to the broker and begins the next. What it held is counted when it is recorded, so that what is
    /// done anew after a failure is counted once.
    pub(super) fn close(
        &mut self,
        reader: &Reader,
        state: &ModuleState,
        twin: &ModuleTwin,
        under_way: &Arc<UnderWay>,
        shared: &Arc<Shared>,
    ) {
        if self.is_empty() {
            return;
        }
        let number = self.number;
        let closed = std::mem::replace(self, Self { number: number + 1, ..Self::default() });
        let mut turn = closed.turn;
        let (done, sent, dead) = (turn.done.len() as u64, turn.sends.len() as u64, turn.dead.len() as u64);
        if closed.writes {
            turn.state = state.writes_of(number);
        }
        under_way.counts().open += 1;
        let (under_way, state) = (under_way.clone(), closed.writes.then(|| state.clone()));
        let shared = shared.clone();
        let blame = Blame { calls: closed.handled, last: closed.last };
        let twin = (!turn.reports.is_empty()).then(|| twin.clone());
        let replies = closed.replies;
        reader.settle(turn, move |result| {
            if result.is_ok() {
                if let Some(state) = state {
                    state.committed(number);
                }
                let mut status = shared.status();
                let expired = u64::from(closed.expired);
                status.messages_in += done - expired;
                status.messages_out += sent;
                status.dead_letters += dead;
                status.expired += expired;
                drop(status);
                if let Some(twin) = twin {
                    twin.committed(number);
                }
                replies.into_iter().for_each(|(call, reply)| call.reply(reply));
            }
            under_way.ended(result.map_err(|refused| NotRecorded { refused, blame }));
        });
    }

    /// Forgets everything: the reader is rewound.
    pub(super) fn clear(&mut self) {
        *self = Self { number: self.number + 1, ..Self::default() };
    }
}

/// Turns that the broker has not answered for.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    counts: Mutex<Counts>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    open: u32,
    failed: Option<NotRecorded>,
    /// Someone waits for a turn to end; without that, nobody is woken for it.
    awaited: bool,
}

impl UnderWay {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, result: Result<(), NotRecorded>) {
        let mut counts = self.counts();
        counts.open = counts.open.saturating_sub(1);
        if let Err(failed) = result {
            // Turns behind one that failed fail with it, and may say so first: what will never be recorded is the cause.
            if failed.refused.is_permanent() || counts.failed.is_none() {
                counts.failed = Some(failed);
            }
            counts.awaited = true;
        }
        let awaited = std::mem::take(&mut counts.awaited);
        drop(counts);
        if awaited {
            self.changed.notify_one();
        }
    }

    /// Whether another turn may be opened: fewer than `max` wait, and none has failed.
    pub(super) fn has_room(&self, max: u32) -> bool {
        let mut counts = self.counts();
        let has_room = counts.open < max && counts.failed.is_none();
        counts.awaited |= !has_room;
        has_room
    }

    /// Whether a turn was not recorded.
    pub(super) fn has_failed(&self) -> bool {
        self.counts().failed.is_some()
    }

    /// Waits until a turn ends after there was no room, or one fails.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until none is open. Gives why one was not recorded, which it forgets. Cancel safe.
    pub(super) async fn drained(&self) -> Result<(), NotRecorded> {
        loop {
            {
                let mut counts = self.counts();
                if counts.open == 0 {
                    return counts.failed.take().map_or(Ok(()), Err);
                }
                counts.awaited = true;
            }
            self.changed.notified().await;
        }
    }
}
