//! Recovery: everything that stands between a crash and an open store.
//!
//! The order at start, each step in its file: lock the folder; read the marks (`marks.rs`); see that the files by which
//! the database knows itself are there, so that it cannot take itself for new (`tables.rs`); repair the journals
//! (`journal.rs`); open, and if that fails look thoroughly, put aside what is broken, and open again; tell the database
//! which packs are on disk that it forgot (`packs.rs`); make the index from what is there (`load.rs`); compare it with the marks. Whatever is found to be lost or damaged is logged and
//! stands in the report (`report.rs`). The same steps, but for the index, are taken when the database fails while it
//! runs.

mod ballast;
mod folder;
mod journal;
mod load;
mod marks;
mod packs;
mod report;
mod room;
mod slots;
mod tables;

pub(crate) use journal::list as journals;
pub(crate) use marks::sync_folder;
pub use report::{Loss, RecoveryReport};
pub(crate) use room::empty_journals;

use crate::{
    clock::Clock,
    config::{GROUP_BYTES_MAX, StoreConfig},
    engine::{Engine, database_path, fault},
    error::StoreError,
    pack_files::{PackFiles, packs_path},
    queue_index::Index,
    shared::Shared,
    sync::{lock, read},
};
use ballast::Ballast;
use folder::Folder;
use holdfast_types::{Offset, UnixMillis};
use marks::{HighWater, Marks, Remembered};
use std::{
    fs::{self, File},
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tables::Depth;

/// What fjall's file `version` holds.
const DATABASE_VERSION: &[u8] = b"FJL\x03";
/// Between two attempts to open a database that failed: long enough not to spin, short enough not to be noticed.
const REOPEN_PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to take the ballast back after the disk was full: the database, which was opened again, needs the
/// room first, to write its tables and let its journals go.
const BALLAST_PATIENCE: Duration = Duration::from_secs(5);
/// The wall clock at start may be this much behind that of the last mark before it counts as set back.
const CLOCK_BACK_MS: u64 = 5_000;

pub(crate) struct Recovery {
    pub(crate) folder: Folder,
    pack_files: Arc<PackFiles>,
    marks: Mutex<Marks>,
    keyspaces_written: Mutex<usize>,
    /// Whether the marks could not be written the last time: it is said once, not each second.
    marks_failed: AtomicBool,
    watch: Mutex<room::Watch>,
    ballast: Ballast,
    ballast_tried: Mutex<Instant>,
    /// Bytes that the logs may hold while the disk is full: what they held then. `u64::MAX` otherwise.
    ceiling: AtomicU64,
}

pub(crate) struct Opened {
    pub(crate) recovery: Recovery,
    pub(crate) engine: Engine,
    pub(crate) index: Index,
    pub(crate) epoch: u64,
    pub(crate) report: RecoveryReport,
}

impl Recovery {
    pub(crate) fn open(config: &StoreConfig, clock: &dyn Clock) -> Result<Opened, StoreError> {
        fs::create_dir_all(&config.path).map_err(|error| StoreError::file("make", &config.path, &error))?;
        let folder = Folder::take(&config.path)?;
        let (marks, remembered) = Marks::open(&config.path)
            .map_err(|error| StoreError::file("open the marks in", &config.path, &error))?;
        let mut report = RecoveryReport::default();
        remembered.broken.iter().for_each(|what| report.damage((*what).to_owned()));
        report.created = !database_path(&config.path).exists() && remembered.high_water.is_none();
        let pack_files = PackFiles::open(config);
        let pack_files =
            Arc::new(pack_files.map_err(|error| StoreError::file("make", packs_path(&config.path), &error))?);
        let engine = open_engine(config, &pack_files, &remembered.keyspaces, None, &mut report)?;
        let mut index = load::index(&engine, &mut report)?;
        compare(&mut index, &remembered, &mut report);
        clock_went_back(&mut index, &remembered, clock.now());
        let epoch = epoch(&engine, !report.losses.is_empty(), &mut report)?;
        let recovery = Self {
            folder,
            pack_files,
            marks: Mutex::new(marks),
            keyspaces_written: Mutex::new(usize::MAX),
            marks_failed: AtomicBool::new(false),
            watch: Mutex::default(),
            ballast: Ballast::new(&config.path, config.ballast_bytes),
            ballast_tried: Mutex::new(Instant::now()),
            ceiling: AtomicU64::new(u64::MAX),
        };
        if let Err(error) = recovery.ballast.take() {
            tracing::warn!(%error, "there is no room for the ballast; a full disk will stop the store until it has room");
        }
        recovery.write_marks(config, &engine, || HighWater::of(&index, clock.now()));
        Ok(Opened { recovery, engine, index, epoch, report })
    }

    /// Repairs and opens a database that failed. Batches that were not acknowledged are cut off.
    pub(crate) fn reopen(&self, shared: &Shared) -> Result<Engine, StoreError> {
        if disk_is_full(&shared.config.path) {
            let held = read(&shared.index).bytes();
            self.ceiling.store(held, Ordering::Release);
            *lock(&self.ballast_tried) = Instant::now();
            tracing::error!(
                held,
                "the disk is full; the ballast is let go and the logs hold no more than they do now"
            );
            self.ballast.release();
        }
        let mut report = RecoveryReport::default();
        let upto = shared.committed_upto.load(Ordering::Acquire);
        let engine = open_engine(&shared.config, &self.pack_files, &[], Some(upto), &mut report)?;
        let mut found = RecoveryReport::default();
        let there = load::index(&engine, &mut found)?;
        for (id, queue) in &read(&shared.index).queues {
            let tail = there.queues.get(id).map_or(Offset(0), |queue| queue.tail);
            if tail < queue.tail {
                report.lose(Loss { queue: Some(id.clone()), from: tail, messages: queue.tail.0 - tail.0 });
            }
        }
        tracing::warn!(report = %report, "the database was opened again");
        Ok(engine)
    }

    /// At the end: no pack file is longer than it need be.
    pub(crate) fn let_go_of_pack_files(&self) {
        if let Err(error) = self.pack_files.close() {
            tracing::warn!(%error, "pack files keep some space that they do not need until the next start");
        }
    }

    /// Before a group of so many bytes is written: the logs take no more after it when the disk comes short of room.
    pub(crate) fn watch_room(&self, shared: &Shared, engine: &Engine, bytes: u64) {
        // The next group is planned before it can be looked at, and may be a full one.
        if lock(&self.watch).has_room(&shared.config.path, engine, bytes, GROUP_BYTES_MAX as u64) {
            return;
        }
        let held = read(&shared.index).bytes();
        if !self.is_short() {
            tracing::warn!(held, "the disk is nearly full; the logs hold no more than they do now");
            *lock(&self.ballast_tried) = Instant::now();
        }
        // Also when it was short before: what was given up since has not come back to the disk yet.
        self.ceiling.fetch_min(held.saturating_add(bytes), Ordering::AcqRel);
    }

    /// Whether the disk is short of room and its journals can be let go. If memory cannot even be written to tables for
    /// that, this is what the ballast is for.
    pub(crate) fn wants_journals_emptied(&self, shared: &Shared) -> bool {
        if !self.is_short() || !room::is_worth_emptying(&database_path(&shared.config.path)) {
            return false;
        }
        let has_room = |engine: &Engine| room::has_room(&shared.config.path, engine, 0);
        let can = || read(&shared.engine).as_ref().is_some_and(has_room);
        if can() {
            return true;
        }
        self.ballast.release();
        *lock(&self.ballast_tried) = Instant::now();
        can()
    }

    /// Lets the logs grow again if there is room for a while: for more than a full group.
    pub(crate) fn lift(&self, shared: &Shared) {
        let more = GROUP_BYTES_MAX as u64 * 5 / 4;
        let has_room = |engine: &Engine| room::has_room(&shared.config.path, engine, more);
        if read(&shared.engine).as_ref().is_some_and(has_room) {
            self.ceiling.store(u64::MAX, Ordering::Release);
            tracing::info!("the disk has room again");
        }
    }

    fn is_short(&self) -> bool {
        self.ceiling() != u64::MAX
    }

    /// The bound on all logs, which is lower while the disk is full.
    pub(crate) fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Acquire)
    }

    /// Keeps what recovery will compare with. Called once a second, when queues went, and at the end.
    pub(crate) fn keep_marks(&self, shared: &Shared) {
        if self.is_short() && lock(&self.ballast_tried).elapsed() >= BALLAST_PATIENCE {
            *lock(&self.ballast_tried) = Instant::now();
            if self.ballast.take().is_ok() && !disk_is_full(&shared.config.path) {
                self.lift(shared);
            }
        }
        // In a folder that is gone they would make it anew, and in another's they are out of place.
        if self.folder.check().is_err() {
            return;
        }
        if let Some(engine) = read(&shared.engine).as_ref() {
            self.write_marks(&shared.config, engine, || {
                HighWater::of(&read(&shared.index), shared.clock.now())
            });
        }
    }

    /// `how_far` is asked only when nobody else writes marks, so that an older answer never follows a newer one; and its
    /// locks are gone when the disk is waited for.
    fn write_marks(&self, config: &StoreConfig, engine: &Engine, how_far: impl FnOnce() -> HighWater) {
        let mut marks = lock(&self.marks);
        let mut written = lock(&self.keyspaces_written);
        let count = engine.queue_list().len();
        let how_far = how_far();
        let result = marks.write_high_water(how_far).and_then(|()| {
            if *written != count {
                marks.write_keyspaces(engine, &config.path)?;
                *written = count;
            }
            Ok(())
        });
        let failed_before = self.marks_failed.swap(result.is_err(), Ordering::AcqRel);
        match result {
            Err(error) if !failed_before => tracing::warn!(
                folder = %config.path.display(),
                %error,
                "the marks could not be written; a loss by the disk might go unnoticed until they are"
            ),
            Ok(()) if failed_before => {
                tracing::info!(folder = %config.path.display(), "the marks are written again");
            }
            _ => {}
        }
    }

    pub(crate) fn patience_before_reopen(&self) -> Duration {
        REOPEN_PATIENCE
    }
}

/// Repairs the files of the database and opens it.
fn open_engine(
    config: &StoreConfig,
    pack_files: &Arc<PackFiles>,
    known: &[u64],
    unacknowledged: Option<u64>,
    report: &mut RecoveryReport,
) -> Result<Engine, StoreError> {
    let mut outcome = Err(StoreError::Closed);
    for depth in [Depth::Quick, Depth::Thorough] {
        prepare(config, known, depth, unacknowledged, report)?;
        // IMPORTANT: only now, when the journal names nothing of what failed commits wrote to pack files, or else a store
        // that ends here takes that for lost when it is opened; and before anything is looked for in them.
        let cut = pack_files.let_go();
        cut.map_err(|error| StoreError::file("cut the pack files in", pack_files.folder(), &error))?;
        outcome = try_open(config, pack_files);
        match outcome {
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, ?depth, "the database does not open as it is");
                outcome = Err(error);
            }
            Err(error) => return Err(error),
            Ok(engine) => {
                packs::restore(&engine, &aside_path(&config.path), report)?;
                return Ok(engine);
            }
        }
    }
    // Nothing helped. A store that refuses to open for ever would stop the edge; what is there is kept for people.
    let Err(error) = outcome else { return outcome };
    let path = database_path(&config.path);
    let aside = free_name(&aside_path(&config.path), "db");
    fs::create_dir_all(aside_path(&config.path))
        .and_then(|()| fs::rename(&path, &aside))
        .map_err(|io| StoreError::file("put aside", &path, &io))?;
    report.damage(format!(
        "the database could not be opened ({error}); it was put aside and an empty one was made"
    ));
    report.copies.push(aside);
    // An empty database numbers its keyspaces from the beginning again; their pack files must not be those of others.
    packs::put_aside(pack_files.folder(), &aside_path(&config.path), report)?;
    pack_files.make_folder().map_err(|error| StoreError::file("make", pack_files.folder(), &error))?;
    try_open(config, pack_files)
}

/// Whether an error may come from damaged files, so that repairing them can help.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Database { .. })
        || matches!(
            error,
            StoreError::File { kind: io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof, .. }
        )
}

fn try_open(config: &StoreConfig, pack_files: &Arc<PackFiles>) -> Result<Engine, StoreError> {
    // The database panics on some kinds of damage. Nothing of it is used after that.
    catch_unwind(AssertUnwindSafe(|| Engine::open(config, Arc::clone(pack_files))))
        .unwrap_or_else(|_| Err(StoreError::Database { what: "open", reason: "it ended in a panic".into() }))
}

fn aside_path(store: &Path) -> PathBuf {
    store.join("damaged")
}

fn free_name(folder: &Path, name: &str) -> PathBuf {
    let first = folder.join(name);
    (0_u32..).map(|n| folder.join(format!("{name}.{n}"))).find(|path| !path.exists()).unwrap_or(first)
}

/// Everything that is checked before the database sees its own files.
fn prepare(
    config: &StoreConfig,
    known: &[u64],
    depth: Depth,
    unacknowledged: Option<u64>,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let folder = database_path(&config.path);
    let fault = |error: io::Error| StoreError::file("repair", &folder, &error);
    if !folder.exists() {
        return Ok(());
    }
    let aside = aside_path(&config.path);
    let keyspaces = folder.join("keyspaces");
    let names = keyspaces.join("0");
    let marker = folder.join("version");
    let has_marker = fs::read(&marker).is_ok_and(|found| found == DATABASE_VERSION);
    if !has_marker && !names.join("current").exists() && known.is_empty() {
        // Cut off while it was made for the first time: there was never anything in it.
        return fs::remove_dir_all(&folder).map_err(fault);
    }
    fs::create_dir_all(&keyspaces).map_err(fault)?;
    if !has_marker {
        report.damage(format!("{} was missing or broken and was written again", marker.display()));
        File::create(&marker)
            .and_then(|mut file| file.write_all(DATABASE_VERSION).and_then(|()| file.sync_all()))
            .map_err(fault)?;
    }
    let copy = marks::copy_path(&config.path);
    if !tables::is_whole(&names).map_err(fault)? && tables::is_whole(&copy).map_err(fault)? {
        report.damage("the names of the keyspaces were damaged and were taken from the copy".to_owned());
        fs::create_dir_all(&aside).map_err(fault)?;
        if names.exists() {
            let kept = free_name(&aside, "keyspace-0");
            fs::rename(&names, &kept).map_err(fault)?;
            report.copies.push(kept);
        }
        marks::copy_folder(&copy, &names).map_err(fault)?;
    }
    tables::repair(&folder, &aside, known, depth, report)?;
    journal::repair(&folder, &aside, unacknowledged, report)
}

/// Compares what is there with how far the store had come.
fn compare(index: &mut Index, remembered: &Remembered, report: &mut RecoveryReport) {
    let Some(mark) = &remembered.high_water else { return };
    for (id, queue) in &mut index.queues {
        let Some(tail) = mark.tail(id).filter(|tail| *tail > queue.tail) else { continue };
        report.lose(Loss { queue: Some(id.clone()), from: queue.tail, messages: tail.0 - queue.tail.0 });
        // No offset is given twice: the queue goes on where it had been, and readers count the rest as unreadable.
        queue.tail = tail;
        queue.open.end = tail;
        queue.dirty += 1;
    }
    if let Some(messages) = mark.appended.checked_sub(index.appended()).filter(|messages| *messages > 0) {
        report.lose(Loss { queue: None, from: Offset(0), messages });
    }
}

/// A clock that is behind its own past was reset, as on boards without a battery. What is stored is judged as if no
/// time had passed while the host was off.
fn clock_went_back(index: &mut Index, remembered: &Remembered, now: UnixMillis) {
    let Some(mark) = &remembered.high_water else { return };
    let back = mark.wall.0.saturating_sub(now.0);
    if back > CLOCK_BACK_MS {
        tracing::warn!(
            back_ms = back,
            "the wall clock is behind its last mark; what is stored keeps the life it had left"
        );
        let millis = i64::try_from(back).unwrap_or(i64::MAX);
        index.queues.values_mut().for_each(|queue| queue.clock_stepped(-millis));
    }
}

fn disk_is_full(store: &Path) -> bool {
    const PROBE_BYTES: usize = 256 << 10;
    let path = store.join("probe");
    let written = File::create(&path)
        .and_then(|mut file| file.write_all(&vec![1; PROBE_BYTES]).and_then(|()| file.sync_all()));
    // The probe is of no use whether it was written or not.
    let _ = fs::remove_file(&path);
    written
        .is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn epoch(engine: &Engine, redraw: bool, report: &mut RecoveryReport) -> Result<u64, StoreError> {
    let stored = engine.meta.get("epoch").map_err(fault("read its epoch"))?;
    let stored = stored.and_then(|value| value.as_ref().try_into().ok().map(u64::from_le_bytes));
    if let Some(epoch) = stored.filter(|_| !redraw) {
        return Ok(epoch);
    }
    report.epoch_redrawn = stored.is_some();
    let epoch = draw();
    engine.meta.insert("epoch", epoch.to_le_bytes()).map_err(fault("write its epoch"))?;
    engine.sync()?;
    Ok(epoch)
}

/// A number that no other life of a store has. The standard library's hash keys come from the operating system's
/// random source, which is all that is needed here.
pub(crate) fn draw() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
