//! Methods, messages to children, and which children are there.

use crate::{Document, fields};
use bytes::Bytes;
use holdfast_types::{
    Identity, Message, PROPERTIES_MAX, Properties, SystemKey, SystemProperties, UnixMillis,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The hub calls a method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodRequest {
    /// Whose.
    #[serde(with = "fields::identity")]
    pub target: Identity,
    /// Its name.
    pub name: String,
    /// What it is given.
    #[serde(default)]
    pub payload: Value,
    /// How long it may take to answer, in seconds.
    pub response_timeout_s: u32,
    /// How long to wait for the target to connect, in seconds.
    pub connect_timeout_s: u32,
}

impl Document for MethodRequest {
    const NAME: &'static str = "method call";
}

/// What a method answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodAnswer {
    /// The target's own status.
    pub status: i32,
    /// What it gave back.
    #[serde(default)]
    pub payload: Value,
}

impl Document for MethodAnswer {
    const NAME: &'static str = "method answer";
}

/// A message to a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudToDevice {
    /// To whom.
    #[serde(with = "fields::identity")]
    pub target: Identity,
    /// Names this message for ever at this hub. An edge that has taken it answers success and takes it no second time.
    pub id: String,
    /// When it is worth nothing any longer.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::millis::optional")]
    pub expires: Option<UnixMillis>,
    /// What is sent.
    pub message: WireMessage,
}

impl Document for CloudToDevice {
    const NAME: &'static str = "message to a device";
    fn check(&self) -> Result<(), String> {
        if self.id.is_empty() || self.id.len() > 256 {
            return Err(format!("its id has {} bytes; give it 1 to 256", self.id.len()));
        }
        if self.message.properties.len() > PROPERTIES_MAX {
            return Err(format!(
                "it has {} properties, at most {PROPERTIES_MAX} are allowed",
                self.message.properties.len()
            ));
        }
        Ok(())
    }
}

/// A message in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireMessage {
    /// The body, as base64.
    #[serde(with = "fields::base64")]
    pub body: Bytes,
    /// Application properties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
    /// System properties under their names in routes (`messageId`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<(String, String)>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::millis::optional")]
    pub created: Option<UnixMillis>,
}

impl From<&Message> for WireMessage {
    fn from(message: &Message) -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            body: message.body.clone(),
            properties: message.properties.iter().map(|(name, value)| pair(name, value)).collect(),
            system: message.system.iter().map(|(key, value)| pair(key.route_name(), value)).collect(),
            created: message.system.creation_time,
        }
    }
}

/// System properties of names that are not known here are left out.
impl From<WireMessage> for Message {
    fn from(wire: WireMessage) -> Self {
        let mut system = SystemProperties::new();
        system.creation_time = wire.created;
        for (name, value) in &wire.system {
            if let Some(key) = system_key(name) {
                system.set(key, value);
            }
        }
        let properties = wire.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self { body: wire.body, properties: properties.collect::<Properties>(), system }
    }
}

pub(crate) fn system_key(name: &str) -> Option<SystemKey> {
    let named = SystemKey::ALL.iter().copied().find(|key| key.route_name() == name);
    // That has a property of its own, which is checked.
    named.filter(|key| *key != SystemKey::Origin)
}

/// Which children have come and gone since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStates {
    /// The newest state of each.
    pub children: Vec<ChildState>,
}

impl Document for ChildStates {
    const NAME: &'static str = "child states";
}

/// Whether a child is connected to the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildState {
    /// Who.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
    /// Whether it is.
    pub connected: bool,
    /// Since when, by the edge's clock.
    #[serde(with = "fields::millis")]
    pub since: UnixMillis,
}
