//! How fast a module may go: its share of a processor, messages and bytes per second.
//!
//! A module that goes faster is slowed, not refused: its messages wait in their log. Each rate is a bucket that holds a
//! short burst; what is spent beyond it is a debt, and the module rests until it is paid.

use crate::config::Limits;
use crate::status::Shared;
use holdfast_broker::Delivery;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much more than its share a module may use at once: a burst of messages after a quiet time is no flood.
const CPU_BURST: Duration = Duration::from_millis(500);

/// How many messages and bytes may come or go at once: those of one second.
const BURST: Duration = Duration::from_secs(1);

/// The longest debt that one spending can make, so that a mistake in a setting does not stop a module for ever.
const DEBT_MAX: Duration = Duration::from_secs(3_600);

const NANOS: u64 = 1_000_000_000;

/// So much per second, and a burst. Pure: the time comes in.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    burst: Duration,
    /// Until when everything that was spent is paid.
    paid: Instant,
}

impl Bucket {
    pub(crate) const fn new(per_second: u64, burst: Duration, now: Instant) -> Self {
        Self { per_second, burst, paid: now }
    }

    fn cost(&self, n: u64) -> Duration {
        let nanos = u128::from(n) * u128::from(NANOS) / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(DEBT_MAX)
    }

    /// Spends, also what is not there.
    pub(crate) fn spend(&mut self, n: u64, now: Instant) {
        if n > 0 {
            self.paid = self.paid.max(now) + self.cost(n);
        }
    }

    /// Spends if all of it is there.
    pub(crate) fn try_spend(&mut self, n: u64, now: Instant) -> bool {
        let paid = self.paid.max(now) + self.cost(n);
        let is_there = self.per_second > 0 && paid <= now + self.burst;
        if is_there {
            self.paid = paid;
        }
        is_there
    }

    /// How long until the debt is paid.
    fn wait(&self, now: Instant) -> Duration {
        self.paid.saturating_duration_since(now + self.burst)
    }

    /// How much may be spent without a debt.
    fn room(&self, now: Instant) -> u64 {
        let left = (now + self.burst).saturating_duration_since(self.paid.max(now));
        let room = left.as_nanos() * u128::from(self.per_second) / u128::from(NANOS);
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    /// The same debt at another rate.
    fn set_rate(&mut self, per_second: u64) {
        self.per_second = per_second;
    }
}

/// What a turn has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
}

impl Used {
    /// A message was taken out of the inbox.
    pub(crate) fn takes(&mut self, delivery: &Delivery) {
        self.messages_in += 1;
        self.bytes_in += delivery.envelope.message.size_bytes() as u64;
    }
}

/// Why a module rests, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) time: Duration,
    /// The setting that says so.
    pub(crate) limit: &'static str,
    pub(crate) text: String,
}

/// The rates of a module, shared by its instances.
pub(crate) struct Pace {
    rates: Mutex<Rates>,
    shared: Arc<Shared>,
}

struct Rates {
    limits: Limits,
    cpu: Bucket,
    messages_in: Bucket,
    bytes_in: Bucket,
    messages_out: Bucket,
    bytes_out: Bucket,
}

/// Nanoseconds of a processor per second.
const fn cpu_rate(limits: &Limits) -> u64 {
    limits.cpu_percent as u64 * (NANOS / 100)
}

impl Pace {
    pub(crate) fn new(limits: Limits, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let rates = Rates {
            limits,
            cpu: Bucket::new(cpu_rate(&limits), CPU_BURST, now),
            messages_in: Bucket::new(limits.messages_in_per_s.into(), BURST, now),
            bytes_in: Bucket::new(limits.bytes_in_per_s, BURST, now),
            messages_out: Bucket::new(limits.messages_out_per_s.into(), BURST, now),
            bytes_out: Bucket::new(limits.bytes_out_per_s, BURST, now),
        };
        Self { rates: Mutex::new(rates), shared }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another version has other limits.
    pub(crate) fn set(&self, limits: Limits) {
        let mut rates = self.rates();
        rates.limits = limits;
        rates.cpu.set_rate(cpu_rate(&limits));
        rates.messages_in.set_rate(limits.messages_in_per_s.into());
        rates.bytes_in.set_rate(limits.bytes_in_per_s);
        rates.messages_out.set_rate(limits.messages_out_per_s.into());
        rates.bytes_out.set_rate(limits.bytes_out_per_s);
    }

    /// Notes what a turn has moved.
    pub(crate) fn moved(&self, used: Used, now: Instant) {
        let mut rates = self.rates();
        rates.messages_in.spend(used.messages_in, now);
        rates.bytes_in.spend(used.bytes_in, now);
        rates.messages_out.spend(used.messages_out, now);
        rates.bytes_out.spend(used.bytes_out, now);
    }

    fn computed(&self, time: Duration, now: Instant) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.rates().cpu.spend(nanos, now);
        self.shared.cpu().add(time, now);
    }

    /// How many messages may be taken into a turn.
    pub(crate) fn messages(&self, most: u32, now: Instant) -> u32 {
        let room = self.rates().messages_in.room(now);
        u32::try_from(room).unwrap_or(u32::MAX).clamp(1, most.max(1))
    }

    /// Whether the module must rest, and why.
    pub(crate) fn hold(&self, now: Instant) -> Option<Hold> {
        let rates = self.rates();
        let all = [
            (&rates.cpu, "limits.cpu_percent"),
            (&rates.messages_in, "limits.messages_in_per_s"),
            (&rates.bytes_in, "limits.bytes_in_per_s"),
            (&rates.messages_out, "limits.messages_out_per_s"),
            (&rates.bytes_out, "limits.bytes_out_per_s"),
        ];
        let (time, limit) =
            all.into_iter().map(|(bucket, limit)| (bucket.wait(now), limit)).max_by_key(|(time, _)| *time)?;
        if time.is_zero() {
            return None;
        }
        let limits = &rates.limits;
        let text = match limit {
            "limits.cpu_percent" => {
                format!("it computes more than {} % of the time of one processor", limits.cpu_percent)
            }
            "limits.messages_in_per_s" => {
                format!("it handles more than {} messages per second", limits.messages_in_per_s)
            }
            "limits.bytes_in_per_s" => {
                format!("it handles more than {} bytes per second", limits.bytes_in_per_s)
            }
            "limits.messages_out_per_s" => {
                format!("it sends more than {} messages per second", limits.messages_out_per_s)
            }
            _ => format!("it sends more than {} bytes per second", limits.bytes_out_per_s),
        };
        let text = format!("slowed: {text}; raise {limit} in the module's .toml if it needs more");
        Some(Hold { time, limit, text })
    }
}

/// Measures the time that one instance computes. Clones measure the same.
#[derive(Clone)]
pub(crate) struct Meter {
    pace: Arc<Pace>,
    /// Since when it computes, if it does.
    since: Arc<Mutex<Option<Instant>>>,
}

impl Meter {
    pub(crate) fn new(pace: &Arc<Pace>) -> Self {
        Self { pace: pace.clone(), since: Arc::default() }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It computes from now on.
    pub(crate) fn resumed(&self, now: Instant) {
        *self.since() = Some(now);
    }

    /// It no longer does: what it used is counted.
    pub(crate) fn paused(&self, now: Instant) {
        if let Some(since) = self.since().take() {
            self.pace.computed(now - since, now);
        }
    }

    /// It still computes: counts what it used, and says whether it must rest.
    pub(crate) fn still(&self, now: Instant) -> Option<Hold> {
        self.paused(now);
        self.resumed(now);
        self.pace.hold(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(10, Duration::from_secs(1), start);
        assert_eq!((0..20).filter(|_| bucket.try_spend(1, start)).count(), 10);
        assert_eq!((0..20).filter(|_| bucket.try_spend(1, at(500))).count(), 5);
        assert_eq!(bucket.room(at(700)), 2);
        bucket.spend(12, at(700));
        assert_eq!(bucket.wait(at(700)), Duration::from_secs(1));
        assert_eq!(bucket.wait(at(1_700)), Duration::ZERO);
        assert!(!bucket.try_spend(11, at(100_000)), "more than a burst at once");
        assert!(!Bucket::new(0, Duration::from_secs(1), start).try_spend(1, start), "none is none");
        bucket.spend(u64::MAX, at(200_000));
        assert!(bucket.wait(at(200_000)) <= DEBT_MAX);
    }
}
