//! The topics of what clients are sent, and of what they ask for.

use super::{PropertyBag, percent};

/// A message from the cloud. The bag is the fifth level, where SDKs look for it; it may be empty.
pub fn cloud_to_device(device: &str, bag: &PropertyBag) -> String {
    format!("devices/{device}/messages/devicebound/{bag}")
}

/// A message to an input of a module. The bag is the seventh level.
pub fn input(device: &str, module: &str, input: &str, bag: &PropertyBag) -> String {
    let mut topic = format!("devices/{device}/modules/{module}/inputs/");
    percent::encode_level(input, &mut topic);
    topic.push('/');
    topic.push_str(&bag.to_string());
    topic
}

/// The answer to a request of the client about its twin; `rid` is what the request brought, as it brought it.
pub fn twin_response(status: u16, rid: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("$iothub/twin/res/{status}/?$rid={rid}&$version={version}"),
        None => format!("$iothub/twin/res/{status}/?$rid={rid}"),
    }
}

/// A change of the desired properties, which now have this version.
pub fn desired_patch(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// A call of a method.
pub fn method_request(name: &str, rid: &str) -> String {
    let mut topic = "$iothub/methods/POST/".to_owned();
    percent::encode_level(name, &mut topic);
    topic.push_str("/?$rid=");
    percent::encode(rid, &mut topic);
    topic
}

/// The filters of what a client can be sent, its inputs left out: answers about its twin, desired changes, methods, messages
/// from the cloud.
pub fn filters(device: &str) -> [String; 4] {
    [
        "$iothub/twin/res/#".to_owned(),
        "$iothub/twin/PATCH/properties/desired/#".to_owned(),
        "$iothub/methods/POST/#".to_owned(),
        format!("devices/{device}/messages/devicebound/#"),
    ]
}

/// A client asks for its twin.
pub fn twin_get(rid: &str) -> String {
    format!("$iothub/twin/GET/?$rid={rid}")
}

/// A client changes its reported properties.
pub fn twin_report(rid: &str) -> String {
    format!("$iothub/twin/PATCH/properties/reported/?$rid={rid}")
}

/// A client answers a call of a method; `rid` is what the call brought, as it brought it.
pub fn method_response(status: i32, rid: &str) -> String {
    format!("$iothub/methods/res/{status}/?$rid={rid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_that_sdks_take_apart() {
        let mut bag = PropertyBag::new();
        assert_eq!(cloud_to_device("press", &bag), "devices/press/messages/devicebound/");
        bag.set("$.to", "/devices/press/messages/devicebound");
        bag.set_null("urgent");
        assert_eq!(
            cloud_to_device("press", &bag),
            "devices/press/messages/devicebound/%24.to=%2Fdevices%2Fpress%2Fmessages%2Fdevicebound&urgent"
        );
        let mut bag = PropertyBag::new();
        bag.set("$.cdid", "press");
        assert_eq!(input("e", "m", "in", &bag), "devices/e/modules/m/inputs/in/%24.cdid=press");
        assert_eq!(twin_response(200, "6f2c", None), "$iothub/twin/res/200/?$rid=6f2c");
        assert_eq!(twin_response(204, "6f2c", Some(7)), "$iothub/twin/res/204/?$rid=6f2c&$version=7");
        assert_eq!(desired_patch(3), "$iothub/twin/PATCH/properties/desired/?$version=3");
        assert_eq!(method_request("reboot", "123"), "$iothub/methods/POST/reboot/?$rid=123");
        assert_eq!(method_request("a/b#", "1"), "$iothub/methods/POST/a%2Fb%23/?$rid=1");
    }

    #[test]
    fn what_a_client_asks_for_is_what_a_hub_reads() {
        use super::super::{Feature, Operation};
        assert_eq!(Operation::parse(&twin_get("7")), Ok(Operation::TwinGet { rid: "7" }));
        let report = Operation::TwinReport { rid: Some("7"), version: None };
        assert_eq!(Operation::parse(&twin_report("7")), Ok(report));
        let response = Operation::MethodResponse { status: 404, rid: "%20a" };
        assert_eq!(Operation::parse(&method_response(404, "%20a")), Ok(response));
        let features: Vec<_> =
            filters("press").iter().filter_map(|all| Feature::of(all, "press", None)).collect();
        let wanted =
            [Feature::TwinResponses, Feature::DesiredPatches, Feature::Methods, Feature::CloudToDevice];
        assert_eq!(features, wanted);
    }
}
