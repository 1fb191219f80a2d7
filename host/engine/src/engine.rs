//! The engine: built, then spawned.

use crate::cache::CodeCache;
use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::handle::EngineHandle;
use crate::http::HttpDoor;
use crate::plan::Plan;
use crate::runtime::Runtime;
use crate::status::Registry;
use crate::supervisor::{Command, Supervisor};
use holdfast_broker::Broker;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher};
use std::fs;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Commands of operators that wait to be taken.
const COMMANDS_MAX: usize = 16;

/// What all parts of the engine share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) broker: Broker,
    pub(crate) runtime: Runtime,
    pub(crate) cache: CodeCache,
    pub(crate) registry: Registry,
    pub(crate) door: HttpDoor,
}

/// The module engine, ready to run.
pub struct Engine {
    config: EngineConfig,
    common: Common,
    handle: EngineHandle,
    commands: mpsc::Receiver<Command>,
    plan: Plan,
}

impl Engine {
    /// Checks the folders, makes those that are absent, and configures the runtime. Starts nothing.
    pub fn build(config: EngineConfig, broker: Broker) -> Result<Self, EngineError> {
        let folder = &config.plugins_dir;
        fs::create_dir_all(folder).and_then(|()| fs::read_dir(folder).map(|_| ())).map_err(|error| {
            EngineError::Folder { what: "plugins folder", path: folder.clone(), reason: error.to_string() }
        })?;
        let runtime = Runtime::new(config.profile, config.stack_bytes, config.outgoing.clone())?;
        let cache = CodeCache::open(&config.cache_dir, config.cache_bytes_max, runtime.engine())?;
        let registry = Registry::default();
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let handle = EngineHandle { registry: registry.clone(), commands: sender };
        let common = Common { broker, runtime, cache, registry, door: HttpDoor::default() };
        Ok(Self { config, common, handle, commands, plan: Plan::default() })
    }

    /// The same with the modules of a deployment from the start. One whose component is missing or unfit fails alone.
    #[must_use]
    pub fn with_plan(self, plan: Plan) -> Self {
        Self { plan, ..self }
    }

    /// A way to ask the engine, now or later.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Where HTTP requests for modules are brought to.
    pub fn http(&self) -> HttpDoor {
        self.common.door.clone()
    }

    /// Starts the modules of the plugins folder and keeps watching it. All tasks are on `tasks`; they end after `stop`
    /// is cancelled, each module having finished the message in hand.
    pub fn spawn(self, tasks: &TaskTracker, stop: CancellationToken) -> Result<(), EngineError> {
        let Self { config, common, handle: _, commands, plan } = self;
        common.runtime.tick()?;
        let changed = Arc::new(Notify::new());
        let watcher = watch(&config, &changed);
        let supervisor = Supervisor::new(config, common, commands, tasks.clone(), stop, changed, plan);
        tasks.spawn(async move {
            supervisor.run().await;
            drop(watcher);
        });
        Ok(())
    }
}

/// Asks the system to tell of changes in the plugins folder. Where it cannot, the folder is looked through regularly.
fn watch(config: &EngineConfig, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let bell = changed.clone();
    let told = move |event: notify::Result<notify::Event>| {
        // Reading is told of too, our own looking included; it changes nothing.
        let reads = |kind: EventKind| matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
        if !event.is_ok_and(|event| reads(event.kind)) {
            bell.notify_one();
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(&config.plugins_dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            let path = config.plugins_dir.display();
            tracing::warn!(%path, %error, "no notice of changes in the plugins folder; it is looked through instead");
        })
        .ok()
}
