//! Deployments: what is asked, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// See [`super::Request::Deployment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRequest {
    /// What to do.
    pub action: DeploymentAction,
    /// Answer when it has passed its probation or failed, and not as soon as everything has started.
    #[serde(default)]
    pub wait: bool,
}

/// What to do with deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentAction {
    /// Show what is deployed and how the newest order stands.
    Show,
    /// Deploy a manifest.
    Apply {
        /// What it is called.
        id: String,
        /// JSON of IoT Edge.
        manifest: String,
    },
    /// End what is deployed.
    Clear,
}

/// How the newest deployment stands, and what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentItem {
    /// The newest deployment that was ordered; empty if there was none.
    pub id: String,
    /// Who ordered it: `operator` or `hub`.
    pub origin: String,
    /// `none`, `checking`, `switching`, `probation`, `applied`, `refused` or `rolled-back`.
    pub phase: String,
    /// 200, 400, 406, 412 or 417, as IoT Edge gives them; 0 while it is not known.
    pub code: u16,
    /// Why it was refused or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is as it is, in milliseconds since 1970.
    pub since_ms: u64,
    /// The deployment that runs; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Who ordered that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_from: Option<String>,
    /// The one before, which comes back if the one that runs fails its probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The modules of the deployment that runs.
    pub modules: Vec<DeployedModuleItem>,
    /// What of its manifest has no meaning here.
    pub not_carried: Vec<NotCarriedItem>,
}

/// A module of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedModuleItem {
    /// Its name.
    pub name: String,
    /// Where its component comes from, as the manifest says.
    pub image: String,
    /// Its state, as `list` shows it.
    pub state: String,
    /// More about the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Something of a manifest that is not carried over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCarriedItem {
    /// Where it stands (RFC 6901).
    pub pointer: String,
    /// What stands there; secrets are hidden.
    pub value: Value,
    /// Why, and what does its work here.
    pub reason: String,
}
