//! The hub itself: what it holds, what services ask of it, and what the gateway asks of it.

use crate::{
    backend::{Backend, BackendError, Batch, Event, Events, Origin, Progress, Space, Span, Write},
    deployments::{DeploymentError, Deployments, StoredDeployment},
    devicebound::Devicebound,
    directory::{Applied, Directory, DirectoryError},
    ingest::{Counts, Ingest},
    link::{CallFault, Door, Down, Link},
    twins::{HubTwin, TwinPatch, Twins},
};
use bytes::Bytes;
use holdfast_auth::{Registry, Sealer};
use holdfast_broker::{Broker, Done, MethodError, MethodTimes, Receipt, Refused, Twin, TwinError};
use holdfast_gateway::{Above, EdgeLink, TwinAnswer};
use holdfast_link::{
    Call, Change, ChildState, DesiredChange, DesiredForm, Document, IdentityRecord, MethodAnswer,
    MethodRequest,
};
use holdfast_types::{Envelope, Identity, Message, Name, Source, UnixMillis};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// The key of the name of the registry, in the space `hub`.
const ID_KEY: &str = "id";

/// How much longer than the method itself the answer of an edge may take.
const EDGE_TIME: Duration = Duration::from_secs(5);

/// Children whose presence an edge has told are remembered up to this number.
const CHILD_STATES_MAX: usize = 100_000;

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
}

/// Why the hub does not do what a service asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// There is no such device or module.
    #[error("there is no device {0}; `holdfast hub device add` adds one")]
    NoSuchDevice(Identity),
    /// What is asked for is malformed.
    #[error("{0}")]
    Bad(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is too large.
    #[error("{0}")]
    TooLarge(String),
    /// There is no room for now.
    #[error("{0}")]
    Busy(String),
    /// The edge did not do it.
    #[error("{why}")]
    Edge {
        /// The status that tells it.
        status: u16,
        /// What went wrong.
        why: String,
    },
    /// A change of the registry was refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A twin was not read or changed.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// A method was not called.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A deployment was refused.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The storage failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl HubError {
    /// The status of HTTP that tells it.
    pub fn status(&self) -> u16 {
        use holdfast_auth::RegistryFault;
        let backend = |error: &BackendError| match error {
            BackendError::Conflict { .. } => 412,
            BackendError::Refused(_) => 400,
            BackendError::Failed(_) | BackendError::OutOfTurn => 500,
            BackendError::Stopping => 503,
        };
        match self {
            Self::NoSuchDevice(_) | Self::NotFound(_) => 404,
            Self::Bad(_) => 400,
            Self::TooLarge(_) => 413,
            Self::Busy(_) => 429,
            Self::Edge { status, .. } => *status,
            Self::Directory(error) => match error {
                DirectoryError::Registry(RegistryFault::NoSuchDevice(_)) => 404,
                DirectoryError::Registry(RegistryFault::Exists(_)) | DirectoryError::HasChildren { .. } => {
                    409
                }
                DirectoryError::Backend(error) => backend(error),
                DirectoryError::Sealed(..) => 500,
                _ => 400,
            },
            Self::Twin(error) => error.status(),
            Self::Method(error) => error.status(),
            Self::Deployment(error) => match error {
                DeploymentError::NoSuch(_) => 404,
                DeploymentError::Backend(error) => backend(error),
                _ => 400,
            },
            Self::Backend(error) => backend(error),
        }
    }
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
    me: Weak<Self>,
    /// Names the registry.
    id: String,
    name: Name,
    backend: Arc<dyn Backend>,
    directory: Directory,
    twins: Twins,
    deployments: Deployments,
    devicebound: Devicebound,
    broker: Broker,
    links: Mutex<HashMap<Name, Arc<Link>>>,
    ingests: Mutex<HashMap<Name, Arc<Ingest>>>,
    present: Mutex<HashMap<Identity, usize>>,
    child_states: Mutex<HashMap<Identity, ChildState>>,
    counts: Arc<Counts>,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Opens a hub on its storage.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn open(config: HubConfig) -> Result<Arc<Self>, HubError> {
        let HubConfig { name, backend, registry, sealer, broker } = config;
        let id = id(&*backend).await?;
        let directory = Directory::open(backend.clone(), registry, sealer, name.clone()).await?;
        let twins = Twins::open(backend.clone()).await?;
        let deployments = Deployments::open(backend.clone()).await?;
        let devicebound = Devicebound::open(backend.clone(), broker.now()).await?;
        let hub = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            name,
            backend,
            directory,
            twins,
            deployments,
            devicebound,
            broker,
            links: Mutex::default(),
            ingests: Mutex::default(),
            present: Mutex::default(),
            child_states: Mutex::default(),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
        });
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

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.broker.now()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) fn count_refused(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for what is under way; the gateway has stopped.
    pub async fn stopped(&self) {
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

    /// Where the stream begins and ends.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn span(&self) -> Result<Span, HubError> {
        Ok(self.backend.span().await?)
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
        let edge = record.edge.then(|| record.identity.device.clone());
        let applied = self.directory.put(record, self.now()).await?;
        let revision = self.tell(applied);
        if let Some(edge) = edge {
            self.reassign(&edge).await?;
        }
        Ok(revision)
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
    fn tell(&self, applied: Applied) -> u64 {
        let Applied { revision, told } = applied;
        for (edge, changes) in told {
            if let Some(link) = self.link(&edge) {
                link.tell(Down::Changes { revision, changes });
            }
        }
        revision
    }

    fn known(&self, who: &Identity) -> Result<(), HubError> {
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
        if let Some(link) = self.directory.way_to(who).and_then(|edge| self.link(&edge)) {
            link.tell(Down::Desired(DesiredChange { identity: who.clone(), version, revision: None, form }));
        }
    }

    // Methods and messages.

    /// Calls a method of a device that is connected here, or of what is behind an edge.
    ///
    /// # Errors
    /// Nobody answers, in time or at all.
    pub async fn method(
        &self,
        who: &Identity,
        name: &str,
        payload: Value,
        times: MethodTimes,
    ) -> Result<(i32, Value), HubError> {
        self.known(who)?;
        let link =
            self.directory.way_to(who).and_then(|edge| self.link(&edge)).filter(|link| link.is_ready());
        let is_here = self.broker.methods().is_served(who);
        let Some(link) = link.filter(|_| !is_here) else {
            let text = if payload.is_null() { Bytes::new() } else { payload.to_string().into() };
            let reply = self.broker.methods().call(who, name, text, times).await?;
            let payload = match serde_json::from_slice(&reply.payload) {
                Ok(payload) => payload,
                Err(_) if reply.payload.is_empty() => Value::Null,
                Err(_) => String::from_utf8_lossy(&reply.payload).into_owned().into(),
            };
            return Ok((reply.status, payload));
        };
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let request = MethodRequest {
            target: who.clone(),
            name: name.to_owned(),
            payload,
            response_timeout_s: seconds(times.response),
            connect_timeout_s: seconds(times.connect),
        };
        let body = request.encode().map_err(|fault| HubError::TooLarge(fault.to_string()))?;
        let within = times.response + times.connect + EDGE_TIME;
        let answer = link.call(Call::Method, body, within).await.map_err(edge_error)?;
        let answer = MethodAnswer::decode(&answer)
            .map_err(|fault| HubError::Edge { status: 502, why: fault.to_string() })?;
        Ok((answer.status, answer.payload))
    }

    /// Keeps a message for a device until it has it; gives its id when it is durable.
    ///
    /// # Errors
    /// There is no such device, it is too large, too many wait, or it is not stored.
    pub async fn send(
        &self,
        device: &Name,
        message: &Message,
        expires: Option<UnixMillis>,
    ) -> Result<String, HubError> {
        self.known(&Identity::device(device.clone()))?;
        let id = self.devicebound.post(&self.id, device, message, expires, self.now()).await?;
        self.deliver_soon(device);
        Ok(id)
    }

    /// How many messages wait for a device.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn pending(&self, device: &Name) -> Result<usize, HubError> {
        Ok(self.devicebound.pending(device, self.now()).await?.len())
    }

    pub(crate) fn has_post(&self) -> bool {
        self.devicebound.has_any()
    }

    fn deliver_soon(&self, device: &Name) {
        let (Some(me), device) = (self.me.upgrade(), device.clone()) else { return };
        self.spawn(async move {
            if let Err(error) = me.deliver(&device).await {
                tracing::warn!(%device, %error, "messages of a device wait on");
            }
        });
    }

    /// Hands over what waits for a device, as far as there is somebody to take it.
    async fn deliver(&self, device: &Name) -> Result<(), BackendError> {
        // One who comes while another one is at it is not needed: what is new is seen by the look behind the last one.
        let Some(_turn) = self.devicebound.turn(device) else { return Ok(()) };
        let who = Identity::device(device.clone());
        loop {
            let pending = self.devicebound.pending(device, self.now()).await?;
            if pending.is_empty() {
                return Ok(());
            }
            for (key, message) in pending {
                let link = self.directory.way_to(&who).and_then(|edge| self.link(&edge));
                if self.is_present(&who) {
                    let sent =
                        self.broker.cloud_to_device(device, message.message.into(), message.expires).await;
                    match sent {
                        Err(error) if !error.is_permanent() => return Ok(()),
                        Ok(()) | Err(_) => {}
                    }
                } else if let Some(link) = link.filter(|link| link.is_ready()) {
                    match link.cloud_to_device(&message).await {
                        Ok(()) => {}
                        Err(CallFault::Refused { status: 400 | 413, why, .. }) => {
                            tracing::warn!(%device, id = message.id, why, "an edge refuses a message to a device; it is dropped");
                        }
                        // It may not know the child yet, or have no room.
                        Err(fault) => {
                            tracing::debug!(%device, %fault, "a message to a device waits on");
                            return Ok(());
                        }
                    }
                } else {
                    return Ok(());
                }
                self.devicebound.remove(&key).await?;
            }
        }
    }

    /// Hands over what waits for devices behind an edge.
    pub(crate) async fn deliver_through(&self, link: &Link) {
        let waiting = match self.devicebound.waiting().await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(edge = %link.edge, %error, "messages to devices wait on");
                return;
            }
        };
        for device in waiting {
            if self.directory.way_to(&Identity::device(device.clone())).as_ref() == Some(&link.edge) {
                self.deliver_soon(&device);
            }
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

    async fn reassign_all(&self) -> Result<(), HubError> {
        for edge in self.directory.edges() {
            self.reassign(&edge).await?;
        }
        Ok(())
    }

    pub(crate) async fn reassign(&self, edge: &Name) -> Result<(), HubError> {
        let is_edge = self.directory.get(&Identity::device(edge.clone())).is_some_and(|one| one.edge);
        if !is_edge {
            return Ok(());
        }
        let tags = self.twins.tags(edge);
        if let Some((revision, deployment, settings)) = self.deployments.reassign(edge, &tags).await? {
            let changes = vec![Change::Deployment(deployment), Change::Settings(settings)];
            self.tell(Applied { revision, told: BTreeMap::from([(edge.clone(), changes)]) });
        }
        Ok(())
    }

    /// Keeps what an edge says of its deployment.
    pub(crate) async fn keep_status(&self, edge: &Name, status: &Value) -> Result<(), BackendError> {
        let value = serde_json::to_vec(status).unwrap_or_default();
        self.backend.put(vec![Write::set(Space::Statuses, edge, value)]).await.map(drop)
    }

    // Edges and presence.

    /// Every edge, and how it fares.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn edges(&self) -> Result<Vec<EdgeItem>, HubError> {
        let mut items = Vec::new();
        for edge in self.directory.edges() {
            let status = self.backend.get(Space::Statuses, &edge).await?;
            items.push(EdgeItem {
                linked: self.link(&edge).is_some_and(|link| link.is_ready()),
                revision: self.edge_revision(&edge).await?,
                progress: self.backend.progress(&edge).await?,
                deployment: status.and_then(|status| serde_json::from_slice(&status.value).ok()),
                edge,
            });
        }
        Ok(items)
    }

    /// The revision that an edge should have: that of the last change that concerns it.
    pub(crate) async fn edge_revision(&self, edge: &Name) -> Result<u64, BackendError> {
        Ok(self.backend.get(Space::Edges, edge).await?.map_or(0, |stored| stored.revision))
    }

    pub(crate) fn link(&self, edge: &Name) -> Option<Arc<Link>> {
        lock(&self.links).get(edge).filter(|link| !link.over.is_cancelled()).cloned()
    }

    pub(crate) fn link_ended(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        if links.get(&link.edge).is_some_and(|one| Arc::ptr_eq(one, link)) {
            links.remove(&link.edge);
        }
    }

    fn is_present(&self, who: &Identity) -> bool {
        lock(&self.present).contains_key(who)
    }

    pub(crate) fn child_states(&self, edge: &Name, states: Vec<ChildState>) {
        let mut all = lock(&self.child_states);
        for state in states {
            if self.directory.may_speak_for(edge, &state.identity.device)
                && (all.len() < CHILD_STATES_MAX || all.contains_key(&state.identity))
            {
                all.insert(state.identity.clone(), state);
            }
        }
    }

    /// Whether a device or module is connected: here, or at a linked edge.
    pub fn is_connected(&self, who: &Identity) -> bool {
        if self.is_present(who) {
            return true;
        }
        let linked = |edge: &Name| self.link(edge).is_some_and(|link| link.is_ready());
        match self.directory.way_to(who) {
            Some(edge) if edge == who.device && who.module.is_none() => linked(&edge),
            Some(edge) => {
                linked(&edge) && lock(&self.child_states).get(who).is_some_and(|state| state.connected)
            }
            None => false,
        }
    }

    fn ingest(&self, edge: &Name) -> Arc<Ingest> {
        let mut ingests = lock(&self.ingests);
        let made = || Arc::new(Ingest::new(edge.clone(), self.backend.clone(), self.counts.clone()));
        ingests.entry(edge.clone()).or_insert_with(made).clone()
    }
}

/// Draws the name of the registry at the first start.
async fn id(backend: &dyn Backend) -> Result<String, HubError> {
    if let Some(stored) = backend.get(Space::Hub, ID_KEY).await? {
        return Ok(String::from_utf8_lossy(&stored.value).into_owned());
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|why| BackendError::Failed(why.to_string()))?;
    let id = format!("{:016x}", u64::from_be_bytes(random));
    backend.put(vec![Write::set(Space::Hub, ID_KEY, id.clone())]).await?;
    Ok(id)
}

pub(crate) fn edge_error(fault: CallFault) -> HubError {
    let why = fault.to_string();
    match fault {
        CallFault::Away(_) => HubError::Edge { status: 404, why },
        CallFault::TimedOut { .. } => HubError::Edge { status: 504, why },
        CallFault::Refused { status, .. } => HubError::Edge { status, why },
    }
}

impl Above for Hub {
    fn telemetry(&self, from: &Identity, mut message: Message, done: Done) {
        let received = self.now();
        message.system.creation_time.get_or_insert(received);
        let source = Source::Child { child: from.device.clone(), topic: None };
        let envelope = Arc::new(Envelope { message, source, received, hops: 0 });
        let batch = Batch { events: vec![Event { envelope, origin: Origin::Direct }], ..Batch::default() };
        let appended = |result: Result<(), BackendError>| {
            done(match result {
                Ok(()) => Ok(Receipt { durable: 1, ..Receipt::default() }),
                Err(BackendError::Stopping) => Err(Refused::Stopping),
                Err(BackendError::Refused(why)) => Err(Refused::CannotBeRecorded(why)),
                Err(error) => Err(Refused::NotRecorded(error.to_string())),
            });
        };
        self.backend.append(batch, Box::new(appended));
    }

    fn twin(&self, who: &Identity) -> TwinAnswer<Twin> {
        let (me, who) = (self.me.upgrade(), who.clone());
        Box::pin(async move {
            let hub = me.ok_or(TwinError::Stopping)?;
            Ok(hub.twins.get(&who).await?.into())
        })
    }

    fn report(&self, who: &Identity, patch: Value, version: Option<u64>) -> TwinAnswer<u64> {
        let (me, who) = (self.me.upgrade(), who.clone());
        Box::pin(async move {
            let hub = me.ok_or(TwinError::Stopping)?;
            hub.twins.report(&who, patch, version).await
        })
    }

    fn present(&self, who: &Identity, present: bool) {
        let mut all = lock(&self.present);
        let count = all.entry(who.clone()).or_default();
        *count = if present { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            all.remove(who);
        }
        drop(all);
        if present && who.module.is_none() && self.has_post() {
            self.deliver_soon(&who.device);
        }
    }

    fn link(&self, edge: &Name) -> Result<EdgeLink, String> {
        let device = self.directory.get(&Identity::device(edge.clone()));
        if !device.is_some_and(|device| device.edge) {
            return Err(format!(
                "{edge} is no edge at this hub; `holdfast hub device set {edge} --edge` makes it one"
            ));
        }
        let hub = self.me.upgrade().ok_or_else(|| "the hub is stopping".to_owned())?;
        let (link, outgoing, downs) = Link::new(edge.clone());
        let before = lock(&self.links).insert(edge.clone(), link.clone());
        if let Some(before) = before {
            before.over.cancel();
        }
        let ingest = self.ingest(edge);
        self.spawn(link.clone().run(hub.clone(), downs));
        let over = link.over.clone();
        Ok(EdgeLink { door: Box::new(Door::new(hub, link, ingest)), outgoing, over })
    }
}
