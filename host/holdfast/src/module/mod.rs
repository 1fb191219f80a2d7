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

/// The target that components are built for.
pub const TARGET: &str = "wasm32-wasip2";
