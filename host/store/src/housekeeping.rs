//! The second thread: what need not happen before an acknowledgement. It drops tables and pack files, syncs what the
//! database was told of those, keeps the marks of recovery
//! fresh, and bounds the memory of queues that went quiet.

use crate::{
    config::StoreConfig,
    engine::{Engine, fault},
    error::StoreError,
    fjall_compat,
    record::key,
    shared::Shared,
    sync::{lock, read},
};
use holdfast_types::{Offset, QueueId};
use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often the marks are written when there is traffic: loss of at most this much goes unnoticed by the high-water
/// mark, and only if the journal that holds it is lost as well.
const ROUND: Duration = Duration::from_secs(1);

/// Between two rounds of dropping. Each drop writes the manifest of its queue anew, with several fsyncs, and readers
/// of that queue wait for it; half a second of consumption is dropped at once instead.
const DROP_PATIENCE: Duration = Duration::from_millis(500);

/// Memtables together are held below this many times the bound of one: the busiest queues keep theirs, quiet ones are
/// written to tables.
const MEMTABLES_MAX: u64 = 3;

#[derive(Debug)]
pub(crate) enum Work {
    /// Segments of this queue are of no more use.
    Drop(QueueId),
}

#[derive(Debug, Default)]
struct Todo {
    /// A queue stands here at most once, so this is bounded by the number of queues.
    shrunk: BTreeSet<QueueId>,
    stop: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    todo: Mutex<Todo>,
    called: Condvar,
}

impl Housekeeping {
    pub(crate) fn ask(&self, work: Work) {
        let mut todo = lock(&self.todo);
        match work {
            Work::Drop(queue) => {
                todo.shrunk.insert(queue);
            }
        }
        self.called.notify_one();
    }

    pub(crate) fn stop(&self) {
        lock(&self.todo).stop = true;
        self.called.notify_one();
    }

    /// Waits for so long, unless it is to stop.
    fn pause(&self, time: Duration) {
        let todo = lock(&self.todo);
        // Whether it ended early is seen by who looks next.
        drop(self.called.wait_timeout_while(todo, time, |todo| !todo.stop));
    }

    fn next(&self) -> Todo {
        let todo = lock(&self.todo);
        let idle = |todo: &mut Todo| todo.shrunk.is_empty() && !todo.stop;
        let mut todo =
            self.called.wait_timeout_while(todo, ROUND, idle).unwrap_or_else(PoisonError::into_inner).0;
        let stop = todo.stop;
        Todo { stop, ..std::mem::take(&mut todo) }
    }
}

/// Runs until it is stopped.
pub(crate) fn run(shared: &Shared) {
    let mut round = Instant::now();
    loop {
        let todo = shared.housekeeping.next();
        if todo.stop {
            return;
        }
        for queue in &todo.shrunk {
            warn_on_fault("give space back", shared.with_engine(|engine| drop_dead(shared, engine, queue)));
        }
        if !todo.shrunk.is_empty() {
            shared.housekeeping.pause(DROP_PATIENCE);
        }
        if round.elapsed() < ROUND {
            continue;
        }
        round = Instant::now();
        shared.recovery.folder.look();
        // Once in a round all queues: memtables that were written since hold what was passed before.
        let queues: Vec<QueueId> = read(&shared.index).queues.keys().cloned().collect();
        for queue in &queues {
            let work = |engine: &Engine| {
                drop_dead(shared, engine, queue).and_then(|()| renew_newest(shared, engine, queue))
            };
            warn_on_fault("give space back", shared.with_engine(work));
        }
        // IMPORTANT: before the marks, which count what is on disk by the database's own word.
        warn_on_fault("sync its journal", shared.with_engine(|engine| sync_journal(shared, engine)));
        warn_on_fault("bound its memory", shared.with_engine(|engine| bound_memory(&shared.config, engine)));
        shared.recovery.keep_marks(shared);
    }
}

fn warn_on_fault(what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the store could not {what}; it tries again later");
    }
}

/// Drops the tables and pack files of what the index no longer holds. The cursor or the removal of the segment is on disk before this
/// is asked for: a crash in between leaves tables, never a hole.
pub(crate) fn drop_dead(shared: &Shared, engine: &Engine, queue: &QueueId) -> Result<(), StoreError> {
    let Some(keyspace) = engine.queue(queue) else { return Ok(()) };
    let ranges = read(&shared.index).queues.get(queue).map(|index| index.dead_ranges()).unwrap_or_default();
    for (from, to) in &ranges {
        fjall_compat::drop_range(&engine.db, &keyspace, &key(*from), &key(*to))
            .map_err(fault("drop a segment"))?;
    }
    let files = &engine.pack_files;
    let dropped = files.drop_dead(fjall_compat::keyspace_number(&keyspace), &ranges);
    dropped.map_err(|error| StoreError::file("delete the pack files in", files.folder(), &error))
}

/// Makes a small newest table where the newest is large and of no more use, so that the large one can go in the next
/// round. What is in it is a key between two offsets, below the cursor: no reader comes there.
fn renew_newest(shared: &Shared, engine: &Engine, queue: &QueueId) -> Result<(), StoreError> {
    let Some(keyspace) = engine.queue(queue) else { return Ok(()) };
    let cursor = read(&shared.index).queues.get(queue).map_or(Offset(0), |index| index.cursor);
    if cursor.0 == 0
        || !fjall_compat::keeps_too_much(&keyspace, &key(cursor), shared.config.memory.memtable_bytes())
    {
        return Ok(());
    }
    let between = [key(Offset(cursor.0 - 1)).as_slice(), &[0]].concat();
    engine
        .write_journal(0, || keyspace.insert(between, ""))
        .and_then(|()| fjall_compat::rotate(&keyspace))
        .map_err(fault("renew a table"))
}

fn sync_journal(shared: &Shared, engine: &Engine) -> Result<(), StoreError> {
    if !shared.unsynced.swap(false, Ordering::AcqRel) {
        return Ok(());
    }
    let synced = engine.sync_journal(&shared.config.path);
    shared.unsynced.fetch_or(synced.is_err(), Ordering::AcqRel);
    synced
}

fn bound_memory(config: &StoreConfig, engine: &Engine) -> Result<(), StoreError> {
    let bound = config.memory.memtable_bytes() * MEMTABLES_MAX;
    let mut total = fjall_compat::memtables_bytes(&engine.db);
    if total <= bound {
        return Ok(());
    }
    let mut queues: Vec<_> = engine.queue_list().into_iter().map(|(_, keyspace)| keyspace).collect();
    queues.sort_by_key(|keyspace| std::cmp::Reverse(fjall_compat::memtable_bytes(keyspace)));
    for keyspace in queues {
        if total <= bound {
            break;
        }
        total = total.saturating_sub(fjall_compat::memtable_bytes(&keyspace));
        fjall_compat::rotate(&keyspace).map_err(fault("write a memtable"))?;
    }
    Ok(())
}
