//! Deployments: what edges should run.
//!
//! Documents of the space `deployments` under their id. Each names its target: one edge, or a condition on tags with a
//! priority. The deployment that names an edge goes before all; else the one with the highest priority whose condition
//! holds; of two alike the newer one. What is assigned to each edge is a document of the space `hub` under
//! `assigned/{edge}`, written with the edge's new revision, so that an edge that was away learns of it.

use crate::{
    backend::{Backend, BackendError, DocumentChange, Space, Write},
    directory::{Applied, Told, new_revisions},
    query::{Condition, InvalidCondition},
};
use holdfast_link::{Change, Deployment, Settings};
use holdfast_types::{Name, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Most deployments (IoT Hub: 100).
pub const DEPLOYMENTS_MAX: usize = 100;

/// Most bytes of a manifest: it travels in one answer.
const MANIFEST_BYTES_MAX: usize = 240 * 1024;

/// A deployment as services give it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredDeployment {
    /// Its name.
    pub id: String,
    /// Whom it is for.
    pub target: Target,
    /// Of two whose conditions hold, the one with the higher number goes first.
    #[serde(default)]
    pub priority: u32,
    /// An IoT Edge manifest.
    pub manifest: Value,
    /// When it was given.
    #[serde(default)]
    pub created_ms: u64,
    /// The revision that gave it; part of the name that edges see, so that another content has another name.
    #[serde(default)]
    pub revision: u64,
}

/// Whom a deployment is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One edge.
    Device(String),
    /// Every edge for which this holds: `tags.site = 'north'`.
    Condition(String),
}

/// Why a deployment is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeploymentError {
    /// Its name cannot be one.
    #[error("{0:?} is no name of a deployment; use letters, digits and -:._%*?!(),=@$', at most 128 of them")]
    Name(String),
    /// Its condition is not understood.
    #[error(transparent)]
    Condition(#[from] InvalidCondition),
    /// The manifest is not one.
    #[error("the manifest has no modulesContent with $edgeAgent; give an IoT Edge deployment manifest")]
    NoManifest,
    /// The manifest is too large.
    #[error("the manifest has {0} bytes, at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// There are as many as may be.
    #[error("there are {DEPLOYMENTS_MAX} deployments, as many as may be; remove some")]
    TooMany,
    /// There is none of that name.
    #[error("there is no deployment {0:?}")]
    NoSuch(String),
    /// The storage failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

struct Known {
    stored: Arc<StoredDeployment>,
    condition: Option<Condition>,
}

/// Every deployment, and what is assigned to each edge.
pub struct Deployments {
    backend: Arc<dyn Backend>,
    known: RwLock<BTreeMap<String, Known>>,
    assigned: RwLock<BTreeMap<Name, (u64, String)>>,
    turn: tokio::sync::Mutex<()>,
}

impl StoredDeployment {
    /// The name that edges see: another one for each content.
    pub fn content_id(&self) -> String {
        format!("{}@{}", self.id, self.revision)
    }

    fn as_sent(&self) -> Deployment {
        Deployment { id: self.content_id(), manifest: self.manifest.clone() }
    }

    /// `$edgeHub`'s `storeAndForwardConfiguration.timeToLiveSecs`.
    fn settings(&self) -> Settings {
        let hub = self.manifest.get("modulesContent").and_then(|content| content.get("$edgeHub"));
        let desired = hub.and_then(|hub| hub.get("properties.desired"));
        let keep = desired.and_then(|desired| desired.get("storeAndForwardConfiguration"));
        let seconds = keep.and_then(|keep| keep.get("timeToLiveSecs")).and_then(Value::as_u64);
        Settings { time_to_live_s: seconds.and_then(|seconds| u32::try_from(seconds).ok()) }
    }
}

fn known(stored: StoredDeployment) -> Result<Known, DeploymentError> {
    let condition = match &stored.target {
        Target::Device(_) => None,
        Target::Condition(text) => Some(Condition::parse(text)?),
    };
    Ok(Known { stored: Arc::new(stored), condition })
}

fn read(value: &[u8], revision: u64) -> Result<Known, String> {
    let read = serde_json::from_slice::<StoredDeployment>(value).map_err(|why| why.to_string())?;
    known(StoredDeployment { revision, ..read }).map_err(|why| why.to_string())
}

fn assigned_to(
    edge: Name,
    from: u64,
    revision: u64,
    deployment: Option<Deployment>,
    settings: Settings,
) -> Applied {
    let changes = vec![Change::Deployment(deployment), Change::Settings(settings)];
    Applied { revision, told: BTreeMap::from([(edge, Told { from, changes })]) }
}

fn assigned_key(edge: &Name) -> String {
    format!("assigned/{edge}")
}

impl Deployments {
    pub(crate) async fn open(backend: Arc<dyn Backend>) -> Result<Self, DeploymentError> {
        let mut all = BTreeMap::new();
        for (key, stored) in backend.list(Space::Deployments, "", None, DEPLOYMENTS_MAX).await? {
            match read(&stored.value, stored.revision) {
                Ok(known) => drop(all.insert(key.to_string(), known)),
                Err(why) => {
                    tracing::error!(deployment = %key, why, "a deployment cannot be read and is passed over");
                }
            }
        }
        let mut assigned = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = backend.list(Space::Hub, "assigned/", after.as_deref(), 1000).await?;
            for (key, stored) in &page {
                let edge = key.strip_prefix("assigned/").and_then(|edge| Name::new(edge).ok());
                if let (Some(edge), Ok(id)) = (edge, std::str::from_utf8(&stored.value)) {
                    assigned.insert(edge, (stored.revision, id.to_owned()));
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == 1000 => after = Some(key.to_string()),
                _ => break,
            }
        }
        Ok(Self {
            backend,
            known: RwLock::new(all),
            assigned: RwLock::new(assigned),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Every deployment.
    pub fn all(&self) -> Vec<Arc<StoredDeployment>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|one| one.stored.clone()).collect()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<Arc<StoredDeployment>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).map(|one| one.stored.clone())
    }

    /// The one that an edge with these tags should run.
    fn choose(&self, edge: &Name, tags: &Map<String, Value>) -> Option<Arc<StoredDeployment>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let rank = |one: &&Known| match (&one.stored.target, &one.condition) {
            (Target::Device(device), _) if device == edge.as_str() => {
                Some((true, one.stored.priority, one.stored.created_ms))
            }
            (_, Some(condition)) if condition.holds(edge, tags) => {
                Some((false, one.stored.priority, one.stored.created_ms))
            }
            _ => None,
        };
        let best = known.values().filter(|one| rank(one).is_some()).max_by_key(rank);
        best.map(|one| one.stored.clone())
    }

    pub(crate) fn for_edge(&self, edge: &Name, tags: &Map<String, Value>) -> (Option<Deployment>, Settings) {
        let chosen = self.choose(edge, tags);
        let settings = chosen.as_ref().map(|one| one.settings()).unwrap_or_default();
        (chosen.map(|one| one.as_sent()), settings)
    }

    pub(crate) async fn put(
        &self,
        given: StoredDeployment,
        now: UnixMillis,
    ) -> Result<Arc<StoredDeployment>, DeploymentError> {
        let _turn = self.turn.lock().await;
        if Name::new(&given.id).is_err() {
            return Err(DeploymentError::Name(given.id));
        }
        if given.manifest.get("modulesContent").and_then(|content| content.get("$edgeAgent")).is_none() {
            return Err(DeploymentError::NoManifest);
        }
        let created_ms = if given.created_ms == 0 { now.0 } else { given.created_ms };
        let given = StoredDeployment { created_ms, revision: 0, ..given };
        let value = serde_json::to_vec(&given).unwrap_or_default();
        if value.len() > MANIFEST_BYTES_MAX {
            return Err(DeploymentError::TooLarge(value.len()));
        }
        let new = known(given)?;
        let is_new = self.get(&new.stored.id).is_none();
        if is_new && self.all().len() >= DEPLOYMENTS_MAX {
            return Err(DeploymentError::TooMany);
        }
        let revision = self.backend.put(vec![Write::set(Space::Deployments, &new.stored.id, value)]).await?;
        let stored = Arc::new(StoredDeployment { revision, ..(*new.stored).clone() });
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(stored.id.clone(), Known { stored: stored.clone(), condition: new.condition });
        Ok(stored)
    }

    /// Waits until what is on disk by now is in memory too.
    pub(crate) async fn is_settled(&self) {
        drop(self.turn.lock().await);
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<(), DeploymentError> {
        let _turn = self.turn.lock().await;
        if self.get(id).is_none() {
            return Err(DeploymentError::NoSuch(id.to_owned()));
        }
        self.backend.put(vec![Write::delete(Space::Deployments, id)]).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Takes a deployment that another process has given or removed.
    pub(crate) async fn heard(&self, change: &DocumentChange) {
        let _turn = self.turn.lock().await;
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(&*change.key).is_some_and(|known| known.stored.revision >= change.revision) {
            return;
        }
        match change.value.as_ref().map(|value| read(value, change.revision)) {
            None => drop(all.remove(&*change.key)),
            Some(Ok(known)) => drop(all.insert(change.key.to_string(), known)),
            Some(Err(why)) => {
                tracing::error!(deployment = %change.key, why, "a deployment of another hub process cannot be read");
            }
        }
    }

    /// Takes what another process has assigned to an edge: what the edge is to be told, in the batch of that change.
    pub(crate) fn heard_assigned(
        &self,
        change: &DocumentChange,
        batch: &[DocumentChange],
        tags: impl Fn(&Name) -> Arc<Map<String, Value>>,
    ) -> Option<Applied> {
        let edge = Name::new(change.key.strip_prefix("assigned/")?).ok()?;
        let id = std::str::from_utf8(change.value.as_deref().unwrap_or_default()).ok()?.to_owned();
        {
            let mut assigned = self.assigned.write().unwrap_or_else(PoisonError::into_inner);
            let known = assigned.entry(edge.clone()).or_default();
            if known.0 >= change.revision {
                return None;
            }
            *known = (change.revision, id);
        }
        let (deployment, settings) = self.for_edge(&edge, &tags(&edge));
        let own = batch.iter().find(|one| one.space == Space::Edges && *one.key == *edge.as_str())?;
        let from = own.before.as_ref().map_or(0, |stored| stored.revision);
        Some(assigned_to(edge, from, change.revision, deployment, settings))
    }

    /// Looks what an edge should run now; if that is another one than it was told, gives what it is to be told.
    pub(crate) async fn reassign(
        &self,
        edge: &Name,
        tags: &Map<String, Value>,
    ) -> Result<Option<Applied>, BackendError> {
        loop {
            match self.try_reassign(edge, tags).await {
                // What came between is read anew.
                Err(BackendError::Conflict { .. }) => {}
                result => return result,
            }
        }
    }

    async fn try_reassign(
        &self,
        edge: &Name,
        tags: &Map<String, Value>,
    ) -> Result<Option<Applied>, BackendError> {
        let _turn = self.turn.lock().await;
        let (deployment, settings) = self.for_edge(edge, tags);
        let id = deployment.as_ref().map(|one| one.id.clone()).unwrap_or_default();
        let before = {
            let assigned = self.assigned.read().unwrap_or_else(PoisonError::into_inner);
            assigned.get(edge).map(|(_, id)| id.clone()).unwrap_or_default()
        };
        if before == id {
            return Ok(None);
        }
        let (mut writes, before) = new_revisions(&*self.backend, [edge]).await?;
        writes.push(Write::set(Space::Hub, &assigned_key(edge), id.clone()));
        let revision = self.backend.put(writes).await?;
        self.assigned.write().unwrap_or_else(PoisonError::into_inner).insert(edge.clone(), (revision, id));
        let from = before.get(edge).copied().unwrap_or_default();
        Ok(Some(assigned_to(edge.clone(), from, revision, deployment, settings)))
    }
}
