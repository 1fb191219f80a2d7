//! One answer for a message that several places must take before it may be acknowledged.

use super::{
    admission::{Receipt, Refused},
    publish::Done,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

/// Calls back once, when every part has been told of.
pub(crate) struct Pending {
    parts: AtomicU32,
    state: Mutex<State>,
}

struct State {
    receipt: Receipt,
    refused: Option<Refused>,
    done: Option<Done>,
}

impl Pending {
    /// One part is open from the start: the caller's own, which it ends with [`Pending::part_done`] when it has opened
    /// all others.
    pub(crate) fn new(receipt: Receipt, done: Done) -> Arc<Self> {
        Arc::new(Self {
            parts: AtomicU32::new(1),
            state: Mutex::new(State { receipt, refused: None, done: Some(done) }),
        })
    }

    /// Opens one more part.
    pub(crate) fn open_part(self: &Arc<Self>) -> Arc<Self> {
        self.parts.fetch_add(1, Ordering::AcqRel);
        self.clone()
    }

    /// Ends a part. `note` may change the receipt; the first refusal is the answer.
    pub(crate) fn part_done(&self, result: Result<(), Refused>, note: impl FnOnce(&mut Receipt)) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut state.receipt);
            if let Err(refused) = result {
                state.refused.get_or_insert(refused);
            }
        }
        if self.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            let (done, answer) = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = match state.refused.take() {
                    Some(refused) => Err(refused),
                    None => Ok(state.receipt),
                };
                (state.done.take(), answer)
            };
            if let Some(done) = done {
                done(answer);
            }
        }
    }
}
