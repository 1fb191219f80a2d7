//! Twins between an edge and its hub.
//!
//! The hub decides what is desired, the edge what is reported; each half has a version that only grows, and its decider
//! counts it. A half with a lower or equal version than the one that is there changes nothing.

use crate::{Document, fields};
use holdfast_types::Identity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One half of a twin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// Counts the changes of the document; 1 when there was none.
    pub version: u64,
    /// The document.
    pub document: Map<String, Value>,
}

impl Default for Half {
    fn default() -> Self {
        Self { version: 1, document: Map::new() }
    }
}

/// A twin as the hub has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinRecord {
    /// Whose.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
    /// What is wanted of its owner.
    pub desired: Half,
    /// What its owner says of itself.
    pub reported: Half,
}

impl Document for TwinRecord {
    const NAME: &'static str = "twin";
}

/// The edge asks for a twin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinGet {
    /// Whose.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
}

impl Document for TwinGet {
    const NAME: &'static str = "twin request";
}

/// The edge tells what an identity reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinReport {
    /// Who.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
    /// The version at the edge that this leads to. The hub has the reported properties under this version afterwards; if it
    /// has this version or a higher one already it changes nothing, and says which.
    pub version: u64,
    /// What changes.
    #[serde(flatten)]
    pub form: ReportForm,
}

impl Document for TwinReport {
    const NAME: &'static str = "twin report";
}

/// What changes of reported properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportForm {
    /// A patch onto version `from`; null deletes. If the hub has another version it answers 409 and its own.
    Patch {
        /// The version that it is made for.
        from: u64,
        /// What to merge.
        patch: Map<String, Value>,
    },
    /// The whole document, whatever was there.
    Document(Map<String, Value>),
}

/// The answer to a report: the version of the reported properties at the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedVersion {
    /// The version.
    pub version: u64,
}

impl Document for ReportedVersion {
    const NAME: &'static str = "reported version";
}

/// The hub tells of a desired change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredChange {
    /// Of whom.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
    /// The version that it leads to. An edge that has it or a higher one changes nothing; one that misses versions before it
    /// fetches the twin.
    pub version: u64,
    /// What changes.
    #[serde(flatten)]
    pub form: DesiredForm,
}

impl Document for DesiredChange {
    const NAME: &'static str = "desired change";
}

/// What changes of desired properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredForm {
    /// A patch onto the version before; null deletes.
    Patch(Map<String, Value>),
    /// The whole document, whatever was there.
    Document(Map<String, Value>),
}
