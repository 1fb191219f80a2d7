//! The log of one module with its bounds, and where it is told which limit was met.

use crate::config::Limits;
use crate::logs::{LogBook, LogLevel, LogOrigin};
use crate::pace::Bucket;
use crate::status::Shared;
use holdfast_types::Name;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines and bytes may come at once: those of one second.
const BURST: Duration = Duration::from_secs(1);

/// The module's log with its bounds. Clones share them.
#[derive(Clone)]
pub(crate) struct ModuleLog {
    name: Name,
    shared: Arc<Shared>,
    rate: Arc<Mutex<Rate>>,
}

struct Rate {
    limits: Limits,
    lines: Bucket,
    bytes: Bucket,
    /// Lines dropped since the last one that was written.
    dropped: u64,
}

impl ModuleLog {
    pub(crate) fn new(name: Name, shared: Arc<Shared>, limits: Limits) -> Self {
        let now = Instant::now();
        let rate = Rate {
            limits,
            lines: Bucket::new(limits.log_lines_per_s.into(), BURST, now),
            bytes: Bucket::new(limits.log_bytes_per_s, BURST, now),
            dropped: 0,
        };
        Self { name, shared, rate: Arc::new(Mutex::new(rate)) }
    }

    /// Writes a line that the module made, if there is room for it in this second.
    pub(crate) fn line(&self, level: LogLevel, origin: LogOrigin, text: &str) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refused = if !rate.lines.try_spend(1, now) {
            Some(("limits.log_lines_per_s", u64::from(rate.limits.log_lines_per_s)))
        } else if !rate.bytes.try_spend(text.len() as u64, now) {
            Some(("limits.log_bytes_per_s", rate.limits.log_bytes_per_s))
        } else {
            None
        };
        if let Some((limit, most)) = refused {
            rate.dropped += 1;
            drop(rate);
            self.refuse(limit, || format!("log lines are dropped: more than {limit} = {most}"));
            return;
        }
        let dropped = std::mem::take(&mut rate.dropped);
        drop(rate);
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped before this one");
            self.write(LogLevel::Warn, LogOrigin::Host, &text);
        }
        self.write(level, origin, text);
    }

    /// Writes a line about the module.
    pub(crate) fn host(&self, level: LogLevel, text: &str) {
        self.write(level, LogOrigin::Host, text);
    }

    /// Counts that a limit was met or a grant is missing; the first time of an episode is told.
    pub(crate) fn refuse(&self, setting: &'static str, text: impl FnOnce() -> String) {
        if self.shared.refuse(setting, 1, Instant::now()) {
            self.host(LogLevel::Warn, &text());
        }
    }

    /// Shows how much memory the module holds.
    pub(crate) fn holds(&self, memory_bytes: u64) {
        self.shared.status().memory_bytes = memory_bytes;
    }

    fn write(&self, level: LogLevel, origin: LogOrigin, text: &str) {
        let module = self.name.as_str();
        match level {
            LogLevel::Trace => tracing::trace!(target: "module", module, "{text}"),
            LogLevel::Debug => tracing::debug!(target: "module", module, "{text}"),
            LogLevel::Info => tracing::info!(target: "module", module, "{text}"),
            LogLevel::Warn => tracing::warn!(target: "module", module, "{text}"),
            LogLevel::Error | LogLevel::Critical => tracing::error!(target: "module", module, "{text}"),
        }
        self.shared.logs.write(level, origin, text);
    }

    pub(crate) fn book(&self) -> &LogBook {
        &self.shared.logs
    }
}

impl fmt::Debug for ModuleLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleLog").field("name", &self.name).finish_non_exhaustive()
    }
}
