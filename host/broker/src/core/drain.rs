//! Which priority of a log is read next: the most urgent that waits, or each by its share.
//!
//! Shares are kept by fair queuing: each priority has an account of the bytes that were read of it, divided by its weight,
//! and the least account among those that wait is next. A priority that had nothing to read begins again where the others
//! stand, so that nobody saves a share up and an alarm that comes into a backlog is the next to be read. Which message of
//! a priority is next is never asked here: within one the order is that of the log.

use holdfast_types::Priority;
use std::collections::BTreeMap;

/// How the priorities of one log share what its reader takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// The most urgent that waits; what is less urgent waits as long as that takes.
    #[default]
    InOrder,
    /// While several priorities wait, the most urgent gets this part of the bytes, the next the same part of the rest, and so
    /// on; the last gets what is left.
    Share(Percent),
}

/// A part in hundredths, 1 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// This many hundredths; none unless it is 1 to 99.
    pub const fn new(hundredths: u8) -> Option<Self> {
        if hundredths >= 1 && hundredths <= 99 { Some(Self(hundredths)) } else { None }
    }

    /// The hundredths.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Weights are counted in ten-thousandths.
const WHOLE: u64 = 10_000;
/// The least weight: however many priorities wait before it, a message gets there.
const WEIGHT_MIN: u64 = WHOLE / 100;
/// What a message counts beside its body, so that empty ones count as well: about what a header and a topic take.
const MESSAGE_BYTES: u64 = 64;

/// The accounts of one log.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    drain: Drain,
    accounts: BTreeMap<Priority, u64>,
    /// Where the least account of those that waited stood at the last look.
    level: u64,
}

impl Shares {
    /// From now on messages are shared so.
    pub(crate) fn set(&mut self, drain: Drain) {
        *self = Self { drain, ..Self::default() };
    }

    /// Puts those that wait, the most urgent first, into the order in which they are to be read.
    pub(crate) fn order<T>(&mut self, waiting: &mut [T], priority: impl Fn(&T) -> Priority) {
        if self.drain == Drain::InOrder {
            return;
        }
        for one in waiting.iter() {
            let account = self.accounts.entry(priority(one)).or_default();
            *account = self.level.max(*account);
        }
        let account = |one: &T| self.accounts.get(&priority(one)).copied().unwrap_or_default();
        // Stable: of two that stand alike the more urgent is first.
        waiting.sort_by_key(account);
        if let Some(first) = waiting.first() {
            self.level = account(first);
        }
    }

    /// Notes that messages with bodies of so many bytes were read of a priority, while it and others waited.
    pub(crate) fn charge(
        &mut self,
        read: Priority,
        bodies: impl Iterator<Item = usize>,
        waiting: impl Iterator<Item = Priority>,
    ) {
        let Drain::Share(part) = self.drain else { return };
        let waiting: Vec<Priority> = waiting.collect();
        let before = waiting.iter().filter(|other| **other < read).count();
        let weight = weight(part, before, before + 1 >= waiting.len());
        let bytes: u64 = bodies.map(|body| body as u64 + MESSAGE_BYTES).sum();
        *self.accounts.entry(read).or_default() += bytes * WHOLE / weight;
    }
}

/// The weight of a priority with so many more urgent ones before it.
fn weight(part: Percent, before: usize, is_last: bool) -> u64 {
    let part = u64::from(part.get());
    let rest = (0..before).fold(WHOLE, |rest, _| rest * (100 - part) / 100);
    let weight = if is_last { rest } else { rest * part / 100 };
    weight.max(WEIGHT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(level: u8) -> Priority {
        Priority::new(level).unwrap()
    }

    fn shares(hundredths: u8) -> Shares {
        let mut shares = Shares::default();
        shares.set(Drain::Share(Percent::new(hundredths).unwrap()));
        shares
    }

    /// Reads `times` batches of 100 messages of 236 bytes from priorities that always have more; counts the batches of each.
    fn drained(shares: &mut Shares, levels: &[u8], times: usize) -> Vec<usize> {
        let mut read = BTreeMap::from_iter(levels.iter().map(|one| (level(*one), 0)));
        for _ in 0..times {
            let mut waiting: Vec<Priority> = levels.iter().map(|one| level(*one)).collect();
            shares.order(&mut waiting, |one| *one);
            *read.get_mut(&waiting[0]).unwrap() += 1;
            shares.charge(waiting[0], [236; 100].into_iter(), waiting.iter().copied());
        }
        read.into_values().collect()
    }

    #[test]
    fn in_order_the_most_urgent_is_always_next() {
        assert_eq!(drained(&mut Shares::default(), &[0, 5, 10], 1000), [1000, 0, 0]);
    }

    #[test]
    fn each_gets_its_share_of_what_those_before_it_leave() {
        for (hundredths, levels, expected) in [
            (75, &[0, 10][..], &[750, 250][..]),
            (50, &[0, 10], &[500, 500]),
            (20, &[3, 4], &[200, 800]),
            (50, &[0, 5, 10], &[500, 250, 250]),
            (90, &[0, 1, 2, 3], &[900, 90, 9, 9]),
            (75, &[7], &[1000]),
        ] {
            let read = drained(&mut shares(hundredths), levels, 1000);
            for (read, expected) in read.iter().zip(expected) {
                assert!(read.abs_diff(*expected) <= 10, "{hundredths} % of {levels:?}: {read} of {expected}");
            }
        }
    }

    #[test]
    fn the_last_of_many_is_read_however_greedy_the_first_are() {
        let all: Vec<u8> = Priority::all().map(Priority::level).collect();
        let read = drained(&mut shares(99), &all, 10_000);
        assert!(read.iter().all(|read| *read >= 50), "{read:?}");
    }

    #[test]
    fn what_comes_after_a_long_rest_is_next_and_has_nothing_saved_up() {
        let mut shares = shares(75);
        drained(&mut shares, &[10], 10_000);
        // One alarm: it is next.
        assert_eq!(drained(&mut shares, &[0, 10], 1), [1, 0]);
        // Then a flood of them: it gets its share from its first moment, and the rest is not paid back.
        drained(&mut shares, &[10], 100);
        let read = drained(&mut shares, &[0, 10], 100);
        assert!(read[0].abs_diff(75) <= 2, "{read:?}");
    }

    #[test]
    fn bytes_are_shared_and_not_messages() {
        let mut shares = shares(50);
        let mut read = [0_usize; 2];
        for _ in 0..1000 {
            let mut waiting = vec![level(0), level(10)];
            shares.order(&mut waiting, |one| *one);
            let is_bulk = waiting[0] == level(10);
            let bytes = if is_bulk { 65_472 } else { 192 };
            read[usize::from(is_bulk)] += bytes + 64;
            shares.charge(waiting[0], [bytes].into_iter(), waiting.iter().copied());
        }
        assert!(read[0].abs_diff(read[1]) <= 65_536, "{read:?}");
    }

    #[test]
    fn a_part_is_one_to_ninety_nine_hundredths() {
        assert_eq!((Percent::new(0), Percent::new(100)), (None, None));
        assert_eq!(Percent::new(1).map(Percent::get), Some(1));
        assert_eq!(Percent::new(99).map(Percent::get), Some(99));
    }
}
