//! What is done every now and then: flows are recorded, the log's cursor moves, what keeps too much of it is appended
//! anew.

use super::{FLOWS, key, queue, record_bytes};
use crate::{
    core::{positions::Position, publishing::SubscriberId},
    task::broker::{Broker, Inner},
};
use holdfast_store::{
    Ack, Addressed, Append, Appended, Commit, CommitError, Committed, DocumentWrite, Entry, Picked, ReadLimit,
};
use holdfast_types::{Offset, WhenFull};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Flows in one commit.
const FLOWS_MAX: usize = 1000;

/// Messages and bytes that are appended anew at once.
const CLEAN_MESSAGES_MAX: usize = 1024;
const CLEAN_BYTES_MAX: u64 = 2 << 20;

/// What sessions hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// Sessions that outlive the process.
    pub sessions: u64,
    /// Messages that wait for them or for their acknowledgement, counted for each.
    pub positions: u64,
    /// Bytes of the log, each message counted once.
    pub bytes: u64,
    /// Those of them that a session still needs.
    pub needed_bytes: u64,
}

impl Broker {
    /// What sessions hold now.
    pub fn session_totals(&self) -> SessionTotals {
        let ledger = self.inner.sessions.ledger();
        let (positions, bytes, needed_bytes) = ledger.totals();
        SessionTotals { sessions: ledger.len() as u64, positions, bytes, needed_bytes }
    }

    /// Messages of the log that wait for a session, and those that its client has and has not acknowledged.
    pub fn session_messages(&self, number: u32) -> (u64, u64) {
        self.inner.sessions.ledger().messages(number)
    }

    /// Messages that wait for a subscriber in memory.
    pub fn waiting_in_memory(&self, subscriber: SubscriberId) -> u64 {
        self.inner.mailboxes().get(&subscriber).map_or(0, |mailbox| mailbox.len() as u64)
    }

    /// Records what sessions are done with, and lets the store drop what none needs. Called twice a second, it bounds what
    /// is sent again after a crash to half a second's messages of QoS 1.
    pub async fn tidy_sessions(&self) {
        let inner = &self.inner;
        let _alone = inner.sessions.tidying.lock().await;
        inner.note_what_the_store_dropped();
        if inner.record_flows().await.is_err() {
            return;
        }
        inner.share_out().await;
        while inner.clean().await {}
    }
}

impl Inner {
    fn note_what_the_store_dropped(&self) {
        let cursor = self.store.cursor(&queue());
        let lost = self.sessions.ledger().dropped_below(cursor);
        for (number, messages) in lost {
            self.session_lost(number, messages, "the log is full, or they are too old");
        }
    }

    async fn recorded_commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let (send, receive) = oneshot::channel();
        self.store.commit_when_room(commit, move |result| {
            // Who asked may be gone; what is recorded is recorded.
            let _ = send.send(result);
        });
        receive.await.unwrap_or(Err(CommitError::Closed))
    }

    async fn record_flows(&self) -> Result<(), CommitError> {
        let (changed, cursor) = {
            let mut ledger = self.sessions.ledger();
            (ledger.changed(), ledger.cursor())
        };
        let acks = (cursor > self.store.cursor(&queue())).then(|| Ack { queue: queue(), cursor });
        let mut acks: Vec<Ack> = acks.into_iter().collect();
        // The cursor goes with the last flows: what it passes, they are done with.
        let mut chunks = changed.chunks(FLOWS_MAX).peekable();
        while let Some(numbers) = chunks.next() {
            let documents = self.flows_of(numbers);
            let acks = if chunks.peek().is_none() { std::mem::take(&mut acks) } else { Vec::new() };
            let result = self.recorded_commit(Commit { documents, acks, ..Commit::default() }).await;
            if let Err(error) = result {
                numbers.iter().for_each(|number| self.sessions.ledger().not_written(*number));
                tracing::warn!(%error, "what sessions are done with was not recorded; after a crash it would be sent again");
                return Err(error);
            }
        }
        if !acks.is_empty() {
            self.recorded_commit(Commit { acks, ..Commit::default() }).await?;
        }
        Ok(())
    }

    fn flows_of(&self, numbers: &[u32]) -> Vec<DocumentWrite> {
        let mut ledger = self.sessions.ledger();
        let write = |number: &u32| {
            let value = Some(ledger.flow_to_write(*number)?.to_bytes());
            Some(DocumentWrite { space: FLOWS.into(), key: key(*number), value })
        };
        numbers.iter().filter_map(write).collect()
    }

    /// Appends what is needed of the log's oldest part anew. Says whether there may be more.
    async fn clean(&self) -> bool {
        let worth = self.sessions.ledger().worth_cleaning(CLEAN_MESSAGES_MAX, CLEAN_BYTES_MAX);
        let Some((needed, _)) = worth else { return false };
        let limit = ReadLimit { messages: needed.len(), bytes: usize::MAX };
        let Ok(found) = self.store.pick(&queue(), &needed, limit) else { return false };
        let mut moving: Vec<(Position, Entry)> = Vec::new();
        for (at, picked) in needed.into_iter().zip(found) {
            match picked {
                Picked::Entry(entry) => moving.extend(self.still_needed(at, entry)),
                Picked::Expired(_) | Picked::Gone => self.sessions.ledger().unreadable(at),
            }
        }
        let append = |(_, entry): &(Position, Entry)| Append {
            queue: queue(),
            entry: entry.clone(),
            when_full: WhenFull::DropOldest,
        };
        let appends = moving.iter().map(append).collect();
        let Ok(committed) = self.recorded_commit(Commit { appends, ..Commit::default() }).await else {
            return false;
        };
        let cursor = self.moved(&moving, &committed);
        let acks = vec![Ack { queue: queue(), cursor }];
        self.recorded_commit(Commit { acks, ..Commit::default() }).await.is_ok()
    }

    fn moved(&self, moving: &[(Position, Entry)], committed: &Committed) -> Offset {
        let mut ledger = self.sessions.ledger();
        for ((from, entry), appended) in moving.iter().zip(&committed.appends) {
            let (Appended::Stored(to), Some(addressed)) = (appended, &entry.addressed) else { continue };
            let numbers = addressed.recipients.iter().map(|one| one.session);
            ledger.moved(*from, *to, record_bytes(entry), numbers);
        }
        ledger.cursor()
    }

    /// The message for those who still need it.
    fn still_needed(&self, at: Offset, mut entry: Entry) -> Option<(Position, Entry)> {
        let addressed = entry.addressed.as_ref()?;
        let position = Position { order: addressed.order.unwrap_or(at), at };
        let ledger = self.sessions.ledger();
        let needs = addressed.recipients.iter().filter(|one| ledger.needs(one.session, position));
        let recipients: Vec<_> = needs.cloned().collect();
        drop(ledger);
        if recipients.is_empty() {
            return None;
        }
        let order = Some(position.order);
        entry.addressed = Some(Arc::new(Addressed { order, recipients, ..(**addressed).clone() }));
        Some((position, entry))
    }
}
