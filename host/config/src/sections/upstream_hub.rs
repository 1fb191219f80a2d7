//! `[upstream]` with `profile = "hub"` or `"iot-hub"`: the keys that only a hub has, and those that it leaves no choice of.

use super::Context;
use crate::{
    Carrier, HubKind, HubLink, Identity, OwnChildren, UpstreamPlace,
    reader::{Problem, Section},
    values,
};
use std::time::Duration;

/// Settings that the link to a hub decides by itself.
const DECIDED: &[&str] = &["client_id", "user", "password", "password_file", "version", "topic", "payload"];

/// Settings that mean nothing without a hub.
const HUB_ONLY: &[&str] = &["hub"];

/// Settings of children that go up under their own identities.
const OWN_CHILDREN: &[&str] = &["children_connections_max", "children_idle"];

/// Most connections of children at once: each takes some tens of kilobytes and a file.
const CHILDREN_CONNECTIONS_MAX: u32 = 10_000;
/// As many as IoT Edge serves children unless it is told otherwise.
const CHILDREN_CONNECTIONS_USUAL: u32 = 100;
const CHILDREN_IDLE_MIN: Duration = Duration::from_secs(1);
const CHILDREN_IDLE_MAX: Duration = Duration::from_secs(86_400);
/// A child that sends every few minutes keeps its connection.
const CHILDREN_IDLE_USUAL: Duration = Duration::from_secs(600);

/// Whose hub the link is to; none if it is to a broker.
pub(super) fn kind(section: &mut Section<'_, '_, '_>) -> Option<HubKind> {
    let named = |kind: HubKind| (kind.profile(), Some(kind));
    let profiles = [("plain", None), named(HubKind::Holdfast), named(HubKind::IotHub)];
    section.take("profile", |value| values::choice(value, &profiles)).unwrap_or_default()
}

/// Reads what only a hub has. With a plain profile none of it may be there. The name is empty where each of `hubs` has its
/// own.
pub(super) fn hub(
    section: &mut Section<'_, '_, '_>,
    kind: Option<HubKind>,
    context: &Context<'_>,
) -> (Option<HubLink>, Option<Identity>) {
    let name = section.take("hub", |value| values::host(values::text(value, "\"hub.example.com\"")?));
    let children = children(section, kind);
    let Some(kind) = kind else {
        for key in HUB_ONLY {
            if let Some(value) = section.value_of(key) {
                let reason = format!("{key} has no effect without profile = \"hub\"");
                section.fault(value, key, Problem::new(reason, "add profile = \"hub\", or remove this line"));
            }
        }
        return (None, values::identity(section, context));
    };
    for key in DECIDED {
        if let Some(value) = section.value_of(key) {
            let reason = format!("{key} has no effect with profile = {:?}, which decides it", kind.profile());
            section.fault(value, key, Problem::new(reason, "remove this line"));
        }
    }
    if !section.holds("hub") && !section.holds("hubs") {
        let problem = Problem::new("there is no name of the hub", "add hub = \"hub.example.com\"");
        section.missing("hub", problem);
    }
    let (key_file, identity) = if section.holds("cert_file") {
        (None, values::identity(section, context))
    } else {
        (values::file(section, "key_file", context), None)
    };
    if !section.holds("key_file") && !section.holds("cert_file") {
        let reason = "the edge has nothing to prove itself with at the hub";
        let fix = "add key_file = \"edge.key\" with the key of its device there, or cert_file and key_file";
        section.missing("key_file", Problem::new(reason, fix));
    }
    let is_named = name.is_some() || !section.holds("hub");
    (is_named.then(|| HubLink { name: name.unwrap_or_default(), key_file, kind, children }), identity)
}

/// Whether children go up under their own identities, and how; only an IoT Hub takes them so.
fn children(section: &mut Section<'_, '_, '_>, kind: Option<HubKind>) -> Option<OwnChildren> {
    let is_own = section.take("children", |value| values::choice(value, &[("edge", false), ("own", true)]));
    let most =
        section.take("children_connections_max", |value| values::whole(value, 1, CHILDREN_CONNECTIONS_MAX));
    let idle =
        section.take("children_idle", |value| values::time(value, CHILDREN_IDLE_MIN, CHILDREN_IDLE_MAX));
    let is_own = is_own.unwrap_or(false);
    let without = |keys: &[&str], what: &str, fix: &str| {
        for key in keys {
            if let Some(value) = section.value_of(key) {
                let problem = Problem::new(format!("{key} has no effect without {what}"), fix);
                section.fault(value, key, problem);
            }
        }
    };
    if kind != Some(HubKind::IotHub) {
        let fix = match kind {
            Some(_) => {
                "remove this line: a hub of Holdfast knows each child's messages as the child's over the one link"
            }
            None => "remove this line, or add profile = \"iot-hub\"",
        };
        without(&["children"], "profile = \"iot-hub\"", fix);
        without(OWN_CHILDREN, "profile = \"iot-hub\"", "remove this line");
    } else if !is_own {
        without(OWN_CHILDREN, "children = \"own\"", "add children = \"own\", or remove this line");
    }
    is_own.then(|| OwnChildren {
        connections_max: most.unwrap_or(CHILDREN_CONNECTIONS_USUAL),
        idle_after: idle.unwrap_or(CHILDREN_IDLE_USUAL),
    })
}

/// Leaves the ways that an IoT Hub has; who asks for another is told.
pub(super) fn iot_hub_ways(section: &Section<'_, '_, '_>, places: &mut [UpstreamPlace]) {
    let is_quic = |place: &UpstreamPlace| {
        place.ways.iter().any(|way| Carrier::of(way.transport) == Carrier::Quic)
            && (section.holds("transports") || place.ways.len() == 1)
    };
    if places.iter().any(is_quic) {
        let key = ["transports", "url", "hubs"].into_iter().find(|key| section.holds(key)).unwrap_or("url");
        if let Some(value) = section.value_of(key) {
            let problem = Problem::new(
                "an IoT Hub does not speak QUIC",
                "leave it out; \"mqtt\" and \"websocket\" are spoken",
            );
            section.fault(value, key, problem);
        }
    }
    places.iter_mut().for_each(UpstreamPlace::keep_iot_hub_ways);
}

/// Gives a name to each hub of a list that has none: where nothing is said, its host is what it is called.
pub(super) fn name(hub: &mut HubLink, places: &mut [UpstreamPlace]) {
    if !hub.name.is_empty() {
        return;
    }
    for place in &mut *places {
        let host = place.ways.first().map(|way| &way.host);
        place.name = place.name.take().or_else(|| host.cloned());
    }
    hub.name = places.first().and_then(|place| place.name.clone()).unwrap_or_default();
}
