//! Room on the disk, before it is used up.
//!
//! A message stands in the journal first, and in a table soon; the database lets a journal go only when it is 64 MB
//! large and everything in it is in tables. On a disk that is small or nearly full that moment may never come, and a
//! database that cannot write its tables cannot give anything back either. Two things keep it from that:
//!
//! - The logs take no more while what is only in memory could not be written to tables.
//! - Then everything is written to tables, the database is closed, its journals are emptied, and it is opened again.

use crate::{engine::Engine, error::StoreError, recovery::journal};
use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    time::{Duration, Instant},
};

/// Free space from which nothing has to be looked at closely: several times what the memtables can hold.
const PLENTY_BYTES: u64 = 256 << 20;
/// Manifests, marks, and what others write meanwhile.
const RESERVE_BYTES: u64 = 2 << 20;
/// Others write to the disk too: what was seen of it does not hold for longer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Journals that hold less are not worth closing the database for.
const JOURNALS_BYTES_MIN: u64 = 4 << 20;

/// Whether everything in memory can be written to tables, and `more` bytes to the journal and to tables. A system that
/// does not tell its free space has room until a write fails.
pub(crate) fn has_room(store: &Path, engine: &Engine, more: u64) -> bool {
    let Ok(free) = fs4::available_space(store) else { return true };
    is_enough(free, engine, more)
}

fn is_enough(free: u64, engine: &Engine, more: u64) -> bool {
    free >= PLENTY_BYTES || free >= engine.unwritten_bytes() + 2 * more + RESERVE_BYTES
}

/// What was seen of the disk, so that not every group asks the system.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Bytes that may still be written before plenty is no longer left.
    spare: u64,
    looked: Option<Instant>,
}

impl Watch {
    /// Before a group of so many bytes is written: whether there is room for it and for `more`.
    pub(crate) fn has_room(&mut self, store: &Path, engine: &Engine, group: u64, more: u64) -> bool {
        let found = self.look(group, Instant::now(), || fs4::available_space(store).ok());
        found.is_none_or(|free| is_enough(free, engine, group + more))
    }

    /// What is free, asked of the system if what was seen of it does not answer for this group; none if it does, or if the
    /// system does not tell.
    fn look(&mut self, group: u64, now: Instant, free: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let is_recent = self.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN);
        if is_recent && self.spare > group {
            self.spare -= group;
            return None;
        }
        let found = free();
        // A group stands in the journal and again in a table.
        self.spare = (found.unwrap_or(0).saturating_sub(PLENTY_BYTES) / 2).saturating_sub(group);
        self.looked = Some(now);
        found
    }
}

/// Whether the journals hold enough to be let go.
pub(crate) fn is_worth_emptying(database: &Path) -> bool {
    journals_bytes(database).is_ok_and(|bytes| bytes >= JOURNALS_BYTES_MIN)
}

/// What the journals take on the disk; the newest is a file of holes at its end.
fn journals_bytes(database: &Path) -> io::Result<u64> {
    let size = |path: &Path| {
        let found = fs::metadata(path)?;
        #[cfg(unix)]
        let bytes = std::os::unix::fs::MetadataExt::blocks(&found) * 512;
        #[cfg(not(unix))]
        let bytes = found.len();
        Ok(bytes)
    };
    journal::list(database)?.iter().map(|path| size(path)).sum()
}

/// Lets the journals of a closed database go, all of whose batches are in tables. The newest stays, empty: without one
/// the database would number its batches from the beginning again.
pub(crate) fn empty_journals(database: &Path) -> Result<(), StoreError> {
    let fault = |error: io::Error| StoreError::file("empty the journals in", database, &error);
    let mut journals = journal::list(database).map_err(fault)?;
    let newest = journals.pop();
    for path in journals {
        fs::remove_file(path).map_err(fault)?;
    }
    if let Some(path) = newest {
        let file = OpenOptions::new().write(true).open(path).map_err(fault)?;
        file.set_len(0).and_then(|()| file.sync_all()).map_err(fault)?;
    }
    super::marks::sync_folder(database).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_asked_when_what_was_seen_is_used_up_or_old() {
        let mut watch = Watch::default();
        let start = Instant::now();
        let later = start + LOOK_AGAIN;
        let unasked = || panic!("the system was asked");
        // 300 bytes beyond plenty, each of which is written twice.
        let free = Some(PLENTY_BYTES + 600);
        assert_eq!(watch.look(100, start, || free), free);
        assert_eq!(watch.look(100, start, unasked), None);
        assert_eq!(watch.look(100, start, || free), free, "the first group counts too");
        assert_eq!(watch.look(0, start, unasked), None);
        assert_eq!(watch.look(0, later, || free), free, "it is old");
        // Without plenty each group asks, one without bytes as well.
        let later = later + LOOK_AGAIN;
        for _ in 0..2 {
            assert_eq!(watch.look(0, later, || Some(PLENTY_BYTES)), Some(PLENTY_BYTES));
        }
        for _ in 0..2 {
            let mut asked = false;
            let unknown = || {
                asked = true;
                None
            };
            assert_eq!(watch.look(0, later, unknown), None);
            assert!(asked);
        }
    }
}
