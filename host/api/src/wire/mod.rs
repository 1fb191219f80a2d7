//! What goes over the wire, in its own types: the inner ones are not serialised.

mod back;
mod deployments;
mod items;
mod message;
mod requests;

pub use back::{DesireRequest, DeviceboundRequest, MethodReplyItem, MethodRequest, TwinItem, TwinRequest};
pub use deployments::{
    DeployedModuleItem, DeploymentAction, DeploymentItem, DeploymentRequest, NotCarriedItem,
};
pub use items::{
    CheckResult, ChildrenItem, DeadLetter, DeviceItem, Item, LogLine, ModuleItem, OwnMetric, PassingItem,
    QueueItem, ReceiptItem, RouteExplanation, RouteItem, SessionItem, ShadowItem, StatusItem, StoredItem,
    Taken, UpstreamItem, WayItem,
};
pub use message::{Body, InvalidMessage, MessageText, Sender};
pub use requests::{
    DeviceAction, DeviceCredential, DeviceRequest, Level, LogsRequest, ModuleAction, ModuleRequest,
    PeekRequest, PurgeRequest, Request, RequeueRequest, SecretText, SendRequest, TailRequest,
};

use serde::{Deserialize, Serialize};

/// The version of the wire. It changes when a request or an answer changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// Most bytes in the line of a request: 2 MiB, a test message of 1 MiB in base64 with room. Larger test messages go in
/// over MQTT.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most bytes in a line of an answer: 32 MiB, the largest message of this machine in base64 with room.
pub const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The application property that the host sets on messages that an operator sent with `holdfast send`, and its value.
pub const OPERATOR_PROPERTY: (&str, &str) = ("holdfast-sent-by", "operator");

/// A line from a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask<R> {
    pub(crate) v: u32,
    pub(crate) request: R,
}

/// A line from the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) v: u32,
    #[serde(flatten)]
    pub(crate) content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Content {
    Item(Box<Item>),
    End(End),
    Error(Refusal),
}

/// The only part of a line that every version has.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) v: u32,
}

/// The answer is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many items it had.
    pub items: u64,
}

/// Why a request was refused or could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default())]
pub struct Refusal {
    /// The kind of reason, for programs.
    pub code: Code,
    /// The reason, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Refusal {
    /// A refusal without a proposal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The client speaks another version of the wire.
    Version,
    /// The line is no request, or its content makes no sense.
    BadRequest,
    /// The line is longer than [`REQUEST_BYTES_MAX`].
    TooLarge,
    /// The module, log, route or message is not there.
    NotFound,
    /// The host has as many connections as it takes.
    Busy,
    /// The host is about to stop.
    Stopping,
    /// It was tried and failed.
    Failed,
    /// A kind that this client does not know.
    #[serde(other)]
    Other,
}
