//! What clients of the dialect share: calls in hand, modules that are processes, messages that nobody takes.

use super::calls::Calls;
use holdfast_broker::Broker;
use holdfast_types::{Identity, LogId, Name, Offset};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How often a message from the cloud is handed to its device before it is given up (IoT Hub: maximum delivery count).
pub(super) const DELIVERIES_MAX: u32 = 100;

/// Where counts of deliveries are kept, and the version of their form.
const DELIVERIES: &str = "hub/deliveries";
const DELIVERIES_VERSION: &str = "1";

#[derive(Default)]
pub(crate) struct HubShared {
    pub(super) calls: Calls,
    /// Modules of this edge that are connected as processes.
    modules: Mutex<HashSet<Name>>,
    /// How often messages at the head of a log were handed out without an acknowledgement.
    deliveries: Mutex<HashMap<LogId, Deliveries>>,
}

/// How often messages of one log were handed out. What was handed out more than once is kept over a restart, as a document
/// in the space `hub/deliveries` with the log as its key: a line `1`, the version of the form, and a line `offset count`
/// for each.
#[derive(Default)]
struct Deliveries {
    counts: BTreeMap<Offset, u32>,
    kept: bool,
}

impl Deliveries {
    fn read(broker: &Broker, log: &LogId) -> Self {
        let kept = broker.documents().value(DELIVERIES, log.as_str()).unwrap_or_else(|error| {
            tracing::warn!(%log, %error, "how often messages were handed out cannot be read; they are counted anew");
            None
        });
        let text = kept.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let mut lines = text.lines();
        let known = lines.next() == Some(DELIVERIES_VERSION);
        let count = |line: &str| {
            let (offset, count) = line.split_once(' ')?;
            Some((Offset(offset.parse().ok()?), count.parse().ok()?))
        };
        let counts = if known { lines.filter_map(count).collect() } else { BTreeMap::new() };
        Self { counts, kept: kept.is_some() }
    }

    /// Lost in a crash, a message is handed out once more often.
    fn write(&mut self, broker: &Broker, log: &LogId) {
        let again = self.counts.iter().filter(|(_, count)| **count > 1);
        let lines: String = again.map(|(offset, count)| format!("\n{} {count}", offset.0)).collect();
        let keep = !lines.is_empty();
        if keep || self.kept {
            let value = keep.then(|| format!("{DELIVERIES_VERSION}{lines}").into());
            drop(broker.documents().write(DELIVERIES, log.as_str(), value));
        }
        self.kept = keep;
    }
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
    pub(super) fn handed_out(&self, broker: &Broker, log: &LogId, offset: Offset) -> u32 {
        let mut all = lock(&self.deliveries);
        let deliveries = all.entry(log.clone()).or_insert_with(|| Deliveries::read(broker, log));
        let count = deliveries.counts.entry(offset).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        if count > 1 {
            deliveries.write(broker, log);
        }
        count
    }

    /// Forgets the count of a message that is done, and those before it.
    pub(super) fn done(&self, broker: &Broker, log: &LogId, offset: Offset) {
        let mut all = lock(&self.deliveries);
        if let Some(deliveries) = all.get_mut(log) {
            deliveries.counts = deliveries.counts.split_off(&offset.next());
            if deliveries.kept {
                deliveries.write(broker, log);
            }
            if deliveries.counts.is_empty() {
                all.remove(log);
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
