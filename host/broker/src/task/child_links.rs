//! Children that go up under their own identities. What such a child sends upstream has a log of its own
//! ([`LogId::upstream_of`]), so that a child whom the hub refuses holds up nobody else.
//!
//! Who has one is not the broker's to say: it asks whoever carries the children's messages, and says of each message
//! before it is recorded that it comes, so that no log begins to fill unnoticed. What is left in the log of a child that has none any more is given to the
//! edge's log.

use super::{
    admission::Refused,
    broker::{Broker, Inner},
};
use holdfast_store::{Ack, Append, Commit, QueuePosition, ReadLimit, StoreError};
use holdfast_types::{Identity, LogId, Name, QueueId, Sink, Source, WhenFull};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

/// How much is given from one log to another in one commit.
const GIVEN_AT_ONCE: ReadLimit = ReadLimit { messages: 256, bytes: 1024 * 1024 };

/// Whoever carries upstream what children send under their own identities.
pub trait ChildLinks: Send + Sync + 'static {
    /// Whether what a child sends upstream goes into its own log. It is asked for each such message: it must be quick.
    fn carries(&self, child: &Name) -> bool;

    /// A message is about to be recorded in a child's own log. It must be quick.
    fn comes(&self, child: &Name);

    /// A client that speaks as the child has connected here, or has gone. There may be two for a moment.
    fn present(&self, child: &Name, present: bool);
}

/// The child whose own log takes what it sends to a sink, if it has one.
pub(crate) fn own_log(links: Option<&dyn ChildLinks>, source: &Source, sink: &Sink) -> Option<Name> {
    match (source, sink) {
        (Source::Child { child, .. }, Sink::Upstream) => {
            let links = links.filter(|links| links.carries(child))?;
            links.comes(child);
            Some(child.clone())
        }
        _ => None,
    }
}

impl Broker {
    /// From now on it is asked which children have a log of their own; none: no child has.
    pub fn set_child_links(&self, links: Option<Arc<dyn ChildLinks>>) {
        self.inner.change_routing(|routing| routing.child_links = links);
    }

    /// A client that speaks as this identity has connected here, or has gone.
    pub fn present(&self, who: &Identity, present: bool) {
        if who.module.is_none()
            && let Some(links) = &self.inner.routing().child_links
        {
            links.present(&who.device, present);
        }
    }

    /// Whether what a child sends upstream goes up under its own identity.
    pub fn goes_up_itself(&self, child: &Name) -> bool {
        self.inner.routing().child_links.as_ref().is_some_and(|links| links.carries(child))
    }

    /// How many messages wait in the logs of children that go up, or went up, under their own identities; those of volatile
    /// routes among them. Logs in which nothing waits are left out.
    pub fn waiting_of_children(&self) -> BTreeMap<Name, u64> {
        let mut all = BTreeMap::new();
        for queue in self.inner.store.queues() {
            if let (Some(child), 1..) = (queue.queue.log.upstream_child(), queue.waiting) {
                *all.entry(child).or_default() += queue.waiting;
            }
        }
        for (child, waiting) in self.inner.volatile_of_children() {
            *all.entry(child).or_default() += waiting;
        }
        all
    }

    /// Whether nothing waits in the log of a child upstream.
    pub fn has_nothing_of(&self, child: &Name) -> bool {
        let log = LogId::upstream_of(child);
        let recorded = self.inner.store.positions(&log).iter().any(|at| at.cursor < at.tail);
        !recorded && self.lane_lengths(&log) == (0, 0)
    }

    /// Gives what waits in a child's own log to the edge's log, in its order, with its priority, its route and its end: all of it
    /// in commits that move the one and fill the other, so that a message is in one of them at any moment. To be called while
    /// nobody reads the child's log. Waits while the edge's log is full. What waits in memory for volatile routes is dropped, and
    /// counted. Gives how many messages were given.
    ///
    /// # Errors
    /// The log cannot be read, or the store does not record it. What was given until then stays given.
    pub async fn give_to_edge(&self, child: &Name) -> Result<u64, Refused> {
        let log = LogId::upstream_of(child);
        let lane = self.inner.lane(&log);
        // What the reader before has still under way decides where the rest begins.
        while !lane.is_settled() {
            lane.bell.notified().await;
        }
        self.inner.count_volatile_drops(&log, lane.clear() as u64);
        let mut given = 0;
        for QueuePosition { queue, mut cursor, tail } in self.inner.store.positions(&log) {
            while cursor < tail {
                let unreadable = |error: StoreError| Refused::NotRecorded(error.to_string());
                let batch = self.inner.store.read(&queue, cursor, GIVEN_AT_ONCE).map_err(unreadable)?;
                if batch.next <= cursor {
                    break;
                }
                cursor = batch.next;
                given += batch.entries.len() as u64;
                let to = QueueId { log: LogId::upstream(), priority: queue.priority };
                let append = |entry| Append { queue: to.clone(), entry, when_full: WhenFull::Block };
                let appends = batch.entries.into_iter().map(|stored| append(stored.entry)).collect();
                let acks = vec![Ack { queue: queue.clone(), cursor }];
                self.inner.recorded_when_room(Commit { appends, acks, ..Commit::default() }).await?;
            }
        }
        Ok(given)
    }
}

impl Inner {
    async fn recorded_when_room(self: &Arc<Self>, commit: Commit) -> Result<(), Refused> {
        let (answer, wait) = oneshot::channel();
        let inner = self.clone();
        self.store.commit_when_room(commit, move |result| {
            // Who no longer waits is no fault: the record stands.
            let _ = answer.send(inner.recorded(result).0);
        });
        wait.await.unwrap_or(Err(Refused::Stopping))
    }
}
