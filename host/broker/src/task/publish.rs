//! A message enters: check, decide, hand on, ask for a record.

use super::{
    admission::{Receipt, Refused, check},
    broker::{Broker, Inner, Routing, read},
    lane::Pushed,
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
        let (receipt, for_sessions) = self.inner.fan_out(&entered, &mut Bells::default());
        if !entered.goes_to_a_log() && for_sessions.is_empty() && entered.publishing.beside.is_empty() {
            done(Ok(receipt));
            return;
        }
        let pending = Pending::new(receipt, Box::new(done));
        self.inner.push_volatile(&entered, &pending);
        let mut appends = entered.appends();
        appends.extend(for_sessions);
        let documents: Vec<_> = entered
            .publishing
            .beside
            .iter()
            .map(|one| sessions::document(one, entered.envelope.received))
            .collect();
        if !appends.is_empty() || !documents.is_empty() {
            let part = pending.open_part();
            let commit = Commit { appends, documents, ..Commit::default() };
            self.inner.commit(commit, move |answer, durable, dropped| {
                part.part_done(answer, |receipt| {
                    receipt.durable += durable;
                    receipt.dropped += dropped;
                });
            });
        }
        pending.part_done(Ok(()), |_| {});
    }
}

/// A message that has been decided.
pub(crate) struct Entered {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) decision: Decision,
    pub(crate) publishing: Publishing,
}

impl Entered {
    fn goes_to_a_log(&self) -> bool {
        self.decision.taken.iter().any(|taken| !matches!(taken.sink, Sink::Topic(_)))
    }

    /// The records that durable routes need.
    pub(crate) fn appends(&self) -> Vec<Append> {
        let durable = self.decision.taken.iter().filter(|taken| taken.durability == Durability::Durable);
        durable
            .filter_map(|taken| {
                Some(Append {
                    queue: QueueId { log: taken.sink.log()?, priority: taken.priority },
                    entry: Entry {
                        envelope: self.envelope.clone(),
                        input: input_of(taken),
                        route: taken.route.clone(),
                        expires: taken.expires,
                        addressed: None,
                    },
                    when_full: taken.when_full,
                })
            })
            .collect()
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

impl Inner {
    /// Stamps, decides and counts a message that has passed the checks.
    pub(crate) fn enter(
        &self,
        source: Source,
        message: Message,
        publishing: Publishing,
        hops: u8,
    ) -> Entered {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.enter_by(source, message, publishing, hops, self.clock.now(), &self.routing())
    }

    /// The same where much comes at once: with `received` and `routing` of all of it, and the caller counts it.
    pub(crate) fn enter_by(
        &self,
        source: Source,
        mut message: Message,
        publishing: Publishing,
        hops: u8,
        received: UnixMillis,
        routing: &Routing,
    ) -> Entered {
        message.system.creation_time.get_or_insert(received);
        let envelope = Arc::new(Envelope { message, source, received, hops });
        let mut decision = self.decide(routing, &envelope);
        if let Some(expires) = publishing.expires(received) {
            decision.taken.iter_mut().for_each(|taken| taken.expire_by(expires));
        }
        if decision.taken.is_empty() {
            self.counters.no_route.fetch_add(1, Ordering::Relaxed);
        }
        if self.watchers.load(Ordering::Relaxed) > 0 {
            // No watcher is an answer too.
            let decision = Arc::new(decision.clone());
            let _ = self.tap.send(Passing { envelope: envelope.clone(), decision });
        }
        Entered { envelope, decision, publishing }
    }

    /// Hands a message to subscribers: of the topic it was published to, and of the topics that routes name.
    /// Gives what must be recorded for sessions that outlive the process. Whom it wakes hears of it by `bells`.
    pub(crate) fn fan_out(&self, entered: &Entered, bells: &mut Bells) -> (Receipt, Vec<Append>) {
        let mut for_sessions = Vec::new();
        let mut subscribers = 0;
        let mut lost = 0;
        let own = match &entered.envelope.source {
            Source::Child { topic, .. } => topic.as_ref(),
            Source::Module { .. } | Source::TwinChange { .. } => None,
        };
        let routed = entered.decision.taken.iter().filter_map(|taken| match &taken.sink {
            Sink::Topic(topic) => Some(topic),
            Sink::Upstream | Sink::Input { .. } => None,
        });
        for topic in own.into_iter().chain(routed) {
            let (envelope, publishing) = (&entered.envelope, &entered.publishing);
            let offer = Offer { topic, envelope, publishing };
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
        let mut recipients = Vec::new();
        for one in reached {
            let Some(mailbox) = mailboxes.get(&one.subscriber) else { continue };
            match mailbox.session() {
                Some(session) if one.qos != QoS::AtMostOnce => {
                    recipients.push(sessions::recipient(session, one));
                }
                // Nobody keeps messages of QoS 0 for a client that is away.
                Some(_) if mailbox.is_away() && one.qos == QoS::AtMostOnce => {}
                _ if mailbox.offer(offer, one, bells) => taken += 1,
                _ => lost += 1,
            }
        }
        if !recipients.is_empty() {
            taken += u32::try_from(recipients.len()).unwrap_or(u32::MAX);
            for_sessions.extend(sessions::appends(offer, recipients));
        }
        (taken, lost)
    }

    /// Hands a message to the lanes of volatile routes.
    pub(crate) fn push_volatile(&self, entered: &Entered, pending: &Arc<Pending>) {
        for taken in entered.decision.taken.iter().filter(|taken| taken.durability == Durability::Volatile) {
            let Some(lane) = self.lane_of(&taken.sink) else { continue };
            let delivery = Delivery {
                ticket: Ticket::VOLATILE,
                id: None,
                input: input_of(taken),
                route: taken.route.clone(),
                expires: taken.expires,
                envelope: entered.envelope.clone(),
            };
            // Who waits for room in its own lane waits for itself.
            let own = taken.when_full == WhenFull::Block && is_own(&entered.envelope.source, &taken.sink);
            let when_full = if own { WhenFull::DropNewest } else { taken.when_full };
            let pushed = lane.push(delivery, when_full, false, pending).unwrap_or_else(|delivery| {
                // One sender at a time decides to wait: two that look at once would not see each other.
                let _one_at_a_time = self.parking.lock().unwrap_or_else(PoisonError::into_inner);
                let waits = !self.closes_a_circle(&entered.envelope.source, &taken.sink);
                let when_full = if waits { when_full } else { WhenFull::DropNewest };
                lane.push(delivery, when_full, true, pending).unwrap_or(Pushed::Dropped)
            });
            match pushed {
                Pushed::Taken { dropped } => {
                    self.count_volatile_drops(&taken.sink, u64::from(dropped));
                    pending.note(|receipt| receipt.volatile += 1);
                }
                Pushed::Parked => pending.note(|receipt| receipt.volatile += 1),
                Pushed::Dropped => {
                    self.count_volatile_drops(&taken.sink, 1);
                    pending.note(|receipt| receipt.dropped += 1);
                }
            }
        }
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
