//! The room of a subscriber: what it may hold, what it holds, and what it has lost for want of it.

use holdfast_types::{BODY_BYTES_MAX, QoS};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// Bytes that a subscriber without bounds of its own may hold: room for the largest body.
pub(crate) const SUBSCRIBER_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// What a waiting message takes beside its own bytes: its place in the queue, its envelope, its filters.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Bytes that many subscribers may hold together. Cloning gives another handle to the same bytes.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    max: usize,
    used: AtomicUsize,
    /// Messages that those who share it have lost.
    lost: AtomicU64,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Purse { max, used: AtomicUsize::new(0), lost: AtomicU64::new(0) }))
    }

    /// The bytes of it that are held now: never more than there are, but for one message of each session that reads
    /// from the log.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How many messages those who share it have lost because they read too slowly.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// How far a subscriber may be behind.
#[derive(Clone, Debug)]
pub struct Room {
    /// Messages in its mailbox.
    pub messages: usize,
    /// Bytes that it holds, or one message if that is larger.
    pub bytes: usize,
    /// What it shares with others. A subscriber never holds more than what is still free of it, one message excepted.
    pub budget: Budget,
}

/// What a subscriber holds and has lost.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) bytes_max: usize,
    pub(super) used: AtomicUsize,
    pub(super) budget: Budget,
    /// Messages of QoS 0 that were lost, and those of QoS 1 and 2.
    pub(super) lost: [AtomicU64; 2],
    pub(super) lost_more: Notify,
    /// Messages of the log whose life ended before they were read.
    pub(super) expired: AtomicU64,
    pub(super) away: AtomicBool,
}

impl Account {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            bytes_max: room.bytes,
            used: AtomicUsize::new(0),
            budget: room.budget,
            lost: Default::default(),
            lost_more: Notify::new(),
            expired: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// Tells the subscriber of each message that was promised. Of others it is told less and less often: one that does not
    /// read loses them by the thousand, and to wake it each time would cost more than the messages.
    pub(super) fn lost(&self, qos: QoS) {
        let [allowed, promised] = &self.lost;
        let is_allowed = qos == QoS::AtMostOnce;
        let counter = if is_allowed { allowed } else { promised };
        let before = counter.fetch_add(1, Ordering::Relaxed);
        self.budget.0.lost.fetch_add(1, Ordering::Relaxed);
        if !is_allowed || before.wrapping_add(1).is_power_of_two() {
            self.lost_more.notify_one();
        }
    }

    /// A message of the log has come to the end of its life.
    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Room for a message that was read from the log. One is always let in, or a session could starve.
    pub(crate) fn hold_one_at_least(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        self.hold(bytes).or_else(|| {
            let first = self.used.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            first.then(|| {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
                self.hold_anyhow(bytes)
            })
        })
    }

    /// Room for a message that the client may have already and that is sent again, whatever the bounds say: there are no
    /// more of them than its window.
    pub(crate) fn hold_anyhow(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.0.used.fetch_add(bytes, Ordering::Relaxed);
        Held { account: self.clone(), bytes }
    }

    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        self.takes(bytes, true).then(|| Held { account: self.clone(), bytes })
    }

    /// Room for each of several messages; where it is there for all of them it is taken at once.
    pub(super) fn hold_each<'a>(
        self: &'a Arc<Self>,
        sizes: impl Iterator<Item = usize> + Clone + 'a,
    ) -> impl Iterator<Item = Option<Held>> + 'a {
        let at_once = self.takes(sizes.clone().sum(), false);
        let held = move |bytes| Held { account: self.clone(), bytes };
        sizes.map(move |bytes| if at_once { Some(held(bytes)) } else { self.hold(bytes) })
    }

    /// Takes room if it is there. A message that comes `first`, where none is, gets it if its size alone is in the way.
    fn takes(&self, bytes: usize, first: bool) -> bool {
        let all = &self.budget.0;
        let free = all.max.saturating_sub(all.used.load(Ordering::Relaxed));
        let max = self.bytes_max.min(free);
        if add(&self.used, bytes, |used| first && used == 0 || used.saturating_add(bytes) <= max).is_none() {
            return false;
        }
        let fits = add(&all.used, bytes, |used| used.saturating_add(bytes) <= all.max).is_some();
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

fn add(counter: &AtomicUsize, bytes: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let more = |used| fits(used).then(|| used.saturating_add(bytes));
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()
}

/// The bytes that a message takes of its subscriber's [`Room`]. They are given back when this is dropped; who keeps the
/// message keeps it too.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Messages that a subscriber has lost because it reads too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Of QoS 0, where losing is allowed.
    pub allowed: u64,
    /// Of QoS 1 and 2.
    pub promised: u64,
}

impl Losses {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.allowed + self.promised
    }
}
