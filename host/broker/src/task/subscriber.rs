//! Subscribers of local topics.

use crate::core::subscriptions::SubscriberId;
use crate::task::broker::Inner;
use holdfast_types::{BODY_BYTES_MAX, Envelope, Name, Topic, TopicFilter};
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::{Notify, mpsc};

/// Bytes that a subscriber without bounds of its own may hold: room for the largest body.
pub(crate) const SUBSCRIBER_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// What a waiting message takes beside its own bytes: its place in the queue, its envelope, its filters.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// Bytes that many subscribers may hold together. Cloning gives another handle to the same bytes.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Purse { max, used: AtomicUsize::new(0) }))
    }

    /// The bytes of it that are held now; never more than there are.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

/// How far a subscriber may be behind.
#[derive(Clone, Debug)]
pub struct Room {
    /// Messages in its mailbox.
    pub messages: usize,
    /// Bytes that it holds, or one message if that is larger.
    pub bytes: usize,
    /// What it shares with others. A subscriber never holds more than what is still free of it, one message excepted:
    /// however many do not read, there is something left for those who do.
    pub budget: Budget,
}

/// What a subscriber holds and has lost.
#[derive(Debug)]
pub(crate) struct Account {
    bytes_max: usize,
    used: AtomicUsize,
    budget: Budget,
    lost: AtomicU64,
    lost_more: Notify,
}

impl Account {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            bytes_max: room.bytes,
            used: AtomicUsize::new(0),
            budget: room.budget,
            lost: AtomicU64::new(0),
            lost_more: Notify::new(),
        }
    }

    fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let all = &self.budget.0;
        let free = all.max.saturating_sub(all.used.load(Ordering::Relaxed));
        let max = self.bytes_max.min(free);
        add(&self.used, bytes, |used| used == 0 || used.saturating_add(bytes) <= max)?;
        if add(&all.used, bytes, |used| used.saturating_add(bytes) <= all.max).is_none() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Held { account: self.clone(), bytes })
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

/// A message on a local topic.
#[derive(Debug)]
pub struct Published {
    /// The topic.
    pub topic: Topic,
    /// The message and who sent it.
    pub envelope: Arc<Envelope>,
    /// The numbers that the subscriber gave its filters that this topic matched.
    pub filters: Vec<u32>,
    /// How many messages this subscriber has lost so far because it reads too slowly.
    pub lost: u64,
    /// The bytes that it takes of the subscriber's room.
    pub held: Held,
}

/// The broker's end of a subscriber.
pub(crate) struct Mailbox {
    pub(crate) sender: mpsc::Sender<Published>,
    pub(crate) account: Arc<Account>,
}

impl Mailbox {
    /// Hands a message over if there is room; a subscriber that is behind loses it and does not hold the sender.
    pub(crate) fn offer(&self, topic: &Topic, envelope: &Arc<Envelope>, filters: Vec<u32>) -> bool {
        let lost = self.account.lost.load(Ordering::Relaxed);
        // The envelope is shared, but one slow subscriber is enough to keep it: it counts whole for each.
        let bytes = envelope.message.size_bytes() + topic.len() + MESSAGE_OVERHEAD_BYTES;
        let taken = self.account.hold(bytes).is_some_and(|held| {
            let (topic, envelope) = (topic.clone(), envelope.clone());
            self.sender.try_send(Published { topic, envelope, filters, lost, held }).is_ok()
        });
        if !taken {
            self.account.lost.fetch_add(1, Ordering::Relaxed);
            self.account.lost_more.notify_one();
        }
        taken
    }
}

/// One subscriber's end: adds and removes filters, and receives. Ends when dropped.
pub struct Subscriber {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: SubscriberId,
    pub(crate) client: Name,
    pub(crate) receiver: mpsc::Receiver<Published>,
    pub(crate) account: Arc<Account>,
}

impl Subscriber {
    /// Who subscribes.
    pub fn client(&self) -> &Name {
        &self.client
    }

    /// Subscribes to a filter. `number` comes back in [`Published::filters`]; the same filter again takes the new one.
    pub fn add(&self, filter: &TopicFilter, number: u32) {
        self.inner.subscriptions_mut().add(self.id, filter, number);
    }

    /// Ends a subscription. Says whether there was one.
    pub fn remove(&self, filter: &TopicFilter) -> bool {
        self.inner.subscriptions_mut().remove(self.id, filter)
    }

    /// The next message. Cancel safe. None when the broker is gone.
    pub async fn next(&mut self) -> Option<Published> {
        self.receiver.recv().await
    }

    /// Up to `max` messages at once, at least one. Cancel safe. Gives 0 when the broker is gone.
    pub async fn next_many(&mut self, out: &mut Vec<Published>, max: usize) -> usize {
        self.receiver.recv_many(out, max).await
    }

    /// Waits for messages or for losses, whichever comes first. Takes up to `max` messages, and no more once the bodies
    /// taken have `bytes` bytes; with a `max` of 0 it waits for losses alone. Cancel safe.
    pub async fn next_or_lost(&mut self, out: &mut Vec<Published>, max: usize, bytes: usize) {
        let first = tokio::select! {
            biased;
            first = self.receiver.recv(), if max > 0 => first,
            () = self.account.lost_more.notified() => None,
        };
        let Some(first) = first else { return };
        let mut taken = first.envelope.message.body.len();
        let mut count = 1;
        out.push(first);
        while count < max && taken < bytes {
            let Ok(one) = self.receiver.try_recv() else { break };
            taken += one.envelope.message.body.len();
            count += 1;
            out.push(one);
        }
    }

    /// How many messages this subscriber has lost because it reads too slowly.
    pub fn lost(&self) -> u64 {
        self.account.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.inner.forget_subscriber(self.id);
    }
}
