//! The embedded backend keeps what every backend must keep.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod contract;

use contract::Maker;
use holdfast_hub::backend::{Backend, Embedded, EmbeddedConfig};
use holdfast_store::{Store, StoreConfig, SystemClock};
use std::sync::Arc;

/// The embedded one, in a folder.
struct Folder {
    dir: tempfile::TempDir,
    store: Option<Store>,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store: None }
    }
}

impl Maker for Folder {
    async fn open(&mut self) -> Arc<dyn Backend> {
        if let Some(store) = self.store.take() {
            store.close().unwrap();
        }
        let mut config = StoreConfig::new(self.dir.path());
        config.ballast_bytes = 0;
        let (store, _) = holdfast_store::open(config, Arc::new(SystemClock::new())).unwrap();
        self.store = Some(store.clone());
        Arc::new(Embedded::open(store, EmbeddedConfig::default()).unwrap())
    }
}

contract!(Folder::new());
