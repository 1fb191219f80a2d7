//! What the gateway counts.

use holdfast_broker::Budget;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        /// Counters since the start.
        #[derive(Debug)]
        pub struct Stats { $(pub(crate) $name: AtomicU64,)* queues: Budget }

        /// [`Stats`] at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StatsSnapshot {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Bytes of messages that wait for clients or for their acknowledgement.
            pub queued_bytes: u64,
        }

        impl Stats {
            pub(crate) fn new(queues: Budget) -> Self {
                Self { $($name: AtomicU64::new(0),)* queues }
            }

            /// The counters now.
            pub fn snapshot(&self) -> StatsSnapshot {
                let mut now = StatsSnapshot {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    queued_bytes: self.queues.used() as u64,
                };
                now.messages_lost += self.queues.lost();
                now
            }
        }

        impl StatsSnapshot {
            /// Names and values, for tables and metrics.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)* ("queued_bytes", self.queued_bytes)].into_iter()
            }
        }
    };
}
stats! {
    /// Connections that are open.
    connections;
    /// Those of them that wait until they may say who they are.
    connections_waiting;
    /// Sessions, with and without a connection.
    sessions;
    /// Connections that were let in.
    connections_accepted;
    /// Connections that were refused because there were too many.
    connections_over_limit;
    /// Connections that were closed unheard because too many waited, or for too long.
    connections_turned_away;
    /// Connections that were closed for others before they said who they are.
    connections_pushed_out;
    /// Those of them that made room for another one of the same address.
    connections_over_address_share;
    /// Clients that did not say who they are in time.
    connects_too_late;
    /// Clients that were refused in CONNACK.
    connects_refused;
    /// Clients that were refused because there were too many sessions.
    sessions_over_limit;
    /// Clients that waited until another password was checked.
    password_checks_waited;
    /// Connections that ended because the client broke the protocol.
    protocol_errors;
    /// Those of them that ended because a packet was larger than it may be.
    packets_over_limit;
    /// Connections that another one of the same client replaced.
    taken_over;
    /// Connections of devices that were removed, disabled or given another credential, or whose proof has expired.
    devices_cut;
    /// Clients that were silent for too long.
    keep_alive_expired;
    /// Clients that were cut off because they read too slowly.
    too_slow;
    /// Times that a client was not read from because it had sent what it may each second.
    paced;
    /// Times that a client was not read from because it was ahead of the log, or did not take what it was sent.
    held_back;
    /// Messages from clients.
    messages_in;
    /// Messages from clients that may not publish there, or that the broker refused.
    messages_refused;
    /// Messages to clients.
    messages_out;
    /// Messages whose life was over before they could be sent to a client.
    messages_expired;
    /// Messages that clients lost because they read too slowly, or because they were larger than the client takes.
    messages_lost;
    /// Subscriptions that were granted, also those that replaced one with the same filter.
    subscriptions_granted;
    /// Subscriptions that were refused.
    subscriptions_refused;
    /// Those of them that were refused because the client had too many.
    subscriptions_over_limit;
    /// Wills that were published.
    wills;
    /// Retained messages that were not kept because there are too many.
    retained_over_limit;
}

impl Stats {
    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Counts something as long as it lives.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(crate) fn up(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
