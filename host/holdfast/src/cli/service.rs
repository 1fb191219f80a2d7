//! The arguments of `holdfast service`.

use clap::{Args, Subcommand};

/// The account of Windows itself.
#[cfg(windows)]
pub const LOCAL_SYSTEM: &str = "LocalSystem";

/// Who runs the edge, where nobody else is named.
#[cfg(windows)]
const DEFAULT_USER: &str = LOCAL_SYSTEM;
#[cfg(not(windows))]
const DEFAULT_USER: &str = "holdfast";

/// `service …`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Make this program, with the configuration that --config names, a service: a unit of systemd, or a service of Windows.
    Install(ServiceInstallArgs),
    /// Print what would be installed, and change nothing.
    Show(ServiceInstallArgs),
    /// Remove the service; on Windows it is stopped before.
    Remove(ServiceRemoveArgs),
    /// Run as the service: what Windows starts.
    #[cfg(windows)]
    #[command(hide = true)]
    Run,
}

/// Arguments of `service install`.
#[derive(Debug, Args)]
pub struct ServiceInstallArgs {
    /// The folder of units.
    #[cfg(not(windows))]
    #[arg(long, default_value = "/etc/systemd/system", value_name = "DIR")]
    pub dir: std::path::PathBuf,
    /// The user that the edge runs as. It needs the right to write into the edge's folders.
    #[arg(long, default_value = DEFAULT_USER)]
    pub user: String,
}

/// Arguments of `service remove`.
#[derive(Debug, Args)]
pub struct ServiceRemoveArgs {
    /// The folder of units.
    #[cfg(not(windows))]
    #[arg(long, default_value = "/etc/systemd/system", value_name = "DIR")]
    pub dir: std::path::PathBuf,
}
