//! The share of a processor that a module had lately. Pure: the time comes in.

use std::time::{Duration, Instant};

/// How many whole seconds are looked back on.
const SECONDS: usize = 10;

/// Time computed, by the second.
#[derive(Debug)]
pub(crate) struct Usage {
    began: Instant,
    /// The second that the newest slot is for.
    second: u64,
    slots: [Duration; SECONDS],
    total: Duration,
}

impl Usage {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { began: now, second: 0, slots: [Duration::ZERO; SECONDS], total: Duration::ZERO }
    }

    fn forward(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.began).as_secs();
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for n in 1..=passed {
            let at = (self.second + n) as usize % SECONDS;
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Duration::ZERO;
            }
        }
        // Slots further on than a whole round are all cleared, so which one is the newest does not matter.
        self.second = second.max(self.second);
    }

    pub(crate) fn add(&mut self, time: Duration, now: Instant) {
        self.forward(now);
        self.total += time;
        if let Some(slot) = self.slots.get_mut(self.second as usize % SECONDS) {
            *slot += time;
        }
    }

    /// All time so far.
    pub(crate) const fn total(&self) -> Duration {
        self.total
    }

    /// Thousandths of one processor over the last seconds.
    pub(crate) fn permille(&mut self, now: Instant) -> u32 {
        self.forward(now);
        let age = now.saturating_duration_since(self.began);
        let subsecond = Duration::from_nanos(age.subsec_nanos().into());
        let window = age.min(Duration::from_secs(SECONDS as u64 - 1) + subsecond);
        let used: Duration = self.slots.iter().sum();
        let permille = used.as_nanos() * 1_000 / window.as_nanos().max(1);
        u32::try_from(permille).unwrap_or(u32::MAX).min(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut usage = Usage::new(start);
        for second in 0..20 {
            usage.add(Duration::from_millis(250), at(second * 1_000 + 500));
        }
        assert_eq!(usage.permille(at(19_999)), 250);
        assert_eq!(usage.total(), Duration::from_secs(5));
        assert_eq!(usage.permille(at(60_000)), 0);
        usage.add(Duration::from_secs(9), at(60_500));
        assert!(usage.permille(at(60_500)) > 900);
    }
}
