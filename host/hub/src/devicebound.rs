//! Messages to devices: kept until the device, or the edge that it is behind, has them.
//!
//! Documents of the space `devicebound` under `{device}/{id}`, whose ids grow with time: [`CloudToDevice`] as JSON. A message
//! is removed when it is durable at the edge, or in the log of a device that is connected here; what is handed over twice
//! because the hub was killed in between is known by its id.

use crate::{
    backend::{Backend, BackendError, Expect, Space, Write},
    error::HubError,
};
use holdfast_broker::{DEVICEBOUND_BYTES_MAX, DEVICEBOUND_LIFE_MAX, DEVICEBOUND_PENDING_MAX};
use holdfast_link::{CloudToDevice, Document};
use holdfast_types::{Identity, Message, Name, UnixMillis};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Messages looked at in one turn.
const PAGE: usize = 100;

pub(crate) struct Devicebound {
    backend: Arc<dyn Backend>,
    /// Names the messages of this hub: grows, and begins above those of the process before.
    next: AtomicU64,
    /// Devices for which somebody is handing messages over, and whether another one came meanwhile.
    busy: Mutex<HashMap<Name, bool>>,
    /// How many messages wait, at least; 0 is none.
    waiting: AtomicU64,
}

/// One who hands messages of one device over; nobody else does meanwhile.
pub(crate) struct Turn<'d> {
    of: &'d Devicebound,
    device: Name,
    is_over: bool,
}

impl Turn<'_> {
    /// Ends the turn, unless another one came meanwhile: what that one knows the turn's owner may not have seen.
    pub(crate) fn ends(mut self) -> Option<Self> {
        let mut busy = self.of.busy();
        if busy.get_mut(&self.device).is_some_and(std::mem::take) {
            return Some(self);
        }
        busy.remove(&self.device);
        self.is_over = true;
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.of.busy().remove(&self.device);
        }
    }
}

impl Devicebound {
    pub(crate) async fn open(backend: Arc<dyn Backend>, now: UnixMillis) -> Result<Self, BackendError> {
        let first = backend.list(Space::Devicebound, "", None, 1).await?;
        Ok(Self {
            backend,
            next: AtomicU64::new(now.0 << 16),
            busy: Mutex::default(),
            waiting: AtomicU64::new(first.len() as u64),
        })
    }

    /// Another process keeps a message for a device.
    pub(crate) fn heard(&self, key: &str) -> Option<Name> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        key.split('/').next().and_then(|device| Name::new(device).ok())
    }

    pub(crate) fn has_any(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Keeps a message; gives its id when it is durable.
    pub(crate) async fn post(
        &self,
        hub: &str,
        device: &Name,
        message: &Message,
        expires: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<String, HubError> {
        let bytes = message.size_bytes();
        if bytes > DEVICEBOUND_BYTES_MAX {
            return Err(HubError::TooLarge(format!(
                "the message has {bytes} bytes, {DEVICEBOUND_BYTES_MAX} are allowed; send a reference"
            )));
        }
        let life = u64::try_from(DEVICEBOUND_LIFE_MAX.as_millis()).unwrap_or(u64::MAX);
        let last = UnixMillis(now.0.saturating_add(life));
        let expires = expires.map_or(last, |expires| expires.min(last));
        if expires <= now {
            return Err(HubError::Bad("the message has expired already; give it a later expiry".to_owned()));
        }
        if self.pending(device, now).await?.len() >= DEVICEBOUND_PENDING_MAX {
            return Err(HubError::Busy(format!(
                "{DEVICEBOUND_PENDING_MAX} messages wait for {device}, the most that may; send again when it has taken some"
            )));
        }
        let id = format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed));
        let sent = CloudToDevice {
            target: Identity::device(device.clone()),
            id: format!("{hub}/{id}"),
            expires: Some(expires),
            message: message.into(),
        };
        let value = sent.encode().map_err(|fault| HubError::TooLarge(fault.to_string()))?;
        let write = Write::set(Space::Devicebound, &format!("{device}/{id}"), value).when(Expect::Absent);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.backend.put(vec![write]).await?;
        Ok(sent.id)
    }

    /// What waits for a device, oldest first, with the keys; what has expired is removed.
    pub(crate) async fn pending(
        &self,
        device: &Name,
        now: UnixMillis,
    ) -> Result<Vec<(String, CloudToDevice)>, BackendError> {
        let found = self.backend.list(Space::Devicebound, &format!("{device}/"), None, PAGE).await?;
        let mut pending = Vec::with_capacity(found.len());
        for (key, stored) in found {
            match CloudToDevice::decode(&stored.value) {
                Ok(message) if message.expires.is_none_or(|expires| expires > now) => {
                    pending.push((key.to_string(), message));
                }
                Ok(_) => self.remove(&key).await?,
                Err(fault) => {
                    tracing::error!(%device, %key, %fault, "a message to a device cannot be read and is dropped");
                    self.remove(&key).await?;
                }
            }
        }
        Ok(pending)
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<(), BackendError> {
        self.backend.put(vec![Write::delete(Space::Devicebound, key)]).await.map(drop)
    }

    /// The devices for which something waits.
    pub(crate) async fn waiting(&self) -> Result<Vec<Name>, BackendError> {
        let mut devices: Vec<Name> = Vec::new();
        let before = self.waiting.load(Ordering::Acquire);
        let mut after: Option<String> = None;
        loop {
            let page = self.backend.list(Space::Devicebound, "", after.as_deref(), PAGE).await?;
            for (key, _) in &page {
                let name = key.split('/').next().and_then(|name| Name::new(name).ok());
                if let Some(name) = name.filter(|name| devices.last() != Some(name)) {
                    devices.push(name);
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => after = Some(key.to_string()),
                _ => break,
            }
        }
        if devices.is_empty() {
            // Only if nothing came meanwhile.
            let _ = self.waiting.compare_exchange(before, 0, Ordering::AcqRel, Ordering::Acquire);
        }
        Ok(devices)
    }

    /// Begins to hand messages of a device over, unless somebody does, who looks once more then.
    pub(crate) fn turn(&self, device: &Name) -> Option<Turn<'_>> {
        match self.busy().entry(device.clone()) {
            Entry::Occupied(mut busy) => {
                *busy.get_mut() = true;
                None
            }
            Entry::Vacant(free) => {
                free.insert(false);
                Some(Turn { of: self, device: device.clone(), is_over: false })
            }
        }
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<Name, bool>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
