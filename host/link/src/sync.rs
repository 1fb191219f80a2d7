//! What an edge and a hub tell each other first, and how an edge learns what it should know.
//!
//! A hub counts its changes: a *revision* is how far it has counted. The edge remembers the revision that it has applied,
//! and of which hub. If that is still the hub's, nothing is to be fetched; else the edge asks for each [`Part`] page by page and
//! applies all of it at once. While it is connected it gets each change as a [`Delta`] that names the revision it follows
//! upon; an edge that has another one answers 409 and fetches everything anew.

use crate::{
    BODY_BYTES_MAX, Document, Settings, deployment::Deployment, fields, identities::IdentityRecord,
    twins::TwinRecord,
};
use holdfast_types::{Identity, Name, Offset, Priority};
use serde::{Deserialize, Serialize};

/// Bytes of records that [`take_page`] puts on one page: what else stands in the document has room beside it.
pub const PAGE_RECORD_BYTES: usize = BODY_BYTES_MAX - 4096;

/// Most bytes of a page token.
pub const PAGE_TOKEN_BYTES_MAX: usize = 1024;

/// The edge says what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest version of the protocol that it speaks.
    pub protocol: u32,
    /// The life of its store.
    #[serde(with = "fields::epoch")]
    pub epoch: u64,
    /// What its log still holds for the hub: priorities in which nothing was ever stored are left out.
    pub held: Vec<Held>,
    /// The hub whose revision it has applied; none before the first sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// The revision that it has applied; 0 before the first sync.
    pub revision: u64,
}

impl Document for Hello {
    const NAME: &'static str = "hello";
}

/// What the log of the edge holds of one priority: all from `next` up to, but not with, `tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The priority.
    #[serde(with = "fields::priority")]
    pub priority: Priority,
    /// The sequence that is to be sent next.
    #[serde(with = "fields::offset")]
    pub next: Offset,
    /// The sequence that will be given next: one above the highest.
    #[serde(with = "fields::offset")]
    pub tail: Offset,
}

/// The hub says what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol that is spoken from now on: the newest that both know.
    pub protocol: u32,
    /// Names the hub's registry. Another one counts other revisions.
    pub hub: String,
    /// Its revision.
    pub revision: u64,
    /// The highest sequence that it has on disk, for each epoch and priority of this edge.
    pub marks: Vec<Mark>,
    /// Whether the edge must fetch everything but twins, whose changes it fetches in any case.
    pub full_sync: bool,
}

impl Document for Welcome {
    const NAME: &'static str = "welcome";
}

/// A high-water mark: all sequences up to this one are on the hub's disk, or are known to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The life of the edge's store.
    #[serde(with = "fields::epoch")]
    pub epoch: u64,
    /// The priority.
    #[serde(with = "fields::priority")]
    pub priority: Priority,
    /// The highest sequence.
    #[serde(with = "fields::offset")]
    pub sequence: Offset,
}

/// What an edge should know, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The devices whose parent is this edge and what is behind those that are edges, all with their modules, and the edge itself
    /// with the modules that the hub knows.
    Identities,
    /// The twins of all of them.
    Twins,
    /// What the edge should run.
    Deployment,
    /// How the edge should keep messages.
    Settings,
}

/// The edge asks for a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Of what.
    pub what: Part,
    /// Deployment and settings only: of which edge below the one that asks; none is that one itself.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::name::optional")]
    pub of: Option<Name>,
    /// Which page: as the page before says; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

impl Document for SyncRequest {
    const NAME: &'static str = "sync request";
    fn check(&self) -> Result<(), String> {
        check_token(self.page.as_ref())
    }
}

fn check_token(token: Option<&String>) -> Result<(), String> {
    match token.map(String::len) {
        Some(bytes) if bytes > PAGE_TOKEN_BYTES_MAX => {
            Err(format!("the page token has {bytes} bytes, at most {PAGE_TOKEN_BYTES_MAX} are allowed"))
        }
        _ => Ok(()),
    }
}

/// A page of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The hub's revision when it made the page. Pages of one sync must agree, or the edge begins anew.
    pub revision: u64,
    /// What to ask for next; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What stands on it.
    #[serde(flatten)]
    pub content: PageContent,
}

impl Document for Page {
    const NAME: &'static str = "sync page";
    fn check(&self) -> Result<(), String> {
        check_token(self.next.as_ref())
    }
}

/// What stands on a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageContent {
    /// Of [`Part::Identities`]; a device stands before its modules.
    Identities(Vec<IdentityRecord>),
    /// Of [`Part::Twins`].
    Twins(Vec<TwinRecord>),
    /// Of [`Part::Deployment`]; none if nothing is assigned.
    Deployment(Option<Deployment>),
    /// Of [`Part::Settings`].
    Settings(Settings),
}

impl PageContent {
    /// The part that it is of.
    pub const fn part(&self) -> Part {
        match self {
            Self::Identities(_) => Part::Identities,
            Self::Twins(_) => Part::Twins,
            Self::Deployment(_) => Part::Deployment,
            Self::Settings(_) => Part::Settings,
        }
    }
}

/// Takes as many records as fit on a page, at least one if there is one; gives back what the next page begins with.
pub fn take_page<T: Serialize>(records: impl IntoIterator<Item = T>) -> (Vec<T>, Option<T>) {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for record in records {
        // One that cannot be written is found when the page is encoded.
        bytes += serde_json::to_vec(&record).map_or(0, |json| json.len() + 1);
        if bytes > PAGE_RECORD_BYTES && !page.is_empty() {
            return (page, Some(record));
        }
        page.push(record);
    }
    (page, None)
}

/// The hub tells what has changed. Twins have a call of their own, `desired`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// The revision that the edge must have for this to follow upon.
    pub from: u64,
    /// The revision that it has then.
    pub revision: u64,
    /// In this order, all at once.
    pub changes: Vec<Change>,
}

impl Document for Delta {
    const NAME: &'static str = "delta";
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// An identity is new or other than before.
    Identity(IdentityRecord),
    /// An identity is gone, or is no longer a child of this edge; a device goes with its modules.
    Removed(#[serde(with = "fields::identity")] Identity),
    /// The deployment is another one; none if nothing is assigned any longer.
    Deployment(Option<Deployment>),
    /// The settings are others.
    Settings(Settings),
    /// What an edge below should run, and how it should keep messages.
    Below(Assigned),
}

/// What is assigned to an edge below the one that is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// Which.
    #[serde(with = "fields::name")]
    pub edge: Name,
    /// What it should run; none if nothing is assigned.
    pub deployment: Option<Deployment>,
    /// How it should keep messages.
    pub settings: Settings,
}

/// The answer to a delta, and to a desired change: the revision or version that the edge has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The number.
    pub revision: u64,
}

impl Document for Revision {
    const NAME: &'static str = "revision";
}
