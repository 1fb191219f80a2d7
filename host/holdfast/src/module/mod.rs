//! `holdfast module new | build | inspect`: from nothing to a component in the plugins folder.
//!
//! This room writes projects, finds a tool chain that can build components, runs it, and says what a component needs
//! and gives. It prints nothing: progress goes to a callback, results come back as values. It knows nothing of the
//! running host.

pub mod build;
mod clang;
pub mod inspect;
pub mod languages;
pub mod new;
mod sdk_source;
pub mod toolchain;

use std::{fs, io, path::Path};

/// The target that components are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// The text of a module's settings; a module without such a file has none.
pub fn settings_text(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}
