//! Keeps modules as the plugins folder and the operator want them.

mod loading;
mod next;
mod planning;

use crate::config::EngineConfig;
use crate::engine::Common;
use crate::handle::CommandError;
use crate::logs::LogBook;
use crate::module::{Control, Runner, RunnerParts, Version};
use crate::plan::{Adopted, Plan, PlanError, Prepared};
use crate::plugins::{self, Files};
use crate::relay::{self, Quick};
use crate::status::{RuntimeStatus, Shared};
use holdfast_types::Name;
use loading::{Loaded, Loader};
use planning::Waves;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Orders that wait for a module that is inside a call. An operator does not give so many within one call's time; who
/// does is told to wait, and nobody else waits for it.
const CONTROLS_MAX: usize = 16;

/// How long it takes until a component that could not be fetched is fetched again: a registry may be away.
const FETCH_AGAIN: Duration = Duration::from_secs(30);

/// How often the folder is looked at while a file in it is being written.
const SETTLING: Duration = Duration::from_millis(25);

/// What an operator wants of a module.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Restart,
    Stop,
    Start,
    Promote,
    DropNext,
}

/// What is wanted of the engine, and where the answer goes.
pub(crate) enum Command {
    /// Something of one module.
    Order { module: String, order: Order, answer: oneshot::Sender<Result<(), CommandError>> },
    /// Load the modules of a plan beside what runs.
    Prepare { plan: Plan, answer: oneshot::Sender<Result<Prepared, PlanError>> },
    /// Take a plan.
    Adopt { prepared: Prepared, answer: oneshot::Sender<Adopted> },
}

/// The files of a module as they were last seen.
struct Seen {
    files: Files,
    /// Since when they have not changed, as far as was seen.
    since: Instant,
    /// Whether they have been given to the loader.
    taken: bool,
    /// When a component that could not be fetched is fetched again.
    again_at: Option<Instant>,
}

/// A module's task.
struct Running {
    controls: mpsc::Sender<Control>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    version: Arc<Version>,
}

impl Running {
    /// Asks the module to end, and ends it if it has not by then.
    async fn end(mut self, name: &str, deadline: tokio::time::Instant) {
        self.stop.cancel();
        match tokio::time::timeout_at(deadline, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(module = name, %error, "the module's task ended badly"),
            Err(_) => {
                tracing::warn!(module = name, "did not stop in the time it was given, and is ended");
                self.task.abort();
            }
        }
    }
}

pub(crate) struct Supervisor {
    config: EngineConfig,
    common: Common,
    commands: mpsc::Receiver<Command>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Rung when something in the folder has changed.
    changed: Arc<Notify>,
    seen: BTreeMap<String, Seen>,
    running: BTreeMap<String, Running>,
    loader: Loader,
    /// What a deployment wants; nothing if there is none.
    plan: Plan,
    waves: Waves,
    /// The next versions that are loaded, by the name of their module.
    nexts: BTreeMap<String, Arc<Version>>,
}

impl Supervisor {
    pub(crate) fn new(
        config: EngineConfig,
        common: Common,
        commands: mpsc::Receiver<Command>,
        tasks: TaskTracker,
        stop: CancellationToken,
        changed: Arc<Notify>,
        plan: Plan,
    ) -> Self {
        let loader = Loader::new(&config, &common);
        Self {
            config,
            common,
            commands,
            tasks,
            stop,
            changed,
            seen: BTreeMap::new(),
            running: BTreeMap::new(),
            loader,
            plan,
            waves: Waves::default(),
            nexts: BTreeMap::new(),
        }
    }

    /// Runs until the host stops.
    pub(crate) async fn run(mut self) {
        self.start_in_order().await;
        let mut look_at = Instant::now();
        while !self.stop.is_cancelled() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                Some(command) = self.commands.recv() => self.command(command).await,
                Some(loaded) = self.loader.next() => self.loaded(loaded),
                // A file that is being written tells of every block, so the look waits a little.
                () = self.changed.notified() => look_at = look_at.min(Instant::now() + SETTLING),
                () = tokio::time::sleep(SETTLING), if self.waves.are_under_way() => self.next_wave(),
                () = tokio::time::sleep_until(look_at.into()) => {
                    self.look().await;
                    let settling = self.seen.values().any(|seen| !seen.taken);
                    look_at = Instant::now() + if settling { SETTLING } else { self.config.rescan };
                }
            }
        }
        self.stop_all().await;
    }

    /// Loads what is in the folder when the host starts; then starts it, lower start orders first, each order when the
    /// one before it runs or has failed.
    async fn start_in_order(&mut self) {
        // Files that were written a moment ago are waited for, so that they start in their order too.
        let until = Instant::now() + 2 * self.config.settle;
        self.look().await;
        while self.seen.values().any(|seen| !seen.taken) && Instant::now() < until {
            tokio::time::sleep(SETTLING).await;
            self.look().await;
        }
        let mut orders: BTreeMap<u32, Vec<(String, Version)>> = BTreeMap::new();
        while let Some(loaded) = self.next_loaded().await {
            if let Some(base) = plugins::base_of(&loaded.name) {
                self.next_loaded_for(base, &loaded.name, loaded.version);
                continue;
            }
            match loaded.version {
                Ok(version) => {
                    orders.entry(version.settings.start_order).or_default().push((loaded.name, version));
                }
                Err(reason) => {
                    if let Some(seen) = self.seen.get_mut(&loaded.name).filter(|_| loaded.files.are_fetched())
                    {
                        seen.again_at = Some(Instant::now() + FETCH_AGAIN);
                    }
                    self.refuse(&loaded.name, &reason);
                }
            }
        }
        for (_, modules) in orders {
            let ready: Vec<_> =
                modules.into_iter().filter_map(|(name, version)| self.start(&name, version)).collect();
            for ready in ready {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    // A runner that ended without a word will not be waited for.
                    _ = ready => {}
                }
            }
        }
    }

    async fn next_loaded(&mut self) -> Option<Loaded> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            loaded = self.loader.next() => loaded,
        }
    }

    /// Compares the folder with what was seen, and gives to the loader what has changed and is complete.
    async fn look(&mut self) {
        let folder = match plugins::scan(&self.config.plugins_dir) {
            Ok(folder) => folder,
            Err(error) => {
                // What runs goes on: a folder that is away for a moment is no order to stop everything.
                let path = self.config.plugins_dir.display();
                tracing::warn!(%path, %error, "the plugins folder cannot be read; the modules go on as they are");
                return;
            }
        };
        let (wanted, missing) = self.wanted(&folder);
        let gone: Vec<String> =
            self.seen.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        self.remove_all(gone, "its file is gone").await;
        for unfit in missing {
            if self.common.registry.module(&unfit.module).is_none() {
                self.refuse(&unfit.module, &unfit.reason);
            }
        }
        for (name, files) in wanted {
            let now = Instant::now();
            let fresh = Seen { files: files.clone(), since: now, taken: false, again_at: None };
            let seen = self.seen.entry(name.clone()).or_insert(fresh);
            if seen.files != files {
                *seen = Seen { files: files.clone(), since: now, taken: false, again_at: None };
            }
            if seen.again_at.is_some_and(|at| at <= now) {
                (seen.taken, seen.again_at) = (false, None);
            }
            let settled = files.are_old(self.config.settle) || seen.since.elapsed() >= self.config.settle;
            if !seen.taken && settled {
                seen.taken = true;
                if self.common.registry.module(&name).is_none() {
                    // A large component takes seconds: who looks meanwhile sees that it was found.
                    "its component is fetched or compiled"
                        .clone_into(&mut self.shared(&name).status().description);
                }
                self.loader.load(
                    &name,
                    files,
                    self.plan.module(plugins::base_of(&name).unwrap_or(&name)).cloned(),
                    self.loaded_version(&name),
                );
            }
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        let Loaded { name, files, version } = loaded;
        if self.seen.get(&name).is_none_or(|seen| seen.files != files) {
            // It has changed again or is gone; what was loaded is of no use.
            return;
        }
        if let Some(base) = plugins::base_of(&name) {
            if let Some(seen) = self.seen.get_mut(&name).filter(|_| version.is_err() && files.are_fetched()) {
                seen.again_at = Some(Instant::now() + FETCH_AGAIN);
            }
            return self.next_loaded_for(base, &name, version);
        }
        match version {
            Err(reason) => {
                if let Some(seen) = self.seen.get_mut(&name).filter(|_| files.are_fetched()) {
                    seen.again_at = Some(Instant::now() + FETCH_AGAIN);
                }
                self.refuse(&name, &reason);
            }
            Ok(version) => match self.running.get_mut(&name) {
                None => drop(self.start(&name, version)),
                Some(running) if is_same(&running.version, &version) => {
                    let Some(shared) = self.common.registry.module(&name) else { return };
                    shared.status().refused = None;
                    let rolled_back = shared.status().rolled_back.is_some();
                    if rolled_back {
                        // Copied once more: it is to be tried once more.
                        let again = Control::Replace(running.version.clone());
                        if let Err(TrySendError::Full(_)) = running.controls.try_send(again) {
                            self.look_again(&name);
                        }
                    }
                }
                Some(running) => {
                    let version = Arc::new(version);
                    match running.controls.try_send(Control::Replace(version.clone())) {
                        Ok(()) => running.version = version,
                        // It is looked at again: a new version is never forgotten.
                        Err(TrySendError::Full(_)) => self.look_again(&name),
                        // A runner that has ended is being removed.
                        Err(TrySendError::Closed(_)) => {}
                    }
                }
            },
        }
    }

    fn look_again(&mut self, name: &str) {
        if let Some(seen) = self.seen.get_mut(name) {
            seen.taken = false;
        }
    }

    /// The newest file or settings are no good: what runs goes on.
    fn refuse(&mut self, name: &str, reason: &str) {
        let shared = self.shared(name);
        let stem = self.seen.get(name).map_or(name, |seen| seen.files.stem());
        let path = plugins::component_path(&self.config.plugins_dir, stem);
        tracing::error!(module = name, path = %path.display(), "{reason}");
        shared.logs.write(crate::logs::LogLevel::Error, crate::logs::LogOrigin::Host, reason);
        let mut status = shared.status();
        status.last_error = Some(reason.to_owned());
        if self.running.contains_key(name) {
            status.refused = Some(reason.to_owned());
        } else {
            status.status = RuntimeStatus::Failed;
            reason.clone_into(&mut status.description);
        }
    }

    fn shared(&self, name: &str) -> Arc<Shared> {
        let profile = self.config.profile;
        self.common.registry.module_or(name, || Shared::new(name, LogBook::new(profile)))
    }

    /// Starts the task of a module. Gives what tells when it is ready.
    fn start(&mut self, name: &str, version: Version) -> Option<oneshot::Receiver<()>> {
        let name = match Name::new(name) {
            Ok(name) => name,
            Err(invalid) => {
                self.refuse(name, &format!("the file's name is no name of a module: {invalid}"));
                return None;
            }
        };
        let version = Arc::new(version);
        let (controls, orders) = mpsc::channel(CONTROLS_MAX);
        let (ready, is_ready) = oneshot::channel();
        let stop = self.stop.child_token();
        let quick = Quick::default();
        let runner = Runner::new(RunnerParts {
            name: name.clone(),
            shared: self.shared(&name),
            runtime: self.common.runtime.clone(),
            door: self.common.door.clone(),
            broker: self.common.broker.clone(),
            version: version.clone(),
            backoff: self.config.backoff,
            controls: orders,
            stop: stop.clone(),
            ready,
            quick: quick.clone(),
        });
        self.common.broker.module_present(&name, true);
        let task = self.tasks.spawn(relay::run(runner.run(), quick));
        self.running.insert(name.to_string(), Running { controls, stop, task, version });
        self.cast(name.as_str());
        Some(is_ready)
    }

    /// These modules end, all at the same time, and their names are free for others.
    async fn remove_all(&mut self, names: Vec<String>, why: &str) {
        let deadline = tokio::time::Instant::now() + self.config.stop_grace;
        for name in &names {
            if let Some(running) = self.running.get(name) {
                running.stop.cancel();
            }
        }
        for name in &names {
            self.seen.remove(name);
            if let Some(base) = plugins::base_of(name) {
                self.uncast(base);
            }
            if let Some(running) = self.running.remove(name) {
                running.end(name, deadline).await;
                if let Ok(name) = Name::new(name) {
                    self.common.broker.module_present(&name, false);
                }
            }
            if let Some(shared) = self.common.registry.module(name) {
                shared.logs.close();
            }
            self.common.registry.remove(name);
            tracing::info!(module = name, "removed: {why}");
        }
    }

    async fn command(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Order { module, order, answer } => drop(answer.send(self.order(module, order))),
            Command::Prepare { plan, answer } => self.prepare(plan, answer).await,
            Command::Adopt { prepared, answer } => drop(answer.send(self.adopt(prepared).await)),
        }
    }

    fn order(&mut self, module: String, order: Order) -> Result<(), CommandError> {
        if let Some(base) = plugins::base_of(&module) {
            return Err(CommandError::IsNext { base: base.to_owned(), name: module });
        }
        match (self.running.get(&module), self.common.registry.module(&module)) {
            (Some(running), _) => {
                let control = match order {
                    Order::Restart => Control::Restart,
                    Order::Stop => Control::Stop,
                    Order::Start => Control::Start,
                    Order::Promote => return self.promote(&module),
                    Order::DropNext => return self.drop_next(&module),
                };
                running.controls.try_send(control).map_err(|error| match error {
                    TrySendError::Full(_) => CommandError::Busy { name: module, orders: CONTROLS_MAX },
                    TrySendError::Closed(_) => CommandError::Stopping,
                })
            }
            (None, Some(shared)) => {
                let reason = shared.status().description.clone();
                Err(CommandError::NotLoaded { name: module, reason })
            }
            (None, None) => {
                Err(CommandError::NoSuchModule { name: module, modules: self.common.registry.names() })
            }
        }
    }

    /// All modules stop at the same time, within the time given for it. Who is late is named, and ended.
    async fn stop_all(&mut self) {
        self.loader.end();
        let deadline = tokio::time::Instant::now() + self.config.stop_grace;
        for (name, running) in std::mem::take(&mut self.running) {
            running.end(&name, deadline).await;
        }
    }
}

fn is_same(old: &Version, new: &Version) -> bool {
    old.code.digest == new.code.digest && old.settings == new.settings
}
