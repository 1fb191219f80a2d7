//! Sessions that outlive the process: their messages lie in one log, each once, and the ledger knows who still needs
//! which (`core/ledger`).
//!
//! A message for such sessions is recorded in the commit of its routes. When that is on disk, each session that is
//! attended gets it from memory as far as its room goes; all others, and those that are behind, hold a position only and
//! read it from the log later. What a session is done with is a small document, its flow; it is written when a promise
//! depends on it, and otherwise every now and then (`tidy.rs`).
//!
//! What is shared is recorded for the member of the group that was picked, and passed on if it does not come for it
//! (`share.rs`).

mod restore;
mod share;
mod stored;
mod tidy;

pub use restore::{KeptSession, KeptSessions, KeptWill};
pub use stored::{StoredSession, Unfinished};
pub use tidy::SessionTotals;

use super::{
    admission::Refused,
    broker::Inner,
    room::{Account, Held, MESSAGE_OVERHEAD_BYTES},
    subscriber::{Offer, Published},
};
use crate::core::{
    ledger::{Ledger, LedgerLimits},
    positions::Position,
    publishing::Beside,
    subscriptions::Reached,
};
use holdfast_store::{
    Addressed, Append, Appended, Commit, DocumentWrite, Entry, PacketRecord, Recipient, Store,
};
use holdfast_types::{
    Envelope, LogId, Offset, Priority, QoS, QueueId, Text, Topic, TopicProperties, UnixMillis, WhenFull,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};
use tokio::sync::Notify;

/// Messages of QoS 1 and 2 that wait for one session. One more makes the oldest go: it is counted, and logged once until
/// the session has caught up.
pub const SESSION_MESSAGES_MAX: u64 = 10_000;

/// Runs of positions over all sessions, 24 bytes each, 24 MiB together. At the bound, a session that gets a message
/// loses its oldest.
const RUNS_MAX: usize = 1 << 20;

/// Bytes of the log below which nothing is appended anew: what a segment of the store holds.
const CLEAN_BYTES_MIN: u64 = 8 << 20;

const SESSIONS: &str = "mqtt/session";
const FLOWS: &str = "mqtt/flow";
const RECEIVED: &str = "mqtt/received";
const WILLS: &str = "mqtt/will";
const RETAINED: &str = "mqtt/retained";

/// The queue of all sessions.
fn queue() -> QueueId {
    QueueId { log: LogId::sessions(), priority: Priority::DEFAULT }
}

fn key(number: u32) -> Text {
    format!("{number:08x}").into()
}

fn received_key(number: u32, packet: u16) -> Text {
    format!("{number:08x}/{packet:04x}").into()
}

/// What all sessions share.
pub(crate) struct SessionLog {
    ledger: Mutex<Ledger>,
    doors: RwLock<HashMap<u32, Arc<Door>>>,
    next: AtomicU32,
    wills: AtomicU32,
    /// Members of groups have come or gone since what is shared was passed on last.
    sharing: AtomicBool,
    /// Sessions that are over and whose shared messages are to be passed on.
    over: Mutex<BTreeSet<u32>>,
    /// Serialises what tidies up.
    tidying: tokio::sync::Mutex<()>,
}

impl SessionLog {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(store.cursor(&queue()), LIMITS)),
            doors: RwLock::default(),
            next: AtomicU32::new(1),
            wills: AtomicU32::new(0),
            sharing: AtomicBool::new(false),
            over: Mutex::default(),
            tidying: tokio::sync::Mutex::default(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self, number: u32) -> Option<Arc<Door>> {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }
}

const LIMITS: LedgerLimits =
    LedgerLimits { messages: SESSION_MESSAGES_MAX, runs: RUNS_MAX, clean_bytes: CLEAN_BYTES_MIN };

/// Where the messages of one session come in.
pub(crate) struct Door {
    number: u32,
    bell: Notify,
    /// Messages that need not be read from the log, in order; none while nobody attends.
    cached: Mutex<VecDeque<Published>>,
    account: Mutex<Option<Arc<Account>>>,
    /// The session is in an episode of losses.
    losing: AtomicBool,
}

impl Door {
    fn new(number: u32) -> Self {
        Self {
            number,
            bell: Notify::new(),
            cached: Mutex::default(),
            account: Mutex::default(),
            losing: AtomicBool::new(false),
        }
    }

    /// Waits until there may be more to take.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn cached(&self) -> MutexGuard<'_, VecDeque<Published>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self) -> MutexGuard<'_, Option<Arc<Account>>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message in memory if somebody attends and there is room.
    fn keep(&self, entry: &Entry, recipient: &Recipient, order: Offset) {
        let account = self.account();
        let Some(account) = account.as_ref() else { return };
        let held = account.hold(weight(entry));
        let published = held.and_then(|held| published(entry, recipient, order, held));
        self.cached().extend(published);
    }
}

/// What a message takes in memory.
fn weight(entry: &Entry) -> usize {
    let (topic, more) = entry.addressed.as_ref().map_or((0, 0), |all| {
        (all.topic.len(), all.properties.as_ref().map_or(0, |properties| properties.size_bytes()))
    });
    entry.envelope.message.size_bytes() + topic + more + MESSAGE_OVERHEAD_BYTES
}

/// What it takes in the log, for the share of it that is still needed.
fn record_bytes(entry: &Entry) -> u32 {
    let recipients = entry.addressed.as_ref().map_or(0, |all| all.recipients.len() * 2);
    u32::try_from(entry.envelope.message.size_bytes() + recipients + 64).unwrap_or(u32::MAX)
}

/// A message as one of its sessions gets it.
fn published(entry: &Entry, recipient: &Recipient, order: Offset, held: Held) -> Option<Published> {
    let addressed = entry.addressed.as_ref()?;
    Some(Published {
        topic: addressed.topic.clone(),
        envelope: entry.envelope.clone(),
        qos: QoS::from_level(recipient.qos).unwrap_or_default(),
        retain: recipient.retain,
        ids: recipient.ids.clone(),
        expires: entry.expires,
        properties: addressed.properties.clone(),
        shared: None,
        order: Some(order),
        held,
    })
}

pub(crate) fn recipient(session: u32, reached: Reached) -> Recipient {
    let Reached { qos, retain, ids, shared, .. } = reached;
    Recipient { session, qos: qos.level(), retain, ids, shared }
}

/// What must be recorded for sessions that a message reaches. A session that it reaches more than once, as a member of
/// a group and by itself, gets a copy for each (MQTT 5, section 4.8.2), in a record of its own.
pub(crate) fn appends(
    offer: &Offer<'_>,
    envelope: &Arc<Envelope>,
    mut recipients: Vec<Recipient>,
) -> Vec<Append> {
    let Offer { topic, publishing, .. } = *offer;
    recipients.sort_by_key(|one| one.session);
    let mut all = Vec::new();
    while !recipients.is_empty() {
        let mut before = None;
        let (once, more) =
            recipients.into_iter().partition(|one| before.replace(one.session) != Some(one.session));
        recipients = more;
        let (how, expires) = ((publishing.qos, publishing.retain), publishing.expires(envelope.received));
        all.push(address(topic, envelope, how, expires, publishing.properties.clone(), once));
    }
    all
}

/// A message for sessions as the log has it. `how` is the quality of service it was published with, and whether it was
/// to be retained.
fn address(
    topic: &Topic,
    envelope: &Arc<Envelope>,
    how: (QoS, bool),
    expires: Option<UnixMillis>,
    properties: Option<Arc<TopicProperties>>,
    recipients: Vec<Recipient>,
) -> Append {
    let (qos, retain) = (how.0.level(), how.1);
    let addressed = Addressed { topic: topic.clone(), qos, retain, order: None, properties, recipients };
    let entry = Entry {
        envelope: envelope.clone(),
        input: None,
        route: Text::from(""),
        expires,
        addressed: Some(Arc::new(addressed)),
    };
    Append { queue: queue(), entry, when_full: WhenFull::DropOldest }
}

/// What is recorded beside a message, as a document.
pub(crate) fn document(beside: &Beside, received: UnixMillis) -> DocumentWrite {
    match beside {
        Beside::Received { session, packet } => DocumentWrite {
            space: RECEIVED.into(),
            key: received_key(*session, *packet),
            value: Some(bytes::Bytes::new()),
        },
        Beside::Will(key) => DocumentWrite { space: WILLS.into(), key: key.clone(), value: None },
        Beside::Retained { topic, packet } => DocumentWrite {
            space: RETAINED.into(),
            key: Text::from(&**topic),
            value: packet
                .as_ref()
                .map(|packet| PacketRecord { kept_at: received, packet: packet.clone() }.to_bytes()),
        },
    }
}

impl Inner {
    /// Records a commit; messages in it that are for sessions reach them before `done` is called with the answer, how
    /// many sinks have the message, and how many have dropped it.
    pub(crate) fn commit(
        self: &Arc<Self>,
        commit: Commit,
        done: impl FnOnce(Result<(), Refused>, u16, u16) + Send + 'static,
    ) {
        let for_sessions: Vec<(usize, Entry)> = commit
            .appends
            .iter()
            .enumerate()
            .filter(|(_, append)| append.entry.addressed.is_some())
            .map(|(index, append)| (index, append.entry.clone()))
            .collect();
        let inner = self.clone();
        self.store.commit_when_room(commit, move |result| {
            let (mut stored, mut dropped) = (0, 0);
            if let (false, Ok(committed)) = (for_sessions.is_empty(), &result) {
                for (index, entry) in &for_sessions {
                    if let Some(Appended::Stored(at)) = committed.appends.get(*index) {
                        stored += 1;
                        inner.hand_to_sessions(entry, *at);
                    } else {
                        dropped += 1;
                        inner.lost_for_want_of_room(entry);
                    }
                }
            }
            let (answer, in_all, dropped_in_all) = inner.recorded(result);
            done(answer, in_all.saturating_sub(stored), dropped_in_all.saturating_sub(dropped));
        });
    }

    /// A message for sessions is on disk.
    fn hand_to_sessions(&self, entry: &Entry, at: Offset) {
        let Some(addressed) = &entry.addressed else { return };
        let doors = self.sessions.doors.read().unwrap_or_else(PoisonError::into_inner);
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for one in &addressed.recipients {
            match doors.get(&one.session) {
                Some(door) => here.push((one, door.clone())),
                None => gone.push(one),
            }
        }
        drop(doors);
        let doors: Vec<(&Recipient, Arc<Door>)> = here;
        // In memory first: whoever finds the position finds the message.
        doors.iter().for_each(|(recipient, door)| door.keep(entry, recipient, at));
        let position = Position { order: at, at };
        let numbers = doors.iter().map(|(recipient, _)| (recipient.session, recipient.shared.is_some()));
        let losers = self.sessions.ledger().appended(position, record_bytes(entry), numbers);
        gone.iter().for_each(|recipient| self.came_too_late(recipient, at, record_bytes(entry)));
        for number in losers {
            self.session_lost(number, 1, "it is full");
        }
        doors.iter().for_each(|(_, door)| door.bell.notify_one());
    }

    fn lost_for_want_of_room(&self, entry: &Entry) {
        for one in entry.addressed.iter().flat_map(|addressed| &addressed.recipients) {
            self.session_lost(one.session, 1, "the store is full");
        }
    }

    fn session_lost(&self, number: u32, messages: u64, why: &'static str) {
        self.counters.lost_by_sessions.fetch_add(messages, Ordering::Relaxed);
        let Some(door) = self.sessions.door(number) else { return };
        if !door.losing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                session = number,
                messages,
                why,
                max = SESSION_MESSAGES_MAX,
                "a session loses its oldest messages of QoS 1 and 2; its client should come back, or subscribe to less"
            );
        }
    }
}
