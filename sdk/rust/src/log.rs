//! Log lines (`wasi:logging/logging`): `log::info!("{n} readings")` and the like. The host adds time and module name,
//! and keeps what its level lets through.

pub use crate::{
    __critical as critical, __debug as debug, __error as error, __info as info, __trace as trace,
    __warn as warn,
};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Each step.
    Trace,
    /// For the one who looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// It goes on, but someone should look.
    Warn,
    /// Something was not done.
    Error,
    /// The module cannot do its work.
    Critical,
}

/// Writes one line. `context` says where it comes from; the macros give the path of the Rust module.
pub fn write(level: Level, context: &str, line: &str) {
    crate::imports::log(level, context, line);
}

/// Writes a line at level trace. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Trace, ::core::module_path!(), &::std::format!($($part)+))
    };
}

/// Writes a line at level debug. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, ::core::module_path!(), &::std::format!($($part)+))
    };
}

/// Writes a line at level info. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Info, ::core::module_path!(), &::std::format!($($part)+))
    };
}

/// Writes a line at level warn. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, ::core::module_path!(), &::std::format!($($part)+))
    };
}

/// Writes a line at level error. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Error, ::core::module_path!(), &::std::format!($($part)+))
    };
}

/// Writes a line at level critical. Takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __critical {
    ($($part:tt)+) => {
        $crate::log::write($crate::log::Level::Critical, ::core::module_path!(), &::std::format!($($part)+))
    };
}
