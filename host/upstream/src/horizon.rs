//! What was acknowledged and is kept for a time all the same.
//!
//! A hub that dies for good takes with it what it acknowledged and had not passed on. So the cursor of the log trails: a
//! message counts as done only when it was acknowledged a while ago, or when too much is kept. Meanwhile the hub in use is
//! not sent again what it has taken, as long as this process remembers that and the hub does; another hub, or one that was
//! set back to an older state, is sent all of it, and drops by the stable identity what it has. After a restart of the edge the hub in use is sent it again as well.

use holdfast_broker::{Delivery, Ticket};
use holdfast_link::Mark;
use holdfast_types::{Priority, StableId};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Most messages kept; each takes some 60 bytes of memory, and a whole backlog of small ones must not.
const KEPT_MAX: usize = 100_000;

/// How much is kept. Nothing by default: a broker that cannot drop duplicates would hand them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAcknowledged {
    /// How long after its acknowledgement.
    pub time: Duration,
    /// Most bytes of bodies.
    pub bytes: usize,
}

struct Kept {
    since: Instant,
    bytes: usize,
    ticket: Ticket,
}

/// The messages between the cursor and what was acknowledged.
pub(crate) struct Horizon {
    keep: KeepAcknowledged,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// What the place in use has taken, by the life of the store and the priority.
    taken: BTreeMap<(u64, Priority), Ranges>,
    place: Option<usize>,
}

impl Horizon {
    pub(crate) fn new(keep: KeepAcknowledged) -> Self {
        Self { keep, kept: VecDeque::new(), bytes: 0, taken: BTreeMap::new(), place: None }
    }

    /// The connection goes to this place.
    pub(crate) fn goes_to(&mut self, place: usize) {
        if self.place.replace(place) != Some(place) {
            self.taken.clear();
        }
    }

    /// The hub in use says how far it has stored this edge's messages: what it took and has not is to be sent again.
    pub(crate) fn hub_has(&mut self, marks: &[Mark]) {
        for ((epoch, priority), ranges) in &mut self.taken {
            let mark = marks.iter().find(|mark| (mark.epoch, mark.priority) == (*epoch, *priority));
            ranges.end_at(mark.map_or(0, |mark| mark.sequence.next().0));
        }
    }

    /// Keeps a message that was acknowledged; tells whether it does, or the message is done.
    pub(crate) fn keeps(&mut self, delivery: &Delivery, now: Instant) -> bool {
        let Some(id) = delivery.id.as_ref().filter(|_| !self.keep.time.is_zero()) else { return false };
        self.taken.entry((id.epoch, id.priority)).or_default().insert(id.sequence.0);
        let bytes = delivery.envelope.message.body.len();
        self.bytes += bytes;
        self.kept.push_back(Kept { since: now, bytes, ticket: delivery.ticket });
        true
    }

    /// Whether the place in use has acknowledged this message.
    pub(crate) fn was_taken(&self, id: Option<&StableId>) -> bool {
        let taken =
            |id: &StableId| self.taken.get(&(id.epoch, id.priority))?.holds(id.sequence.0).then_some(());
        id.and_then(taken).is_some()
    }

    /// What need not be kept any longer.
    pub(crate) fn done(&mut self, now: Instant) -> Vec<Ticket> {
        let mut done = Vec::new();
        while let Some(first) = self.kept.front() {
            let over = self.kept.len() > KEPT_MAX || self.bytes > self.keep.bytes;
            if !over && now < first.since + self.keep.time {
                break;
            }
            self.bytes -= first.bytes;
            done.push(first.ticket);
            self.kept.pop_front();
        }
        done
    }

    /// When there is more of it.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.kept.front().map(|first| first.since + self.keep.time)
    }

    /// All is read again from the cursor: tickets are void.
    pub(crate) fn rewound(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}

/// Whole numbers, as ranges without gaps between them: acknowledgements come nearly in order.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, number: u64) {
        if self.holds(number) {
            return;
        }
        let before =
            self.0.range(..number).next_back().filter(|(_, end)| **end == number).map(|(start, _)| *start);
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        self.0.insert(before.unwrap_or(number), end);
    }

    /// Leaves out this number and all above it.
    fn end_at(&mut self, number: u64) {
        self.0.split_off(&number);
        if let Some(mut last) = self.0.last_entry() {
            *last.get_mut() = number.min(*last.get());
        }
    }

    fn holds(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_come_out_of_order_become_one_range() {
        let mut ranges = Ranges::default();
        for number in [5, 7, 6, 0, 6, 1, 3, 4, 2] {
            ranges.insert(number);
        }
        assert_eq!(ranges.0, BTreeMap::from([(0, 8)]));
        ranges.insert(9);
        assert_eq!(ranges.0, BTreeMap::from([(0, 8), (9, 10)]));
        assert!(ranges.holds(0) && ranges.holds(7) && !ranges.holds(8) && ranges.holds(9));
        for (end, left) in [(9, vec![(0, 8)]), (5, vec![(0, 5)]), (5, vec![(0, 5)]), (0, vec![])] {
            ranges.end_at(end);
            assert_eq!(ranges.0, BTreeMap::from_iter(left));
        }
    }
}
