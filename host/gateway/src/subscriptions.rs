//! The subscriptions of one session, and the end of the broker that feeds them.

use crate::shared::Shared;
use holdfast_broker::{
    Held, Interest, Losses, Published, Room, Subscriber, SubscriberId, SubscriptionOptions,
};
use holdfast_mqtt::PacketId;
use holdfast_types::{Name, QoS};
use std::collections::{HashMap, HashSet};

/// The subscriptions of a session. While the client is away, messages wait in the subscriber's mailbox, within its
/// bound. Dropped, it leaves what was shared to others.
pub(crate) struct Subscriptions {
    /// Made with the first subscription: a client that only publishes needs none.
    subscriber: Option<Subscriber>,
    interests: HashSet<Interest>,
    /// Messages that the client has not acknowledged.
    sent: HashMap<PacketId, Sent>,
}

/// What is kept of a message until the client acknowledges it.
enum Sent {
    /// Its room.
    Held(Held),
    /// The message itself: if the session ends before, another member of the group gets it.
    Shared(Box<Published>),
}

/// How much may be taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) messages: usize,
    /// No more messages are taken when those taken have this many bytes.
    pub(crate) bytes: usize,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self { subscriber: None, interests: HashSet::new(), sent: HashMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.interests.len()
    }

    pub(crate) fn holds(&self, interest: &Interest) -> bool {
        self.interests.contains(interest)
    }

    /// What the client's own messages are published with.
    pub(crate) fn origin(&self) -> Option<SubscriberId> {
        self.subscriber.as_ref().map(Subscriber::id)
    }

    /// Adds a subscription or replaces the one with the same filter (MQTT-3.8.4-3).
    pub(crate) fn add(
        &mut self,
        shared: &Shared,
        user: &Name,
        interest: Interest,
        options: SubscriptionOptions,
    ) {
        let subscriber = self.subscriber.get_or_insert_with(|| {
            let limits = &shared.limits;
            let (messages, bytes) = (limits.queue_messages_max, limits.queue_bytes_max);
            let room = Room { messages, bytes, budget: shared.queues.clone() };
            shared.broker.subscribe_within(user.clone(), room)
        });
        subscriber.add(&interest, options);
        self.interests.insert(interest);
    }

    /// Ends a subscription. Says whether there was one.
    pub(crate) fn remove(&mut self, interest: &Interest) -> bool {
        if let Some(subscriber) = &self.subscriber {
            subscriber.remove(interest);
        }
        self.interests.remove(interest)
    }

    /// Says whether the client is there.
    pub(crate) fn attended(&self, attended: bool) {
        self.subscriber.iter().for_each(|subscriber| subscriber.attended(attended));
    }

    /// Messages lost so far because the mailbox was full.
    pub(crate) fn lost(&self) -> Losses {
        self.subscriber.as_ref().map_or(Losses::default(), Subscriber::lost)
    }

    /// Waits for messages, of which it takes as many as are wanted, or for losses; for ever if there are no
    /// subscriptions. Cancel safe.
    pub(crate) async fn next_many(&mut self, out: &mut Vec<Published>, wanted: Wanted) {
        match &mut self.subscriber {
            Some(subscriber) => subscriber.next_or_lost(out, wanted.messages, wanted.bytes).await,
            None => std::future::pending().await,
        }
    }

    /// Keeps the room of a message, or the message, until the client acknowledges it. A message of QoS 2 that the
    /// client may have goes to nobody else (MQTT-4.8.2-5).
    pub(crate) fn sent(&mut self, id: PacketId, published: Published) {
        let sent = match published.shared {
            Some(_) if published.qos == QoS::AtLeastOnce => Sent::Shared(Box::new(published)),
            _ => Sent::Held(published.held),
        };
        self.sent.insert(id, sent);
    }

    /// Gives the room of an acknowledged message back. It is gone also if the client refused it (MQTT-4.8.2-6).
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        self.sent.remove(&id);
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        let Some(subscriber) = self.subscriber.take() else { return };
        subscriber.leave(self.sent.drain().filter_map(|(_, sent)| match sent {
            Sent::Shared(published) => Some(*published),
            Sent::Held(held) => {
                drop(held);
                None
            }
        }));
    }
}
