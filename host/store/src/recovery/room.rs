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
        let is_recent = self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if is_recent && self.spare >= group {
            self.spare -= group;
            return true;
        }
        let Ok(free) = fs4::available_space(store) else { return true };
        // A group stands in the journal and again in a table.
        self.spare = free.saturating_sub(PLENTY_BYTES) / 2;
        self.looked = Some(Instant::now());
        is_enough(free, engine, group + more)
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
