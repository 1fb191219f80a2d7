//! The subscriptions of one session, and the end of the broker that feeds them.

use crate::shared::Shared;
use holdfast_broker::{Held, Published, Room, Subscriber};
use holdfast_mqtt::{PacketId, QoS};
use holdfast_types::{Name, TopicFilter};
use std::collections::HashMap;

/// What a subscriber asked for with one filter.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) qos: QoS,
    pub(crate) id: Option<u32>,
}

/// The subscriptions of a session. While the client is away, messages wait in the subscriber's mailbox, within its
/// bound.
pub(crate) struct Subscriptions {
    /// Made with the first subscription: a client that only publishes needs none.
    subscriber: Option<Subscriber>,
    /// By the number that the broker brings back with each message.
    by_number: HashMap<u32, Subscribed>,
    numbers: HashMap<TopicFilter, u32>,
    next: u32,
    /// What messages that the client has not acknowledged take of its room.
    sent: HashMap<PacketId, Held>,
}

/// How much may be taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) messages: usize,
    /// No more messages are taken when those taken have this many bytes.
    pub(crate) bytes: usize,
}

/// A message with the best quality of service among the subscriptions that it matched.
pub(crate) struct Matched {
    pub(crate) qos: QoS,
    pub(crate) ids: Vec<u32>,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self {
            subscriber: None,
            by_number: HashMap::new(),
            numbers: HashMap::new(),
            next: 0,
            sent: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn holds(&self, filter: &TopicFilter) -> bool {
        self.numbers.contains_key(filter)
    }

    /// Adds a subscription or replaces the one with the same filter (MQTT-3.8.4-3).
    pub(crate) fn add(&mut self, shared: &Shared, user: &Name, filter: &TopicFilter, subscribed: Subscribed) {
        let number = match self.numbers.get(filter) {
            Some(number) => *number,
            None => {
                let number = self.next;
                self.next = self.next.wrapping_add(1);
                self.numbers.insert(filter.clone(), number);
                let subscriber = self.subscriber.get_or_insert_with(|| {
                    let limits = &shared.limits;
                    let (messages, bytes) = (limits.queue_messages_max, limits.queue_bytes_max);
                    let room = Room { messages, bytes, budget: shared.queues.clone() };
                    shared.broker.subscribe_within(user.clone(), room)
                });
                subscriber.add(filter, number);
                number
            }
        };
        self.by_number.insert(number, subscribed);
    }

    /// Ends a subscription. Says whether there was one.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        let Some(number) = self.numbers.remove(filter) else { return false };
        self.by_number.remove(&number);
        if let Some(subscriber) = &self.subscriber {
            subscriber.remove(filter);
        }
        true
    }

    /// Whether messages of QoS 1 or 2 may be among those that come.
    pub(crate) fn acknowledged(&self) -> bool {
        self.by_number.values().any(|one| one.qos != QoS::AtMostOnce)
    }

    /// Messages lost so far because the mailbox was full.
    pub(crate) fn lost(&self) -> u64 {
        self.subscriber.as_ref().map_or(0, Subscriber::lost)
    }

    /// Waits for messages, of which it takes as many as are wanted, or for losses; for ever if there are no
    /// subscriptions. Cancel safe.
    pub(crate) async fn next_many(&mut self, out: &mut Vec<Published>, wanted: Wanted) {
        match &mut self.subscriber {
            Some(subscriber) => subscriber.next_or_lost(out, wanted.messages, wanted.bytes).await,
            None => std::future::pending().await,
        }
    }

    /// Keeps the room of a message until the client acknowledges it.
    pub(crate) fn sent(&mut self, id: PacketId, held: Held) {
        self.sent.insert(id, held);
    }

    /// Gives the room of an acknowledged message back.
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        self.sent.remove(&id);
    }

    /// What the subscriptions that matched ask for. None if all have ended since.
    pub(crate) fn matched(&self, published: &Published) -> Option<Matched> {
        let found = published.filters.iter().filter_map(|number| self.by_number.get(number));
        let mut matched: Option<Matched> = None;
        for one in found {
            let all = matched.get_or_insert(Matched { qos: QoS::AtMostOnce, ids: Vec::new() });
            all.qos = all.qos.max(one.qos);
            all.ids.extend(one.id);
        }
        matched
    }
}
