//! Mean, minimum, maximum and count over a time window, per key.
//!
//! Windows lie end to end and begin at whole multiples of their length since 1970, so that windows of several edges
//! fit together. A reading belongs to the window in which it arrives here. The open windows are in the durable state:
//! a restart or a power cut loses none of what was counted.

use holdfast_sdk::{
    Delivered, Error, Failure, Message, Module, OrFail, Outgoing, Ports, clock, config,
    json::{self, Value},
    log, outbox, state, timers,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// State keys of open windows begin with this.
const OPEN: &str = "open/";
const OUTPUT: &str = "windows";
/// Most windows that one timer call closes; the rest waits for the next. It keeps the call within its time.
const CLOSE_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The number to aggregate, a path into the JSON body: `temperature` or `data.temperature`.
    field: String,
    /// What readings are told apart by, a path into the JSON body. Empty: all are one.
    key: String,
    /// Length of a window.
    #[serde(with = "config::duration")]
    length: Duration,
    /// Most keys at a time. One more is refused, so that a flood of names cannot fill the state.
    keys_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            field: "temperature".to_owned(),
            key: "sensor".to_owned(),
            length: Duration::from_secs(60),
            keys_max: 1_000,
        }
    }
}

/// An open window as it lies in the state.
#[derive(Serialize, Deserialize)]
struct Open {
    start: u64,
    count: u64,
    mean: f64,
    min: f64,
    max: f64,
}

/// A closed window as it is sent.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(PartialEq, Deserialize))]
struct Closed {
    key: String,
    field: String,
    start: u64,
    end: u64,
    count: u64,
    mean: f64,
    min: f64,
    max: f64,
}

struct Window {
    settings: Settings,
    length_ms: u64,
    /// How many windows are open. A guess between calls, made exact when it matters.
    open: usize,
}

impl Module for Window {
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        let length_ms = u64::try_from(settings.length.as_millis()).unwrap_or(u64::MAX);
        if length_ms < 100 {
            return Err(Error::new("configuration key \"length\": give it at least 100ms"));
        }
        // A window is closed at most a tenth of its length, and at most a second, after its end.
        timers::every("close", Duration::from_millis((length_ms / 10).clamp(10, 1_000)))?;
        log::info!("windows of {:?} over {:?} per {:?}", settings.length, settings.field, settings.key);
        Ok(Self { open: open_keys()?.len(), settings, length_ms })
    }

    fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
        self.count_all([message])
    }

    fn handle_batch(&mut self, messages: Vec<Delivered>) -> Result<(), Failure> {
        self.count_all(messages.into_iter().map(|one| one.message))
    }

    fn fire(&mut self, _timer: &str) -> Result<(), Failure> {
        if self.open == 0 {
            return Ok(());
        }
        let current = self.current();
        let keys = open_keys()?;
        self.open = keys.len();
        let mut closed = 0;
        for state_key in keys {
            let Some(window) = state::json::<Open>(&state_key)?.filter(|window| window.start != current)
            else {
                continue;
            };
            self.send(state_key.strip_prefix(OPEN).unwrap_or(&state_key), &window)?;
            state::delete(&state_key)?;
            closed += 1;
            if closed == CLOSE_MAX {
                break;
            }
        }
        self.open = self.open.saturating_sub(closed);
        Ok(())
    }
}

holdfast_sdk::module!(Window, batches);

impl Window {
    /// Each open window is read and written once, however many readings it gets.
    fn count_all(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), Failure> {
        let mut windows = BTreeMap::new();
        messages.into_iter().try_for_each(|message| self.count(&message, &mut windows))?;
        for (key, window) in windows {
            state::set_json(&format!("{OPEN}{key}"), &window)?;
        }
        Ok(())
    }

    fn count(&mut self, message: &Message, windows: &mut BTreeMap<String, Open>) -> Result<(), Failure> {
        let body: Value = message.json()?;
        let number = json::number(&body, &self.settings.field)?;
        let key = match self.settings.key.as_str() {
            "" => "all".to_owned(),
            path => json::label(&body, path)?,
        };
        let start = self.current();
        let open = match windows.remove(&key) {
            None => state::json::<Open>(&format!("{OPEN}{key}"))?,
            open => open,
        };
        let window = match open {
            Some(window) if window.start == start => window.with(number),
            Some(ended) => {
                self.send(&key, &ended)?;
                Open::first(start, number)
            }
            None => {
                self.make_room(&key)?;
                // The next one that makes room counts it.
                let first = Open::first(start, number);
                state::set_json(&format!("{OPEN}{key}"), &first)?;
                first
            }
        };
        windows.insert(key, window);
        Ok(())
    }

    /// When the window that is open now began.
    fn current(&self) -> u64 {
        let now = clock::now();
        now - now % self.length_ms
    }

    /// Counts one key more, or says that there are too many.
    fn make_room(&mut self, key: &str) -> Result<(), Failure> {
        if self.open >= self.settings.keys_max {
            self.open = open_keys()?.len();
        }
        if self.open >= self.settings.keys_max {
            return Err(Failure::reject(format!(
                "key {key:?} would be one more than {}; raise \"keys_max\" or choose a \"key\" with fewer values",
                self.settings.keys_max
            )));
        }
        self.open += 1;
        Ok(())
    }

    fn send(&self, key: &str, window: &Open) -> Result<(), Failure> {
        let closed = Closed {
            key: key.to_owned(),
            field: self.settings.field.clone(),
            start: window.start,
            end: window.start.saturating_add(self.length_ms),
            count: window.count,
            mean: window.mean,
            min: window.min,
            max: window.max,
        };
        outbox::send(OUTPUT, Outgoing::json(&closed)?.property("key", key)).or_retry()
    }
}

impl Open {
    fn first(start: u64, number: f64) -> Self {
        Self { start, count: 1, mean: number, min: number, max: number }
    }

    /// The mean moves by each number's share (Welford, 1962): a sum would lose digits, or overflow.
    fn with(self, number: f64) -> Self {
        let count = self.count.saturating_add(1);
        Self {
            start: self.start,
            count,
            mean: self.mean + (number - self.mean) / count as f64,
            min: self.min.min(number),
            max: self.max.max(number),
        }
    }
}

fn open_keys() -> Result<Vec<String>, state::StateError> {
    Ok(state::keys()?.into_iter().filter(|key| key.starts_with(OPEN)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::testing::{Harness, Running};
    use serde_json::json;

    const MINUTE: Duration = Duration::from_secs(60);

    fn reading(sensor: &str, temperature: f64) -> Outgoing {
        Outgoing::json(&json!({ "sensor": sensor, "temperature": temperature })).unwrap()
    }

    fn closed(module: &mut Running<Window>) -> Vec<Closed> {
        module.take_sent().iter().map(|sent| sent.message.json().unwrap()).collect()
    }

    #[test]
    fn each_key_gets_its_own_figures_when_the_minute_is_over() {
        let mut module = Harness::new().start::<Window>().unwrap();
        for (sensor, temperature) in [("a", 1.0), ("b", 10.0), ("a", 3.0), ("a", 8.0)] {
            module.handle("readings", reading(sensor, temperature)).unwrap();
        }
        module.advance(Duration::from_secs(59)).unwrap();
        assert_eq!(closed(&mut module), []);
        module.advance(Duration::from_secs(2)).unwrap();
        let window = |key: &str, count, mean, min, max| Closed {
            key: key.to_owned(),
            field: "temperature".to_owned(),
            start: Harness::START,
            end: Harness::START + 60_000,
            count,
            mean,
            min,
            max,
        };
        assert_eq!(closed(&mut module), [window("a", 3, 4.0, 1.0, 8.0), window("b", 1, 10.0, 10.0, 10.0)]);
        assert_eq!(module.state_keys().count(), 0);
    }

    #[test]
    fn a_batch_counts_as_its_readings_do_one_by_one() {
        let mut module = Harness::new().config("keys_max", "2").start::<Window>().unwrap();
        module.handle("in", reading("a", 1.0)).unwrap();
        let batch = [("a", 3.0), ("b", 10.0), ("c", 7.0), ("a", 8.0)];
        let answers = module.handle_batch(batch.map(|(sensor, number)| ("in", reading(sensor, number))));
        let taken: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(taken, [true, true, false, true], "{answers:?}");
        module.advance(MINUTE + Duration::from_secs(1)).unwrap();
        let figures: Vec<_> =
            closed(&mut module).into_iter().map(|w| (w.key, w.count, w.mean, w.max)).collect();
        assert_eq!(figures, [("a".to_owned(), 3, 4.0, 8.0), ("b".to_owned(), 1, 10.0, 10.0)]);
    }

    #[test]
    fn a_window_goes_on_after_a_restart_and_is_closed_by_the_next_reading_if_no_timer_came() {
        let mut module = Harness::new().start::<Window>().unwrap();
        module.handle("readings", reading("a", 1.0)).unwrap();
        let mut module = module.restart().unwrap();
        module.handle("readings", reading("a", 2.0)).unwrap();
        let later =
            Harness::new().clock(module.now() + 60_000).state("open/a", module.state("open/a").unwrap());
        let mut module = later.start::<Window>().unwrap();
        module.handle("readings", reading("a", 9.0)).unwrap();
        let figures: Vec<_> = closed(&mut module).iter().map(|window| (window.count, window.mean)).collect();
        assert_eq!(figures, [(2, 1.5)]);
    }

    #[test]
    fn field_key_and_length_are_configurable_and_a_path_leads_into_the_body() {
        let mut module = Harness::new()
            .config("field", "data.value")
            .config("key", "")
            .config("length", "500ms")
            .start::<Window>()
            .unwrap();
        for value in [2, 4] {
            module.handle("in", Outgoing::json(&json!({ "data": { "value": value } })).unwrap()).unwrap();
        }
        module.advance(Duration::from_secs(1)).unwrap();
        let figures: Vec<_> = closed(&mut module).into_iter().map(|w| (w.key, w.field, w.mean)).collect();
        assert_eq!(figures, [("all".to_owned(), "data.value".to_owned(), 3.0)]);
    }

    #[test]
    fn what_cannot_be_counted_is_rejected_with_its_reason() {
        let mut module = Harness::new().config("keys_max", "1").start::<Window>().unwrap();
        module.handle("in", reading("a", 1.0)).unwrap();
        for (message, expected) in [
            (Outgoing::text("hello"), "the body is not the expected JSON"),
            (Outgoing::json(&json!({ "sensor": "a" })).unwrap(), "the body has no number at \"temperature\""),
            (
                Outgoing::json(&json!({ "temperature": 1 })).unwrap(),
                "the body has no text, number or boolean at",
            ),
            (reading("b", 1.0), "key \"b\" would be one more than 1; raise \"keys_max\""),
        ] {
            let failure = module.handle("in", message).unwrap_err();
            assert!(matches!(&failure, Failure::Reject(why) if why.starts_with(expected)), "{failure}");
        }
        // Once the window is closed there is room again.
        module.advance(MINUTE * 2).unwrap();
        module.handle("in", reading("b", 1.0)).unwrap();
    }

    #[test]
    fn many_windows_are_closed_over_several_calls_and_none_is_left_behind() {
        let mut module = Harness::new().start::<Window>().unwrap();
        for sensor in 0..450 {
            module.handle("in", reading(&sensor.to_string(), 1.0)).unwrap();
        }
        module.advance(MINUTE + Duration::from_secs(1)).unwrap();
        let first = module.take_sent().len();
        assert!(first < 450, "{first}");
        module.advance(MINUTE).unwrap();
        assert_eq!(first + module.take_sent().len(), 450);
    }
}
