//! The folder of the store: one process has it, and it stays where it is.
//!
//! Files that are deleted under a running program live on for that program alone. What is written to them is synced,
//! and gone at the next start; so a folder that is not there any more must not be acknowledged into.

use crate::{
    engine::database_path,
    error::{CommitError, StoreError},
    pack_files::packs_path,
    sync::lock,
};
use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

pub(crate) struct Folder {
    path: PathBuf,
    /// Held as long as the store is open; the operating system lets go of it when the process ends.
    lock: File,
    /// What is wrong with it, if anything is.
    fault: Mutex<Option<String>>,
}

impl Folder {
    /// Takes the folder for this process.
    pub(crate) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = lock_path(store);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| StoreError::file("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: store.to_owned(), lock: file, fault: Mutex::default() }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: store.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StoreError::file("lock", &path, &error)),
        }
    }

    /// Looks whether it is still there, and still the same. Two questions to the operating system, no reads.
    pub(crate) fn look(&self) {
        let path = lock_path(&self.path);
        let found = match path.symlink_metadata() {
            Ok(there) if self.is_ours(&there) => {
                let database = database_path(&self.path).symlink_metadata();
                database.and_then(|_| packs_path(&self.path).symlink_metadata()).map(|_| ())
            }
            Ok(_) => Err(io::Error::other("another store was put in its place")),
            Err(error) => Err(error),
        };
        let mut fault = lock(&self.fault);
        match (found, &*fault) {
            (Err(error), None) => {
                let store = self.path.display();
                let text = format!("the files of the store in {store} are gone while it runs ({error})");
                tracing::error!(
                    "{text}; nothing is recorded and nothing acknowledged until they are back where they were, or the host is started again with another folder"
                );
                *fault = Some(text);
            }
            (Ok(()), Some(_)) => {
                tracing::warn!(store = %self.path.display(), "the files of the store are back");
                *fault = None;
            }
            (Err(_), Some(_)) | (Ok(()), None) => {}
        }
    }

    /// Whether it was there when it was last looked at.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        let fault = lock(&self.fault);
        fault.as_ref().map_or(Ok(()), |text| Err(CommitError::Failed { reason: text.as_str().into() }))
    }

    #[cfg(unix)]
    fn is_ours(&self, there: &Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        let same = |own: Metadata| (own.dev(), own.ino()) == (there.dev(), there.ino());
        self.lock.metadata().is_ok_and(same)
    }

    #[cfg(not(unix))]
    fn is_ours(&self, _there: &Metadata) -> bool {
        // The standard library tells no identity of a file here; and open files cannot be deleted.
        self.lock.metadata().is_ok()
    }
}

fn lock_path(store: &Path) -> PathBuf {
    store.join("lock")
}
