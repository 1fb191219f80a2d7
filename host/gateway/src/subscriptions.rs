//! The subscriptions of one session, and the end of the broker that feeds them.

use crate::{plain::Plain, shared::Shared};
use holdfast_broker::{
    Held, Interest, Losses, Published, Room, SessionRecord, StoredSession, Subscriber, SubscriberId,
    SubscriptionOptions, SubscriptionRecord, Unfinished,
};
use holdfast_mqtt::PacketId;
use holdfast_types::{Name, QoS};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What an operator sees of a session.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    session: OnceLock<u32>,
    subscriber: OnceLock<SubscriberId>,
    subscriptions: AtomicUsize,
    in_flight: AtomicUsize,
}

impl Facts {
    /// Its number, if it outlives its connection.
    pub(crate) fn session(&self) -> Option<u32> {
        self.session.get().copied()
    }

    pub(crate) fn subscriber(&self) -> Option<SubscriberId> {
        self.subscriber.get().copied()
    }

    pub(crate) fn subscriptions(&self) -> u64 {
        self.subscriptions.load(Ordering::Relaxed) as u64
    }

    /// Messages that the client has not acknowledged, of this connection.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed) as u64
    }
}

/// The subscriptions of a session. Those of a session that outlives its connection are kept with it, and what is of QoS
/// 1 and 2 waits in the log while the client is away. Dropped, it leaves what was shared to others.
pub(crate) struct Subscriptions {
    /// Made with the first subscription: a client that only publishes needs none.
    subscriber: Option<Subscriber>,
    interests: HashMap<Interest, SubscriptionOptions>,
    /// Those that were added, given other options or ended, and that the broker has not heard of.
    changed: Vec<Interest>,
    /// The session, if it outlives its connection.
    stored: Option<StoredSession>,
    /// Messages that the client has not acknowledged.
    sent: HashMap<PacketId, Sent>,
    facts: Arc<Facts>,
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
        Self {
            subscriber: None,
            interests: HashMap::new(),
            changed: Vec::new(),
            stored: None,
            sent: HashMap::new(),
            facts: Arc::default(),
        }
    }

    /// Those of a session that outlives its connection.
    pub(crate) fn of(shared: &Shared, user: &Name, stored: StoredSession) -> Self {
        let mut all = Self::new();
        // They are new: nobody has set them.
        let _ = all.facts.session.set(stored.number());
        all.attach(stored.subscriber(user.clone(), room(shared)));
        all.stored = Some(stored);
        all
    }

    fn attach(&mut self, subscriber: Subscriber) {
        // A session has one subscriber as long as it lives.
        let _ = self.facts.subscriber.set(subscriber.id());
        self.subscriber = Some(subscriber);
    }

    /// What an operator sees.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// The session, if it outlives its connection.
    pub(crate) fn stored(&self) -> Option<&StoredSession> {
        self.stored.as_ref()
    }

    /// All of them, to be kept.
    pub(crate) fn records(&self) -> Vec<SubscriptionRecord> {
        let record = |(interest, options): (&Interest, &SubscriptionOptions)| SubscriptionRecord {
            filter: interest.to_string().into(),
            qos: options.qos.level(),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            id: options.id.map(Into::into),
        };
        self.interests.iter().map(record).collect()
    }

    /// Puts kept subscriptions in force again; those that cannot be read are left out.
    pub(crate) fn restore(&mut self, shared: &Shared, record: &SessionRecord) {
        for one in &record.subscriptions {
            let qos = QoS::from_level(one.qos).unwrap_or_default();
            let (no_local, retain_as_published) = (one.no_local, one.retain_as_published);
            let id = one.id.and_then(NonZeroU32::new);
            match crate::outbound::interest(&one.filter) {
                Ok(interest) => {
                    let options = SubscriptionOptions { qos, no_local, retain_as_published, id };
                    self.add(interest, options);
                }
                Err(reason) => {
                    tracing::warn!(user = %record.user, filter = %Plain(&one.filter), %reason, "a subscription cannot be restored");
                }
            }
        }
        self.settle(shared, &record.user);
        self.attended(false);
    }

    /// The client is there again. Gives what it had not acknowledged of what is kept.
    pub(crate) fn attend(&self) -> Vec<Unfinished> {
        let (Some(stored), Some(subscriber)) = (&self.stored, &self.subscriber) else {
            self.attended(true);
            return Vec::new();
        };
        stored.attend(subscriber).unwrap_or_else(|error| {
            tracing::error!(user = %subscriber.client(), %error, "what a client has not acknowledged cannot be read");
            Vec::new()
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.interests.len()
    }

    pub(crate) fn holds(&self, interest: &Interest) -> bool {
        self.interests.contains_key(interest)
    }

    /// What the client's own messages are published with.
    pub(crate) fn origin(&self) -> Option<SubscriberId> {
        self.subscriber.as_ref().map(Subscriber::id)
    }

    /// Adds a subscription or replaces the one with the same filter (MQTT-3.8.4-3), in force from [`Self::settle`] on.
    pub(crate) fn add(&mut self, interest: Interest, options: SubscriptionOptions) {
        self.changed.push(interest.clone());
        self.interests.insert(interest, options);
    }

    /// Ends a subscription, from [`Self::settle`] on. Says whether there was one.
    pub(crate) fn remove(&mut self, interest: &Interest) -> bool {
        let known = self.interests.remove(interest).is_some();
        if known {
            self.changed.push(interest.clone());
        }
        known
    }

    /// Puts in force what was changed since.
    pub(crate) fn settle(&mut self, shared: &Shared, user: &Name) {
        let changed = std::mem::take(&mut self.changed);
        if self.subscriber.is_none() && !self.interests.is_empty() {
            self.attach(shared.broker.subscribe_within(user.clone(), room(shared)));
        }
        let now = |interest| (interest, self.interests.get(interest).copied());
        let changes: Vec<_> = changed.iter().map(now).collect();
        self.subscriber.iter().for_each(|subscriber| subscriber.change(&changes));
        self.facts.subscriptions.store(self.interests.len(), Ordering::Relaxed);
    }

    /// Says whether the client is there.
    pub(crate) fn attended(&self, attended: bool) {
        self.subscriber.iter().for_each(|subscriber| subscriber.attended(attended));
    }

    /// Messages that were too old when their turn came, since this was asked last.
    pub(crate) fn take_expired(&self) -> u64 {
        self.subscriber.as_ref().map_or(0, Subscriber::take_expired)
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

    /// Takes as many messages as are wanted and there.
    pub(crate) fn take(&mut self, out: &mut Vec<Published>, wanted: Wanted) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.take(out, wanted.messages, wanted.bytes);
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
        self.facts.in_flight.store(self.sent.len(), Ordering::Relaxed);
    }

    /// Gives the room of an acknowledged message back. It is gone also if the client refused it (MQTT-4.8.2-6).
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        self.sent.remove(&id);
        self.facts.in_flight.store(self.sent.len(), Ordering::Relaxed);
    }
}

fn room(shared: &Shared) -> Room {
    let limits = &shared.limits;
    let (messages, bytes) = (limits.queue_messages_max, limits.queue_bytes_max);
    Room { messages, bytes, budget: shared.queues.clone() }
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
