//! Named pipes.

use super::BindError;
use interprocess::{
    local_socket::{GenericNamespaced, ListenerOptions, Name, ToNsName, tokio::Listener},
    os::windows::{local_socket::ListenerOptionsExt, security_descriptor::SecurityDescriptor},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};
use widestring::U16CString;

/// Full access for the owner of the pipe, for administrators and for the system, and for nobody else; nothing is
/// inherited.
const OWNER_ONLY: &str = "D:P(A;;GA;;;OW)(A;;GA;;;BA)(A;;GA;;;SY)";

/// The name has a fixed length, whatever the path's.
pub(super) fn check_length(_path: &Path) -> Result<(), BindError> {
    Ok(())
}

/// `holdfast-` and a hash of the path: pipes have one flat list of names on a machine, and Windows paths ignore case.
pub(super) fn name(path: &Path) -> io::Result<Name<'static>> {
    let path = std::path::absolute(path)?.to_string_lossy().to_lowercase();
    // FNV-1a. It only has to tell the hosts of one machine apart; who may connect is the descriptor's business.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("holdfast-{hash:016x}").to_ns_name::<GenericNamespaced>()
}

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// A pipe ends with its process.
pub(super) fn clear(_path: &Path) -> Result<(), BindError> {
    Ok(())
}

pub(super) fn listen(path: &Path) -> io::Result<Listener> {
    let text = U16CString::from_str(OWNER_ONLY).map_err(io::Error::other)?;
    let descriptor = SecurityDescriptor::deserialize(&text)?;
    ListenerOptions::new().name(name(path)?).security_descriptor(descriptor).create_tokio()
}
