//! Where the messages of one session lie in the log, in their order: runs of neighbours, so that a session that gets
//! every message costs as much as one that gets a single one.

use holdfast_types::Offset;
use std::collections::VecDeque;

/// A message of a session: its order there, and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Its first offset, which never changes.
    pub(crate) order: Offset,
    /// The offset where it can be read.
    pub(crate) at: Offset,
}

/// Messages whose orders and places both rise by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    order: u64,
    at: u64,
    len: u64,
}

impl Run {
    fn holds(&self, order: u64) -> bool {
        order >= self.order && order - self.order < self.len
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.order + self.len == next.order && self.at + self.len == next.at
    }
}

/// Positions in rising order.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    runs: VecDeque<Run>,
    len: u64,
}

impl Positions {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many runs it takes: what it costs in memory.
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn front(&self) -> Option<Position> {
        self.runs.front().map(|run| Position { order: Offset(run.order), at: Offset(run.at) })
    }

    pub(crate) fn pop_front(&mut self) -> Option<Position> {
        let position = self.front()?;
        self.len -= 1;
        let run = self.runs.front_mut()?;
        run.order += 1;
        run.at += 1;
        run.len -= 1;
        if run.len == 0 {
            self.runs.pop_front();
        }
        Some(position)
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Position> {
        self.runs.iter().flat_map(|run| {
            (0..run.len).map(|n| Position { order: Offset(run.order + n), at: Offset(run.at + n) })
        })
    }

    /// Where the message of this order lies.
    pub(crate) fn at(&self, order: Offset) -> Option<Offset> {
        let index = self.runs.partition_point(|run| run.order + run.len <= order.0);
        let run = self.runs.get(index).filter(|run| run.holds(order.0))?;
        Some(Offset(run.at + (order.0 - run.order)))
    }

    /// Adds a message, most often at the end. One that is there already stays where it is; says whether it is new.
    pub(crate) fn insert(&mut self, position: Position) -> bool {
        let new = Run { order: position.order.0, at: position.at.0, len: 1 };
        let index = self.runs.partition_point(|run| run.order + run.len <= new.order);
        if self.runs.get(index).is_some_and(|run| run.holds(new.order)) {
            return false;
        }
        self.len += 1;
        let before = index.checked_sub(1).and_then(|index| self.runs.get_mut(index));
        match before.filter(|before| before.is_followed_by(&new)) {
            Some(before) => before.len += 1,
            None => self.runs.insert(index, new),
        }
        let index = index.saturating_sub(1);
        self.join(index);
        self.join(index);
        true
    }

    /// Makes one run of a run and the next if they are neighbours.
    fn join(&mut self, index: usize) {
        let (Some(run), Some(next)) = (self.runs.get(index).copied(), self.runs.get(index + 1).copied())
        else {
            return;
        };
        if run.is_followed_by(&next) {
            self.runs.remove(index + 1);
            if let Some(run) = self.runs.get_mut(index) {
                run.len += next.len;
            }
        }
    }

    /// Takes a message out of wherever it stands.
    pub(crate) fn remove(&mut self, order: Offset) -> Option<Position> {
        let at = self.at(order)?;
        let index = self.runs.partition_point(|run| run.order + run.len <= order.0);
        let run = self.runs.remove(index)?;
        let (first, rest) = (order.0 - run.order, run.len - (order.0 - run.order) - 1);
        if rest > 0 {
            self.runs.insert(index, Run { order: order.0 + 1, at: at.0 + 1, len: rest });
        }
        if first > 0 {
            self.runs.insert(index, Run { len: first, ..run });
        }
        self.len -= 1;
        Some(Position { order, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn positions_are_a_sorted_map(steps in prop::collection::vec((0..40_u64, 0..3_u64, 0..4_u8), 0..200)) {
            let (mut positions, mut model) = (Positions::default(), BTreeMap::new());
            for (order, shift, what) in steps {
                match what {
                    0 => prop_assert_eq!(
                        positions.pop_front().map(|p| (p.order.0, p.at.0)),
                        model.pop_first()
                    ),
                    1 => prop_assert_eq!(
                        positions.remove(Offset(order)).map(|p| p.at.0),
                        model.remove(&order)
                    ),
                    _ => {
                        model.entry(order).or_insert(order + shift);
                        positions.insert(Position { order: Offset(order), at: Offset(order + shift) });
                    }
                }
                prop_assert!(positions.iter().map(|p| (p.order.0, p.at.0)).eq(model.clone()));
                prop_assert_eq!(positions.len(), model.len() as u64);
                prop_assert_eq!(positions.at(Offset(order)).map(|at| at.0), model.get(&order).copied());
            }
        }
    }

    #[test]
    fn neighbours_cost_one_run() {
        let mut positions = Positions::default();
        for order in (0..1000).rev().chain(1000..2000).map(Offset) {
            positions.insert(Position { order, at: order });
        }
        assert_eq!((positions.runs(), positions.len()), (1, 2000));
    }
}
