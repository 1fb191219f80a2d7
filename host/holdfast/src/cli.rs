//! The command line: names, help texts and arguments. What each command does stands in `commands/` under its name.

mod deployments;
mod devices;
mod hub;
#[cfg(test)]
mod named;
mod queue;
mod service;
mod twins;

pub use deployments::*;
pub use devices::*;
pub use hub::*;
pub use queue::*;
pub use service::*;
pub use twins::*;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// An edge runtime: sandboxed WebAssembly modules, message routes, a durable log, and a link upstream.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file. Without one, `holdfast.toml` in this folder is taken if it is there, else the defaults.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented holdfast.toml and the folders it names.
    Init(InitArgs),
    /// Run the edge until it is told to stop.
    Run(RunArgs),
    /// Show the main job on this machine: modules, a cut link, a killed host, and the proof that nothing was lost.
    Demo(DemoArgs),
    /// Say how the running edge is: link, modules, what waits.
    Status,
    /// Print everything that the running edge counts, in the form of Prometheus.
    Metrics,
    /// List the modules of the running edge.
    List,
    /// Show what a module has logged.
    Logs(LogsArgs),
    /// Restart a module, or all of them.
    Restart(RestartArgs),
    /// Stop a module until it is started again, or the whole edge in order.
    Stop(StopArgs),
    /// Start a module that was stopped or has failed.
    Start(ModuleName),
    /// Send a message as an operator, to try a route or a module.
    Send(SendArgs),
    /// Leave a message for a child device; it waits in the durable log until the child acknowledges it.
    CloudToDevice(CloudToDeviceArgs),
    /// See and change twins: what is desired of modules and devices, and what they report.
    #[command(subcommand)]
    Twin(TwinCommand),
    /// Call a method of a module or a device.
    #[command(subcommand)]
    Method(MethodCommand),
    /// Say which of several hubs or brokers the running edge uses from now on.
    Upstream(UpstreamArgs),
    /// Watch messages pass, each with the route that took it.
    Tail(TailArgs),
    /// Write messages as they pass, whole, into a file for `module test`.
    Record(RecordArgs),
    /// See and touch what waits in the durable log.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// List routes, or explain what they would do with a message: those of the running edge, else those of the file.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Check and apply deployments: manifests of Azure IoT Edge.
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// See and renew the certificates of this edge.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Check configuration, ports, certificates, store, clock and the way upstream.
    Check(CheckArgs),
    /// Change what the running edge logs.
    Log(LogArgs),
    /// Say which devices may connect to the gateway.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// See the sessions of the gateway's clients.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Let systemd start the edge with the machine.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Be or ask a hub: the upstream side of edges and devices.
    Hub(Box<HubArgs>),
    /// Make, build and inspect modules.
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Compile a component; the host calls itself with this, so that the compiler's memory and faults are not its own.
    #[command(hide = true)]
    Compile(CompileArgs),
}

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// What the engine says to its compiler.
    pub arguments: Vec<String>,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to write into.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The name of this edge; by default the name of the machine.
    #[arg(long)]
    pub edge: Option<String>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the edge and the hub running at the end.
    #[arg(long)]
    pub keep: bool,
    /// Print plain lines instead of a live screen.
    #[arg(long)]
    pub plain: bool,
    /// How many seconds the link stays cut.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub cut: u32,
}

/// Arguments of `upstream`.
#[derive(Debug, Args)]
pub struct UpstreamArgs {
    /// The hub or broker, as `holdfast status` names it; `auto` lets the edge choose again, beginning with the preferred one.
    #[arg(long = "use", value_name = "NAME")]
    pub place: String,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The module.
    pub module: String,
    /// Go on showing lines as they come.
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Show only what is younger than this: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE")]
    pub since: Option<String>,
}

/// Arguments of `restart`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["module", "all"]).required(true)))]
pub struct RestartArgs {
    /// The module.
    pub module: Option<String>,
    /// Every module.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The module, whose messages wait meanwhile. Without one, the whole edge stops.
    pub module: Option<String>,
}

/// The name of a module.
#[derive(Debug, Args)]
pub struct ModuleName {
    /// The module.
    pub module: String,
}

/// What a message says.
#[derive(Debug, Args)]
pub struct ContentArgs {
    /// The body as text; `-` reads it from standard input.
    #[arg(default_value = "")]
    pub body: String,
    /// An application property, `name=value`. May be given more than once.
    #[arg(short, long = "property", value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// A system property by its name in routes, `contentType=application/json`. May be given more than once.
    #[arg(short, long = "system", value_name = "NAME=VALUE")]
    pub system: Vec<String>,
    /// Short for contentType=application/json and contentEncoding=utf-8.
    #[arg(short, long)]
    pub json_body: bool,
}

/// What a message is made of on the command line.
#[derive(Debug, Args)]
pub struct MessageArgs {
    /// Who sends it: `module/output`, `module`, or `child:topic`.
    #[arg(long, value_name = "SOURCE", default_value = "operator:operator")]
    pub from: String,
    /// The rest of it.
    #[command(flatten)]
    pub content: ContentArgs,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The message.
    #[command(flatten)]
    pub message: MessageArgs,
}

/// Arguments of `cloud-to-device` and of `hub send`.
#[derive(Debug, Args)]
pub struct CloudToDeviceArgs {
    /// The device.
    pub device: String,
    /// The message.
    #[command(flatten)]
    pub content: ContentArgs,
    /// How long it is of use, at most 2d: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE")]
    pub expires_in: Option<String>,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Only messages whose source begins with this.
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<String>,
    /// Only messages that this route takes.
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
    /// Stop after so many messages.
    #[arg(short = 'n', long, value_name = "MESSAGES")]
    pub count: Option<usize>,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The file to write: a line of JSON for each message.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Only what this module is given and what it sends.
    #[arg(long, value_name = "MODULE")]
    pub module: Option<String>,
    /// Stop after so many messages.
    #[arg(short = 'n', long, value_name = "MESSAGES")]
    pub count: Option<u64>,
    /// Stop after this time: 90s, 10m, 2h.
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
}

/// `routes …`.
#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    /// Show the routes.
    List,
    /// Say for a message which routes take it, and why the others do not. Works without a running edge.
    Explain(ExplainArgs),
}

/// Arguments of `routes explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The message.
    #[command(flatten)]
    pub message: MessageArgs,
}

/// `certificate …`.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Show the authority of this edge and the certificate that devices are shown: names, time left, fingerprint.
    Show,
    /// Issue a new certificate for this edge now. A running edge shows it within 10 s and drops no connection.
    Renew,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Leave a check out. May be given more than once.
    #[arg(long, value_name = "ID")]
    pub dont_run: Vec<String>,
    /// Exit with an error when there are warnings.
    #[arg(long)]
    pub warnings_as_errors: bool,
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// The least severe that is logged from now on.
    pub level: LevelName,
}

impl From<LevelName> for holdfast_api::Level {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Error => Self::Error,
            LevelName::Warn => Self::Warn,
            LevelName::Info => Self::Info,
            LevelName::Debug => Self::Debug,
            LevelName::Trace => Self::Trace,
        }
    }
}

/// How severe.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LevelName {
    /// Something was lost or refused.
    Error,
    /// Something may become an error.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// `module …`.
#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Write the project of a new module that builds at once.
    New(ModuleNewArgs),
    /// Build a module, with the tool chain that this machine has.
    Build(ModuleBuildArgs),
    /// Say what a component imports, exports and asks for, before it runs.
    Inspect(ModuleInspectArgs),
    /// Hand a component recorded messages, and compare what it sends with what was recorded.
    Test(ModuleTestArgs),
    /// Build a project whenever it changes, swap it into the running edge, and show its log and messages.
    Dev(ModuleDevArgs),
    /// Fetch a module from a registry, and say which digest pins it.
    Pull(ModulePullArgs),
    /// Put a component into a registry, and sign it if a key is given.
    Push(ModulePushArgs),
    /// Put the next version of a module, which runs in its shadow (NAME.next.wasm), in its place.
    Promote(ModuleName),
    /// Remove the next version of a module, and its file.
    Drop(ModuleName),
}

/// The languages that projects are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LanguageName {
    /// Rust, with its SDK: small and fast.
    Rust,
    /// Python, through componentize-py.
    Python,
    /// JavaScript, on the engine QuickJS.
    #[value(alias = "javascript")]
    Js,
    /// C, with its SDK, through clang.
    C,
}

/// Arguments of `module new`.
#[derive(Debug, Args)]
pub struct ModuleNewArgs {
    /// The module's name; also the folder's.
    pub name: String,
    /// Where to make the project's folder; by default here.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Where the project finds the SDK: `auto`, `embedded`, a folder, or the address of a git repository.
    #[arg(long, default_value = "auto")]
    pub sdk: String,
    /// Its language.
    #[arg(long, value_enum, default_value = "rust")]
    pub lang: LanguageName,
}

/// Arguments of `module build`.
#[derive(Debug, Args)]
pub struct ModuleBuildArgs {
    /// The module's project.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Copy the component and its name.toml into this plugins folder.
    #[arg(long, value_name = "DIR")]
    pub install: Option<PathBuf>,
}

/// Arguments of `module test`.
#[derive(Debug, Args)]
pub struct ModuleTestArgs {
    /// The component.
    pub file: PathBuf,
    /// The recording, made with `holdfast record`.
    #[arg(long, value_name = "FILE")]
    pub recording: PathBuf,
    /// The module's name in the recording; by default that of the file.
    #[arg(long, value_name = "MODULE")]
    pub module: Option<String>,
    /// A field of JSON bodies that is not compared, such as a time; may be given several times.
    #[arg(long, value_name = "FIELD")]
    pub ignore: Vec<String>,
}

/// Arguments of `module dev`.
#[derive(Debug, Args)]
pub struct ModuleDevArgs {
    /// The module's project.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The plugins folder; by default that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Build and swap once, show what follows for a moment, and end.
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `module pull`.
#[derive(Debug, Args)]
pub struct ModulePullArgs {
    /// The module: `registry/repository:tag`, or with `@sha256:…` what is pinned.
    pub reference: String,
    /// Where to write the component; by default nothing is written but the digest.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Names and passwords, as `docker login` writes them; by default those of the configuration.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// A public key that must have signed it; by default those of the configuration.
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
}

/// Arguments of `module push`.
#[derive(Debug, Args)]
pub struct ModulePushArgs {
    /// The component.
    pub file: PathBuf,
    /// Where to: `registry/repository:tag`.
    pub reference: String,
    /// Names and passwords, as `docker login` writes them; by default those of the configuration.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Sign it with this private key (PEM, PKCS #8; ECDSA P-256 or Ed25519).
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
}

/// Arguments of `module inspect`.
#[derive(Debug, Args)]
pub struct ModuleInspectArgs {
    /// The component.
    pub file: PathBuf,
}
