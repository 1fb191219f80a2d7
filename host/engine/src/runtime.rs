//! wasmtime, configured once for all modules.

use crate::config::Profile;
use crate::error::EngineError;
use crate::host::Host;
use crate::imports;
use crate::outgoing::Outgoing;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, MemoryType, Store, WasmFeatures};

/// How often running calls are looked at. A deadline is kept to within two ticks, and a call that computes gives way to
/// others each tick.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How many ticks without a busy module it takes until the thread sleeps: waking it costs microseconds, which a module
/// with a message now and then should not pay each time.
const IDLE_TICKS: u32 = 100;

/// How long it sleeps at most before it looks whether the runtime is still there.
const ASLEEP_MAX: Duration = Duration::from_secs(5);

/// Address space of one linear memory where there is plenty: the whole of what a 32-bit module can address, so that no
/// access needs a check.
const RESERVATION_FULL: u64 = 4 << 30;

/// Stack that is left to the host when a module has used up its own.
const HOST_STACK: usize = 256 * 1024;

/// How many such memories must fit side by side before they are used: a hundred modules, half of them being swapped.
const RESERVATIONS_PROBED: usize = 160;

/// The engine, the imports and the clock that all modules share.
#[derive(Clone)]
pub(crate) struct Runtime {
    engine: Engine,
    linker: Arc<Linker<Host>>,
    clock: Arc<TickClock>,
    shape: Shape,
    outgoing: Option<Arc<dyn Outgoing>>,
}

/// What compiled code depends on, beside the version and the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) profile: Profile,
    /// Whether address space is reserved for each memory.
    pub(crate) reserves: bool,
}

/// Counts ticks while any module is busy. While none is, its thread sleeps, so that an idle device does.
#[derive(Debug, Default)]
struct TickClock {
    ticks: AtomicU32,
    /// How many tasks are inside a module, or about to be.
    busy: AtomicU32,
    /// The thread sleeps, or is about to.
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl TickClock {
    /// Sleeps unless someone is busy. Gives up the sleep from time to time to see whether the runtime is still there.
    fn sleep(&self) {
        // IMPORTANT: whoever becomes busy raises `busy` and then looks at `asleep`; we raise `asleep` and then look at
        // `busy`. In this order, and sequentially consistent, at least one sees the other.
        self.asleep.store(true, Ordering::SeqCst);
        if self.busy.load(Ordering::SeqCst) == 0 {
            std::thread::park_timeout(ASLEEP_MAX);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// Held while a module may be inside a call: deadlines are watched meanwhile.
pub(crate) struct Busy(Arc<TickClock>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Runtime {
    pub(crate) fn new(
        profile: Profile,
        stack_bytes: usize,
        outgoing: Option<Arc<dyn Outgoing>>,
    ) -> Result<Self, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Runtime(format!("{error:#}"));
        let (engine, reserves) = engine(profile, stack_bytes).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(refused)?;
        let shape = Shape { profile, reserves };
        Ok(Self { engine, linker: Arc::new(linker), clock: Arc::default(), shape, outgoing })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) const fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn linker(&self) -> &Linker<Host> {
        &self.linker
    }

    /// What opens connections for modules.
    pub(crate) fn outgoing(&self) -> Option<Arc<dyn Outgoing>> {
        self.outgoing.clone()
    }

    /// A deadline that is `limit` away.
    pub(crate) fn deadline(&self, limit: Duration) -> Deadline {
        let mut deadline = Deadline { clock: self.clock.clone(), start: 0, limit: 0 };
        deadline.set_limit(limit);
        deadline.renew();
        deadline
    }

    /// Calls into modules follow.
    pub(crate) fn busy(&self) -> Busy {
        self.clock.busy.fetch_add(1, Ordering::SeqCst);
        if self.clock.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.clock.thread.get()
        {
            thread.unpark();
        }
        Busy(self.clock.clone())
    }

    /// Starts the thread that ticks. It ends when every clone of this runtime is gone.
    pub(crate) fn tick(&self) -> Result<(), EngineError> {
        let engine = self.engine.weak();
        let clock = Arc::downgrade(&self.clock);
        let ticking = move || {
            let mut idle = 0;
            while let (Some(engine), Some(clock)) = (engine.upgrade(), clock.upgrade()) {
                clock.ticks.fetch_add(1, Ordering::Relaxed);
                engine.increment_epoch();
                drop(engine);
                idle = if clock.busy.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    clock.sleep();
                } else {
                    drop(clock);
                    std::thread::sleep(TICK);
                }
            }
        };
        let thread = std::thread::Builder::new().name("module-ticks".to_owned()).stack_size(128 * 1024);
        let thread = thread.spawn(ticking).map_err(|error| EngineError::Thread(error.to_string()))?;
        self.clock.thread.get_or_init(|| thread.thread().clone());
        Ok(())
    }
}

/// When the running call must have ended, in ticks.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    clock: Arc<TickClock>,
    start: u32,
    limit: u32,
}

impl Deadline {
    /// Starts again: `limit` ticks from now.
    pub(crate) fn renew(&mut self) {
        self.start = self.clock.ticks.load(Ordering::Relaxed);
    }

    /// This moment, in ticks.
    pub(crate) fn now(&self) -> u32 {
        self.clock.ticks.load(Ordering::Relaxed)
    }

    /// The time since then does not count: the call has waited for others.
    pub(crate) fn leave_out_since(&mut self, then: u32) {
        self.start = self.start.wrapping_add(self.now().wrapping_sub(then));
    }

    /// So much of the time does not count: the call rests because its module computes too much.
    pub(crate) fn leave_out(&mut self, time: Duration) {
        let ticks = time.as_millis().div_ceil(TICK.as_millis());
        self.start = self.start.wrapping_add(u32::try_from(ticks).unwrap_or(u32::MAX / 2));
    }

    /// Gives the next calls another limit.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis());
        self.limit = u32::try_from(ticks).unwrap_or(u32::MAX / 2).min(u32::MAX / 2);
    }

    /// Whether the time is up. One tick is given on top, since the first may be short.
    pub(crate) fn is_over(&self) -> bool {
        // The start is ahead of the clock while time that was left out has not passed yet.
        let passed = self.clock.ticks.load(Ordering::Relaxed).wrapping_sub(self.start);
        passed > self.limit && passed <= u32::MAX / 2
    }
}

fn engine(profile: Profile, stack_bytes: usize) -> wasmtime::Result<(Engine, bool)> {
    let settings = |reservation| {
        let mut config = settings(profile, reservation);
        // What the host does within a call takes place on the same stack.
        config.max_wasm_stack(stack_bytes).async_stack_size(stack_bytes + HOST_STACK);
        config
    };
    let small = profile == Profile::Small || cfg!(target_pointer_width = "32");
    if !small
        && let Ok(engine) = Engine::new(&settings(Some(RESERVATION_FULL)))
        && fits(&engine)
    {
        return Ok((engine, true));
    }
    Ok((Engine::new(&settings(None))?, false))
}

/// An engine of a shape, to compile for another process.
pub(crate) fn compiling_engine(profile: Profile, reserves: bool) -> wasmtime::Result<Engine> {
    Engine::new(&settings(profile, reserves.then_some(RESERVATION_FULL)))
}

/// Whether the address space holds as many memories as modules may come: some ARM kernels have 39 bits of it.
fn fits(engine: &Engine) -> bool {
    let mut store = Store::new(engine, ());
    (0..RESERVATIONS_PROBED)
        .all(|_| wasmtime::Memory::new(&mut store, MemoryType::new(0, Some(1 << 16))).is_ok())
}

fn settings(profile: Profile, reservation: Option<u64>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // WASI 0.2 has no concurrent calls into a component; leaving them out makes each call faster.
    config.concurrency_support(false);
    // Shared memory and memories of 64 bits have no bound that the limits here could keep.
    config.wasm_features(WasmFeatures::THREADS | WasmFeatures::MEMORY64, false);
    config.epoch_interruption(true);
    config.wasm_backtrace_max_frames(None);
    match reservation {
        Some(bytes) => config.memory_reservation(bytes),
        // Small steps: a module that grows moves rather than holding address space it may never use.
        None => config
            .memory_reservation(0)
            .memory_reservation_for_growth(256 * 1024)
            .memory_guard_size(64 * 1024),
    };
    if profile == Profile::Small {
        config.parallel_compilation(false);
    }
    config
}
