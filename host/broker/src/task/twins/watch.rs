//! Who hears of desired changes, and of reports.

use super::halves::{Half, Versioned};
use crate::{
    core::twin::{Object, difference},
    task::broker::Inner,
};
use holdfast_types::Identity;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Most changes that wait for one watcher. One more, and all of them become one: the difference between the document
/// that the watcher knows and the newest. So a watcher misses steps but never a change, and holds few documents.
pub const WATCH_CHANGES_MAX: usize = 16;

/// A change of desired properties that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPatch {
    /// The version that it leads to.
    pub version: u64,
    /// What to merge into the version before; null deletes.
    pub patch: Value,
}

/// Hears of the desired changes of one identity.
pub struct DesiredWatch {
    inner: Arc<Inner>,
    who: Identity,
    queue: Arc<Queue>,
}

impl Drop for DesiredWatch {
    fn drop(&mut self) {
        self.inner.halves.watches.forget(&self.who, &self.queue);
    }
}

impl DesiredWatch {
    /// Waits for the next change. A watcher that is far behind gets several as one. Cancel safe.
    pub async fn next(&mut self) -> DesiredPatch {
        loop {
            if let Some(change) = self.take() {
                return change;
            }
            self.queue.bell.notified().await;
        }
    }

    /// The next change if there is one.
    pub fn take(&mut self) -> Option<DesiredPatch> {
        let Change { version, before, after, patch } = self.queue.changes().pop_front()?;
        let patch = patch.map_or_else(|| difference(&before, &after), Arc::unwrap_or_clone);
        Some(DesiredPatch { version, patch: Value::Object(patch) })
    }
}

#[derive(Default)]
struct Queue {
    changes: Mutex<VecDeque<Change>>,
    bell: Notify,
}

/// The documents are shared by all watchers of an identity.
struct Change {
    version: u64,
    before: Arc<Object>,
    after: Arc<Object>,
    /// As it was given; none for several that became one, and for a document that was replaced.
    patch: Option<Arc<Object>>,
}

impl Queue {
    fn changes(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, before: &Arc<Object>, new: &Versioned, patch: Option<&Arc<Object>>) {
        let mut changes = self.changes();
        let mut change = Change {
            version: new.version,
            before: before.clone(),
            after: new.document.clone(),
            patch: patch.cloned(),
        };
        if changes.len() >= WATCH_CHANGES_MAX
            && let Some(oldest) = changes.drain(..).next()
        {
            (change.before, change.patch) = (oldest.before, None);
        }
        changes.push_back(change);
        drop(changes);
        self.bell.notify_one();
    }
}

/// Hears whose twins change, of one half.
pub struct TwinsWatch {
    inner: Arc<Inner>,
    dirty: Arc<Dirty>,
}

impl Drop for TwinsWatch {
    fn drop(&mut self) {
        for half in [Half::Desired, Half::Reported] {
            self.inner.halves.watches.of_all(half).retain(|other| !Arc::ptr_eq(other, &self.dirty));
        }
    }
}

impl TwinsWatch {
    /// Waits until somebody's half has changed; gives everybody whose have, each once however often.
    /// Cancel safe.
    pub async fn next(&mut self) -> BTreeSet<Identity> {
        loop {
            let changed = std::mem::take(&mut *self.dirty.changed());
            if !changed.is_empty() {
                return changed;
            }
            self.dirty.bell.notified().await;
        }
    }
}

/// Who has changed. No longer than there are twins.
#[derive(Default)]
struct Dirty {
    changed: Mutex<BTreeSet<Identity>>,
    bell: Notify,
}

impl Dirty {
    fn changed(&self) -> MutexGuard<'_, BTreeSet<Identity>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watchers of all identities.
#[derive(Default)]
pub(crate) struct Watches {
    desired: Mutex<HashMap<Identity, Vec<Arc<Queue>>>>,
    all_desired: Mutex<Vec<Arc<Dirty>>>,
    all_reported: Mutex<Vec<Arc<Dirty>>>,
}

impl Watches {
    pub(super) fn watch(&self, inner: &Arc<Inner>, who: &Identity) -> DesiredWatch {
        let queue = Arc::<Queue>::default();
        self.all().entry(who.clone()).or_default().push(queue.clone());
        DesiredWatch { inner: inner.clone(), who: who.clone(), queue }
    }

    /// A change is durable.
    pub(super) fn changed(
        &self,
        who: &Identity,
        before: &Arc<Object>,
        new: &Versioned,
        patch: Option<&Arc<Object>>,
    ) {
        for queue in self.all().get(who).into_iter().flatten() {
            queue.push(before, new, patch);
        }
        self.mark(Half::Desired, who);
    }

    fn forget(&self, who: &Identity, queue: &Arc<Queue>) {
        let mut all = self.all();
        if let Some(watching) = all.get_mut(who) {
            watching.retain(|other| !Arc::ptr_eq(other, queue));
            if watching.is_empty() {
                all.remove(who);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Identity, Vec<Arc<Queue>>>> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch_all(&self, inner: &Arc<Inner>, half: Half) -> TwinsWatch {
        let dirty = Arc::<Dirty>::default();
        self.of_all(half).push(dirty.clone());
        TwinsWatch { inner: inner.clone(), dirty }
    }

    /// A report is durable.
    pub(crate) fn reported(&self, who: &Identity) {
        self.mark(Half::Reported, who);
    }

    fn mark(&self, half: Half, who: &Identity) {
        for dirty in self.of_all(half).iter() {
            dirty.changed().insert(who.clone());
            dirty.bell.notify_one();
        }
    }

    fn of_all(&self, half: Half) -> MutexGuard<'_, Vec<Arc<Dirty>>> {
        let all = match half {
            Half::Desired => &self.all_desired,
            Half::Reported => &self.all_reported,
        };
        all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
