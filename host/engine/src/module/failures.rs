//! When a module that failed is started again, and when it is given up. Pure: the time comes in.

use crate::config::Backoff;
use crate::settings::RestartPolicy;
use std::time::{Duration, Instant};

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start again after this time.
    Wait(Duration),
    /// Do not start again; the text says why.
    GiveUp(String),
}

/// The failures of a module since it was last healthy.
#[derive(Debug, Default)]
pub(super) struct Failures {
    restarts: u32,
    running_since: Option<Instant>,
    dead_in_a_row: u32,
}

impl Failures {
    /// The module runs.
    pub(super) fn started(&mut self, now: Instant) {
        self.running_since = Some(now);
    }

    /// A message was handled: the module can do its work.
    pub(super) fn message_done(&mut self) {
        self.dead_in_a_row = 0;
    }

    /// A message was given up because each attempt cost an instance. Says whether that is the module's own failure:
    /// the first in a row is the message's fault, further ones without a success between are the module's.
    pub(super) fn message_given_up(&mut self) -> bool {
        self.dead_in_a_row += 1;
        self.dead_in_a_row > 1
    }

    /// The module has failed.
    pub(super) fn failed(&mut self, policy: RestartPolicy, backoff: &Backoff, now: Instant) -> Verdict {
        if self.running_since.take().is_some_and(|since| now - since >= backoff.healthy_after) {
            self.restarts = 0;
        }
        if policy == RestartPolicy::Never {
            return Verdict::GiveUp("its restart policy is \"never\"".to_owned());
        }
        if self.restarts >= backoff.restarts_max {
            return Verdict::GiveUp(format!(
                "it was restarted {} times and failed again; mend it and put the new file in place, or `holdfast \
                 restart` it",
                self.restarts
            ));
        }
        let wait = doubled(backoff.base, self.restarts, backoff.max);
        self.restarts += 1;
        Verdict::Wait(wait)
    }

    /// An operator or a new file: all is forgiven.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// `base` doubled `times` times, at most `max`.
pub(super) fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    base.checked_mul(factor).map_or(max, |wait| wait.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_are_those_of_iot_edge_and_the_twenty_first_failure_is_the_last() {
        let now = Instant::now();
        let mut failures = Failures::default();
        let mut waits = Vec::new();
        let end = loop {
            match failures.failed(RestartPolicy::OnUnhealthy, &Backoff::default(), now) {
                Verdict::Wait(wait) => waits.push(wait.as_secs()),
                Verdict::GiveUp(why) => break why,
            }
        };
        assert_eq!(waits[..6], [10, 20, 40, 80, 160, 300]);
        assert_eq!(waits.len(), 20);
        assert_eq!(waits[19], 300);
        assert!(end.contains("20 times"), "{end}");
    }

    #[test]
    fn ten_healthy_minutes_clear_the_count() {
        let (backoff, mut now) = (Backoff::default(), Instant::now());
        let mut failures = Failures::default();
        for expected in [10, 20, 10] {
            assert_eq!(
                failures.failed(RestartPolicy::Always, &backoff, now),
                Verdict::Wait(Duration::from_secs(expected))
            );
            failures.started(now);
            now += if expected == 20 { backoff.healthy_after } else { Duration::from_secs(599) };
        }
    }

    #[test]
    fn never_means_never() {
        let verdict = Failures::default().failed(RestartPolicy::Never, &Backoff::default(), Instant::now());
        assert!(matches!(verdict, Verdict::GiveUp(why) if why.contains("never")));
    }

    #[test]
    fn one_bad_message_is_not_the_modules_fault_two_in_a_row_are() {
        let mut failures = Failures::default();
        assert!(!failures.message_given_up());
        failures.message_done();
        assert!(!failures.message_given_up());
        assert!(failures.message_given_up());
    }
}
