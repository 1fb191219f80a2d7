//! What the store remembers outside of the database, so that the database cannot lose something in silence.
//!
//! `high-water` (two slots of 512 bytes): how far each queue had come. Written at most once a second and when the
//! store closes, always after the fsync of what it speaks of; when the database comes up with less, that much
//! acknowledged data is gone.
//!
//! ```text
//! content = version u8 (1) | wall clock u64 LE, Unix milliseconds | appended in all queues u64 LE
//!         | count u8 | (crc32c of the keyspace's name u32 LE, tail u64 LE) * count
//! ```
//! Queues beyond the 38 that fit are covered by the sum alone.
//!
//! `keyspaces` (two slots of 8 KiB): the numbers of all keyspaces, u16 LE count and u32 LE each. Written when one is
//! made or deleted. A folder that is named here and has no manifest is damage, not an unfinished creation.
//!
//! `keyspaces.copy`: a copy of the database's keyspace 0, which holds the names of all others. It is a few kilobytes,
//! changes only when a keyspace is made or deleted, and without it everything else would be thrown away as unknown.

use crate::{
    engine::{Engine, database_path},
    fjall_compat,
    queue_index::Index,
    recovery::slots::Slots,
    state::keyspace_name,
};
use holdfast_types::{Offset, QueueId, UnixMillis};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

const VERSION: u8 = 1;
const HIGH_WATER_SLOT_BYTES: usize = 512;
const KEYSPACES_SLOT_BYTES: usize = 8 << 10;
const QUEUES_LISTED_MAX: usize = 38;

#[derive(Debug)]
pub(crate) struct Marks {
    high_water: Slots,
    keyspaces: Slots,
    copy: PathBuf,
    written: Option<HighWater>,
}

/// How far the store had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HighWater {
    pub(crate) wall: UnixMillis,
    pub(crate) appended: u64,
    tails: BTreeMap<u32, u64>,
}

/// What the marks said when the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) high_water: Option<HighWater>,
    pub(crate) keyspaces: Vec<u64>,
    /// Marks that cannot be read, in sentences.
    pub(crate) broken: Vec<&'static str>,
}

impl HighWater {
    pub(crate) fn of(index: &Index, wall: UnixMillis) -> Self {
        let tails = index.queues.iter().map(|(id, queue)| (hash(id), queue.tail.0));
        Self { wall, appended: index.appended(), tails: tails.take(QUEUES_LISTED_MAX).collect() }
    }

    /// How far a queue had come, if it is listed.
    pub(crate) fn tail(&self, queue: &QueueId) -> Option<Offset> {
        self.tails.get(&hash(queue)).copied().map(Offset)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.wall.0.to_le_bytes());
        out.extend(self.appended.to_le_bytes());
        out.push(u8::try_from(self.tails.len()).unwrap_or(u8::MAX));
        for (hash, tail) in &self.tails {
            out.extend(hash.to_le_bytes());
            out.extend(tail.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes.first() != Some(&VERSION) {
            return None;
        }
        let mut mark = Self { wall: UnixMillis(u64_at(1)?), appended: u64_at(9)?, ..Self::default() };
        for n in 0..usize::from(*bytes.get(17)?) {
            let at = 18 + n * 12;
            let hash = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
            mark.tails.insert(hash, u64_at(at + 4)?);
        }
        Some(mark)
    }
}

fn hash(queue: &QueueId) -> u32 {
    crc32c::crc32c(keyspace_name(queue).as_bytes())
}

pub(crate) fn copy_path(store: &Path) -> PathBuf {
    store.join("keyspaces.copy")
}

impl Marks {
    pub(crate) fn open(store: &Path) -> io::Result<(Self, Remembered)> {
        let (high_water, found) = Slots::open(&store.join("high-water"), HIGH_WATER_SLOT_BYTES)?;
        let (keyspaces, list) = Slots::open(&store.join("keyspaces"), KEYSPACES_SLOT_BYTES)?;
        let mut remembered = Remembered::default();
        if found.newest.is_none() && found.broken > 0 {
            remembered
                .broken
                .push("the high-water mark cannot be read; a loss would not be noticed this time");
        }
        if list.newest.is_none() && list.broken > 0 {
            remembered
                .broken
                .push("the list of keyspaces cannot be read; a missing one would not be noticed");
        }
        remembered.high_water = found.newest.as_deref().and_then(HighWater::decode);
        let numbers =
            list.newest.as_deref().and_then(|list| list.get(2..)).unwrap_or_default().chunks_exact(4);
        remembered.keyspaces =
            numbers.filter_map(|number| Some(u32::from_le_bytes(number.try_into().ok()?).into())).collect();
        Ok((Self { high_water, keyspaces, copy: copy_path(store), written: None }, remembered))
    }

    /// Writes how far the store has come, if it has come any further.
    pub(crate) fn write_high_water(&mut self, mark: HighWater) -> io::Result<()> {
        let same =
            self.written.as_ref().is_some_and(|old| old.appended == mark.appended && old.tails == mark.tails);
        // The wall clock alone is worth a write only now and then: it tells a clock that went back over a restart.
        const WALL_MS: u64 = 60_000;
        if same && self.written.as_ref().is_some_and(|old| mark.wall.0.abs_diff(old.wall.0) < WALL_MS) {
            return Ok(());
        }
        self.high_water.write(&mark.encode())?;
        self.written = Some(mark);
        Ok(())
    }

    /// Writes the list of keyspaces and copies the one that names them.
    pub(crate) fn write_keyspaces(&mut self, engine: &Engine, store: &Path) -> io::Result<()> {
        let own = [&engine.meta, &engine.documents].map(fjall_compat::keyspace_number);
        let queues = engine.queue_list();
        let numbers =
            own.into_iter().chain(queues.iter().map(|(_, queue)| fjall_compat::keyspace_number(queue)));
        let numbers: Vec<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
        let mut list = u16::try_from(numbers.len()).unwrap_or(u16::MAX).to_le_bytes().to_vec();
        numbers.iter().for_each(|number| list.extend(number.to_le_bytes()));
        let names = database_path(store).join("keyspaces").join("0");
        let fresh = self.copy.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        copy_folder(&names, &fresh)?;
        if self.copy.exists() {
            fs::remove_dir_all(&self.copy)?;
        }
        fs::rename(&fresh, &self.copy)?;
        self.keyspaces.write(&list)
    }
}

/// Copies a folder, file by file; everything is on disk afterwards. What `to` is in must be there: the folder of a store that was
/// removed meanwhile is not made anew.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_folder(&item.path(), &target)?;
        } else {
            copy_file(&item.path(), &target)?;
        }
    }
    sync_folder(to)
}

/// Copies a file; what is in it is on disk afterwards.
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    // Windows syncs only what was opened to be written.
    OpenOptions::new().write(true).open(to)?.sync_all()
}

/// A new name in a folder is on disk afterwards. Windows has no such call and needs none.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_removed_gets_no_folder_by_the_copy_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = dir.path().join("names");
        fs::create_dir(&names).unwrap();
        fs::write(names.join("current"), "v0").unwrap();
        let store = dir.path().join("store");
        let error = copy_folder(&names, &store.join("keyspaces.new")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!store.exists());

        fs::create_dir(&store).unwrap();
        copy_folder(&names, &store.join("keyspaces.new")).unwrap();
        assert_eq!(fs::read(store.join("keyspaces.new/current")).unwrap(), b"v0");
    }
}
