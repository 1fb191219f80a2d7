//! Who there is: the registry as the authority, on disk and in memory.
//!
//! Each device and module is a document of the space `identities` under its name: [`IdentityRecord`] as JSON, sealed with
//! the key of this hub. A change is on disk, with a new revision for every edge that it concerns, before the registry in
//! memory has it.

mod concerned;

pub(crate) use concerned::{Applied, Revisions, Told, new_revisions};

use crate::backend::{Backend, BackendError, Expect, Space, Write};
use bytes::Bytes;
use concerned::Concerned;
use holdfast_auth::{
    BadKey, BadThumbprint, Credential, Device, DeviceStatus, Registry, RegistryFault, SEAL_RANDOM_BYTES,
    Sealer, SharedKey, Thumbprint,
};
use holdfast_link::{Access, IdentityRecord, Proof, Secret};
use holdfast_links::{LEVELS_MAX, above, behind, record_of};
use holdfast_types::{Identity, Name, UnixMillis};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex;

/// Documents read at once when the hub starts.
const PAGE: usize = 1000;

/// Why the directory does not take a change. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The registry has a reason.
    #[error(transparent)]
    Registry(#[from] RegistryFault),
    /// A key cannot be one.
    #[error("{0}: {1}")]
    Key(Identity, BadKey),
    /// A thumbprint cannot be one.
    #[error("{0}: {1}")]
    Thumbprint(Identity, BadThumbprint),
    /// The name of the hub itself.
    #[error("{0} is the name of this hub; choose another")]
    IsHub(Name),
    /// The parent is not there, or no edge.
    #[error("{parent} cannot be the parent of {child}: {why}")]
    Parent {
        /// Whose parent.
        child: Identity,
        /// Who cannot be it.
        parent: Name,
        /// Why.
        why: &'static str,
    },
    /// It has children.
    #[error(
        "{device} is the parent of {children} devices, the first is {first}; give them another parent before"
    )]
    HasChildren {
        /// Who.
        device: Name,
        /// How many.
        children: usize,
        /// One of them.
        first: Name,
    },
    /// The storage did not take it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What is on disk cannot be opened, or sealed.
    #[error("{0} cannot be sealed or opened: {1}")]
    Sealed(String, String),
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(flatten)]
    record: IdentityRecord,
    #[serde(default)]
    added_ms: u64,
}

/// The document that every change of the registry writes, in the space `hub`: of two processes that change it at once, the
/// second looks again at what there is.
const TURN_KEY: &str = "registry";

/// How often a change is tried anew when another one came between.
const TRIES_MAX: usize = 300;

/// How long to wait for what another process has changed meanwhile.
const AGAIN: Duration = Duration::from_millis(10);

/// The registry and its form on disk.
pub struct Directory {
    registry: Arc<Registry>,
    backend: Arc<dyn Backend>,
    sealer: Sealer,
    hub: Name,
    /// Held from the check of a change until memory has it.
    turn: Mutex<()>,
    /// The revision of the last change of the registry that memory has.
    seen: AtomicU64,
    changes: AtomicU64,
}

fn device_of(record: &IdentityRecord, added: UnixMillis) -> Result<Device, DirectoryError> {
    let who = || record.identity.clone();
    let key = |text: &Secret| SharedKey::parse(&text.0).map_err(|why| DirectoryError::Key(who(), why));
    let thumbprint =
        |text: &String| Thumbprint::parse(text).map_err(|why| DirectoryError::Thumbprint(who(), why));
    let credential = match &record.proof {
        Proof::Sas { primary, secondary } => Credential::SharedKey {
            primary: key(primary)?,
            secondary: secondary.as_ref().map(key).transpose()?,
        },
        Proof::SelfSigned { primary, secondary } => Credential::Thumbprints {
            primary: thumbprint(primary)?,
            secondary: secondary.as_ref().map(thumbprint).transpose()?,
        },
        Proof::CertificateAuthority => Credential::CertificateAuthority,
        Proof::None => Credential::None,
    };
    Ok(Device {
        identity: record.identity.clone(),
        credential,
        status: match record.status {
            Access::Enabled => DeviceStatus::Enabled,
            Access::Disabled => DeviceStatus::Disabled,
        },
        // That of a module is its device's.
        parent: record.parent.clone().filter(|_| record.identity.module.is_none()),
        generation: record.generation.as_str().into(),
        edge: record.edge,
        added,
    })
}

impl Directory {
    /// Reads everything into the registry.
    ///
    /// # Errors
    /// The storage cannot be read, or holds what another key has sealed.
    pub async fn open(
        backend: Arc<dyn Backend>,
        registry: Arc<Registry>,
        sealer: Sealer,
        hub: Name,
    ) -> Result<Self, DirectoryError> {
        let seen = backend.get(Space::Hub, TURN_KEY).await?.map_or(0, |stored| stored.revision);
        let (seen, changes) = (AtomicU64::new(seen), AtomicU64::new(0));
        let directory = Self { registry, backend, sealer, hub, turn: Mutex::default(), seen, changes };
        let mut after: Option<String> = None;
        loop {
            let page = directory.backend.list(Space::Identities, "", after.as_deref(), PAGE).await?;
            for (key, stored) in &page {
                directory.registry.add(directory.device(key, &stored.value)?)?;
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => after = Some(key.to_string()),
                _ => return Ok(directory),
            }
        }
    }

    /// Opens what [`Self::seal`] made under this name.
    pub(crate) fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, DirectoryError> {
        let fault = |why: String| DirectoryError::Sealed(name.to_owned(), why);
        self.sealer.open(name, sealed).map_err(|why| fault(why.to_string()))
    }

    /// Seals something with the key of this hub.
    pub(crate) fn seal(&self, name: &str, text: &[u8]) -> Result<Bytes, DirectoryError> {
        let fault = |why: String| DirectoryError::Sealed(name.to_owned(), why);
        let mut random = [0; SEAL_RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|why| fault(why.to_string()))?;
        Ok(self.sealer.seal(name, text, &random).map_err(|why| fault(why.to_string()))?.into())
    }

    fn device(&self, key: &str, sealed: &[u8]) -> Result<Device, DirectoryError> {
        let document = self.unsealed(key, sealed)?;
        device_of(&document.record, UnixMillis(document.added_ms))
    }

    fn unsealed(&self, key: &str, sealed: &[u8]) -> Result<Document, DirectoryError> {
        let fault = |why: String| DirectoryError::Sealed(key.to_owned(), why);
        let text = self.open_sealed(&format!("{}/{key}", Space::Identities), sealed)?;
        serde_json::from_slice(&text).map_err(|why| fault(why.to_string()))
    }

    fn sealed(&self, device: &Device) -> Result<Bytes, DirectoryError> {
        let key = device.identity.to_string();
        let fault = |why: String| DirectoryError::Sealed(key.clone(), why);
        let document = Document { record: record_of(device), added_ms: device.added.0 };
        let text = serde_json::to_vec(&document).map_err(|why| fault(why.to_string()))?;
        self.seal(&format!("{}/{key}", Space::Identities), &text)
    }

    /// The registry in memory.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Waits until what is on disk by now is in memory too: in between a revision says more than memory has.
    pub(crate) async fn is_settled(&self) {
        drop(self.turn.lock().await);
    }

    /// Counts the changes since the start.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A device or module.
    pub fn get(&self, who: &Identity) -> Option<Arc<Device>> {
        self.registry.device(who)
    }

    /// Every edge.
    pub(crate) fn edges(&self) -> Vec<Name> {
        let edges =
            self.registry.devices().into_iter().filter(|one| one.edge && one.identity.module.is_none());
        edges.map(|one| one.identity.device.clone()).collect()
    }

    /// What an edge should know: itself, its children, and what is behind those that are edges, all with their modules, each
    /// device before its modules.
    pub(crate) fn of_edge(&self, edge: &Name) -> Vec<Arc<Device>> {
        behind(&self.registry, edge)
    }

    /// The edges above a device, the nearest first.
    pub(crate) fn above(&self, device: &Name) -> Vec<Name> {
        above(&self.registry, device)
    }

    /// The edges above an edge; none if it is no edge.
    pub(crate) fn above_edge(&self, edge: &Name) -> Option<Vec<Name>> {
        let is_edge = self.registry.device(&Identity::device(edge.clone())).is_some_and(|one| one.edge);
        is_edge.then(|| self.above(edge))
    }

    /// The edge whose link leads to an identity: the uppermost one above it, or itself if it is an edge below none.
    pub(crate) fn way_to(&self, who: &Identity) -> Option<Name> {
        let device = self.registry.device(&Identity::device(who.device.clone()))?;
        self.above(&who.device).pop().or_else(|| device.edge.then(|| who.device.clone()))
    }

    /// Whether an edge may speak for a device: itself, its children, and theirs.
    pub(crate) fn may_speak_for(&self, edge: &Name, device: &Name) -> bool {
        device == edge || self.above(device).contains(edge)
    }

    /// Adds a device or module, or changes it. `added` is for one that is new.
    pub(crate) async fn put(
        &self,
        record: IdentityRecord,
        added: UnixMillis,
    ) -> Result<Applied, DirectoryError> {
        for _ in 0..TRIES_MAX {
            match self.try_put(record.clone(), added).await {
                Err(DirectoryError::Backend(BackendError::Conflict { .. })) => {}
                result => return result,
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.try_put(record, added).await
    }

    /// Stores a change of the registry, if nobody has changed it since memory was, with new revisions for those whom it
    /// concerns. The caller holds the turn.
    async fn store(&self, mut writes: Vec<Write>, concerned: Concerned) -> Result<Applied, DirectoryError> {
        let edges: Vec<Name> = concerned.keys().cloned().collect();
        let Revisions { writes: revisions, before } = new_revisions(&*self.backend, &edges).await?;
        writes.extend(revisions);
        let expect = match self.seen.load(Ordering::Acquire) {
            0 => Expect::Absent,
            seen => Expect::Revision(seen),
        };
        writes.push(Write::set(Space::Hub, TURN_KEY, Bytes::new()).when(expect));
        let revision = self.backend.put(writes).await?;
        self.seen.store(revision, Ordering::Release);
        let told = concerned.into_iter().map(|(edge, changes)| {
            let from = before.get(&edge).copied().unwrap_or_default();
            (edge, Told { from, changes })
        });
        Ok(Applied { revision, told: told.collect() })
    }

    async fn try_put(&self, record: IdentityRecord, added: UnixMillis) -> Result<Applied, DirectoryError> {
        let _turn = self.turn.lock().await;
        let before = self.registry.device(&record.identity);
        let (device, write, concerned) = self.prepared(&record, added, before.as_deref())?;
        let applied = self.store(vec![write], concerned).await?;
        self.keep(device)?;
        Ok(applied)
    }

    /// What is to be stored of a device or module, if it may be as it is given, and whom that concerns. The caller holds the
    /// turn.
    fn prepared(
        &self,
        record: &IdentityRecord,
        added: UnixMillis,
        before: Option<&Device>,
    ) -> Result<(Device, Write, Concerned), DirectoryError> {
        let device = device_of(record, before.map_or(added, |before| before.added))?;
        self.check(&device, before)?;
        let concerned = self.concerned(&device, before);
        let write = Write::set(Space::Identities, &device.identity.to_string(), self.sealed(&device)?);
        Ok((device, write, concerned))
    }

    /// Adds several new devices or modules in one batch, all or none. Of them none may need another: their parents, and the
    /// devices of modules, are there already.
    pub(crate) async fn add_all(
        &self,
        records: &[(IdentityRecord, UnixMillis)],
    ) -> Result<Applied, DirectoryError> {
        let _turn = self.turn.lock().await;
        let (mut devices, mut writes, mut concerned) = (Vec::new(), Vec::new(), Concerned::new());
        for (record, added) in records {
            let (device, write, told) = self.prepared(record, *added, None)?;
            for (edge, more) in told {
                concerned.entry(edge).or_default().extend(more);
            }
            writes.push(write);
            devices.push(device);
        }
        let applied = self.store(writes, concerned).await?;
        let mut refused = None;
        for device in devices {
            let identity = device.identity.to_string();
            if let Err(why) = self.keep(device) {
                // Each had room by itself, and not all of them together.
                let gone = vec![Write::delete(Space::Identities, &identity)];
                self.store(gone, Concerned::new()).await?;
                refused = Some(why);
            }
        }
        refused.map_or(Ok(applied), Err)
    }

    /// Takes a device into memory.
    fn keep(&self, device: Device) -> Result<(), DirectoryError> {
        match self.registry.device(&device.identity) {
            Some(_) => self.registry.replace(device)?,
            None => self.registry.add(device)?,
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn check(&self, device: &Device, before: Option<&Device>) -> Result<(), DirectoryError> {
        let name = &device.identity.device;
        if *name == self.hub {
            return Err(DirectoryError::IsHub(name.clone()));
        }
        if before.is_none() {
            self.registry.check_new(device)?;
        }
        if before.is_some_and(|before| before.edge) && !device.edge {
            self.check_childless(name)?;
        }
        let Some(parent) = &device.parent else { return Ok(()) };
        let refused =
            |why| DirectoryError::Parent { child: device.identity.clone(), parent: parent.clone(), why };
        match self.registry.device(&Identity::device(parent.clone())) {
            None => {
                return Err(refused("there is no such device; add it first, with the capability of an edge"));
            }
            Some(parent) if !parent.edge => {
                return Err(refused("it is no edge; give it that capability first"));
            }
            Some(_) => {}
        }
        let above: Vec<Name> = std::iter::once(parent.clone()).chain(self.above(parent)).collect();
        if above.contains(name) {
            return Err(refused("it would be above itself"));
        }
        let below = if device.edge { self.levels_from(name) } else { 0 };
        if above.len() + below > LEVELS_MAX {
            return Err(refused("there would be more than 5 edges above one another"));
        }
        Ok(())
    }

    /// How many edges stand above one another from this one downwards, itself among them.
    fn levels_from(&self, edge: &Name) -> usize {
        let behind = self.of_edge(edge);
        let edges = behind.iter().filter(|one| one.edge && one.identity.module.is_none());
        let above = edges.filter_map(|one| self.above(&one.identity.device).iter().position(|at| at == edge));
        1 + above.map(|between| between + 1).max().unwrap_or_default()
    }

    fn check_childless(&self, device: &Name) -> Result<(), DirectoryError> {
        let children = self.registry.children(device);
        match children.first() {
            None => Ok(()),
            Some(first) => Err(DirectoryError::HasChildren {
                device: device.clone(),
                children: children.len(),
                first: first.clone(),
            }),
        }
    }

    /// Removes a device with its modules, or a module, and their twins.
    pub(crate) async fn remove(&self, who: &Identity) -> Result<Applied, DirectoryError> {
        for _ in 0..TRIES_MAX {
            match self.try_remove(who).await {
                Err(DirectoryError::Backend(BackendError::Conflict { .. })) => {}
                result => return result,
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.try_remove(who).await
    }

    async fn try_remove(&self, who: &Identity) -> Result<Applied, DirectoryError> {
        let _turn = self.turn.lock().await;
        let device = self.registry.device(who).ok_or_else(|| RegistryFault::NoSuchDevice(who.clone()))?;
        if who.module.is_none() {
            self.check_childless(&who.device)?;
        }
        let all = self.registry.with_modules(who);
        let concerned = self.concerned_by_removal(who, &device);
        let mut writes = Vec::new();
        for one in &all {
            writes.push(Write::delete(Space::Identities, &one.to_string()));
            writes.push(Write::delete(Space::Twins, &one.to_string()));
        }
        if who.module.is_none() {
            writes.push(Write::delete(Space::Edges, &who.device));
            writes.push(Write::delete(Space::Statuses, &who.device));
        }
        let applied = self.store(writes, concerned).await?;
        self.registry.remove(who)?;
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(applied)
    }
}
