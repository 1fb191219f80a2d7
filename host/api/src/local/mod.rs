//! The socket of this machine: names, permissions, and who holds it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

use interprocess::local_socket::{tokio::Listener, tokio::Stream, traits::tokio::Stream as _};
use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another host has it.
    #[error(
        "a host is running already at {}{}; stop it with `holdfast stop`, or give this one another folder: paths.data in holdfast.toml",
        path.display(), pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
        /// Its process id, as far as it can be known.
        pid: Option<String>,
    },
    /// Something else stands there.
    #[error("{} is not a socket and will not be replaced; remove it, or set paths.control to another path", path.display())]
    NotASocket {
        /// What stands there.
        path: PathBuf,
    },
    /// The system takes no socket path of this length.
    #[error(
        "the path of the control socket has {bytes} bytes, and the system takes at most {max}: {}; \
         set paths.control to a shorter one, such as /run/holdfast/control.sock", path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        max: usize,
    },
    /// The system refuses.
    #[error("cannot {what} {}; check that the folder exists and that this user may write to it", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BindError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// A listener that nobody else has.
pub(crate) struct Held {
    pub(crate) listener: Listener,
    /// Held until the end of the process or of this value.
    _lock: File,
}

/// Whether the system takes a control socket at `path`. Opens nothing.
///
/// # Errors
/// The path is longer than the system takes.
pub fn check_control_path(path: &Path) -> Result<(), BindError> {
    platform::check_length(path)
}

/// Opens the socket at `path`; waits for nothing.
pub(crate) fn bind(path: &Path) -> Result<Held, BindError> {
    platform::check_length(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        platform::make_folder(folder).map_err(BindError::io("make the folder", folder))?;
    }
    let lock = lock(path)?;
    // With the lock in hand, nobody else is between looking and replacing.
    platform::clear(path)?;
    let listener = platform::listen(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::AlreadyRunning { path: path.to_owned(), pid: None },
        _ => BindError::io("open the control socket", path)(error),
    })?;
    Ok(Held { listener, _lock: lock })
}

/// Takes the lock of the socket and writes the process id into it. The system lets go of it when the process ends,
/// however it ends. The file stays: to remove it would let two hosts hold locks on two files of the same name.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = OsString::from(path.as_os_str());
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut file = platform::open_private(&name).map_err(BindError::io("open the lock file", &name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = (&mut file).take(20).read_to_string(&mut pid).is_ok();
            let pid = Some(pid.trim().to_owned()).filter(|pid| read && !pid.is_empty());
            return Err(BindError::AlreadyRunning { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(BindError::io("lock", &name)(error)),
    }
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(BindError::io("write the lock file", &name))?;
    Ok(file)
}

/// Connects to the socket at `path`.
pub(crate) async fn connect(path: &Path) -> io::Result<Stream> {
    Stream::connect(platform::name(path)?).await
}

/// Whether a path is one that no socket can have.
pub(crate) fn too_long(path: &Path) -> bool {
    platform::check_length(path).is_err()
}
