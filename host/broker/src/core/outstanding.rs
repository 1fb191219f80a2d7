//! What a reader has handed out of one queue and not yet had back, so that the cursor moves over the contiguous
//! prefix only.

use holdfast_types::Offset;
use std::collections::VecDeque;

/// The messages of one queue between the cursor and the position that will be read next.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// Offsets in rising order, and whether each is done. Offsets that expired or were dropped are not among them.
    handed_out: VecDeque<(Offset, bool)>,
    /// The offset that will be read next.
    position: Offset,
}

impl Outstanding {
    /// Starts at the cursor.
    pub(crate) fn at(cursor: Offset) -> Self {
        Self { handed_out: VecDeque::new(), position: cursor }
    }

    /// The offset that will be read next.
    pub(crate) fn position(&self) -> Offset {
        self.position
    }

    /// How many are handed out and not passed by the cursor.
    pub(crate) fn len(&self) -> usize {
        self.handed_out.len()
    }

    /// Notes that `offset` was handed out.
    pub(crate) fn hand_out(&mut self, offset: Offset) {
        self.handed_out.push_back((offset, false));
        self.position = offset.next();
    }

    /// Notes that everything below `next` has been looked at.
    pub(crate) fn advance(&mut self, next: Offset) {
        self.position = self.position.max(next);
    }

    /// Notes that `offset` is done. Gives the new cursor if it moves.
    pub(crate) fn done(&mut self, offset: Offset) -> Option<Offset> {
        let at = self.handed_out.binary_search_by_key(&offset, |(o, _)| *o).ok()?;
        self.handed_out.get_mut(at)?.1 = true;
        let mut moved = false;
        while matches!(self.handed_out.front(), Some((_, true))) {
            self.handed_out.pop_front();
            moved = true;
        }
        moved.then(|| self.cursor())
    }

    /// The first offset that is not done.
    pub(crate) fn cursor(&self) -> Offset {
        self.handed_out.front().map_or(self.position, |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_over_the_contiguous_prefix_only() {
        let mut queue = Outstanding::at(Offset(10));
        for offset in [10, 11, 14, 15] {
            queue.hand_out(Offset(offset));
        }
        assert_eq!(queue.done(Offset(11)), None);
        assert_eq!(queue.done(Offset(10)), Some(Offset(14)), "12 and 13 had expired and are passed");
        assert_eq!(queue.done(Offset(15)), None);
        assert_eq!(queue.done(Offset(15)), None, "told twice changes nothing");
        assert_eq!(queue.done(Offset(14)), Some(Offset(16)));
        assert_eq!(queue.done(Offset(3)), None, "an unknown offset changes nothing");
        assert_eq!((queue.cursor(), queue.len()), (Offset(16), 0));
    }

    #[test]
    fn what_was_looked_at_and_had_expired_is_passed() {
        let mut queue = Outstanding::at(Offset(0));
        queue.advance(Offset(7));
        assert_eq!(queue.cursor(), Offset(7));
        queue.advance(Offset(3));
        assert_eq!(queue.position(), Offset(7));
    }
}
