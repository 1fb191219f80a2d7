//! How much is kept under way: what the path carries in its own round trip, and little more.
//!
//! A path is known by two numbers: the rate at which it delivers, and the time that one packet takes there and back when
//! nothing waits. Their product is what is under way without a queue anywhere; what is more waits in some router, and
//! everything that is sent later waits behind it, however urgent it is. So the window is that product with a quarter of
//! the round trip on top, which finds out when the path has become faster, and [`SLACK`] for clocks and gathered
//! acknowledgements. The rate is the highest of the last rounds, measured as BBR does (draft-cheng-iccrg-delivery-rate-estimation);
//! the round trip is the shortest of the last ten seconds, for which the window is made small for a moment now and then.
//!
//! A loss is not taken for congestion, unless there are many: then the window is the bare product for some rounds. After a
//! time in which nothing came through everything is learned anew.
//!
//! It does no pacing of its own: quinn sends a window in four fifths of a round trip.

mod measure;

use measure::{Delivery, Rate, RoundTrip};
use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

/// Packets before anything is known: 19 kB, which a path of 400 kB/s carries in 50 ms.
const FIRST_PACKETS: u64 = 16;

/// Packets that may always be under way: enough for three acknowledgements that tell of a loss.
const PACKETS_MIN: u64 = 4;

/// Packets beside the product: one that is being sent, and two for which one acknowledgement comes.
const PACKETS_BESIDE: u64 = 3;

/// Time beside the round trip: clocks of milliseconds, and processes that wait for their turn.
const SLACK: Duration = Duration::from_millis(10);

/// Rounds that a look takes once little is under way: the first is of packets that were sent before.
const LOOK_ROUNDS: u8 = 2;

/// Part of the round trip that is kept under way in a look when it may be much shorter than it is taken to be. Else it is half.
const DOUBTFUL_PART: u32 = 8;

/// Rounds without a quarter more than before, after which the path is taken to be full.
const FULL_AFTER: u8 = 3;

/// One lost of so many is much, from [`LOSSES_MIN`] packets in a round on.
const MUCH_LOST: u64 = 12;
const LOSSES_MIN: u64 = 3;

/// Rounds with the bare product after one that lost much.
const CAREFUL_ROUNDS: u8 = 8;

/// Makes a controller for each path.
#[derive(Debug)]
pub(super) struct Congestion;

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Flow::new(now, u64::from(current_mtu)))
    }
}

/// What is known of one path.
#[derive(Clone, Debug)]
struct Flow {
    mtu: u64,
    window: u64,
    phase: Phase,
    delivery: Delivery,
    rate: Rate,
    round_trip: RoundTrip,
    /// Bytes that were lost in this round.
    lost: u64,
    /// Bytes that were delivered before this round.
    delivered_before: u64,
    /// Rounds that go on with the bare product.
    careful: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The window doubles with each round, until the rate no longer follows.
    Starting {
        best: u64,
        full: u8,
    },
    Steady,
    /// Little is under way, to see the round trip without a queue; so many rounds of that are over.
    Looking {
        rounds: Option<u8>,
    },
}

impl Flow {
    fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            window: FIRST_PACKETS * mtu,
            phase: Phase::Starting { best: 0, full: 0 },
            delivery: Delivery::new(now),
            rate: Rate::new(now),
            round_trip: RoundTrip::new(now),
            lost: 0,
            delivered_before: 0,
            careful: 0,
        }
    }

    fn floor(&self) -> u64 {
        PACKETS_MIN * self.mtu
    }

    /// What is under way in a time at the rate of the path.
    fn carried_in(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate.get()) * time.as_micros() / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The longest round trip that what is under way explains.
    fn explained(&self) -> Duration {
        self.round_trip.least() * 5 / 4 + SLACK
    }

    fn target(&self) -> u64 {
        let time = if self.careful > 0 { self.round_trip.least() } else { self.explained() };
        self.carried_in(time) + PACKETS_BESIDE * self.mtu
    }

    fn acknowledged(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Some(sample) = self.delivery.measure(now, in_flight) else { return };
        self.round_trip.saw(sample.round_trip, now);
        // What was too quick for a round trip says nothing; what had nothing to send says only that so much is possible.
        let counts = sample.interval >= self.round_trip.least();
        if counts && (!app_limited || sample.rate() > self.rate.get()) {
            self.rate.offer(sample.rate());
        }
        if sample.ends_round {
            self.round_ends(now, app_limited);
        }
        if self.phase == (Phase::Looking { rounds: None }) && in_flight <= self.window {
            self.phase = Phase::Looking { rounds: Some(0) };
            self.round_trip.begin_round();
        }
        match self.phase {
            // Packets that wait already show that there is enough.
            Phase::Starting { .. } if !app_limited && sample.round_trip <= self.explained() => {
                self.window += sample.arrived;
            }
            Phase::Starting { .. } | Phase::Looking { .. } => {}
            Phase::Steady => self.window = self.target().min(self.window + sample.arrived),
        }
        self.window = self.window.max(self.floor());
    }

    fn round_ends(&mut self, now: Instant, app_limited: bool) {
        let shortest = self.round_trip.shortest;
        let arrived =
            self.delivery.bytes - std::mem::replace(&mut self.delivered_before, self.delivery.bytes);
        let lost = std::mem::take(&mut self.lost);
        let much_lost = lost >= LOSSES_MIN * self.mtu && lost * MUCH_LOST > lost + arrived;
        self.careful = if much_lost { CAREFUL_ROUNDS } else { self.careful.saturating_sub(1) };
        match self.phase {
            Phase::Starting { best, full } if !app_limited => {
                let rate = self.rate.get();
                let grew = rate > best + best / 4;
                let full = if grew { 0 } else { full + 1 };
                self.phase = if full >= FULL_AFTER || much_lost || shortest > self.explained() {
                    Phase::Steady
                } else {
                    Phase::Starting { best: if grew { rate } else { best }, full }
                };
            }
            Phase::Steady if !app_limited => {
                self.round_trip.was_long(shortest > self.explained() * 3 / 2);
                if self.round_trip.is_due(now) {
                    let part = if self.round_trip.is_sure() { 2 } else { DOUBTFUL_PART };
                    self.window = self.carried_in(self.round_trip.least() / part);
                    self.phase = Phase::Looking { rounds: None };
                }
            }
            Phase::Looking { rounds: Some(rounds) } if rounds + 1 < LOOK_ROUNDS => {
                self.phase = Phase::Looking { rounds: Some(rounds + 1) };
            }
            Phase::Looking { rounds: Some(_) } => {
                self.round_trip.is_found(now);
                self.phase = Phase::Steady;
            }
            Phase::Starting { .. } | Phase::Steady | Phase::Looking { rounds: None } => {}
        }
        if !matches!(self.phase, Phase::Looking { .. }) {
            self.round_trip.begin_round();
        }
        if !app_limited {
            self.rate.next_round(now);
        }
    }

    /// Losses became known: so many bytes, or a router says that its queue grows.
    fn missed(&mut self, now: Instant, is_persistent: bool, lost_bytes: u64) {
        if is_persistent {
            *self = Self { window: self.floor(), ..Self::new(now, self.mtu) };
        } else if lost_bytes == 0 {
            self.careful = CAREFUL_ROUNDS;
        } else {
            self.lost += lost_bytes;
        }
    }
}

impl Controller for Flow {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        self.delivery.sent(now);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.delivery.arrived(now, sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.acknowledged(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.missed(now, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(self.floor());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
