//! The checked configuration: plain values that need no further questions.

use crate::{Net, Secret, Upstream};
use holdfast_types::{LogId, Name, TopicFilter};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Everything that `holdfast.toml` says, checked; what it leaves out has its default.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this edge: 1 to 64 characters of a host name. It is part of every stable id.
    pub edge: Name,
    /// Folders and the control socket.
    pub paths: Paths,
    /// The durable log.
    pub store: Store,
    /// The routes, in the order of the file. They have been compiled together once without a fault.
    pub routes: Vec<holdfast_routes::RouteDefinition>,
    /// The broker above this edge; without one, messages bound upstream wait in the log.
    pub upstream: Option<Upstream>,
    /// The MQTT gateway for devices and programs of this machine.
    pub gateway: Gateway,
    /// How this machine reaches others.
    pub net: Net,
    /// Who may connect to the gateway.
    pub users: Vec<User>,
    /// What the hub is called in tokens and connection strings of devices; none means as this edge.
    pub hub_host_name: Option<String>,
    /// The rest of `[hub]`, for a process that is one.
    pub hub: Hub,
    /// What devices may do on plain topics.
    pub devices: Devices,
    /// What holds for a module unless the file beside it says otherwise.
    pub modules: Modules,
    /// How deployments are applied.
    pub deployment: Deployment,
    /// Where metrics are read.
    pub metrics: Metrics,
    /// Where modules answer HTTP requests.
    pub http: Http,
    /// What is logged.
    pub log: Log,
}

/// `[paths]`: all joined to the folder that holds the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The store and the other things that must survive a restart.
    pub data: PathBuf,
    /// The drop-in folder for modules.
    pub plugins: PathBuf,
    /// Compiled modules; may be deleted at any time.
    pub cache: PathBuf,
    /// The control socket. On Windows the name of the pipe is derived from this path.
    pub control: PathBuf,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Most bytes that the whole store takes on disk.
    pub quota_bytes: u64,
    /// Most bytes of single logs; those not named share the whole.
    pub log_quota_bytes: BTreeMap<LogId, u64>,
    /// How long any message is kept at most, whatever its route says.
    pub age_max: Option<Duration>,
    /// How long a message is kept whose route names no time; absent means for ever.
    pub time_to_live: Option<Duration>,
    /// How long the committer waits for more messages to share an fsync.
    pub linger: Linger,
    /// How much memory the store takes.
    pub profile: Profile,
}

/// How long a group commit waits for company.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    /// As long as the disk's own fsync takes.
    #[default]
    Auto,
    /// Always this long; longer writes less to flash.
    Fixed(Duration),
}

/// How much memory the store may take for speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// For machines with 512 MiB or more.
    #[default]
    Standard,
    /// For small devices (IoT Edge: `OptimizeForPerformance=false`).
    Small,
}

/// What the link to a hub needs, beside an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubLink {
    /// The name of the hub, as tokens say it, where a place has none of its own.
    pub name: String,
    /// The file with the key of this edge's device, in base64; none if it shows a certificate.
    pub key_file: Option<PathBuf>,
    /// Whose hub it is.
    pub kind: HubKind,
    /// Children that go up to an IoT Hub under their own identities; none: all go up as the edge's.
    pub children: Option<OwnChildren>,
}

/// How children go up under their own identities (`upstream.children = "own"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnChildren {
    /// Most of them that are connected upstream at once.
    pub connections_max: u32,
    /// How long such a connection stays when its child is not connected and has nothing to send.
    pub idle_after: Duration,
}

/// Whose hub is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubKind {
    /// One of Holdfast (`profile = "hub"`).
    Holdfast,
    /// An IoT Hub of Azure (`profile = "iot-hub"`).
    IotHub,
}

impl HubKind {
    /// As `upstream.profile` names it.
    pub const fn profile(self) -> &'static str {
        match self {
            Self::Holdfast => "hub",
            Self::IotHub => "iot-hub",
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain, leaf first (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
}

/// Where a password is kept. Neither form shows it in `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// In the file itself.
    Inline(Secret),
    /// In a file of its own, read when the connection is made; the last line end is not part of it.
    File(PathBuf),
}

/// An MQTT version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1.
    V311,
    /// 5.0. The default: only it has user properties, in which the stable id travels.
    #[default]
    V5,
}

/// What the body of an upstream message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// The body as the sender gave it.
    #[default]
    Raw,
    /// A JSON object with the body, the properties and the stable id.
    Envelope,
}

/// Which messages go upstream first when several priorities wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// The most urgent, until none of them is left.
    #[default]
    InOrder,
    /// The most urgent get so many hundredths of the link, 1 to 99, the next as many of the rest, and so on.
    Share(u8),
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Where it listens; empty means that there is no gateway.
    pub listen: Vec<Listen>,
    /// Whether unencrypted connections may come from other machines (`allow_remote_plain`). The addresses keep this rule
    /// already; it is here for the room that listens.
    pub allow_remote_plain: bool,
    /// Names and addresses by which devices know this edge, beside those that the machine has by itself.
    pub host_names: Vec<String>,
    /// The certificate that devices are shown; without one, the local authority issues it.
    pub identity: Option<Identity>,
    /// The authorities that may sign certificates of devices (PEM).
    pub client_ca_file: Option<PathBuf>,
    /// What the body of a message is whose client does not say; MQTT 3.1.1 has no way to.
    pub content_type: Option<String>,
    /// The user as whom programs of this machine come in that give neither name nor password.
    pub anonymous: Option<Name>,
    /// Longest keep alive of a client of MQTT 5; it is told to use this one.
    pub keep_alive_max: Option<Duration>,
    /// Most connections at once.
    pub connections_max: u32,
    /// Most connections at once that have not said who they are; one more closes the oldest of them.
    pub handshakes_max: u32,
    /// Most of them from one address; one more closes the oldest of that address.
    pub handshakes_per_address_max: u32,
    /// Longest time from the first byte of a connection to the answer to its CONNECT.
    pub connect_time_max: Duration,
    /// Most bytes in one MQTT packet.
    pub packet_bytes_max: u32,
    /// Most messages of one client in each direction that wait for their acknowledgement.
    pub unacked_max: u16,
    /// Most messages that one client may send each second.
    pub messages_per_second_max: Option<u32>,
    /// Most bytes that one client may send each second.
    pub bytes_per_second_max: Option<u64>,
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub transport: Transport,
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
}

impl Listen {
    /// Where MQTT is spoken to programs of this machine.
    pub(crate) const HOME: Self = Self {
        transport: Transport::Tcp,
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Transport::Tcp.usual_port()),
    };
}

/// As it is written in the file; plain TCP needs no scheme.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "{}", self.address),
            other => write!(f, "{}://{}", other.scheme(), self.address),
        }
    }
}

/// What carries MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `tcp`, or no scheme at all.
    Tcp,
    /// `tls`: TLS over TCP.
    Tls,
    /// `ws`: WebSocket over TCP.
    WebSocket,
    /// `wss`: WebSocket over TLS.
    WebSocketTls,
    /// `quic`: QUIC, over UDP.
    Quic,
}

impl Transport {
    /// What is written before the address.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
            Self::Quic => "quic",
        }
    }

    /// The port that devices expect.
    pub const fn usual_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::WebSocket => 9001,
            Self::WebSocketTls => 443,
            Self::Quic => 14_567,
        }
    }

    /// Whether nobody on the way can read or change what is said.
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Tcp | Self::WebSocket)
    }

    /// Whether its ports are those of UDP.
    pub(crate) const fn is_udp(self) -> bool {
        matches!(self, Self::Quic)
    }

    /// The same with encryption.
    pub(crate) const fn encrypted(self) -> Self {
        match self {
            Self::Tcp => Self::Tls,
            Self::WebSocket => Self::WebSocketTls,
            encrypted => encrypted,
        }
    }
}

/// `[[users]]`: one who may connect to the gateway.
#[derive(Clone, Debug)]
pub struct User {
    /// The user name, which is the name of the child too.
    pub name: Name,
    /// What proves it.
    pub proof: Proof,
    /// The topics that it may publish to. None by default.
    pub publish: Vec<TopicFilter>,
    /// The topics that it may subscribe to. None by default.
    pub subscribe: Vec<TopicFilter>,
    /// What may not be used, whatever else is granted.
    pub deny: Vec<TopicFilter>,
}

/// `[hub]`, where this process is the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Where services ask it over HTTP.
    pub listen: Listen,
    /// How long an event stays in the stream; none is as long as there is room.
    pub events_age_max: Option<Duration>,
    /// Most bytes of the stream; none is what the store has.
    pub events_quota_bytes: Option<u64>,
    /// The hub whose registry this one follows.
    pub primary: Option<PrimaryHub>,
    /// The servers that keep everything; none is the store of this machine.
    pub storage: Option<Storage>,
}

/// `[storage]`: NATS servers with JetStream that keep what a hub keeps, so that several hub processes serve one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Servers of one cluster: `nats://host:4222` or `tls://host:4222`.
    pub servers: Vec<String>,
    /// The user that this hub is there.
    pub user: Option<String>,
    /// Where its password is.
    pub password_file: Option<PathBuf>,
    /// The authority to trust with `tls://` (PEM); none is those of the system.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key of this hub.
    pub identity: Option<Identity>,
    /// How many servers keep each message.
    pub replicas: u32,
    /// What the names of streams and subjects begin with.
    pub prefix: String,
}

/// `[hub.primary]`: the hub whose registry a secondary one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryHub {
    /// Its API: `https://hub-a.example:8480`.
    pub url: String,
    /// The file with the token of its API.
    pub token_file: PathBuf,
    /// The authority to trust with https (PEM); none is those of the system.
    pub ca_file: Option<PathBuf>,
}

/// `[devices]`: what each device of the registry may do as a plain client. `{device}` stands for its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The topics that it may publish to. None by default.
    pub publish: Vec<TopicFilter>,
    /// The topics that it may subscribe to. None by default.
    pub subscribe: Vec<TopicFilter>,
    /// What may not be used, whatever else is granted.
    pub deny: Vec<TopicFilter>,
}

/// What a user proves itself with. Neither form shows in `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password itself; refused unless every listener is on loopback.
    Plain(Secret),
    /// An Argon2 hash of it in PHC form.
    Hash(Secret),
}

/// `[modules]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Most bytes of a module's linear memory.
    pub memory_bytes_max: u64,
    /// Longest time that one call of a handler may take.
    pub call_time_max: Duration,
    /// Most bytes of stack of a module's call; that of the profile if absent.
    pub stack_bytes_max: Option<u64>,
    /// How many times a message is handed to a failing handler again before it becomes a dead letter.
    pub retries_max: u32,
    /// Whether compiled code is kept in the cache folder.
    pub compile_cache: bool,
    /// Names and passwords for registries, in the form of `docker login`.
    pub registry_credentials: Option<PathBuf>,
    /// Public keys, one of which must have signed a module that comes from a registry.
    pub signature_keys: Vec<PathBuf>,
}

/// `[http]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Where modules answer HTTP requests; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// Whether other machines may come without encryption. The address keeps this rule already; it is here for the room
    /// that listens.
    pub allow_remote_plain: bool,
}

/// `[deployment]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Whether the modules of a deployment alone run, and not what else lies in the plugins folder.
    pub exclusive: bool,
    /// How long a module that fails still brings the deployment before back.
    pub probation: Duration,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where Prometheus may read them over HTTP; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// Whether other machines may read them without encryption. The address keeps this rule already; it is here for the
    /// room that listens.
    pub allow_remote_plain: bool,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe that is written.
    pub level: Level,
}

/// How severe a line of the host's log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Something was lost or refused.
    Error,
    /// Something may become an error.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The name in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
