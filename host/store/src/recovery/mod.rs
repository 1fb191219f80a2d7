//! Recovery: everything that stands between a crash and an open store.
mod load;
mod report;

pub use report::{Loss, RecoveryReport};

use crate::{
    clock::Clock,
    config::StoreConfig,
    engine::{Engine, fault},
    error::StoreError,
    queue_index::Index,
    shared::Shared,
};
use std::time::Duration;

pub(crate) struct Recovery {}

pub(crate) struct Opened {
    pub(crate) recovery: Recovery,
    pub(crate) engine: Engine,
    pub(crate) index: Index,
    pub(crate) epoch: u64,
    pub(crate) report: RecoveryReport,
}

impl Recovery {
    pub(crate) fn open(config: &StoreConfig, _clock: &dyn Clock) -> Result<Opened, StoreError> {
        let mut report = RecoveryReport { created: !config.path.exists(), ..RecoveryReport::default() };
        std::fs::create_dir_all(&config.path).map_err(|e| StoreError::file("make", &config.path, &e))?;
        let engine = Engine::open(config)?;
        let index = load::index(&engine, &mut report)?;
        let epoch = epoch(&engine, !report.losses.is_empty())?;
        Ok(Opened { recovery: Self {}, engine, index, epoch, report })
    }

    pub(crate) fn reopen(&self, shared: &Shared) -> Result<Engine, StoreError> {
        Engine::open(&shared.config)
    }

    pub(crate) fn keep_marks(&self, _shared: &Shared, _now: bool) {}

    pub(crate) fn patience_before_reopen(&self) -> Duration {
        Duration::from_secs(1)
    }
}

fn epoch(engine: &Engine, redraw: bool) -> Result<u64, StoreError> {
    let stored = engine.meta.get("epoch").map_err(fault("read its epoch"))?;
    let stored = stored.and_then(|value| value.as_ref().try_into().ok().map(u64::from_le_bytes));
    if let Some(epoch) = stored.filter(|_| !redraw) {
        return Ok(epoch);
    }
    let epoch = draw();
    engine.meta.insert("epoch", epoch.to_le_bytes()).map_err(fault("write its epoch"))?;
    engine.sync()?;
    Ok(epoch)
}

/// A number that no other life of a store has. The standard library's hash keys come from the operating system's
/// random source, which is all that is needed here.
fn draw() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
