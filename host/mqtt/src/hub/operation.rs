//! What a client asks for by publishing.

use super::{MalformedBag, PropertyBag};

/// A request of a client, read from the topic that it published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A message: telemetry of a device, or the output of a module. Whether the client is the sender that it names is not
    /// checked here.
    Telemetry {
        /// The device that sends it.
        device: &'a str,
        /// The module that sends it.
        module: Option<&'a str>,
        /// Its properties.
        bag: PropertyBag,
    },
    /// It wants to know its twin.
    TwinGet {
        /// What the answer brings back.
        rid: &'a str,
    },
    /// It changes its reported properties.
    TwinReport {
        /// What the answer brings back; without it there is no answer.
        rid: Option<&'a str>,
        /// The version that it believes its reported properties to have.
        version: Option<&'a str>,
    },
    /// It answers a call of a method.
    MethodResponse {
        /// The status that it gives.
        status: i32,
        /// Which call it answers.
        rid: &'a str,
    },
}

/// A topic that asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOperation {
    /// Not a topic of the dialect. A hub acknowledges such a message and drops it.
    #[error("the topic {0:?} is none that a client of IoT Hub publishes to")]
    Topic(String),
    /// Telemetry whose property bag cannot be read. A hub acknowledges it and drops it.
    #[error("{0}")]
    Bag(#[from] MalformedBag),
    /// A request about twins that a hub does not know. A hub closes the connection.
    #[error(
        "the topic {0:?} asks for nothing that can be done with a twin; a request is $iothub/twin/GET/?$rid=… or $iothub/twin/PATCH/properties/reported/?$rid=…"
    )]
    Twin(String),
}

const TWIN: &str = "$iothub/twin/";
const TWIN_GET: &str = "$iothub/twin/GET/";
const TWIN_REPORT: &str = "$iothub/twin/PATCH/properties/reported/";
const METHOD_RESPONSE: &str = "$iothub/methods/res/";

impl<'a> Operation<'a> {
    /// Reads a topic.
    pub fn parse(topic: &'a str) -> Result<Self, NoOperation> {
        let request = if topic.starts_with("devices/") {
            telemetry(topic)?
        } else if let Some(response) = topic.strip_prefix(METHOD_RESPONSE) {
            method_response(response)
        } else if topic.starts_with(TWIN) {
            return twin(topic).ok_or_else(|| NoOperation::Twin(topic.to_owned()));
        } else {
            None
        };
        request.ok_or_else(|| NoOperation::Topic(topic.to_owned()))
    }
}

/// `devices/{d}[/modules/{m}]/messages/events[/{bag}][/]`, the bag with or without `?` before it.
fn telemetry(topic: &str) -> Result<Option<Operation<'_>>, NoOperation> {
    let levels: Vec<&str> = topic.split('/').collect();
    let (device, module, rest) = match levels.as_slice() {
        ["devices", device, "messages", "events", rest @ ..] => (*device, None, rest),
        ["devices", device, "modules", module, "messages", "events", rest @ ..] => {
            (*device, Some(*module), rest)
        }
        _ => return Ok(None),
    };
    let bag = match rest {
        [] => "",
        [bag] | [bag, ""] => bag,
        _ => return Ok(None),
    };
    if device.is_empty() || module.is_some_and(str::is_empty) {
        return Ok(None);
    }
    let bag = PropertyBag::decode(bag.strip_prefix('?').unwrap_or(bag))?;
    Ok(Some(Operation::Telemetry { device, module, bag }))
}

fn twin(topic: &str) -> Option<Operation<'_>> {
    if let Some(rest) = topic.strip_prefix(TWIN_GET) {
        let rid = parameter(rest.strip_prefix('?')?, "$rid").filter(|rid| !rid.is_empty())?;
        return Some(Operation::TwinGet { rid });
    }
    let rest = topic.strip_prefix(TWIN_REPORT)?;
    let parameters = if rest.is_empty() { "" } else { rest.strip_prefix('?')? };
    Some(Operation::TwinReport {
        rid: parameter(parameters, "$rid").filter(|rid| !rid.is_empty()),
        version: parameter(parameters, "$version"),
    })
}

/// `{status}/?$rid={rid}`; anything may follow.
fn method_response(rest: &str) -> Option<Operation<'_>> {
    let (status, parameters) = rest.split_once("/?")?;
    let status = status.parse().ok()?;
    let rid = parameter(parameters, "$rid").filter(|rid| !rid.is_empty())?;
    Some(Operation::MethodResponse { status, rid })
}

/// The last value of a name. Values go back to the client as they came, so that nothing is decoded.
pub(super) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = parameters.split('&').rev().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let is = |known: &str| {
        known == name
            || (known.strip_prefix("%24").is_some() && known.strip_prefix("%24") == name.strip_prefix('$'))
    };
    pairs.find(|(known, _)| is(known)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(text: &str) -> PropertyBag {
        PropertyBag::decode(text).unwrap()
    }

    #[test]
    fn telemetry_is_read_in_every_form_that_sdks_write() {
        for (topic, module, properties) in [
            ("devices/press/messages/events", None, ""),
            ("devices/press/messages/events/", None, ""),
            ("devices/press/messages/events/%24.mid=1&a=b", None, "$.mid=1&a=b"),
            ("devices/press/messages/events/%24.mid=1&a=b/", None, "$.mid=1&a=b"),
            ("devices/press/messages/events/?a=b", None, "a=b"),
            ("devices/press/messages/events/?", None, ""),
            ("devices/press/modules/m/messages/events", Some("m"), ""),
            ("devices/press/modules/m/messages/events/", Some("m"), ""),
            ("devices/press/modules/m/messages/events/%24.on=out/", Some("m"), "$.on=out"),
        ] {
            let expected = Operation::Telemetry { device: "press", module, bag: bag(properties) };
            assert_eq!(Operation::parse(topic), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn requests_about_twins_and_answers_to_methods_are_read() {
        for (topic, expected) in [
            ("$iothub/twin/GET/?$rid=6f2c8", Operation::TwinGet { rid: "6f2c8" }),
            ("$iothub/twin/GET/?%24rid=6f2c8&x", Operation::TwinGet { rid: "6f2c8" }),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=5de34",
                Operation::TwinReport { rid: Some("5de34"), version: None },
            ),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=%20a&$version=7",
                Operation::TwinReport { rid: Some("%20a"), version: Some("7") },
            ),
            ("$iothub/twin/PATCH/properties/reported/", Operation::TwinReport { rid: None, version: None }),
            ("$iothub/methods/res/200/?$rid=1", Operation::MethodResponse { status: 200, rid: "1" }),
            (
                "$iothub/methods/res/-3/?$rid=1&$random&$version=2",
                Operation::MethodResponse { status: -3, rid: "1" },
            ),
        ] {
            assert_eq!(Operation::parse(topic), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn every_other_topic_says_what_becomes_of_it() {
        for topic in [
            "",
            "plant/press",
            "devices/press",
            "devices//messages/events/",
            "devices/press/modules//messages/events/",
            "devices/press/messages/events/a=1/b=2",
            "devices/press/messages/other/",
            "devices/press/messages/devicebound/",
            "/devices/press/messages/events/",
            "$iothub/methods/POST/x/?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/methods/res/200?$rid=1",
            "$iothub/methods/res/200/?$rid=",
            "$iothub/other",
        ] {
            assert_eq!(Operation::parse(topic), Err(NoOperation::Topic(topic.into())), "{topic}");
        }
        for topic in [
            "$iothub/twin/",
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?$rid=",
            "$iothub/twin/GET/?x=1",
            "$iothub/twin/GET/sub/?$rid=1",
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
            "$iothub/twin/PATCH/properties/reported/sub/?$rid=1",
            "$iothub/twin/DELETE/?$rid=1",
        ] {
            assert_eq!(Operation::parse(topic), Err(NoOperation::Twin(topic.into())), "{topic}");
        }
        let malformed = Operation::parse("devices/press/messages/events/=1");
        assert_eq!(malformed, Err(NoOperation::Bag(MalformedBag::NoName("=1".into()))));
    }
}
