//! An edge for tests: a real store, a real broker, the engine, and a plugins folder.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod guests;
pub mod hostile;
pub mod net;
pub mod published;

use guests::guest;
use holdfast_broker::{Broker, BrokerConfig, Reader};
use holdfast_engine::{
    Backoff, Engine, EngineConfig, EngineHandle, HttpDoor, LogQuery, ModuleStatus, Profile, RuntimeStatus,
};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Store, StoreConfig, StoredDeadLetter, SystemClock};
use holdfast_types::{Durability, LogId, Message, Name, Source, WhenFull};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a test waits for what must come. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A folder for an edge: deleted at the end, or another's.
pub struct Folder {
    path: PathBuf,
    _own: Option<TempDir>,
}

impl Folder {
    pub fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        Self { path: own.path().to_owned(), _own: Some(own) }
    }

    pub fn of(path: PathBuf) -> Self {
        Self { path, _own: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// One edge. Messages for module `m` are published by `feed(m, …)`; what modules send to their outputs goes upstream,
/// where `received` finds it.
pub struct Edge {
    pub folder: Arc<Folder>,
    pub broker: Broker,
    pub store: Store,
    pub engine: EngineHandle,
    pub http: HttpDoor,
    upstream: Reader,
    waiting: VecDeque<(String, String)>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What an edge is made with.
pub struct Plan {
    folder: Arc<Folder>,
    routes: Vec<RouteDefinition>,
    change: Box<dyn FnOnce(&mut EngineConfig)>,
    change_store: Box<dyn FnOnce(&mut StoreConfig)>,
}

impl Plan {
    /// An edge whose modules of these names can be fed.
    pub fn new(modules: &[&str]) -> Self {
        let feed = |module: &&str| {
            let text = format!(
                "FROM /messages/modules/feeder/outputs/{module} INTO BrokeredEndpoint(\"/modules/{module}/inputs/in\")"
            );
            RouteDefinition::new(&format!("feed-{module}"), text)
        };
        Self {
            folder: Arc::new(Folder::new()),
            routes: modules.iter().map(feed).collect(),
            change: Box::new(|_| {}),
            change_store: Box::new(|_| {}),
        }
    }

    /// In the folder of an edge that was there before.
    pub fn in_folder(mut self, folder: &Arc<Folder>) -> Self {
        self.folder = folder.clone();
        self
    }

    pub fn route(mut self, name: &str, text: &str, durability: Durability) -> Self {
        self.routes.push(RouteDefinition { durability, ..RouteDefinition::new(name, text) });
        self
    }

    pub fn volatile_feed(mut self) -> Self {
        for route in &mut self.routes {
            route.durability = Durability::Volatile;
            route.when_full = WhenFull::Block;
        }
        self
    }

    pub fn config(mut self, change: impl FnOnce(&mut EngineConfig) + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    pub fn store(mut self, change: impl FnOnce(&mut StoreConfig) + 'static) -> Self {
        self.change_store = Box::new(change);
        self
    }

    /// Changes a route.
    pub fn routes(mut self, change: impl Fn(&mut RouteDefinition)) -> Self {
        self.routes.iter_mut().for_each(change);
        self
    }

    /// Puts a guest into the plugins folder before the edge starts.
    pub fn with(self, module: &str, guest_name: &str, settings: &str) -> Self {
        install(&plugins_of(self.folder.path()), module, guest_name, settings);
        self
    }

    /// Puts a component into the plugins folder before the edge starts.
    pub fn with_file(self, module: &str, component: &Path, settings: &str) -> Self {
        let plugins = plugins_of(self.folder.path());
        fs::write(plugins.join(format!("{module}.toml")), settings).unwrap();
        fs::copy(component, plugins.join(format!("{module}.wasm"))).unwrap();
        self
    }

    pub fn plugins(&self) -> PathBuf {
        plugins_of(self.folder.path())
    }

    pub async fn start(self) -> Edge {
        let folder = self.folder.path();
        let mut store = StoreConfig { ballast_bytes: 0, ..StoreConfig::new(folder.join("store")) };
        (self.change_store)(&mut store);
        let (store, _) = holdfast_store::open(store, Arc::new(SystemClock::new())).unwrap();
        let routes = RouteTable::compile(self.routes).unwrap();
        let config = BrokerConfig { edge: name("edge"), routes, time_to_live: None };
        let broker = Broker::new(config, store.clone(), Arc::new(SystemClock::new()));
        let mut config = EngineConfig::new(plugins_of(folder), folder.join("code"), Profile::Standard);
        config.backoff =
            Backoff { base: Duration::from_millis(20), max: Duration::from_millis(100), ..config.backoff };
        config.limits.retry_ms = 10;
        (self.change)(&mut config);
        let engine = Engine::build(config, broker.clone()).unwrap();
        let handle = engine.handle();
        let http = engine.http();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        engine.spawn(&tasks, stop.clone()).unwrap();
        let upstream = broker.reader(LogId::upstream());
        Edge {
            folder: self.folder,
            broker,
            store,
            engine: handle,
            http,
            upstream,
            waiting: VecDeque::new(),
            tasks,
            stop,
        }
    }
}

fn plugins_of(folder: &Path) -> PathBuf {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    plugins
}

/// Puts a guest and its settings into a plugins folder.
pub fn install(plugins: &Path, module: &str, guest_name: &str, settings: &str) {
    if !settings.is_empty() {
        fs::write(plugins.join(format!("{module}.toml")), settings).unwrap();
    }
    fs::copy(guest(guest_name), plugins.join(format!("{module}.wasm"))).unwrap();
}

impl Edge {
    pub fn plugins(&self) -> PathBuf {
        plugins_of(self.folder.path())
    }

    /// Puts a file into the plugins folder.
    pub fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.plugins().join(file), content).unwrap();
    }

    pub fn install(&self, module: &str, guest_name: &str, settings: &str) {
        install(&self.plugins(), module, guest_name, settings);
    }

    /// Sends a message to the input of a module, and waits until it is recorded.
    pub async fn feed(&self, module: &str, body: &str) {
        self.feed_message(module, Message::new(body.as_bytes().to_vec())).await;
    }

    pub async fn feed_message(&self, module: &str, message: Message) {
        self.broker.publish(feeder(module), message).await.unwrap();
    }

    /// The next message that a module has sent: module and body.
    pub async fn received(&mut self) -> (String, String) {
        while self.waiting.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.upstream.next(1_000)).await;
            let deliveries =
                next.unwrap_or_else(|_| panic!("nothing was received; {:#?}", self.engine.list())).unwrap();
            for delivery in &deliveries {
                let Source::Module { module, .. } = &delivery.envelope.source else { panic!("{delivery:?}") };
                let body = String::from_utf8_lossy(&delivery.envelope.message.body).into_owned();
                self.waiting.push_back((module.to_string(), body));
            }
            self.upstream.ack(deliveries.iter().map(|delivery| delivery.ticket));
        }
        self.waiting.pop_front().unwrap()
    }

    /// The next bodies that modules have sent.
    pub async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.received().await.1);
        }
        bodies
    }

    /// Whether modules have sent nothing more.
    pub fn nothing_more(&mut self) -> bool {
        self.waiting.is_empty() && self.upstream.take(1).unwrap().is_empty()
    }

    pub async fn next_envelope(&mut self) -> Arc<holdfast_types::Envelope> {
        let next = tokio::time::timeout(PATIENCE, self.upstream.next(1)).await.unwrap().unwrap();
        self.upstream.ack(next.iter().map(|delivery| delivery.ticket));
        next[0].envelope.clone()
    }

    pub fn status(&self, module: &str) -> Option<ModuleStatus> {
        self.engine.list().into_iter().find(|status| status.name == module)
    }

    /// Waits until a module's status is as wanted.
    pub async fn until(&self, module: &str, wanted: impl Fn(&ModuleStatus) -> bool) -> ModuleStatus {
        let start = Instant::now();
        loop {
            match self.status(module) {
                Some(status) if wanted(&status) => return status,
                status => assert!(start.elapsed() < PATIENCE, "waited in vain; {status:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn until_running(&self, module: &str) -> ModuleStatus {
        self.until(module, |status| status.status == RuntimeStatus::Running).await
    }

    pub async fn until_gone(&self, module: &str) {
        let start = Instant::now();
        while self.status(module).is_some() {
            assert!(start.elapsed() < PATIENCE, "it is still there");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn log(&self, module: &str) -> Vec<String> {
        let mut reader = self.engine.logs(module, LogQuery::default()).unwrap();
        reader.ready().into_iter().map(|line| format!("{} {}", line.level.as_str(), line.text)).collect()
    }

    /// Waits for the dead letters of a module.
    pub async fn dead_letters(&self, module: &str, count: usize) -> Vec<StoredDeadLetter> {
        let start = Instant::now();
        loop {
            let letters = self.store.dead_letters(&LogId::module(&name(module)), None, 1_000).unwrap();
            if letters.len() >= count {
                return letters;
            }
            assert!(start.elapsed() < PATIENCE, "{} dead letters; {:#?}", letters.len(), self.status(module));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stops everything in order. Gives the folder, for an edge that starts again in it.
    pub async fn stop(self) -> Arc<Folder> {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
        self.store.close().unwrap();
        self.folder
    }
}

pub fn feeder(module: &str) -> Source {
    Source::Module { module: name("feeder"), output: Some(name(module)) }
}
