//! Messages over which the broker hangs up.
//!
//! Such a message would stay at the head for ever. So when connections end again and again with the same message at the
//! head, messages are sent one at a time, as many as may have been in flight. One that does not survive this alone
//! either waits, on the next connection, until another message was acknowledged there, and is then tried once more; if
//! that ends this connection too it becomes a dead letter. A broker that is down, falls over, or hangs up whatever comes
//! acknowledges nothing, and so makes no dead letters at all.

use holdfast_broker::Delivery;
use holdfast_types::StableId;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Connections in a row that the other side ends with the same message at the head before messages are sent alone.
/// Links that flap on their own rarely stop five times at the same message, and being slow for a while harms nothing.
const HEAD_ENDS_MAX: u32 = 5;

/// Connections that the other side ends over a message sent alone before it is given up.
const ALONE_ENDS_MAX: u32 = 3;

/// How soon after a message was written an end is laid to it: some round trips of a bad link. A broker that minds a
/// message hangs up as soon as it has read it.
const BLAMED_WITHIN: Duration = Duration::from_secs(5);

/// How long a suspect waits for another message to go first; then it is tried without, and not given up for it.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Most suspects remembered. Beyond it the oldest is forgotten and counted anew.
const SUSPECTS_MAX: usize = 64;

/// A message over which the broker hung up for the last time.
pub(crate) struct Condemned {
    pub(crate) delivery: Delivery,
    pub(crate) topic: String,
    pub(crate) ends: u32,
}

struct Alone {
    delivery: Delivery,
    topic: String,
    written: Instant,
}

/// Finds messages over which the broker hangs up.
#[derive(Default)]
pub(crate) struct Poison {
    /// What is in flight, in the order of sending.
    in_line: VecDeque<StableId>,
    /// The head at the last end, and how often in a row it was.
    head: Option<(StableId, u32)>,
    /// Messages still to be sent one at a time; 0 when all is as usual.
    alone_left: u32,
    /// Messages over which connections ended while they were alone, and how often.
    suspects: Vec<(StableId, u32)>,
    alone: Option<Alone>,
    /// Suspects that wait for another message to go first.
    aside: Vec<Delivery>,
    /// Whether this connection has carried a message to the broker and its answer back.
    carries: bool,
}

impl Poison {
    /// Most messages in flight now.
    pub(crate) fn pace(&self) -> u16 {
        if self.is_alone() { 1 } else { u16::MAX }
    }

    /// Whether messages are sent one at a time.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone_left > 0
    }

    /// Keeps a suspect back for now; gives back a message that may be sent.
    pub(crate) fn admit(
        &mut self,
        delivery: Delivery,
        welcomed: Option<Instant>,
        now: Instant,
    ) -> Option<Delivery> {
        let ends = delivery.id.as_ref().map_or(0, |id| self.ends_of(id));
        if ends + 1 < ALONE_ENDS_MAX || self.may_try(welcomed, now) {
            return Some(delivery);
        }
        self.aside.push(delivery);
        None
    }

    fn may_try(&self, welcomed: Option<Instant>, now: Instant) -> bool {
        self.carries || welcomed.is_none_or(|since| now >= since + PROBE_WITHIN)
    }

    fn ends_of(&self, id: &StableId) -> u32 {
        self.suspects.iter().find(|(known, _)| known == id).map_or(0, |(_, ends)| *ends)
    }

    /// The suspects that were kept back, if they may be tried now.
    pub(crate) fn release(&mut self, welcomed: Option<Instant>, now: Instant) -> Vec<Delivery> {
        if self.may_try(welcomed, now) { std::mem::take(&mut self.aside) } else { Vec::new() }
    }

    /// When suspects are tried without another message before them.
    pub(crate) fn until(&self, welcomed: Option<Instant>) -> Option<Instant> {
        welcomed.filter(|_| !self.aside.is_empty()).map(|since| since + PROBE_WITHIN)
    }

    /// A message is being sent.
    pub(crate) fn sent(&mut self, delivery: &Delivery, topic: &str, now: Instant) {
        self.in_line.extend(delivery.id.clone());
        if self.is_alone() {
            self.alone = Some(Alone { delivery: delivery.clone(), topic: topic.to_owned(), written: now });
        }
    }

    /// A message that was sent is out of flight without an answer: it could not be written.
    pub(crate) fn withdrawn(&mut self, id: Option<&StableId>) {
        self.alone = None;
        let Some(id) = id else { return };
        // Answers come in the order of sending, but for brokers that answer late.
        if let Some(at) = self.in_line.iter().position(|known| known == id) {
            self.in_line.remove(at);
        }
        self.suspects.retain(|(known, _)| known != id);
    }

    /// The broker answered for a message.
    pub(crate) fn answered(&mut self, id: Option<&StableId>) {
        self.withdrawn(id);
        self.carries = true;
        self.alone_left = self.alone_left.saturating_sub(1).max(u32::from(!self.aside.is_empty()));
        if self.alone_left == 0 {
            // Suspects come first, so what is left of them has expired or was purged.
            self.suspects.clear();
        }
    }

    /// A connection that was welcomed has ended. Gives the message to give up, if there is one.
    pub(crate) fn ended(&mut self, by_peer: bool, window: u16, now: Instant) -> Option<Condemned> {
        let carried = std::mem::take(&mut self.carries);
        let alone = self.alone.take();
        if !by_peer {
            return None;
        }
        if !self.is_alone() {
            let head = self.in_line.front()?.clone();
            let before = self.head.take().filter(|(known, _)| *known == head).map_or(0, |(_, ends)| ends);
            if before + 1 >= HEAD_ENDS_MAX {
                tracing::warn!(id = %head, "connections end again and again at this message; messages go one at a time now");
                self.alone_left = window.into();
            } else {
                self.head = Some((head, before + 1));
            }
            return None;
        }
        let Alone { delivery, topic, written } = alone?;
        let id = delivery.id.clone()?;
        if now.saturating_duration_since(written) > BLAMED_WITHIN {
            return None;
        }
        let ends = self.ends_of(&id) + 1;
        self.suspects.retain(|(known, _)| *known != id);
        if carried && ends >= ALONE_ENDS_MAX {
            return Some(Condemned { delivery, topic, ends });
        }
        if self.suspects.len() >= SUSPECTS_MAX {
            self.suspects.remove(0);
        }
        self.suspects.push((id, ends));
        self.alone_left = window.into();
        None
    }

    /// All will be read again.
    pub(crate) fn forget(&mut self) {
        self.in_line.clear();
        self.aside.clear();
        self.alone = None;
    }
}
