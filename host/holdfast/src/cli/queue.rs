//! The arguments of `holdfast queue` and `holdfast session`.

use clap::{Args, Subcommand};

/// `queue …`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show every queue: how many wait, how many bytes, how old, what was dropped.
    List,
    /// Show messages without taking them out.
    Peek(PeekArgs),
    /// Drop every message that waits in a log.
    Purge(PurgeArgs),
    /// Put dead letters back at the end of their log.
    Requeue(LogName),
}

/// Arguments of `queue peek`.
#[derive(Debug, Args)]
pub struct PeekArgs {
    /// The log, as `queue list` names it.
    pub log: String,
    /// How many messages.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "MESSAGES")]
    pub count: usize,
    /// Begin at this offset instead of the oldest.
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<u64>,
    /// Show dead letters instead.
    #[arg(long)]
    pub dead: bool,
}

/// Arguments of `queue purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The log, as `queue list` names it.
    pub log: String,
    /// Purge dead letters instead.
    #[arg(long)]
    pub dead: bool,
    /// Do not ask. Needed where there is no terminal to ask on.
    #[arg(short, long)]
    pub yes: bool,
}

/// The name of a log.
#[derive(Debug, Args)]
pub struct LogName {
    /// The log, as `queue list` names it.
    pub log: String,
}

/// `session …`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Show every session: whether its client is there, what waits and is in flight, when it expires.
    List,
}
