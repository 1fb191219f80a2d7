//! Alerts with hysteresis on a field of JSON readings, per key.
//!
//! An alert is sent when the number passes the limit, and its end when the number has come back by more than the
//! hysteresis; what lies between changes nothing, so a value that trembles around the limit gives one alert. What is
//! raised is in the durable state: a restart raises nothing twice.

use holdfast_sdk::{
    Error, Failure, Message, Module, OrFail, Outgoing, Ports, clock, config,
    json::{self, Value},
    log, outbox, state,
};
use serde::{Deserialize, Serialize};

/// State keys of raised alerts begin with this.
const RAISED: &str = "raised/";
const OUTPUT: &str = "alerts";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The number to watch, a path into the JSON body: `temperature` or `data.temperature`.
    field: String,
    /// What readings are told apart by, a path into the JSON body. Empty: all are one.
    key: String,
    /// Alert when the number is above this.
    above: Option<f64>,
    /// Alert when the number is below this.
    below: Option<f64>,
    /// How far the number must come back before the alert ends.
    hysteresis: f64,
    /// Most alerts raised at a time. One more is refused, so that a flood of names cannot fill the state.
    raised_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            field: "temperature".to_owned(),
            key: "sensor".to_owned(),
            above: None,
            below: None,
            hysteresis: 0.0,
            raised_max: 1_000,
        }
    }
}

/// What to watch for: exactly one of `above` and `below`.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Limit {
    Above(f64),
    Below(f64),
}

/// A raised alert as it lies in the state.
#[derive(Serialize, Deserialize)]
struct Raised {
    since: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(PartialEq, Deserialize))]
#[serde(rename_all = "lowercase")]
enum Change {
    Raised,
    Cleared,
}

/// What is sent. With `limit` flattened it holds `"above": 30.0` or `"below": 5.0`.
#[derive(Serialize)]
struct Alert<'a> {
    alert: Change,
    key: &'a str,
    field: &'a str,
    value: f64,
    #[serde(flatten)]
    limit: Limit,
    /// When it was raised.
    since: u64,
}

struct Threshold {
    settings: Settings,
    limit: Limit,
}

impl Module for Threshold {
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        if settings.hysteresis < 0.0 {
            return Err(Error::new("configuration key \"hysteresis\": give it 0 or more"));
        }
        let limit = match (settings.above, settings.below) {
            (Some(limit), None) => Limit::Above(limit),
            (None, Some(limit)) => Limit::Below(limit),
            _ => {
                return Err(Error::new(
                    "configuration: set one of \"above\" and \"below\", for example above = \"30\"",
                ));
            }
        };
        log::info!("alerts when {:?} per {:?} is {limit}", settings.field, settings.key);
        Ok(Self { settings, limit })
    }

    fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
        let body: Value = message.json()?;
        let value = json::number(&body, &self.settings.field)?;
        let key = match self.settings.key.as_str() {
            "" => "all".to_owned(),
            path => json::label(&body, path)?,
        };
        let state_key = format!("{RAISED}{key}");
        match state::json::<Raised>(&state_key)? {
            None if self.limit.is_passed_by(value) => {
                let raised = Raised { since: clock::now() };
                self.make_room()?;
                state::set_json(&state_key, &raised)?;
                log::warn!("{key}: {} is {value}, {}", self.settings.field, self.limit);
                self.send(Change::Raised, &key, value, raised.since)
            }
            Some(raised) if self.limit.is_clear_of(value, self.settings.hysteresis) => {
                state::delete(&state_key)?;
                log::info!("{key}: {} is back at {value}", self.settings.field);
                self.send(Change::Cleared, &key, value, raised.since)
            }
            _ => Ok(()),
        }
    }
}

holdfast_sdk::module!(Threshold);

impl Threshold {
    fn make_room(&self) -> Result<(), Failure> {
        let raised = state::keys()?.iter().filter(|key| key.starts_with(RAISED)).count();
        match raised < self.settings.raised_max {
            true => Ok(()),
            false => Err(Failure::reject(format!(
                "{raised} alerts are raised; raise \"raised_max\" or choose a \"key\" with fewer values"
            ))),
        }
    }

    fn send(&self, change: Change, key: &str, value: f64, since: u64) -> Result<(), Failure> {
        let alert =
            Alert { alert: change, key, field: &self.settings.field, value, limit: self.limit, since };
        let word = match change {
            Change::Raised => "raised",
            Change::Cleared => "cleared",
        };
        // As a property a route can tell alerts apart without looking into the body.
        outbox::send(OUTPUT, Outgoing::json(&alert)?.property("alert", word).property("key", key)).or_retry()
    }
}

impl Limit {
    fn is_passed_by(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }

    fn is_clear_of(self, value: f64, hysteresis: f64) -> bool {
        match self {
            Self::Above(limit) => value <= limit - hysteresis,
            Self::Below(limit) => value >= limit + hysteresis,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Above(limit) => write!(f, "above {limit}"),
            Self::Below(limit) => write!(f, "below {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::testing::{Harness, Running};
    use serde_json::json;
    use std::time::Duration;

    fn feed(module: &mut Running<Threshold>, sensor: &str, values: &[f64]) -> Vec<(Change, f64)> {
        for value in values {
            let reading = json!({ "sensor": sensor, "temperature": value });
            module.handle("readings", Outgoing::json(&reading).unwrap()).unwrap();
        }
        let change = |sent: &holdfast_sdk::testing::Sent| {
            let body: Value = sent.message.json().unwrap();
            (serde_json::from_value(body["alert"].clone()).unwrap(), body["value"].as_f64().unwrap())
        };
        module.take_sent().iter().map(change).collect()
    }

    #[test]
    fn a_value_that_trembles_around_the_limit_gives_one_alert_and_one_end() {
        let start = Harness::new().config("above", "30").config("hysteresis", "2");
        let mut module = start.start::<Threshold>().unwrap();
        let changes = feed(&mut module, "a", &[29.0, 30.0, 30.1, 29.5, 31.0, 28.5, 28.0, 29.9, 27.0]);
        assert_eq!(changes, [(Change::Raised, 30.1), (Change::Cleared, 28.0)]);
    }

    #[test]
    fn below_works_the_other_way_round() {
        let start = Harness::new().config("below", "5").config("hysteresis", "1");
        let mut module = start.start::<Threshold>().unwrap();
        let changes = feed(&mut module, "a", &[5.0, 4.9, 5.5, 6.0]);
        assert_eq!(changes, [(Change::Raised, 4.9), (Change::Cleared, 6.0)]);
    }

    #[test]
    fn keys_do_not_mix_and_a_restart_raises_nothing_twice() {
        let mut module = Harness::new().config("above", "30").start::<Threshold>().unwrap();
        assert_eq!(feed(&mut module, "a", &[31.0]).len(), 1);
        let mut module = module.restart().unwrap();
        assert_eq!(feed(&mut module, "a", &[32.0]), []);
        assert_eq!(feed(&mut module, "b", &[33.0]), [(Change::Raised, 33.0)]);
    }

    #[test]
    fn an_alert_says_what_where_and_since_when() {
        let mut module = Harness::new().config("above", "30").start::<Threshold>().unwrap();
        feed(&mut module, "a", &[31.0]);
        module.advance(Duration::from_secs(5)).unwrap();
        let reading = json!({ "sensor": "a", "temperature": 20 });
        module.handle("readings", Outgoing::json(&reading).unwrap()).unwrap();
        let sent = module.take_sent().remove(0);
        assert_eq!((sent.output.as_str(), sent.message.property("alert")), ("alerts", Some("cleared")));
        let expected = json!({
            "alert": "cleared", "key": "a", "field": "temperature", "value": 20.0, "above": 30.0, "since": Harness::START
        });
        assert_eq!(sent.message.json::<Value>().unwrap(), expected);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let one_of = "configuration: set one of \"above\" and \"below\", for example above = \"30\"";
        for (settings, expected) in [
            (vec![], one_of),
            (vec![("above", "1"), ("below", "2")], one_of),
            (
                vec![("above", "1"), ("hysteresis", "-1")],
                "configuration key \"hysteresis\": give it 0 or more",
            ),
            (vec![("above", "hot")], "configuration key \"above\": \"hot\" is not a number"),
        ] {
            let harness = settings.into_iter().fold(Harness::new(), |harness, (k, v)| harness.config(k, v));
            assert_eq!(harness.start::<Threshold>().unwrap_err().as_str(), expected);
        }
    }

    #[test]
    fn more_alerts_than_allowed_are_refused() {
        let start = Harness::new().config("above", "1").config("raised_max", "1");
        let mut module = start.start::<Threshold>().unwrap();
        feed(&mut module, "a", &[2.0]);
        let reading = json!({ "sensor": "b", "temperature": 2 });
        let failure = module.handle("readings", Outgoing::json(&reading).unwrap()).unwrap_err();
        assert_eq!(
            failure,
            Failure::reject(
                "1 alerts are raised; raise \"raised_max\" or choose a \"key\" with fewer values"
            )
        );
    }
}
