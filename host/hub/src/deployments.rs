//! Deployments: what edges should run.
//!
//! Documents of the space `deployments` under their id. Each names its target: one edge, or a condition on tags with a
//! priority. The deployment that names an edge goes before all; else the one with the highest priority whose condition
//! holds; of two alike the newer one. On it come the *layers* that are for the edge and that it does not outrank: deployments
//! whose `$edgeAgent` says only what to change (`properties.desired.modules.x`); of two that say something of the same key, the one
//! that ranks higher holds. What is assigned to each edge is a document of the space `hub` under
//! `assigned/{edge}`, written with the edge's new revision, so that an edge that was away learns of it.

use crate::{
    backend::{Backend, BackendError, DocumentChange, Space, Write},
    directory::{Applied, Revisions, Told},
    layers,
    query::{Condition, InvalidCondition},
};
use holdfast_config::manifest;
use holdfast_link::{Assigned, Change, Deployment, Settings};
use holdfast_types::{Name, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

/// Most deployments (IoT Hub: 100).
pub const DEPLOYMENTS_MAX: usize = 100;

/// Most bytes of a manifest: it travels in one answer.
pub(crate) const MANIFEST_BYTES_MAX: usize = 240 * 1024;

/// What IoT Hub calls the desired properties in a manifest.
const DESIRED: &str = "properties.desired";

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
    #[error("the manifest has no modulesContent; give an IoT Edge deployment manifest, or a layer for one")]
    NoManifest,
    /// A layer says something that no layer says.
    #[error(
        "{module} has {key:?}, which no layer changes; write \"properties.desired\", or \"properties.desired.a.b\" in a layer"
    )]
    NoLayer {
        /// Of which module.
        module: String,
        /// The key.
        key: String,
    },
    /// The manifest has faults, over which every edge would refuse it; this is all of them.
    #[error("{0}")]
    Faulty(String),
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

    /// Whether it says only what to change of a base deployment.
    pub fn is_layer(&self) -> bool {
        let agent = self.manifest.get("modulesContent").and_then(|content| content.get("$edgeAgent"));
        agent.and_then(|agent| agent.get(DESIRED)).is_none_or(|desired| !desired.is_object())
    }

    /// That a base deployment is one that an edge takes; a layer can only be looked at on its base.
    ///
    /// # Errors
    /// Every fault of the manifest.
    pub(crate) fn check_base(&self) -> Result<(), DeploymentError> {
        if self.is_layer() {
            return Ok(());
        }
        let read = manifest::import(self.manifest.to_string().as_bytes());
        read.map(drop).map_err(|faults| DeploymentError::Faulty(faults.to_string()))
    }

    /// That each key of a layer is one of desired properties.
    fn check_layer(&self) -> Result<(), DeploymentError> {
        let content = self.manifest.get("modulesContent").and_then(Value::as_object);
        for (module, properties) in content.into_iter().flatten() {
            let is_desired = |key: &str| {
                let rest = key.strip_prefix(DESIRED);
                rest.is_some_and(|rest| rest.is_empty() || rest.len() > 1 && rest.starts_with('.'))
            };
            let mut keys = properties.as_object().into_iter().flat_map(Map::keys);
            if let Some(key) = keys.find(|key| !is_desired(key)) {
                return Err(DeploymentError::NoLayer { module: module.clone(), key: key.clone() });
            }
        }
        Ok(())
    }

    pub(crate) fn as_sent(&self) -> Deployment {
        Deployment { id: self.content_id(), manifest: self.manifest.clone() }
    }
}

/// `$edgeHub`'s `storeAndForwardConfiguration.timeToLiveSecs`.
fn settings(deployment: &Deployment) -> Settings {
    let hub = deployment.manifest.get("modulesContent").and_then(|content| content.get("$edgeHub"));
    let desired = hub.and_then(|hub| hub.get("properties.desired"));
    let keep = desired.and_then(|desired| desired.get("storeAndForwardConfiguration"));
    let seconds = keep.and_then(|keep| keep.get("timeToLiveSecs")).and_then(Value::as_u64);
    Settings { time_to_live_s: seconds.and_then(|seconds| u32::try_from(seconds).ok()) }
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

/// What the edge, and each edge above it, is told; all of them have a new revision, and had these before.
fn assigned_to(
    edge: &Name,
    before: BTreeMap<Name, u64>,
    revision: u64,
    deployment: Option<Deployment>,
    settings: Settings,
) -> Applied {
    let told = before.into_iter().map(|(one, from)| {
        let changes = if one == *edge {
            vec![Change::Deployment(deployment.clone()), Change::Settings(settings.clone())]
        } else {
            let (deployment, settings) = (deployment.clone(), settings.clone());
            vec![Change::Below(Assigned { edge: edge.clone(), deployment, settings })]
        };
        (one, Told { from, changes })
    });
    Applied { revision, told: told.collect() }
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

    /// What is for an edge with these tags, the highest in rank last.
    fn meant_for(&self, edge: &Name, tags: &Map<String, Value>) -> Vec<Arc<StoredDeployment>> {
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
        let mut meant: Vec<_> =
            known.values().filter_map(|one| Some((rank(&one)?, one.stored.clone()))).collect();
        meant.sort_by_key(|(rank, _)| *rank);
        meant.into_iter().map(|(_, stored)| stored).collect()
    }

    /// What an edge should run: the base that ranks highest, with the layers that rank above it.
    pub(crate) fn for_edge(&self, edge: &Name, tags: &Map<String, Value>) -> (Option<Deployment>, Settings) {
        let chosen = self.chosen_for(edge, tags);
        let deployment = match &chosen[..] {
            [] => return Default::default(),
            [base] => base.as_sent(),
            [base, ..] => layers::put_together(&chosen).unwrap_or_else(|why| {
                let deployments = layers::names(&chosen);
                tracing::error!(%edge, deployments, why, "layers do not fit on their base; the edge runs the base without them");
                base.as_sent()
            }),
        };
        let settings = settings(&deployment);
        (Some(deployment), settings)
    }

    /// Whether an edge is to run any.
    pub(crate) fn is_any_for(&self, edge: &Name, tags: &Map<String, Value>) -> bool {
        !self.chosen_for(edge, tags).is_empty()
    }

    /// Whether an edge is to run this one, alone or together with others.
    pub(crate) fn is_for(&self, id: &str, edge: &Name, tags: &Map<String, Value>) -> bool {
        self.chosen_for(edge, tags).iter().any(|one| one.id == id)
    }

    /// The base for an edge, and its layers in their order.
    fn chosen_for(&self, edge: &Name, tags: &Map<String, Value>) -> Vec<Arc<StoredDeployment>> {
        let mut meant = self.meant_for(edge, tags);
        match meant.iter().rposition(|one| !one.is_layer()) {
            Some(base) => meant.split_off(base),
            None => Vec::new(),
        }
    }

    /// Of these edges those that run their base without its layers, since those do not fit, and why; of one deployment alone if
    /// that is asked for.
    pub(crate) fn left_out(
        &self,
        edges: impl IntoIterator<Item = (Name, Arc<Map<String, Value>>)>,
        of: Option<&str>,
    ) -> BTreeMap<Name, String> {
        // Many edges have the same.
        let mut known: HashMap<String, Option<String>> = HashMap::new();
        let mut left_out = BTreeMap::new();
        for (edge, tags) in edges {
            let chosen = self.chosen_for(&edge, &tags);
            if chosen.len() < 2 || of.is_some_and(|of| chosen.iter().all(|one| one.id != of)) {
                continue;
            }
            let why =
                known.entry(layers::names(&chosen)).or_insert_with(|| layers::put_together(&chosen).err());
            if let Some(why) = why {
                left_out.insert(edge, why.clone());
            }
        }
        left_out
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
        if given.manifest.get("modulesContent").and_then(Value::as_object).is_none_or(Map::is_empty) {
            return Err(DeploymentError::NoManifest);
        }
        if given.is_layer() {
            given.check_layer()?;
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
        let edges = batch.iter().filter(|one| one.space == Space::Edges);
        let before = edges.filter_map(|one| {
            let from = one.before.as_ref().map_or(0, |stored| stored.revision);
            Some((Name::new(&one.key).ok()?, from))
        });
        Some(assigned_to(&edge, before.collect(), change.revision, deployment, settings))
    }

    /// Whether an edge was told what it should run now.
    pub(crate) fn is_assigned(&self, edge: &Name, tags: &Map<String, Value>) -> bool {
        let (deployment, _) = self.for_edge(edge, tags);
        self.assigned_id(edge) == deployment.map(|one| one.id).unwrap_or_default()
    }

    fn assigned_id(&self, edge: &Name) -> String {
        let assigned = self.assigned.read().unwrap_or_else(PoisonError::into_inner);
        assigned.get(edge).map(|(_, id)| id.clone()).unwrap_or_default()
    }

    /// Looks what an edge should run now; if that is another one than it was told, gives what it and those above it are to be
    /// told. The revisions are theirs.
    pub(crate) async fn reassign(
        &self,
        edge: &Name,
        revisions: Revisions,
        tags: &Map<String, Value>,
    ) -> Result<Option<Applied>, BackendError> {
        let _turn = self.turn.lock().await;
        let (deployment, settings) = self.for_edge(edge, tags);
        let id = deployment.as_ref().map(|one| one.id.clone()).unwrap_or_default();
        if self.assigned_id(edge) == id {
            return Ok(None);
        }
        let Revisions { mut writes, before } = revisions;
        writes.push(Write::set(Space::Hub, &assigned_key(edge), id.clone()));
        let revision = self.backend.put(writes).await?;
        self.assigned.write().unwrap_or_else(PoisonError::into_inner).insert(edge.clone(), (revision, id));
        Ok(Some(assigned_to(edge, before, revision, deployment, settings)))
    }
}
