//! Holding back after the broker refused messages for the moment.
//!
//! Nothing is sent while a refusal is waited out. Then the refused messages go first, one at a time, and the pace
//! doubles with each that passes: so at most one message is out of its order for each refusal after the first.

use holdfast_broker::Delivery;
use holdfast_types::StableId;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Most messages whose refusals are remembered. More are not in flight at once; beyond it counting starts over.
const REMEMBERED_MAX: usize = 65_536;

/// Messages refused for the moment, and how fast to go on after them.
#[derive(Debug)]
pub(crate) struct Hold {
    min: Duration,
    max: Duration,
    delay: Duration,
    until: Option<Instant>,
    waiting: Vec<Delivery>,
    pace: u16,
    /// Kept over reconnects, so that a link that flaps does not hide a message that never passes.
    attempts: HashMap<StableId, u32>,
}

impl Hold {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            delay: min,
            until: None,
            waiting: Vec::new(),
            pace: u16::MAX,
            attempts: HashMap::new(),
        }
    }

    /// How often the message was tried, this time included.
    pub(crate) fn count(&mut self, id: &StableId) -> u32 {
        if self.attempts.len() >= REMEMBERED_MAX {
            self.attempts.clear();
        }
        let attempts = self.attempts.entry(id.clone()).or_insert(0);
        *attempts += 1;
        *attempts
    }

    /// Keeps a refused message for later. The first refusal of a batch sets the delay.
    pub(crate) fn put(&mut self, delivery: Delivery, now: Instant) {
        if self.until.is_none() {
            self.until = Some(now + self.delay);
            self.delay = (self.delay * 2).min(self.max);
            self.pace = 1;
        }
        self.waiting.push(delivery);
    }

    /// Whether nothing may be sent.
    pub(crate) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// When to go on.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Most messages in flight now.
    pub(crate) fn pace(&self) -> u16 {
        self.pace
    }

    /// The refused messages in their order, if the time has come.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Delivery> {
        if self.until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        self.until = None;
        let mut released = std::mem::take(&mut self.waiting);
        released.sort_by_key(|delivery| delivery.id.as_ref().map(|id| (id.priority, id.sequence)));
        released
    }

    /// A message is done for good, taken or given up.
    pub(crate) fn passed(&mut self, id: Option<&StableId>, taken: bool) {
        if let Some(id) = id
            && !self.attempts.is_empty()
        {
            self.attempts.remove(id);
        }
        if taken && self.until.is_none() && self.pace < u16::MAX {
            self.delay = self.min;
            self.pace = self.pace.saturating_mul(2);
        }
    }

    /// What waits will be read again.
    pub(crate) fn forget(&mut self) {
        self.waiting.clear();
        self.until = None;
    }
}
