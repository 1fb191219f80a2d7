//! Messages that edges below this one send upstream.
//!
//! That they go upstream was decided where they were made, so they go upstream here too, whatever the routes say, with the
//! priority that they have there: so their order stays. Routes into modules take them besides; topics do not.

use super::{
    admission::{Receipt, Refused, check},
    broker::Broker,
    pending::Pending,
};
use crate::core::{decide::Taken, publishing::Publishing};
use holdfast_store::{Chain, Commit, DocumentWrite};
use holdfast_types::{Durability, Message, Priority, Sink, Source, UnixMillis, WhenFull};
use std::sync::{Arc, atomic::Ordering};

/// The name of the route that takes what no route of this edge takes upstream.
const ROUTE: &str = "below";

/// A message of an edge below.
#[derive(Clone, Debug)]
pub struct PassedOn {
    /// Who sent it, as this edge sees it.
    pub source: Source,
    /// The message, with the identity that it has at the edge where it was made.
    pub message: Message,
    /// Its priority there.
    pub priority: Priority,
}

impl Broker {
    /// Records messages of edges below, in order, together with documents: all of it or nothing. `done` is called when it is
    /// durable. Of one chain the calls are recorded in their order, and none behind one that was not. Waits while the log is
    /// full.
    pub fn pass_on(
        &self,
        messages: Vec<PassedOn>,
        documents: Vec<DocumentWrite>,
        chain: Arc<Chain>,
        done: impl FnOnce(Result<(), Refused>) + Send + 'static,
    ) {
        let inner = &self.inner;
        let pending = Pending::new(Receipt::default(), Box::new(|answer| done(answer.map(drop))));
        let mut appends = Vec::with_capacity(messages.len());
        for PassedOn { source, message, priority } in messages {
            if let Err(refused) = check(&message, 0) {
                inner.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%source, %refused, "a message of an edge below was given up");
                continue;
            }
            let mut entered = inner.enter(source, message, Publishing::default(), 0);
            let life_ms = self.time_to_live().map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
            let received = entered.envelope.received;
            let child = inner.routing().own_log(&entered.envelope.source, &Sink::Upstream);
            let decision = &mut entered.decision;
            match decision.taken.iter_mut().find(|taken| taken.sink == Sink::Upstream) {
                Some(taken) => (taken.priority, taken.durability) = (priority, Durability::Durable),
                None => decision.taken.push(Taken {
                    route: ROUTE.into(),
                    sink: Sink::Upstream,
                    priority,
                    expires: life_ms.map(|life| UnixMillis(received.0.saturating_add(life))),
                    durability: Durability::Durable,
                    when_full: WhenFull::default(),
                    child,
                }),
            }
            inner.push_volatile(entered.group(), &mut || pending.open_part());
            appends.extend(entered.group().appends());
        }
        let part = pending.open_part();
        let commit = Commit { appends, documents, chain: Some(chain), ..Commit::default() };
        inner.commit(commit, move |answer, durable, dropped| {
            part.part_done(answer, |receipt| {
                receipt.durable += durable;
                receipt.dropped += dropped;
            });
        });
        pending.part_done(Ok(()), |_| {});
    }
}
