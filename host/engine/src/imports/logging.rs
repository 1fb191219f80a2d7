//! `wasi:logging/logging`: lines in the module's log.

use super::bindings::wasi::logging::logging::{Host as Logging, Level};
use crate::host::Host;
use crate::logs::{LogLevel, LogOrigin};

impl Logging for Host {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Critical => LogLevel::Critical,
        };
        if context.is_empty() {
            self.log.line(level, LogOrigin::Module, &message);
        } else {
            self.log.line(level, LogOrigin::Module, &format!("{context}: {message}"));
        }
    }
}
