//! What one instance holds on the host's side.

use crate::config::Limits;
use crate::imports::{Calling, Outbox, TimerSet, Views};
use crate::limiter::Limiter;
use crate::logs::{LogBook, LogLevel, LogOrigin};
use crate::runtime::Deadline;
use crate::settings::Settings;
use crate::state::StateView;
use crate::twin::TwinView;
use holdfast_types::Name;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Most WASI resources (open files, streams, pollables) of one instance at a time.
pub(crate) const RESOURCES_MAX: usize = 1_024;

/// The data of a `wasmtime::Store`: what the imports work on.
pub(crate) struct Host {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) settings: Arc<Settings>,
    pub(crate) log: ModuleLog,
    pub(crate) deadline: Deadline,
    pub(crate) outbox: Outbox,
    pub(crate) timers: TimerSet,
    pub(crate) state: StateView,
    pub(crate) views: Views,
    pub(crate) twin: TwinView,
    pub(crate) calling: Calling,
}

impl Host {
    /// Forgets what the running call has sent and stored: it failed.
    pub(crate) fn discard(&mut self) {
        self.outbox.clear();
        self.state.discard();
        self.twin.discard();
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The module's log with its bound on lines per second. Clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct ModuleLog {
    name: Name,
    book: LogBook,
    rate: Arc<Mutex<Rate>>,
}

#[derive(Debug)]
struct Rate {
    second: Instant,
    lines: u32,
    lines_max: u32,
    dropped: u64,
}

impl ModuleLog {
    pub(crate) fn new(name: Name, book: LogBook, lines_max: u32) -> Self {
        let rate = Rate { second: Instant::now(), lines: 0, lines_max, dropped: 0 };
        Self { name, book, rate: Arc::new(Mutex::new(rate)) }
    }

    /// Writes a line that the module made, if it may write another one in this second.
    pub(crate) fn line(&self, level: LogLevel, origin: LogOrigin, text: &str) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut dropped = 0;
        if now.duration_since(rate.second) >= Duration::from_secs(1) {
            dropped = std::mem::take(&mut rate.dropped);
            *rate = Rate { second: now, lines: 0, dropped: 0, ..*rate };
        }
        if rate.lines >= rate.lines_max {
            rate.dropped += 1;
            return;
        }
        rate.lines += 1;
        let lines_max = rate.lines_max;
        drop(rate);
        if dropped > 0 {
            let text = format!("{dropped} log lines dropped: more than limits.log_lines_per_s = {lines_max}");
            self.write(LogLevel::Warn, LogOrigin::Host, &text);
        }
        self.write(level, origin, text);
    }

    /// Writes a line about the module.
    pub(crate) fn host(&self, level: LogLevel, text: &str) {
        self.write(level, LogOrigin::Host, text);
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
        self.book.write(level, origin, text);
    }

    pub(crate) fn book(&self) -> &LogBook {
        &self.book
    }
}
