//! The authority in its folder.

use crate::{Authority, Facts, Issued, Life, Names, PkiError, SERVER_LIFE, Unreadable};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The folder. Nothing is read or made before it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// What became of the server's certificate.
#[derive(Debug)]
pub enum Kept {
    /// It was good as it is.
    AsItWas(Facts),
    /// A new one was issued.
    Issued(Facts, Reason),
}

/// Why a certificate was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none, or none that can be read.
    Missing,
    /// It was time.
    Due,
    /// It had expired.
    Expired,
    /// It begins later than now: it was issued while the clock was ahead.
    NotYet,
    /// It held other names.
    Names,
    /// Another authority had signed it.
    Authority,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there was none",
            Self::Due => "most of its life had passed",
            Self::Expired => "it had expired",
            Self::NotYet => "it was not valid yet: the clock has been ahead",
            Self::Names => "the names of this edge have changed",
            Self::Authority => "another authority had signed it",
            Self::Asked => "you asked for it",
        })
    }
}

/// What failed, on which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{} cannot be read ({why}); check that this user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file or the folder cannot be written.
    #[error("{} cannot be written ({why}); give this user the right to it, or make room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file is there already.
    #[error("{} is there already and was left as it is; move it away, or choose another folder", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The files do not hold what they should, or nothing can be issued.
    #[error("{}: {fault}", path.display())]
    Authority {
        /// The file: the authority's certificate, or its key.
        path: PathBuf,
        /// What is wrong.
        fault: PkiError,
    },
}

impl Folder {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The certificate of the authority, which devices are given.
    pub fn authority(&self) -> PathBuf {
        self.0.join("authority.pem")
    }

    /// The private key of the authority.
    pub fn authority_key(&self) -> PathBuf {
        self.0.join("authority.key")
    }

    /// The certificate of the edge, and its private key.
    pub fn server(&self) -> PathBuf {
        self.0.join("server.pem")
    }

    /// Whether there is an authority.
    pub fn has_authority(&self) -> bool {
        self.authority().exists()
    }

    /// Makes an authority if there is none. Gives whether it was made.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn make_authority(&self, edge: &str, now: SystemTime) -> Result<bool, FolderError> {
        if self.has_authority() {
            return Ok(false);
        }
        fs::create_dir_all(&self.0)
            .map_err(|error| FolderError::Write { path: self.0.clone(), why: error.to_string() })?;
        let (authority, key) = Authority::create(edge, now).map_err(|fault| self.fault(fault))?;
        // IMPORTANT: the key before the certificate, which says that both are there.
        replace(&self.authority_key(), &key, Readers::Owner)?;
        replace(&self.authority(), authority.certificate(), Readers::All)?;
        Ok(true)
    }

    /// The authority, to issue certificates with.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(&self) -> Result<Authority, FolderError> {
        let certificate = read(&self.authority())?;
        let key = read(&self.authority_key())?;
        Authority::load(certificate, &key).map_err(|fault| self.fault(fault))
    }

    /// Keeps the certificate of the edge good: issues another one if there is none, if it is time, or if it is not for
    /// these names or not from this authority.
    ///
    /// # Errors
    /// There is no authority, or the folder cannot be written.
    pub fn keep_server(&self, names: &Names, now: SystemTime) -> Result<Kept, FolderError> {
        let authority = self.load()?;
        match self.server_facts() {
            Some(facts) => match why_renew(&facts, &authority, names, now) {
                None => Ok(Kept::AsItWas(facts)),
                Some(reason) => self.issue_server(&authority, names, reason, now),
            },
            None => self.issue_server(&authority, names, Reason::Missing, now),
        }
    }

    /// Issues a certificate for the edge, whatever the one before is like.
    ///
    /// # Errors
    /// As [`Self::keep_server`].
    pub fn renew_server(&self, names: &Names, now: SystemTime) -> Result<Facts, FolderError> {
        match self.issue_server(&self.load()?, names, Reason::Asked, now)? {
            Kept::Issued(facts, _) | Kept::AsItWas(facts) => Ok(facts),
        }
    }

    fn server_facts(&self) -> Option<Facts> {
        Facts::read(&fs::read_to_string(self.server()).ok()?).ok()
    }

    fn issue_server(
        &self,
        authority: &Authority,
        names: &Names,
        reason: Reason,
        now: SystemTime,
    ) -> Result<Kept, FolderError> {
        let issued = authority.issue_to_server(names, SERVER_LIFE, now).map_err(|fault| self.fault(fault))?;
        let facts = Facts::read(&issued.certificate).map_err(|fault: Unreadable| self.fault(fault.into()))?;
        // Both in one file, so that nobody ever reads one of the old pair and one of the new.
        replace(&self.server(), &format!("{}{}", issued.certificate, issued.key), Readers::Owner)?;
        Ok(Kept::Issued(facts, reason))
    }

    fn fault(&self, fault: PkiError) -> FolderError {
        let path = match fault {
            PkiError::BadKey(_) => self.authority_key(),
            _ => self.authority(),
        };
        FolderError::Authority { path, fault }
    }
}

/// Writes a certificate and its key into two new files, the key for its owner alone. Nothing is overwritten; after an
/// error neither file is there.
///
/// # Errors
/// One of them is there already, or cannot be written.
pub fn write_new(issued: &Issued, certificate: &Path, key: &Path) -> Result<(), FolderError> {
    if certificate.exists() {
        return Err(FolderError::Exists { path: certificate.to_owned() });
    }
    new_file(key, &issued.key, Readers::Owner)?;
    new_file(certificate, &issued.certificate, Readers::All).inspect_err(|_| {
        // It was written just now, and without its certificate it is of no use.
        let _ = fs::remove_file(key);
    })
}

fn new_file(path: &Path, text: &str, readers: Readers) -> Result<(), FolderError> {
    let write = || {
        let mut file = create(path, readers)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder(path)
    };
    write().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => FolderError::Exists { path: path.to_owned() },
        _ => FolderError::Write { path: path.to_owned(), why: error.to_string() },
    })
}

fn why_renew(facts: &Facts, authority: &Authority, names: &Names, now: SystemTime) -> Option<Reason> {
    if !facts.names.iter().map(String::as_str).eq(names.iter()) {
        return Some(Reason::Names);
    }
    if !facts.is_signed_by(authority.facts()) {
        return Some(Reason::Authority);
    }
    match facts.life(now) {
        Life::Good => None,
        // Where the authority ends soon, a new certificate would end with it and be no better.
        Life::Due if facts.not_after >= authority.facts().not_after => None,
        Life::Due => Some(Reason::Due),
        Life::Expired => Some(Reason::Expired),
        // A clock that is not set yet says nothing about a certificate.
        Life::NotYet if authority.facts().life(now) == Life::NotYet => None,
        Life::NotYet => Some(Reason::NotYet),
    }
}

fn read(path: &Path) -> Result<String, FolderError> {
    fs::read_to_string(path)
        .map_err(|error| FolderError::Read { path: path.to_owned(), why: error.to_string() })
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    All,
    Owner,
}

/// Writes a file whole: beside it, to the disk, then in its place.
fn replace(path: &Path, text: &str, readers: Readers) -> Result<(), FolderError> {
    write_whole(path, text, readers)
        .map_err(|error| FolderError::Write { path: path.to_owned(), why: error.to_string() })
}

fn write_whole(path: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    // What a killed process of the same number has left would keep its own rights.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = create(&beside, readers)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // It is not needed; the error that is told is the one before.
        let _ = fs::remove_file(&beside);
    }
    written?;
    sync_folder(path)
}

fn create(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match readers {
            Readers::All => 0o644,
            Readers::Owner => 0o600,
        },
    );
    // Elsewhere the folder's own rights hold.
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

/// The new name is on disk only when the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
