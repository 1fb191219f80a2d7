//! Deployments: what is ordered from above or by the operator, and what has become of it.
//!
//! This room knows neither manifests nor modules. It is where those who order (the link upstream, the control socket) and
//! the one who carries out (the host, which can fetch, switch and roll back) meet: an order waits here until it is taken,
//! and how it stands is watched here. Of several orders that wait only the newest counts, since each says everything.
//!
//! ```text
//! link or operator ── order ──► [ newest order ] ── next ──► host
//!                  ◄─ watch ─── [    status    ] ◄─ show ───
//! ```

use super::broker::{Broker, Inner};
use bytes::Bytes;
use holdfast_types::{Text, UnixMillis};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Who wants a deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeploymentOrigin {
    /// The hub, over the link. Twins of modules come from there too, with their versions, so a deployment of the hub
    /// changes none.
    Hub,
    /// The operator, with a file. Desired properties of modules that stand in it are taken over.
    #[default]
    Operator,
}

/// A deployment that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentOrder {
    /// What it is called where it comes from; any text of at most 256 bytes.
    pub id: Text,
    /// Who wants it.
    pub origin: DeploymentOrigin,
    /// The manifest, JSON of IoT Edge; none ends what was deployed, and the host runs as its configuration says.
    pub manifest: Option<Bytes>,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeploymentPhase {
    /// There is none.
    #[default]
    None,
    /// It is read, and its components are fetched, checked and compiled. What was before runs unchanged.
    Checking,
    /// Modules, routes, store settings and twins are being switched.
    Switching,
    /// Everything has started; a failure of a module now brings back what was before.
    Probation,
    /// It is what runs.
    Applied,
    /// It was not taken; what was before runs unchanged.
    Refused,
    /// A module failed its start or its probation; what was before is back.
    RolledBack,
}

impl DeploymentPhase {
    /// Whether nothing more happens to it by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::None | Self::Applied | Self::Refused | Self::RolledBack)
    }

    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Checking => "checking",
            Self::Switching => "switching",
            Self::Probation => "probation",
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// One module of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployedModule {
    /// Its name.
    pub name: Text,
    /// Where its component comes from.
    pub image: Text,
    /// `running`, `backoff`, `stopped`, `failed` or `unknown`, in IoT Edge's words.
    pub status: Text,
    /// Why it is so; empty when all is well.
    pub reason: Text,
}

/// How the newest deployment stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// The order that this is about, as [`Deployments::order`] numbered it; 0 for what was there at the start.
    pub order: u64,
    /// The deployment that this is about.
    pub id: Text,
    /// Who wanted it.
    pub origin: DeploymentOrigin,
    /// How far it is.
    pub phase: DeploymentPhase,
    /// IoT Edge's code of the last desired status: 200 applied, 400 no manifest, 406 it could not be applied or a module
    /// failed, 412 unknown schema version, 417 empty; 0 while it is not known.
    pub code: u16,
    /// Why it was refused or rolled back; empty otherwise.
    pub reason: Text,
    /// Since when it is as it is.
    pub since: UnixMillis,
    /// The deployment that runs, which is another one after a refusal; empty if there is none.
    pub running: Text,
    /// The modules of this deployment, as they were when it last changed its phase.
    pub modules: Vec<DeployedModule>,
    /// How much of the manifest has no meaning here; each is named by `holdfast deployment show`.
    pub not_carried: usize,
}

#[derive(Default)]
struct Waiting {
    order: Option<(u64, DeploymentOrder)>,
    numbers: u64,
}

/// What the broker holds.
pub(crate) struct Board {
    waiting: Mutex<Waiting>,
    came: Notify,
    status: watch::Sender<Arc<DeploymentStatus>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { waiting: Mutex::default(), came: Notify::new(), status: watch::Sender::default() }
    }
}

impl Board {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders deployments and tells of them. Clones mean the same.
#[derive(Clone)]
pub struct Deployments(Arc<Inner>);

impl Broker {
    /// The deployments.
    pub fn deployments(&self) -> Deployments {
        Deployments(self.inner.clone())
    }
}

impl Deployments {
    /// Orders a deployment, in the place of one that nobody has begun. Gives its number, which its status bears from the
    /// moment it is taken; a status with a higher one means that another order came after it. To order again what runs
    /// already changes nothing, so a link may repeat itself after each reconnection.
    pub fn order(&self, order: DeploymentOrder) -> u64 {
        let board = &self.0.deployments;
        let mut waiting = board.waiting();
        waiting.numbers += 1;
        let number = waiting.numbers;
        waiting.order = Some((number, order));
        drop(waiting);
        board.came.notify_one();
        number
    }

    /// How the newest deployment stands.
    pub fn status(&self) -> Arc<DeploymentStatus> {
        self.0.deployments.status.borrow().clone()
    }

    /// The same, told of each change; one who is slow sees the newest.
    pub fn watch(&self) -> watch::Receiver<Arc<DeploymentStatus>> {
        self.0.deployments.status.subscribe()
    }

    /// The next order and its number, for the one who carries them out. Cancel safe.
    pub async fn next(&self) -> (u64, DeploymentOrder) {
        let board = &self.0.deployments;
        loop {
            let came = board.came.notified();
            if let Some(order) = board.waiting().order.take() {
                return order;
            }
            came.await;
        }
    }

    /// Whether an order waits.
    pub fn has_waiting(&self) -> bool {
        self.0.deployments.waiting().order.is_some()
    }

    /// Tells how it stands now.
    pub fn show(&self, status: DeploymentStatus) {
        self.0.deployments.status.send_if_modified(|shown| {
            let changed = **shown != status;
            if changed {
                *shown = Arc::new(status);
            }
            changed
        });
    }
}
