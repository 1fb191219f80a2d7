//! The ways back: twins, methods, and messages to children.

use super::message::MessageText;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose twin. `child`, `child/module`, or `/module` for a module of this edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwinRequest {
    /// Whose.
    pub who: String,
}

/// A change of desired properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesireRequest {
    /// Whose.
    pub who: String,
    /// What to merge into them; null deletes.
    pub patch: Value,
}

/// A twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwinItem {
    /// Whose: `device` or `device/module`.
    pub who: String,
    /// What is desired of it.
    pub desired: Value,
    /// Counts the changes of that.
    pub desired_version: u64,
    /// What it reports.
    pub reported: Value,
    /// Counts the changes of that.
    pub reported_version: u64,
}

/// A call of a method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodRequest {
    /// Whose method.
    pub who: String,
    /// The method.
    pub name: String,
    /// JSON; may be empty.
    #[serde(default)]
    pub payload: String,
    /// How long to wait for the reply.
    pub response_ms: u64,
    /// How long to wait for the target to be there.
    #[serde(default)]
    pub connect_ms: u64,
}

/// What a method answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodReplyItem {
    /// As the target means it; 200 is success by custom.
    pub status: i32,
    /// The payload: JSON, or a text if it is none; null if there is none.
    pub payload: Value,
}

/// A message to a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceboundRequest {
    /// The child.
    pub child: String,
    /// What is sent. The host adds [`super::OPERATOR_PROPERTY`].
    pub message: MessageText,
    /// How long it is of use; two days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_ms: Option<u64>,
}
