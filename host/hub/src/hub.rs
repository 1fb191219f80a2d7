//! The hub itself: what it holds, and what services ask of it.

use crate::{
    backend::{Backend, BackendError, DocumentChange, Events, Expect, Progress, Space, Span, Write},
    deployments::{Deployments, StoredDeployment},
    devicebound::Devicebound,
    directory::{Applied, Directory, Told, new_revisions},
    error::HubError,
    follow::Following,
    peers::{Attendance, Peers},
    twins::{HubTwin, TwinPatch, Twins},
};
use holdfast_auth::{Registry, Sealer};
use holdfast_broker::Broker;
use holdfast_link::{Assigned, Change, ChildState, DesiredChange, DesiredForm, IdentityRecord};
use holdfast_links::{Counts, Down, Ingest, Link};
use holdfast_types::{Identity, Name, Soon, UnixMillis};
use serde_json::Value;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The key of the name of the registry, in the space `hub`.
const ID_KEY: &str = "id";

/// Children whose presence an edge has told are remembered up to this number.
pub(crate) const CHILD_STATES_MAX: usize = 100_000;

/// What a hub is made of.
pub struct HubConfig {
    /// Its name; no device may have it.
    pub name: Name,
    /// Where everything durable goes.
    pub backend: Arc<dyn Backend>,
    /// Who may connect; empty of devices.
    pub registry: Arc<Registry>,
    /// Seals credentials on disk.
    pub sealer: Sealer,
    /// Serves methods, desired changes and messages of devices that are connected here.
    pub broker: Broker,
    /// The other processes of this hub, if the storage is shared.
    pub peers: Option<Arc<dyn Peers>>,
}

/// An edge as services see it.
#[derive(Clone, Debug)]
pub struct EdgeItem {
    /// Its name.
    pub edge: Name,
    /// Whether its link is up.
    pub linked: bool,
    /// The revision that it should have.
    pub revision: u64,
    /// How far its telemetry is stored, and what is missing.
    pub progress: Vec<Progress>,
    /// How its deployment fares, as it told last.
    pub deployment: Option<Value>,
    /// Why it is given its base deployment without the layers on it, if those do not fit.
    pub layers_left_out: Option<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub struct HubCounts {
    /// Events stored since the start that came through edges.
    pub stored: u64,
    /// Messages that edges sent again.
    pub duplicates: u64,
    /// Sequences that never came.
    pub missing: u64,
    /// Messages that edges may not send, or that cannot be read.
    pub refused: u64,
    /// Edges whose link is up.
    pub linked: usize,
}

/// The hub.
pub struct Hub {
    pub(crate) me: Weak<Self>,
    /// Names the registry.
    pub(crate) id: String,
    /// Names this process among others of the same hub.
    pub(crate) process: String,
    pub(crate) name: Name,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) directory: Directory,
    pub(crate) twins: Twins,
    pub(crate) deployments: Deployments,
    pub(crate) devicebound: Devicebound,
    pub(crate) broker: Broker,
    pub(crate) peers: Option<Arc<dyn Peers>>,
    /// Devices for which this process answers to the others.
    pub(crate) attended: Mutex<HashMap<Name, Attendance>>,
    pub(crate) links: Mutex<HashMap<Name, Arc<Link>>>,
    pub(crate) ingests: Mutex<HashMap<Name, Arc<Ingest>>>,
    pub(crate) present: Mutex<HashMap<Identity, usize>>,
    pub(crate) child_states: Mutex<HashMap<Identity, ChildState>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) tasks: TaskTracker,
    pub(crate) following: Following,
    pub(crate) stop: CancellationToken,
    /// What other processes have changed and memory does not have yet; none if this process is alone.
    pub(crate) heard: tokio::sync::Mutex<Option<mpsc::Receiver<Vec<DocumentChange>>>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Opens a hub on its storage.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn open(config: HubConfig) -> Soon<'static, Result<Arc<Self>, HubError>> {
        Box::pin(Self::open_on(config))
    }

    async fn open_on(config: HubConfig) -> Result<Arc<Self>, HubError> {
        let HubConfig { name, backend, registry, sealer, broker, peers } = config;
        // What comes from now on is taken upon what is read from now on.
        let heard = backend.heard().await?;
        let is_shared = heard.is_some();
        let questions = peers.as_ref().and_then(|peers| peers.questions());
        let (id, process) = (id(&*backend).await?, drawn()?);
        let directory = Directory::open(backend.clone(), registry, sealer, name.clone()).await?;
        let twins = Twins::open(backend.clone()).await?;
        let deployments = Deployments::open(backend.clone()).await?;
        let devicebound = Devicebound::open(backend.clone(), broker.now()).await?;
        let hub = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            process,
            name,
            backend,
            directory,
            twins,
            deployments,
            devicebound,
            broker,
            peers,
            attended: Mutex::default(),
            links: Mutex::default(),
            ingests: Mutex::default(),
            present: Mutex::default(),
            child_states: Mutex::default(),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            following: Following::default(),
            stop: CancellationToken::new(),
            heard: tokio::sync::Mutex::new(heard),
        });
        if is_shared {
            hub.spawn(hub.clone().hear());
        }
        questions.into_iter().for_each(|questions| hub.spawn(hub.clone().answer_peers(questions)));
        // A kill may have come between a change and what follows from it.
        hub.reassign_all().await?;
        Ok(hub)
    }

    /// Names the registry of this hub.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Who there is.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What edges should run.
    pub fn deployments(&self) -> &Deployments {
        &self.deployments
    }

    pub(crate) fn twins(&self) -> &Twins {
        &self.twins
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.broker.now()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits for what is under way; the gateway has stopped.
    pub async fn stopped(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What is counted.
    pub fn counts(&self) -> HubCounts {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        HubCounts {
            stored: count(&self.counts.stored),
            duplicates: count(&self.counts.duplicates),
            missing: count(&self.counts.missing),
            refused: count(&self.counts.refused),
            linked: lock(&self.links).values().filter(|link| link.is_ready()).count(),
        }
    }

    // The stream.

    /// Events from an offset on.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn events(&self, from: u64, events_max: usize, bytes_max: usize) -> Result<Events, HubError> {
        Ok(self.backend.events(from, events_max, bytes_max).await?)
    }

    /// What is wrong with the storage now.
    pub fn fault(&self) -> Option<String> {
        self.backend.fault()
    }

    /// Where the stream begins and ends.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn span(&self) -> Result<Span, HubError> {
        Ok(self.backend.span().await?)
    }

    /// The offset behind which so many events are left.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn before_end(&self, count: u64) -> Result<u64, HubError> {
        Ok(self.backend.before_end(count).await?)
    }

    /// Changes whenever something was appended.
    pub fn appends(&self) -> tokio::sync::watch::Receiver<u64> {
        self.backend.appends()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        *self.backend.revision().borrow()
    }

    // The registry.

    /// Adds or changes a device or module; gives the revision.
    ///
    /// # Errors
    /// It is refused, or not stored.
    pub async fn put_device(&self, record: IdentityRecord) -> Result<u64, HubError> {
        self.put_device_added(record, self.now()).await
    }

    pub(crate) async fn put_device_added(
        &self,
        record: IdentityRecord,
        added: UnixMillis,
    ) -> Result<u64, HubError> {
        let device = record.identity.device.clone();
        let edge = edge_of(&record).cloned();
        let is_below = record.parent.is_some() && record.identity.module.is_none();
        let applied = self.with_assigned(self.directory.put(record, added).await?);
        let revision = self.tell(applied);
        if let (true, Some(link)) = (edge.is_none() || is_below, lock(&self.links).get(&device)) {
            // It is no edge any longer, or is to connect to its parent.
            link.over.cancel();
        }
        if let Some(edge) = edge {
            self.reassign(&edge).await?;
        }
        Ok(revision)
    }

    /// Adds what edges should run that are told of to an edge above them.
    pub(crate) fn with_assigned(&self, mut applied: Applied) -> Applied {
        for (edge, told) in &mut applied.told {
            let below = told.changes.iter().filter_map(|change| match change {
                Change::Identity(record) if record.edge && record.identity.device != *edge => {
                    Some(Change::Below(self.assigned(&record.identity.device)))
                }
                _ => None,
            });
            let below: Vec<_> = below.collect();
            told.changes.extend(below);
        }
        applied
    }

    /// What is assigned to an edge.
    fn assigned(&self, edge: &Name) -> Assigned {
        let (deployment, settings) = self.deployments.for_edge(edge, &self.twins.tags(edge));
        Assigned { edge: edge.clone(), deployment, settings }
    }

    /// Removes a device with its modules, or a module.
    ///
    /// # Errors
    /// It is refused, or not stored.
    pub async fn remove_device(&self, who: &Identity) -> Result<u64, HubError> {
        let applied = self.directory.remove(who).await?;
        if who.module.is_none() {
            self.twins.forget(&who.device);
            for (key, _) in self.devicebound.pending(&who.device, self.now()).await? {
                self.devicebound.remove(&key).await?;
            }
        }
        Ok(self.tell(applied))
    }

    /// Tells edges what has changed for them.
    pub(crate) fn tell(&self, applied: Applied) -> u64 {
        let Applied { revision, told } = applied;
        for (edge, Told { from, changes }) in told {
            if let Some(link) = self.linked(&edge) {
                link.tell(Down::Changes { from, revision, changes });
            }
        }
        revision
    }

    pub(crate) fn known(&self, who: &Identity) -> Result<(), HubError> {
        match self.directory.get(&Identity::device(who.device.clone())) {
            Some(_) => Ok(()),
            None => Err(HubError::NoSuchDevice(who.clone())),
        }
    }

    // Twins.

    /// The twin of a device or module.
    ///
    /// # Errors
    /// There is no such device, or it cannot be read.
    pub async fn get_twin(&self, who: &Identity) -> Result<HubTwin, HubError> {
        self.known(who)?;
        Ok(self.twins.get(who).await?)
    }

    /// Changes what is desired, and tags; gives the twin afterwards.
    ///
    /// # Errors
    /// There is no such device, the patch breaks a rule, or it is not stored.
    pub async fn patch_twin(&self, who: &Identity, patch: TwinPatch) -> Result<HubTwin, HubError> {
        self.known(who)?;
        let form = patch.desired.as_ref().and_then(Value::as_object).cloned();
        let changed = self.twins.patch(who, patch).await?;
        self.desired_changed(who, &changed.before, &changed.after, form.map(DesiredForm::Patch));
        if changed.before.tags != changed.after.tags && who.module.is_none() {
            self.reassign(&who.device).await?;
        }
        Ok(changed.after)
    }

    /// Tells whoever serves an identity of a desired change, if there is one.
    pub(crate) fn desired_changed(
        &self,
        who: &Identity,
        before: &HubTwin,
        after: &HubTwin,
        form: Option<DesiredForm>,
    ) {
        if before.desired_version == after.desired_version {
            return;
        }
        let form = form.unwrap_or_else(|| DesiredForm::Document(after.desired.clone()));
        let patch = match &form {
            DesiredForm::Patch(patch) => Some(patch.clone()),
            DesiredForm::Document(_) => None,
        };
        let version = after.desired_version;
        let (before, after) = (before.desired.clone(), after.desired.clone());
        self.broker.twins().changed_elsewhere(who, before, after, version, patch);
        if let Some(link) = self.directory.way_to(who).and_then(|edge| self.linked(&edge)) {
            link.tell(Down::Desired(DesiredChange { identity: who.clone(), version, form }));
        }
    }

    // Deployments.

    /// Keeps a deployment and assigns it.
    ///
    /// # Errors
    /// It is refused, or not stored.
    pub async fn put_deployment(&self, given: StoredDeployment) -> Result<Arc<StoredDeployment>, HubError> {
        let stored = self.deployments.put(given, self.now()).await?;
        self.reassign_all().await?;
        Ok(stored)
    }

    /// Removes a deployment; edges that had it get the next one that is for them, or none.
    ///
    /// # Errors
    /// There is none of that name, or it is not stored.
    pub async fn remove_deployment(&self, id: &str) -> Result<(), HubError> {
        self.deployments.remove(id).await?;
        self.reassign_all().await
    }

    /// Waits until what is on disk by now is in memory too.
    pub(crate) async fn is_settled(&self) {
        self.catch_up().await;
        self.directory.is_settled().await;
        self.deployments.is_settled().await;
    }

    async fn reassign_all(&self) -> Result<(), HubError> {
        for edge in self.directory.edges() {
            self.reassign(&edge).await?;
        }
        Ok(())
    }

    /// Looks what an edge, and each edge behind it, should run now.
    pub(crate) async fn reassign_behind(&self, edge: &Name) -> Result<(), HubError> {
        for one in self.directory.of_edge(edge) {
            if one.edge && one.identity.module.is_none() {
                self.reassign(&one.identity.device).await?;
            }
        }
        Ok(())
    }

    /// Looks what an edge should run now; if that is another one than it was told, tells it and those above it.
    pub(crate) async fn reassign(&self, edge: &Name) -> Result<(), HubError> {
        while let Some(above) = self.directory.above_edge(edge) {
            let tags = self.twins.tags(edge);
            if self.deployments.is_assigned(edge, &tags) {
                return Ok(());
            }
            let told: Vec<Name> = std::iter::once(edge).chain(&above).cloned().collect();
            let revisions = new_revisions(&*self.backend, &told).await?;
            // IMPORTANT: who was moved before the revisions were read has moved in memory now, and who is moved after it has
            // another revision, which is a conflict. So those above are told who are above.
            self.is_settled().await;
            if self.directory.above_edge(edge).as_ref() != Some(&above) {
                continue;
            }
            match self.deployments.reassign(edge, revisions, &tags).await {
                // What came between is read anew.
                Err(BackendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(applied) => {
                    applied.map(|applied| self.tell(applied));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Keeps what an edge says of its deployment.
    pub(crate) async fn keep_status(&self, edge: &Name, status: &Value) -> Result<(), BackendError> {
        let value = serde_json::to_vec(status).unwrap_or_default();
        self.backend.put(vec![Write::set(Space::Statuses, edge, value)]).await.map(drop)
    }
}

/// A name that nobody else has.
fn drawn() -> Result<String, BackendError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|why| BackendError::Failed(why.to_string()))?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)))
}

/// Draws the name of the registry at the first start.
async fn id(backend: &dyn Backend) -> Result<String, HubError> {
    if let Some(stored) = backend.get(Space::Hub, ID_KEY).await? {
        return Ok(String::from_utf8_lossy(&stored.value).into_owned());
    }
    let id = drawn()?;
    match backend.put(vec![Write::set(Space::Hub, ID_KEY, id.clone()).when(Expect::Absent)]).await {
        Ok(_) => Ok(id),
        // Another process has drawn one at this moment.
        Err(conflict @ BackendError::Conflict { .. }) => match backend.get(Space::Hub, ID_KEY).await? {
            Some(stored) => Ok(String::from_utf8_lossy(&stored.value).into_owned()),
            None => Err(conflict.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The edge whose deployment is to be looked at when this was put. A module changes nothing of what its device is.
pub(crate) fn edge_of(record: &IdentityRecord) -> Option<&Name> {
    (record.edge || record.identity.module.is_some()).then_some(&record.identity.device)
}
