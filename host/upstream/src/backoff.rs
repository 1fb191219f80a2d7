//! How long to wait before the next attempt.

use std::time::Duration;

/// Bounds of the back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first delay. The default is 1 s.
    pub min: Duration,
    /// The longest delay. The default is 60 s: a broker that is back has its edges back within a minute.
    pub max: Duration,
    /// How long a connection must live before the delays start over. The default is 10 s. One that ends sooner is a
    /// link that flaps, and is not dialled ever faster.
    pub stable_after: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The longest delay where nobody answers. It is most often the edge's own network that is gone, and whoever is not there is
/// not burdened by attempts.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Doubles from `min` to `max`. Each delay is drawn between its half and its whole, so that many edges which lost the
/// same broker do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    config: BackoffConfig,
    next: Duration,
}

impl Backoff {
    /// At the first delay.
    pub fn new(config: BackoffConfig) -> Self {
        Self { config, next: config.min }
    }

    /// The delay after one more attempt that failed. `random` is any number, evenly spread.
    pub fn failed(&mut self, random: u32) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.config.max);
        jittered(whole, random)
    }

    /// The delay after one more attempt that nobody answered.
    pub fn unanswered(&mut self, random: u32) -> Duration {
        self.failed(random).min(jittered(SILENCE_MAX.max(self.config.min), random))
    }

    /// The delay after a connection that lived for `lived` and then ended.
    pub fn ended(&mut self, lived: Duration, random: u32) -> Duration {
        if lived >= self.config.stable_after {
            self.next = self.config.min;
        }
        self.failed(random)
    }
}

fn jittered(whole: Duration, random: u32) -> Duration {
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn delays_double_up_to_the_longest_and_a_stable_connection_starts_over() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let delays: Vec<_> = (0..8).map(|_| backoff.failed(u32::MAX).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.ended(S(9), u32::MAX), S(60), "it flaps");
        assert_eq!(backoff.ended(S(10), u32::MAX), S(1));
        assert_eq!(backoff.ended(S(1), u32::MAX), S(2), "it flaps");
    }

    #[test]
    fn where_nobody_answers_the_delay_stays_short() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let delays: Vec<_> = (0..6).map(|_| backoff.unanswered(u32::MAX).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.failed(u32::MAX), S(60), "who refuses is left alone as long as before");
        assert_eq!(backoff.unanswered(0), S(5), "drawn between its half and its whole");
    }

    #[test]
    fn a_delay_lies_between_its_half_and_its_whole() {
        for random in [0, 1, u32::MAX / 3, u32::MAX] {
            let delay = Backoff::new(BackoffConfig { min: S(8), ..BackoffConfig::default() }).failed(random);
            assert!(delay >= S(4) && delay <= S(8), "{delay:?}");
        }
    }
}
