//! The host's own log, on standard error, with a level that can be changed while it runs.

use holdfast_config::Level;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// Shows and changes what is logged.
#[derive(Clone)]
pub struct LogControl {
    level: Arc<Mutex<Level>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// The rooms whose lines follow the level; libraries below say more than an operator wants and follow a coarser one.
const ROOMS: [&str; 9] = ["", "_store", "_broker", "_engine", "_gateway", "_upstream", "_net", "_api", "_config"];

fn filter(level: Level) -> EnvFilter {
    let others = match level {
        Level::Error => "error",
        Level::Warn | Level::Info => "warn",
        Level::Debug | Level::Trace => "info",
    };
    let rooms = ROOMS.map(|room| format!("holdfast{room}={}", level.as_str()));
    EnvFilter::new(format!("{others},{}", rooms.join(",")))
}

/// Starts logging.
pub fn start(level: Level) -> LogControl {
    let (layer, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second start in one process keeps the first subscriber; only tests do that.
    let _ = tracing_subscriber::registry().with(layer).with(lines).try_init();
    LogControl { level: Arc::new(Mutex::new(level)), filter: handle }
}

impl LogControl {
    /// The level in force.
    pub fn level(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the level.
    pub fn set(&self, level: Level) -> Result<(), String> {
        self.filter.reload(filter(level)).map_err(|error| error.to_string())?;
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        Ok(())
    }
}
