//! What the store has been asked to record of acknowledgements, and what became of it.

use holdfast_broker::Refused;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the store has been asked to record of acknowledgements, and what became of it.
#[derive(Default)]
pub(crate) struct Records {
    state: Mutex<RecordState>,
    pub(crate) bell: Notify,
}

#[derive(Default)]
struct RecordState {
    pending: usize,
    failed: Option<Refused>,
}

impl Records {
    fn state(&self) -> MutexGuard<'_, RecordState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why something was not recorded, if so. Told once.
    pub(crate) fn take_fault(&self) -> Option<Refused> {
        self.state().failed.take()
    }

    pub(crate) fn asked(&self) {
        self.state().pending += 1;
    }

    pub(crate) fn answered(&self, result: Result<(), Refused>) {
        let mut state = self.state();
        state.pending -= 1;
        let ring = state.pending == 0 || result.is_err();
        if let Err(refused) = result {
            state.failed.get_or_insert(refused);
        }
        drop(state);
        if ring {
            self.bell.notify_one();
        }
    }

    /// Waits until all that was asked for is recorded, or was not.
    pub(crate) async fn are_settled(&self) {
        while self.state().pending > 0 {
            self.bell.notified().await;
        }
    }
}
