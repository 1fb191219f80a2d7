//! One session that outlives the process, as its connection holds it.

use super::{
    Door, FLOWS, RECEIVED, SESSIONS, SessionLog, WILLS, key, published, queue, received_key, weight,
};
use crate::{
    core::positions::Position,
    task::{
        admission::Refused,
        broker::{Broker, Inner},
        queue::Queue,
        room::{Account, Room},
        subscriber::{Mailbox, Published, Subscriber},
    },
};
use holdfast_store::{
    Commit, DocumentWrite, Entry, FlowRecord, Picked, ReadLimit, SessionRecord, StoreError, WillRecord,
};
use holdfast_types::{Name, Offset, Text};
use std::{
    num::NonZeroU16,
    sync::{Arc, PoisonError, atomic::Ordering},
};

/// A session. Cloning gives another handle; the session lasts until [`StoredSession::end`].
#[derive(Clone)]
pub struct StoredSession {
    pub(super) inner: Arc<Inner>,
    pub(super) number: u32,
    pub(super) door: Arc<Door>,
}

/// A message that a client had not acknowledged when its connection ended.
pub struct Unfinished {
    /// The packet identifier under which the client knows it.
    pub packet: NonZeroU16,
    /// The message; none if the client has it and is to be told to forget its identifier (PUBREL).
    pub message: Option<Published>,
}

impl Broker {
    /// A new session. It is in no document before [`StoredSession::keep`].
    pub fn new_session(&self) -> StoredSession {
        let log = &self.inner.sessions;
        let number = log.next.fetch_add(1, Ordering::Relaxed);
        let session = StoredSession::open(&self.inner, number);
        // Nothing that is in the log already is for it, whoever had its number before.
        let flow = FlowRecord { next: self.inner.store.tail(&queue()), ..FlowRecord::default() };
        log.ledger().session(number, &flow);
        session
    }
}

impl Broker {
    /// A number for a session that ends with its connection and only leaves a will.
    pub fn numbered_session(&self) -> StoredSession {
        let number = self.inner.sessions.next.fetch_add(1, Ordering::Relaxed);
        StoredSession { inner: self.inner.clone(), number, door: Arc::new(Door::new(number)) }
    }
}

impl StoredSession {
    pub(super) fn open(inner: &Arc<Inner>, number: u32) -> Self {
        let door = Arc::new(Door::new(number));
        let mut doors = inner.sessions.doors.write().unwrap_or_else(PoisonError::into_inner);
        doors.insert(number, door.clone());
        drop(doors);
        Self { inner: inner.clone(), number, door }
    }

    fn log(&self) -> &SessionLog {
        &self.inner.sessions
    }

    /// Its number, never given twice.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The subscriber of this session: messages of QoS 1 and 2 come by way of the log, those of QoS 0 as far as `room`
    /// goes while somebody attends.
    pub fn subscriber(&self, client: Name, room: Room) -> Subscriber {
        let queue = Arc::new(Queue::new(room.messages));
        let id = self.inner.next_subscriber();
        let account = Arc::new(Account::new(room));
        let mailbox = Mailbox { queue: queue.clone(), account: account.clone(), session: Some(self.number) };
        self.inner.mailboxes_mut().insert(id, mailbox);
        Subscriber { inner: self.inner.clone(), id, client, queue, account, door: Some(self.door.clone()) }
    }

    fn commit(&self, documents: Vec<DocumentWrite>, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        let inner = self.inner.clone();
        self.inner.store.commit_when_room(Commit { documents, ..Commit::default() }, move |result| {
            done(inner.recorded(result).0);
        });
    }

    /// Records whose it is and what it has subscribed to. Records are kept in the order of the calls.
    pub fn keep(&self, record: &SessionRecord, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        let mut documents = vec![write(SESSIONS, key(self.number), Some(record.to_bytes()))];
        // Before its first message comes, so that a restart knows where it begins.
        let flow = self.log().ledger().flow_to_write(self.number);
        documents.extend(flow.map(|flow| write(FLOWS, key(self.number), Some(flow.to_bytes()))));
        self.commit(documents, done);
    }

    /// Records a will. Gives the key by which it is removed.
    pub fn keep_will(
        &self,
        will: &WillRecord,
        done: impl FnOnce(Result<(), Refused>) + Send + 'static,
    ) -> Text {
        let count = self.log().wills.fetch_add(1, Ordering::Relaxed);
        let now = self.inner.clock.now().0;
        let key = Text::from(format!("{:08x}/{now:012x}-{count:08x}", self.number));
        self.commit(vec![write(WILLS, key.clone(), Some(will.to_bytes()))], done);
        key
    }

    /// Removes a will: it was published, or is not wanted any more.
    pub fn forget_will(&self, will: Text) {
        // Lost in a crash, the will is published once more.
        self.commit(vec![write(WILLS, will, None)], |_| {});
    }

    /// A message was given a packet identifier.
    pub fn sent(&self, order: Offset, packet: NonZeroU16, qos: u8) {
        self.log().ledger().sent(self.number, order, packet.get(), qos);
    }

    /// The client has a message of QoS 2 (PUBREC). Says whether it is one of this session's.
    pub fn released(&self, packet: NonZeroU16) -> bool {
        self.log().ledger().released(self.number, packet.get())
    }

    /// The client is done with a message (PUBACK, PUBCOMP).
    pub fn done(&self, packet: NonZeroU16) {
        self.log().ledger().done(self.number, packet.get());
    }

    /// A message cannot be sent to this client: it has expired or is too large.
    pub fn given_up(&self, order: Offset) {
        self.log().ledger().gone(self.number, order);
    }

    /// Records the flow as it is now: packet identifiers, and what has been released. Records are kept in the order of
    /// the calls.
    pub fn keep_flow(&self, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        let flow = self.log().ledger().flow_to_write(self.number);
        let documents = flow.map(|flow| write(FLOWS, key(self.number), Some(flow.to_bytes())));
        let (inner, number) = (self.inner.clone(), self.number);
        self.commit(documents.into_iter().collect(), move |answer| {
            if answer.is_err() {
                inner.sessions.ledger().not_written(number);
            }
            done(answer);
        });
    }

    /// Records that a packet identifier of the client is free again (PUBREL).
    pub fn forget_received(
        &self,
        packet: NonZeroU16,
        done: impl FnOnce(Result<(), Refused>) + Send + 'static,
    ) {
        self.commit(vec![write(RECEIVED, received_key(self.number, packet.get()), None)], done);
    }

    /// Somebody attends: messages are kept in memory again. Gives what the client has not acknowledged, in order.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn attend(&self, subscriber: &Subscriber) -> Result<Vec<Unfinished>, StoreError> {
        *self.door.account() = Some(subscriber.account.clone());
        subscriber.attended(true);
        let flow = self.log().ledger().flow(self.number).unwrap_or_default();
        let mut unfinished = Vec::new();
        for flight in flow.open {
            let Some(packet) = flight.packet.and_then(NonZeroU16::new) else { continue };
            if flight.released {
                unfinished.push(Unfinished { packet, message: None });
                continue;
            }
            match self.read_one(flight.order, &subscriber.account, true)? {
                Some(message) => unfinished.push(Unfinished { packet, message: Some(message) }),
                // The client may have one of QoS 2: it is told to forget the identifier before that is used again.
                None if flight.qos == 2 => {
                    self.log().ledger().released(self.number, packet.get());
                    unfinished.push(Unfinished { packet, message: None });
                }
                None => self.log().ledger().done(self.number, packet.get()),
            }
        }
        Ok(unfinished)
    }

    /// Packet identifiers of messages that the client has not acknowledged.
    pub fn packets(&self) -> Vec<NonZeroU16> {
        let flow = self.log().ledger().flow(self.number).unwrap_or_default();
        flow.open.iter().filter_map(|flight| flight.packet.and_then(NonZeroU16::new)).collect()
    }

    /// The packet identifier that was given last; the next one follows it.
    pub fn last_packet(&self) -> u16 {
        self.log().ledger().flow(self.number).map_or(0, |flow| flow.packet)
    }

    /// Nobody attends any more: what was taken and not sent waits again.
    pub fn leave(&self) {
        *self.door.account() = None;
        self.door.cached().clear();
        self.log().ledger().put_back(self.number);
        // Others of its groups may have what waits.
        self.log().members_changed();
    }

    /// The session is over: nothing of it stays but what was shared with it, until another member of the group has that.
    /// Lost in a crash before `done` is called, the session is there again.
    pub fn end(&self, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        self.leave();
        self.log().doors.write().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        let flow = {
            let mut ledger = self.log().ledger();
            let flow = ledger.is_over(self.number).then(|| ledger.flow_to_write(self.number)).flatten();
            if flow.is_some() {
                self.log().leave_to_others(self.number);
            } else {
                ledger.end(self.number);
            }
            flow.map(|flow| flow.to_bytes())
        };
        let mut documents =
            vec![write(SESSIONS, key(self.number), None), write(FLOWS, key(self.number), flow)];
        let prefix = format!("{}/", key(self.number));
        match self.inner.store.documents(RECEIVED, &prefix, usize::from(u16::MAX)) {
            Ok(all) => documents.extend(all.into_iter().map(|(key, _)| write(RECEIVED, key, None))),
            Err(error) => {
                tracing::warn!(session = self.number, %error, "what a session had received stays behind");
            }
        }
        self.commit(documents, done);
    }

    fn read_one(
        &self,
        order: Offset,
        account: &Arc<Account>,
        anyhow: bool,
    ) -> Result<Option<Published>, StoreError> {
        let Some(at) = self.log().ledger().place(self.number, order) else { return Ok(None) };
        let found = self.inner.pick(self.number, &[Position { order, at }], ReadLimit::default(), true)?;
        let Some((_, Some(entry))) = found.into_iter().next() else { return Ok(None) };
        let held = account.hold_one_at_least(weight(&entry));
        let held =
            if anyhow { Some(held.unwrap_or_else(|| account.hold_anyhow(weight(&entry)))) } else { held };
        Ok(held.and_then(|held| self.as_sent(&entry, order, held)))
    }

    fn as_sent(&self, entry: &Entry, order: Offset, held: crate::Held) -> Option<Published> {
        as_sent(self.number, entry, order, held)
    }
}

fn as_sent(number: u32, entry: &Entry, order: Offset, held: crate::Held) -> Option<Published> {
    let recipients = &entry.addressed.as_ref()?.recipients;
    let index = recipients.binary_search_by_key(&number, |one| one.session).ok()?;
    published(entry, recipients.get(index)?, order, held)
}

pub(super) fn write(space: &'static str, key: Text, value: Option<bytes::Bytes>) -> DocumentWrite {
    DocumentWrite { space: space.into(), key, value }
}

impl Subscriber {
    /// Takes recorded messages that wait, from memory or from the log, as far as the room goes.
    pub(crate) fn take_recorded(&self, out: &mut Vec<Published>, max: usize, bytes: usize) {
        let Some(door) = self.door.clone() else { return };
        let ledger = || self.inner.sessions.ledger();
        let mut taken = 0;
        let mut left = ledger().take(door.number, max).into_iter().peekable();
        while let Some(position) = left.peek().copied() {
            let cached = {
                let mut cached = door.cached();
                while cached.front().is_some_and(|one| one.order < Some(position.order)) {
                    cached.pop_front();
                }
                if cached.front().is_some_and(|one| one.order == Some(position.order)) {
                    cached.pop_front()
                } else {
                    None
                }
            };
            if taken >= bytes {
                break;
            }
            if let Some(one) = cached {
                left.next();
                taken += one.envelope.message.body.len();
                out.push(one);
                continue;
            }
            // Up to what memory has again, in one go.
            let next_cached = door.cached().front().and_then(|one| one.order);
            let positions: Vec<Position> =
                left.clone().take_while(|one| next_cached.is_none_or(|next| one.order < next)).collect();
            let limit = ReadLimit { messages: positions.len(), bytes: bytes - taken };
            let found = match self.inner.pick(door.number, &positions, limit, false) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(session = door.number, %error, "the log of sessions cannot be read");
                    break;
                }
            };
            let mut full = false;
            for (position, entry) in found {
                let Some(entry) = entry else {
                    left.next();
                    self.account.expired();
                    ledger().gone(door.number, position.order);
                    continue;
                };
                let Some(held) = self.account.hold_one_at_least(weight(&entry)) else {
                    full = true;
                    break;
                };
                left.next();
                taken += entry.envelope.message.body.len();
                match as_sent(door.number, &entry, position.order, held) {
                    Some(one) => out.push(one),
                    None => ledger().gone(door.number, position.order),
                }
            }
            if full {
                break;
            }
        }
        let mut ledger = ledger();
        left.for_each(|position| ledger.return_one(door.number, position.order));
        if ledger.waiting(door.number) * 2 < super::SESSION_MESSAGES_MAX {
            door.losing.store(false, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Reads messages of a session; none for one that is gone or, unless it is `begun`, past its time. Gives at least one
    /// answer if any was asked for.
    pub(super) fn pick(
        &self,
        number: u32,
        positions: &[Position],
        limit: ReadLimit,
        begun: bool,
    ) -> Result<Vec<(Position, Option<Entry>)>, StoreError> {
        let offsets: Vec<Offset> = positions.iter().map(|one| one.at).collect();
        let found = self.store.pick(&queue(), &offsets, limit)?;
        let mut all = Vec::with_capacity(found.len());
        for (position, picked) in positions.iter().zip(found) {
            let entry = match picked {
                Picked::Entry(entry) => Some(entry),
                Picked::Expired(entry) => begun.then_some(entry),
                // It may have been appended anew since its place was looked up.
                Picked::Gone => match self.sessions.ledger().place(number, position.order) {
                    Some(at) if at != position.at => {
                        let again = self.store.pick(&queue(), &[at], limit)?;
                        again.into_iter().find_map(|one| match one {
                            Picked::Entry(entry) => Some(entry),
                            Picked::Expired(entry) => begun.then_some(entry),
                            Picked::Gone => None,
                        })
                    }
                    _ => None,
                },
            };
            all.push((*position, entry));
        }
        Ok(all)
    }
}
