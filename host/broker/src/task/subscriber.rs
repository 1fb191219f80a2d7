//! Subscribers of local topics.

use crate::core::{
    publishing::{Interest, Publishing, SubscriberId, SubscriptionOptions, TopicProperties},
    sharing::Load,
    subscriptions::Reached,
};
use crate::task::{
    broker::Inner,
    queue::{Bells, Put, Queue},
    room::{Account, Held, Losses, MESSAGE_OVERHEAD_BYTES},
    sessions::{Door, SESSION_MESSAGES_MAX},
};
use holdfast_store::{Entry, Recipient};
use holdfast_types::{Envelope, Name, Offset, QoS, Topic, UnixMillis};
use std::sync::{Arc, atomic::Ordering};

/// Subscriptions that are changed at once: some tens of microseconds in which no message is handed over.
pub(crate) const CHANGED_AT_ONCE: usize = 32;

/// A message on a local topic, as one subscriber gets it.
#[derive(Debug)]
pub struct Published {
    /// The topic.
    pub topic: Topic,
    /// The message and who sent it.
    pub envelope: Arc<Envelope>,
    /// The quality of service to deliver it with: the lesser of what it was published with and what was granted.
    pub qos: QoS,
    /// Whether it is marked as published to be retained.
    pub retain: bool,
    /// The identifiers of the subscriptions that match.
    pub ids: Vec<u32>,
    /// When it is too old to be delivered; none means never.
    pub expires: Option<UnixMillis>,
    /// What its publisher sent along for subscribers.
    pub properties: Option<Arc<TopicProperties>>,
    /// The shared subscription as whose member the subscriber was picked.
    pub shared: Option<Arc<Interest>>,
    /// Its order among those of a session that outlives the process, which is told what becomes of it.
    pub order: Option<Offset>,
    /// The bytes that it takes of the subscriber's room.
    pub held: Held,
}

/// The broker's end of a subscriber.
pub(crate) struct Mailbox {
    pub(crate) queue: Arc<Queue>,
    pub(crate) account: Arc<Account>,
    /// The session that outlives the process, if it is one's.
    pub(crate) session: Option<u32>,
}

/// Messages that are offered to subscribers, in order.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) envelopes: &'a [Arc<Envelope>],
    pub(crate) publishing: &'a Publishing,
}

/// The broker knows the subscriber no longer.
impl Drop for Mailbox {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Mailbox {
    /// Hands messages over if there is room; a subscriber that is behind loses them and does not hold the sender. Gives how
    /// many were taken.
    pub(crate) fn offer(&self, offer: &Offer<'_>, reached: &Reached, bells: &mut Bells) -> usize {
        let Offer { topic, envelopes, publishing } = *offer;
        let properties = publishing.properties.as_ref();
        let held = self.account.hold_each(envelopes.iter().map(|one| size_of(one, topic, properties)));
        let mut published = envelopes.iter().zip(held).map(|(envelope, held)| {
            Some(Published {
                topic: topic.clone(),
                envelope: envelope.clone(),
                qos: reached.qos,
                retain: reached.retain,
                ids: reached.ids.clone(),
                expires: publishing.expires(envelope.received),
                properties: properties.cloned(),
                shared: reached.shared.clone(),
                order: None,
                held: held?,
            })
        });
        let (taken, rings) = self.queue.put_all(&mut published);
        if rings {
            bells.add(&self.queue);
        }
        (taken..envelopes.len()).for_each(|_| self.account.lost(reached.qos));
        taken
    }

    /// The same for a message that is in the log for another member of the group, and that this one takes into memory.
    pub(crate) fn offer_recorded(&self, entry: &Entry, qos: QoS, recipient: Recipient) -> bool {
        let Some(addressed) = &entry.addressed else { return false };
        let (properties, bells) = (addressed.properties.as_ref(), &mut Bells::default());
        self.put(qos, &addressed.topic, &entry.envelope, properties, bells, |held| Published {
            topic: addressed.topic.clone(),
            envelope: entry.envelope.clone(),
            qos,
            retain: recipient.retain,
            ids: recipient.ids,
            expires: entry.expires,
            properties: addressed.properties.clone(),
            shared: recipient.shared,
            order: None,
            held,
        })
    }

    /// Takes over what another member of the group did not get.
    pub(crate) fn take_over(&self, from: Published, options: &SubscriptionOptions) -> bool {
        // What the other one held is free before it is held here.
        let Published { topic, envelope, qos, retain, expires, properties, shared, held, .. } = from;
        drop(held);
        let qos = qos.min(options.qos);
        let ids = options.id.iter().map(|id| id.get()).collect();
        let (t, e, p) = (topic.clone(), envelope.clone(), properties.clone());
        self.put(qos, &t, &e, p.as_ref(), &mut Bells::default(), |held| Published {
            topic,
            envelope,
            qos,
            retain: retain && options.retain_as_published,
            ids,
            expires,
            properties,
            shared,
            order: None,
            held,
        })
    }

    fn put(
        &self,
        qos: QoS,
        topic: &Topic,
        envelope: &Envelope,
        properties: Option<&Arc<TopicProperties>>,
        bells: &mut Bells,
        published: impl FnOnce(Held) -> Published,
    ) -> bool {
        let bytes = size_of(envelope, topic, properties);
        let put = self.account.hold(bytes).map_or(Put::Refused, |held| self.queue.put(published(held)));
        match put {
            Put::Refused => self.account.lost(qos),
            Put::Behind => {}
            Put::First => bells.add(&self.queue),
        }
        put != Put::Refused
    }

    /// Messages that wait in it.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn session(&self) -> Option<u32> {
        self.session
    }

    pub(crate) fn is_away(&self) -> bool {
        self.account.away.load(Ordering::Relaxed)
    }

    /// How busy the subscriber is; none if it has no room.
    pub(crate) fn load(&self) -> Option<Load> {
        let bytes = self.account.used.load(Ordering::Relaxed);
        let has_room = self.queue.has_room() && bytes < self.account.bytes_max;
        has_room.then(|| Load { away: self.is_away(), bytes })
    }

    /// The same for a session whose messages wait in the log: each counts as what it takes at least.
    pub(crate) fn load_with_waiting(&self, waiting: u64) -> Option<Load> {
        let least = usize::try_from(waiting).unwrap_or(usize::MAX).saturating_mul(MESSAGE_OVERHEAD_BYTES);
        let bytes = self.account.used.load(Ordering::Relaxed).max(least);
        (waiting < SESSION_MESSAGES_MAX).then(|| Load { away: self.is_away(), bytes })
    }
}

/// What a message takes of the room of a subscriber. The envelope is shared, but one slow subscriber is enough to keep it: it
/// counts whole for each.
fn size_of(envelope: &Envelope, topic: &Topic, properties: Option<&Arc<TopicProperties>>) -> usize {
    let more = properties.map_or(0, |properties| properties.size_bytes());
    envelope.message.size_bytes() + topic.len() + more + MESSAGE_OVERHEAD_BYTES
}

/// One subscriber's end: adds and removes filters, and receives. Ends when dropped.
pub struct Subscriber {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: SubscriberId,
    pub(crate) client: Name,
    pub(crate) queue: Arc<Queue>,
    pub(crate) account: Arc<Account>,
    /// Where recorded messages come from, for a session that outlives the process.
    pub(crate) door: Option<Arc<Door>>,
}

impl Subscriber {
    /// Who subscribes.
    pub fn client(&self) -> &Name {
        &self.client
    }

    /// What its own messages are published with, see [`Publishing::origin`].
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Subscribes, or gives a subscription new options. Says whether it is new. What waits already stays as it is.
    pub fn add(&self, interest: &Interest, options: SubscriptionOptions) -> bool {
        if interest.group.is_some() {
            self.inner.sessions.members_changed();
        }
        self.inner.subscriptions_mut().add(self.id, interest, options)
    }

    /// Ends a subscription. Says whether there was one. What waits already is still delivered.
    pub fn remove(&self, interest: &Interest) -> bool {
        self.inner.subscriptions_mut().remove(self.id, interest)
    }

    /// Subscribes, or gives new options, or ends the subscription where there are none; many at once. Every message looks here for
    /// those whom it reaches, and some look for long: to wait for them at each subscription would hold the caller for a hundred times as
    /// long, and to change all in one go would hold the messages.
    pub fn change(&self, changes: &[(&Interest, Option<SubscriptionOptions>)]) {
        if changes.iter().any(|(interest, options)| interest.group.is_some() && options.is_some()) {
            self.inner.sessions.members_changed();
        }
        for some in changes.chunks(CHANGED_AT_ONCE) {
            let mut subscriptions = self.inner.subscriptions_mut();
            for (interest, options) in some {
                match options {
                    Some(options) => subscriptions.add(self.id, interest, *options),
                    None => subscriptions.remove(self.id, interest),
                };
            }
        }
    }

    /// Says whether anybody reads. In a group, one whom nobody reads is picked only if the others cannot take more.
    pub fn attended(&self, attended: bool) {
        self.account.away.store(!attended, Ordering::Relaxed);
        if self.inner.subscriptions().is_member(self.id) {
            self.inner.sessions.members_changed();
        }
    }

    /// Leaves with messages that it took and that nobody acknowledged: those that were shared go to others of their
    /// groups, as do those that it has not taken.
    pub fn leave(self, unacknowledged: impl IntoIterator<Item = Published>) {
        let inner = self.inner.clone();
        drop(self);
        unacknowledged.into_iter().for_each(|published| inner.pass_on(published));
    }

    /// The next message. Cancel safe. None when the broker is gone.
    pub async fn next(&mut self) -> Option<Published> {
        self.queue.first().await
    }

    /// Up to `max` messages at once, at least one. Cancel safe. Gives 0 when the broker is gone.
    pub async fn next_many(&mut self, out: &mut Vec<Published>, max: usize) -> usize {
        let before = out.len();
        let Some(first) = self.queue.first().await else { return 0 };
        out.push(first);
        self.queue.take(out, max.saturating_sub(1), usize::MAX);
        out.len() - before
    }

    /// Takes up to `max` messages that are there, and no more once the bodies taken have `bytes` bytes.
    pub fn take(&mut self, out: &mut Vec<Published>, max: usize, bytes: usize) {
        let before = out.len();
        // Half of it for what is not recorded, so that neither starves the other.
        let mailbox_max = if self.door.is_some() { max.div_ceil(2) } else { max };
        let taken = self.queue.take(out, mailbox_max, bytes);
        let rest = max.saturating_sub(out.len() - before);
        if rest > 0 && self.door.is_some() {
            self.take_recorded(out, rest, bytes.saturating_sub(taken));
        }
    }

    /// Waits for messages or for losses, whichever comes first, and takes as much as [`Self::take`] does; with a `max` of 0
    /// it waits for losses alone. Of those of QoS 0 not each is told. Cancel safe.
    pub async fn next_or_lost(&mut self, out: &mut Vec<Published>, max: usize, bytes: usize) {
        loop {
            if max > 0 && self.door.is_some() {
                self.take(out, max, bytes);
                if !out.is_empty() {
                    return;
                }
            }
            let rung = async {
                match &self.door {
                    Some(door) => door.rung().await,
                    None => std::future::pending().await,
                }
            };
            let first = tokio::select! {
                biased;
                first = self.queue.first(), if max > 0 => first,
                () = self.account.lost_more.notified() => None,
                () = rung, if max > 0 => continue,
            };
            let Some(first) = first else { return };
            let taken = first.envelope.message.body.len();
            out.push(first);
            if max > 1 && taken < bytes {
                self.take(out, max - 1, bytes - taken);
            }
            return;
        }
    }

    /// How many messages of the log have come to the end of their life before they were read, since this was asked last.
    pub fn take_expired(&self) -> u64 {
        self.account.expired.swap(0, Ordering::Relaxed)
    }

    /// What this subscriber has lost so far because it reads too slowly.
    pub fn lost(&self) -> Losses {
        let [allowed, promised] = &self.account.lost;
        Losses { allowed: allowed.load(Ordering::Relaxed), promised: promised.load(Ordering::Relaxed) }
    }
}

/// What waits and was shared goes to others of its group.
impl Drop for Subscriber {
    fn drop(&mut self) {
        self.inner.forget_subscriber(self.id);
        self.queue.close();
        let mut left = Vec::new();
        self.queue.take(&mut left, usize::MAX, usize::MAX);
        left.into_iter().for_each(|published| self.inner.pass_on(published));
    }
}
