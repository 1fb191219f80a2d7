//! What the link is doing, for those who show it.

use crate::{
    ChildrenStatus, Place,
    children::Board,
    choice::{At, Known},
    probe,
};
use holdfast_net::Transport;
use holdfast_types::{Name, Text};
use std::{
    ops::AddAssign,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// What the link is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is dialling, or waits for the broker's welcome.
    Connecting {
        /// Attempts since the link was last up, this one included.
        attempt: u32,
    },
    /// It is up.
    Connected {
        /// Since when.
        since: SystemTime,
    },
    /// It waits before the next attempt.
    Waiting {
        /// Until when.
        until: SystemTime,
        /// Why the last attempt or connection ended, and the fix.
        reason: Text,
    },
    /// It takes in nothing new and waits for its window.
    Draining,
    /// It has ended.
    Stopped,
}

impl LinkState {
    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// What has passed since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that the broker welcomed.
    pub connected: u64,
    /// Messages handed to the connection, those sent again included.
    pub sent: u64,
    /// Payload bytes of these.
    pub sent_bytes: u64,
    /// Messages that the broker has taken.
    pub acknowledged: u64,
    /// Messages that the broker refused for the moment; each is sent again.
    pub deferred: u64,
    /// Messages given up; recorded ones are in the dead letters with the reason.
    pub given_up: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.connected += other.connected;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.acknowledged += other.acknowledged;
        self.deferred += other.deferred;
        self.given_up += other.given_up;
    }
}

/// The last thing that went wrong. It stays after the link is up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// What, and the fix.
    pub text: Text,
}

/// What is known of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayState {
    /// It was not tried.
    Untried,
    /// It led to a welcome, or was proven.
    Works,
    /// It did not; why, and the fix.
    Failed(Text),
}

/// One way to one hub or broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayStatus {
    /// The hub or broker.
    pub place: Text,
    /// What carries the bytes.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// Whether messages go this way now.
    pub in_use: bool,
    /// What is known of it.
    pub state: WayState,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whom the link goes to, or tries to.
    pub target: Text,
    /// What carries the bytes, while it is up.
    pub transport: Option<Transport>,
    /// All ways, the preferred ones first.
    pub ways: Vec<WayStatus>,
    /// What it is doing.
    pub state: LinkState,
    /// Messages sent and not acknowledged, those of children with links of their own among them.
    pub in_flight: usize,
    /// What has passed, over the links of children too.
    pub counters: Counters,
    /// What children do that go up under their own identities; none where they go up as the edge's.
    pub children: Option<ChildrenStatus>,
    /// The last thing that went wrong.
    pub last_error: Option<LastError>,
    /// How it is encrypted, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; none for plain TCP or without connection.
    pub encryption: Option<Text>,
}

/// Shows the link. Cheap to clone.
#[derive(Clone)]
pub struct StatusHandle {
    shared: Arc<Shared>,
    state: watch::Receiver<LinkState>,
    /// The links of children beside that of the edge.
    children: Option<Arc<Board>>,
}

struct Shared {
    places: Arc<Vec<Place>>,
    choice: probe::Shared,
    // One lock for a batch of messages; 64-bit atomics are not to be had on every machine.
    numbers: Mutex<Numbers>,
}

struct Numbers {
    /// What is in use, or was tried last.
    at: At,
    in_flight: usize,
    counters: Counters,
    last_error: Option<LastError>,
    encryption: Option<Text>,
}

impl Shared {
    fn name(&self, at: At) -> Text {
        self.places.get(at.place).map(|place| place.name.clone()).unwrap_or_default()
    }

    fn transport(&self, at: At) -> Option<Transport> {
        Some(self.places.get(at.place)?.targets.get(at.way)?.way.transport())
    }
}

impl StatusHandle {
    /// Everything at this moment.
    pub fn status(&self) -> Status {
        let state = self.state.borrow().clone();
        let ways = self.ways();
        let used = ways.iter().find(|way| way.in_use);
        let transport = used.map(|way| way.transport);
        let (mut in_flight, mut counters) = self.own_numbers();
        if let Some(children) = &self.children {
            let (more, counted) = children.numbers();
            in_flight += more;
            counters += counted;
        }
        let numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            target: self.shared.name(numbers.at),
            transport,
            ways,
            state,
            in_flight,
            counters,
            children: self.children.as_ref().and_then(|children| children.status()),
            last_error: numbers.last_error.clone(),
            encryption: numbers.encryption.clone(),
        }
    }

    /// The same, with the links of children.
    pub(crate) fn with_children(self, children: Arc<Board>) -> Self {
        Self { children: Some(children), ..self }
    }

    /// What this link alone has in flight and has counted.
    pub(crate) fn own_numbers(&self) -> (usize, Counters) {
        let numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        (numbers.in_flight, numbers.counters)
    }

    /// What the link is doing.
    pub(crate) fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state.borrow().is_connected()
    }

    /// The way that is up, if one is.
    pub(crate) fn up(&self) -> Option<At> {
        self.shared.choice.choice().up()
    }

    /// Waits until the state changes; for ever once the link has ended.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the link is up and tells which way; none if it has ended.
    pub(crate) async fn connected_at(&self) -> Option<At> {
        let mut own = self.clone();
        loop {
            if !own.wait_for(LinkState::is_connected).await.is_connected() {
                return None;
            }
            match own.up() {
                Some(at) => return Some(at),
                // It has just gone down.
                None => own.changed().await,
            }
        }
    }

    fn ways(&self) -> Vec<WayStatus> {
        let choice = self.shared.choice.choice();
        let mut all = Vec::new();
        for (place, Place { name, targets, .. }) in self.shared.places.iter().enumerate() {
            for (way, target) in targets.iter().enumerate() {
                let at = At { place, way };
                let state = match choice.known(at) {
                    None | Some(Known::Nothing) => WayState::Untried,
                    Some(Known::Works) => WayState::Works,
                    Some(Known::Failed(why)) => WayState::Failed(why.clone()),
                };
                let transport = target.way.transport();
                let in_use = choice.up() == Some(at);
                all.push(WayStatus { place: name.clone(), transport, port: target.port, in_use, state });
            }
        }
        all
    }

    /// Says which hub or broker to use from now on, by its name, or, with none, that the rules decide again. The link moves
    /// there once what is in flight is acknowledged.
    ///
    /// # Errors
    /// There is none of this name; holds the names that there are.
    pub fn use_place(&self, name: Option<&str>) -> Result<(), Vec<Text>> {
        let names = || self.shared.places.iter().map(|place| place.name.clone());
        let place = match name {
            None => None,
            Some(name) => {
                Some(names().position(|known| *known == *name).ok_or_else(|| names().collect::<Vec<_>>())?)
            }
        };
        self.shared.choice.choice().tell(place, Instant::now());
        self.shared.choice.told.notify_one();
        Ok(())
    }

    /// Waits until the state is as `wanted`; gives it back, or the last state if the link has ended before.
    pub async fn wait_for(&mut self, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
        if let Ok(state) = self.state.wait_for(wanted).await {
            return state.clone();
        }
        self.state.borrow().clone()
    }
}

/// The side that tells.
pub(crate) struct Teller {
    shared: Arc<Shared>,
    state: watch::Sender<LinkState>,
    /// What was last told in the log, so that one that repeats is told once.
    logged: Option<Text>,
    /// The child whose link it is; none: the edge's.
    child: Option<Name>,
}

impl Teller {
    pub(crate) fn new(
        places: Arc<Vec<Place>>,
        choice: probe::Shared,
        child: Option<Name>,
    ) -> (Self, StatusHandle) {
        let at = At { place: 0, way: 0 };
        let (in_flight, counters, last_error, encryption) = (0, Counters::default(), None, None);
        let numbers = Mutex::new(Numbers { at, in_flight, counters, last_error, encryption });
        let shared = Arc::new(Shared { places, choice, numbers });
        let (sender, receiver) = watch::channel(LinkState::Connecting { attempt: 1 });
        let handle = StatusHandle { shared: shared.clone(), state: receiver, children: None };
        (Self { shared, state: sender, logged: None, child }, handle)
    }

    pub(crate) fn state(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    pub(crate) fn numbers(&self, in_flight: usize, counters: Counters) {
        let mut numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.in_flight = in_flight;
        numbers.counters = counters;
    }

    /// The place that is in use, or was tried last.
    pub(crate) fn place(&self) -> usize {
        self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner).at.place
    }

    /// This way is being tried.
    pub(crate) fn tries(&self, at: At) {
        self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner).at = at;
    }

    pub(crate) fn connected(&mut self, encryption: Option<Text>, now: Instant) {
        self.logged = None;
        let at = {
            let mut numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.encryption = encryption;
            numbers.at
        };
        self.shared.choice.choice().welcomed(at, now);
        let transport = self.shared.transport(at).map(tracing::field::display);
        match &self.child {
            None => tracing::info!(target = %self.shared.name(at), transport, "upstream is connected"),
            // They come and go.
            Some(child) => {
                tracing::debug!(%child, target = %self.shared.name(at), transport, "a child is connected upstream");
            }
        }
        self.state(LinkState::Connected { since: SystemTime::now() });
    }

    pub(crate) fn waiting(&mut self, reason: Text, delay: Duration) {
        let now = SystemTime::now();
        if self.logged.as_ref() != Some(&reason) {
            let at = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner).at;
            let (target, retry_in_ms) = (self.shared.name(at), delay.as_millis());
            match &self.child {
                None => tracing::warn!(%target, retry_in_ms, %reason, "upstream is not connected"),
                Some(child) => {
                    tracing::warn!(%child, %target, retry_in_ms, %reason, "a child is not connected upstream");
                }
            }
            self.logged = Some(reason.clone());
        }
        {
            let mut numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.encryption = None;
            numbers.last_error = Some(LastError { at: now, text: reason.clone() });
        }
        self.state(LinkState::Waiting { until: now + delay, reason });
    }
}
