//! What can be asked.

use super::{
    back::{DesireRequest, DeviceboundRequest, MethodRequest, TwinRequest},
    deployments::DeploymentRequest,
    message::{MessageText, Sender},
};
use serde::{Deserialize, Serialize};

/// A request, with the kinds of items that answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How the host is. One [`super::Item::Status`].
    Status,
    /// Every module. [`super::Item::Module`].
    Modules,
    /// Restart, stop or start a module or all. [`super::Item::Module`] for each that was meant, as it is then.
    Module(ModuleRequest),
    /// What modules and the host logged. [`super::Item::Log`].
    Logs(LogsRequest),
    /// Messages as they pass. [`super::Item::Passing`], until the client goes or the count is reached.
    Tail(TailRequest),
    /// Every queue. [`super::Item::Queue`].
    Queues,
    /// Stored messages, oldest first; nothing moves. [`super::Item::Stored`].
    Peek(PeekRequest),
    /// Drop what a queue holds. [`super::Item::Count`].
    Purge(PurgeRequest),
    /// Hand dead letters to their log again. [`super::Item::Count`].
    Requeue(RequeueRequest),
    /// Send a message as if a module or child had sent it. [`super::Item::Receipt`].
    Send(SendRequest),
    /// Every device and module of the registry. [`super::Item::Device`].
    Devices,
    /// See, add or change a device. [`super::Item::Device`], or [`super::Item::Token`].
    Device(DeviceRequest),
    /// Every session of the gateway's clients. [`super::Item::Session`].
    Sessions,
    /// Every route. [`super::Item::Route`].
    Routes,
    /// What each route would do with a message; nothing is sent. [`super::Item::Explanation`] for each route.
    Explain(SendRequest),
    /// Everything that is counted. [`super::Item::Metric`] for each name.
    Metrics,
    /// What is well and what is not. [`super::Item::Check`].
    Check,
    /// Change the level of the host's log until it stops. [`super::Item::Done`].
    LogLevel(Level),
    /// See or change what is deployed. [`super::Item::Deployment`].
    Deployment(DeploymentRequest),
    /// Every twin. [`super::Item::Twin`].
    Twins,
    /// One twin; an empty one for who has none. [`super::Item::Twin`].
    Twin(TwinRequest),
    /// Change what is desired. [`super::Item::Twin`], as it is then, on disk.
    Desire(DesireRequest),
    /// Forget a twin. [`super::Item::Done`].
    RemoveTwin(TwinRequest),
    /// Call a method. [`super::Item::MethodReply`] when it has answered.
    Method(MethodRequest),
    /// Leave a message for a child. [`super::Item::Done`] when it is on disk.
    CloudToDevice(DeviceboundRequest),
    /// Say which hub or broker to use from now on; with none, the rules decide again. [`super::Item::Done`].
    UsePlace(Option<String>),
    /// Stop the host in order. [`super::Item::Done`] when it has begun to.
    Stop,
}

impl Request {
    /// Whether the answer goes on until the client goes.
    pub fn follows(&self) -> bool {
        match self {
            Self::Logs(logs) => logs.follow,
            Self::Tail(_) => true,
            _ => false,
        }
    }
}

/// See [`Request::Device`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// `device` or `device/module`.
    pub device: String,
    /// What to do.
    pub action: DeviceAction,
}

/// What to do with a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceAction {
    /// Add it.
    Add {
        /// What it proves itself with.
        credential: DeviceCredential,
        /// Whether it is an edge itself.
        edge: bool,
    },
    /// Show it.
    Show {
        /// With its keys.
        secrets: bool,
    },
    /// Let it in again.
    Enable,
    /// Let it in no more, and cut it off.
    Disable,
    /// Forget it and its modules, and cut them off.
    Remove,
    /// Sign a token for it.
    Token {
        /// How long it is good, in seconds.
        ttl_s: u64,
    },
}

/// What a device proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceCredential {
    /// Two new keys.
    Generate,
    /// This key, and another one if there is one; base64.
    Keys(SecretText, Option<SecretText>),
    /// A certificate with this thumbprint, or another one if there is one; hexadecimal.
    Thumbprints(String, Option<String>),
    /// A certificate of its name from an authority that the edge trusts.
    CertificateAuthority,
}

/// Text that `Debug` hides.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// See [`Request::Module`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRequest {
    /// What to do.
    pub action: ModuleAction,
    /// The module; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// What to do with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleAction {
    /// End it and start it anew; its restart count begins at 0.
    Restart,
    /// End it, and do not start it until told or until the host starts.
    Stop,
    /// Start it if it does not run.
    Start,
    /// Put its next version, which runs in its shadow, in its place.
    Promote,
    /// Remove its next version.
    Drop,
}

/// See [`Request::Logs`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// The module; the host and all modules if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Only the last so many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// Only lines since then, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Only lines before then, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Go on with lines as they come.
    #[serde(default)]
    pub follow: bool,
}

/// See [`Request::Tail`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailRequest {
    /// Only messages whose source, as it is shown, begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only messages that this route takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// End after so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Most bytes of a body to show; 0 shows none.
    #[serde(default)]
    pub body_bytes_max: usize,
}

/// See [`Request::Peek`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeekRequest {
    /// The log: `upstream`, `upstream/CHILD`, `module/NAME` or `child/NAME`.
    pub log: String,
    /// One priority, 0 to 10; all of them, highest first, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The offset to begin with; the cursor if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Most messages.
    pub count: u64,
    /// Most bytes of a body to show.
    pub body_bytes_max: usize,
    /// The dead letters of the log instead of what waits.
    #[serde(default)]
    pub dead: bool,
}

/// See [`Request::Purge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// The log.
    pub log: String,
    /// One priority; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The dead letters of the log instead of what waits.
    #[serde(default)]
    pub dead: bool,
}

/// See [`Request::Requeue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequeueRequest {
    /// The log.
    pub log: String,
    /// The offsets of the dead letters; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Vec<u64>>,
}

/// See [`Request::Send`] and [`Request::Explain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Who is to have sent it.
    pub from: Sender,
    /// What is sent. The host adds [`super::OPERATOR_PROPERTY`].
    pub message: MessageText,
}

/// How severe a line of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
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
