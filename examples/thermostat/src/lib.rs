//! Heats to a set point that is desired of it, reports what it does, and can be reset by a method.
//!
//! The desired properties say what to do, the reported properties what is done; both are there with the link down. What
//! was switched last and how often is in the durable state: a restart switches nothing twice.

use holdfast_sdk::{
    Error, Failure, Message, Module, Outgoing, Ports, json, log,
    methods::{Payload, Reply},
    outbox, state, twins,
};
use serde::{Deserialize, Serialize};

const OUTPUT: &str = "heater";
const STATE: &str = "heater";

/// What is desired. What nobody has set has a value that does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Desired {
    /// Degrees to heat to.
    set_point: f64,
    /// How far the temperature falls below before the heater goes on again.
    hysteresis: f64,
}

impl Default for Desired {
    fn default() -> Self {
        Self { set_point: 18.0, hysteresis: 0.5 }
    }
}

impl Desired {
    fn check(self) -> Result<Self, Failure> {
        if !(5.0..=35.0).contains(&self.set_point) {
            return Err(Failure::reject(format_args!(
                "desired setPoint = {}: 5 to 35 degrees are allowed",
                self.set_point
            )));
        }
        if !(0.0..=5.0).contains(&self.hysteresis) {
            return Err(Failure::reject(format_args!(
                "desired hysteresis = {}: 0 to 5 degrees are allowed",
                self.hysteresis
            )));
        }
        Ok(self)
    }
}

/// What is kept: whether it heats, and how often it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Heater {
    heating: bool,
    switched_on: u64,
}

struct Thermostat {
    desired: Desired,
}

impl Thermostat {
    /// Takes what is desired now, and reports what is in force. What cannot be is reported too, and changes nothing.
    fn follow(&mut self) -> Result<(), Failure> {
        let all = twins::desired::<Desired>().map_err(Failure::from);
        match all.and_then(|all| Ok((all.version, all.value.check()?))) {
            Ok((version, desired)) => {
                self.desired = desired;
                let Desired { set_point, hysteresis } = desired;
                twins::report(&serde_json::json!({
                    "setPoint": set_point, "hysteresis": hysteresis, "version": version, "refused": null,
                }))?;
                log::info!("heats to {set_point}");
                Ok(())
            }
            Err(Failure::Retry(why)) => Err(Failure::Retry(why)),
            Err(Failure::Reject(why)) => {
                log::warn!("{why}");
                Ok(twins::report(&serde_json::json!({ "refused": why }))?)
            }
        }
    }
}

impl Module for Thermostat {
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let mut thermostat = Self { desired: Desired::default() };
        thermostat.follow()?;
        twins::report(&state::json::<Heater>(STATE)?.unwrap_or_default())?;
        Ok(thermostat)
    }

    fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
        let temperature = json::number(&message.json()?, "temperature")?;
        let before = state::json::<Heater>(STATE)?.unwrap_or_default();
        let Desired { set_point, hysteresis } = self.desired;
        let mut heater = before;
        if temperature >= set_point {
            heater.heating = false;
        } else if temperature <= set_point - hysteresis {
            heater.heating = true;
        }
        if heater.heating == before.heating {
            return Ok(());
        }
        heater.switched_on += u64::from(heater.heating);
        state::set_json(STATE, &heater)?;
        twins::report(&heater)?;
        outbox::send(OUTPUT, Outgoing::json(&serde_json::json!({ "heat": heater.heating }))?)?;
        Ok(())
    }

    fn desired(&mut self, _change: twins::Change) -> Result<(), Failure> {
        self.follow()
    }

    /// `reset` counts from 0 again and answers with the count before.
    fn invoke(&mut self, method: &str, _payload: Payload) -> Result<Reply, Failure> {
        match method {
            "reset" => {
                let before = state::json::<Heater>(STATE)?.unwrap_or_default();
                let heater = Heater { switched_on: 0, ..before };
                state::set_json(STATE, &heater)?;
                twins::report(&heater)?;
                Reply::json(200, &serde_json::json!({ "switchedOn": before.switched_on }))
            }
            _ => Ok(Reply::unknown(method)),
        }
    }
}

holdfast_sdk::module!(Thermostat);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]
    use super::*;
    use holdfast_sdk::testing::{Harness, Running};
    use serde_json::json;

    fn feel(module: &mut Running<Thermostat>, temperature: f64) -> Vec<String> {
        module.handle("in", Outgoing::json(&json!({ "temperature": temperature })).unwrap()).unwrap();
        module.take_sent().iter().map(|sent| sent.message.text().unwrap().to_owned()).collect()
    }

    #[test]
    fn it_heats_to_what_is_desired_and_reports_it() {
        let mut module = Harness::new().desired(json!({ "setPoint": 21 })).start::<Thermostat>().unwrap();
        let report = json!({
            "setPoint": 21.0, "hysteresis": 0.5, "version": 1, "heating": false, "switchedOn": 0
        });
        assert_eq!(module.reported(), &report);
        assert_eq!(feel(&mut module, 20.6), Vec::<String>::new(), "not yet cold enough");
        assert_eq!(feel(&mut module, 20.4), [r#"{"heat":true}"#]);
        assert_eq!(feel(&mut module, 20.8), Vec::<String>::new(), "it heats on");
        assert_eq!(feel(&mut module, 21.0), [r#"{"heat":false}"#]);
        module.desire(json!({ "setPoint": 25 })).unwrap();
        assert_eq!(feel(&mut module, 21.0), [r#"{"heat":true}"#]);
        assert_eq!(
            module.reported(),
            &json!({ "setPoint": 25.0, "hysteresis": 0.5, "version": 2, "heating": true, "switchedOn": 2 })
        );
    }

    #[test]
    fn what_cannot_be_is_refused_in_the_report_and_the_old_set_point_stays() {
        let mut module = Harness::new().start::<Thermostat>().unwrap();
        for (desired, why) in [
            (json!({ "setPoint": 90 }), "5 to 35 degrees"),
            (json!({ "setPoint": "warm" }), "the module wants them otherwise"),
            (json!({ "setPoint": 20, "hysteresis": -1 }), "0 to 5 degrees"),
        ] {
            module.desire(desired).unwrap();
            let refused = &module.reported()["refused"];
            assert!(refused.as_str().unwrap().contains(why), "{refused}");
            assert_eq!(module.reported()["setPoint"], 18.0);
        }
        module.desire(json!({ "hysteresis": null })).unwrap();
        assert_eq!(module.reported()["refused"], json!(null));
        assert_eq!(module.reported()["setPoint"], 20.0);
    }

    #[test]
    fn a_method_resets_the_count_and_a_restart_keeps_the_rest() {
        let mut module = Harness::new().start::<Thermostat>().unwrap();
        feel(&mut module, 10.0);
        let mut module = module.restart().unwrap();
        assert_eq!(feel(&mut module, 10.0), Vec::<String>::new(), "it heats already");
        assert_eq!(module.invoke("reset", "").unwrap().payload, r#"{"switchedOn":1}"#);
        assert_eq!(module.invoke("reset", "").unwrap().payload, r#"{"switchedOn":0}"#);
        assert_eq!(module.reported()["heating"], true);
        assert_eq!(module.invoke("explode", "").unwrap().status, 404);
    }
}
