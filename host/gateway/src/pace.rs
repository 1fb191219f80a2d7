//! How much a client may send each second.

use std::time::{Duration, Instant};

/// What a client may send. It may save up one second; then it is read from as fast as the bound says.
#[derive(Debug)]
pub(crate) struct Pace {
    messages: Option<Allowance>,
    bytes: Option<Allowance>,
    refilled: Instant,
}

#[derive(Debug)]
struct Allowance {
    per_second: f64,
    /// What may come at once. Below 0 when a whole read went over it.
    credit: f64,
}

impl Allowance {
    fn new(per_second: f64) -> Self {
        let per_second = per_second.max(1.0);
        Self { per_second, credit: per_second }
    }

    fn is_over(&self) -> bool {
        self.credit < 1.0
    }

    fn wait(&self) -> Option<Duration> {
        let wait = || Duration::try_from_secs_f64((1.0 - self.credit) / self.per_second).ok();
        self.is_over().then(wait).flatten()
    }
}

impl Pace {
    pub(crate) fn new(messages: Option<u32>, bytes: Option<u64>, now: Instant) -> Self {
        let messages = messages.map(|rate| Allowance::new(f64::from(rate)));
        Self { messages, bytes: bytes.map(|rate| Allowance::new(rate as f64)), refilled: now }
    }

    fn both(&self) -> impl Iterator<Item = &Allowance> {
        self.messages.iter().chain(&self.bytes)
    }

    /// Counts what came. Says whether the client has to wait from now on.
    pub(crate) fn spend(&mut self, messages: usize, bytes: usize, now: Instant) -> bool {
        let before = self.is_over();
        self.refill(now);
        for (allowance, spent) in [(&mut self.messages, messages), (&mut self.bytes, bytes)] {
            allowance.iter_mut().for_each(|allowance| allowance.credit -= spent as f64);
        }
        !before && self.is_over()
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        for one in self.messages.iter_mut().chain(&mut self.bytes) {
            one.credit = (one.credit + elapsed * one.per_second).min(one.per_second);
        }
        self.refilled = now;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.both().any(Allowance::is_over)
    }

    /// When the client may go on, if it may not now.
    pub(crate) fn resume(&self) -> Option<Instant> {
        self.refilled.checked_add(self.both().filter_map(Allowance::wait).max()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_when_its_second_is_used_up_and_goes_on_at_its_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(10), None, start);
        assert!(!pace.spend(9, 1_000_000, start));
        assert!(pace.spend(6, 0, start));
        assert!(!pace.spend(0, 0, start), "it waits already");
        let resume = pace.resume().unwrap();
        assert_eq!(resume.duration_since(start).as_millis(), 600);
        pace.refill(resume + Duration::from_millis(1));
        assert!(!pace.is_over());
        let mut free = Pace::new(None, None, start);
        assert!(!free.spend(1_000_000, 1_000_000, start) && free.resume().is_none());
    }

    #[test]
    fn messages_and_bytes_are_bounded_each_for_itself_and_the_longer_wait_counts() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(10), Some(1000), start);
        assert!(!pace.spend(1, 900, start));
        assert!(pace.spend(1, 2100, start), "a packet may be larger than a second's bytes");
        assert_eq!(pace.resume().unwrap().duration_since(start).as_millis(), 2001);
        pace.spend(10, 0, start);
        assert_eq!(pace.resume().unwrap().duration_since(start).as_millis(), 2001);
    }
}
