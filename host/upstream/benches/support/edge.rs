//! An edge with a real store and nothing else.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use holdfast_broker::{Broker, BrokerConfig};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Store, StoreConfig, SystemClock};
use holdfast_types::{Message, Name, Source};
use std::{sync::Arc, thread, time::Duration};
use tempfile::TempDir;

pub struct Edge {
    pub broker: Broker,
    pub store: Store,
    _folder: TempDir,
}

impl Edge {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let (store, _) = holdfast_store::open(StoreConfig::new(folder.path()), clock.clone()).unwrap();
        let route = RouteDefinition::new("all", "FROM /messages/* INTO $upstream");
        let config = BrokerConfig {
            edge: Name::new("edge-1").unwrap(),
            routes: RouteTable::compile(vec![route]).unwrap(),
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

    /// Waits until nothing waits upstream.
    pub fn drained(&self) {
        while self.store.queues().iter().map(|queue| queue.waiting).sum::<u64>() > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
