//! What was meant for one member of a group goes to another.
//!
//! A shared message for a session that outlives the process is recorded for the member that was picked. It is passed on
//! when that member's session is over, or when it is away and another member is there. The new record, for the other
//! member, and what the first one is done with are one commit: the message is always one member's. What a client may
//! have already (it has a packet identifier) stays with its session while that lasts; after it, only messages of QoS 1
//! are passed on (MQTT-4.8.2-5).

use super::{SessionLog, address};
use crate::{
    core::{
        positions::Position,
        publishing::{Interest, SubscriberId, SubscriptionOptions},
        sharing::Load,
    },
    task::{
        broker::Inner,
        subscriber::{Mailbox, Published},
    },
};
use holdfast_store::{Append, Commit, Entry, ReadLimit, Recipient};
use holdfast_types::{Offset, QoS};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};
use tokio::sync::oneshot;

/// Messages that are passed on in one commit.
const SHARED_OUT_MAX: usize = 256;

/// Bytes of them that are read at once.
const SHARED_OUT_BYTES_MAX: usize = 1 << 20;

/// Whose messages are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    /// A session that is over: all goes, also to members who are away.
    Over,
    /// A session whose client is away: what others take who are there.
    Away,
}

/// The member of a group that gets a message next.
struct Heir {
    id: SubscriberId,
    options: SubscriptionOptions,
    /// Its session, if that outlives the process.
    session: Option<u32>,
}

impl Heir {
    fn recipient(&self, session: u32, qos: QoS, retain: bool, interest: &Arc<Interest>) -> Recipient {
        Recipient {
            session,
            qos: qos.level(),
            retain: retain && self.options.retain_as_published,
            ids: self.options.id.iter().map(|id| id.get()).collect(),
            shared: Some(interest.clone()),
        }
    }
}

impl SessionLog {
    /// Members have come or gone: what waits for others of their groups may be passed on.
    pub(crate) fn members_changed(&self) {
        self.sharing.store(true, Ordering::Relaxed);
    }

    /// A session is over and had messages that were shared.
    pub(super) fn leave_to_others(&self, number: u32) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    }
}

impl Inner {
    /// How busy a member of a group is; none if it has no room.
    pub(crate) fn load(&self, mailboxes: &HashMap<SubscriberId, Mailbox>, id: SubscriberId) -> Option<Load> {
        let mailbox = mailboxes.get(&id)?;
        match mailbox.session() {
            Some(session) => {
                let waiting = self.sessions.ledger().waiting(session);
                mailbox.load_with_waiting(waiting)
            }
            None => mailbox.load(),
        }
    }

    fn heir(&self, interest: &Interest, giver: Giver) -> Option<Heir> {
        let subscriptions = self.subscriptions();
        let mailboxes = self.mailboxes();
        let load = |id| self.load(&mailboxes, id).filter(|load| giver == Giver::Over || !load.away);
        let (id, options) = subscriptions.another(interest, &load)?;
        Some(Heir { id, options, session: mailboxes.get(&id)?.session() })
    }

    /// Gives a message of memory that was shared to another member of its group. One that was not shared goes to nobody.
    pub(crate) fn pass_on(self: &Arc<Self>, published: Published) {
        let Some(interest) = published.shared.clone() else { return };
        let Some(heir) = self.heir(&interest, Giver::Over) else { return };
        let qos = published.qos.min(heir.options.qos);
        if let (Some(session), true) = (heir.session, qos != QoS::AtMostOnce) {
            let Published { topic, envelope, retain, expires, properties, qos: sent, .. } = published;
            let recipient = heir.recipient(session, qos, retain, &interest);
            let append = address(&topic, &envelope, (sent, retain), expires, properties, vec![recipient]);
            // The one before it was not on disk either: lost in a crash, it is lost.
            self.commit(Commit { appends: vec![append], ..Commit::default() }, |_, _, _| {});
            return;
        }
        if let Some(mailbox) = self.mailboxes().get(&heir.id) {
            mailbox.take_over(published, &heir.options);
        }
    }

    /// Passes on what waits for sessions that are over, and what others could have who are there.
    pub(super) async fn share_out(self: &Arc<Self>) {
        let over: Vec<u32> = {
            let over = self.sessions.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.iter().copied().collect()
        };
        for number in over {
            if self.share_out_of(number, Giver::Over).await {
                self.forget_session_that_is_over(number);
            }
        }
        if self.sessions.sharing.swap(false, Ordering::Relaxed) {
            let away: Vec<u32> = self.sessions.ledger().sharing();
            for number in away {
                let is_away = self.sessions.door(number).is_some_and(|door| door.account().is_none());
                if is_away {
                    self.share_out_of(number, Giver::Away).await;
                }
            }
        }
    }

    fn forget_session_that_is_over(&self, number: u32) {
        let mut ledger = self.sessions.ledger();
        // Another message may have come for it.
        if ledger.waiting(number) > 0 {
            return;
        }
        ledger.end(number);
        drop(ledger);
        self.sessions.over.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let documents = vec![super::stored::write(super::FLOWS, super::key(number), None)];
        self.store.commit_when_room(Commit { documents, ..Commit::default() }, |_| {});
    }

    /// Passes on what one session has. Says whether nothing that was shared is left to pass on.
    async fn share_out_of(self: &Arc<Self>, number: u32, giver: Giver) -> bool {
        let mut after = None;
        let mut all = true;
        loop {
            let positions = self.sessions.ledger().peek(number, after, SHARED_OUT_MAX);
            if positions.is_empty() {
                return all;
            }
            let limit = ReadLimit { messages: positions.len(), bytes: SHARED_OUT_BYTES_MAX };
            let found = match self.pick(number, &positions, limit, false) {
                Ok(found) if !found.is_empty() => found,
                Ok(_) => return false,
                Err(error) => {
                    tracing::error!(session = number, %error, "the log of sessions cannot be read; what was shared waits");
                    return false;
                }
            };
            after = found.last().map(|(position, _)| position.order);
            let mut moved = Vec::new();
            let mut appends = Vec::new();
            for (position, entry) in found {
                match self.next_owner(number, giver, position, entry) {
                    Next::Stays => all = false,
                    Next::Done => {}
                    Next::Taken => moved.push(position),
                    Next::Recorded(append) => {
                        moved.push(position);
                        appends.push(*append);
                    }
                }
            }
            if !moved.is_empty() && !self.record_moved(number, appends, &moved).await {
                return false;
            }
        }
    }

    /// What becomes of one message of a session.
    fn next_owner(&self, number: u32, giver: Giver, position: Position, entry: Option<Entry>) -> Next {
        let shared = entry.as_ref().and_then(|entry| shared_with(number, entry));
        let (Some(entry), Some(was)) = (entry, shared) else {
            if giver == Giver::Over {
                self.sessions.ledger().hand_over(number, position.order);
            }
            return Next::Done;
        };
        let Some(interest) = &was.shared else { return Next::Done };
        let Some(heir) = self.heir(interest, giver) else {
            let nobody = !self.subscriptions().has_members(interest);
            if giver == Giver::Over && nobody {
                self.sessions.ledger().hand_over(number, position.order);
                return Next::Done;
            }
            return Next::Stays;
        };
        let Some(addressed) = &entry.addressed else { return Next::Done };
        let published = QoS::from_level(addressed.qos).unwrap_or_default();
        let qos = published.min(heir.options.qos);
        let recipient = heir.recipient(heir.session.unwrap_or_default(), qos, addressed.retain, interest);
        // The client may have come back and taken it.
        if self.sessions.ledger().hand_over(number, position.order).is_none() {
            return Next::Done;
        }
        if heir.session.is_some() && qos != QoS::AtMostOnce {
            let (topic, properties) = (&addressed.topic, addressed.properties.clone());
            let (envelope, how) = (&entry.envelope, (published, addressed.retain));
            let append = address(topic, envelope, how, entry.expires, properties, vec![recipient]);
            return Next::Recorded(Box::new(append));
        }
        let mailboxes = self.mailboxes();
        if mailboxes.get(&heir.id).is_some_and(|mailbox| mailbox.offer_recorded(&entry, qos, recipient)) {
            return Next::Taken;
        }
        self.sessions.ledger().take_back(number, position);
        Next::Stays
    }

    async fn record_moved(self: &Arc<Self>, number: u32, appends: Vec<Append>, moved: &[Position]) -> bool {
        let flow = self.sessions.ledger().flow_to_write(number);
        let documents =
            flow.map(|flow| super::stored::write(super::FLOWS, super::key(number), Some(flow.to_bytes())));
        let commit = Commit { appends, documents: documents.into_iter().collect(), ..Commit::default() };
        let (send, receive) = oneshot::channel();
        self.commit(commit, move |answer, _, _| drop(send.send(answer)));
        let recorded = matches!(receive.await, Ok(Ok(())));
        if !recorded {
            let mut ledger = self.sessions.ledger();
            moved.iter().for_each(|position| ledger.take_back(number, *position));
            ledger.not_written(number);
        }
        recorded
    }

    /// A shared message is recorded for a session that has ended meanwhile: another member is to get it.
    pub(super) fn came_too_late(&self, recipient: &Recipient, at: Offset, bytes: u32) {
        if recipient.shared.is_none() {
            return;
        }
        self.sessions.ledger().left_behind(recipient.session, Position { order: at, at }, bytes);
        self.sessions.leave_to_others(recipient.session);
    }
}

enum Next {
    /// It waits where it is.
    Stays,
    /// Nothing is to be done about it.
    Done,
    /// Another member has it in memory.
    Taken,
    /// Another member has it when this is recorded.
    Recorded(Box<Append>),
}

/// How a session was to get a message, if it was picked from a group for it.
fn shared_with(number: u32, entry: &Entry) -> Option<Recipient> {
    let recipients = &entry.addressed.as_ref()?.recipients;
    let index = recipients.binary_search_by_key(&number, |one| one.session).ok()?;
    recipients.get(index).filter(|one| one.shared.is_some()).cloned()
}
