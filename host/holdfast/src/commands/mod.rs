//! What each command does, one file for each under its name.

pub mod certificate;
pub mod check;
pub mod client;
pub mod deployment;
pub mod develop;
pub mod device;
pub mod hub;
pub mod init;
pub mod list;
pub mod logs;
pub mod message;
pub mod method;
pub mod metrics;
pub mod module;
pub mod ports;
pub mod queue;
pub mod record;
pub mod replay;
pub mod routes;
pub mod send;
pub mod service;
pub mod session;
pub mod status;
pub mod tail;
pub mod twin;
pub mod upstream;

use anyhow::Context;
use holdfast_config::{Config, ConfigError};
use std::path::{Path, PathBuf};

/// The configuration file that is taken when none is named.
const DEFAULT_FILE: &str = "holdfast.toml";

/// The machine's own name.
pub fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Reads the configuration: the file that was named, else `holdfast.toml` in this folder, else the defaults here.
pub fn config(named: Option<&Path>) -> anyhow::Result<Config> {
    let file = named.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    let mut config = match Config::load(&file, &host_name()) {
        Ok(config) => config,
        Err(ConfigError::Missing { .. }) if named.is_none() => {
            let here = std::env::current_dir().context("this folder cannot be used")?;
            Config::default_for(&here, &host_name())
        }
        Err(error) => return Err(error.into()),
    };
    crate::environment::apply(&mut config)?;
    Ok(config)
}

/// The names of the settings of the gateway's addresses.
pub fn check_settings() -> holdfast_net::Settings {
    holdfast_net::Settings {
        address: "gateway.listen".into(),
        tls: "tls:// in gateway.listen".into(),
        allow_plain: "gateway.allow_remote_plain".into(),
    }
}

/// A level of the control socket as one of the configuration.
pub fn log_level(level: holdfast_api::Level) -> holdfast_config::Level {
    match level {
        holdfast_api::Level::Error => holdfast_config::Level::Error,
        holdfast_api::Level::Warn => holdfast_config::Level::Warn,
        holdfast_api::Level::Info => holdfast_config::Level::Info,
        holdfast_api::Level::Debug => holdfast_config::Level::Debug,
        holdfast_api::Level::Trace => holdfast_config::Level::Trace,
    }
}

/// A level of a module's line as one of the control socket.
pub fn module_level(level: holdfast_engine::LogLevel) -> holdfast_api::Level {
    use holdfast_engine::LogLevel;
    match level {
        LogLevel::Trace => holdfast_api::Level::Trace,
        LogLevel::Debug => holdfast_api::Level::Debug,
        LogLevel::Info => holdfast_api::Level::Info,
        LogLevel::Warn => holdfast_api::Level::Warn,
        LogLevel::Error | LogLevel::Critical => holdfast_api::Level::Error,
    }
}
