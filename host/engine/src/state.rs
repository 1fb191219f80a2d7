//! A module's durable state as its calls see it: what is committed, under what is being committed, under what the
//! running call has written.

use bytes::Bytes;
use holdfast_broker::{Documents, StateWrite};
use holdfast_types::{Name, Text};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most keys of one module. With the bound on bytes it keeps a look over all keys short.
const KEYS_MAX: usize = 100_000;

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the module's state cannot be read: {0}")]
    Read(String),
    #[error(
        "the module's state would have {wanted} bytes, {max} are allowed; delete keys, or raise limits.state_bytes in \
         the module's .toml"
    )]
    Quota { wanted: u64, max: u64 },
    #[error("the value has {bytes} bytes, one value may have {max}; spread it over several keys")]
    ValueTooLarge { bytes: usize, max: usize },
}

/// The state of a module, shared by its instances: an old one and the new one that takes over see the same.
#[derive(Clone)]
pub(crate) struct ModuleState(Arc<Shared>);

struct Shared {
    ground: Ground,
    under_way: Mutex<UnderWay>,
}

/// Where that lies which is committed.
enum Ground {
    /// In the store.
    Recorded { documents: Documents, space: Text },
    /// In memory, for a shadow: nothing of it is ever written back.
    Copied(Mutex<BTreeMap<Text, Bytes>>),
}

/// Writes of successful calls that are not known to be committed.
#[derive(Default)]
struct UnderWay {
    /// The newest value of each key, and the turn it belongs to.
    writes: BTreeMap<Text, (u64, Option<Bytes>)>,
    /// Bytes of all keys and values; not known until the first write.
    used_bytes: Option<u64>,
    /// Counts the calls that wrote.
    version: u64,
}

impl ModuleState {
    pub(crate) fn new(documents: Documents, module: &Name) -> Self {
        let space = Documents::state_space(module);
        Self::on(Ground::Recorded { documents, space })
    }

    fn on(ground: Ground) -> Self {
        Self(Arc::new(Shared { ground, under_way: Mutex::default() }))
    }

    /// A copy of all of it, as the next call would see it.
    pub(crate) fn copied(&self) -> Result<Self, StateError> {
        Ok(Self::on(Ground::Copied(Mutex::new(self.all()?))))
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view for one instance.
    pub(crate) fn view(&self, bytes_max: u64) -> StateView {
        StateView { state: self.clone(), bytes_max, call: BTreeMap::new(), grown: 0, read_at: None }
    }

    /// The writes that belong to `turn`, when it is closed.
    pub(crate) fn writes_of(&self, turn: u64) -> Vec<StateWrite> {
        let under_way = self.under_way();
        let of_turn = under_way.writes.iter().filter(|(_, (written, _))| *written == turn);
        of_turn.map(|(key, (_, value))| StateWrite { key: key.clone(), value: value.clone() }).collect()
    }

    /// `turn` and all before it are committed.
    pub(crate) fn committed(&self, turn: u64) {
        let mut under_way = self.under_way();
        if let Ground::Copied(values) = &self.0.ground {
            let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, (_, value)) in under_way.writes.iter().filter(|(_, (written, _))| *written <= turn) {
                match value {
                    Some(value) => values.insert(key.clone(), value.clone()),
                    None => values.remove(key),
                };
            }
        }
        under_way.writes.retain(|_, (written, _)| *written > turn);
    }

    /// Nothing that is under way will be committed.
    pub(crate) fn rewind(&self) {
        let mut under_way = self.under_way();
        *under_way = UnderWay { version: under_way.version + 1, ..UnderWay::default() };
    }

    fn version(&self) -> u64 {
        self.under_way().version
    }

    fn value(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some((_, value)) = self.under_way().writes.get(key) {
            return Ok(value.clone());
        }
        match &self.0.ground {
            Ground::Recorded { documents, space } => {
                documents.value(space, key).map_err(|error| StateError::Read(error.to_string()))
            }
            Ground::Copied(values) => {
                Ok(values.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
            }
        }
    }

    fn all(&self) -> Result<BTreeMap<Text, Bytes>, StateError> {
        let mut all: BTreeMap<_, _> = match &self.0.ground {
            Ground::Recorded { documents, space } => {
                let committed = documents.scan(space, "", KEYS_MAX);
                committed.map_err(|error| StateError::Read(error.to_string()))?.into_iter().collect()
            }
            Ground::Copied(values) => values.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        for (key, (_, value)) in &self.under_way().writes {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        Ok(all)
    }

    fn used_bytes(&self) -> Result<u64, StateError> {
        if let Some(known) = self.under_way().used_bytes {
            return Ok(known);
        }
        let used = self.all()?.iter().map(|(key, value)| size(key, Some(value))).sum();
        self.under_way().used_bytes = Some(used);
        Ok(used)
    }
}

fn size(key: &str, value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| (key.len() + value.len()) as u64)
}

/// The state as one instance sees it.
pub(crate) struct StateView {
    state: ModuleState,
    bytes_max: u64,
    /// What the running call has written.
    call: BTreeMap<Text, Option<Bytes>>,
    /// How many bytes more (or fewer) that makes.
    grown: i64,
    /// The version of the state at the first read since [`StateView::watch`].
    read_at: Option<u64>,
}

impl StateView {
    pub(crate) fn value(&mut self, key: &str) -> Result<Option<Bytes>, StateError> {
        self.note_read();
        match self.call.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.state.value(key),
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: Option<Bytes>) -> Result<(), StateError> {
        let (bytes, max) = (value.as_ref().map_or(0, Bytes::len), Documents::VALUE_BYTES_MAX);
        if bytes > max {
            return Err(StateError::ValueTooLarge { bytes, max });
        }
        let before = self.value(key)?;
        if before.is_none() && value.is_none() {
            return Ok(());
        }
        let used = self.state.used_bytes()?;
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let more = signed(size(key, value.as_ref())) - signed(size(key, before.as_ref()));
        let wanted = used.saturating_add_signed(self.grown + more);
        if more > 0 && wanted > self.bytes_max {
            return Err(StateError::Quota { wanted, max: self.bytes_max });
        }
        self.grown += more;
        self.call.insert(key.into(), value);
        Ok(())
    }

    /// Every key, in order.
    pub(crate) fn keys(&mut self) -> Result<Vec<String>, StateError> {
        self.note_read();
        let mut keys: BTreeSet<String> = self.state.all()?.keys().map(|key| key.to_string()).collect();
        for (key, value) in &self.call {
            match value {
                Some(_) => keys.insert(key.to_string()),
                None => keys.remove(&**key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    /// The call has succeeded: its writes belong to `turn`. Says whether there were any.
    pub(crate) fn keep(&mut self, turn: u64) -> bool {
        if self.call.is_empty() {
            return false;
        }
        let mut under_way = self.state.under_way();
        let grown = std::mem::take(&mut self.grown);
        under_way.used_bytes = under_way.used_bytes.map(|used| used.saturating_add_signed(grown));
        under_way.version += 1;
        for (key, value) in std::mem::take(&mut self.call) {
            under_way.writes.insert(key, (turn, value));
        }
        true
    }

    /// The call has failed: its writes are forgotten.
    pub(crate) fn discard(&mut self) {
        self.call.clear();
        self.grown = 0;
    }

    /// Whether a call that has read state would read something else now.
    pub(crate) fn is_stale(&self) -> bool {
        self.read_at.is_some_and(|read_at| read_at != self.state.version())
    }

    fn note_read(&mut self) {
        if self.read_at.is_none() {
            self.read_at = Some(self.state.version());
        }
    }
}
