//! The halves of twins on their way to the disk.
//!
//! Changes of one half are made on top of one another before the first of them is on disk, so that many share an fsync.
//! That is safe because they are a chain: when one is not recorded none of the later ones is, and the half is read
//! from the disk again. A half belongs to one chain at a time: the turns of a module have theirs, all others share one
//! for each half; who finds another's commits under way waits for them.

use super::{TwinError, watch::Watches};
use crate::{core::twin::Object, task::broker::Inner};
use bytes::Bytes;
use holdfast_store::{Chain, Store};
use holdfast_types::Identity;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The format of a half on disk.
const FORMAT: u32 = 1;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    Desired,
    Reported,
}

impl Half {
    pub(super) const fn space(self) -> &'static str {
        match self {
            Self::Desired => "twin/desired",
            Self::Reported => "twin/reported",
        }
    }
}

/// A document and its version.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    pub(crate) version: u64,
    pub(crate) document: Arc<Object>,
}

impl Default for Versioned {
    fn default() -> Self {
        Self { version: 1, document: Arc::default() }
    }
}

#[derive(Serialize)]
struct Writing<'a> {
    format: u32,
    version: u64,
    document: &'a Object,
}

#[derive(Deserialize)]
struct Reading {
    format: u32,
    version: u64,
    document: Object,
}

pub(super) fn encode(half: &Versioned) -> Bytes {
    let writing = Writing { format: FORMAT, version: half.version, document: &half.document };
    // Texts, numbers and maps with text keys always have a JSON form.
    serde_json::to_vec(&writing).unwrap_or_default().into()
}

/// Reads a half from the store.
pub(crate) fn load(store: &Store, half: Half, who: &Identity) -> Result<Versioned, TwinError> {
    let key = who.to_string();
    let found = store.document(half.space(), &key).map_err(|error| TwinError::store(who, &error))?;
    let Some(bytes) = found else { return Ok(Versioned::default()) };
    let unreadable = |why: String| TwinError::Unreadable { who: key.clone(), why };
    let read: Reading = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if read.format != FORMAT {
        return Err(unreadable(format!("it has format {}, this host knows {FORMAT}", read.format)));
    }
    Ok(Versioned { version: read.version, document: Arc::new(read.document) })
}

/// Every identity with a half on disk.
pub(super) fn identities(store: &Store, limit: usize) -> Result<Vec<Identity>, TwinError> {
    let mut all = BTreeSet::new();
    for half in [Half::Desired, Half::Reported] {
        let found = store.documents(half.space(), "", limit);
        let found = found.map_err(|error| TwinError::store(&"all", &error))?;
        all.extend(found.iter().filter_map(|(key, _)| Identity::parse(key)));
    }
    Ok(all.into_iter().take(limit).collect())
}

/// Halves that are being changed, and who watches.
#[derive(Default)]
pub(crate) struct Halves {
    slots: Mutex<HashMap<(Half, Identity), Counted>>,
    pub(crate) watches: Watches,
}

#[derive(Default)]
struct Counted {
    slot: Arc<Slot>,
    users: usize,
}

/// Holds a half in memory while somebody changes it or waits to.
pub(crate) struct InUse {
    inner: Arc<Inner>,
    pub(super) half: Half,
    pub(crate) who: Identity,
    slot: Arc<Slot>,
}

impl Halves {
    pub(crate) fn of(inner: &Arc<Inner>, half: Half, who: &Identity) -> InUse {
        let mut slots = inner.halves.slots();
        let counted = slots.entry((half, who.clone())).or_default();
        counted.users += 1;
        InUse { inner: inner.clone(), half, who: who.clone(), slot: counted.slot.clone() }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<(Half, Identity), Counted>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        Halves::of(&self.inner, self.half, &self.who)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut slots = self.inner.halves.slots();
        let key = (self.half, self.who.clone());
        if let Some(counted) = slots.get_mut(&key) {
            counted.users = counted.users.saturating_sub(1);
            if counted.users == 0 {
                slots.remove(&key);
            }
        }
    }
}

impl std::ops::Deref for InUse {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        &self.slot
    }
}

/// One half that is being changed.
#[derive(Default)]
pub(crate) struct Slot {
    /// Held from the reckoning of a change until the store has its commit. Not the lock below: a store that refuses at
    /// once calls back before it returns.
    submission: Mutex<()>,
    state: Mutex<State>,
    free: Notify,
}

#[derive(Default)]
struct State {
    /// The half with all changes that are under way; none when none is.
    tip: Option<Versioned>,
    chain: Arc<Chain>,
    /// Whether the chain is that of a module's turns.
    of_turns: bool,
    open: u32,
    failed: bool,
}

/// A half that may be changed now.
pub(crate) struct Entry {
    pub(crate) tip: Versioned,
    pub(crate) chain: Arc<Chain>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes are reckoned and submitted one after the other.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.submission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the last commit that is under way ends; asked for before [`Slot::enter`], so that no end is missed.
    pub(super) fn freed(&self) -> impl Future<Output = ()> {
        let mut freed = Box::pin(self.free.notified());
        freed.as_mut().enable();
        freed
    }

    /// The half with what is under way, if it may be changed now: by the turns with their `chain`, or by others with
    /// none. What `load` gives beside it comes back if nothing was under way.
    pub(super) fn enter<T>(
        &self,
        chain: Option<&Arc<Chain>>,
        load: impl FnOnce() -> Result<(Versioned, T), TwinError>,
    ) -> Result<Option<(Entry, Option<T>)>, TwinError> {
        let mut state = self.state();
        if state.open > 0 {
            let own = match chain {
                Some(chain) => Arc::ptr_eq(&state.chain, chain),
                None => !state.of_turns,
            };
            let (tip, chain) = (state.tip.clone(), state.chain.clone());
            return Ok(tip.filter(|_| own && !state.failed).map(|tip| (Entry { tip, chain }, None)));
        }
        let (tip, more) = load()?;
        *state = State {
            chain: chain.cloned().unwrap_or_default(),
            of_turns: chain.is_some(),
            ..State::default()
        };
        Ok(Some((Entry { tip, chain: state.chain.clone() }, Some(more))))
    }

    /// A change is about to go to the store.
    pub(crate) fn submitted(&self, tip: Versioned) {
        let mut state = self.state();
        state.tip = Some(tip);
        state.open += 1;
    }

    /// A commit has ended.
    pub(crate) fn ended(&self, recorded: bool) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        state.failed |= !recorded;
        if state.open == 0 {
            *state = State::default();
            drop(state);
            self.free.notify_waiters();
        }
    }
}
