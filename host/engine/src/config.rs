//! What the engine is told when it is built, and the limits that each module starts with.

use crate::compiler::Compiler;
use crate::outgoing::Outgoing;
use crate::plugins::Source;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How much memory the engine may plan with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Address space is reserved where there is plenty of it, which makes modules faster.
    #[default]
    Standard,
    /// Nothing is reserved ahead; smaller stacks, inboxes and logs. Modules that work on much memory are slower.
    Small,
}

/// Everything the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The folder that is watched for `name.wasm` and `name.toml`.
    pub plugins_dir: PathBuf,
    /// Where compiled code is kept. Made with mode 0700 if it is absent.
    pub cache_dir: PathBuf,
    /// Most bytes of compiled code that are kept; the oldest that no module uses go first.
    pub cache_bytes_max: u64,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// How much memory may be planned with.
    pub profile: Profile,
    /// Limits of a module that sets none of its own.
    pub limits: Limits,
    /// Most bytes of stack of a call. The one bound that is the same for all modules: wasmtime has one for each engine.
    pub stack_bytes: usize,
    /// Waiting times between restarts.
    pub backoff: Backoff,
    /// How long a file must keep its size and time of change before it is read: a copy in progress is waited for.
    pub settle: Duration,
    /// How often the plugins folder is looked through when no notice of a change came: a safety net for file systems
    /// that give none.
    pub rescan: Duration,
    /// How long modules may take to stop, all together.
    pub stop_grace: Duration,
    /// Opens connections for modules; without it they have none.
    pub outgoing: Option<Arc<dyn Outgoing>>,
    /// Fetches modules whose settings name a registry; without it they are refused.
    pub source: Option<Arc<dyn Source>>,
}

impl EngineConfig {
    /// The defaults of a profile for these two folders.
    pub fn new(plugins_dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>, profile: Profile) -> Self {
        Self {
            plugins_dir: plugins_dir.into(),
            cache_dir: cache_dir.into(),
            cache_bytes_max: match profile {
                Profile::Standard => 512 * MIB,
                Profile::Small => 64 * MIB,
            },
            compiler: Compiler::default(),
            profile,
            limits: Limits::of(profile),
            stack_bytes: match profile {
                Profile::Standard => 512 * 1024,
                Profile::Small => 192 * 1024,
            },
            backoff: Backoff::default(),
            settle: Duration::from_millis(100),
            rescan: Duration::from_millis(500),
            stop_grace: Duration::from_secs(10),
            outgoing: None,
            source: None,
        }
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// The bounds of one module. Each can be set in `[limits]` of its `name.toml` under the name of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of linear memory, all memories of the component together. A growth beyond it is refused, which most
    /// languages answer with a trap.
    pub memory_bytes: u64,
    /// Longest time for one call of `handle`, `fire` or `stop`, in milliseconds. A call that takes longer is ended.
    pub call_ms: u32,
    /// Longest time for instantiation and `start`, in milliseconds; large language engines need seconds.
    pub start_ms: u32,
    /// Most messages that are read ahead and handled as one turn (one record in the store).
    pub inbox_messages: u32,
    /// Most turns that wait for the disk at a time; reached, the module waits too.
    pub turns_in_flight: u32,
    /// Most messages that one call may send.
    pub sends: u32,
    /// Most bytes that one call may send, counted as IoT Hub counts the size of a message.
    pub send_bytes: u64,
    /// Most bytes of durable state, keys and values together.
    pub state_bytes: u64,
    /// Most timers at a time.
    pub timers: u32,
    /// Most metrics of its own.
    pub metrics: u32,
    /// Most log lines per second; further ones are counted and dropped.
    pub log_lines_per_s: u32,
    /// Most bytes of log lines per second; further lines are counted and dropped.
    pub log_bytes_per_s: u64,
    /// Most of the time of one processor, in percent; a module that computes more is slowed.
    pub cpu_percent: u32,
    /// Most messages handled per second; further ones wait in the module's log.
    pub messages_in_per_s: u32,
    /// Most bytes of messages handled per second; further ones wait in the module's log.
    pub bytes_in_per_s: u64,
    /// Most messages sent per second; a module that sends more is slowed.
    pub messages_out_per_s: u32,
    /// Most bytes sent per second; a module that sends more is slowed.
    pub bytes_out_per_s: u64,
    /// Most connections to other machines at a time.
    pub connections: u32,
    /// Most HTTP requests that it answers at a time; further ones are answered with 503.
    pub http_requests: u32,
    /// Most bytes of the body of a request.
    pub http_body_bytes: u64,
    /// Longest time for an answer to a request, its body included, in milliseconds.
    pub http_ms: u32,
    /// How many times a message may fail before it becomes a dead letter.
    pub attempts: u32,
    /// The wait before a failed message is tried again, in milliseconds; doubled each time, at most 30 s.
    pub retry_ms: u32,
    /// Most core instances in the component (its own parts and the glue between them).
    pub instances: u32,
    /// Most tables, and most elements in each.
    pub tables: u32,
    /// Most elements in one table.
    pub table_elements: u32,
    /// Most linear memories.
    pub memories: u32,
}

impl Limits {
    /// The defaults of a profile.
    pub const fn of(profile: Profile) -> Self {
        let standard = Self {
            memory_bytes: 64 * MIB,
            call_ms: 1_000,
            start_ms: 10_000,
            inbox_messages: 64,
            turns_in_flight: 8,
            sends: 1_024,
            send_bytes: 16 * MIB,
            state_bytes: MIB,
            timers: 32,
            metrics: 64,
            log_lines_per_s: 200,
            log_bytes_per_s: 64 * KIB,
            connections: 16,
            http_requests: 16,
            http_body_bytes: MIB,
            http_ms: 30_000,
            cpu_percent: 100,
            messages_in_per_s: 1_000_000,
            bytes_in_per_s: 1024 * MIB,
            messages_out_per_s: 1_000_000,
            bytes_out_per_s: 1024 * MIB,
            attempts: 5,
            retry_ms: 100,
            instances: 64,
            tables: 64,
            table_elements: 100_000,
            memories: 8,
        };
        match profile {
            Profile::Standard => standard,
            Profile::Small => Self {
                memory_bytes: 16 * MIB,
                inbox_messages: 16,
                turns_in_flight: 4,
                sends: 256,
                send_bytes: MIB,
                state_bytes: 256 * KIB,
                log_lines_per_s: 50,
                log_bytes_per_s: 16 * KIB,
                metrics: 16,
                connections: 4,
                http_requests: 4,
                http_body_bytes: 64 * KIB,
                cpu_percent: 50,
                messages_in_per_s: 10_000,
                bytes_in_per_s: 16 * MIB,
                messages_out_per_s: 10_000,
                bytes_out_per_s: 16 * MIB,
                ..standard
            },
        }
    }
}

/// Waiting times between restarts of a module that cannot start or fails again and again (IoT Edge: agent, restart
/// policies).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first restart; doubled each time.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
    /// After so many restarts the module is `failed` and waits for an operator or a new file.
    pub restarts_max: u32,
    /// A module that has run for so long without a failure starts counting from nothing.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            restarts_max: 20,
            healthy_after: Duration::from_secs(600),
        }
    }
}
