//! Space that is kept occupied, to be let go when the disk is full: a database that cannot write cannot delete either.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(store: &Path, bytes: u64) -> Self {
        Self { path: store.join("ballast"), bytes }
    }

    /// Fills the file with zeros unless it is there. A file without content would hold no space. Where there is no room
    /// for all of it, a half or a quarter is better than none.
    pub(crate) fn take(&self) -> io::Result<()> {
        if self.bytes == 0 || fs::metadata(&self.path).is_ok_and(|found| found.len() >= self.bytes) {
            return Ok(());
        }
        let mut written = Ok(());
        for part in [1, 2, 4] {
            written = self.write(self.bytes / part);
            if written.is_ok() {
                return Ok(());
            }
            self.release();
        }
        written
    }

    fn write(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut file = File::create(&self.path)?;
        let mut left = bytes;
        while left > 0 {
            let part = zeros.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&zeros);
            file.write_all(part)?;
            left -= part.len() as u64;
        }
        file.sync_all()
    }

    /// Lets the space go.
    pub(crate) fn release(&self) {
        // When it is not there, there is nothing to let go.
        let _ = fs::remove_file(&self.path);
    }
}
