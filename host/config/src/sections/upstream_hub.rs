//! `[upstream]` with `profile = "hub"`: the keys that only a hub of Holdfast has, and those that it leaves no choice of.

use super::Context;
use crate::{
    HubLink, Identity, UpstreamPlace,
    reader::{Problem, Section},
    values,
};

/// Settings that the link to a hub decides by itself.
const DECIDED: &[&str] = &["client_id", "user", "password", "password_file", "version", "topic", "payload"];

/// Settings that mean nothing without a hub.
const HUB_ONLY: &[&str] = &["hub"];

/// Whether the link is to a hub.
pub(super) fn is_hub(section: &mut Section<'_, '_, '_>) -> bool {
    section
        .take("profile", |value| values::choice(value, &[("plain", false), ("hub", true)]))
        .unwrap_or_default()
}

/// Reads what only a hub has. With a plain profile none of it may be there. The name is empty where each of `hubs` has its
/// own.
pub(super) fn hub(
    section: &mut Section<'_, '_, '_>,
    is_hub: bool,
    context: &Context<'_>,
) -> (Option<HubLink>, Option<Identity>) {
    let name = section.take("hub", |value| values::host(values::text(value, "\"hub.example.com\"")?));
    if !is_hub {
        for key in HUB_ONLY {
            if let Some(value) = section.value_of(key) {
                let reason = format!("{key} has no effect without profile = \"hub\"");
                section.fault(value, key, Problem::new(reason, "add profile = \"hub\", or remove this line"));
            }
        }
        return (None, values::identity(section, context));
    }
    for key in DECIDED {
        if let Some(value) = section.value_of(key) {
            let reason = format!("{key} has no effect with profile = \"hub\", which decides it");
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
    (is_named.then(|| HubLink { name: name.unwrap_or_default(), key_file }), identity)
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
