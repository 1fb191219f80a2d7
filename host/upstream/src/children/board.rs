//! Which children have a connection upstream, want one or wait for one: what the broker, the registry and the links tell one another.

use super::ChildrenConfig;
use crate::{Counters, StatusHandle};
use holdfast_auth::{Credential, DeviceStatus, Registry, SharedKey};
use holdfast_broker::ChildLinks;
use holdfast_types::{Identity, Name, Text};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often logs are looked at that nobody has told of.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What children do upstream, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildrenStatus {
    /// Children that are connected under their own identities.
    pub connected: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// Children that wait for their turn, because there are as many connections as may be.
    pub waiting: usize,
    /// Children that are not connected and should be, by name.
    pub troubled: Vec<ChildTrouble>,
}

/// A child that is not connected and should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildTrouble {
    /// Who.
    pub child: Name,
    /// Why, and the fix.
    pub reason: Text,
}

/// What a child is upstream.
pub(super) enum Standing {
    /// A device of its own, with this key.
    Own(SharedKey),
    /// One that may not connect for now.
    Disabled,
    /// Nobody of its own: what it sends goes up as the edge's.
    Edges,
}

pub(crate) struct Board {
    edge: Name,
    own: Option<ChildrenConfig>,
    pub(super) places: Semaphore,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Clients of each device that are connected here.
    present: HashMap<Name, usize>,
    /// Children that want a connection or have one.
    links: BTreeMap<Name, Link>,
    /// Those among them whose link has not begun.
    due: Vec<Name>,
    waiting: usize,
    /// Whether it was told that children wait.
    told: bool,
    /// What connections have counted that have ended.
    ended: Counters,
}

#[derive(Default)]
struct Link {
    /// When it was last seen to be wanted; never, if only the registry has changed.
    wanted: Option<Instant>,
    /// Rung when the registry says something else of the child.
    cut: Arc<Notify>,
    connection: Option<Connection>,
    trouble: Option<Text>,
}

struct Connection {
    since: Instant,
    status: StatusHandle,
    /// Ends it in order.
    leave: CancellationToken,
}

impl Link {
    /// Whether it has not been wanted for so long.
    fn is_idle(&self, after: Duration) -> bool {
        self.wanted.is_none_or(|wanted| wanted.elapsed() >= after)
    }
}

impl State {
    /// The link of a child; one that begins, if there is none yet.
    fn link(&mut self, child: &Name, changed: &Notify) -> &mut Link {
        if !self.links.contains_key(child) {
            self.due.push(child.clone());
            changed.notify_one();
        }
        self.links.entry(child.clone()).or_default()
    }
}

impl Board {
    /// Of an edge; with `own`, children go up under their own identities.
    pub(crate) fn new(edge: &Name, own: Option<ChildrenConfig>) -> Arc<Self> {
        let most = own.as_ref().map_or(0, |own| own.connections_max.clamp(1, Semaphore::MAX_PERMITS));
        let board = Arc::new(Self {
            edge: edge.clone(),
            places: Semaphore::new(most),
            own,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        if let Some(own) = &board.own {
            let cuts = Arc::downgrade(&board);
            own.registry.watch_cuts(move |identity, _| {
                if let (Some(board), None) = (cuts.upgrade(), &identity.module) {
                    board.cut(&identity.device);
                }
            });
        }
        board
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self) -> Option<&Registry> {
        self.own.as_ref().map(|own| &*own.registry)
    }

    pub(super) fn idle_after(&self) -> Duration {
        self.own.as_ref().map_or(Duration::ZERO, |own| own.idle_after)
    }

    pub(super) fn turn(&self) -> Duration {
        self.own.as_ref().map_or(Duration::ZERO, |own| own.turn)
    }

    /// What a child is upstream now.
    pub(super) fn standing(&self, child: &Name) -> Standing {
        let identity = Identity::device(child.clone());
        let device = self.registry().filter(|_| *child != self.edge).and_then(|all| all.device(&identity));
        match device.as_deref().map(|device| (&device.credential, device.status)) {
            Some((Credential::SharedKey { primary, .. }, DeviceStatus::Enabled)) => {
                Standing::Own(primary.clone())
            }
            Some((Credential::SharedKey { .. }, DeviceStatus::Disabled)) => Standing::Disabled,
            _ => Standing::Edges,
        }
    }

    /// A child has something to send, or may have.
    pub(super) fn wants(&self, child: &Name) {
        self.state().link(child, &self.changed).wanted = Some(Instant::now());
    }

    /// The registry says something else of a child.
    fn cut(&self, child: &Name) {
        self.state().link(child, &self.changed).cut.notify_one();
    }

    /// Waits until links may be due.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The children whose links are to begin.
    pub(super) fn due(&self) -> Vec<Name> {
        std::mem::take(&mut self.state().due)
    }

    /// What is rung when the registry says something else of a child.
    pub(super) fn cuts(&self, child: &Name) -> Arc<Notify> {
        self.state().links.get(child).map(|link| link.cut.clone()).unwrap_or_default()
    }

    /// Whether a connection of the child is of no use any more; `is_empty` if its log is.
    pub(super) fn is_idle(&self, child: &Name, is_empty: bool) -> bool {
        let mut state = self.state();
        let is_present = state.present.contains_key(child);
        let Some(link) = state.links.get_mut(child) else { return true };
        if is_present || !is_empty {
            link.wanted = Some(Instant::now());
        }
        link.is_idle(self.idle_after())
    }

    /// Ends the link of a child that has not been wanted for so long; `is_empty` if its log is.
    pub(super) fn ends_if_idle(&self, child: &Name, is_empty: bool, after: Duration) -> bool {
        // IMPORTANT: both under one lock, so that who wants it finds it alive or makes it anew. What is asked for and not recorded
        // within the time is found by the look at the logs.
        let mut state = self.state();
        let is_present = state.present.contains_key(child);
        let is_idle = |link: &Link| is_empty && !is_present && link.is_idle(after);
        let ends = state.links.get(child).is_none_or(is_idle);
        if ends {
            state.links.remove(child);
        }
        ends
    }

    /// Ends the link of a child that has none of its own, unless it has by now.
    pub(super) fn ends(&self, child: &Name) -> bool {
        let mut state = self.state();
        let ends = matches!(self.standing(child), Standing::Edges);
        if ends {
            state.links.remove(child);
        }
        ends
    }

    /// Notes why a child is not connected; none: it is.
    pub(super) fn is_in_trouble(&self, child: &Name, reason: Option<Text>) {
        if let Some(link) = self.state().links.get_mut(child) {
            link.trouble = reason;
        }
    }

    /// A child begins to wait for its turn, or ends to.
    pub(super) fn waits(&self, waits: bool) {
        let mut state = self.state();
        state.waiting = if waits { state.waiting + 1 } else { state.waiting.saturating_sub(1) };
        let tell = waits && !std::mem::replace(&mut state.told, true);
        if state.waiting == 0 {
            state.told = false;
        }
        drop(state);
        if tell {
            let most = self.own.as_ref().map_or(0, |own| own.connections_max);
            tracing::warn!(
                connections = most,
                "as many children are connected upstream as upstream.children_connections_max allows; the others take turns"
            );
        }
    }

    /// Somebody waits for a turn: asks the connection to leave that had its own longest, if it is over; those first that do not
    /// stand.
    pub(super) fn asks_one_to_leave(&self) {
        let turn = self.turn();
        let state = self.state();
        let all = state.links.values().filter_map(|link| link.connection.as_ref());
        let over = all.filter(|one| !one.leave.is_cancelled() && one.since.elapsed() >= turn);
        if let Some(one) = over.min_by_key(|one| (one.status.is_connected(), one.since)) {
            one.leave.cancel();
        }
    }

    /// A child's connection begins; it is told by `leave` to end.
    pub(super) fn begins(&self, child: &Name, status: StatusHandle, leave: CancellationToken) {
        if let Some(link) = self.state().links.get_mut(child) {
            link.connection = Some(Connection { since: Instant::now(), status, leave });
        }
    }

    /// A child's connection has ended.
    pub(super) fn ended(&self, child: &Name) {
        let mut state = self.state();
        let connection = state.links.get_mut(child).and_then(|link| link.connection.take());
        if let Some(connection) = connection {
            state.ended += connection.status.own_numbers().1;
        }
    }

    /// What all connections of children have in flight and have counted.
    pub(crate) fn numbers(&self) -> (usize, Counters) {
        let state = self.state();
        let mut all = (0, state.ended);
        for connection in state.links.values().filter_map(|link| link.connection.as_ref()) {
            let (in_flight, counters) = connection.status.own_numbers();
            all.0 += in_flight;
            all.1 += counters;
        }
        all
    }

    /// What children do upstream; none where they go up as the edge's.
    pub(crate) fn status(&self) -> Option<ChildrenStatus> {
        let own = self.own.as_ref()?;
        let state = self.state();
        let is_connected =
            |link: &Link| link.connection.as_ref().is_some_and(|one| one.status.is_connected());
        let troubled = |(child, link): (&Name, &Link)| {
            let reason = link.trouble.clone()?;
            Some(ChildTrouble { child: child.clone(), reason })
        };
        Some(ChildrenStatus {
            connected: state.links.values().filter(|link| is_connected(link)).count(),
            connections_max: own.connections_max,
            waiting: state.waiting,
            troubled: state.links.iter().filter_map(troubled).collect(),
        })
    }

    /// How many links there are, so that who begins does so at a moment of its own.
    pub(super) fn len(&self) -> usize {
        self.state().links.len()
    }
}

impl ChildLinks for Board {
    fn carries(&self, child: &Name) -> bool {
        !matches!(self.standing(child), Standing::Edges)
    }

    fn comes(&self, child: &Name) {
        self.wants(child);
    }

    fn present(&self, child: &Name, present: bool) {
        {
            let mut state = self.state();
            let count = state.present.entry(child.clone()).or_default();
            *count = if present { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                state.present.remove(child);
            }
        }
        if self.carries(child) {
            self.wants(child);
        }
    }
}
