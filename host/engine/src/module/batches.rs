//! Several messages in one call, for modules that export `batch-handler`.
//!
//! A batch is what waits at the head of the inbox, never what might still come. It changes what a call costs and not what
//! it means: the messages of one that fails come again one by one, so that retries, dead letters and the end of a probation
//! are those of each message alone.
//!
//! Who calls methods gets no batches: a method that was called cannot be taken back with the rest.

use super::handling::TURN_TIME;
use super::runner::Runner;
use crate::instance::Outcome;
use crate::logs::LogLevel;
use crate::settings::RestartPolicy;
use holdfast_broker::Delivery;
use std::time::{Duration, Instant as Moment};

/// Most messages of a batch: with them the cost of a call is down to a 64th for each.
const MESSAGES_MAX: u32 = 64;

/// Most bytes of messages in a batch, which are in the memory of the module all at once. A larger message comes alone.
const BYTES_MAX: usize = 256 * 1024;

/// How many messages the first batch may have, when it is not known yet how long one takes.
const MESSAGES_FIRST: u32 = 8;

/// How many messages a batch may have.
#[derive(Debug)]
pub(super) struct Batches {
    /// So many are handled in about the time of a turn: orders, timers and other modules wait no longer for a batch than
    /// for messages one by one.
    most: u32,
    /// So many messages of a batch that failed are still to be handled one by one.
    alone: u32,
}

impl Default for Batches {
    fn default() -> Self {
        Self { most: MESSAGES_FIRST, alone: 0 }
    }
}

impl Batches {
    /// A call with so many messages has taken so long.
    pub(super) fn took(&mut self, messages: u32, time: Duration) {
        if time > TURN_TIME {
            self.most = (self.most / 2).max(1);
        } else if messages >= self.most && time < TURN_TIME / 2 {
            self.most = (self.most * 2).min(MESSAGES_MAX);
        }
    }

    /// A batch of so many has failed.
    fn failed(&mut self, messages: u32) {
        self.alone = messages;
    }

    /// A message that was handled alone is done with.
    pub(super) fn one_done(&mut self) {
        self.alone = self.alone.saturating_sub(1);
    }

    const fn most(&self) -> u32 {
        if self.alone > 0 { 1 } else { self.most }
    }
}

impl Runner {
    /// Takes the next batch out of the inbox, of at most `messages_max`; none if the next message is to be handled alone.
    pub(super) fn take_batch(
        &mut self,
        messages_max: u32,
        is_over: impl Fn(&Delivery) -> bool,
    ) -> Option<Vec<Delivery>> {
        let code = &self.version.code;
        if code.batch.is_none() || code.waits || self.attempts.failed > 0 {
            return None;
        }
        let most = messages_max.min(self.batches.most()) as usize;
        let mut bytes = 0;
        // What a message causes has one hop more than it; those of a batch have the same number, so that it stays theirs.
        let hops = self.inbox.front()?.envelope.hops;
        let fits = |delivery: &&Delivery| {
            bytes += delivery.envelope.message.size_bytes();
            bytes <= BYTES_MAX
                && delivery.envelope.hops == hops
                && !is_over(delivery)
                && !self.suspect.accuses(delivery)
        };
        let count = self.inbox.iter().take(most).take_while(fits).count();
        (count > 1).then(|| self.inbox.drain(..count).collect())
    }

    pub(super) async fn handle_batch(&mut self, batch: Vec<Delivery>) {
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let Some(instance) = &mut self.instance else { return self.put_back(batch) };
        let began = Moment::now();
        let given: Vec<_> =
            batch.iter().map(|one| (one.input.as_deref().unwrap_or_default(), &*one.envelope)).collect();
        let outcome = instance.handle_batch(&given).await;
        if let Some(shadow) = &self.shadow {
            shadow.batch(&batch, &outcome, &instance.host().outbox);
        }
        let now = Moment::now();
        let hops = batch.first().map_or(0, |first| first.envelope.hops);
        match outcome {
            Outcome::Done => {
                self.turn.keep(instance.host(), &batch, hops.saturating_add(1));
                self.batches.took(count, now - began);
                self.failures.message_done();
                if self.probation.is_some() {
                    self.proves_itself(now);
                }
            }
            Outcome::Reject(reason) | Outcome::Retry(reason) => {
                self.put_back(batch);
                self.comes_alone(count, &reason);
            }
            Outcome::Lost(reason) => {
                self.put_back(batch);
                if self.roll_back(None, &reason) {
                    return;
                }
                self.comes_alone(count, &reason);
                self.instance = None;
                if self.version.settings.restart == RestartPolicy::Never {
                    return self.fail(&reason);
                }
                self.restart_after(Duration::ZERO, &reason);
            }
        }
    }

    fn put_back(&mut self, batch: Vec<Delivery>) {
        batch.into_iter().rev().for_each(|delivery| self.inbox.push_front(delivery));
    }

    fn comes_alone(&mut self, messages: u32, reason: &str) {
        self.batches.failed(messages);
        let text = format!("a batch failed, its {messages} messages are handled one by one: {reason}");
        self.log.host(LogLevel::Info, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_large_as_what_fits_into_a_turn_and_what_failed_comes_alone() {
        let mut batches = Batches::default();
        let quick = TURN_TIME / 4;
        batches.took(5, quick);
        assert_eq!(batches.most(), MESSAGES_FIRST, "a batch that was not full says nothing");
        for expected in [16, 32, 64, 64] {
            batches.took(batches.most(), quick);
            assert_eq!(batches.most(), expected);
        }
        for expected in [32, 16, 8, 4, 2, 1, 1] {
            batches.took(batches.most(), TURN_TIME * 2);
            assert_eq!(batches.most(), expected);
        }
        batches.took(1, quick);
        assert_eq!(batches.most(), 2);
        batches.failed(2);
        batches.one_done();
        assert_eq!(batches.most(), 1);
        batches.one_done();
        assert_eq!(batches.most(), 2);
    }
}
