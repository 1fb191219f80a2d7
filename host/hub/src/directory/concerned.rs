//! Whom a change of the registry concerns: which edges are told what, and from which of their revisions on; for changes that are
//! made here, and for those of another process.

use super::{Directory, DirectoryError, TURN_KEY};
use crate::backend::{Backend, BackendError, DocumentChange, Expect, Space, Stored, Write};
use bytes::Bytes;
use holdfast_auth::Device;
use holdfast_link::Change;
use holdfast_links::record_of;
use holdfast_types::{Identity, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

/// A change and whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) revision: u64,
    /// For each edge what it is told.
    pub(crate) told: BTreeMap<Name, Told>,
}

/// What an edge is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// The revision that it must have before.
    pub(crate) from: u64,
    pub(crate) changes: Vec<Change>,
}

/// Changes by the edge that is told of them.
pub(super) type Concerned = BTreeMap<Name, Vec<Change>>;

/// New revisions of edges.
#[derive(Debug)]
pub(crate) struct Revisions {
    /// What gives them; refused when one of the edges has another revision by then.
    pub(crate) writes: Vec<Write>,
    /// The revisions that they have now.
    pub(crate) before: BTreeMap<Name, u64>,
}

/// Prepares new revisions of edges.
pub(crate) async fn new_revisions(backend: &dyn Backend, edges: &[Name]) -> Result<Revisions, BackendError> {
    let (mut writes, mut before) = (Vec::new(), BTreeMap::new());
    for edge in edges {
        let found = backend.get(Space::Edges, edge).await?;
        let expect = Expect::as_found(found.as_ref());
        writes.push(Write::set(Space::Edges, edge, Bytes::new()).when(expect));
        before.insert(edge.clone(), found.map_or(0, |stored| stored.revision));
    }
    Ok(Revisions { writes, before })
}

impl Directory {
    /// Takes what another process has changed. What cannot be read is logged and passed over.
    pub(crate) async fn heard(&self, batch: &[DocumentChange]) -> Applied {
        let _turn = self.turn.lock().await;
        let (mut revision, mut concerned) = (0, Concerned::new());
        for change in batch {
            revision = change.revision;
            match (change.space, Identity::parse(&change.key)) {
                (Space::Hub, _) if *change.key == *TURN_KEY => {
                    self.seen.store(change.revision, Ordering::Release);
                }
                (Space::Identities, Some(who)) => match self.heard_of(&who, change) {
                    Ok(more) => {
                        more.into_iter()
                            .for_each(|(edge, more)| concerned.entry(edge).or_default().extend(more));
                    }
                    Err(error) => {
                        tracing::error!(device = %who, %error, "what another hub process has changed cannot be taken");
                    }
                },
                _ => {}
            }
        }
        let before = |edge: &Name| {
            let of_edge =
                |change: &&DocumentChange| change.space == Space::Edges && *change.key == *edge.as_str();
            let found = batch.iter().find(of_edge).and_then(|change| change.before.as_ref());
            found.map_or(0, |stored: &Stored| stored.revision)
        };
        let told = concerned.into_iter().map(|(edge, changes)| {
            let from = before(&edge);
            (edge, Told { from, changes })
        });
        Applied { revision, told: told.collect() }
    }

    fn heard_of(&self, who: &Identity, change: &DocumentChange) -> Result<Concerned, DirectoryError> {
        let before = self.registry.device(who);
        match (&change.value, before) {
            (Some(sealed), before) => {
                let device = self.device(&change.key, sealed)?;
                let concerned = self.concerned(&device, before.as_deref());
                self.keep(device)?;
                Ok(concerned)
            }
            (None, Some(before)) => {
                let concerned = self.concerned_by_removal(who, &before);
                self.registry.remove(who)?;
                self.changes.fetch_add(1, Ordering::AcqRel);
                Ok(concerned)
            }
            // It went with its device.
            (None, None) => Ok(Concerned::new()),
        }
    }

    /// What edges are told when a device becomes this one.
    pub(super) fn concerned(&self, device: &Device, before: Option<&Device>) -> Concerned {
        let mut told = Concerned::new();
        let (old_way, new_way) =
            (self.ways(&device.identity, before), self.ways(&device.identity, Some(device)));
        let is_device = device.identity.module.is_none();
        // A device that moves takes with it what is behind it.
        let behind: Vec<Arc<Device>> = match before.filter(|before| is_device && before.edge) {
            Some(_) if old_way != new_way => self.of_edge(&device.identity.device),
            _ => Vec::new(),
        };
        let others = |one: &&Arc<Device>| one.identity.device != device.identity.device;
        for edge in old_way.difference(&new_way) {
            let changes = told.entry(edge.clone()).or_default();
            let devices = behind.iter().filter(others).filter(|one| one.identity.module.is_none());
            changes.extend(devices.map(|one| Change::Removed(one.identity.clone())));
            changes.push(Change::Removed(device.identity.clone()));
        }
        for edge in &new_way {
            let changes = told.entry(edge.clone()).or_default();
            changes.push(Change::Identity(record_of(device)));
            if !old_way.contains(edge) && is_device {
                // A child that comes brings its modules.
                let own = self.registry.with_modules(&device.identity);
                let modules = own.iter().filter(|one| one.module.is_some());
                changes.extend(
                    modules
                        .filter_map(|one| self.registry.device(one))
                        .map(|one| Change::Identity(record_of(&one))),
                );
                changes.extend(behind.iter().filter(others).map(|one| Change::Identity(record_of(one))));
            }
        }
        told
    }

    /// What edges are told when a device or module is gone.
    pub(super) fn concerned_by_removal(&self, who: &Identity, device: &Device) -> Concerned {
        let ways = self.ways(who, Some(device)).into_iter();
        ways.filter(|edge| who.module.is_some() || *edge != who.device)
            .map(|edge| (edge, vec![Change::Removed(who.clone())]))
            .collect()
    }

    /// The edges that know an identity: all above it, and itself if it is one.
    fn ways(&self, who: &Identity, device: Option<&Device>) -> BTreeSet<Name> {
        let Some(device) = device else { return BTreeSet::new() };
        let of_module =
            who.module.as_ref().and_then(|_| self.registry.device(&Identity::device(who.device.clone())));
        let device = of_module.as_deref().unwrap_or(device);
        let own = device.edge.then(|| device.identity.device.clone());
        let above = device.parent.iter().flat_map(|parent| self.above(parent));
        device.parent.iter().cloned().chain(above).chain(own).collect()
    }
}
