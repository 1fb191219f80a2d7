//! What all connections share.

use crate::{
    above::{Above, Links},
    cuts::Cuts,
    episodes::Episodes,
    heavy::Heavy,
    hub::HubShared,
    limits::Limits,
    retained::Retained,
    sessions::Sessions,
    stats::Stats,
    strangers::Strangers,
    turns::Turns,
};
use holdfast_auth::Registry;
use holdfast_broker::{Broker, Budget};
use holdfast_types::{Name, Text};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::runtime::Handle;

/// What counts where a client says nothing.
#[derive(Debug, Default)]
pub(crate) struct Unsaid {
    /// What a body is.
    pub(crate) content_type: Option<Text>,
    /// Who a client of this machine is.
    pub(crate) user: Option<Name>,
}

pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) registry: Arc<Registry>,
    /// Present if this process is the hub.
    pub(crate) above: Option<Arc<dyn Above>>,
    /// Present if edges may link here.
    pub(crate) links: Option<Arc<dyn Links>>,
    /// Open connections of devices.
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) limits: Limits,
    pub(crate) unsaid: Unsaid,
    pub(crate) stats: Arc<Stats>,
    /// Bytes of messages that clients hold.
    pub(crate) queues: Budget,
    pub(crate) sessions: Sessions,
    pub(crate) retained: Retained,
    pub(crate) episodes: Episodes,
    /// What clients of the dialect of IoT Hub share.
    pub(crate) hub: HubShared,
    pub(crate) password_checks: Turns,
    /// Turns of what takes long.
    pub(crate) heavy: Heavy,
    /// Where those are served who are in, and what outlives the greeting of a stranger.
    pub(crate) home: Handle,
    /// Who does what is done for strangers.
    pub(crate) strangers: Strangers,
    /// Makes assigned client identifiers differ between processes.
    pub(crate) instance: u64,
    assigned: AtomicU64,
    /// Messages whose record is awaited.
    pub(crate) awaited: Arc<AtomicUsize>,
}

impl Shared {
    pub(crate) fn new(
        broker: Broker,
        registry: Arc<Registry>,
        above: Option<Arc<dyn Above>>,
        links: Option<Arc<dyn Links>>,
        limits: Limits,
        unsaid: Unsaid,
        instance: u64,
    ) -> io::Result<Self> {
        let queues = Budget::new(limits.queues_bytes_max);
        let cuts: Arc<Cuts> = Arc::default();
        cuts.follow(&registry);
        Ok(Self {
            broker,
            registry,
            above,
            links,
            cuts,
            limits,
            unsaid,
            stats: Arc::new(Stats::new(queues.clone())),
            queues,
            sessions: Sessions::new(limits.sessions_max),
            retained: Retained::new(limits.retained_messages_max, limits.retained_bytes_max),
            episodes: Episodes::default(),
            hub: HubShared::default(),
            password_checks: Turns::new(limits.password_checks_max),
            heavy: Heavy::new(),
            home: Handle::current(),
            strangers: Strangers::new()?,
            instance,
            assigned: AtomicU64::new(0),
            awaited: Arc::default(),
        })
    }

    pub(crate) fn count_sessions(&self) {
        self.stats.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
    }

    /// An identifier for a client that brought none.
    pub(crate) fn assign_client_id(&self) -> String {
        format!("auto-{:016x}-{}", self.instance, self.assigned.fetch_add(1, Ordering::Relaxed))
    }
}
