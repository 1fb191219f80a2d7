//! Subscribers of local topics.

use crate::core::subscriptions::SubscriberId;
use crate::task::broker::Inner;
use holdfast_types::{Envelope, Name, Topic, TopicFilter};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;

/// A message on a local topic.
#[derive(Clone, Debug)]
pub struct Published {
    /// The topic.
    pub topic: Topic,
    /// The message and who sent it.
    pub envelope: Arc<Envelope>,
    /// The numbers that the subscriber gave its filters that this topic matched.
    pub filters: Vec<u32>,
    /// How many messages this subscriber has lost so far because it reads too slowly.
    pub lost: u64,
}

/// The broker's end of a subscriber.
pub(crate) struct Mailbox {
    pub(crate) sender: mpsc::Sender<Published>,
    pub(crate) lost: Arc<AtomicU64>,
}

impl Mailbox {
    /// Hands a message over if there is room; a subscriber that is behind loses it and does not hold the sender.
    pub(crate) fn offer(&self, topic: &Topic, envelope: &Arc<Envelope>, filters: Vec<u32>) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        let published = Published { topic: topic.clone(), envelope: envelope.clone(), filters, lost };
        let taken = self.sender.try_send(published).is_ok();
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
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
    pub(crate) lost: Arc<AtomicU64>,
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

    /// How many messages this subscriber has lost because it reads too slowly.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.inner.forget_subscriber(self.id);
    }
}
