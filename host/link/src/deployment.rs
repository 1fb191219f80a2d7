//! What an edge should run, how it should keep messages, and what became of it.

use crate::{Document, fields};
use holdfast_types::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an edge should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Names this very content: another content has another identifier.
    pub id: String,
    /// An IoT Edge manifest.
    pub manifest: Value,
}

/// How an edge should keep messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `storeAndForwardConfiguration.timeToLiveSecs`: how long a message is kept whose route says nothing; none leaves it to
    /// the edge's own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live_s: Option<u32>,
}

/// How a deployment fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentReport {
    /// Of an edge below the one that tells it; none is that one itself.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::name::optional")]
    pub edge: Option<Name>,
    /// Which.
    pub deployment: String,
    /// How.
    pub state: DeploymentState,
    /// Why it is not applied, with the fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Each module.
    pub modules: Vec<ModuleReport>,
}

impl Document for DeploymentReport {
    const NAME: &'static str = "deployment report";
}

/// How a deployment fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// It is being fetched, checked or switched to.
    Applying,
    /// It runs.
    Applied,
    /// It was refused before anything was changed.
    Refused,
    /// It failed after the switch, and the one before is back.
    RolledBack,
}

/// How a module fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// Its state, in the words of `holdfast list`.
    pub state: String,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
