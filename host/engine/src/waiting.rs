//! Time in which a call into a module waits for others: it has bounds of its own and does not count as the call's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts that time for one instance. Clones count the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    passed: Duration,
    since: Option<Instant>,
}

/// Held while the module waits.
pub(crate) struct Wait(Waiting);

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A wait begins.
    pub(crate) fn begin(&self) -> Wait {
        self.state().since = Some(Instant::now());
        Wait(self.clone())
    }

    /// All of it so far, a wait that goes on included.
    pub(crate) fn total(&self) -> Duration {
        let state = self.state();
        state.passed + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(since) = state.since.take() {
            state.passed += since.elapsed();
        }
    }
}
