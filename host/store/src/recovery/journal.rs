//! Looks through the journals before the database does.
//!
//! The database replays its journals when it opens. A batch that was torn by a power cut can make it refuse to open
//! for ever, and a flipped bit in the middle can make it throw away everything behind without a word. So the journals
//! are read here first:
//!
//! - What is torn at the end of the newest journal was never acknowledged and is cut off.
//! - A broken batch with whole ones behind it, or one in an older journal, is damage: the journal is copied aside, the
//!   broken batch is taken out, the rest is kept, and it is reported. The check of the queues says what was in it.
//! - Batch numbers are outside of the database's checksum. One that does not rise is set right.
//! - After a failed fsync, batches from a given number on were never acknowledged, may be in the page cache and not on
//!   the disk, and are cut off.
//!
//! Format (fjall 3.1.13, `src/journal/entry.rs`; little endian): start = 1 u8, items u32, number u64; item = 2 u8, kind
//! u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, stored value; clear = 4
//! u8, keyspace u64; end = 3 u8, xxh3-64 of the items u64, "FJL" 3. Journals are named by rising numbers, `N.jnl`, and
//! filled with zeros behind the last batch.

use crate::{error::StoreError, recovery::report::RecoveryReport};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

/// Largest value that a batch can hold: one body, one pack, one document; with room. A length above this is damage
/// and not worth the memory.
const VALUE_BYTES_MAX: u32 = 64 << 20;
/// Numbers between two batches are used up by flushes and compactions; never this many.
const NUMBER_JUMP_MAX: u64 = 1 << 24;

/// A batch that is whole.
#[derive(Debug)]
struct Whole {
    range: Range<u64>,
    number: u64,
}

/// What one journal holds.
#[derive(Debug, Default)]
struct Found {
    batches: Vec<Whole>,
    /// Where something that is not a batch begins, and whether it is more than zeros.
    rest: Option<u64>,
    bytes: u64,
}

/// Checks and repairs all journals in `folder`. Batches numbered `unacknowledged` or higher are cut off.
pub(crate) fn repair(
    folder: &Path,
    aside: &Path,
    unacknowledged: Option<u64>,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let journals = list(folder).map_err(|error| StoreError::file("list", folder, &error))?;
    let newest = journals.len().saturating_sub(1);
    let mut before = None;
    for (place, path) in journals.iter().enumerate() {
        let fixed = repair_one(path, aside, place == newest, unacknowledged, &mut before, report);
        fixed.map_err(|error| StoreError::file("repair", path, &error))?;
    }
    Ok(())
}

/// The journals, oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, path.extension().and_then(|e| e.to_str())) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn repair_one(
    path: &Path,
    aside: &Path,
    is_newest: bool,
    unacknowledged: Option<u64>,
    before: &mut Option<u64>,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let found = scan(path)?;
    renumber(path, &found, before, report)?;
    if let (true, Some(limit)) = (is_newest, unacknowledged)
        && let Some(first) = found.batches.iter().find(|batch| batch.number >= limit)
    {
        let kept = found.batches.iter().take_while(|batch| batch.range.start < first.range.start);
        tracing::info!(journal = %path.display(), at = first.range.start, "a batch that failed is cut off");
        return write_anew(path, kept);
    }
    if is_newest && unacknowledged.is_some() {
        return write_anew(path, found.batches.iter());
    }
    let end = found.batches.last().map_or(0, |batch| batch.range.end);
    let broken: Vec<Range<u64>> = gaps(&found);
    if broken.is_empty() {
        match found.rest {
            Some(at) if is_newest => {
                report.torn_bytes += found.bytes - at;
                truncate(path, end)?;
            }
            Some(at) => {
                copy_aside(path, aside, report)?;
                report.damage(format!(
                    "journal {} is damaged from byte {at} to its end and was cut there; it was copied first",
                    path.display()
                ));
                truncate(path, end)?;
            }
            None => {}
        }
        return Ok(());
    }
    copy_aside(path, aside, report)?;
    let bytes: u64 = broken.iter().map(|range| range.end - range.start).sum();
    report.damage(format!(
        "journal {} is damaged in {} places, {bytes} bytes; they were taken out after copying it, what follows was kept",
        path.display(),
        broken.len()
    ));
    copy_batches(path, found.batches.iter())
}

/// What lies between whole batches.
fn gaps(found: &Found) -> Vec<Range<u64>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for batch in &found.batches {
        if batch.range.start > at {
            gaps.push(at..batch.range.start);
        }
        at = batch.range.end;
    }
    gaps
}

/// Sets batch numbers right that do not rise, in memory of what came before.
fn renumber(
    path: &Path,
    found: &Found,
    before: &mut Option<u64>,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    for (place, batch) in found.batches.iter().enumerate() {
        let next = found.batches.get(place + 1).map(|next| next.number);
        let Some(last) = *before else {
            // Without one before it, a first number can only be judged by the one behind it.
            *before = Some(batch.number.min(next.map_or(batch.number, |next| next.saturating_sub(1))));
            continue;
        };
        let falls = batch.number <= last;
        let jumps = batch.number - last.min(batch.number) > NUMBER_JUMP_MAX;
        let overtakes = next.is_some_and(|next| batch.number >= next && next > last + 1);
        *before = Some(batch.number);
        if falls || jumps || overtakes {
            let number = last + 1;
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(batch.range.start + 5))?;
            file.write_all(&number.to_le_bytes())?;
            file.sync_data()?;
            *before = Some(number);
            let (journal, was) = (path.display(), batch.number);
            report
                .damage(format!("a batch in journal {journal} had the number {was} and was set to {number}"));
        }
    }
    Ok(())
}

fn copy_aside(path: &Path, aside: &Path, report: &mut RecoveryReport) -> io::Result<()> {
    fs::create_dir_all(aside)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("journal");
    let target = super::free_name(aside, name);
    super::marks::copy_file(path, &target)?;
    report.copies.push(target);
    Ok(())
}

fn truncate(path: &Path, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}

/// After a failure in this process the journal is written anew even if nothing is wrong with it: what the page cache
/// holds of it after a failed fsync need not be on the disk, and the database that was closed may still have it open
/// and write what it had buffered. When there is no room for that, the file is cut at its end and used as it is.
fn write_anew<'a>(path: &Path, kept: impl Iterator<Item = &'a Whole> + Clone) -> io::Result<()> {
    let end = kept.clone().last().map_or(0, |batch| batch.range.end);
    match copy_batches(path, kept) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => truncate(path, end),
        other => other,
    }
}

/// Writes batches to a new file, which takes the place of the old one.
fn copy_batches<'a>(path: &Path, kept: impl Iterator<Item = &'a Whole>) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut from = File::open(path)?;
    let written = File::create(&fresh).and_then(|mut to| {
        for batch in kept {
            from.seek(SeekFrom::Start(batch.range.start))?;
            io::copy(&mut (&mut from).take(batch.range.end - batch.range.start), &mut to)?;
        }
        to.sync_all()
    });
    if let Err(error) = written {
        // A copy that was not finished is of no use and holds space.
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), super::marks::sync_folder)
}

fn scan(path: &Path) -> io::Result<Found> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut found = Found { bytes, ..Found::default() };
    let mut reader = Reader { inner: BufReader::with_capacity(256 << 10, file), at: 0, buffer: Vec::new() };
    loop {
        let start = reader.at;
        if let Some(number) = reader.batch()? {
            found.batches.push(Whole { range: start..reader.at, number });
            continue;
        }
        match next_batch(path, start, bytes)? {
            Next::Zeros => return Ok(found),
            Next::None => {
                found.rest = Some(start);
                return Ok(found);
            }
            Next::At(at) => {
                reader.inner.seek(SeekFrom::Start(at))?;
                reader.at = at;
            }
        }
    }
}

enum Next {
    /// Nothing but zeros to the end: the journal was simply not filled.
    Zeros,
    None,
    At(u64),
}

/// Looks for the next whole batch behind a broken one, byte by byte.
fn next_batch(path: &Path, from: u64, bytes: u64) -> io::Result<Next> {
    const WINDOW: usize = 1 << 20;
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut file = File::open(path)?;
    let (mut at, mut zeros) = (from, true);
    let mut window = vec![0; WINDOW];
    while at < bytes {
        file.seek(SeekFrom::Start(at))?;
        let length = (&mut file).take(WINDOW as u64).read(&mut window)?;
        if length == 0 {
            break;
        }
        let part = window.get(..length).unwrap_or_default();
        for (block, bytes) in part.chunks(ZEROS.len()).enumerate() {
            // Most of a journal is still empty; blocks of zeros are passed at the speed of memory.
            if ZEROS.get(..bytes.len()) == Some(bytes) {
                continue;
            }
            zeros = false;
            for (place, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == 1) {
                let place = block * ZEROS.len() + place;
                let start = at + place as u64;
                // A start is 13 bytes long and an item or a clear follows it; the rest of the check is to read it.
                let follows = part.get(place + 13).is_none_or(|tag| matches!(tag, 2 | 4));
                let small = part.get(place + 4).is_none_or(|high| *high == 0);
                if start > from && follows && small && is_batch(path, start)? {
                    return Ok(Next::At(start));
                }
            }
        }
        at += length as u64;
    }
    Ok(if zeros { Next::Zeros } else { Next::None })
}

fn is_batch(path: &Path, at: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut reader = Reader { inner: BufReader::new(file), at, buffer: Vec::new() };
    Ok(reader.batch()?.is_some())
}

struct Reader {
    inner: BufReader<File>,
    at: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// The number of the next batch if it is whole.
    fn batch(&mut self) -> io::Result<Option<u64>> {
        let Some([1, a, b, c, d, number @ ..]) = self.take::<13>()? else { return Ok(None) };
        let items = u32::from_le_bytes([a, b, c, d]);
        let mut hash = Xxh3::new();
        for _ in 0..items {
            if !self.item(&mut hash)? {
                return Ok(None);
            }
        }
        let Some([3, sum @ .., b'F', b'J', b'L', 3]) = self.take::<13>()? else { return Ok(None) };
        Ok((items > 0 && u64::from_le_bytes(sum) == hash.digest()).then_some(u64::from_le_bytes(number)))
    }

    fn item(&mut self, hash: &mut Xxh3) -> io::Result<bool> {
        let Some(tag) = self.take::<1>()? else { return Ok(false) };
        hash.update(&tag);
        match tag {
            [4] => {
                let Some(keyspace) = self.take::<8>()? else { return Ok(false) };
                hash.update(&keyspace);
                Ok(true)
            }
            [2] => {
                let Some(head) = self.take::<20>()? else { return Ok(false) };
                hash.update(&head);
                let [kind, compression, _, _, _, _, _, _, _, _, k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] =
                    head;
                let key = u32::from(u16::from_le_bytes([k0, k1]));
                let (value, stored) =
                    (u32::from_le_bytes([v0, v1, v2, v3]), u32::from_le_bytes([s0, s1, s2, s3]));
                let plain = compression == 0 && value == stored || compression == 1;
                if !matches!(kind, 0..=2) || !plain || value > VALUE_BYTES_MAX || stored > VALUE_BYTES_MAX {
                    return Ok(false);
                }
                self.skip(u64::from(key) + u64::from(stored), hash)
            }
            _ => Ok(false),
        }
    }

    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.inner.read_exact(&mut bytes) {
            Ok(()) => {
                self.at += N as u64;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn skip(&mut self, length: u64, hash: &mut Xxh3) -> io::Result<bool> {
        self.buffer.clear();
        let got = (&mut self.inner).take(length).read_to_end(&mut self.buffer)?;
        hash.update(&self.buffer);
        self.at += got as u64;
        Ok(got as u64 == length)
    }
}
