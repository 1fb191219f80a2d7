//! Packs in files of their own.
//!
//! What stands in the database is written twice, to its journal and later to a table, and while a table is written every
//! fsync waits. So packs that are worth it go to the files of their queue, once, and the database is told the place.
//!
//! **Files.** `packs/{number of the keyspace}/{offset of its first message, 20 digits}`, for each queue. A file is begun
//! when the one before it holds a segment, written by the committer only, and deleted whole when nothing in it is alive.
//!
//! ```text
//! file  = salt u64 LE, drawn | frame * | zeros
//! frame = mark u8 (1 counts by itself, 2 counts if the database names it, 3 counts if the group before it does)
//!       | place in its group u32 LE
//!       | frames of the group behind it u32 LE | length u32 LE | last offset u64 LE
//!       | crc32c u32 LE over the salt and all before it, so that no message can hold what looks like a frame
//!       | pack, as in `record.rs`
//! place = version u8 (3) | file varint | position of the pack varint | length varint | crc32c u32 LE over key and all
//!         before it
//! ```
//! A place is the value of a key where else the pack would be; the key is that of the pack.
//!
//! **What counts.** A group commit that does nothing but append to one queue is its frames, with one fsync of the file
//! (mark 1). The database is told without an fsync, which follows within a second; after a power cut recovery tells it
//! again what it forgot (`recovery/packs.rs`). In a group that also moves cursors or writes documents, everything must
//! count together: the frames are synced first, and count when the database's batch is on disk, which names them (mark
//! 2). Small packs of such a group stay in the batch: there a second fsync costs more than to write them twice.
//!
//! A light group may be written while the one before it is being synced (mark 3; `pipeline.rs`). After a power cut it
//! may be there without that one; then neither was acknowledged, and both are cut off.
//!
//! What a failed commit wrote is cut off before anything else is written, and the file is not used again.

mod place;
mod reading;
mod writing;

pub(crate) use place::{FRAME_BYTES, Frame, Mark, Place, SALT_BYTES, Salt};
pub(crate) use reading::{Packs, Unreadable};

use crate::{config::Linger, config::StoreConfig, recovery::sync_folder, sync::lock};
use bytes::Bytes;
use holdfast_types::Offset;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};
pub(crate) use writing::Ahead;
use writing::Writer;

/// A pack file holds no more than a segment, so that it goes when that does, but is not shorter than this: each costs
/// the file system a name and two blocks.
const FILE_BYTES_MIN: u64 = 1 << 20;

/// Files that stay open to be written, of a thousand queues: few processes may have more than a thousand files.
const OPEN_MAX: usize = 64;

/// The pack files of all queues.
#[derive(Debug)]
pub(crate) struct PackFiles {
    folder: PathBuf,
    file_bytes: u64,
    /// Whether to write space ahead where groups are small.
    ahead: bool,
    queues: Mutex<BTreeMap<u64, Queue>>,
    /// The queues that the group in hand wrote to: what it wrote does not count yet.
    unsettled: Mutex<Vec<u64>>,
}

/// The files of one queue.
#[derive(Debug, Default)]
struct Queue {
    /// First offset of each, and the offset after its last.
    files: BTreeMap<Offset, Offset>,
    writer: Option<Writer>,
}

pub(crate) fn packs_path(store: &Path) -> PathBuf {
    store.join("packs")
}

fn queue_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(number.to_string())
}

pub(crate) fn file_path(folder: &Path, number: u64, first: Offset) -> PathBuf {
    queue_path(folder, number).join(format!("{:020}", first.0))
}

/// The first offsets of the files of one queue, in order.
pub(crate) fn list(folder: &Path, number: u64) -> io::Result<Vec<Offset>> {
    let mut found: Vec<Offset> = names(&queue_path(folder, number))?.into_iter().map(Offset).collect();
    found.sort_unstable();
    Ok(found)
}

/// What is named by a number in a folder, which need not be there.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<u64>> {
    let items = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        items => items?,
    };
    let mut found = Vec::new();
    for item in items {
        found.extend(item?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(found)
}

impl PackFiles {
    /// The folder is made when it is not there.
    pub(crate) fn open(config: &StoreConfig) -> io::Result<Self> {
        let folder = packs_path(&config.path);
        let file_bytes = config.segment_bytes_effective().max(FILE_BYTES_MIN);
        let ahead = config.linger == Linger::Auto;
        let (queues, unsettled) = Default::default();
        let files = Self { folder, file_bytes, ahead, queues, unsettled };
        files.make_folder()?;
        Ok(files)
    }

    pub(crate) fn make_folder(&self) -> io::Result<()> {
        if self.folder.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.folder.parent().map_or(Ok(()), sync_folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the files over that recovery has looked at. The last one ends at `tail` or before.
    pub(crate) fn remember(&self, number: u64, firsts: &[Offset], tail: Offset) {
        let ends = firsts.iter().skip(1).copied().chain([tail]);
        let files = firsts.iter().copied().zip(ends).collect();
        lock(&self.queues).insert(number, Queue { files, writer: None });
    }

    /// A group begins. What was written by one that failed does not count with it.
    pub(crate) fn begin(&self) {
        lock(&self.unsettled).clear();
    }

    /// Writes the packs of one group to the newest file of a queue, which gets `first` as its next offset. They are on
    /// disk afterwards, but count as written only when [`Self::settle`] is called.
    pub(crate) fn write(
        &self,
        number: u64,
        first: Offset,
        packs: &[(Offset, Bytes)],
        mark: Mark,
    ) -> io::Result<Vec<Place>> {
        lock(&self.unsettled).push(number);
        let mut queues = lock(&self.queues);
        let queue = queues.entry(number).or_default();
        if queue.writer.as_ref().is_some_and(|writer| writer.is_full(self.file_bytes))
            && let Some(writer) = queue.writer.take()
        {
            writer.close()?;
        }
        let is_new = queue.writer.is_none();
        let writer = match &mut queue.writer {
            Some(writer) => writer,
            none => none.insert(Writer::create(&self.folder, number, first)?),
        };
        let end = packs.last().map_or(first, |(last, _)| last.next());
        // Before it is written: whoever looks for what can be deleted must not take it for dead.
        queue.files.insert(writer.first(), end);
        let ahead = self.ahead.then_some(self.file_bytes);
        let is_opened = is_new || !writer.is_open();
        let places = writer.write(packs, mark, ahead)?;
        if is_new {
            sync_folder(&queue_path(&self.folder, number))?;
        }
        if is_opened {
            let others = queues.iter_mut().filter(|(other, _)| **other != number);
            let writers = others.filter_map(|(_, queue)| queue.writer.as_mut());
            writers.filter(|writer| writer.is_open()).skip(OPEN_MAX - 1).for_each(Writer::close_file);
        }
        Ok(places)
    }

    /// Writes the packs of a light group to the file that is being written, and leaves it to the caller to sync what it
    /// gets. `is_behind` says that what was written before does not count yet. `None` where more would have to be done
    /// than to write: the group then goes the usual way. It counts when [`Self::settle_to`] is called with its end.
    pub(crate) fn write_ahead(
        &self,
        number: u64,
        packs: &[(Offset, Bytes)],
        is_behind: bool,
    ) -> io::Result<Option<Ahead>> {
        let mut queues = lock(&self.queues);
        let Some(queue) = queues.get_mut(&number) else { return Ok(None) };
        let Some(writer) = queue.writer.as_mut().filter(|writer| !writer.is_full(self.file_bytes)) else {
            return Ok(None);
        };
        let Some((last, _)) = packs.last() else { return Ok(None) };
        // Before it is written, as above.
        queue.files.insert(writer.first(), last.next());
        writer.write_ahead(packs, is_behind, self.file_bytes)
    }

    /// What was written ahead counts up to the end of a group, of which this is the file.
    pub(crate) fn settle_to(&self, number: u64, end: u64, file: File) {
        if let Some(writer) = lock(&self.queues).get_mut(&number).and_then(|queue| queue.writer.as_mut()) {
            writer.settle_to(end, file);
        }
    }

    /// What was written since [`Self::begin`] counts.
    pub(crate) fn settle(&self) {
        let written = std::mem::take(&mut *lock(&self.unsettled));
        if written.is_empty() {
            return;
        }
        let mut queues = lock(&self.queues);
        for number in written {
            if let Some(writer) = queues.get_mut(&number).and_then(|queue| queue.writer.as_mut()) {
                writer.settle();
            }
        }
    }

    /// Cuts off what does not count and what was prepared, and lets go of the files. What comes next begins new ones.
    /// Nothing may name what does not count any more.
    pub(crate) fn let_go(&self) -> io::Result<()> {
        self.end(Writer::cut)
    }

    /// Cuts off what was prepared, and lets go of the files. What a group wrote that failed stays: its batch may be in
    /// the journal, and who opens the store next would take it for a loss that the packs are not there.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.end(Writer::cut_space)
    }

    fn end(&self, cut: impl Fn(&mut Writer) -> io::Result<bool>) -> io::Result<()> {
        for queue in lock(&self.queues).values_mut() {
            let Some(writer) = &mut queue.writer else { continue };
            let first = writer.first();
            let kept = match cut(writer) {
                Ok(true) => true,
                Ok(false) => {
                    fs::remove_file(writer.path())?;
                    false
                }
                // Somebody deleted it: then nothing in it can count.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if !kept {
                queue.files.remove(&first);
            }
            queue.writer = None;
        }
        Ok(())
    }

    /// Deletes the files of which everything lies within one of the ranges of offsets.
    pub(crate) fn drop_dead(&self, number: u64, dead: &[(Offset, Offset)]) -> io::Result<()> {
        let mut gone = Vec::new();
        if let Some(queue) = lock(&self.queues).get_mut(&number) {
            let is_dead =
                |first: Offset, end: Offset| dead.iter().any(|(from, to)| *from <= first && end <= *to);
            gone.extend(
                queue.files.iter().filter(|(first, end)| is_dead(**first, **end)).map(|(first, _)| *first),
            );
            for first in &gone {
                queue.files.remove(first);
                queue.writer = queue.writer.take().filter(|writer| writer.first() != *first);
            }
        }
        // Without the lock: the committer need not wait for it.
        gone.into_iter().try_for_each(|first| fs::remove_file(file_path(&self.folder, number, first)))
    }

    /// Deletes all files of a queue that is no more.
    pub(crate) fn delete(&self, number: u64) -> io::Result<()> {
        lock(&self.queues).remove(&number);
        match fs::remove_dir_all(queue_path(&self.folder, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_folder(&self.folder),
        }
    }
}

#[cfg(test)]
mod tests;
