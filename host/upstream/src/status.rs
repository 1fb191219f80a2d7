//! What the link is doing, for those who show it.

use holdfast_types::Text;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
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

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whom the link goes to, as `host:port`.
    pub target: Text,
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
    target: Text,
    // One lock for a batch of messages; 64-bit atomics are not to be had on every machine.
    numbers: Mutex<Numbers>,
}

#[derive(Default)]
struct Numbers {
    in_flight: usize,
    counters: Counters,
    last_error: Option<LastError>,
    encryption: Option<Text>,
}

impl StatusHandle {
    /// Everything at this moment.
    pub fn status(&self) -> Status {
        let state = self.state.borrow().clone();
        let numbers = self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            target: self.shared.target.clone(),
            state,
            in_flight: numbers.in_flight,
            counters: numbers.counters,
            last_error: numbers.last_error.clone(),
            encryption: numbers.encryption.clone(),
        }
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
    pub(crate) fn new(target: Text) -> (Self, StatusHandle) {
        let shared = Arc::new(Shared { target, numbers: Mutex::default() });
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

    pub(crate) fn connected(&mut self, encryption: Option<Text>) {
        self.logged = None;
        self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner).encryption = encryption;
        tracing::info!(target = %self.shared.target, "upstream is connected");
        self.state(LinkState::Connected { since: SystemTime::now() });
    }

    pub(crate) fn waiting(&mut self, reason: Text, delay: Duration) {
        let now = SystemTime::now();
        if self.logged.as_ref() != Some(&reason) {
            tracing::warn!(target = %self.shared.target, retry_in_ms = delay.as_millis(), %reason, "upstream is not connected");
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
