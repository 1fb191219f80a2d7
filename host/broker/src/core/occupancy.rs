//! Which records of the session log are still needed, and by how many sessions.

use holdfast_types::Offset;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    sessions: u32,
    bytes: u32,
}

/// The log from its first needed record to its tail: eight bytes for each record.
#[derive(Debug, Default)]
pub(crate) struct Occupancy {
    first: Offset,
    records: VecDeque<Use>,
    bytes: u64,
    live_bytes: u64,
}

impl Occupancy {
    pub(crate) fn starting_at(first: Offset) -> Self {
        Self { first, ..Self::default() }
    }

    /// The lowest offset that a session needs; the tail if none does.
    pub(crate) fn cursor(&self) -> Offset {
        self.first
    }

    /// Bytes of all records from the cursor on, and of those that are needed.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes, self.live_bytes)
    }

    fn place(&mut self, at: Offset) -> Option<&mut Use> {
        self.records.get_mut(usize::try_from(at.0.checked_sub(self.first.0)?).ok()?)
    }

    /// Takes in the record at the tail. Offsets in between that were never told of are needed by nobody.
    pub(crate) fn append(&mut self, at: Offset, bytes: u32) {
        if self.records.is_empty() && at > self.first {
            self.first = at;
        }
        let Some(index) = at.0.checked_sub(self.first.0).and_then(|n| usize::try_from(n).ok()) else {
            return;
        };
        if index >= self.records.len() {
            self.records.resize(index + 1, Use::default());
            if let Some(record) = self.records.back_mut() {
                record.bytes = bytes;
                self.bytes += u64::from(bytes);
            }
        }
    }

    /// One more session needs a record.
    pub(crate) fn need(&mut self, at: Offset) {
        let Some(record) = self.place(at) else { return };
        record.sessions += 1;
        if record.sessions == 1 {
            self.live_bytes += u64::from(record.bytes);
        }
    }

    /// One session less needs a record.
    pub(crate) fn release(&mut self, at: Offset) {
        let Some(record) = self.place(at) else { return };
        let was = record.sessions;
        record.sessions = was.saturating_sub(1);
        if was == 1 {
            self.live_bytes -= u64::from(record.bytes);
        }
    }

    /// Passes over what nobody needs at the head. Says whether the cursor has moved.
    pub(crate) fn advance(&mut self) -> bool {
        let was = self.first;
        while let Some(record) = self.records.front().filter(|record| record.sessions == 0) {
            self.bytes -= u64::from(record.bytes);
            self.first = self.first.next();
            self.records.pop_front();
        }
        self.first != was
    }

    /// The needed records among the oldest, with the offset after the last that was looked at: at most `messages`, and
    /// no more once they have `bytes` bytes.
    pub(crate) fn oldest(&self, messages: usize, bytes: u64) -> (Vec<Offset>, Offset) {
        let (mut found, mut taken, mut next) = (Vec::new(), 0, self.first);
        for (at, record) in (self.first.0..).zip(&self.records) {
            if found.len() >= messages || taken >= bytes {
                break;
            }
            next = Offset(at + 1);
            if record.sessions > 0 {
                found.push(Offset(at));
                taken += u64::from(record.bytes);
            }
        }
        (found, next)
    }
}
