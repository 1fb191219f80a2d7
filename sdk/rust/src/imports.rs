//! What the host provides, under one set of signatures: in WebAssembly the imports of the component, everywhere else
//! the in-memory doubles of [`crate::testing`].

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
pub use component::*;

#[cfg(not(target_family = "wasm"))]
mod double;
#[cfg(not(target_family = "wasm"))]
pub use double::*;
