//! The open database: how it is tuned, and the keyspaces in it.

use crate::{
    config::{Linger, StoreConfig},
    error::{CommitError, StoreError},
    fjall_compat,
    journal_space::JournalSpace,
    pack_files::{PackFiles, Packs},
    recovery::journals,
    state::{FORMAT, FORMATS_BEFORE, keyspace_name, queue_of},
    sync::{lock, read, write},
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, PartitioningPolicy, PinningPolicy},
};
use holdfast_types::{QueueId, Text};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};

/// Journals that are kept before fjall asks idle keyspaces to flush: the least it takes.
const JOURNALS_BYTES: u64 = 64 << 20;
/// Two: one of fjall's workers prefers flushes, the other compacts.
const WORKERS: usize = 2;
const BLOCK_BYTES: u32 = 32 << 10;
/// Longest time to write all memtables to tables: thirty-odd megabytes at the speed of a slow card.
const TABLES_PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Engine {
    pub(crate) db: Database,
    pub(crate) meta: Keyspace,
    pub(crate) documents: Keyspace,
    pub(crate) pack_files: Arc<PackFiles>,
    queues: RwLock<BTreeMap<QueueId, Keyspace>>,
    memtable_bytes: u64,
    /// Held by who writes to the journal. Without space ahead where writing little counts more than speed.
    space: Mutex<Option<JournalSpace>>,
}

/// fjall's folder within that of the store.
pub(crate) fn database_path(store: &Path) -> PathBuf {
    store.join("db")
}

/// An error of the database as one of the store. An answer of the operating system stays one: it says nothing about
/// the files, and repairing them would not help.
pub(crate) fn fault(what: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |error| match &error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))
            if io.raw_os_error().is_some() =>
        {
            StoreError::file(what, "the database", io)
        }
        fjall::Error::Poisoned => {
            let io = std::io::Error::other("an earlier write failed in the background");
            StoreError::file(what, "the database", &io)
        }
        other => StoreError::Database { what, reason: reason_of(other) },
    }
}

/// The innermost cause, which is what a person can act on.
pub(crate) fn reason_of(error: &fjall::Error) -> Text {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => io.to_string().into(),
        fjall::Error::Poisoned => "an earlier write failed in the background".into(),
        other => format!("{other:?}").into(),
    }
}

impl Engine {
    /// Opens what recovery has looked at before.
    pub(crate) fn open(config: &StoreConfig, pack_files: Arc<PackFiles>) -> Result<Self, StoreError> {
        let path = database_path(&config.path);
        let db = Database::builder(&path)
            .cache_size(config.memory.cache_bytes())
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNALS_BYTES)
            .journal_compression(CompressionType::None)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::InUse { path: config.path.clone() },
                other => fault("open")(other),
            })?;
        let memtable_bytes = config.memory.memtable_bytes();
        let open =
            |name: &str| db.keyspace(name, || options(memtable_bytes)).map_err(fault("open a keyspace"));
        let (meta, documents) = (open("meta")?, open("documents")?);
        let mut queues = BTreeMap::new();
        for name in db.list_keyspace_names() {
            if let Some(queue) = queue_of(&name) {
                queues.insert(queue, open(&name)?);
            }
        }
        let space = (config.linger == Linger::Auto).then(|| JournalSpace::new(path));
        let engine = Self {
            db,
            meta,
            documents,
            pack_files,
            queues: RwLock::new(queues),
            memtable_bytes,
            space: Mutex::new(space),
        };
        engine.check_format(&config.path)?;
        Ok(engine)
    }

    fn check_format(&self, path: &Path) -> Result<(), StoreError> {
        match self.meta.get("format").map_err(fault("read its format"))? {
            Some(value) => {
                let found = value.as_ref().try_into().map_or(u32::MAX, u32::from_le_bytes);
                if found == FORMAT {
                    return Ok(());
                }
                if FORMATS_BEFORE.contains(&found) {
                    return self.write_format();
                }
                Err(StoreError::Format { path: path.to_owned(), found, known: FORMAT })
            }
            None => self.write_format(),
        }
    }

    /// On disk before the first pack file or group behind another: a program that knows none must not take what is in
    /// them for lost.
    fn write_format(&self) -> Result<(), StoreError> {
        self.meta.insert("format", FORMAT.to_le_bytes()).map_err(fault("write its format"))?;
        self.sync()
    }

    /// The keyspace of a queue, if the queue was ever used.
    pub(crate) fn queue(&self, queue: &QueueId) -> Option<Keyspace> {
        read(&self.queues).get(queue).cloned()
    }

    /// All queues there are.
    pub(crate) fn queue_list(&self) -> Vec<(QueueId, Keyspace)> {
        read(&self.queues).iter().map(|(queue, keyspace)| (queue.clone(), keyspace.clone())).collect()
    }

    /// The keyspace of a queue, made if it is not there.
    pub(crate) fn queue_or_new(&self, queue: &QueueId) -> Result<Keyspace, CommitError> {
        if let Some(keyspace) = self.queue(queue) {
            return Ok(keyspace);
        }
        let keyspace = self
            .db
            .keyspace(&keyspace_name(queue), || options(self.memtable_bytes))
            .map_err(|error| CommitError::Failed { reason: reason_of(&error) })?;
        write(&self.queues).insert(queue.clone(), keyspace.clone());
        Ok(keyspace)
    }

    /// Reads the packs of a queue.
    pub(crate) fn packs(&self, keyspace: &Keyspace) -> Packs {
        Packs::new(self.pack_files.folder().to_owned(), fjall_compat::keyspace_number(keyspace))
    }

    /// Writes a group, or what else goes through the journal, about so many bytes that are synced with it; nobody else
    /// writes to it meanwhile.
    pub(crate) fn write_journal<T>(
        &self,
        bytes: u64,
        write: impl FnOnce() -> fjall::Result<T>,
    ) -> fjall::Result<T> {
        let mut space = lock(&self.space);
        if let Some(space) = space.as_mut() {
            space.prepare(bytes);
        }
        write()
    }

    /// Deletes a queue with all that is in it.
    pub(crate) fn delete_queue(&self, queue: &QueueId) -> Result<(), StoreError> {
        let Some(keyspace) = write(&self.queues).remove(queue) else { return Ok(()) };
        let number = fjall_compat::keyspace_number(&keyspace);
        self.db.delete_keyspace(keyspace).map_err(fault("delete a queue"))?;
        let deleted = self.pack_files.delete(number);
        deleted
            .map_err(|error| StoreError::file("delete the pack files in", self.pack_files.folder(), &error))
    }

    fn keyspaces(&self) -> Vec<Keyspace> {
        let own = [self.meta.clone(), self.documents.clone()];
        own.into_iter().chain(read(&self.queues).values().cloned()).collect()
    }

    /// What is in memory and not yet in tables, in bytes.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        let unwritten = |keyspace: &Keyspace| fjall_compat::unwritten_bytes(keyspace, self.memtable_bytes);
        self.keyspaces().iter().map(unwritten).sum()
    }

    /// Writes everything to tables and waits for that, as long as the background is alive.
    pub(crate) fn write_tables(&self) -> Result<(), StoreError> {
        let keyspaces = self.keyspaces();
        let begun = Instant::now();
        while !keyspaces.iter().all(fjall_compat::is_written) {
            for keyspace in keyspaces.iter().filter(|keyspace| fjall_compat::memtable_bytes(keyspace) > 0) {
                fjall_compat::rotate(keyspace).map_err(fault("write a memtable"))?;
            }
            self.db.persist(PersistMode::Buffer).map_err(fault("write its tables"))?;
            if begun.elapsed() > TABLES_PATIENCE {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(StoreError::file("write the tables of", "the database", &late));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What the database was told without an fsync is on disk afterwards. By a handle of our own: the database would let
    /// the committer wait meanwhile. A journal before the newest was synced when that was begun.
    pub(crate) fn sync_journal(&self, store: &Path) -> Result<(), StoreError> {
        let folder = database_path(store);
        let newest = journals(&folder).map(|mut all| all.pop());
        let Some(path) = newest.map_err(|error| StoreError::file("list", &folder, &error))? else {
            return Ok(());
        };
        let synced = OpenOptions::new().write(true).open(&path).and_then(|journal| journal.sync_data());
        synced.map_err(|error| StoreError::file("sync", &path, &error))
    }

    /// Everything that was committed is on disk afterwards.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(fault("sync"))
    }
}

/// Rising keys, read once in order, never looked up by a key that is not there: no filters, large blocks, little
/// memory. Tables go straight to the last level; compressing them would cost more time than it saves space.
fn options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .filter_policy(FilterPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_pinning_policy(PinningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn open(path: &Path) -> Result<crate::Store, StoreError> {
        crate::open(StoreConfig { ballast_bytes: 0, ..StoreConfig::new(path) }, Arc::new(SystemClock::new()))
            .map(|(store, _)| store)
    }

    fn set_format(path: &Path, format: u32) -> u32 {
        let config = StoreConfig::new(path);
        let engine = Engine::open(&config, Arc::new(PackFiles::open(&config).unwrap())).unwrap();
        let found = engine.meta.get("format").unwrap().unwrap();
        engine.meta.insert("format", format.to_le_bytes()).unwrap();
        engine.sync().unwrap();
        u32::from_le_bytes(found.as_ref().try_into().unwrap())
    }

    #[test]
    fn a_store_of_an_earlier_format_is_taken_over_and_one_of_a_later_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = open(dir.path()).unwrap().epoch();
        for before in FORMATS_BEFORE {
            assert_eq!(set_format(dir.path(), before), FORMAT);
            if before == 1 {
                std::fs::remove_dir_all(crate::pack_files::packs_path(dir.path())).unwrap();
            }
            assert_eq!(open(dir.path()).unwrap().epoch(), epoch);
        }
        assert_eq!(
            set_format(dir.path(), FORMAT + 1),
            FORMAT,
            "a program of before must not open it any more"
        );
        assert!(matches!(open(dir.path()), Err(StoreError::Format { found, .. }) if found == FORMAT + 1));
    }
}
