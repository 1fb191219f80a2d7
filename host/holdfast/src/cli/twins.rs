//! The arguments of `holdfast twin` and `holdfast method`.

use clap::{Args, Subcommand};

/// `twin …`.
#[derive(Debug, Subcommand)]
pub enum TwinCommand {
    /// Show every twin.
    List,
    /// Show one twin.
    Show(Who),
    /// Change desired properties: merge a JSON object into them.
    Set(TwinSetArgs),
    /// Forget a twin: of a module or device that is gone.
    Remove(Who),
}

/// Whose.
#[derive(Debug, Args)]
pub struct Who {
    /// `/MODULE` for a module of this edge, `CHILD` for a device, or `CHILD/MODULE`.
    pub who: String,
}

/// Arguments of `twin set`.
#[derive(Debug, Args)]
pub struct TwinSetArgs {
    /// `/MODULE` for a module of this edge, `CHILD` for a device, or `CHILD/MODULE`.
    pub who: String,
    /// A JSON object; null deletes a key: '{"interval": 5, "old": null}'.
    pub patch: String,
}

/// `method …`.
#[derive(Debug, Subcommand)]
pub enum MethodCommand {
    /// Call a method and show its reply.
    Call(MethodCallArgs),
}

/// Arguments of `method call`.
#[derive(Debug, Args)]
pub struct MethodCallArgs {
    /// `/MODULE` for a module of this edge, `CHILD` for a device, or `CHILD/MODULE`.
    pub who: String,
    /// The method.
    pub name: String,
    /// What it is given: JSON.
    #[arg(default_value = "")]
    pub payload: String,
    /// How long to wait for the reply: 5 to 300 seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u64,
    /// How long to wait for the target to be there: 0 to 300 seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub connect: u64,
}
