//! The topics of what clients are sent.

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
}
