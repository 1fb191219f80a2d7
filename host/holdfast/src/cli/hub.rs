//! The arguments of `holdfast hub`.

use super::{CloudToDeviceArgs, DeviceName, MethodCallArgs};
use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `hub`.
#[derive(Debug, Args)]
pub struct HubArgs {
    /// The hub's API, as `http://127.0.0.1:8480` or `https://hub.example:8480`; by default that of hub.toml.
    #[arg(long, global = true, value_name = "URL")]
    pub hub: Option<String>,
    /// The file with the token of the API; by default that beside hub.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The authority to trust with https; by default that beside hub.toml, else the system's.
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: HubCommand,
}

/// `hub …`.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Write hub.toml, an authority for certificates and a token for the API.
    Init(HubInitArgs),
    /// Run the hub until it is told to stop.
    Run,
    /// Say what would keep the hub from its work: its configuration, its storage.
    Check,
    /// Say how the hub is.
    Status,
    /// Show every edge: link, stored telemetry with gaps, deployment.
    Edges,
    /// Devices, modules and edges: the registry.
    #[command(subcommand)]
    Device(HubDeviceCommand),
    /// Twins and tags.
    #[command(subcommand)]
    Twin(HubTwinCommand),
    /// Call a method of a device or module, wherever it is connected.
    Method(MethodCallArgs),
    /// Leave a message for a device.
    Send(CloudToDeviceArgs),
    /// What edges should run.
    #[command(subcommand)]
    Deploy(HubDeployCommand),
    /// Show telemetry.
    Monitor(HubMonitorArgs),
    /// Write the registry (devices, twins, deployments) to a file, credentials sealed for a hub or under a password.
    Export(HubExportArgs),
    /// Merge an exported registry into this one; doing it again changes nothing.
    Import(HubImportArgs),
    /// Show the key that other hubs export to, so that this one alone can import it.
    Recipient,
    /// Say which hub is the active one, signed: edges that ask /concierge go there.
    #[command(subcommand)]
    Concierge(HubConciergeCommand),
}

/// `hub concierge …`. These need no hub that runs.
#[derive(Debug, Subcommand)]
pub enum HubConciergeCommand {
    /// Show the public key that edges need; makes the key at first.
    Key(HubConciergeKey),
    /// Sign which hub is the active one from now on.
    Sign(HubConciergeSign),
}

/// Arguments of `hub concierge key`.
#[derive(Debug, Args)]
pub struct HubConciergeKey {
    /// The file with the private key; by default concierge.key in the data folder of hub.toml.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// Arguments of `hub concierge sign`.
#[derive(Debug, Args)]
pub struct HubConciergeSign {
    /// The hub, by its name in `upstream.hubs` of the edges.
    pub active: String,
    /// How long edges may follow this: 90s, 10m, 2h, 30d. Those that have followed it stay there afterwards.
    #[arg(long, value_name = "AGE", default_value = "30d")]
    pub valid: String,
    /// Where to write it; `-` is standard output. By default concierge.json in the data folder of hub.toml, which that hub
    /// answers /concierge with.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The private key.
    #[command(flatten)]
    pub key: HubConciergeKey,
}

/// Arguments of `hub init`.
#[derive(Debug, Args)]
pub struct HubInitArgs {
    /// The folder to write into.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The name of this hub.
    #[arg(long, default_value = "hub")]
    pub name: String,
}

/// `hub device …`.
#[derive(Debug, Subcommand)]
pub enum HubDeviceCommand {
    /// Add a device or a module of one; it gets two new keys unless said. Shows its connection string.
    Add(HubDeviceArgs),
    /// Change what is given: parent, capability, credential.
    Set(HubDeviceArgs),
    /// Show every device.
    List,
    /// Show a device or module.
    Show(HubDeviceShowArgs),
    /// Let a device in no more, and cut it off.
    Disable(DeviceName),
    /// Let a device in again.
    Enable(DeviceName),
    /// Forget a device, its modules and its twin.
    Remove(DeviceName),
}

/// Arguments of `hub device add` and `set`.
#[derive(Debug, Args)]
pub struct HubDeviceArgs {
    /// Who.
    #[command(flatten)]
    pub name: DeviceName,
    /// It is an edge.
    #[arg(long)]
    pub edge: bool,
    /// It is no edge any longer.
    #[arg(long, conflicts_with = "edge")]
    pub no_edge: bool,
    /// The edge that it reaches the hub through.
    #[arg(long, value_name = "EDGE")]
    pub parent: Option<String>,
    /// It reaches the hub directly.
    #[arg(long, conflicts_with = "parent")]
    pub no_parent: bool,
    /// Its primary key in base64, 16 to 64 bytes.
    #[arg(long, value_name = "BASE64", conflicts_with_all = ["thumbprint", "ca", "generate"])]
    pub key: Option<String>,
    /// Its secondary key in base64.
    #[arg(long, value_name = "BASE64", requires = "key")]
    pub secondary_key: Option<String>,
    /// SHA-1 or SHA-256 thumbprint of its certificate. May be given twice.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["ca", "generate"])]
    pub thumbprint: Vec<String>,
    /// It shows a certificate of its name from an authority in gateway.tls.client_ca_file.
    #[arg(long, conflicts_with = "generate")]
    pub ca: bool,
    /// Make two new keys.
    #[arg(long)]
    pub generate: bool,
}

/// Arguments of `hub device show`.
#[derive(Debug, Args)]
pub struct HubDeviceShowArgs {
    /// Who.
    #[command(flatten)]
    pub name: DeviceName,
    /// Show its keys and its connection string too.
    #[arg(long)]
    pub secrets: bool,
}

/// `hub twin …`.
#[derive(Debug, Subcommand)]
pub enum HubTwinCommand {
    /// Show a twin.
    Show(HubWho),
    /// Change desired properties: merge a JSON object into them.
    Set(HubTwinSetArgs),
    /// Change tags, which deployments are targeted by: merge a JSON object into them.
    Tag(HubTwinSetArgs),
}

/// Whose.
#[derive(Debug, Args)]
pub struct HubWho {
    /// `DEVICE` or `DEVICE/MODULE`.
    pub who: String,
}

/// Arguments of `hub twin set` and `tag`.
#[derive(Debug, Args)]
pub struct HubTwinSetArgs {
    /// `DEVICE` or `DEVICE/MODULE`.
    pub who: String,
    /// A JSON object; null deletes a key.
    pub patch: String,
}

/// `hub deploy …`.
#[derive(Debug, Subcommand)]
pub enum HubDeployCommand {
    /// Give an IoT Edge manifest to one edge, or to all for which a condition on tags holds.
    Set(HubDeploySetArgs),
    /// Show every deployment.
    List,
    /// Take a deployment back.
    Remove(HubDeployName),
}

/// The name of a deployment.
#[derive(Debug, Args)]
pub struct HubDeployName {
    /// The deployment.
    pub id: String,
}

/// Arguments of `hub deploy set`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").args(["device", "condition"]).required(true)))]
pub struct HubDeploySetArgs {
    /// The deployment's name.
    pub id: String,
    /// The manifest.
    pub file: PathBuf,
    /// The edge.
    #[arg(long)]
    pub device: Option<String>,
    /// The edges: `tags.site = 'north'`.
    #[arg(long)]
    pub condition: Option<String>,
    /// Of two whose conditions hold, the one with the higher number goes first.
    #[arg(long, default_value_t = 0)]
    pub priority: u32,
}

/// Arguments of `hub export`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("lock").args(["recipient", "password_file"]).required(true)))]
pub struct HubExportArgs {
    /// The file, which must not be there yet.
    pub file: PathBuf,
    /// The key of the hub that is to import it, as `holdfast hub recipient` shows it there.
    #[arg(long, value_name = "KEY")]
    pub recipient: Option<String>,
    /// A file with a password, at least 12 characters; its last line end is not part of it.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Arguments of `hub import`.
#[derive(Debug, Args)]
pub struct HubImportArgs {
    /// The file.
    pub file: PathBuf,
    /// A file with the password, if it was exported under one.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Arguments of `hub monitor`.
#[derive(Debug, Args)]
pub struct HubMonitorArgs {
    /// Where to begin: an offset, `earliest`, `latest`, or `-10` for the last ten.
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub from: String,
    /// Stop at the end instead of waiting for more.
    #[arg(long)]
    pub no_follow: bool,
    /// Stop after so many.
    #[arg(short = 'n', long, value_name = "MESSAGES")]
    pub count: Option<u64>,
    /// Only of this device.
    #[arg(long)]
    pub device: Option<String>,
}
