//! What is kept of deployments: documents of the space `deployment`, JSON, each with its format.
//!
//! | key | what it is | written |
//! |---|---|---|
//! | `current` | the deployment that runs, and whether it has passed its probation | before the switch, in one commit with `previous` |
//! | `previous` | the one before, which comes back if `current` fails | with `current`; gone when nothing was before |
//! | `last` | how the newest order ended | when it has ended |
//! | `twin/MODULE` | desired properties of a module as they were before the switch | with `current`; deleted when it has passed, or is taken back |
//!
//! A host that is killed finds either the old `current` and has done nothing, or the new one, not proved, and goes on with its
//! switch and its probation.

use anyhow::bail;
use bytes::Bytes;
use holdfast_broker::{DeploymentOrigin, DeploymentPhase, Documents};
use holdfast_types::{Name, Text};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const SPACE: &str = "deployment";
const FORMAT: u32 = 1;
const TWIN: &str = "twin/";

/// Who wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Hub,
    Operator,
}

/// A deployment as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    format: u32,
    pub id: String,
    pub origin: Origin,
    /// The manifest as it was given.
    pub manifest: String,
    /// Whether it has passed its probation.
    pub proved: bool,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    format: u32,
    pub id: String,
    pub origin: Origin,
    pub phase: String,
    pub code: u16,
    pub reason: String,
    pub since_ms: u64,
}

/// Everything that is kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub current: Option<Stored>,
    pub previous: Option<Stored>,
    pub last: Option<Last>,
    /// Twins as they were before the switch.
    pub twins: BTreeMap<Name, Map<String, Value>>,
}

impl From<DeploymentOrigin> for Origin {
    fn from(origin: DeploymentOrigin) -> Self {
        match origin {
            DeploymentOrigin::Hub => Self::Hub,
            DeploymentOrigin::Operator => Self::Operator,
        }
    }
}

impl From<Origin> for DeploymentOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Hub => Self::Hub,
            Origin::Operator => Self::Operator,
        }
    }
}

impl Stored {
    /// One that has not run yet.
    pub fn new(id: &str, origin: Origin, manifest: String) -> Self {
        Self { format: FORMAT, id: id.to_owned(), origin, manifest, proved: false }
    }

    /// Whether it wants the same.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.id, self.origin, &self.manifest) == (&other.id, other.origin, &other.manifest)
    }
}

impl Last {
    pub fn new(
        id: &str,
        origin: Origin,
        phase: DeploymentPhase,
        code: u16,
        reason: &str,
        since_ms: u64,
    ) -> Self {
        let (phase, reason) = (phase.as_str().to_owned(), reason.to_owned());
        Self { format: FORMAT, id: id.to_owned(), origin, phase, code, reason, since_ms }
    }

    /// The phase, which is a final one.
    pub fn phase(&self) -> DeploymentPhase {
        [DeploymentPhase::Refused, DeploymentPhase::RolledBack, DeploymentPhase::Applied]
            .into_iter()
            .find(|phase| phase.as_str() == self.phase)
            .unwrap_or_default()
    }
}

impl Kept {
    /// Reads all of it.
    pub fn load(documents: &Documents) -> anyhow::Result<Self> {
        let mut kept = Self {
            current: one(documents, "current")?,
            previous: one(documents, "previous")?,
            last: one(documents, "last")?,
            twins: BTreeMap::new(),
        };
        for (key, value) in documents.scan(SPACE, TWIN, usize::MAX)? {
            let name = key.strip_prefix(TWIN).and_then(|name| Name::new(name).ok());
            if let (Some(name), Ok(twin)) = (name, serde_json::from_slice(&value)) {
                kept.twins.insert(name, twin);
            }
        }
        Ok(kept)
    }

    /// Writes all of it in one commit. `before` says which twins are on disk and no longer kept.
    pub async fn save(&self, documents: &Documents, before: &Self) -> anyhow::Result<()> {
        let mut all: Vec<(Text, Option<Bytes>)> = vec![
            ("current".into(), self.current.as_ref().map(json).transpose()?),
            ("previous".into(), self.previous.as_ref().map(json).transpose()?),
            ("last".into(), self.last.as_ref().map(json).transpose()?),
        ];
        let key = |name: &Name| Text::from(format!("{TWIN}{name}"));
        all.extend(
            before.twins.keys().filter(|name| !self.twins.contains_key(*name)).map(|name| (key(name), None)),
        );
        for (name, twin) in &self.twins {
            all.push((key(name), Some(json(twin)?)));
        }
        Ok(documents.write_all(SPACE, all).await?)
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<Bytes> {
    Ok(serde_json::to_vec(value)?.into())
}

/// A document of this space; an error if a later host wrote it.
fn one<T: DeserializeOwned>(documents: &Documents, key: &str) -> anyhow::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let Some(bytes) = documents.value(SPACE, key)? else { return Ok(None) };
    let Head { format } = serde_json::from_slice(&bytes)?;
    if format != FORMAT {
        bail!("the {key} deployment in the store has format {format}, and this host knows {FORMAT}");
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}
