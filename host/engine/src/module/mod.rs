//! One task for each module: it reads the module's log, calls the module, and records what came of it.

mod batches;
mod calls;
mod failures;
mod handling;
mod orders;
mod probation;
mod program;
mod rewind;
mod runner;
mod shadow;
mod swap;
mod turns;

pub(crate) use orders::Control;
pub(crate) use runner::{Runner, RunnerParts};
pub(crate) use shadow::Next;

use crate::load::Code;
use crate::settings::Settings;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a module is made from: its code and its settings.
#[derive(Clone)]
pub(crate) struct Version {
    /// Which loading this is; later ones have higher numbers.
    pub(crate) number: u64,
    pub(crate) code: Code,
    pub(crate) settings: Arc<Settings>,
    /// A place for each connection to another machine.
    pub(crate) connections: Arc<Semaphore>,
}
