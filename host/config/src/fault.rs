//! What is wrong with a file, and where.

use std::{fmt, io, path::PathBuf, sync::Arc};

/// One fault of the file: where, what, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named to [`crate::Config::parse`] or [`crate::Config::load`].
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The full key, such as `upstream.url` or `users[2].publish`; empty where the text itself is not TOML.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to change.
    pub fix: String,
}

/// `file:line:column: key: reason` and the fix on a line of its own.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    fix: {}", self.reason, self.fix)
    }
}

/// Every fault of a file, in the order of its lines; of a hopeless file the first thousand. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// The faults, in the order of the lines.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 fault in the configuration")?,
            count => write!(f, "{count} faults in the configuration")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl std::error::Error for Faults {}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no {}; write one with `holdfast init`, or leave it out to run with the defaults", path.display())]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}; check that it is a file and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has {bytes} bytes; a configuration has at most {max}", path.display(), max = crate::FILE_BYTES_MAX)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{}:{line}: this line is not UTF-8; save the file as UTF-8 (TOML is nothing else)", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first line that is not, from 1.
        line: usize,
    },
    /// The file has faults.
    #[error(transparent)]
    Faulty(#[from] Faults),
}
