//! The file that a queue's packs are written to.

use super::{
    file_path,
    place::{FRAME_BYTES, Frame, Mark, Place, SALT_BYTES, Salt},
    queue_path,
};
use crate::recovery::{draw, sync_folder};
use bytes::Bytes;
use holdfast_types::Offset;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Zeros that are written at once ahead of small groups, so that a group only replaces what is there and the file system
/// has nothing to write beside it: about a millisecond of a fast disk, for a dozen groups of 64 small messages. In a
/// file that holds less, as much as it holds: a thousand queues must not take a quarter of a gigabyte for nothing.
const PART_BYTES: u64 = 256 << 10;
/// The least that is worth it.
const PART_BYTES_MIN: u64 = 16 << 10;
/// Groups larger than this gain less by it than it costs to write everything twice.
const GROUP_BYTES_MAX: u64 = 32 << 10;
/// Frames and small packs are put together up to this before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// A group that is written and not synced yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) places: Vec<Place>,
    /// What is to be synced.
    pub(crate) file: File,
    /// Up to here the file counts when it is.
    pub(crate) end: u64,
}

#[derive(Debug)]
pub(super) struct Writer {
    first: Offset,
    path: PathBuf,
    /// Kept open: what the file system has set aside for a file goes with its last handle. Closed when there are too many.
    file: Option<File>,
    /// The same file, opened once for each group that is synced at once. The system tells of a page that it could not
    /// write by each of them: by a shared one only whoever asks first is told, and it may be the page of another.
    ahead: Vec<File>,
    salt: Salt,
    /// Up to here what is in it counts.
    counts: u64,
    /// Up to here something was written, or tried to.
    written: u64,
    /// Up to here there is space that was written before, or tried to.
    prepared: u64,
}

impl Writer {
    /// Begins a file whose first message is `first`. The folder must be there: if the store was moved away, what is written where
    /// it was would be acknowledged and gone when it is back.
    pub(super) fn create(folder: &Path, number: u64, first: Offset) -> io::Result<Self> {
        let queue = queue_path(folder, number);
        if !queue.exists() {
            fs::create_dir(&queue)?;
            sync_folder(folder)?;
        }
        let path = file_path(folder, number, first);
        let mut file = File::create(&path)?;
        let salt = draw().to_le_bytes();
        file.write_all(&salt)?;
        let counts = SALT_BYTES as u64;
        Ok(Self {
            first,
            path,
            file: Some(file),
            ahead: Vec::new(),
            salt,
            counts,
            written: counts,
            prepared: counts,
        })
    }

    pub(super) fn first(&self) -> Offset {
        self.first
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_full(&self, file_bytes: u64) -> bool {
        self.counts >= file_bytes
    }

    /// Writes a group and syncs it; with space ahead of small ones, up to `ahead` bytes of the file.
    pub(super) fn write(
        &mut self,
        packs: &[(Offset, Bytes)],
        mark: Mark,
        ahead: Option<u64>,
    ) -> io::Result<Vec<Place>> {
        let mut file = self.take_file()?;
        let places = self.put(&mut file, packs, mark, self.counts, ahead)?;
        file.sync_data()?;
        self.file = Some(file);
        Ok(places)
    }

    /// Writes a group and syncs nothing, behind all that was written where that does not count yet. `None` where the
    /// file is not open.
    pub(super) fn write_ahead(
        &mut self,
        packs: &[(Offset, Bytes)],
        is_behind: bool,
        ahead: u64,
    ) -> io::Result<Option<Ahead>> {
        if !self.is_open() {
            return Ok(None);
        }
        // Before anything of the group is written.
        let mut file = self.ahead.pop().map_or_else(|| self.open_file(), Ok)?;
        let (mark, at) = if is_behind { (Mark::Behind, self.written) } else { (Mark::Alone, self.counts) };
        let places = self.put(&mut file, packs, mark, at, Some(ahead))?;
        Ok(Some(Ahead { places, file, end: self.written }))
    }

    fn put(
        &mut self,
        file: &mut File,
        packs: &[(Offset, Bytes)],
        mark: Mark,
        mut at: u64,
        ahead: Option<u64>,
    ) -> io::Result<Vec<Place>> {
        let bytes: u64 = packs.iter().map(|(_, pack)| (FRAME_BYTES + pack.len()) as u64).sum();
        if at < self.written {
            // What a failed group wrote may be longer than this one, and must not count behind it.
            file.set_len(at)?;
            self.prepared = self.prepared.min(at);
        }
        self.written = at + bytes;
        if ahead.is_some_and(|end| bytes <= GROUP_BYTES_MAX && self.prepared < end) {
            self.prepare(file, at)?;
        }
        file.seek(SeekFrom::Start(at))?;
        let mut places = Vec::with_capacity(packs.len());
        let mut out =
            BufWriter::with_capacity(BUFFER_BYTES.min(usize::try_from(bytes).unwrap_or(BUFFER_BYTES)), file);
        let count = u32::try_from(packs.len()).unwrap_or(u32::MAX);
        for (before, (last, pack)) in (0..count).zip(packs) {
            let length =
                u32::try_from(pack.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            let frame = Frame { mark, before, behind: count - 1 - before, length, last: *last };
            out.write_all(&frame.encode(self.salt))?;
            out.write_all(pack)?;
            places.push(Place { file: self.first, at: at + FRAME_BYTES as u64, length });
            at += FRAME_BYTES as u64 + u64::from(length);
        }
        out.flush()?;
        Ok(places)
    }

    fn prepare(&mut self, file: &mut File, at: u64) -> io::Result<()> {
        self.prepared = self.prepared.max(at);
        if self.prepared < self.written {
            let part = self.counts.clamp(PART_BYTES_MIN, PART_BYTES) + self.written - self.prepared;
            file.seek(SeekFrom::Start(self.prepared))?;
            file.write_all(&vec![0; usize::try_from(part).unwrap_or_default()])?;
            self.prepared += part;
        }
        Ok(())
    }

    fn take_file(&mut self) -> io::Result<File> {
        self.file.take().map_or_else(|| self.open_file(), Ok)
    }

    fn open_file(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(&self.path)
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn close_file(&mut self) {
        self.file = None;
        self.ahead.clear();
    }

    pub(super) fn settle(&mut self) {
        self.counts = self.written;
    }

    pub(super) fn settle_to(&mut self, end: u64, file: File) {
        self.counts = end.min(self.written);
        self.ahead.push(file);
    }

    /// Cuts off what was never written. False if nothing was.
    pub(super) fn cut_space(&mut self) -> io::Result<bool> {
        if self.prepared > self.written {
            let file = self.take_file()?;
            file.set_len(self.written)?;
            file.sync_all()?;
            self.prepared = self.written;
        }
        Ok(self.written > SALT_BYTES as u64)
    }

    /// Cuts off what does not count. False if nothing does.
    pub(super) fn cut(&mut self) -> io::Result<bool> {
        if self.written.max(self.prepared) > self.counts {
            let file = self.take_file()?;
            file.set_len(self.counts)?;
            file.sync_all()?;
            (self.written, self.prepared) = (self.counts, self.counts);
        }
        Ok(self.counts > SALT_BYTES as u64)
    }

    /// Ends a file that is full. A crash may leave what is behind its end, which harms nobody: what does not count there has
    /// offsets that are in the next file.
    pub(super) fn close(mut self) -> io::Result<()> {
        let is_longer = self.written.max(self.prepared) > self.counts;
        if is_longer { self.take_file()?.set_len(self.counts) } else { Ok(()) }
    }
}
