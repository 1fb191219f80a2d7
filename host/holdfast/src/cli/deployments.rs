//! The arguments of `holdfast deployment`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `deployment …`.
#[derive(Debug, Subcommand)]
pub enum DeploymentCommand {
    /// Say what a manifest of Azure IoT Edge would become here: every fault, and everything that is not carried over.
    Check(DeploymentFiles),
    /// Apply a manifest to the running edge: all of it or nothing. A module that fails brings the one before back.
    Apply(DeploymentApplyArgs),
    /// Show what is deployed, how it stands, and what of it is not carried over.
    Show,
    /// End what is deployed; the edge runs as its holdfast.toml says.
    Clear,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run this deployment, a manifest of Azure IoT Edge, in the place of what was deployed before.
    #[arg(long, value_name = "FILE")]
    pub deployment: Option<PathBuf>,
}

/// Arguments of `deployment apply`.
#[derive(Debug, Args)]
pub struct DeploymentApplyArgs {
    /// The manifest, or a base and its layers.
    #[command(flatten)]
    pub files: DeploymentFiles,
    /// What it is called; by default the name of the first file.
    #[arg(long)]
    pub id: Option<String>,
    /// Wait until it has passed its probation, and not only until everything has started.
    #[arg(long)]
    pub wait: bool,
}

/// Manifests.
#[derive(Debug, Args)]
pub struct DeploymentFiles {
    /// The manifest; or a base deployment and the layers above it. Where they differ the higher priority holds, and of two
    /// with the same the later file.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}
