//! What is shown of a module, and where its parts write it.

use crate::logs::LogBook;
use crate::metrics::{Measured, Metrics};
use crate::usage::Usage;
use holdfast_types::{Text, UnixMillis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The state of a module, in IoT Edge's words (iot edge agent, runtime status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RuntimeStatus {
    /// Its file has been seen; it is being compiled or waits for its turn in the start order.
    #[default]
    Unknown,
    /// Handling messages.
    Running,
    /// Waiting before it is started again.
    Backoff,
    /// Stopped by an operator, by `status = "stopped"`, or because the host stops.
    Stopped,
    /// Given up: the file is no module, the restart policy says no, or it was restarted too often.
    Failed,
    /// A next version that runs on a copy of the traffic, beside the one that works; what it sends goes nowhere.
    Shadow,
}

impl RuntimeStatus {
    /// The word that tables and twins show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Shadow => "shadow",
        }
    }
}

/// What is known of one module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModuleStatus {
    /// The module: its file's name without `.wasm`.
    pub name: String,
    /// Its state.
    pub status: RuntimeStatus,
    /// Why it is in this state; empty when all is well.
    pub description: String,
    /// Why the newest file or settings could not take over; what ran before goes on meanwhile.
    pub refused: Option<String>,
    /// Why the version before the newest file runs: what ended the probation of the newest.
    pub rolled_back: Option<String>,
    /// When the version that runs took over from another.
    pub last_swap: Option<UnixMillis>,
    /// How long messages waited at the last swap of versions, in microseconds.
    pub swap_us: Option<u64>,
    /// How many times it was restarted after a failure since the host started.
    pub restarts: u32,
    /// The last failure, whether or not it was overcome.
    pub last_error: Option<String>,
    /// When it was last started.
    pub last_start: Option<UnixMillis>,
    /// When it last ended, by failure or command.
    pub last_exit: Option<UnixMillis>,
    /// Which loaded version runs; later ones have higher numbers. 0 until one does.
    pub version: u64,
    /// The SHA-256 of the file that runs, in hexadecimal; empty until one does.
    pub digest: String,
    /// Bytes of linear memory it holds now.
    pub memory_bytes: u64,
    /// The bound on `memory_bytes`.
    pub memory_bytes_max: u64,
    /// Messages handled since the host started.
    pub messages_in: u64,
    /// HTTP requests since the host started.
    pub requests: u64,
    /// Messages sent since the host started.
    pub messages_out: u64,
    /// Messages given up since the host started.
    pub dead_letters: u64,
    /// Messages that were too old when their turn came, since the host started.
    pub expired: u64,
    /// Messages that were read and are not handled yet; those that wait in the log are counted by the store.
    pub inbox: u64,
    /// Time spent computing inside the module since the host started, in microseconds.
    pub busy_us: u64,
    /// The share of one processor that it had in the last ten seconds, in thousandths.
    pub cpu_permille: u32,
    /// How often each limit or missing grant was met since the host started, by the name of the setting. Dropped log
    /// lines count one each.
    pub refusals: BTreeMap<&'static str, u64>,
    /// What the module measures of itself, since the host started.
    pub metrics: BTreeMap<String, Measured>,
    /// How a next version does beside the one that works; nothing for a module itself.
    pub shadow: Option<ShadowReport>,
}

/// What a next version did with a copy of the traffic, compared with what the version that works did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowReport {
    /// Calls in which both sent and answered the same.
    pub matched: u64,
    /// Calls in which they did not.
    pub differed: u64,
    /// Calls that it was not given, because it was too far behind.
    pub skipped: u64,
    /// The first differences, in words.
    pub differences: Vec<String>,
}

/// One module as the rest of the engine shares it.
#[derive(Debug)]
pub(crate) struct Shared {
    status: Mutex<ModuleStatus>,
    cpu: Mutex<Usage>,
    refused: Mutex<BTreeMap<&'static str, Instant>>,
    pub(crate) logs: LogBook,
    pub(crate) metrics: Metrics,
}

/// A limit that is not met for so long and then is met again begins another episode, and is told of again.
const EPISODE: Duration = Duration::from_secs(60);

impl Shared {
    pub(crate) fn new(name: &str, logs: LogBook) -> Self {
        let status = ModuleStatus { name: name.to_owned(), ..ModuleStatus::default() };
        let cpu = Mutex::new(Usage::new(Instant::now()));
        Self { status: Mutex::new(status), cpu, refused: Mutex::default(), logs, metrics: Metrics::default() }
    }

    /// The status, to read or to change. Held for field accesses only.
    pub(crate) fn status(&self) -> MutexGuard<'_, ModuleStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time it computes.
    pub(crate) fn cpu(&self) -> MutexGuard<'_, Usage> {
        self.cpu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `times` that a limit was met. Says whether that begins an episode.
    pub(crate) fn refuse(&self, limit: &'static str, times: u64, now: Instant) -> bool {
        *self.status().refusals.entry(limit).or_default() += times;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(limit, now).is_none_or(|last| now.saturating_duration_since(last) >= EPISODE)
    }

    /// The status at this moment, as it is shown.
    fn snapshot(&self) -> ModuleStatus {
        let (busy, cpu_permille) = {
            let mut cpu = self.cpu();
            (cpu.total(), cpu.permille(Instant::now()))
        };
        let busy_us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        ModuleStatus { busy_us, cpu_permille, metrics: self.metrics.all(), ..self.status().clone() }
    }
}

/// Every module that is known, for `list` and `logs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Mutex<BTreeMap<Text, Arc<Shared>>>>);

impl Registry {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Text, Arc<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn module(&self, name: &str) -> Option<Arc<Shared>> {
        self.all().get(name).cloned()
    }

    pub(crate) fn module_or(&self, name: &str, make: impl FnOnce() -> Shared) -> Arc<Shared> {
        self.all().entry(name.into()).or_insert_with(|| Arc::new(make())).clone()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.all().remove(name);
    }

    pub(crate) fn list(&self) -> Vec<ModuleStatus> {
        self.all().values().map(|shared| shared.snapshot()).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all().keys().map(|name| name.to_string()).collect()
    }
}

/// The wall clock, for what people read.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
