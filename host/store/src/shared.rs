//! What the threads of one store share.

use crate::{
    clock::Clock,
    config::StoreConfig,
    engine::Engine,
    error::{CommitError, StoreError},
    housekeeping::Housekeeping,
    mailbox::Mailbox,
    plan::{Filed, Plan},
    queue_index::Index,
    recovery::Recovery,
    status::StoreStats,
    sync::{lock, read, write},
};
use holdfast_types::LogId;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Called after a durable append to a log.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// `None` between a failure and the next opening. Whoever reads holds the lock while it does, so that nobody has a
    /// handle when the database is closed.
    pub(crate) engine: RwLock<Option<Engine>>,
    pub(crate) index: RwLock<Index>,
    pub(crate) mailbox: Mailbox,
    pub(crate) stats: Mutex<StoreStats>,
    pub(crate) wakes: RwLock<BTreeMap<LogId, Vec<Wake>>>,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) recovery: Recovery,
    /// Batches of the database below this number are acknowledged.
    pub(crate) committed_upto: AtomicU64,
    /// The database was told something that it has not synced: where packs lie that are on disk themselves.
    pub(crate) unsynced: AtomicBool,
    /// When the last attempt to open the database again failed.
    pub(crate) reopen_failed: Mutex<Option<Instant>>,
}

impl Shared {
    pub(crate) fn wake(&self, log: &LogId) {
        for wake in read(&self.wakes).get(log).into_iter().flatten() {
            wake();
        }
    }

    /// Everything that is in the journal now is acknowledged.
    pub(crate) fn note_committed(&self, engine: &Engine) {
        self.committed_upto.store(crate::fjall_compat::next_batch(&engine.db), Ordering::Release);
    }

    /// Runs `f` with the open database.
    pub(crate) fn with_engine<T>(
        &self,
        f: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        read(&self.engine).as_ref().map_or(Err(StoreError::Closed), f)
    }

    /// Writes counters that are not on disk yet. At the end of the committer.
    pub(crate) fn write_down_state(&self) {
        let index = read(&self.index);
        let mut plan = Plan::new(&index, self);
        let dirty = index.queues.iter().filter(|(_, queue)| queue.dirty > 0);
        dirty.for_each(|(id, _)| plan.draft(id).state = true);
        let prepared = plan.finish();
        if prepared.is_empty() {
            return;
        }
        let written = self.with_engine(|engine| {
            let batch = prepared.batch(&index, engine, &Filed::default())?;
            engine.write_journal(0, || batch.commit()).map_err(crate::engine::fault("write its counters"))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "counters of expired and unreadable messages were not written at the end");
        }
    }

    /// Closes the database when everything is in tables, empties its journals, and opens it again. Called where nobody
    /// commits meanwhile.
    pub(crate) fn empty_journals(&self) -> Result<(), StoreError> {
        self.recovery.folder.check()?;
        self.with_engine(Engine::write_tables)?;
        let mut slot = write(&self.engine);
        *slot = None;
        let emptied = crate::recovery::empty_journals(&crate::engine::database_path(&self.config.path));
        // Emptied or not, it goes on; when it does not open now, the next commit tries again.
        let engine = self.recovery.reopen(self)?;
        self.note_committed(&engine);
        *slot = Some(engine);
        emptied
    }

    /// Closes the database, repairs it, and opens it again.
    pub(crate) fn reopen(&self) -> Result<(), CommitError> {
        let failed = |reason: String| CommitError::Failed { reason: reason.into() };
        let again = self.recovery.patience_before_reopen();
        if lock(&self.reopen_failed).is_some_and(|at| at.elapsed() < again) {
            return Err(failed("the database could not be opened again a moment ago".to_owned()));
        }
        // Where nothing is, the database would make itself anew.
        self.recovery.folder.look();
        self.recovery.folder.check()?;
        let mut slot = write(&self.engine);
        *slot = None;
        match self.recovery.reopen(self) {
            Ok(engine) => {
                *slot = Some(engine);
                *lock(&self.reopen_failed) = None;
                lock(&self.stats).reopened += 1;
                Ok(())
            }
            Err(error) => {
                *lock(&self.reopen_failed) = Some(Instant::now());
                tracing::error!(%error, "the database could not be opened again");
                Err(failed(error.to_string()))
            }
        }
    }
}
