//! Compiled code on disk, so that the second start of a module is a map and not a compile.
//!
//! Two files for each component in a folder of mode 0700, both of mode 0600:
//! `{sha256 of the component}-{hash of the engine's settings and version}.code` is what wasmtime wrote, and the same
//! name with `.sum` holds the SHA-256 of that file in hexadecimal. The sum is written last, under its final name by a
//! rename; code without a sum, or with another one, is compiled again and overwritten. Files are deleted when the
//! folder is over its bound, the longest unused first.

use crate::error::EngineError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The folder of compiled code.
#[derive(Clone, Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    bytes_max: u64,
    /// What the files of this process look like: its user, where users exist.
    owner: Owner,
    /// Which engine the code is for.
    engine: u64,
}

impl CodeCache {
    pub(crate) fn open(folder: &Path, bytes_max: u64, engine: &Engine) -> Result<Self, EngineError> {
        let unusable = |error: io::Error| EngineError::Folder {
            what: "folder of compiled code",
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        make_private_folder(folder).map_err(unusable)?;
        let owner = Owner::of_new_files_in(folder).map_err(unusable)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_owned(), bytes_max, owner, engine: hasher.finish() })
    }

    fn path(&self, digest: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.{extension}", self.engine))
    }

    /// The compiled form of the component with this digest, if it is there, ours and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest, "code");
        let sum = fs::read_to_string(self.path(digest, "sum")).ok()?;
        let mut file = readable_file().open(&path).ok()?;
        if !self.owner.owns(&file.metadata().ok()?) {
            tracing::warn!(path = %path.display(), "compiled code is not ours alone; it is compiled again");
            return None;
        }
        if hex_digest_of(&mut file).ok()? != sum.trim() {
            tracing::warn!(path = %path.display(), "compiled code is damaged; it is compiled again");
            return None;
        }
        let component = map(engine, &path).or_else(|error| {
            // A file system that is mounted without the right to execute (`noexec`) maps no code; memory still takes it.
            tracing::debug!(path = %path.display(), "compiled code cannot be mapped, and is read: {error:#}");
            read(engine, &path)
        });
        // The time of the last use decides which files go first.
        let _ = file.set_modified(SystemTime::now());
        component
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), "compiled code is refused: {error:#}"),
            )
            .ok()
    }

    /// Keeps the compiled form. A failure costs the next start a compile, no more.
    pub(crate) fn keep(&self, code: &[u8], digest: &str) {
        let keep = || {
            self.write(&self.path(digest, "code"), code)?;
            self.write(&self.path(digest, "sum"), hex(&Sha256::digest(code)).as_bytes())?;
            self.shrink(digest)
        };
        if let Err(error) = keep() {
            tracing::warn!(folder = %self.folder.display(), %error, "compiled code could not be kept");
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _ = fs::remove_file(&temporary);
        let mut file = private_file().open(&temporary)?;
        file.write_all(bytes)?;
        // IMPORTANT: a rename that reaches the disk before the content would leave a file of zeros under the final name;
        // the sum would catch it, this keeps it from happening.
        file.sync_data()?;
        fs::rename(&temporary, path)
    }

    /// Deletes what has not been used longest until the folder is within its bound; never what was just written.
    fn shrink(&self, newest: &str) -> io::Result<()> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() && entry.path().extension().is_some_and(|extension| extension == "code") {
                all.push((about.modified()?, about.len(), entry.path()));
            }
        }
        all.sort();
        let mut bytes: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in all {
            if bytes <= self.bytes_max {
                break;
            }
            if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(newest)) {
                fs::remove_file(path.with_extension("sum"))?;
                fs::remove_file(&path)?;
                bytes -= size;
            }
        }
        Ok(())
    }
}

#[expect(
    unsafe_code,
    reason = "the file was written by this program: only we can write it, and its sum holds"
)]
fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: what is mapped must be what wasmtime wrote and must not change while it is mapped. The folder and the
    // file belong to this user with no rights for others, the content has the sum that was taken when it was
    // written, and files are replaced by a rename, never written in place.
    unsafe { Component::deserialize_file(engine, path) }
}

#[expect(unsafe_code, reason = "as for `map`")]
fn read(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    let code = fs::read(path)?;
    // SAFETY: as for `map`; a copy cannot change.
    unsafe { Component::deserialize(engine, code) }
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex_digest_of(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(unix)]
fn private_file() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

#[cfg(not(windows))]
fn readable_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    options
}

/// Windows sets times only through a handle that was opened for it.
#[cfg(windows)]
fn readable_file() -> fs::OpenOptions {
    use std::os::windows::fs::OpenOptionsExt;
    const GENERIC_READ: u32 = 0x8000_0000;
    const FILE_WRITE_ATTRIBUTES: u32 = 0x0100;
    let mut options = fs::OpenOptions::new();
    options.access_mode(GENERIC_READ | FILE_WRITE_ATTRIBUTES);
    options
}

/// On Windows a folder below the user's or the service's own data inherits rights for that account alone.
#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// Who may have written a file.
#[derive(Clone, Copy, Debug)]
struct Owner {
    #[cfg(unix)]
    user: u32,
}

impl Owner {
    #[cfg(unix)]
    fn of_new_files_in(folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let probe = folder.join(".probe");
        let _ = fs::remove_file(&probe);
        let user = private_file().open(&probe)?.metadata()?.uid();
        fs::remove_file(&probe)?;
        Ok(Self { user })
    }

    #[cfg(unix)]
    fn owns(self, about: &fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        about.is_file() && about.uid() == self.user && about.mode() & 0o077 == 0
    }

    #[cfg(not(unix))]
    fn of_new_files_in(_: &Path) -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    fn owns(self, about: &fs::Metadata) -> bool {
        about.is_file()
    }
}
