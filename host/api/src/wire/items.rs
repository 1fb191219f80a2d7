//! What comes back.

use super::{
    back::{MethodReplyItem, TwinItem},
    deployments::DeploymentItem,
    message::{MessageText, Sender},
    requests::{Level, SecretText},
};
use crate::MetricFamily;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One item of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// How the host is.
    Status(StatusItem),
    /// A module.
    Module(ModuleItem),
    /// A line of a log.
    Log(LogLine),
    /// A message that passes.
    Passing(PassingItem),
    /// The watcher was too slow and has not seen so many.
    Skipped(u64),
    /// A queue.
    Queue(QueueItem),
    /// A stored message.
    Stored(StoredItem),
    /// How many messages were meant.
    Count(u64),
    /// What became of a sent message.
    Receipt(ReceiptItem),
    /// A device or module of the registry.
    Device(DeviceItem),
    /// A token, and until when it is good, in milliseconds since 1970.
    Token(SecretText, u64),
    /// A session of a client.
    Session(SessionItem),
    /// A route.
    Route(RouteItem),
    /// What a route would do with a message.
    Explanation(RouteExplanation),
    /// What is counted under one name.
    Metric(MetricFamily),
    /// The result of a check.
    Check(CheckResult),
    /// How a deployment stands.
    Deployment(DeploymentItem),
    /// A twin.
    Twin(TwinItem),
    /// What a method answered.
    MethodReply(MethodReplyItem),
    /// It is done; says what.
    Done(String),
}

/// How the host is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusItem {
    /// The name of the edge.
    pub edge: String,
    /// The version of the host.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub uptime_ms: u64,
    /// The folder of the store.
    pub data: String,
    /// The life of the store, in hexadecimal.
    pub epoch: String,
    /// The link upstream; absent if none is configured.
    #[serde(default)]
    pub upstream: Option<UpstreamItem>,
    /// Where the gateway listens.
    #[serde(default)]
    pub gateway: Vec<String>,
    /// Clients of the gateway at this moment.
    #[serde(default)]
    pub connections: u64,
    /// Sessions of clients, with and without a connection.
    #[serde(default)]
    pub sessions: u64,
    /// Messages in the log of sessions that wait for a client or for its acknowledgement, counted for each.
    #[serde(default)]
    pub session_messages: u64,
    /// Bytes of that log, each message counted once.
    #[serde(default)]
    pub session_bytes: u64,
    /// Modules by the name of their state.
    #[serde(default)]
    pub modules: BTreeMap<String, u64>,
    /// Messages that wait, in all queues.
    pub waiting: u64,
    /// Bytes that the store takes on disk.
    pub store_bytes: u64,
    /// Most bytes that it may take.
    pub store_quota_bytes: u64,
    /// What an operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A session of a client of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionItem {
    /// The user or device that proved to be it.
    pub user: String,
    /// The client's identifier.
    pub client_id: String,
    /// Whether the client is there.
    pub connected: bool,
    /// Whether the session outlives its connection, and the host.
    pub durable: bool,
    /// How long it lives without a connection, in seconds: what was agreed on, or what is left if the client is away.
    pub expires_in_s: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait to be sent.
    pub queued: u64,
    /// Messages that were sent and that the client has not acknowledged.
    pub in_flight: u64,
}

/// The link upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamItem {
    /// Where the broker is.
    pub address: String,
    /// Whether the session stands.
    pub connected: bool,
    /// Since when it is as it is, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why it is not connected.
    #[serde(default)]
    pub reason: Option<String>,
    /// Messages acknowledged since the host started.
    pub acknowledged: u64,
    /// What carries the bytes, such as `quic`; absent while it is not connected.
    #[serde(default)]
    pub transport: Option<String>,
    /// Every way to every hub or broker, the preferred ones first.
    #[serde(default)]
    pub ways: Vec<WayItem>,
    /// Children that go up under their own identities; absent where they go up as the edge's.
    #[serde(default)]
    pub children: Option<ChildrenItem>,
}

/// What children do that go up under their own identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildrenItem {
    /// Those that are connected upstream.
    pub connected: u64,
    /// Most that may be at once.
    pub connections_max: u64,
    /// Those that wait for their turn, because there are as many connections as may be.
    pub waiting: u64,
    /// Those that should be connected and are not: why, and the fix, by name.
    #[serde(default)]
    pub troubled: BTreeMap<String, String>,
}

/// One way upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayItem {
    /// The hub or broker.
    pub place: String,
    /// `tcp`, `tls`, `ws`, `wss` or `quic`.
    pub transport: String,
    /// The port.
    pub port: u16,
    /// Whether messages go this way now.
    pub in_use: bool,
    /// Why it did not lead there the last time it was tried; absent where it did, or was not tried.
    #[serde(default)]
    pub fault: Option<String>,
}

/// A device or module of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceItem {
    /// `device` or `device/module`.
    pub device: String,
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`, in IoT Hub's words.
    pub credential: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Tells two apart that had the same name one after the other.
    pub generation: String,
    /// Whether it is an edge itself.
    pub edge: bool,
    /// The edge whose child it is, as the hub says; none if it was added at this edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it was added, in milliseconds since 1970.
    pub added_ms: u64,
    /// Thumbprints of its certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thumbprints: Vec<String>,
    /// Its keys in base64, primary first, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SecretText>,
    /// What its SDK takes, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<SecretText>,
}

/// A module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleItem {
    /// Its name.
    pub name: String,
    /// `running`, `backoff`, `stopped`, `failed` or another state, in IoT Edge's words.
    pub state: String,
    /// More about the state, such as the last trap.
    #[serde(default)]
    pub detail: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Messages handled since the host started.
    pub handled: u64,
    /// Messages sent since the host started.
    #[serde(default)]
    pub sent: u64,
    /// Messages given up since the host started.
    pub failed: u64,
    /// Messages that were too old when their turn came, since the host started.
    #[serde(default)]
    pub expired: u64,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Its share of one processor in the last ten seconds, in thousandths.
    #[serde(default)]
    pub cpu_permille: u64,
    /// When the version that runs took over from another, in milliseconds since 1970.
    #[serde(default)]
    pub swapped_ms: Option<u64>,
    /// How long messages waited for that, in microseconds.
    #[serde(default)]
    pub swap_us: Option<u64>,
    /// How often each limit or missing grant was met since the host started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refusals: BTreeMap<String, u64>,
    /// What the module measures of itself, since the host started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, OwnMetric>,
    /// Bytes of its linear memory.
    pub memory_bytes: u64,
    /// Digest of the component.
    #[serde(default)]
    pub digest: Option<String>,
    /// How a next version does in the shadow of its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowItem>,
}

/// What a next version did with a copy of the traffic, compared with what the version that works did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowItem {
    /// Calls in which both sent and answered the same.
    pub matched: u64,
    /// Calls in which they did not.
    pub differed: u64,
    /// Calls that it was not given, because it was too far behind.
    pub skipped: u64,
    /// The first differences, in words.
    #[serde(default)]
    pub differences: Vec<String>,
}

/// A metric of a module's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnMetric {
    /// It only rises.
    Counter(u64),
    /// It rises and falls.
    Gauge(f64),
    /// How observations are spread.
    Histogram {
        /// How many there were.
        count: u64,
        /// All of them added.
        sum: f64,
        /// Upper bounds, each with how many observations were at most so large.
        at_most: Vec<(f64, u64)>,
    },
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The module; absent for the host.
    #[serde(default)]
    pub module: Option<String>,
    /// How severe.
    pub level: Level,
    /// What was written.
    pub text: String,
}

/// A message that passes, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassingItem {
    /// When it was taken, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who sent it.
    pub from: Sender,
    /// What was sent.
    pub message: MessageText,
    /// How many modules it has passed.
    pub hops: u8,
    /// The sinks that took it, each with its route; empty if no route did.
    pub taken: Vec<Taken>,
}

/// A sink that took a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The route.
    pub route: String,
    /// The sink, as it is written in a route.
    pub sink: String,
    /// 0 to 10.
    pub priority: u8,
    /// Whether it was recorded before it was acknowledged.
    pub durable: bool,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueItem {
    /// The log.
    pub log: String,
    /// 0 to 10.
    pub priority: u8,
    /// Messages that wait; exact.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The age of the oldest.
    #[serde(default)]
    pub oldest_age_ms: Option<u64>,
    /// The next offset that its sink will read.
    pub cursor: u64,
    /// The offset that the next message will get.
    pub tail: u64,
    /// Messages dropped, by reason.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// Messages past their time to live.
    pub expired: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredItem {
    /// The log.
    pub log: String,
    /// 0 to 10.
    pub priority: u8,
    /// The position in the queue.
    pub offset: u64,
    /// The identity that never changes; dead letters have lost theirs.
    #[serde(default)]
    pub id: Option<String>,
    /// Who sent it.
    pub from: Sender,
    /// The route that brought it here.
    pub route: String,
    /// The input of the module that it is for.
    #[serde(default)]
    pub input: Option<String>,
    /// When it was taken, in milliseconds since 1970.
    pub received_ms: u64,
    /// When it expires, in milliseconds since 1970.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// What was sent.
    pub message: MessageText,
    /// Why it was given up, for a dead letter.
    #[serde(default)]
    pub dead: Option<DeadLetter>,
}

/// Why a message was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The reason.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What became of a sent message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptItem {
    /// Logs that recorded it.
    pub durable: u64,
    /// Modules that got it in memory.
    pub volatile: u64,
    /// Subscribers of local topics that got it.
    pub subscribers: u64,
    /// Sinks that were full and dropped it.
    pub dropped: u64,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteItem {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its sink.
    pub sink: String,
    /// 0 to 10.
    pub priority: u8,
    /// Its own time to live.
    #[serde(default)]
    pub time_to_live_secs: Option<u32>,
    /// Whether its messages are recorded before they are acknowledged.
    pub durable: bool,
    /// `block`, `drop-oldest` or `drop-newest`.
    pub when_full: String,
    /// Its own topic template.
    #[serde(default)]
    pub topic: Option<String>,
}

/// What a route would do with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteExplanation {
    /// The route.
    pub route: String,
    /// Its sink.
    pub sink: String,
    /// Whether it takes the message.
    pub taken: bool,
    /// Why, or why not; a line each.
    pub why: Vec<String>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum CheckResult {
    /// It is well.
    Ok {
        /// What was looked at.
        check: String,
    },
    /// It works and should be looked after.
    Warning {
        /// What was looked at.
        check: String,
        /// What was found.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// It does not work.
    Error {
        /// What was looked at.
        check: String,
        /// What was found.
        reason: String,
        /// What to do.
        fix: String,
    },
}
