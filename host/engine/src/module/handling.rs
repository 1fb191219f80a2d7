//! Messages and timers, and what follows when one fails.

use super::failures::{Verdict, doubled};
use super::runner::{Phase, Runner};
use crate::instance::Outcome;
use crate::logs::LogLevel;
use crate::pace::Used;
use crate::settings::RestartPolicy;
use crate::status::{RuntimeStatus, now};
use holdfast_broker::Delivery;
use std::time::{Duration, Instant as Moment};

/// How long a turn is filled before it is recorded while messages wait: a fraction of an fsync, so that a slow message
/// does not hold back what was done before it.
pub(super) const TURN_TIME: Duration = Duration::from_micros(500);

/// The longest wait between attempts at one message.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The attempts at the message at the head of the inbox.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) failed: u32,
    pub(super) retry_at: Option<Moment>,
}

impl Runner {
    pub(super) async fn fill_turn(&mut self, messages_max: u32) {
        let began = Moment::now();
        let mut at = began;
        let wall = self.reader.now();
        let _busy = self.runtime.busy();
        let messages_max = self.pace.messages(messages_max, began);
        // The instance may be lost on the way; the time it took is counted all the same.
        let meter = self.instance.as_ref().map(|instance| instance.meter.clone());
        if let Some(meter) = &meter {
            meter.resumed(began);
        }
        let mut used = Used::default();
        while self.phase == Phase::Running {
            self.fire_timers(at).await;
            self.take_calls().await;
            let may_handle = self.attempts.retry_at.is_none_or(|retry_at| retry_at <= at);
            if self.phase != Phase::Running || !may_handle {
                break;
            }
            let elapsed = u64::try_from((at - began).as_millis()).unwrap_or(u64::MAX);
            let is_over = |delivery: &Delivery| {
                delivery.expires.is_some_and(|expires| expires.0 <= wall.0.saturating_add(elapsed))
            };
            if let Some(batch) = self.take_batch(self.turn.room(messages_max), is_over) {
                batch.iter().for_each(|delivery| used.takes(delivery));
                self.handle_batch(batch).await;
                at = Moment::now();
            } else {
                let Some(delivery) = self.inbox.pop_front() else { break };
                used.takes(&delivery);
                if is_over(&delivery) {
                    // It was read in time, and has waited too long since.
                    self.turn.pass_expired(delivery.ticket);
                    self.attempts = Attempts::default();
                } else if let Some(reason) = self.suspect.judged(&delivery) {
                    self.give_up(&delivery, &reason, 1);
                } else {
                    self.handle(delivery).await;
                }
                let before = std::mem::replace(&mut at, Moment::now());
                if self.attempts.failed == 0 {
                    self.batches.one_done();
                    self.batches.took(1, at - before);
                }
            }
            // What is done does not wait for what the next call of a module that calls methods waits for.
            if self.suspect.called()
                || self.version.code.waits
                || self.turn.is_full(messages_max)
                || at - began >= TURN_TIME
                || self.is_called()
            {
                break;
            }
        }
        // Timers and calls have taken time too.
        let at = Moment::now();
        if let Some(meter) = &meter {
            meter.paused(at);
        }
        (used.messages_out, used.bytes_out) = self.turn.sent();
        self.quick.took(at - began);
        self.close_turn();
        self.pace.moved(used, at);
        if let Some(hold) = self.pace.hold(at) {
            self.rests_until = Some(at + hold.time);
            self.log.refuse(hold.limit, || hold.text);
        }
        if at - self.gave_way >= TURN_TIME && !self.inbox.is_empty() {
            // A module that always has messages never waits, and would keep its thread from the other modules.
            tokio::task::yield_now().await;
            self.gave_way = Moment::now();
        }
    }

    async fn fire_timers(&mut self, at: Moment) {
        while let Some(instance) = &mut self.instance
            && instance.next_timer().is_some_and(|due| due <= at)
            && let Some(timer) = instance.host().timers.take_due(at)
        {
            let outcome = instance.fire(timer.clone()).await;
            if let Some(shadow) = &self.shadow {
                shadow.timer(&timer, &outcome, &instance.host().outbox);
            }
            match outcome {
                Outcome::Done => {
                    self.turn.keep(instance.host(), &[], 0);
                    self.proves_itself(at);
                    if self.suspect.called() {
                        self.close_turn();
                    }
                }
                Outcome::Retry(reason) | Outcome::Reject(reason) => {
                    self.log.host(LogLevel::Warn, &format!("timer {timer:?} failed: {reason}"));
                }
                Outcome::Lost(reason) => {
                    self.instance = None;
                    self.fail(&format!("timer {timer:?}: {reason}"));
                }
            }
        }
    }

    async fn handle(&mut self, delivery: Delivery) {
        let Some(instance) = &mut self.instance else {
            self.inbox.push_front(delivery);
            return;
        };
        let input = delivery.input.as_deref().unwrap_or_default();
        let outcome = instance.handle(input, &delivery.envelope).await;
        if let Some(shadow) = &self.shadow {
            shadow.message(&delivery, &outcome, &instance.host().outbox);
        }
        match outcome {
            Outcome::Done => {
                let hops = delivery.envelope.hops.saturating_add(1);
                self.turn.keep(instance.host(), std::slice::from_ref(&delivery), hops);
                self.attempts = Attempts::default();
                self.failures.message_done();
                if self.probation.is_some() {
                    self.proves_itself(Moment::now());
                }
            }
            Outcome::Reject(reason) if self.roll_back(Some(&delivery), &reason) => {}
            Outcome::Reject(reason) => {
                let attempts = self.attempts.failed + 1;
                self.give_up(&delivery, &reason, attempts);
                self.failures.message_done();
            }
            Outcome::Retry(reason) => {
                self.attempts.failed += 1;
                if self.attempts.failed >= self.version.settings.limits.attempts {
                    if self.roll_back(Some(&delivery), &reason) {
                        return;
                    }
                    self.give_up(&delivery, &reason, self.attempts.failed);
                    self.failures.message_done();
                } else {
                    self.attempts.retry_at = Some(Moment::now() + self.retry_wait());
                    self.shared.status().last_error = Some(reason);
                    self.inbox.push_front(delivery);
                }
            }
            Outcome::Lost(reason) => self.lost(delivery, &reason),
        }
    }

    /// The instance was lost with a message in hand.
    fn lost(&mut self, delivery: Delivery, reason: &str) {
        if self.roll_back(Some(&delivery), reason) {
            return;
        }
        self.instance = None;
        self.attempts.failed += 1;
        let limits = &self.version.settings.limits;
        if self.attempts.failed >= limits.attempts {
            self.give_up(&delivery, reason, self.attempts.failed);
            if self.failures.message_given_up() {
                return self.fail(reason);
            }
            return self.restart_after(Duration::ZERO, reason);
        }
        self.inbox.push_front(delivery);
        if self.version.settings.restart == RestartPolicy::Never {
            return self.fail(reason);
        }
        let wait = self.retry_wait();
        self.restart_after(wait, reason);
    }

    fn retry_wait(&self) -> Duration {
        let base = Duration::from_millis(self.version.settings.limits.retry_ms.into());
        doubled(base, self.attempts.failed.saturating_sub(1), RETRY_MAX)
    }

    fn give_up(&mut self, delivery: &Delivery, reason: &str, attempts: u32) {
        self.turn.give_up(delivery.ticket, reason, attempts);
        self.attempts = Attempts::default();
        let id = delivery.id.as_ref().map_or_else(|| "(volatile)".to_owned(), ToString::to_string);
        let text = format!("message {id} given up after {attempts} attempts: {reason}");
        self.log.host(LogLevel::Warn, &text);
        self.shared.status().last_error = Some(text);
    }

    /// The module has failed by its own fault: the restart policy says what follows.
    pub(super) fn fail(&mut self, reason: &str) {
        if self.roll_back(None, reason) {
            return;
        }
        self.instance = None;
        match self.failures.failed(self.version.settings.restart, &self.backoff, Moment::now()) {
            Verdict::Wait(wait) => self.restart_after(wait, reason),
            Verdict::GiveUp(why) => {
                self.log.host(LogLevel::Error, &format!("failed: {reason}; {why}"));
                self.exited(reason);
                self.show(RuntimeStatus::Failed, &format!("{reason}; {why}"));
                self.phase = Phase::Idle;
            }
        }
    }

    pub(super) fn restart_after(&mut self, wait: Duration, reason: &str) {
        self.log.host(
            LogLevel::Error,
            &format!("failed: {reason}; it is started again in {} ms", wait.as_millis()),
        );
        self.exited(reason);
        self.shared.status().restarts += 1;
        self.show(RuntimeStatus::Backoff, reason);
        self.phase = if wait.is_zero() { Phase::Starting } else { Phase::Backoff(Moment::now() + wait) };
        self.attempts.retry_at = None;
    }

    fn exited(&self, reason: &str) {
        let mut status = self.shared.status();
        status.last_error = Some(reason.to_owned());
        status.last_exit = Some(now());
        status.memory_bytes = 0;
    }
}
