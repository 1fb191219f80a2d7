//! Topics, names and numbers that both sides agree on.

use holdfast_types::Name;

/// The version of the protocol that this room knows.
pub const PROTOCOL: u32 = 1;

/// Where an edge publishes what is bound upstream.
pub const EVENTS_TOPIC: &str = "$holdfast/1/events";

/// What the topic of a call begins with; its name follows.
pub const CALL_TOPIC_PREFIX: &str = "$holdfast/1/call/";

/// The response topic of every call.
pub const ANSWER_TOPIC: &str = "$holdfast/1/answer";

/// The user property of an answer that holds its status.
pub const STATUS_PROPERTY: &str = "status";

/// The module that an edge connects as, as in IoT Edge.
pub const HUB_MODULE: &str = "$edgeHub";

/// What in the user name says that the client speaks this protocol, and which version.
pub const LINK_PARAMETER: &str = "holdfast-link";

/// The version of IoT Hub's interface in the user name, which its dialect wants to be there.
const API_VERSION: &str = "2021-04-12";

/// The client identifier of an edge.
pub fn client_id(edge: &Name) -> String {
    format!("{edge}/{HUB_MODULE}")
}

/// The user name of an edge at a hub.
pub fn user_name(hub: &str, edge: &Name) -> String {
    format!("{hub}/{edge}/{HUB_MODULE}/?api-version={API_VERSION}&{LINK_PARAMETER}={PROTOCOL}")
}

/// Which version of this protocol the client of a user name speaks; none if it speaks another.
pub fn link_version(user_name: &str) -> Option<u32> {
    let pairs = user_name.rsplit_once('/')?.1;
    let pairs = pairs.strip_prefix('?').unwrap_or(pairs);
    let mut values = pairs.split('&').filter_map(|pair| pair.split_once('='));
    values.find(|(name, _)| *name == LINK_PARAMETER)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_the_link_is_told_by_its_user_name() {
        let edge = Name::new("edge-1").unwrap();
        let user = user_name("hub.example", &edge);
        assert_eq!(user, "hub.example/edge-1/$edgeHub/?api-version=2021-04-12&holdfast-link=1");
        assert_eq!(client_id(&edge), "edge-1/$edgeHub");
        assert_eq!(link_version(&user), Some(1));
        for other in ["", "hub", "hub/d/?api-version=1", "hub/d/?holdfast-link=x", "hub/holdfast-link=1/?a=b"]
        {
            assert_eq!(link_version(other), None, "{other}");
        }
    }
}
