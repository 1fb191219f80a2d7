//! From a key and its value to the pack, wherever that lies.

use super::{Place, file_path};
use crate::{
    codec::Malformed,
    error::StoreError,
    record::{Pack, offset_of},
};
use bytes::Bytes;
use holdfast_types::Offset;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

/// Why a pack was not read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Its bytes are not what was written, or are not there.
    Damaged(Malformed),
    /// The disk does not answer now.
    Disk(StoreError),
}

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed)
    }
}

/// Reads the packs of one queue; the file that was read last stays open.
#[derive(Debug)]
pub(crate) struct Packs {
    folder: PathBuf,
    number: u64,
    open: Option<(Offset, File)>,
}

impl Packs {
    pub(crate) fn new(folder: PathBuf, number: u64) -> Self {
        Self { folder, number, open: None }
    }

    /// The pack that a key and its value stand for.
    pub(crate) fn open(&mut self, found: &[u8], value: Bytes) -> Result<Pack, Unreadable> {
        let value = match Place::decode(offset_of(found)?, &value)? {
            Some(place) => self.read(&place)?,
            None => value,
        };
        Ok(Pack::open(found, value)?)
    }

    /// Whether the file of a place reaches far enough to hold it.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        let path = file_path(&self.folder, self.number, place.file);
        path.metadata().is_ok_and(|found| found.len() >= place.end())
    }

    fn read(&mut self, place: &Place) -> Result<Bytes, Unreadable> {
        self.try_read(place).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Malformed("its pack file is missing").into(),
            io::ErrorKind::UnexpectedEof => Malformed("its pack file is cut off").into(),
            _ => {
                let path = file_path(&self.folder, self.number, place.file);
                Unreadable::Disk(StoreError::file("read", path, &error))
            }
        })
    }

    fn try_read(&mut self, place: &Place) -> io::Result<Bytes> {
        let mut file = match self.open.take().filter(|(first, _)| *first == place.file) {
            Some((_, file)) => file,
            None => File::open(file_path(&self.folder, self.number, place.file))?,
        };
        // `take` and not a buffer of that length: a place is not believed before there is as much to read.
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(place.at))?;
        bytes.reserve_exact(usize::try_from(place.length).unwrap_or_default());
        (&mut file).take(place.length.into()).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(place.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.open = Some((place.file, file));
        Ok(bytes.into())
    }
}
