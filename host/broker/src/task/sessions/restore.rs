//! What is known of sessions when the host starts.

use super::{FLOWS, RECEIVED, RETAINED, SESSIONS, StoredSession, WILLS, queue, record_bytes};
use crate::{core::positions::Position, task::broker::Broker};
use bytes::Bytes;
use holdfast_store::{
    DocumentFault, FlowRecord, PacketRecord, ReadLimit, SessionRecord, StoreError, WillRecord,
};
use holdfast_types::{Text, Topic, UnixMillis};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

/// Everything that was kept.
#[derive(Default)]
pub struct KeptSessions {
    /// Sessions.
    pub sessions: Vec<KeptSession>,
    /// Wills that were not published.
    pub wills: Vec<KeptWill>,
    /// Retained messages: topic, when it came, PUBLISH of MQTT 5.
    pub retained: Vec<(Topic, UnixMillis, Bytes)>,
}

/// A session that was kept.
pub struct KeptSession {
    /// The session; its subscriptions are not in force yet.
    pub session: StoredSession,
    /// Whose it is.
    pub record: SessionRecord,
    /// Packet identifiers of the client's messages of QoS 2 that are recorded and not released.
    pub received: BTreeSet<u16>,
}

/// A will that was kept.
pub struct KeptWill {
    /// The session that left it, which may be over.
    pub session: StoredSession,
    /// By which it is removed.
    pub key: Text,
    /// The will.
    pub record: WillRecord,
}

impl Broker {
    /// Reads what was kept of sessions, wills and retained messages, and goes once over the log of sessions. Once, and
    /// before the first message is published. A document that cannot be read is logged and left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn restore_sessions(&self) -> Result<KeptSessions, StoreError> {
        let mut kept = KeptSessions::default();
        let numbered = |key: &str| u32::from_str_radix(key.get(..8)?, 16).ok();
        let mut flows: BTreeMap<u32, FlowRecord> = BTreeMap::new();
        self.each(FLOWS, |key, value| {
            let flow = FlowRecord::from_bytes(value)?;
            flows.extend(numbered(key).map(|number| (number, flow)));
            Ok(())
        })?;
        let mut received: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
        self.each(RECEIVED, |key, _| {
            let packet = key.get(9..).and_then(|packet| u16::from_str_radix(packet, 16).ok());
            if let (Some(number), Some(packet)) = (numbered(key), packet) {
                received.entry(number).or_default().insert(packet);
            }
            Ok(())
        })?;
        let mut last = flows.keys().chain(received.keys()).copied().max().unwrap_or(0);
        self.each(SESSIONS, |key, value| {
            let record = SessionRecord::from_bytes(value)?;
            let Some(number) = numbered(key) else { return Ok(()) };
            last = last.max(number);
            let flow = flows.remove(&number).unwrap_or_default();
            self.inner.sessions.ledger().session(number, &flow);
            let session = StoredSession::open(&self.inner, number);
            let received = received.remove(&number).unwrap_or_default();
            kept.sessions.push(KeptSession { session, record, received });
            Ok(())
        })?;
        self.each(WILLS, |key, value| {
            let record = WillRecord::from_bytes(value)?;
            let Some(number) = numbered(key) else { return Ok(()) };
            last = last.max(number);
            let known = kept.sessions.iter().find(|one| one.session.number == number);
            let session = known.map(|one| one.session.clone()).unwrap_or_else(|| {
                let door = std::sync::Arc::new(super::Door::new(number));
                StoredSession { inner: self.inner.clone(), number, door }
            });
            kept.wills.push(KeptWill { session, key: key.into(), record });
            Ok(())
        })?;
        self.each(RETAINED, |key, value| {
            let PacketRecord { kept_at, packet } = PacketRecord::from_bytes(value)?;
            if let Ok(topic) = Topic::new(key) {
                kept.retained.push((topic, kept_at, packet));
            }
            Ok(())
        })?;
        self.inner.sessions.next.store(last.saturating_add(1), Ordering::Relaxed);
        // A flow without its session: it was over, and what was shared with it had not been passed on.
        flows.iter().for_each(|(number, flow)| self.inner.sessions.ledger().session(*number, flow));
        self.scan()?;
        for number in flows.into_keys() {
            if !self.inner.sessions.ledger().is_over(number) {
                self.inner.sessions.ledger().end(number);
            }
            self.inner.sessions.leave_to_others(number);
        }
        Ok(kept)
    }

    fn each(
        &self,
        space: &'static str,
        mut take: impl FnMut(&str, Bytes) -> Result<(), DocumentFault>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.inner.store.documents(space, "", usize::MAX)? {
            if let Err(fault) = take(&key, value) {
                tracing::error!(space, key = %key.escape_debug(), %fault, "a document of a session cannot be read and is left out");
            }
        }
        Ok(())
    }

    /// One pass over the log.
    fn scan(&self) -> Result<(), StoreError> {
        let (store, queue) = (&self.inner.store, queue());
        let tail = store.tail(&queue);
        let mut from = store.cursor(&queue);
        while from < tail {
            let batch = store.read(&queue, from, ReadLimit { messages: 4096, bytes: 1 << 20 })?;
            let mut ledger = self.inner.sessions.ledger();
            for stored in &batch.entries {
                let Some(addressed) = &stored.entry.addressed else { continue };
                let position =
                    Position { order: addressed.order.unwrap_or(stored.offset), at: stored.offset };
                let numbers = addressed.recipients.iter().map(|one| (one.session, one.shared.is_some()));
                let losers = ledger.appended(position, record_bytes(&stored.entry), numbers);
                self.inner.counters.lost_by_sessions.fetch_add(losers.len() as u64, Ordering::Relaxed);
            }
            if batch.next <= from {
                break;
            }
            from = batch.next;
        }
        let gone = self.inner.sessions.ledger().settled();
        if gone > 0 {
            tracing::warn!(
                messages = gone,
                "messages that clients had not acknowledged have expired or were dropped"
            );
        }
        Ok(())
    }
}
