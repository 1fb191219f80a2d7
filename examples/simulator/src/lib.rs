//! Numbered readings from a seed.
//!
//! Each reading carries its number, 1, 2, 3 and so on without a gap, also over restarts: the number and the reading
//! leave in one durable step. What reading `n` holds follows from the seed and `n` alone, so a receiver can check not
//! only that all came, but also that each is what was sent.

use holdfast_sdk::{
    Error, Failure, Message, Module, OrFail, Outgoing, Ports, clock, config, log, outbox, state, timers,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The number of the last reading that was sent.
const LAST: &str = "last";
const OUTPUT: &str = "readings";
/// Most readings per period: one call of the module must end within its time and its share of sends.
const BURST_MAX: u32 = 500;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What the values follow from.
    seed: u64,
    /// Time between two bursts.
    #[serde(with = "config::duration")]
    period: Duration,
    /// Readings in each burst.
    burst: u32,
    /// Stop after so many; 0 goes on for ever.
    count: u64,
    /// How many sensors take turns.
    sensors: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, period: Duration::from_secs(1), burst: 1, count: 0, sensors: 3 }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(PartialEq, Deserialize))]
struct Reading {
    number: u64,
    sensor: String,
    time: u64,
    temperature: f64,
    humidity: f64,
}

struct Simulator {
    settings: Settings,
}

impl Module for Simulator {
    const INPUTS: Ports = &[];
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        if settings.burst == 0 || settings.burst > BURST_MAX {
            return Err(Error::new(format!("configuration key \"burst\": give it 1 to {BURST_MAX}")));
        }
        if settings.sensors == 0 {
            return Err(Error::new("configuration key \"sensors\": give it at least 1"));
        }
        timers::every("send", settings.period)?;
        log::info!("{} readings each {:?} from seed {}", settings.burst, settings.period, settings.seed);
        Ok(Self { settings })
    }

    fn handle(&mut self, _input: &str, _message: Message) -> Result<(), Failure> {
        Err(Failure::reject("the simulator takes no messages; remove the route that leads to it"))
    }

    fn fire(&mut self, timer: &str) -> Result<(), Failure> {
        let mut last = state::json::<u64>(LAST)?.unwrap_or(0);
        for _ in 0..self.settings.burst {
            if self.settings.count > 0 && last >= self.settings.count {
                timers::cancel(timer);
                log::info!("all {} readings are sent", self.settings.count);
                break;
            }
            last = last.saturating_add(1);
            let reading = self.settings.reading(last, clock::now());
            let message =
                Outgoing::json(&reading)?.property("sensor", reading.sensor).message_id(last.to_string());
            outbox::send(OUTPUT, message).or_retry()?;
        }
        Ok(state::set_json(LAST, &last)?)
    }
}

holdfast_sdk::module!(Simulator);

impl Settings {
    /// Reading `number`: each sensor has a slow wave of its own, and some noise.
    fn reading(&self, number: u64, time: u64) -> Reading {
        let sensor = number % u64::from(self.sensors) + 1;
        let mut random = SplitMix(self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let phase = (number as f64) / 120.0 + (sensor as f64) * 2.1;
        Reading {
            number,
            sensor: format!("sensor-{sensor}"),
            time,
            temperature: hundredths(22.0 + 8.0 * phase.sin() + random.spread(0.5)),
            humidity: hundredths(45.0 - 10.0 * phase.sin() + random.spread(1.5)),
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// SplitMix64 (Steele, Lea and Flood, 2014): good enough for noise, and three lines long.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `-width` to `width`.
    fn spread(&mut self, width: f64) -> f64 {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * width
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::testing::{Harness, Running};

    fn readings(module: &mut Running<Simulator>) -> Vec<Reading> {
        module.take_sent().iter().map(|sent| sent.message.json().unwrap()).collect()
    }

    #[test]
    fn numbers_have_no_gap_over_restarts_and_failed_calls() {
        let mut module = Harness::new().config("burst", "4").start::<Simulator>().unwrap();
        module.advance(Duration::from_secs(2)).unwrap();
        module.break_state(true);
        assert!(module.advance(Duration::from_secs(1)).is_err());
        module.break_state(false);
        let mut module = module.restart().unwrap();
        module.advance(Duration::from_secs(1)).unwrap();
        let numbers: Vec<u64> = readings(&mut module).iter().map(|reading| reading.number).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_gives_others() {
        let run = |seed: &str| {
            let mut module = Harness::new().config("seed", seed).start::<Simulator>().unwrap();
            module.advance(Duration::from_secs(60)).unwrap();
            readings(&mut module)
        };
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        for reading in run("7") {
            assert!((13.0..=31.0).contains(&reading.temperature), "{reading:?}");
            assert!((33.0..=57.0).contains(&reading.humidity), "{reading:?}");
        }
    }

    #[test]
    fn it_stops_after_the_count_and_says_so() {
        let mut module =
            Harness::new().config("count", "5").config("burst", "2").start::<Simulator>().unwrap();
        module.advance(Duration::from_secs(60)).unwrap();
        assert_eq!(module.sent().len(), 5);
        assert!(module.timers().is_empty());
        assert_eq!(module.logs().last().unwrap().text, "all 5 readings are sent");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (key, value, expected) in [
            ("burst", "501", "configuration key \"burst\": give it 1 to 500"),
            ("sensors", "0", "configuration key \"sensors\": give it at least 1"),
            ("period", "1ms", "the time of the timer is shorter than 10 ms; give it more"),
            (
                "rate",
                "1",
                "configuration: unknown field `rate`, expected one of `seed`, `period`, `burst`, `count`, `sensors`",
            ),
        ] {
            let error = Harness::new().config(key, value).start::<Simulator>().unwrap_err();
            assert_eq!(error.as_str(), expected);
        }
    }
}
