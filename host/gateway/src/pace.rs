//! How many messages a client may send each second.

use std::time::{Duration, Instant};

/// A client may save up the messages of one second; then it is read from as fast as the bound says.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: Option<u32>,
    /// Messages that may come at once. Below 0 when a whole read went over it.
    credit: f64,
    refilled: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u32>, now: Instant) -> Self {
        Self { per_second, credit: per_second.map_or(0.0, f64::from), refilled: now }
    }

    pub(crate) fn spend(&mut self, messages: usize, now: Instant) {
        if self.per_second.is_some() {
            self.refill(now);
            self.credit -= messages as f64;
        }
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        let Some(rate) = self.per_second.map(f64::from) else { return };
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.credit = (self.credit + elapsed * rate).min(rate);
        self.refilled = now;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.per_second.is_some() && self.credit < 1.0
    }

    /// When the client may go on, if it may not now.
    pub(crate) fn resume(&self) -> Option<Instant> {
        let rate = f64::from(self.per_second.filter(|_| self.is_over())?.max(1));
        let wait = Duration::try_from_secs_f64((1.0 - self.credit) / rate).ok()?;
        self.refilled.checked_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_when_its_second_is_used_up_and_goes_on_at_its_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(10), start);
        pace.spend(9, start);
        assert!(!pace.is_over());
        pace.spend(6, start);
        assert!(pace.is_over());
        let resume = pace.resume().unwrap();
        assert_eq!(resume.duration_since(start).as_millis(), 600);
        pace.refill(resume + Duration::from_millis(1));
        assert!(!pace.is_over());
        let mut free = Pace::new(None, start);
        free.spend(1_000_000, start);
        assert!(!free.is_over());
    }
}
