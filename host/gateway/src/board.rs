//! Where the broker leaves the fates of messages for the task of their connection.

use holdfast_broker::{Receipt, Refused};
use holdfast_mqtt::{
    ReasonCode,
    server::{Outcome, Ticket},
};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Fates of messages. The thread that commits writes them, many in a row; the connection is woken by the first of them
/// and takes all that are there.
#[derive(Default)]
pub(crate) struct Board {
    settled: Mutex<Vec<(Ticket, Outcome)>>,
    /// Promises whose record was awaited, and whether it was made.
    kept: Mutex<Vec<(u64, bool)>>,
    written: Notify,
}

impl Board {
    pub(crate) fn settle(&self, ticket: Ticket, result: &Result<Receipt, Refused>) {
        let outcome = outcome(result);
        let first = {
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            settled.push((ticket, outcome));
            settled.len() == 1
        };
        if first {
            self.written.notify_one();
        }
    }

    /// The same for many.
    pub(crate) fn settle_many(&self, fates: Vec<(Ticket, Outcome)>) {
        let first = {
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = settled.is_empty();
            settled.extend(fates);
            was_empty && !settled.is_empty()
        };
        if first {
            self.written.notify_one();
        }
    }

    /// What a promise waits for is recorded, or never will be.
    pub(crate) fn keep(&self, promise: u64, recorded: bool) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((promise, recorded));
        self.written.notify_one();
    }

    /// Takes what became of promises.
    pub(crate) fn take_kept(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there are fates to take. Cancel safe.
    pub(crate) async fn written(&self) {
        self.written.notified().await;
    }

    /// Takes what is there; `into` is empty and gives its memory.
    pub(crate) fn take(&self, into: &mut Vec<(Ticket, Outcome)>) {
        std::mem::swap(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

fn outcome(result: &Result<Receipt, Refused>) -> Outcome {
    match result {
        Ok(_) => Outcome::Taken,
        Err(
            Refused::BodyTooLarge { .. }
            | Refused::TooManyProperties { .. }
            | Refused::TooManyHops { .. }
            | Refused::TooManyPending { .. }
            | Refused::Expired
            | Refused::NoRoom
            | Refused::CannotBeRecorded(_),
        ) => Outcome::Refused(ReasonCode::QuotaExceeded),
        // Not sayable in an acknowledgement: the connection ends, and the client sends again on the next one.
        Err(Refused::NotRecorded(_)) => Outcome::Refused(ReasonCode::ServerBusy),
        Err(Refused::Stopping) => Outcome::Refused(ReasonCode::ServerShuttingDown),
    }
}
