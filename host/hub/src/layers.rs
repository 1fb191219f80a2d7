//! Layers: a base deployment and what changes it become one manifest, or do not fit.

use crate::deployments::{DeploymentError, MANIFEST_BYTES_MAX, StoredDeployment};
use holdfast_config::manifest::{self, Document};
use holdfast_link::Deployment;
use std::sync::Arc;

/// What a base and its layers are called together.
pub(crate) fn names(layered: &[Arc<StoredDeployment>]) -> String {
    let ids: Vec<String> = layered.iter().map(|one| one.content_id()).collect();
    ids.join("+")
}

/// A base under its layers, in their order; or why they do not fit.
pub(crate) fn put_together(layered: &[Arc<StoredDeployment>]) -> Result<Deployment, String> {
    let texts: Vec<String> = layered.iter().map(|one| one.manifest.to_string()).collect();
    let documents: Vec<Document<'_>> = (0..)
        .zip(layered.iter().zip(&texts))
        .map(|(rank, (one, text))| Document { name: &one.id, priority: Some(rank), json: text.as_bytes() })
        .collect();
    let merged = manifest::flatten(&documents).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        all.join("; ")
    })?;
    if merged.len() > MANIFEST_BYTES_MAX {
        return Err(DeploymentError::TooLarge(merged.len()).to_string());
    }
    let manifest = serde_json::from_slice(&merged).map_err(|why| why.to_string())?;
    Ok(Deployment { id: names(layered), manifest })
}
