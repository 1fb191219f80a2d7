//! The broker itself: what it holds, and how it is made.

use super::{
    child_links::{ChildLinks, own_log},
    deployments::Board,
    devicebound::Devicebound,
    documents::Documents,
    lane::Lane,
    methods::Servers,
    queue::Queue,
    reader::Reader,
    room::{Account, Budget, Room, SUBSCRIBER_BYTES_MAX},
    sessions::SessionLog,
    subscriber::{CHANGED_AT_ONCE, Mailbox, Subscriber},
    tap::{Passing, Tap},
    twins::Halves,
};
use crate::core::{
    decide::{Decision, Taken, decide},
    publishing::SubscriberId,
    subscriptions::Subscriptions,
};
use holdfast_routes::RouteTable;
use holdfast_store::{Clock, Store};
use holdfast_types::{Envelope, LogId, Name, Sink, Source, UnixMillis};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::broadcast;

/// How many passing messages a watcher may be behind before it misses some. A watcher is a person or a screen.
const TAP_MESSAGES_MAX: usize = 1024;

/// What a broker is made of.
pub struct BrokerConfig {
    /// The name of this edge; part of every stable id.
    pub edge: Name,
    /// The compiled routes.
    pub routes: RouteTable,
    /// Time to live of routes that name none; none means for ever. IoT Edge's default is 7200 s.
    pub time_to_live: Option<Duration>,
}

/// The one place where a message enters. Cloning gives another handle to the same broker.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) edge: Name,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    routing: RwLock<Arc<Routing>>,
    pub(super) lanes: RwLock<HashMap<LogId, Arc<Lane>>>,
    /// Those of modules among them, to be found without making the name of the log.
    module_lanes: RwLock<HashMap<Name, Arc<Lane>>>,
    /// Held while it is decided whether a sender waits for room in a lane.
    pub(super) parking: Mutex<()>,
    subscriptions: RwLock<Subscriptions>,
    mailboxes: RwLock<HashMap<SubscriberId, Mailbox>>,
    next_subscriber: AtomicU64,
    pub(crate) tap: broadcast::Sender<Passing>,
    /// How many watch. The channel knows it too, but behind a lock that all senders would share.
    pub(crate) watchers: Arc<AtomicUsize>,
    pub(crate) counters: Counters,
    pub(crate) halves: Halves,
    pub(crate) servers: Servers,
    pub(crate) deployments: Board,
    pub(crate) devicebound: Devicebound,
    pub(crate) sessions: SessionLog,
}

/// What decides where a message goes.
#[derive(Clone)]
pub(crate) struct Routing {
    table: Arc<RouteTable>,
    time_to_live_ms: Option<u64>,
    present: Arc<HashSet<Name>>,
    /// Who says which children have a log of their own upstream.
    pub(super) child_links: Option<Arc<dyn ChildLinks>>,
}

impl Routing {
    /// The child whose own log takes what it sends to a sink, if it has one.
    pub(crate) fn own_log(&self, source: &Source, sink: &Sink) -> Option<Name> {
        own_log(self.child_links.as_deref(), source, sink)
    }

    /// Whether all messages of this source go the same ways.
    pub(crate) fn decides_by_source(&self, source: &Source) -> bool {
        self.table.decides_by_source(source)
    }
}

/// What the broker has counted since it was started. On lines of their own in the cache: every sender writes here, and nobody
/// who only reads beside it should wait for that.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) no_route: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) not_recorded: AtomicU64,
    pub(crate) dropped_volatile: AtomicU64,
    pub(crate) lost_by_subscribers: AtomicU64,
    pub(crate) lost_by_sessions: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Messages that entered.
    pub accepted: u64,
    /// Of those, messages that no route took.
    pub no_route: u64,
    /// Messages that were refused for their size, their properties or their hops.
    pub refused: u64,
    /// Messages that the store could not record; they were not acknowledged.
    pub not_recorded: u64,
    /// Messages that volatile routes dropped because a lane was full.
    pub dropped_volatile: u64,
    /// Messages that subscribers lost because they read too slowly.
    pub lost_by_subscribers: u64,
    /// Messages of QoS 1 and 2 that sessions lost: the oldest of a full session, or of a full log.
    pub lost_by_sessions: u64,
}

fn milliseconds(time: Option<Duration>) -> Option<u64> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

// What a lock protects here is whole after every statement, so a panic elsewhere under it spoils nothing.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// Makes a broker over an open store. It spawns nothing: it works in its callers' tasks and on the store's thread.
    pub fn new(config: BrokerConfig, store: Store, clock: Arc<dyn Clock>) -> Self {
        let routing = Arc::new(Routing {
            table: Arc::new(config.routes),
            time_to_live_ms: milliseconds(config.time_to_live),
            present: Arc::default(),
            child_links: None,
        });
        let sessions = SessionLog::new(&store);
        let inner = Inner {
            edge: config.edge,
            store,
            clock,
            routing: RwLock::new(routing),
            lanes: RwLock::default(),
            module_lanes: RwLock::default(),
            parking: Mutex::default(),
            subscriptions: RwLock::default(),
            mailboxes: RwLock::default(),
            next_subscriber: AtomicU64::new(0),
            tap: broadcast::channel(TAP_MESSAGES_MAX).0,
            watchers: Arc::default(),
            counters: Counters::default(),
            halves: Halves::default(),
            servers: Servers::default(),
            deployments: Board::default(),
            devicebound: Devicebound::default(),
            sessions,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name of this edge.
    pub fn edge(&self) -> &Name {
        &self.inner.edge
    }

    /// The reader of a log. One log has one reader at a time: a second one would hand the same messages out again.
    pub fn reader(&self, log: LogId) -> Reader {
        Reader::new(self.inner.clone(), log)
    }

    /// A subscriber that may be `capacity` messages, and the bytes of one largest message, behind before it loses some.
    pub fn subscribe(&self, client: Name, capacity: usize) -> Subscriber {
        let budget = Budget::new(SUBSCRIBER_BYTES_MAX);
        self.subscribe_within(client, Room { messages: capacity, bytes: SUBSCRIBER_BYTES_MAX, budget })
    }

    /// A subscriber that may be as far behind as `room` says before it loses messages.
    pub fn subscribe_within(&self, client: Name, room: Room) -> Subscriber {
        let queue = Arc::new(Queue::new(room.messages));
        let id = self.inner.next_subscriber();
        let account = Arc::new(Account::new(room));
        write(&self.inner.mailboxes)
            .insert(id, Mailbox { queue: queue.clone(), account: account.clone(), session: None });
        Subscriber { inner: self.inner.clone(), id, client, queue, account, door: None }
    }

    /// Small keyed values that modules keep.
    pub fn documents(&self) -> Documents {
        Documents(self.inner.store.clone())
    }

    /// Takes new routes. Messages that are in a log already keep the route that took them.
    pub fn replace_routes(&self, table: RouteTable) {
        self.inner.change_routing(|routing| routing.table = Arc::new(table));
    }

    /// Takes new routes together with the time to live of those that name none: each message is decided by the old ones
    /// or by the new ones, never by a mixture. Messages that are in a log already keep their priority and their time.
    pub fn replace_routing(&self, table: RouteTable, time_to_live: Option<Duration>) {
        self.inner.change_routing(|routing| {
            routing.table = Arc::new(table);
            routing.time_to_live_ms = milliseconds(time_to_live);
        });
    }

    /// Changes the time to live of routes that name none, and leaves the routes.
    pub fn set_time_to_live(&self, time_to_live: Option<Duration>) {
        self.inner.change_routing(|routing| routing.time_to_live_ms = milliseconds(time_to_live));
    }

    /// The time to live of routes that name none; none means for ever.
    pub fn time_to_live(&self) -> Option<Duration> {
        read(&self.inner.routing).time_to_live_ms.map(Duration::from_millis)
    }

    /// The routes in force.
    pub fn routes(&self) -> Arc<RouteTable> {
        self.inner.routes()
    }

    /// Says whether the host runs a module. Outputs of a present module that no route's `FROM` could match go upstream.
    pub fn module_present(&self, module: &Name, present: bool) {
        self.inner.change_routing(|routing| {
            let mut names = (*routing.present).clone();
            if present {
                names.insert(module.clone());
            } else {
                names.remove(module);
            }
            routing.present = Arc::new(names);
        });
        if !present {
            let dropped = self.inner.lane(&LogId::module(module)).clear();
            self.inner.counters.dropped_volatile.fetch_add(dropped as u64, Ordering::Relaxed);
        }
    }

    /// Whether a module is present.
    pub fn is_module_present(&self, module: &Name) -> bool {
        read(&self.inner.routing).present.contains(module)
    }

    /// What would be decided of a message now, without letting it in.
    pub fn decide(&self, envelope: &Envelope) -> Decision {
        self.inner.decide(&self.inner.routing(), envelope)
    }

    /// Watches messages pass.
    pub fn tap(&self) -> Tap {
        Tap::new(&self.inner.tap, &self.inner.watchers)
    }

    /// How many volatile messages wait for a log's reader, and how many senders wait for room.
    pub fn lane_lengths(&self, log: &LogId) -> (usize, usize) {
        read(&self.inner.lanes).get(log).map_or((0, 0), |lane| lane.lengths())
    }

    /// The time by the broker's clock, by which messages expire.
    pub fn now(&self) -> UnixMillis {
        self.inner.clock.now()
    }

    /// The store under this broker.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What has been counted.
    pub fn counters(&self) -> CountersSnapshot {
        let c = &self.inner.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersSnapshot {
            accepted: count(&c.accepted),
            no_route: count(&c.no_route),
            refused: count(&c.refused),
            not_recorded: count(&c.not_recorded),
            dropped_volatile: count(&c.dropped_volatile),
            lost_by_subscribers: count(&c.lost_by_subscribers),
            lost_by_sessions: count(&c.lost_by_sessions),
        }
    }
}

impl Inner {
    pub(crate) fn routes(&self) -> Arc<RouteTable> {
        read(&self.routing).table.clone()
    }

    /// What decides now.
    pub(crate) fn routing(&self) -> Arc<Routing> {
        read(&self.routing).clone()
    }

    pub(crate) fn decide(&self, routing: &Routing, envelope: &Envelope) -> Decision {
        let own_log = |sink: &Sink| routing.own_log(&envelope.source, sink);
        decide(&routing.table, &routing.present, &self.edge, routing.time_to_live_ms, &own_log, envelope)
    }

    /// Changes what decides.
    pub(super) fn change_routing(&self, change: impl FnOnce(&mut Routing)) {
        change(Arc::make_mut(&mut write(&self.routing)));
    }

    /// How many volatile messages wait in the lanes of children's own logs upstream.
    pub(super) fn volatile_of_children(&self) -> Vec<(Name, u64)> {
        let waiting = |(log, lane): (&LogId, &Arc<Lane>)| {
            let (ready, parked) = lane.lengths();
            let child = log.upstream_child().filter(|_| ready + parked > 0)?;
            Some((child, (ready + parked) as u64))
        };
        read(&self.lanes).iter().filter_map(waiting).collect()
    }

    pub(crate) fn lane(&self, log: &LogId) -> Arc<Lane> {
        if let Some(lane) = read(&self.lanes).get(log) {
            return lane.clone();
        }
        let mut lanes = write(&self.lanes);
        let lane = lanes.entry(log.clone()).or_insert_with(|| {
            let lane = Arc::<Lane>::default();
            let bell = lane.clone();
            self.store.on_append(log, Arc::new(move || bell.bell.notify_one()));
            lane
        });
        lane.clone()
    }

    /// The lane of what reads what was taken; a topic has none.
    pub(crate) fn lane_of(&self, taken: &Taken) -> Option<Arc<Lane>> {
        let Sink::Input { module, .. } = &taken.sink else { return taken.log().map(|log| self.lane(&log)) };
        if let Some(lane) = read(&self.module_lanes).get(module) {
            return Some(lane.clone());
        }
        let lane = self.lane(&LogId::module(module));
        write(&self.module_lanes).insert(module.clone(), lane.clone());
        Some(lane)
    }

    pub(crate) fn next_subscriber(&self) -> SubscriberId {
        SubscriberId(self.next_subscriber.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn subscriptions(&self) -> RwLockReadGuard<'_, Subscriptions> {
        read(&self.subscriptions)
    }

    pub(crate) fn subscriptions_mut(&self) -> RwLockWriteGuard<'_, Subscriptions> {
        write(&self.subscriptions)
    }

    pub(crate) fn mailboxes(&self) -> RwLockReadGuard<'_, HashMap<SubscriberId, Mailbox>> {
        read(&self.mailboxes)
    }

    pub(crate) fn mailboxes_mut(&self) -> RwLockWriteGuard<'_, HashMap<SubscriberId, Mailbox>> {
        write(&self.mailboxes)
    }

    pub(crate) fn forget_subscriber(&self, id: SubscriberId) {
        while self.subscriptions_mut().forget(id, CHANGED_AT_ONCE) {}
        write(&self.mailboxes).remove(&id);
    }
}
