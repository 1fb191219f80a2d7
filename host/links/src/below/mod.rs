//! An edge that is the parent of others: it serves the links of those directly below it, and through them all that is behind
//! them.
//!
//! Everything is answered from what this edge has on its own disk: identities from its registry, twins from its broker, what
//! edges below are to run from [`ASSIGNED_SPACE`]. It is where the hub wanted it at the last sync, whether the link upwards
//! is there or not. Revisions are those of the hub, so an edge that gets another parent goes on with the number that it has.
//!
//! On disk besides: space `below/marks`, key `{edge}/{epoch}/{priority}`, how far the messages of an edge are recorded here
//! (`keeps.rs`); space `below/statuses`, key the edge, what it told of its deployment until the hub has taken it.

mod answers;
mod down;
mod keeps;

use crate::{
    ASSIGNED_SPACE,
    ingest::{Counts, Ingest},
    link::{Down, Link},
    upper::{Answered, Upper, above, behind},
};
use bytes::Bytes;
use holdfast_auth::Registry;
use holdfast_broker::Broker;
use holdfast_gateway::{EdgeLink, Links};
use holdfast_link::{Assigned, Call, Change, DeploymentReport, DesiredChange, DesiredForm};
use holdfast_types::{Identity, Name, Soon, Text, UnixMillis};
use keeps::Recorder;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const STATUSES_SPACE: &str = "below/statuses";

/// Most statuses that are read at the start: as many as there may be devices.
const STATUSES_MAX: usize = holdfast_auth::DEVICES_MAX;

/// What this edge was told last: by which hub, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The hub.
    pub hub: Text,
    /// Its revision.
    pub revision: u64,
}

/// What of the registry and of what is assigned has changed.
#[derive(Clone, Debug)]
pub enum Moved {
    /// So much that edges below fetch all of it.
    Everything,
    /// This, in this order.
    Changes(Vec<Change>),
}

/// Serves the edges directly below this one.
pub struct Below {
    me: Weak<Self>,
    broker: Broker,
    registry: Arc<Registry>,
    point: Mutex<Option<Point>>,
    links: Mutex<HashMap<Name, Arc<Link>>>,
    ingests: Mutex<HashMap<Name, Arc<Ingest>>>,
    counts: Arc<Counts>,
    changes: AtomicU64,
    statuses: Mutex<BTreeMap<Name, DeploymentReport>>,
    told: Notify,
    /// Devices whose log rings.
    rings: Mutex<BTreeSet<Name>>,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Below {
    /// Nobody is served before it is said how far this edge is.
    pub fn new(broker: Broker, registry: Arc<Registry>) -> Arc<Self> {
        let kept = broker.documents().scan(STATUSES_SPACE, "", STATUSES_MAX).unwrap_or_else(|error| {
            tracing::error!(%error, "what edges below told of their deployments cannot be read; they tell it again");
            Vec::new()
        });
        let report = |(key, value): (Text, Bytes)| {
            Some((Name::new(&key).ok()?, serde_json::from_slice::<DeploymentReport>(&value).ok()?))
        };
        let statuses: BTreeMap<Name, DeploymentReport> = kept.into_iter().filter_map(report).collect();
        let below = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            broker,
            registry,
            point: Mutex::default(),
            links: Mutex::default(),
            ingests: Mutex::default(),
            counts: Arc::default(),
            changes: AtomicU64::new(0),
            statuses: Mutex::new(statuses),
            told: Notify::new(),
            rings: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        below.broker.methods().set_way(below.clone());
        below
    }

    /// Passes desired changes on until it is told to stop, and then waits for what is under way.
    pub fn run(self: Arc<Self>, stop: CancellationToken) -> Soon<'static, ()> {
        Box::pin(self.pass_on(stop))
    }

    async fn pass_on(self: Arc<Self>, stop: CancellationToken) {
        let mut watch = self.broker.twins().watch_desired();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = watch.next() => changed.iter().for_each(|who| self.tell_desired(who)),
            }
        }
        let open: Vec<_> = lock(&self.links).values().cloned().collect();
        open.iter().for_each(|link| link.over.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn edge(&self) -> &Name {
        self.broker.edge()
    }

    /// This edge is at a point: it has just been started.
    pub fn begins_at(&self, point: Option<Point>) {
        *lock(&self.point) = point;
    }

    /// What the hub decided is on disk and in force here: edges below are told, and those that are below no longer are cut
    /// off.
    pub fn has_applied(&self, point: Point, moved: &Moved) {
        let revision = point.revision;
        let before = lock(&self.point).replace(point);
        let from = before.map_or(0, |before| before.revision);
        self.changes.fetch_add(1, Ordering::AcqRel);
        tracing::debug!(revision, "what the hub decided is in force, and edges below are told");
        let links: Vec<Arc<Link>> = lock(&self.links).values().cloned().collect();
        for link in links {
            match moved {
                _ if self.may_link(&link.edge).is_err() => link.over.cancel(),
                Moved::Everything => link.tell(Down::Everything { revision }),
                Moved::Changes(changes) => {
                    let changes = self.changes_for(&link.edge, changes);
                    link.tell(Down::Changes { from, revision, changes });
                }
            }
        }
    }

    /// What of some changes an edge below is told. Who is gone may have been behind it; to forget a stranger changes nothing.
    fn changes_for(&self, edge: &Name, changes: &[Change]) -> Vec<Change> {
        let mut told = Vec::new();
        for change in changes {
            match change {
                Change::Identity(record) if self.may_speak_for(edge, &record.identity.device) => {
                    told.push(change.clone());
                }
                Change::Below(assigned) if assigned.edge == *edge => {
                    told.push(Change::Deployment(assigned.deployment.clone()));
                    told.push(Change::Settings(assigned.settings.clone()));
                }
                Change::Below(assigned) if self.may_speak_for(edge, &assigned.edge) => {
                    told.push(change.clone());
                }
                Change::Removed(_) => told.push(change.clone()),
                Change::Identity(_) | Change::Below(_) | Change::Deployment(_) | Change::Settings(_) => {}
            }
        }
        told
    }

    fn tell_desired(&self, who: &Identity) {
        let Some(link) = self.way_to(&who.device) else { return };
        match self.broker.twins().read(who) {
            Ok(twin) => link.tell(Down::Desired(DesiredChange {
                identity: who.clone(),
                version: twin.desired_version,
                form: DesiredForm::Document(twin.desired),
            })),
            Err(error) => {
                tracing::error!(twin = %who, %error, "a desired change cannot be read; the edge below fetches it when it comes again");
                link.over.cancel();
            }
        }
    }

    /// The edge directly below this one that a device is behind, or is.
    fn next_edge(&self, device: &Name) -> Option<Name> {
        let mut chain = above(&self.registry, device);
        let at = chain.iter().position(|one| one == self.edge())?;
        chain.truncate(at);
        let next = chain.pop().unwrap_or_else(|| device.clone());
        self.may_link(&next).is_ok().then_some(next)
    }

    /// The link that leads to a device.
    fn way_to(&self, device: &Name) -> Option<Arc<Link>> {
        let edge = self.next_edge(device)?;
        lock(&self.links).get(&edge).filter(|link| link.is_ready()).cloned()
    }

    fn may_link(&self, edge: &Name) -> Result<(), String> {
        let Some(device) = self.registry.device(&Identity::device(edge.clone())) else {
            return Err(format!("{edge} is not known here"));
        };
        match &device.parent {
            _ if !device.edge => Err(format!(
                "{edge} is no edge at the hub; `holdfast hub device set {edge} --edge` makes it one"
            )),
            Some(parent) if parent == self.edge() => Ok(()),
            Some(parent) => Err(format!("{edge} is a child of the edge {parent}; let it connect there")),
            None => Err(format!(
                "{edge} was added here, and only a hub makes edges; add it there, with {} as its parent",
                self.edge()
            )),
        }
    }

    fn ingest(&self, edge: &Name) -> Arc<Ingest> {
        let made = || {
            let recorder = Arc::new(Recorder(self.broker.clone()));
            Arc::new(Ingest::new(edge.clone(), recorder, self.counts.clone()))
        };
        lock(&self.ingests).entry(edge.clone()).or_insert_with(made).clone()
    }

    /// What an edge below told of its deployment and the hub has not taken; waits for one.
    pub async fn next_status(&self) -> DeploymentReport {
        loop {
            let told = self.told.notified();
            if let Some(report) = lock(&self.statuses).values().next() {
                return report.clone();
            }
            told.await;
        }
    }

    /// The hub has taken it, or never will.
    pub async fn status_was_told(&self, report: &DeploymentReport) {
        let Some(edge) = &report.edge else { return };
        {
            let mut statuses = lock(&self.statuses);
            if statuses.get(edge) != Some(report) {
                return;
            }
            statuses.remove(edge);
        }
        // What cannot be deleted is told once more after a restart.
        let _ = self.broker.documents().write(STATUSES_SPACE, edge, None).await;
    }

    fn assigned(&self, edge: &Name) -> Result<Option<Assigned>, String> {
        let found = self.broker.documents().value(ASSIGNED_SPACE, edge).map_err(|error| error.to_string())?;
        let read = |bytes: Bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string());
        found.map(read).transpose()
    }
}

impl Links for Below {
    fn link(&self, edge: &Name) -> Result<EdgeLink, String> {
        self.may_link(edge)?;
        if lock(&self.point).is_none() {
            return Err("this edge was never synchronised with a hub".to_owned());
        }
        let me = self.me.upgrade().ok_or_else(|| "this edge is stopping".to_owned())?;
        let upper: Arc<dyn Upper> = me;
        let ingest = self.ingest(edge);
        Ok(Link::open(edge, &upper, ingest, |link| lock(&self.links).insert(edge.clone(), link.clone())))
    }
}

impl Upper for Below {
    fn answer<'a>(
        &'a self,
        link: &'a Arc<Link>,
        ingest: &'a Arc<Ingest>,
        call: Call,
        body: &'a [u8],
    ) -> Soon<'a, Answered> {
        Box::pin(self.answer_call(link, ingest, call, body))
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn may_speak_for(&self, edge: &Name, device: &Name) -> bool {
        device == edge || above(&self.registry, device).contains(edge)
    }

    fn has_post(&self) -> bool {
        true
    }

    fn deliver_through<'a>(&'a self, link: &'a Arc<Link>) -> Soon<'a, ()> {
        Box::pin(self.deliver(link))
    }

    fn link_ended(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        if links.get(&link.edge).is_some_and(|one| Arc::ptr_eq(one, link)) {
            links.remove(&link.edge);
        }
        tracing::info!(edge = %link.edge, "the link of an edge below is over");
    }

    fn now(&self) -> UnixMillis {
        self.broker.now()
    }

    fn spawn(&self, task: Soon<'static, ()>) {
        self.tasks.spawn(task);
    }
}

/// The devices behind an edge, itself and all modules among them.
fn subtree(below: &Below, edge: &Name) -> Vec<Arc<holdfast_auth::Device>> {
    behind(&below.registry, edge)
}
