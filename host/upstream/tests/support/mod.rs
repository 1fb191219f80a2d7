//! What the stories need: an edge with a real store, a link, brokers real and scripted, and a link that can be cut.

#![allow(dead_code, reason = "each test crate uses a part of it")]

pub mod account;
pub mod iot_hub;
pub mod mosquitto;
pub mod proxy;
pub mod receiver;
pub mod scripted;
pub mod taker;
pub mod udp;

use holdfast_broker::{Broker, BrokerConfig};
use holdfast_net::{HostName, Settings, Target, Way};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Store, StoreConfig, StoredDeadLetter, SystemClock};
use holdfast_types::{LogId, Message, Name, Priority, Source};
use holdfast_upstream::{
    BackoffConfig, Drained, LinkState, Place, Running, StatusHandle, Upstream, UpstreamConfig, Version,
};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(60);

/// An edge without gateway and modules: a broker over a store in a folder of its own.
pub struct Edge {
    pub broker: Broker,
    pub store: Store,
    _folder: TempDir,
}

/// Messages of the module `alarms` have priority 0, all others the default.
pub fn routes() -> Vec<RouteDefinition> {
    let mut alarms = RouteDefinition::new("alarms", "FROM /messages/modules/alarms/* INTO $upstream");
    alarms.priority = Priority::new(0).unwrap();
    vec![alarms, RouteDefinition::new("all", "FROM /messages/modules/meter/* INTO $upstream")]
}

impl Edge {
    pub fn new() -> Self {
        Self::with_routes(routes())
    }

    pub fn with_routes(routes: Vec<RouteDefinition>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let mut config = StoreConfig::new(folder.path());
        config.ballast_bytes = 0;
        let (store, _) = holdfast_store::open(config, clock.clone()).unwrap();
        let config = BrokerConfig {
            edge: Name::new("edge-1").unwrap(),
            routes: RouteTable::compile(routes).unwrap(),
            time_to_live: None,
        };
        let broker = Broker::new(config, store.clone(), clock);
        Self { broker, store, _folder: folder }
    }

    /// Publishes `count` messages of a module, with bodies `from`, `from + 1`, …; returns when all are on disk.
    pub async fn fill(&self, module: &str, from: u64, count: u64) {
        self.fill_of(module, from, count, 0).await;
    }

    /// The same, with bodies of at least so many bytes.
    pub async fn fill_of(&self, module: &str, from: u64, count: u64, bytes: usize) {
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for n in from..from + count {
            let told = told.clone();
            self.broker.publish_then(source(module), Message::new(format!("{n:bytes$}")), move |result| {
                told.send(result.map(|receipt| receipt.durable)).unwrap();
            });
        }
        drop(told);
        while let Some(result) = heard.recv().await {
            assert_eq!(result, Ok(1), "every message goes into one durable log");
        }
    }

    pub async fn publish(&self, module: &str, message: Message) {
        self.broker.publish(source(module), message).await.unwrap();
    }

    /// Messages that wait upstream by the store's own count.
    pub fn waiting(&self) -> u64 {
        self.store.queues().iter().filter(|q| q.queue.log == LogId::upstream()).map(|q| q.waiting).sum()
    }

    pub async fn drained(&self) {
        until("the log is empty", || self.waiting() == 0).await;
    }

    pub fn dead_letters(&self) -> Vec<StoredDeadLetter> {
        self.store.dead_letters(&LogId::upstream(), None, 100).unwrap()
    }

    pub fn link(&self, config: UpstreamConfig) -> Link {
        let upstream = Upstream::build(config, &self.broker).unwrap();
        let stop = CancellationToken::new();
        let status = upstream.status();
        Link { running: upstream.spawn(stop.clone()), status, stop }
    }
}

pub fn source(module: &str) -> Source {
    Source::Module { module: Name::new(module).unwrap(), output: Some(Name::new("out").unwrap()) }
}

pub struct Link {
    running: Running,
    pub status: StatusHandle,
    stop: CancellationToken,
}

impl Link {
    pub async fn connected(&mut self) {
        self.reaches("connected", LinkState::is_connected).await;
    }

    pub async fn reaches(&mut self, what: &str, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
        match tokio::time::timeout(LONG, self.status.wait_for(wanted)).await {
            Ok(state) => state,
            Err(_) => panic!("the link never was {what}: {:?}", self.status.status()),
        }
    }

    /// Waits until a connection has failed, and gives what is said of it.
    pub async fn complaint(&mut self) -> String {
        match self.reaches("waiting", |state| matches!(state, LinkState::Waiting { .. })).await {
            LinkState::Waiting { reason, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn stop(self) -> Drained {
        self.stop.cancel();
        tokio::time::timeout(LONG, self.running.finished()).await.expect("the link ends").unwrap()
    }
}

pub fn target(port: u16) -> Target {
    let settings = Settings::new("upstream.url", "mqtts:// in upstream.url", "upstream.allow_plain");
    Target::new(HostName::new("127.0.0.1").unwrap(), port, Way::Tcp, settings)
}

/// A configuration that is in a hurry.
pub fn config(port: u16, version: Version) -> UpstreamConfig {
    UpstreamConfig {
        version,
        topic: "up/{module}/{id}".into(),
        backoff: BackoffConfig {
            min: Duration::from_millis(20),
            max: Duration::from_millis(200),
            stable_after: Duration::from_millis(500),
        },
        ..UpstreamConfig::new(vec![Place::of(target(port))], "edge-1")
    }
}

/// Waits for a state, not for a time.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + LONG;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
