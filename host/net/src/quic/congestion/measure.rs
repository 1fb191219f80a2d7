//! What is measured of a path: how fast it delivers, and how long one packet takes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Rounds of which the fastest counts.
const ROUNDS: usize = 10;

/// The shortest time that counts as a round there: within a machine a round trip is so short that a busy processor could
/// make ten of them slow.
const ROUND_MIN: Duration = Duration::from_millis(20);

/// How long the shortest round trip counts before it is looked for again.
const ROUND_TRIP_COUNTS: Duration = Duration::from_secs(10);

/// Rounds that all took long, after which it is looked for at once, and the time between two such looks.
const LONG_ROUNDS: u8 = 8;
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Most moments of sending that are remembered; beyond, the oldest give no measurement.
const SENT_MAX: usize = 4096;

/// What has been delivered, and what was so when each packet was sent.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// Bytes that were acknowledged.
    pub(super) bytes: u64,
    at: Instant,
    /// When the packet was sent that was acknowledged last.
    first_sent: Instant,
    is_idle: bool,
    sent: VecDeque<Sent>,
    newest: Option<Sent>,
    measured: u64,
    round_ends_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
}

/// What the acknowledgements that came together tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes that were delivered between the sending of the newest packet and now.
    bytes: u64,
    pub(super) interval: Duration,
    pub(super) round_trip: Duration,
    /// Bytes that came since the sample before.
    pub(super) arrived: u64,
    /// A packet that was sent after the last round's end has arrived.
    pub(super) ends_round: bool,
}

impl Sample {
    /// Bytes in a second.
    pub(super) fn rate(&self) -> u64 {
        let rate = u128::from(self.bytes) * 1_000_000 / self.interval.as_micros().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            at: now,
            first_sent: now,
            is_idle: true,
            sent: VecDeque::new(),
            newest: None,
            measured: 0,
            round_ends_at: 0,
        }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_idle) {
            (self.at, self.first_sent) = (now, now);
        }
        // What leaves in one moment is told of once.
        if self.sent.back().is_some_and(|last| last.at >= now) {
            return;
        }
        if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at: now,
            delivered: self.bytes,
            delivered_at: self.at,
            first_sent: self.first_sent,
        });
    }

    pub(super) fn arrived(&mut self, now: Instant, sent: Instant, bytes: u64) {
        (self.bytes, self.at) = (self.bytes + bytes, now);
        let place = self.sent.partition_point(|moment| moment.at < sent);
        if let Some(found) = self.sent.get(place).filter(|moment| moment.at == sent)
            && self.newest.is_none_or(|newest| newest.at < sent)
        {
            self.newest = Some(*found);
        }
    }

    /// All that came together has been told. Gives nothing if it was only what is older than what came before.
    pub(super) fn measure(&mut self, now: Instant, in_flight: u64) -> Option<Sample> {
        self.is_idle = in_flight == 0;
        let newest = self.newest.take()?;
        self.first_sent = newest.at;
        while self.sent.front().is_some_and(|moment| moment.at <= newest.at) {
            self.sent.pop_front();
        }
        let sending = newest.at.saturating_duration_since(newest.first_sent);
        let arriving = now.saturating_duration_since(newest.delivered_at);
        let ends_round = newest.delivered >= self.round_ends_at;
        if ends_round {
            self.round_ends_at = self.bytes;
        }
        let arrived = self.bytes - std::mem::replace(&mut self.measured, self.bytes);
        Some(Sample {
            bytes: self.bytes - newest.delivered,
            interval: sending.max(arriving),
            round_trip: now.saturating_duration_since(newest.at),
            arrived,
            ends_round,
        })
    }
}

/// The highest rate of delivery of the last rounds.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    best: [u64; ROUNDS],
    since: Instant,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { best: [0; ROUNDS], since: now }
    }

    pub(super) fn get(&self) -> u64 {
        self.best.into_iter().max().unwrap_or(0)
    }

    pub(super) fn offer(&mut self, rate: u64) {
        if let Some(this_round) = self.best.first_mut() {
            *this_round = (*this_round).max(rate);
        }
    }

    pub(super) fn next_round(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < ROUND_MIN {
            return;
        }
        self.since = now;
        self.best.rotate_right(1);
        if let Some(this_round) = self.best.first_mut() {
            *this_round = 0;
        }
    }
}

/// The shortest round trip, which is that of a path without a queue.
#[derive(Clone, Debug)]
pub(super) struct RoundTrip {
    least: Option<Duration>,
    since: Instant,
    looked: Instant,
    /// The shortest of this round.
    pub(super) shortest: Duration,
    long_rounds: u8,
    /// What was found last is much longer than before: perhaps the path stood still, and what waited there was taken for it.
    is_doubtful: bool,
}

impl RoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            least: None,
            since: now,
            looked: now,
            shortest: Duration::MAX,
            long_rounds: 0,
            is_doubtful: false,
        }
    }

    /// None was seen: no time.
    pub(super) fn least(&self) -> Duration {
        self.least.unwrap_or_default()
    }

    pub(super) fn saw(&mut self, round_trip: Duration, now: Instant) {
        self.shortest = self.shortest.min(round_trip);
        if self.least.is_none_or(|least| round_trip <= least) {
            (self.least, self.since) = (Some(round_trip), now);
        }
    }

    pub(super) fn begin_round(&mut self) {
        self.shortest = Duration::MAX;
    }

    /// A round is over in which no packet was quicker than what is under way explains; or one was.
    pub(super) fn was_long(&mut self, is_long: bool) {
        self.long_rounds = if is_long { self.long_rounds.saturating_add(1) } else { 0 };
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > ROUND_TRIP_COUNTS
            || (!self.is_sure() && now.saturating_duration_since(self.looked) > LOOK_AFTER)
    }

    /// Whether what is known of it can be taken as a measure.
    pub(super) fn is_sure(&self) -> bool {
        self.long_rounds < LONG_ROUNDS && !self.is_doubtful
    }

    /// The shortest since the round began is what it is now.
    pub(super) fn is_found(&mut self, now: Instant) {
        self.is_doubtful = self.shortest > self.least() * 5 / 4;
        (self.least, self.since, self.looked, self.long_rounds) = (Some(self.shortest), now, now, 0);
    }
}
