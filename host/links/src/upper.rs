//! Who answers the edges below: a hub, or an edge.

use crate::{ingest::Ingest, link::Link};
use bytes::Bytes;
use holdfast_auth::{Credential, Device, DeviceStatus, Registry, SharedKey};
use holdfast_link::{Access, Call, IdentityRecord, Problem, Proof, Secret, Status};
use holdfast_types::{Identity, Name, Soon, UnixMillis};
use std::{iter::successors, sync::Arc};

/// Most edges above one another (IoT Edge: 5 levels).
pub const LEVELS_MAX: usize = 5;

/// The document that answers a call, or why there is none.
pub type Answered = Result<Bytes, (Status, Problem)>;

/// Who answers the edges below.
pub trait Upper: Send + Sync + 'static {
    /// Answers a call of an edge. Every answer may be asked for again.
    fn answer<'a>(
        &'a self,
        link: &'a Arc<Link>,
        ingest: &'a Arc<Ingest>,
        call: Call,
        body: &'a [u8],
    ) -> Soon<'a, Answered>;

    /// Counts the changes after which [`Self::may_speak_for`] may have another answer.
    fn changes(&self) -> u64;

    /// Whether an edge may speak for a device: itself, its children, and theirs.
    fn may_speak_for(&self, edge: &Name, device: &Name) -> bool;

    /// Whether messages wait for devices.
    fn has_post(&self) -> bool;

    /// Hands over what waits for devices behind an edge.
    fn deliver_through<'a>(&'a self, link: &'a Arc<Link>) -> Soon<'a, ()>;

    /// A link is over.
    fn link_ended(&self, link: &Arc<Link>);

    /// The time of the wall clock.
    fn now(&self) -> UnixMillis;

    /// Runs a task beside; it ends before this is said to have stopped.
    fn spawn(&self, task: Soon<'static, ()>);
}

/// The edges above a device, the nearest first.
pub fn above(registry: &Registry, device: &Name) -> Vec<Name> {
    let parent = |at: &Name| registry.device(&Identity::device(at.clone()))?.parent.clone();
    successors(parent(device), parent).take(LEVELS_MAX).collect()
}

/// An edge, its children, and what is behind those that are edges, all with their modules, each device before its modules.
pub fn behind(registry: &Registry, edge: &Name) -> Vec<Arc<Device>> {
    registry.behind(edge, LEVELS_MAX)
}

/// A record as an edge and services see it.
pub fn record_of(device: &Device) -> IdentityRecord {
    let secret = |key: &SharedKey| Secret(key.expose());
    let proof = match &device.credential {
        Credential::SharedKey { primary, secondary } => {
            Proof::Sas { primary: secret(primary), secondary: secondary.as_ref().map(secret) }
        }
        Credential::Thumbprints { primary, secondary } => Proof::SelfSigned {
            primary: primary.to_string(),
            secondary: secondary.as_ref().map(ToString::to_string),
        },
        Credential::CertificateAuthority => Proof::CertificateAuthority,
        Credential::None => Proof::None,
    };
    IdentityRecord {
        identity: device.identity.clone(),
        proof,
        status: match device.status {
            DeviceStatus::Enabled => Access::Enabled,
            DeviceStatus::Disabled => Access::Disabled,
        },
        parent: device.parent.clone(),
        generation: device.generation.to_string(),
        edge: device.edge,
    }
}
