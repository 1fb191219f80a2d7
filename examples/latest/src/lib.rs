//! Keeps the latest reading of each sensor, and shows them over HTTP.
//!
//! A request has an instance of its own, beside the one that handles messages. What both know is the durable state: the one
//! writes, the other reads.

use holdfast_sdk::{
    Error, Failure, Message, Module, Ports, clock, config,
    http::{self, Incoming, Method, Response},
    json::{self, Value},
    log, state,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// State keys of readings begin with this.
const LATEST: &str = "latest/";
/// Where it answers: as in `[http] path` of latest.toml.
const PATH: &str = "/latest";
/// Most bytes of a reading. All of them together are bounded by `limits.state_bytes`.
const READING_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What readings are told apart by, a path into the JSON body.
    key: String,
    /// Most keys. One more is refused, so that a flood of names cannot fill the state.
    keys_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { key: "sensor".to_owned(), keys_max: 1_000 }
    }
}

/// A reading as it is kept and shown.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    /// When it came.
    at: u64,
    reading: Value,
}

struct Latest {
    settings: Settings,
}

impl Module for Latest {
    const OUTPUTS: Ports = &[];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        log::info!("keeps the latest reading per {:?}", settings.key);
        Ok(Self { settings })
    }

    fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
        if message.body.len() > READING_BYTES_MAX {
            return Err(Failure::reject(format_args!("a reading of more than {READING_BYTES_MAX} bytes")));
        }
        let reading: Value = message.json()?;
        let key = format!("{LATEST}{}", json::label(&reading, &self.settings.key)?);
        if !state::exists(&key)? && state::keys()?.len() >= self.settings.keys_max {
            return Err(Failure::reject(format_args!(
                "there are {} keys already; raise \"keys_max\" or choose a \"key\" with fewer values",
                self.settings.keys_max
            )));
        }
        Ok(state::set_json(&key, &Kept { at: clock::now(), reading })?)
    }
}

impl http::Handler for Latest {
    fn answer(request: Incoming) -> Result<Response, Failure> {
        if request.path().trim_end_matches('/') != PATH {
            return Ok(Response::not_found(&request));
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return Ok(Response::method_not_allowed(&[Method::Get, Method::Head]));
        }
        match request.query("key") {
            Some(key) => match state::json::<Kept>(&format!("{LATEST}{key}"))? {
                Some(kept) => Ok(Response::json(200, &kept)?),
                None => Ok(Response::text(404, format!("no reading of {key:?} has come\n"))),
            },
            None => Ok(Response::json(200, &all()?)?),
        }
    }
}

/// The latest of each.
fn all() -> Result<BTreeMap<String, Kept>, Failure> {
    let mut all = BTreeMap::new();
    for key in state::keys()? {
        let Some(name) = key.strip_prefix(LATEST) else { continue };
        if let Some(kept) = state::json(&key)? {
            all.insert(name.to_owned(), kept);
        }
    }
    Ok(all)
}

holdfast_sdk::module!(Latest, http);

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::{
        Outgoing,
        testing::{Harness, Running},
    };
    use serde_json::json;

    fn feed(module: &mut Running<Latest>, reading: &Value) -> Result<(), Failure> {
        module.handle("readings", Outgoing::json(reading).unwrap())
    }

    fn shown(module: &mut Running<Latest>, path: &str) -> Value {
        let response = module.ask(Incoming::get(path));
        assert_eq!((response.status, response.headers.get("content-type")), (200, Some("application/json")));
        response.as_json().unwrap()
    }

    #[test]
    fn the_latest_of_each_is_shown_and_one_can_be_asked_for() {
        let mut module = Harness::new().start::<Latest>().unwrap();
        assert_eq!(shown(&mut module, "/latest"), json!({}));
        for (sensor, value) in [("line 1", 1), ("b", 2), ("line 1", 3)] {
            feed(&mut module, &json!({ "sensor": sensor, "celsius": value })).unwrap();
        }
        let one = json!({ "at": Harness::START, "reading": { "sensor": "line 1", "celsius": 3 } });
        let other = json!({ "at": Harness::START, "reading": { "sensor": "b", "celsius": 2 } });
        assert_eq!(shown(&mut module, "/latest/"), json!({ "line 1": one, "b": other }));
        let mut module = module.restart().unwrap();
        assert_eq!(shown(&mut module, "/latest?key=line+1"), one, "a restart keeps it");
    }

    #[test]
    fn what_is_not_there_is_said_to_be_so() {
        let mut module = Harness::new().start::<Latest>().unwrap();
        for (request, status) in [
            (Incoming::get("/latest?key=a"), 404),
            (Incoming::get("/latest/a"), 404),
            (Incoming::post("/latest", "{}"), 405),
        ] {
            assert_eq!(module.ask(request.clone()).status, status, "{request:?}");
        }
        module.break_state(true);
        assert_eq!(module.ask(Incoming::get("/latest")).status, 503);
    }

    #[test]
    fn one_key_too_many_and_a_reading_too_large_are_refused() {
        let mut module = Harness::new().config("keys_max", "1").start::<Latest>().unwrap();
        feed(&mut module, &json!({ "sensor": 1 })).unwrap();
        feed(&mut module, &json!({ "sensor": 1, "x": 2 })).unwrap();
        for (reading, why) in [
            (json!({ "sensor": 2 }), "raise \"keys_max\""),
            (json!({ "sensor": 1, "x": "x".repeat(READING_BYTES_MAX) }), "more than 4096 bytes"),
            (json!({}), "no text, number or boolean at \"sensor\""),
        ] {
            let failure = feed(&mut module, &reading).unwrap_err();
            assert!(matches!(&failure, Failure::Reject(reason) if reason.contains(why)), "{failure}");
        }
    }
}
