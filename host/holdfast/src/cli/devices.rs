//! The arguments of `holdfast device`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `device …`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Add a device or a module of one. Without a credential it gets two new keys. Shows its connection string.
    Add(DeviceAddArgs),
    /// Show every device.
    List,
    /// Show a device.
    Show(DeviceShowArgs),
    /// Let a device in no more, and cut it off.
    Disable(DeviceName),
    /// Let a device in again.
    Enable(DeviceName),
    /// Forget a device and its modules, and cut them off.
    Remove(DeviceName),
    /// Sign a token with the device's primary key.
    Token(DeviceTokenArgs),
    /// Issue a certificate for a device from the authority of this edge; for devices that were added with --ca.
    Cert(DeviceCertArgs),
}

/// The name of a device.
#[derive(Debug, Args)]
pub struct DeviceName {
    /// The device.
    #[arg(value_name = "NAME")]
    pub device: String,
    /// A module of the device instead of itself.
    #[arg(long)]
    pub module: Option<String>,
}

/// Arguments of `device add`.
#[derive(Debug, Args)]
pub struct DeviceAddArgs {
    /// Who.
    #[command(flatten)]
    pub name: DeviceName,
    /// Make new keys; so it is without a credential too.
    #[arg(long, conflicts_with_all = ["key", "thumbprint", "ca"])]
    pub generate: bool,
    /// Its primary key in base64, 16 to 64 bytes.
    #[arg(long, value_name = "BASE64", conflicts_with_all = ["thumbprint", "ca"])]
    pub key: Option<String>,
    /// Its secondary key in base64.
    #[arg(long, value_name = "BASE64", requires = "key")]
    pub secondary_key: Option<String>,
    /// SHA-1 or SHA-256 thumbprint of its certificate. May be given twice.
    #[arg(long, value_name = "HEX", conflicts_with = "ca")]
    pub thumbprint: Vec<String>,
    /// It shows a certificate of its name, from this edge (`device cert`) or an authority in gateway.tls.client_ca_file.
    #[arg(long)]
    pub ca: bool,
    /// It is an edge itself.
    #[arg(long)]
    pub edge: bool,
}

/// Arguments of `device show`.
#[derive(Debug, Args)]
pub struct DeviceShowArgs {
    /// Who.
    #[command(flatten)]
    pub name: DeviceName,
    /// Show its keys and its connection string too.
    #[arg(long)]
    pub secrets: bool,
}

/// Arguments of `device token`.
#[derive(Debug, Args)]
pub struct DeviceTokenArgs {
    /// Who.
    #[command(flatten)]
    pub name: DeviceName,
    /// How long the token is good.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub ttl: u64,
}

/// Arguments of `device cert`.
#[derive(Debug, Args)]
pub struct DeviceCertArgs {
    /// The device. It need not be there yet.
    #[arg(value_name = "NAME")]
    pub device: String,
    /// The folder to write NAME.pem and NAME.key into; no file is overwritten.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// How long it is good, at most as long as the authority.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}
