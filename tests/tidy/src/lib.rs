//! House rules that code can check: which room may know which, how long a file may be, what may not be said.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

/// Every file that belongs to the project, relative to the root: those that git tracks, and new ones it does not ignore.
pub fn files() -> Vec<PathBuf> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        .unwrap_or_default();
    listing.lines().map(PathBuf::from).filter(|file| root().join(file).is_file()).collect()
}
