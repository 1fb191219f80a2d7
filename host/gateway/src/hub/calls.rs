//! Method calls that clients have in hand.
//!
//! A call belongs to an identity, not to a connection: a device that connects anew for its next token may answer on the
//! new connection what it was asked on the old one. A call is forgotten when its caller has stopped waiting.

use holdfast_broker::MethodCall;
use holdfast_types::Identity;
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most calls that one client has in hand. One more ends the oldest, whose caller is told that the device is gone.
const CALLS_MAX: usize = 100;

#[derive(Default)]
pub(crate) struct Calls {
    by_client: Mutex<HashMap<Identity, Vec<(u64, MethodCall)>>>,
    next: AtomicU64,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Vec<(u64, MethodCall)>>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call; gives the identifier that its answer will bring.
    pub(super) fn keep(&self, identity: &Identity, call: MethodCall) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut all = self.lock();
        all.retain(|_, calls| {
            calls.retain(|(_, call)| !call.is_given_up());
            !calls.is_empty()
        });
        let calls = all.entry(identity.clone()).or_default();
        if calls.len() >= CALLS_MAX {
            calls.remove(0);
        }
        calls.push((number, call));
        format!("{number:x}")
    }

    /// The call that a client answers.
    pub(super) fn take(&self, identity: &Identity, rid: &str) -> Option<MethodCall> {
        let number = u64::from_str_radix(rid, 16).ok()?;
        let mut all = self.lock();
        let calls = all.get_mut(identity)?;
        let at = calls.iter().position(|(known, _)| *known == number)?;
        let (_, call) = calls.remove(at);
        if calls.is_empty() {
            all.remove(identity);
        }
        Some(call)
    }
}
