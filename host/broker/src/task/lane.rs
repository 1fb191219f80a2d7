//! The lane of a log: messages of volatile routes, in memory, with a bound.
//!
//! A sender waits for room only while somebody reads: a module that is stopped, failed or absent holds up nobody. What
//! comes for it beyond the bound is dropped and counted. Nor do modules wait for each other in a circle: who would close one
//! loses the message.

use super::pending::Pending;
use crate::task::reader::Delivery;
use holdfast_types::{Name, Source, WhenFull};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// Most volatile messages that wait for one module. At 256 bytes this is about 1 MiB; a module that is further behind
/// than this makes senders wait, or loses messages, as its routes say.
pub(crate) const LANE_MESSAGES_MAX: usize = 4096;

/// What wakes a reader, and the volatile messages it has not read.
#[derive(Default)]
pub(crate) struct Lane {
    waiting: Mutex<Waiting>,
    /// Rung for volatile messages and, by the store, for durable ones.
    pub(crate) bell: Notify,
    /// Commits of readers of this log, also of readers that are gone, whose end the store has not told yet.
    under_way: AtomicUsize,
}

/// One commit of a reader. Tells when it ends.
pub(crate) struct UnderWay(Arc<Lane>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.bell.notify_one();
        }
    }
}

#[derive(Default)]
struct Waiting {
    ready: VecDeque<Delivery>,
    /// Messages whose senders wait for room. Bounded by what senders may have in flight.
    parked: VecDeque<(Delivery, Arc<Pending>)>,
    /// The modules that wait for room, and with how many messages.
    waiters: BTreeMap<Name, usize>,
    /// How many readers read, or will again by themselves. There is one at most, but for the moment of a change.
    readers: u32,
}

/// The module that sent a message.
fn sender(delivery: &Delivery) -> Option<&Name> {
    match &delivery.envelope.source {
        Source::Module { module, .. } => Some(module),
        Source::Child { .. } | Source::TwinChange { .. } => None,
    }
}

/// What became of a volatile message.
pub(crate) enum Pushed {
    /// It waits to be read; this many older ones were dropped for it.
    Taken { dropped: u32 },
    /// It was dropped.
    Dropped,
    /// Its sender waits: the part that was opened for it tells what becomes of it.
    Parked,
}

impl Waiting {
    fn no_longer_waits(&mut self, sender: &Name) {
        if let Some(messages) = self.waiters.get_mut(sender) {
            *messages -= 1;
            if *messages == 0 {
                self.waiters.remove(sender);
            }
        }
    }
}

impl Lane {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a commit of a reader begins.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(self.clone())
    }

    /// Whether the store has told the end of every commit. When it has, its cursors say what was recorded.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Puts a message in. One that must wait for room opens a part of its sender's answer; if it is a module's that does not
    /// wait here yet, and `may_wait` is not said, it is given back.
    pub(crate) fn push(
        &self,
        delivery: Delivery,
        when_full: WhenFull,
        may_wait: bool,
        open_part: &mut dyn FnMut() -> Arc<Pending>,
    ) -> Result<Pushed, Delivery> {
        let mut waiting = self.waiting();
        // Whoever reads looks again before it waits: it waits only for the first message.
        let rings = waiting.ready.is_empty();
        let full = waiting.ready.len() >= LANE_MESSAGES_MAX || !waiting.parked.is_empty();
        let pushed = match (full, when_full) {
            (false, _) => {
                waiting.ready.push_back(delivery);
                Pushed::Taken { dropped: 0 }
            }
            (true, WhenFull::DropNewest) => return Ok(Pushed::Dropped),
            (true, WhenFull::Block) if waiting.readers == 0 => return Ok(Pushed::Dropped),
            (true, WhenFull::Block) => {
                if let Some(sender) = sender(&delivery) {
                    match waiting.waiters.get_mut(sender) {
                        // Who waits here already closes no circle by one message more.
                        Some(messages) => *messages += 1,
                        None if may_wait => drop(waiting.waiters.insert(sender.clone(), 1)),
                        None => return Err(delivery),
                    }
                }
                waiting.parked.push_back((delivery, open_part()));
                return Ok(Pushed::Parked);
            }
            (true, WhenFull::DropOldest) => {
                let dropped = u32::from(waiting.ready.pop_front().is_some());
                waiting.ready.push_back(delivery);
                Pushed::Taken { dropped }
            }
        };
        drop(waiting);
        if rings {
            self.bell.notify_one();
        }
        Ok(pushed)
    }

    /// Takes up to `max` messages out and lets as many parked ones in.
    pub(crate) fn take(&self, max: usize, out: &mut Vec<Delivery>) {
        let mut admitted = Vec::new();
        {
            let mut waiting = self.waiting();
            let n = waiting.ready.len().min(max);
            out.extend(waiting.ready.drain(..n));
            while waiting.ready.len() < LANE_MESSAGES_MAX {
                let Some((delivery, pending)) = waiting.parked.pop_front() else { break };
                if let Some(sender) = sender(&delivery) {
                    waiting.no_longer_waits(sender);
                }
                waiting.ready.push_back(delivery);
                admitted.push(pending);
            }
        }
        for pending in admitted {
            pending.part_done(Ok(()), |receipt| receipt.volatile += 1);
        }
    }

    /// A reader begins or ends to read. When the last one ends, the senders that waited for room are let go: gives how
    /// many messages were dropped by that.
    pub(crate) fn reads(&self, reads: bool) -> usize {
        let parked = {
            let mut waiting = self.waiting();
            waiting.readers =
                if reads { waiting.readers.saturating_add(1) } else { waiting.readers.saturating_sub(1) };
            if waiting.readers > 0 {
                return 0;
            }
            waiting.waiters.clear();
            std::mem::take(&mut waiting.parked)
        };
        let dropped = parked.len();
        release(parked);
        dropped
    }

    /// The modules that wait for room here.
    pub(crate) fn waiters(&self) -> Vec<Name> {
        self.waiting().waiters.keys().cloned().collect()
    }

    /// How many wait to be read, and how many senders wait for room.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let waiting = self.waiting();
        (waiting.ready.len(), waiting.parked.len())
    }

    /// Forgets all of it: the module is gone. Senders that waited are let go.
    pub(crate) fn clear(&self) -> usize {
        let (dropped, parked) = {
            let mut waiting = self.waiting();
            let dropped = waiting.ready.len() + waiting.parked.len();
            waiting.ready.clear();
            waiting.waiters.clear();
            (dropped, std::mem::take(&mut waiting.parked))
        };
        release(parked);
        dropped
    }
}

/// Lets senders go whose messages are dropped.
fn release(parked: VecDeque<(Delivery, Arc<Pending>)>) {
    for (_, pending) in parked {
        pending.part_done(Ok(()), |receipt| receipt.dropped += 1);
    }
}
