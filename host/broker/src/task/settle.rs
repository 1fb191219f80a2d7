//! The end of a turn: acknowledgements, sends, state and dead letters, recorded together or not at all.

use super::{
    admission::{Receipt, Refused, check},
    documents::Documents,
    pending::Pending,
    publish::{Group, stamped},
    queue::Bells,
    reader::{Place, Progress, Reader, StateWrite, Turn},
    twins::{Half, Halves, InUse},
};
use crate::core::{decide::Decision, publishing::Publishing};
use holdfast_store::{Ack, Append, Commit, DeadLetter, DocumentWrite};
use holdfast_types::{Envelope, Identity, QueueId, Source};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

impl Reader {
    /// Records a turn and calls back when it is durable. Turns are recorded in the order of the calls. What goes to
    /// volatile routes and topics is handed over at once.
    ///
    /// After an error nothing of the turn was recorded, nor will any later turn be until [`Reader::rewind`].
    pub fn settle(&self, mut turn: Turn, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        let _in_order = self.submission.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = self.progress();
        if progress.failed {
            drop(progress);
            done(Err(Refused::NotRecorded("an earlier turn was not recorded".to_owned())));
            return;
        }
        let pending = Pending::new(Receipt::default(), Box::new(move |answer| done(answer.map(|_| ()))));
        let reports = std::mem::take(&mut turn.reports);
        let half = (!reports.is_empty()).then(|| self.reported()).flatten();
        let _in_order_too = half.as_ref().map(|half| half.in_order());
        let joined = half
            .as_ref()
            .map(|half| self.inner.join_reports(half, &progress.chain(), &reports, &pending))
            .transpose();
        let joined = match joined {
            Ok(joined) => joined,
            Err(why) => {
                progress.failed = true;
                drop(progress);
                pending.part_done(Err(Refused::NotRecorded(why.to_string())), |_| {});
                return;
            }
        };
        let mut commit = self.commit_of(&mut progress, turn, &pending);
        if let Some((document, appends)) = joined {
            commit.documents.push(document);
            commit.appends.extend(appends);
        }
        let generation = progress.generation;
        let effects = usize::from(sends_or_stores(&commit));
        let dead = usize::from(!commit.dead.is_empty());
        progress.with_effects += effects;
        progress.with_dead += dead;
        drop(progress);
        if !is_empty(&commit) {
            let part = pending.open_part();
            let shared = self.shared_progress();
            let (half, inner) = (half.clone(), self.inner.clone());
            let under_way = self.lane.begin();
            self.inner.commit(commit, move |answer, _, _| {
                let mut progress = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // A rewind since then has forgotten this turn, whatever became of it.
                if progress.generation == generation {
                    progress.with_effects = progress.with_effects.saturating_sub(effects);
                    progress.with_dead = progress.with_dead.saturating_sub(dead);
                    progress.failed |= answer.is_err();
                }
                drop(progress);
                if let Some(half) = half {
                    half.ended(answer.is_ok());
                    if answer.is_ok() {
                        inner.halves.watches.reported(&half.who);
                    }
                }
                drop(under_way);
                part.part_done(answer, |_| {});
            });
        }
        pending.part_done(Ok(()), |_| {});
    }

    fn commit_of(&self, progress: &mut Progress, turn: Turn, pending: &Arc<Pending>) -> Commit {
        let mut commit = Commit { chain: Some(progress.chain()), ..Commit::default() };
        for (ticket, reason, attempts) in &turn.dead {
            if let (Place::Durable { priority, offset, .. }, true) = (ticket.0, progress.is_current(*ticket))
            {
                let queue = QueueId { log: self.log.clone(), priority };
                commit.dead.push(DeadLetter { queue, offset, reason: reason.clone(), attempts: *attempts });
            }
        }
        let mut cursors = BTreeMap::new();
        for ticket in turn.done.iter().chain(turn.dead.iter().map(|(ticket, _, _)| ticket)) {
            cursors.extend(progress.done(*ticket));
        }
        let ack = |(priority, cursor)| Ack { queue: QueueId { log: self.log.clone(), priority }, cursor };
        commit.acks = cursors.into_iter().map(ack).collect();
        if let Some(module) = &self.module {
            if !turn.state.is_empty() {
                let space = Documents::state_space(module);
                let write = |write: StateWrite| DocumentWrite {
                    space: space.clone(),
                    key: write.key,
                    value: write.value,
                };
                commit.documents = turn.state.into_iter().map(write).collect();
            }
            let (routing, received) = (self.inner.routing(), self.inner.clock.now());
            // Subscribers hear of all of it at once.
            let mut bells = Bells::default();
            // Messages in a row that go the same ways go together.
            let mut together: Option<Together> = None;
            for send in turn.sends {
                if let Err(refused) = check(&send.message, send.hops) {
                    self.inner.counters.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%module, %refused, "a message that the module sent was refused");
                    continue;
                }
                let source = Source::Module { module: module.clone(), output: send.output };
                let envelope = stamped(source, send.message, send.hops, received);
                match &mut together {
                    Some(together) if together.takes(&envelope) => together.envelopes.push(envelope),
                    _ => {
                        let decision = self.inner.decide(&routing, &envelope);
                        let by_source = routing.decides_by_source(&envelope.source);
                        let next = Together { envelopes: vec![envelope], decision, by_source };
                        if let Some(before) = together.replace(next) {
                            self.hand_on(&before, pending, &mut bells, &mut commit.appends);
                        }
                    }
                }
            }
            if let Some(last) = together {
                self.hand_on(&last, pending, &mut bells, &mut commit.appends);
            }
        }
        commit
    }

    /// The reported properties of the module whose log this is.
    fn reported(&self) -> Option<InUse> {
        let who = Identity::module(self.inner.edge.clone(), self.module.clone()?);
        Some(Halves::of(&self.inner, Half::Reported, &who))
    }

    /// Adds what must be recorded.
    fn hand_on(
        &self,
        together: &Together,
        pending: &Arc<Pending>,
        bells: &mut Bells,
        appends: &mut Vec<Append>,
    ) {
        let Together { envelopes, decision, .. } = together;
        let group = Group { envelopes, decision, publishing: &Publishing::default() };
        self.inner.count(group);
        let (_, for_sessions) = self.inner.fan_out(group, bells);
        self.inner.push_volatile(group, &mut || pending.open_part());
        appends.extend(for_sessions);
        appends.extend(group.appends());
    }
}

/// Messages of one source, in order, that go the same ways.
struct Together {
    envelopes: Vec<Arc<Envelope>>,
    decision: Decision,
    /// Whatever comes from the same source goes these ways too.
    by_source: bool,
}

impl Together {
    fn takes(&self, envelope: &Envelope) -> bool {
        self.by_source && self.envelopes.first().is_some_and(|first| first.source == envelope.source)
    }
}

/// Whether a commit does what would be done twice if its messages were handed out again. A message becomes a dead letter
/// once, whoever asks.
fn sends_or_stores(commit: &Commit) -> bool {
    !(commit.appends.is_empty() && commit.documents.is_empty())
}

fn is_empty(commit: &Commit) -> bool {
    commit.acks.is_empty() && commit.dead.is_empty() && !sends_or_stores(commit)
}
