//! What the link is doing, for those who show it.

use crate::{
    Place,
    choice::{At, Known},
    probe,
};
use holdfast_net::Transport;
use holdfast_types::Text;
use std::{
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
    /// Messages sent and not acknowledged.
    pub in_flight: usize,
    /// What has passed.
    pub counters: Counters,
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
        let numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            target: self.shared.name(numbers.at),
            transport,
            ways,
            state,
            in_flight: numbers.in_flight,
            counters: numbers.counters,
            last_error: numbers.last_error.clone(),
            encryption: numbers.encryption.clone(),
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
}

impl Teller {
    pub(crate) fn new(places: Arc<Vec<Place>>, choice: probe::Shared) -> (Self, StatusHandle) {
        let at = At { place: 0, way: 0 };
        let (in_flight, counters, last_error, encryption) = (0, Counters::default(), None, None);
        let numbers = Mutex::new(Numbers { at, in_flight, counters, last_error, encryption });
        let shared = Arc::new(Shared { places, choice, numbers });
        let (sender, receiver) = watch::channel(LinkState::Connecting { attempt: 1 });
        let handle = StatusHandle { shared: shared.clone(), state: receiver };
        (Self { shared, state: sender, logged: None }, handle)
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
        tracing::info!(target = %self.shared.name(at), transport, "upstream is connected");
        self.state(LinkState::Connected { since: SystemTime::now() });
    }

    pub(crate) fn waiting(&mut self, reason: Text, delay: Duration) {
        let now = SystemTime::now();
        if self.logged.as_ref() != Some(&reason) {
            let at = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner).at;
            tracing::warn!(target = %self.shared.name(at), retry_in_ms = delay.as_millis(), %reason, "upstream is not connected");
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
