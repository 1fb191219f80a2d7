//! A path of numbers: its clock is made of steps, so every run is the same.

use super::*;
use std::collections::VecDeque;

const MTU: u64 = 1400;
const STEP: Duration = Duration::from_micros(250);

/// What a path does.
#[derive(Clone, Copy)]
struct Path {
    rate: u64,
    /// There and back.
    round_trip: Duration,
    /// What its router holds before it drops.
    queue_bytes_max: u64,
    lost_of_1000: u64,
}

const PATH: Path = Path {
    rate: 400_000,
    round_trip: Duration::from_millis(50),
    queue_bytes_max: 128 << 10,
    lost_of_1000: 0,
};

struct Packet {
    number: u64,
    sent: Instant,
    /// When its acknowledgement is there; none if it is lost.
    arrives: Option<Instant>,
}

/// A sender with more than it can send, as quinn lets it.
struct Sender {
    flow: Flow,
    path: Path,
    now: Instant,
    free_at: Instant,
    under_way: VecDeque<Packet>,
    next: u64,
    tokens: u64,
    smoothed: Duration,
    dice: u64,
    delivered: u64,
    waits: Vec<Duration>,
}

/// What was seen in a time.
struct Seen {
    /// Of what the path could carry.
    carried: f64,
    /// How long packets waited in the router: 19 of 20 shorter.
    waited: Duration,
}

impl Sender {
    fn over(path: Path) -> Self {
        let now = Instant::now();
        Self {
            flow: Flow::new(now, MTU),
            path,
            now,
            free_at: now,
            under_way: VecDeque::new(),
            next: 0,
            tokens: 10 * MTU,
            smoothed: Duration::from_millis(100),
            dice: 0x5eed,
            delivered: 0,
            waits: Vec::new(),
        }
    }

    fn in_flight(&self) -> u64 {
        MTU * self.under_way.len() as u64
    }

    fn send(&mut self) {
        let refill = self.flow.window as f64 * 1.25 * STEP.as_secs_f64() / self.smoothed.as_secs_f64();
        self.tokens = (self.tokens + refill as u64).min(10 * MTU);
        while self.in_flight() + MTU < self.flow.window && self.tokens >= MTU {
            self.tokens -= MTU;
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            let waits = self.free_at.saturating_duration_since(self.now);
            let is_lost = self.dice % 1000 < self.path.lost_of_1000
                || waits.as_secs_f64() * self.path.rate as f64 > self.path.queue_bytes_max as f64;
            let arrives = (!is_lost).then(|| {
                self.waits.push(waits);
                self.free_at =
                    self.free_at.max(self.now) + Duration::from_secs_f64(MTU as f64 / self.path.rate as f64);
                self.free_at + self.path.round_trip
            });
            self.under_way.push_back(Packet { number: self.next, sent: self.now, arrives });
            self.next += 1;
            self.flow.delivery.sent(self.now);
        }
    }

    fn receive(&mut self) {
        let mut highest = None;
        let mut left = VecDeque::new();
        for packet in std::mem::take(&mut self.under_way) {
            if packet.arrives.is_some_and(|at| at <= self.now) {
                highest = Some(packet.number);
                self.delivered += MTU;
                self.smoothed = (self.smoothed * 7 + (self.now - packet.sent)) / 8;
                self.flow.delivery.arrived(self.now, packet.sent, MTU);
            } else {
                left.push_back(packet);
            }
        }
        self.under_way = left;
        let Some(highest) = highest else { return };
        self.flow.acknowledged(self.now, self.in_flight(), false);
        let before = self.under_way.len();
        self.under_way.retain(|packet| packet.number + 3 > highest);
        let lost = (before - self.under_way.len()) as u64;
        if lost > 0 {
            self.flow.missed(self.now, false, lost * MTU);
        }
    }

    fn runs(&mut self, time: Duration) -> Seen {
        let (end, before) = (self.now + time, self.delivered);
        self.waits.clear();
        while self.now < end {
            self.now += STEP;
            self.receive();
            self.send();
        }
        self.waits.sort_unstable();
        let carried = (self.delivered - before) as f64 / (self.path.rate as f64 * time.as_secs_f64());
        Seen { carried, waited: self.waits[self.waits.len() * 19 / 20] }
    }
}

#[test]
fn what_is_under_way_fills_the_path_and_not_the_router() {
    for (rate, round_trip_ms) in
        [(100_000, 100), (400_000, 50), (400_000, 5), (5_000_000, 50), (5_000_000, 300)]
    {
        let round_trip = Duration::from_millis(round_trip_ms);
        let mut sender = Sender::over(Path { rate, round_trip, queue_bytes_max: 1 << 22, ..PATH });
        sender.runs(Duration::from_secs(5));
        let seen = sender.runs(Duration::from_secs(12));
        let packets = Duration::from_secs_f64((PACKETS_BESIDE * MTU) as f64 / rate as f64);
        println!("{rate} B/s, {round_trip:?}: {:.3} carried, {:?} waited", seen.carried, seen.waited);
        assert!(seen.carried > 0.95, "{rate} B/s, {round_trip:?}: {}", seen.carried);
        assert!(
            seen.waited <= round_trip * 2 / 5 + SLACK * 2 + packets,
            "{rate} B/s, {round_trip:?}: {:?}",
            seen.waited
        );
    }
}

#[test]
fn the_beginning_fills_the_router_for_no_longer_than_a_few_round_trips() {
    let mut sender = Sender::over(PATH);
    sender.runs(Duration::from_secs(1));
    let longest = sender.waits.iter().max().unwrap();
    assert!(*longest < Duration::from_millis(150), "{longest:?}");
}

#[test]
fn single_losses_are_not_taken_for_congestion() {
    for lost_of_1000 in [5, 20, 50] {
        let mut sender = Sender::over(Path { lost_of_1000, rate: 2_000_000, ..PATH });
        sender.runs(Duration::from_secs(2));
        let seen = sender.runs(Duration::from_secs(12));
        println!("{lost_of_1000} of 1000 lost: {:.3} carried, {:?} waited", seen.carried, seen.waited);
        assert!(seen.carried > 0.9, "{lost_of_1000} of 1000 lost: {}", seen.carried);
    }
}

#[test]
fn a_router_that_holds_next_to_nothing_is_not_flooded() {
    let mut sender = Sender::over(Path { queue_bytes_max: 4 * MTU, ..PATH });
    sender.runs(Duration::from_secs(5));
    let (sent, delivered) = (sender.next, sender.delivered);
    let seen = sender.runs(Duration::from_secs(30));
    let sent = (sender.next - sent) * MTU;
    let lost = 1.0 - (sender.delivered - delivered) as f64 / sent as f64;
    println!("{:.3} carried, {lost:.3} lost", seen.carried);
    assert!(seen.carried > 0.9 && lost < 0.1, "{} carried, {lost} lost", seen.carried);
}

#[test]
fn a_path_that_becomes_slower_faster_longer_or_shorter_is_learned_anew() {
    let mut sender = Sender::over(PATH);
    sender.runs(Duration::from_secs(5));
    for (rate, round_trip_ms) in
        [(100_000, 50), (2_000_000, 50), (2_000_000, 250), (2_000_000, 20), (400_000, 50)]
    {
        let round_trip = Duration::from_millis(round_trip_ms);
        sender.path = Path { rate, round_trip, ..PATH };
        sender.runs(Duration::from_secs(10));
        let seen = sender.runs(Duration::from_secs(20));
        println!("{rate} B/s, {round_trip:?}: {:.3} carried, {:?} waited", seen.carried, seen.waited);
        let least = sender.flow.round_trip.least();
        assert!(least >= round_trip && least < round_trip * 3 / 2 + SLACK, "{least:?} of {round_trip:?}");
        assert!(seen.carried > 0.93, "{rate} B/s, {round_trip:?}: {}", seen.carried);
    }
}

#[test]
fn a_path_that_stood_still_again_and_again_is_not_taken_for_a_long_one() {
    let mut sender = Sender::over(PATH);
    sender.runs(Duration::from_secs(5));
    for _ in 0..20 {
        sender.free_at = sender.free_at.max(sender.now) + Duration::from_millis(300);
        sender.runs(Duration::from_millis(350));
    }
    sender.runs(Duration::from_secs(4));
    let seen = sender.runs(Duration::from_secs(5));
    println!("{:.3} carried, {:?} waited", seen.carried, seen.waited);
    assert!(seen.waited < PATH.round_trip * 4 / 5, "{:?}", seen.waited);
}

#[test]
fn after_a_time_in_which_nothing_came_through_little_is_sent_until_more_is_known() {
    let mut sender = Sender::over(PATH);
    sender.runs(Duration::from_secs(5));
    sender.flow.missed(sender.now, true, 20 * MTU);
    assert_eq!((sender.flow.window, sender.flow.rate.get()), (PACKETS_MIN * MTU, 0));
    let seen = sender.runs(Duration::from_secs(5));
    assert!(seen.carried > 0.9, "{}", seen.carried);
}

#[test]
fn who_has_little_to_send_keeps_what_was_learned() {
    let mut sender = Sender::over(PATH);
    sender.runs(Duration::from_secs(5));
    let (window, now) = (sender.flow.window, sender.now);
    for n in 1..200 {
        let sent = now + Duration::from_millis(500) * n;
        sender.flow.delivery.sent(sent);
        let there = sent + PATH.round_trip + Duration::from_millis(3);
        sender.flow.delivery.arrived(there, sent, 100);
        sender.flow.acknowledged(there, 0, true);
    }
    assert!(sender.flow.window >= window * 9 / 10, "{} of {window}", sender.flow.window);
}
