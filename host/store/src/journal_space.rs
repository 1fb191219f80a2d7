//! Written space ahead of the database's journal.
//!
//! The database makes a journal as a file of holes. Each group that falls into a hole makes the file system write what
//! it knows about the file along with the group, which takes a fast disk as long as the group itself, and wears flash
//! by four or five blocks for one. Here zeros are written a little ahead of where the groups will go, some hundred
//! kilobytes at once, so that a group only replaces what is there. To recovery zeros and holes are the same.
//!
//! This must never touch a group. Zeros are therefore only written over what was read as zeros a moment before, within
//! the length that the file already has, and by who holds this while nothing else writes to the journal: the committer
//! between two groups. Where the writer stands is estimated, and a wrong estimate costs speed alone. A journal that is
//! appended to, as after a restart until the next one is begun, has no such space and is left alone.

use crate::recovery::journals;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

/// Zeros that are written at once: about a millisecond of a fast disk, for a dozen groups of 64 small messages.
const PART_BYTES: usize = 256 << 10;
/// How near the writer may come before the next part is written: more than any of the groups that this is for.
const LEAD_BYTES: u64 = 64 << 10;
/// Groups larger than this gain less by it than it costs to write everything twice.
const GROUP_BYTES_MAX: u64 = 32 << 10;

/// The space in the journal that is being written.
#[derive(Debug)]
pub(crate) struct JournalSpace {
    folder: PathBuf,
    journal: Option<(PathBuf, File)>,
    /// Up to here the file was written or passed.
    prepared: u64,
    /// Up to here at least the groups have come.
    reached: u64,
    /// Where to look after it again.
    due: u64,
    part: Vec<u8>,
}

impl JournalSpace {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, journal: None, prepared: 0, reached: 0, due: 0, part: Vec::new() }
    }

    /// Before a group of so many bytes is written. A fault costs speed alone: the journal is then left as it is.
    pub(crate) fn prepare(&mut self, group_bytes: u64) {
        self.reached += group_bytes;
        if self.reached < self.due {
            return;
        }
        if let Err(error) = self.prepare_part(group_bytes) {
            tracing::debug!(%error, "no space was written ahead of the journal");
        }
        // Where there is nothing to prepare, for groups that are large or at the end of the file, not each looks.
        self.due = self.prepared.saturating_sub(LEAD_BYTES).max(self.reached + LEAD_BYTES);
    }

    fn prepare_part(&mut self, group_bytes: u64) -> io::Result<()> {
        self.find_newest()?;
        let Some((_, file)) = &mut self.journal else { return Ok(()) };
        if group_bytes > GROUP_BYTES_MAX {
            self.prepared = self.prepared.max(self.reached);
            return Ok(());
        }
        let end = file.metadata()?.len();
        self.part.resize(PART_BYTES, 0);
        while self.prepared < self.reached + LEAD_BYTES && self.prepared + PART_BYTES as u64 <= end {
            file.seek(SeekFrom::Start(self.prepared))?;
            file.read_exact(&mut self.part)?;
            let begun = self.part.iter().rposition(|byte| *byte != 0);
            if let Some(last) = begun {
                // The writer is in it already, or beyond.
                self.reached = self.reached.max(self.prepared + last as u64 + 1);
            } else {
                file.seek(SeekFrom::Start(self.prepared))?;
                file.write_all(&self.part)?;
            }
            self.prepared += PART_BYTES as u64;
        }
        Ok(())
    }

    /// Goes over to the journal that is written now. Its first part holds what the database put there by itself.
    fn find_newest(&mut self) -> io::Result<()> {
        let newest = journals(&self.folder)?.pop();
        if newest.as_ref() == self.journal.as_ref().map(|(path, _)| path) {
            return Ok(());
        }
        (self.prepared, self.reached) = (0, 0);
        self.journal = None;
        if let Some(path) = newest {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            self.journal = Some((path, file));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    const JOURNAL_BYTES: u64 = 4 << 20;

    fn journal(folder: &Path, number: u32, bytes: u64) -> (PathBuf, File) {
        let path = folder.join(format!("{number}.jnl"));
        let file = File::create_new(&path).unwrap();
        file.set_len(bytes).unwrap();
        (path, file)
    }

    /// A group as large as `bytes`, with a long run of zeros in it as a message may have.
    fn group(bytes: usize, salt: u8) -> Vec<u8> {
        let mut group = vec![salt | 1; bytes];
        group[bytes / 4..bytes - bytes / 4].fill(0);
        group
    }

    #[test]
    fn groups_of_any_size_stay_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = JournalSpace::new(dir.path().to_owned());
        let mut dice = 1_u64;
        for number in 0..6 {
            let (path, mut file) = journal(dir.path(), number, JOURNAL_BYTES);
            let mut expected = Vec::new();
            while expected.len() < 3 << 20 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly small; at times as large as a whole part and more.
                let bytes = if dice >> 60 == 0 { 700_000 } else { 200 + (dice >> 50) as usize };
                let group = group(bytes, dice as u8);
                // What the estimate does not know of, it finds out.
                space.prepare(if number % 2 == 0 { bytes as u64 } else { bytes as u64 / 2 });
                file.write_all(&group).unwrap();
                expected.extend(group);
            }
            let mut found = fs::read(&path).unwrap();
            assert_eq!(found.len() as u64, JOURNAL_BYTES);
            assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
            found.truncate(expected.len());
            assert!(found == expected, "journal {number} has changed");
        }
    }

    #[cfg(unix)]
    #[test]
    fn space_is_written_a_little_ahead_and_not_for_large_groups() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = journal(dir.path(), 0, JOURNAL_BYTES);
        let held = || fs::metadata(&path).unwrap().blocks() * 512;
        let mut space = JournalSpace::new(dir.path().to_owned());
        let mut written = 0;
        for (bytes, ahead) in [(GROUP_BYTES_MAX, PART_BYTES as u64), (GROUP_BYTES_MAX * 4, 0)] {
            for _ in 0..12 {
                space.prepare(bytes);
                file.write_all(&group(usize::try_from(bytes).unwrap(), 7)).unwrap();
                written += bytes;
            }
            file.sync_all().unwrap();
            let found = held().saturating_sub(written);
            assert!(found <= ahead + LEAD_BYTES, "{found} ahead of {written}");
            assert!(ahead == 0 || found > 0, "nothing was written ahead of {written}");
        }
    }

    #[test]
    fn a_journal_that_is_appended_to_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = journal(dir.path(), 3, 0);
        let mut space = JournalSpace::new(dir.path().to_owned());
        for n in 1..200 {
            space.prepare(5_000);
            file.write_all(&group(5_000, 5)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), n * 5_000);
        }
    }
}
