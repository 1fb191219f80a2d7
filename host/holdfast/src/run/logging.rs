//! The host's own log, on standard error, with a level that can be changed while it runs.

use holdfast_config::Level;
use std::io::{IsTerminal, stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Registry, filter::Targets, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// Changes what is logged.
#[derive(Clone)]
pub struct LogControl(reload::Handle<Targets, Registry>);

/// The rooms follow the level; libraries below say more than an operator wants and follow a coarser one.
fn filter(level: Level) -> Targets {
    let (rooms, libraries) = match level {
        Level::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        Level::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        Level::Info => (LevelFilter::INFO, LevelFilter::WARN),
        Level::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        Level::Trace => (LevelFilter::TRACE, LevelFilter::INFO),
    };
    // A target is a module path; `holdfast` is the beginning of every room's.
    Targets::new().with_default(libraries).with_target("holdfast", rooms)
}

/// Starts logging to standard error.
pub fn start(level: Level) -> LogControl {
    let (layer, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    // A second start in one process keeps the first subscriber; only tests do that.
    let _ = tracing_subscriber::registry().with(layer).with(lines).try_init();
    LogControl(handle)
}

impl LogControl {
    /// Changes the level.
    pub fn set(&self, level: Level) -> Result<(), String> {
        self.0.reload(filter(level)).map_err(|error| error.to_string())
    }
}
