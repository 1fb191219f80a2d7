//! What clients of the dialect share: calls in hand, modules that are processes, messages that nobody takes.

use super::calls::Calls;
use holdfast_broker::Broker;
use holdfast_types::{Identity, LogId, Name, Offset};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How often a message from the cloud is handed to its device before it is given up (IoT Hub: maximum delivery count).
pub(super) const DELIVERIES_MAX: u32 = 100;

#[derive(Default)]
pub(crate) struct HubShared {
    pub(super) calls: Calls,
    /// Modules of this edge that are connected as processes.
    modules: Mutex<HashSet<Name>>,
    /// How often messages at the head of a log were handed out without an acknowledgement.
    deliveries: Mutex<HashMap<LogId, HashMap<Offset, u32>>>,
}

impl HubShared {
    /// Whether a client may be this identity now. The names of modules that the host runs are the host's.
    pub(crate) fn may_be(&self, broker: &Broker, identity: &Identity) -> Result<(), String> {
        let Some(module) = own_module(broker, identity) else { return Ok(()) };
        if broker.is_module_present(module) && !lock(&self.modules).contains(module) {
            return Err(format!(
                "{identity} is a module that the host runs; no client can be it: give the process another name"
            ));
        }
        Ok(())
    }

    pub(super) fn connected(&self, broker: &Broker, identity: &Identity) {
        let Some(module) = own_module(broker, identity) else { return };
        if lock(&self.modules).insert(module.clone()) {
            broker.module_present(module, true);
        }
    }

    pub(super) fn left(&self, broker: &Broker, identity: &Identity) {
        let Some(module) = own_module(broker, identity) else { return };
        if lock(&self.modules).remove(module) {
            broker.module_present(module, false);
        }
    }

    /// Counts that a message was handed out; says how often it was.
    pub(super) fn handed_out(&self, log: &LogId, offset: Offset) -> u32 {
        let mut deliveries = lock(&self.deliveries);
        let count = deliveries.entry(log.clone()).or_default().entry(offset).or_default();
        *count += 1;
        *count
    }

    /// Forgets the count of a message that is done, and those before it.
    pub(super) fn done(&self, log: &LogId, offset: Offset) {
        let mut deliveries = lock(&self.deliveries);
        if let Some(counts) = deliveries.get_mut(log) {
            counts.retain(|counted, _| *counted > offset);
            if counts.is_empty() {
                deliveries.remove(log);
            }
        }
    }
}

fn own_module<'a>(broker: &Broker, identity: &'a Identity) -> Option<&'a Name> {
    identity.module.as_ref().filter(|_| identity.device == *broker.edge())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
