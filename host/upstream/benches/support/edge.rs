//! An edge with a real store and nothing else.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use holdfast_broker::{Broker, BrokerConfig};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Store, StoreConfig, SystemClock};
use holdfast_types::{LogId, Message, Name, Priority, Source};
use std::{sync::Arc, thread, time::Duration};
use tempfile::TempDir;

pub struct Edge {
    pub broker: Broker,
    pub store: Store,
    _folder: TempDir,
}

impl Edge {
    pub fn new() -> Self {
        Self::with_routes(vec![RouteDefinition::new("all", "FROM /messages/* INTO $upstream")])
    }

    /// What the module `alarms` sends has priority 0.
    pub fn with_alarms() -> Self {
        let mut alarms = RouteDefinition::new("alarms", "FROM /messages/modules/alarms/* INTO $upstream");
        alarms.priority = Priority::new(0).unwrap();
        Self::with_routes(vec![alarms, RouteDefinition::new("all", "FROM /messages/* INTO $upstream")])
    }

    fn with_routes(routes: Vec<RouteDefinition>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let (store, _) = holdfast_store::open(StoreConfig::new(folder.path()), clock.clone()).unwrap();
        let config = BrokerConfig {
            edge: Name::new("edge-1").unwrap(),
            routes: RouteTable::compile(routes).unwrap(),
            time_to_live: None,
        };
        let broker = Broker::new(config, store.clone(), clock);
        Self { broker, store, _folder: folder }
    }

    /// Records so many messages; returns when all are on disk.
    pub fn fill(&self, messages: u64, body_bytes: usize) {
        let source = Source::Child { child: Name::new("meter").unwrap(), topic: None };
        let (told, heard) = std::sync::mpsc::channel();
        let mut open = 0;
        for _ in 0..messages {
            let told = told.clone();
            self.broker.publish_then(source.clone(), Message::new(vec![b'x'; body_bytes]), move |result| {
                let _ = told.send(result.is_ok());
            });
            open += 1;
            while open >= 1000 {
                assert!(heard.recv().unwrap());
                open -= 1;
            }
        }
        while open > 0 {
            assert!(heard.recv().unwrap());
            open -= 1;
        }
    }

    /// Records an alarm, and waits until its acknowledgement is recorded.
    pub fn alarm(&self) {
        let source = Source::Module { module: Name::new("alarms").unwrap(), output: None };
        let (told, heard) = std::sync::mpsc::channel();
        self.broker.publish_then(source, Message::new(b"alarm".to_vec()), move |result| {
            let _ = told.send(result.is_ok());
        });
        assert!(heard.recv().unwrap());
        let waits = || {
            let queues = self.store.queues();
            queues
                .iter()
                .any(|q| q.queue.log == LogId::upstream() && q.queue.priority.level() == 0 && q.waiting > 0)
        };
        while waits() {
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits until nothing waits upstream.
    pub fn drained(&self) {
        while self.store.queues().iter().map(|queue| queue.waiting).sum::<u64>() > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
