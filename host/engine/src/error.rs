//! Why the engine could not be built.

use std::path::PathBuf;

/// Why the engine could not be built or started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A folder is absent and could not be made, or cannot be read.
    #[error("the {what} {path} cannot be used: {reason}; make it, or give this user the right to it")]
    Folder {
        /// Which folder: "plugins folder" or "folder of compiled code".
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// wasmtime refused its configuration on this machine.
    #[error("the WebAssembly runtime does not start on this machine: {0}")]
    Runtime(String),
    /// No thread could be had.
    #[error("no thread for the module engine: {0}; raise the limit of processes of this user")]
    Thread(String),
}
