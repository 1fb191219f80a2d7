//! Tells the database of packs that are on disk and that it forgot.
//!
//! A group that does nothing but append is on disk when its frames are (`pack_files/`); what the database is told of it
//! is synced later. After a power cut it may therefore know less than was acknowledged: always the end of what a queue
//! got, and all that came after something it knows. So the files of each queue are looked through from the last pack
//! that the database names:
//!
//! - Whole groups that count by themselves are named again, in order.
//! - What is torn at the end was never acknowledged and is cut off, with what counts only when it is named, and with a
//!   last group that was written while what is torn was being synced.
//! - Something broken with whole groups behind it is damage and is reported; what follows is kept.
//!
//! Usually the database names the end of the newest file, and nothing has to be looked through. Files of keyspaces that
//! are no more go.

use crate::{
    engine::{Engine, fault},
    error::StoreError,
    fjall_compat,
    pack_files::{FRAME_BYTES, Frame, Mark, Place, SALT_BYTES, Salt, file_path, list, names},
    record::{Pack, key},
    recovery::{load::last_offset, report::RecoveryReport},
};
use bytes::Bytes;
use fjall::Keyspace;
use holdfast_types::{Offset, QueueId};
use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

/// Looks through the pack files of all queues.
pub(super) fn restore(engine: &Engine, aside: &Path, report: &mut RecoveryReport) -> Result<(), StoreError> {
    let folder = engine.pack_files.folder();
    let broken = |error: io::Error| StoreError::file("look through", folder, &error);
    let queues = engine.queue_list();
    let numbers: Vec<u64> = queues.iter().map(|(_, queue)| fjall_compat::keyspace_number(queue)).collect();
    for number in names(folder).map_err(broken)?.into_iter().filter(|number| !numbers.contains(number)) {
        let path = folder.join(number.to_string());
        // A crash may leave those of a log that was deleted. Without any queue the database itself was lost.
        if report.is_clean() && !queues.is_empty() {
            fs::remove_dir_all(&path).map_err(broken)?;
        } else {
            put_aside(&path, aside, report)?;
        }
    }
    for (id, keyspace) in &queues {
        restore_queue(engine, id, keyspace, report)?;
    }
    Ok(())
}

/// Moves pack files that belong to nothing any more to where people may look at them.
pub(super) fn put_aside(path: &Path, aside: &Path, report: &mut RecoveryReport) -> Result<(), StoreError> {
    let broken = |error: io::Error| StoreError::file("put aside", path, &error);
    if names(path).map_err(broken)?.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(aside).map_err(broken)?;
    let target = super::free_name(aside, "packs");
    fs::rename(path, &target).map_err(broken)?;
    report.damage(format!(
        "the pack files in {} belong to no queue any more; they were put aside",
        path.display()
    ));
    report.copies.push(target);
    Ok(())
}

/// More than any group takes that others are written behind.
const LIGHT_BYTES_MAX: u64 = 32 << 10;

/// One file that was looked through.
#[derive(Debug)]
struct Scanned {
    first: Offset,
    bytes: Bytes,
    frames: Vec<(Place, Frame)>,
    /// How many of them the database names or came before one that it does.
    named: usize,
}

fn restore_queue(
    engine: &Engine,
    id: &QueueId,
    keyspace: &Keyspace,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let folder = engine.pack_files.folder();
    let number = fjall_compat::keyspace_number(keyspace);
    let broken = |error: io::Error| StoreError::file("look through", folder.join(number.to_string()), &error);
    let mut firsts = list(folder, number).map_err(broken)?;
    let Some(newest) = firsts.last() else { return Ok(()) };
    let length = file_path(folder, number, *newest).metadata().map_err(broken)?.len();
    if last_place(keyspace).is_some_and(|place| place.file == *newest && place.end() == length) {
        engine.pack_files.remember(number, &firsts, last_offset(keyspace).map_or(Offset(0), Offset::next));
        return Ok(());
    }
    let mut scanned = Vec::new();
    for first in firsts.iter().rev() {
        let file = scan(folder, number, *first, keyspace).map_err(broken)?;
        let is_known = file.named > 0;
        scanned.push(file);
        if is_known {
            break;
        }
    }
    scanned.reverse();
    let mut next = last_offset(keyspace).map_or(Offset(0), Offset::next);
    let mut forgotten = Vec::new();
    for (place, file) in scanned.iter().enumerate() {
        let behind = scanned.get(place + 1).map(|file| file.first);
        let kept = file.restore(id, behind, &mut next, &mut forgotten, report);
        // Where something is damaged nothing more is thrown away.
        if report.is_clean() && kept < file.bytes.len() as u64 {
            let path = file_path(folder, number, file.first);
            if kept == 0 {
                fs::remove_file(path).map_err(broken)?;
                firsts.retain(|first| *first != file.first);
            } else {
                let cut = OpenOptions::new().write(true).open(path);
                cut.and_then(|cut| cut.set_len(kept).and_then(|()| cut.sync_all())).map_err(broken)?;
            }
        }
    }
    engine.pack_files.remember(number, &firsts, next);
    if forgotten.is_empty() {
        return Ok(());
    }
    tracing::info!(queue = %id, packs = forgotten.len(), "the database is told again of packs that are on disk");
    for file in &scanned {
        // Who was killed may not have synced it; what is named must be on disk.
        let path = file_path(folder, number, file.first);
        let synced = OpenOptions::new().write(true).open(path).and_then(|file| file.sync_data());
        synced.or_else(not_there).map_err(broken)?;
    }
    let mut batch = engine.db.batch().durability(Some(fjall::PersistMode::SyncData));
    for (last, place) in forgotten {
        batch.insert(keyspace, key(last), place.encode(last));
    }
    engine.write_journal(0, || batch.commit()).map_err(fault("name the packs of a queue"))
}

/// A file of which nothing is of use is gone by now.
fn not_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn last_place(keyspace: &Keyspace) -> Option<Place> {
    let (_, value) = keyspace.last_key_value()?.into_inner().ok()?;
    Place::decode(last_offset(keyspace)?, &value).ok()?
}

/// Reads a file. It is little larger than a segment.
fn scan(folder: &Path, number: u64, first: Offset, keyspace: &Keyspace) -> io::Result<Scanned> {
    let bytes = Bytes::from(fs::read(file_path(folder, number, first))?);
    let mut frames = Vec::new();
    let mut at = SALT_BYTES;
    let salt = bytes.get(..SALT_BYTES).and_then(|salt| salt.try_into().ok()).unwrap_or_default();
    while let Some((start, frame)) = next_frame(salt, &bytes, at) {
        let place = Place { file: first, at: (start + FRAME_BYTES) as u64, length: frame.length };
        at = usize::try_from(place.end()).unwrap_or(usize::MAX);
        frames.push((place, frame));
    }
    let is_named = |(place, frame): &(Place, Frame)| {
        match keyspace.get(key(frame.last)) {
            Ok(value) => value.is_some_and(|value| Place::decode(frame.last, &value) == Ok(Some(*place))),
            // A damaged table may well name it; it must not be cut off.
            Err(_) => true,
        }
    };
    let named = frames.iter().rposition(is_named).map_or(0, |last| last + 1);
    Ok(Scanned { first, bytes, frames, named })
}

/// The next frame at or behind a position.
fn next_frame(salt: Salt, bytes: &[u8], from: usize) -> Option<(usize, Frame)> {
    let rest = bytes.get(from..)?;
    let starts = rest.iter().enumerate().filter(|(_, mark)| **mark != 0).map(|(start, _)| start);
    let mut frames =
        starts.filter_map(|start| Some((from + start, Frame::decode(salt, rest.get(start..)?)?)));
    frames.next()
}

impl Scanned {
    /// Collects what the database forgot of this file; `behind` is the first message of the file behind it. Returns up to
    /// where the file is of use.
    fn restore(
        &self,
        id: &QueueId,
        behind: Option<Offset>,
        next: &mut Offset,
        forgotten: &mut Vec<(Offset, Place)>,
        report: &mut RecoveryReport,
    ) -> u64 {
        let (named, rest) = self.frames.split_at_checked(self.named).unwrap_or_default();
        let mut kept = named.last().map_or(0, |(place, _)| place.end());
        let begin = |kept: u64| kept.max(SALT_BYTES as u64);
        let follows = |(_, a): &(Place, Frame), (_, b): &(Place, Frame)| {
            b.before == a.before.wrapping_add(1) && a.behind == b.behind.wrapping_add(1)
        };
        let mut groups = rest.chunk_by(follows).peekable();
        let mut broken = 0;
        while let Some(group) = groups.next() {
            let Some((_, head)) = group.first() else { continue };
            if !self.is_whole(group) || head.mark == Mark::Named {
                broken += 1;
                continue;
            }
            if behind.is_some_and(|behind| head.last >= behind) {
                // What a group that failed left behind: others have got its offsets since.
                continue;
            }
            let start = group.first().map_or(0, |(place, _)| place.at - FRAME_BYTES as u64);
            let gap = start.saturating_sub(begin(kept));
            let is_last = behind.is_none() && groups.peek().is_none();
            if gap > 0 && head.mark == Mark::Behind && is_last && broken <= 1 && gap <= LIGHT_BYTES_MAX {
                // Both were on their way when the power went.
                break;
            }
            if gap > 0 {
                let (queue, file) = (id, self.first);
                report.damage(format!(
                    "the pack file of queue {queue} from message {file} on is damaged from byte {kept} to byte {start}"
                ));
            }
            broken = 0;
            for (place, frame) in group {
                kept = place.end();
                if frame.last >= *next {
                    *next = frame.last.next();
                    forgotten.push((frame.last, *place));
                }
            }
        }
        let bytes = self.bytes.len() as u64;
        let torn = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if torn > begin(kept) && behind.is_none() {
            report.torn_bytes += torn - begin(kept);
        }
        kept.min(bytes)
    }

    /// Whether all frames of a group are there with all that is in them.
    fn is_whole(&self, group: &[(Place, Frame)]) -> bool {
        let count = group.len();
        let fits = |(place, (_, frame)): (usize, &(Place, Frame))| {
            usize::try_from(frame.before) == Ok(place)
                && usize::try_from(frame.behind) == Ok(count - 1 - place)
        };
        group.iter().enumerate().all(fits)
            && group.iter().all(|(place, frame)| self.is_readable(place, frame))
    }

    fn is_readable(&self, place: &Place, frame: &Frame) -> bool {
        let range = usize::try_from(place.at).ok().zip(usize::try_from(place.end()).ok());
        let Some((start, end)) = range.filter(|(_, end)| *end <= self.bytes.len()) else { return false };
        let Ok(mut pack) = Pack::open(&key(frame.last), self.bytes.slice(start..end)) else { return false };
        std::iter::from_fn(|| pack.next()).all(|record| record.is_ok())
    }
}

#[cfg(test)]
mod tests;
