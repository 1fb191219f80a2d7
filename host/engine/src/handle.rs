//! What the rest of the host may ask of the engine while it runs.

use crate::logs::{LogQuery, LogReader};
use crate::plan::{Adopted, Plan, PlanError, Prepared};
use crate::status::{ModuleStatus, Registry};
use crate::supervisor::{Command, Order};
use tokio::sync::{mpsc, oneshot};

/// A way to ask the running engine. Clones ask the same engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(crate) registry: Registry,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No module has this name; the names that exist are given.
    #[error("there is no module {name:?}; {}", known(.modules))]
    NoSuchModule {
        /// The name that was asked for.
        name: String,
        /// The modules that exist.
        modules: Vec<String>,
    },
    /// The module's file is no module, so there is nothing to start.
    #[error("module {name} cannot be started: {reason}")]
    NotLoaded {
        /// The module.
        name: String,
        /// What is wrong with its file.
        reason: String,
    },
    /// The module has not carried out earlier orders yet.
    #[error(
        "module {name} has not carried out {orders} earlier orders; wait until the call it is in has ended (at most \
         limits.call_ms) and try again"
    )]
    Busy {
        /// The module.
        name: String,
        /// How many orders wait.
        orders: usize,
    },
    /// There is no next version of the module.
    #[error(
        "there is no next version of {name}: put it beside it in the plugins folder, as {name}.next.wasm"
    )]
    NoNext {
        /// The module.
        name: String,
    },
    /// The next version is none of the folder's files.
    #[error(
        "the next version of {name} comes from a registry: to promote it, write its reference into [source] oci of \
         {name}.toml; promoted or dropped, take oci out of [shadow] there"
    )]
    NextFetched {
        /// The module.
        name: String,
    },
    /// The module comes from a registry, where a file of the folder would hide it.
    #[error(
        "{name} comes from a registry, and a file in the plugins folder would hide what its settings or its deployment \
         name: push the next version to the registry, and name it there by its digest"
    )]
    Hidden {
        /// The module.
        name: String,
    },
    /// The order is for a next version, which runs and stops with its module.
    #[error(
        "{name} is the next version of {base} and runs in its shadow: `holdfast module promote {base}` puts it in its \
         place, `holdfast module drop {base}` removes it"
    )]
    IsNext {
        /// The next version.
        name: String,
        /// Its module.
        base: String,
    },
    /// A file of the plugins folder could not be changed.
    #[error("{path} cannot be {what}: {reason}; look at who may write to the folder")]
    File {
        /// The file.
        path: String,
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The engine has stopped or is stopping.
    #[error("the module engine is stopping and takes no commands")]
    Stopping,
}

fn known(modules: &[String]) -> String {
    match modules {
        [] => "no module is loaded: put a component into the plugins folder".to_owned(),
        some => format!("there are: {}", some.join(", ")),
    }
}

impl EngineHandle {
    /// Every module, by name.
    pub fn list(&self) -> Vec<ModuleStatus> {
        self.registry.list()
    }

    /// The log of a module.
    pub fn logs(&self, name: &str, query: LogQuery) -> Result<LogReader, CommandError> {
        match self.registry.module(name) {
            Some(module) => Ok(module.logs.reader(query)),
            None => Err(self.unknown(name)),
        }
    }

    /// Ends the module's instance and starts a fresh one, clearing its failures. Messages wait meanwhile. Resolves when
    /// the module has taken the order, not when it runs.
    pub async fn restart(&self, name: &str) -> Result<(), CommandError> {
        self.order(name, Order::Restart).await
    }

    /// Stops the module until it is started or the host restarts. Its messages wait in their log.
    pub async fn stop(&self, name: &str) -> Result<(), CommandError> {
        self.order(name, Order::Stop).await
    }

    /// Starts a module that is stopped, failed or waiting. No error if it runs.
    pub async fn start(&self, name: &str) -> Result<(), CommandError> {
        self.order(name, Order::Start).await
    }

    /// Puts the next version of a module, which runs in its shadow, in its place: its file takes the name of the module's.
    /// Resolves when that is so; the version takes over as any new one does.
    pub async fn promote(&self, name: &str) -> Result<(), CommandError> {
        self.order(name, Order::Promote).await
    }

    /// Removes the next version of a module, and its file.
    pub async fn drop_next(&self, name: &str) -> Result<(), CommandError> {
        self.order(name, Order::DropNext).await
    }

    /// Reads, checks and compiles all modules of a plan, those that have not changed since they were loaded from what is
    /// in memory. Nothing that runs is touched.
    pub async fn prepare(&self, plan: Plan) -> Result<Prepared, PlanError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Prepare { plan, answer }).await.map_err(|_| PlanError::Stopping)?;
        answered.await.map_err(|_| PlanError::Stopping)?
    }

    /// Takes a plan: modules that it no longer wants end, and the others are started or swapped in the order that it
    /// says. Resolves when that has begun; how it goes, the status of each module tells.
    pub async fn adopt(&self, prepared: Prepared) -> Result<Adopted, PlanError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Adopt { prepared, answer }).await.map_err(|_| PlanError::Stopping)?;
        answered.await.map_err(|_| PlanError::Stopping)
    }

    async fn order(&self, name: &str, order: Order) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Order { module: name.to_owned(), order, answer };
        self.commands.send(command).await.map_err(|_| CommandError::Stopping)?;
        answered.await.map_err(|_| CommandError::Stopping)?
    }

    pub(crate) fn unknown(&self, name: &str) -> CommandError {
        CommandError::NoSuchModule { name: name.to_owned(), modules: self.registry.names() }
    }
}
