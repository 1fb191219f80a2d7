//! What a client is sent, read from the topic that it came on: the other side of [`super::topics`].

use super::{PropertyBag, operation::parameter, percent};
use std::borrow::Cow;

/// Something that a hub sends to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// A message from the cloud.
    CloudToDevice {
        /// The device that it is for.
        device: &'a str,
        /// Its properties.
        bag: PropertyBag,
    },
    /// A call of a method.
    MethodRequest {
        /// The method.
        name: Cow<'a, str>,
        /// What the answer has to bring back, as it came.
        rid: &'a str,
    },
    /// A change of the desired properties.
    DesiredPatch {
        /// The version that they have with it.
        version: u64,
    },
    /// The answer to a request about the twin.
    TwinResponse {
        /// As HTTP counts.
        status: u16,
        /// What the request gave.
        rid: &'a str,
        /// The version that the reported properties have now, if it was about them.
        version: Option<u64>,
    },
}

impl<'a> Arrival<'a> {
    /// Reads a topic; none if a hub sends nothing on it.
    pub fn parse(topic: &'a str) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix("$iothub/methods/POST/") {
            let (name, parameters) = rest.split_once("/?")?;
            let rid = parameter(parameters, "$rid").filter(|rid| !rid.is_empty())?;
            return Some(Self::MethodRequest { name: percent::decode(name), rid });
        }
        if let Some(rest) = topic.strip_prefix("$iothub/twin/PATCH/properties/desired/?") {
            return Some(Self::DesiredPatch { version: parameter(rest, "$version")?.parse().ok()? });
        }
        if let Some(rest) = topic.strip_prefix("$iothub/twin/res/") {
            let (status, parameters) = rest.split_once("/?")?;
            return Some(Self::TwinResponse {
                status: status.parse().ok()?,
                rid: parameter(parameters, "$rid")?,
                version: parameter(parameters, "$version").and_then(|version| version.parse().ok()),
            });
        }
        let (device, rest) = topic.strip_prefix("devices/")?.split_once('/')?;
        let bag =
            rest.strip_prefix("messages/devicebound/").or((rest == "messages/devicebound").then_some(""))?;
        Some(Self::CloudToDevice { device, bag: PropertyBag::decode(bag).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::topics, *};

    #[test]
    fn what_a_hub_writes_is_read_back() {
        let mut bag = PropertyBag::new();
        bag.set("$.mid", "m/1");
        bag.set_null("urgent");
        let message = topics::cloud_to_device("press", &bag);
        assert_eq!(Arrival::parse(&message), Some(Arrival::CloudToDevice { device: "press", bag }));
        let call = topics::method_request("a/b~c", "7");
        assert_eq!(Arrival::parse(&call), Some(Arrival::MethodRequest { name: "a/b~c".into(), rid: "7" }));
        let patch = topics::desired_patch(3);
        assert_eq!(Arrival::parse(&patch), Some(Arrival::DesiredPatch { version: 3 }));
        let response = topics::twin_response(204, "7", Some(8));
        let expected = Arrival::TwinResponse { status: 204, rid: "7", version: Some(8) };
        assert_eq!(Arrival::parse(&response), Some(expected));
    }

    #[test]
    fn what_no_hub_sends_is_nothing() {
        for topic in [
            "",
            "plant/a",
            "devices/press/messages/events/",
            "devices/press/messages/devicebound/=1",
            "devices/press/messages/devicebound/a/b",
            "$iothub/methods/POST/a?$rid=1",
            "$iothub/methods/POST/a/?x=1",
            "$iothub/twin/res/ok/?$rid=1",
            "$iothub/twin/res/200/",
            "$iothub/twin/PATCH/properties/desired/?x=1",
            "$iothub/twin/PATCH/properties/desired/?$version=new",
        ] {
            assert_eq!(Arrival::parse(topic), None, "{topic}");
        }
    }
}
