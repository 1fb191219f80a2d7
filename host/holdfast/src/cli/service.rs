//! The arguments of `holdfast service`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `service …`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write a unit of systemd for this program and the configuration that --config names.
    Install(ServiceInstallArgs),
    /// Print that unit and write nothing.
    Show(ServiceInstallArgs),
}

/// Arguments of `service install`.
#[derive(Debug, Args)]
pub struct ServiceInstallArgs {
    /// The folder of units.
    #[arg(long, default_value = "/etc/systemd/system", value_name = "DIR")]
    pub dir: PathBuf,
    /// The user that the edge runs as.
    #[arg(long, default_value = "holdfast")]
    pub user: String,
}
