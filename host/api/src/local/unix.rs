//! Unix sockets.

use super::BindError;
use interprocess::{
    local_socket::{GenericFilePath, ListenerOptions, Name, ToFsName, tokio::Listener},
    os::unix::local_socket::ListenerOptionsExt,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Most bytes in the path of a socket: 103, what macOS takes (`sun_path`, 104 with its end); Linux takes four more.
const PATH_BYTES_MAX: usize = 103;

pub(super) fn check_length(path: &Path) -> Result<(), BindError> {
    let bytes = path.as_os_str().len();
    match bytes <= PATH_BYTES_MAX {
        true => Ok(()),
        false => Err(BindError::PathTooLong { path: path.to_owned(), bytes, max: PATH_BYTES_MAX }),
    }
}

pub(super) fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

/// Makes the folder for this user alone; one that is there keeps its mode.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes the socket of a host that is no more. The caller holds the lock; the try to connect is for a host whose lock
/// file someone has removed.
pub(super) fn clear(path: &Path) -> Result<(), BindError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::io("look at", path)(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(BindError::AlreadyRunning { path: path.to_owned(), pid: None });
    }
    fs::remove_file(path).map_err(BindError::io("remove the socket that a former host left at", path))
}

/// Listens with mode 0600. Where the mode can be set before the socket has its name, nobody else can ever open it;
/// where it cannot, the folder has to keep them out until the mode is set.
pub(super) fn listen(path: &Path) -> io::Result<Listener> {
    match ListenerOptions::new().name(name(path)?).mode(0o600).create_tokio() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => listen_in_private_folder(path),
        result => result,
    }
}

fn listen_in_private_folder(path: &Path) -> io::Result<Listener> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        let text = format!("other users may enter {}; run: chmod 700 {}", folder.display(), folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let listener = ListenerOptions::new().name(name(path)?).create_tokio()?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
