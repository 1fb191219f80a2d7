//! The one place that touches what fjall and lsm-tree do not promise.
//!
//! Everything here is documented-hidden in fjall 3.1.13 with lsm-tree 3.1.10 and may go away with any release, which is
//! why the version is pinned. What is used, and why there is no other way:
//!
//! - `keyspace.tree.drop_range`: deletes whole tables without a tombstone. A queue emptied with tombstones takes
//!   seconds to find its first entry; one emptied this way takes microseconds.
//! - `get_version_history_lock().maintenance(..)`: without it the files of dropped tables stay until the next memtable
//!   rotation, which an idle queue never has. Safe only while no snapshot is open; this crate opens none.
//! - `current_version().iter_tables()`: to keep the newest table. A keyspace without tables pins every later journal.
//! - `write_buffer_size`, `rotate_memtable`: fjall does not bound the sum of memtables over keyspaces.
//! - `seqno`: to tell a batch that was acknowledged from one that failed half way, in the journal.

use fjall::{AbstractTree, Database, Keyspace};
use std::ops::Bound;

/// Deletes the tables that lie wholly within `from..to` (of the keys) and gives their space back at once. The newest
/// table always stays. Nothing is changed that `range` could still find outside of `from..to`.
pub(crate) fn drop_range(db: &Database, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> fjall::Result<()> {
    let version = keyspace.tree.current_version();
    let newest = version.iter_tables().max_by_key(|table| table.get_highest_seqno());
    let Some(kept) = newest.map(|table| table.metadata.key_range.max().to_vec()) else { return Ok(()) };
    let to = if from <= kept.as_slice() && kept.as_slice() < to { kept.as_slice() } else { to };
    let inside = version.iter_tables().any(|table| {
        let range = &table.metadata.key_range;
        &range.min()[..] >= from && &range.max()[..] < to
    });
    if !inside || from >= to {
        return Ok(());
    }
    keyspace.tree.drop_range::<&[u8], _>((Bound::Included(from), Bound::Excluded(to)))?;
    keyspace.tree.get_version_history_lock().maintenance(keyspace.path(), db.visible_seqno())?;
    // Only here the files are deleted, when the lock that readers need is free again.
    drop(version);
    Ok(())
}

/// Whether the newest table, which is kept, is larger than `bytes` and lies wholly below `below`: compaction joins
/// tables, and what is kept for the sake of the journals should be small.
pub(crate) fn keeps_too_much(keyspace: &Keyspace, below: &[u8], bytes: u64) -> bool {
    let version = keyspace.tree.current_version();
    let newest = version.iter_tables().max_by_key(|table| table.get_highest_seqno());
    newest
        .is_some_and(|table| table.metadata.file_size > bytes && &table.metadata.key_range.max()[..] < below)
}

/// Memory in memtables that can be let go by writing them to tables.
pub(crate) fn memtable_bytes(keyspace: &Keyspace) -> u64 {
    keyspace.tree.active_memtable().size()
}

/// Memory in all memtables.
pub(crate) fn memtables_bytes(db: &Database) -> u64 {
    db.write_buffer_size()
}

/// Starts writing the memtable to a table, in the background.
pub(crate) fn rotate(keyspace: &Keyspace) -> fjall::Result<()> {
    keyspace.rotate_memtable().map(|_| ())
}

/// Whether the keyspace is close to what the database answers by waiting without end: four memtables that are not
/// written yet, or twenty tables that are not sorted in.
pub(crate) fn is_congested(keyspace: &Keyspace) -> bool {
    keyspace.sealed_memtable_count() >= 3 || keyspace.l0_table_count() >= 18
}

/// Memory in memtables at most: those that wait to be written are taken to be full.
pub(crate) fn unwritten_bytes(keyspace: &Keyspace, full: u64) -> u64 {
    memtable_bytes(keyspace) + keyspace.sealed_memtable_count() as u64 * full
}

/// Whether everything in the keyspace is in tables.
pub(crate) fn is_written(keyspace: &Keyspace) -> bool {
    keyspace.sealed_memtable_count() == 0 && keyspace.tree.active_memtable().size() == 0
}

/// The number that the next batch gets. Batches in the journal with this number or a higher one came later.
pub(crate) fn next_batch(db: &Database) -> u64 {
    db.seqno()
}

/// The number by which the keyspace's folder and its items in the journal are named.
pub(crate) fn keyspace_number(keyspace: &Keyspace) -> u64 {
    keyspace.id()
}
