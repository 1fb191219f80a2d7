//! Time comes in from outside, and is not believed when it jumps.

use holdfast_types::UnixMillis;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the store gets the time from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> UnixMillis;

    /// Time since some fixed moment, by a clock that is never set. The store compares it with the wall clock: when the
    /// wall clock moves by much more, it was set, and what is stored keeps the life it had left. The default says that
    /// the wall clock is never set.
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }
}

/// The clock of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The clock of the operating system.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A wall clock that moves this much against the monotonic one was set: more than network time slews in a day of our
/// checks, less than any time to live that matters.
const STEP_MS: i64 = 5_000;

/// Watches for steps of the wall clock.
#[derive(Debug)]
pub(crate) struct StepWatch {
    wall: i64,
    monotonic: Duration,
}

impl StepWatch {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { wall: signed(clock.now().0), monotonic: clock.monotonic() }
    }

    /// The milliseconds that the wall clock was moved by since the last look, if it was moved at all.
    pub(crate) fn step(&mut self, clock: &dyn Clock) -> Option<i64> {
        let (wall, monotonic) = (signed(clock.now().0), clock.monotonic());
        let passed =
            signed(u64::try_from(monotonic.saturating_sub(self.monotonic).as_millis()).unwrap_or(u64::MAX));
        let step = wall.saturating_sub(self.wall.saturating_add(passed));
        (self.wall, self.monotonic) = (wall, monotonic);
        (step.abs() > STEP_MS).then_some(step)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
