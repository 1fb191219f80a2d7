//! A message enters: check, decide, hand on, ask for a record.

use super::{
    admission::{Receipt, Refused, check},
    broker::{Broker, Inner, read},
    lane::{Lane, Pushed},
    pending::Pending,
    queue::Bells,
    reader::{Delivery, Ticket},
    sessions,
    subscriber::Offer,
    tap::Passing,
};
use crate::core::{
    decide::{Decision, Taken},
    publishing::Publishing,
};
use holdfast_store::{Append, Appended, Commit, CommitError, Entry};
use holdfast_types::{
    Durability, Envelope, LogId, Message, QoS, QueueId, Sink, Source, UnixMillis, WhenFull,
};
use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{Arc, PoisonError, atomic::Ordering},
};
use tokio::sync::oneshot;

/// What is called when everything that the answer promises is true. It may run on the thread that commits: it must be
/// quick, must not block, and must not publish.
pub type Done = Box<dyn FnOnce(Result<Receipt, Refused>) + Send + 'static>;

impl Broker {
    /// Takes a message from `source` and answers when all durable routes have it on disk. Waits while a log is full
    /// whose route says to block. Errors are [`Refused`]; after one, nothing was acknowledged to anybody.
    pub async fn publish(&self, source: Source, message: Message) -> Result<Receipt, Refused> {
        let (answer, wait) = oneshot::channel();
        self.publish_then(source, message, move |result| {
            // A sender that no longer waits is no fault: the record stands.
            let _ = answer.send(result);
        });
        wait.await.unwrap_or(Err(Refused::Stopping))
    }

    /// The same with a call back, for senders that have many messages under way. Messages of one caller are recorded
    /// in the order of the calls, and their answers come in that order.
    pub fn publish_then(
        &self,
        source: Source,
        message: Message,
        done: impl FnOnce(Result<Receipt, Refused>) + Send + 'static,
    ) {
        self.publish_as(source, message, Publishing::default(), done);
    }

    /// The same for senders that say how the message is published to topics.
    pub fn publish_as(
        &self,
        source: Source,
        message: Message,
        publishing: Publishing,
        done: impl FnOnce(Result<Receipt, Refused>) + Send + 'static,
    ) {
        if let Err(refused) = check(&message, 0) {
            self.inner.counters.refused.fetch_add(1, Ordering::Relaxed);
            done(Err(refused));
            return;
        }
        let entered = self.inner.enter(source, message, publishing, 0);
        let (mut receipt, for_sessions) = self.inner.fan_out(entered.group(), &mut Bells::default());
        // Only who has to wait for something needs more for the answer than this call.
        let (mut done, mut pending) = (Some(done), None);
        let mut open_part = || {
            let waits = pending.get_or_insert_with(|| {
                let done = done.take();
                let done = move |answer| {
                    if let Some(done) = done {
                        done(answer);
                    }
                };
                Pending::new(Receipt::default(), Box::new(done))
            });
            waits.open_part()
        };
        receipt.add(self.inner.push_volatile(entered.group(), &mut open_part));
        let mut appends = entered.group().appends();
        appends.extend(for_sessions);
        let documents: Vec<_> = entered
            .publishing
            .beside
            .iter()
            .map(|one| sessions::document(one, entered.envelope.received))
            .collect();
        if !appends.is_empty() || !documents.is_empty() {
            let part = open_part();
            let commit = Commit { appends, documents, ..Commit::default() };
            self.inner.commit(commit, move |answer, durable, dropped| {
                part.part_done(answer, |receipt| {
                    receipt.durable += durable;
                    receipt.dropped += dropped;
                });
            });
        }
        match (pending, done) {
            (Some(pending), _) => pending.part_done(Ok(()), |all| all.add(receipt)),
            (None, Some(done)) => done(Ok(receipt)),
            (None, None) => {}
        }
    }
}

/// A message that has been decided.
pub(crate) struct Entered {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) decision: Decision,
    pub(crate) publishing: Publishing,
}

impl Entered {
    pub(crate) fn group(&self) -> Group<'_> {
        let envelopes = std::slice::from_ref(&self.envelope);
        Group { envelopes, decision: &self.decision, publishing: &self.publishing }
    }
}

/// Messages of one source, in order, that go the same ways.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) envelopes: &'a [Arc<Envelope>],
    pub(crate) decision: &'a Decision,
    pub(crate) publishing: &'a Publishing,
}

impl Group<'_> {
    /// The records that durable routes need.
    pub(crate) fn appends(&self) -> Vec<Append> {
        let mut appends = Vec::new();
        for envelope in self.envelopes {
            let durable = self.decision.taken.iter().filter(|taken| taken.durability == Durability::Durable);
            appends.extend(durable.filter_map(|taken| {
                Some(Append {
                    queue: QueueId { log: taken.log()?, priority: taken.priority },
                    entry: Entry {
                        envelope: envelope.clone(),
                        input: input_of(taken),
                        route: taken.route.clone(),
                        expires: taken.expires,
                        addressed: None,
                    },
                    when_full: taken.when_full,
                })
            }));
        }
        appends
    }
}

fn input_of(taken: &Taken) -> Option<holdfast_types::Name> {
    match &taken.sink {
        Sink::Input { input, .. } => Some(input.clone()),
        Sink::Upstream | Sink::Topic(_) => None,
    }
}

/// Whether a module sends to itself.
fn is_own(source: &Source, sink: &Sink) -> bool {
    matches!((source, sink), (Source::Module { module, .. }, Sink::Input { module: to, .. }) if module == to)
}

/// A message as it enters.
pub(crate) fn stamped(source: Source, mut message: Message, hops: u8, received: UnixMillis) -> Arc<Envelope> {
    message.system.creation_time.get_or_insert(received);
    Arc::new(Envelope { message, source, received, hops })
}

impl Inner {
    /// Stamps, decides and counts a message that has passed the checks.
    pub(crate) fn enter(
        &self,
        source: Source,
        message: Message,
        publishing: Publishing,
        hops: u8,
    ) -> Entered {
        let envelope = stamped(source, message, hops, self.clock.now());
        let mut decision = self.decide(&self.routing(), &envelope);
        if let Some(expires) = publishing.expires(envelope.received) {
            decision.taken.iter_mut().for_each(|taken| taken.expire_by(expires));
        }
        let entered = Entered { envelope, decision, publishing };
        self.count(entered.group());
        entered
    }

    /// Counts messages that have been decided, and shows them to whoever watches.
    pub(crate) fn count(&self, group: Group<'_>) {
        let messages = group.envelopes.len() as u64;
        self.counters.accepted.fetch_add(messages, Ordering::Relaxed);
        if group.decision.taken.is_empty() {
            self.counters.no_route.fetch_add(messages, Ordering::Relaxed);
        }
        if self.watchers.load(Ordering::Relaxed) > 0 {
            let decision = Arc::new(group.decision.clone());
            for envelope in group.envelopes {
                // No watcher is an answer too.
                let _ = self.tap.send(Passing { envelope: envelope.clone(), decision: decision.clone() });
            }
        }
    }

    /// Hands messages to subscribers: of the topic they were published to, and of the topics that routes name.
    /// Gives what must be recorded for sessions that outlive the process. Whom it wakes hears of it by `bells`.
    pub(crate) fn fan_out(&self, group: Group<'_>, bells: &mut Bells) -> (Receipt, Vec<Append>) {
        let mut for_sessions = Vec::new();
        let mut subscribers = 0;
        let mut lost = 0;
        let own = group.envelopes.first().and_then(|first| match &first.source {
            Source::Child { topic, .. } => topic.as_ref(),
            Source::Module { .. } | Source::TwinChange { .. } => None,
        });
        let routed = group.decision.taken.iter().filter_map(|taken| match &taken.sink {
            Sink::Topic(topic) => Some(topic),
            Sink::Upstream | Sink::Input { .. } => None,
        });
        for topic in own.into_iter().chain(routed) {
            let Group { envelopes, publishing, .. } = group;
            let offer = Offer { topic, envelopes, publishing };
            let (reached, missed) = self.offer_to_subscribers(&offer, &mut for_sessions, bells);
            subscribers += reached;
            lost += missed;
        }
        if lost > 0 {
            self.counters.lost_by_subscribers.fetch_add(lost, Ordering::Relaxed);
        }
        (Receipt { subscribers, ..Receipt::default() }, for_sessions)
    }

    fn offer_to_subscribers(
        &self,
        offer: &Offer<'_>,
        for_sessions: &mut Vec<Append>,
        bells: &mut Bells,
    ) -> (u32, u64) {
        let subscriptions = self.subscriptions();
        if subscriptions.is_empty() {
            return (0, 0);
        }
        let mailboxes = self.mailboxes();
        let load = |id| self.load(&mailboxes, id);
        let reached = subscriptions.reached(offer.topic, offer.publishing, &load);
        drop(subscriptions);
        let (mut taken, mut lost) = (0, 0);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if offer.envelopes.len() > 1 && reached.iter().any(|one| one.shared.is_some()) {
            drop(mailboxes);
            // Which member of a group gets a message is asked for each: it depends on what they have.
            for envelopes in offer.envelopes.chunks(1) {
                let one = Offer { envelopes, ..*offer };
                let (one_taken, one_lost) = self.offer_to_subscribers(&one, for_sessions, bells);
                taken += one_taken;
                lost += one_lost;
            }
            return (taken, lost);
        }
        let mut recipients = Vec::new();
        for one in reached {
            let Some(mailbox) = mailboxes.get(&one.subscriber) else { continue };
            match mailbox.session() {
                Some(session) if one.qos != QoS::AtMostOnce => {
                    recipients.push(sessions::recipient(session, one));
                }
                // Nobody keeps messages of QoS 0 for a client that is away.
                Some(_) if mailbox.is_away() && one.qos == QoS::AtMostOnce => {}
                _ => {
                    let here = mailbox.offer(offer, &one, bells);
                    taken += count(here);
                    lost += (offer.envelopes.len() - here) as u64;
                }
            }
        }
        if !recipients.is_empty() {
            taken += count(recipients.len() * offer.envelopes.len());
            for envelope in offer.envelopes {
                for_sessions.extend(sessions::appends(offer, envelope, recipients.clone()));
            }
        }
        (taken, lost)
    }

    /// Hands messages to the lanes of volatile routes. What has to wait for room opens a part of the sender's answer, which
    /// tells what becomes of it; what became of the others is given.
    pub(crate) fn push_volatile(
        &self,
        group: Group<'_>,
        open_part: &mut dyn FnMut() -> Arc<Pending>,
    ) -> Receipt {
        let mut receipt = Receipt::default();
        for taken in group.decision.taken.iter().filter(|taken| taken.durability == Durability::Volatile) {
            let Some(lane) = self.lane_of(taken) else { continue };
            for envelope in group.envelopes {
                let delivery = Delivery {
                    ticket: Ticket::VOLATILE,
                    id: None,
                    input: input_of(taken),
                    route: taken.route.clone(),
                    expires: taken.expires,
                    envelope: envelope.clone(),
                };
                receipt.add(self.push_into(&lane, taken, delivery, open_part));
            }
        }
        receipt
    }

    fn push_into(
        &self,
        lane: &Lane,
        taken: &Taken,
        delivery: Delivery,
        open_part: &mut dyn FnMut() -> Arc<Pending>,
    ) -> Receipt {
        let mut receipt = Receipt::default();
        // Who waits for room in its own lane waits for itself.
        let own = taken.when_full == WhenFull::Block && is_own(&delivery.envelope.source, &taken.sink);
        let when_full = if own { WhenFull::DropNewest } else { taken.when_full };
        let pushed = lane.push(delivery, when_full, false, open_part).unwrap_or_else(|delivery| {
            // One sender at a time decides to wait: two that look at once would not see each other.
            let _one_at_a_time = self.parking.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = !self.closes_a_circle(&delivery.envelope.source, &taken.sink);
            let when_full = if waits { when_full } else { WhenFull::DropNewest };
            lane.push(delivery, when_full, true, open_part).unwrap_or(Pushed::Dropped)
        });
        match pushed {
            Pushed::Taken { dropped } => {
                self.count_volatile_drops(&taken.sink, u64::from(dropped));
                receipt.volatile = 1;
            }
            Pushed::Parked => {}
            Pushed::Dropped => {
                self.count_volatile_drops(&taken.sink, 1);
                receipt.dropped = 1;
            }
        }
        receipt
    }

    /// Whether a module that waited for room in the lane of this sink would wait, over others, for itself.
    fn closes_a_circle(&self, source: &Source, sink: &Sink) -> bool {
        let (Source::Module { module, .. }, Sink::Input { module: reader, .. }) = (source, sink) else {
            return false;
        };
        let lanes = read(&self.lanes);
        let mut seen = BTreeSet::from([module.clone()]);
        let mut ahead = vec![module.clone()];
        while let Some(waited_for) = ahead.pop() {
            let Some(lane) = lanes.get(&LogId::module(&waited_for)) else { continue };
            for waiter in lane.waiters() {
                if waiter == *reader {
                    return true;
                }
                if seen.insert(waiter.clone()) {
                    ahead.push(waiter);
                }
            }
        }
        false
    }

    pub(crate) fn count_volatile_drops(&self, reader: &dyn Display, dropped: u64) {
        if dropped > 0 {
            let before = self.counters.dropped_volatile.fetch_add(dropped, Ordering::Relaxed);
            if before == 0 {
                tracing::warn!(%reader, "the lane of a volatile route is full and messages are dropped; see `holdfast list`");
            }
        }
    }

    /// What a commit's result means for the sender: the answer, and how many sinks have or have dropped the message.
    pub(crate) fn recorded(
        &self,
        result: Result<holdfast_store::Committed, CommitError>,
    ) -> (Result<(), Refused>, u16, u16) {
        match result {
            Ok(committed) => {
                let durable = committed.appends.iter().filter(|a| matches!(a, Appended::Stored(_))).count();
                let dropped = committed.appends.len() - durable;
                let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
                (Ok(()), count(durable), count(dropped))
            }
            Err(CommitError::Closed) => (Err(Refused::Stopping), 0, 0),
            Err(error) => {
                self.counters.not_recorded.fetch_add(1, Ordering::Relaxed);
                let refused =
                    if error.is_permanent() { Refused::CannotBeRecorded } else { Refused::NotRecorded };
                (Err(refused(error.to_string())), 0, 0)
            }
        }
    }
}
