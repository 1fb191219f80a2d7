//! `[hub]`.

use super::{Context, listen};
use crate::{
    Hub, Listen, PrimaryHub, Transport,
    reader::{Problem, Section},
    units::TIME_MAX,
    values,
};
use std::{net::SocketAddr, time::Duration};

/// Where services ask a hub unless the file says otherwise.
const API_PORT: u16 = 8480;
/// How long events stay in the stream unless the file says otherwise: IoT Hub keeps them for one to seven days.
const EVENTS_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Least bytes of the stream.
const EVENTS_BYTES_MIN: u64 = 16 << 20;
/// Most: that of the store.
const EVENTS_BYTES_MAX: u64 = 16 << 40;

/// The name of the hub in tokens, and what only a hub reads.
pub(crate) fn hub(section: Option<Section<'_, '_, '_>>, context: &Context<'_>) -> (Option<String>, Hub) {
    let address = SocketAddr::from(([127, 0, 0, 1], API_PORT));
    let mut hub = Hub {
        listen: Listen { transport: Transport::Tcp, address },
        events_age_max: Some(EVENTS_AGE),
        events_quota_bytes: None,
        primary: None,
        storage: None,
    };
    let Some(mut section) = section else { return (None, hub) };
    let name = section.take("host_name", |value| values::host(values::text(value, "\"hub.example.com\"")?));
    let listen = section.take("listen", listen::read_for_http);
    hub.listen = listen.unwrap_or(hub.listen);
    let age = section.take("events_age_max", |value| values::time(value, Duration::from_secs(1), TIME_MAX));
    hub.events_age_max = age.or(hub.events_age_max);
    hub.events_quota_bytes =
        section.take("events_quota", |value| values::size(value, EVENTS_BYTES_MIN, EVENTS_BYTES_MAX));
    hub.primary = section.section("primary").and_then(|section| primary(section, context));
    section.finish();
    (name, hub)
}

/// `[hub.primary]`.
fn primary(mut section: Section<'_, '_, '_>, context: &Context<'_>) -> Option<PrimaryHub> {
    let url = section.take("url", |value| {
        let text = values::text(value, "\"https://hub-a.example:8480\"")?;
        match text.starts_with("https://") || text.starts_with("http://") {
            true => Ok(text.to_owned()),
            false => Err(Problem::new(
                format!("{text:?} is no address of a hub's API"),
                "write for example \"https://hub-a.example:8480\"",
            )),
        }
    });
    for (key, example) in
        [("url", "url = \"https://hub-a.example:8480\""), ("token_file", "token_file = \"primary.token\"")]
    {
        if !section.holds(key) {
            section.missing(
                key,
                Problem::new("the primary hub cannot be asked without it", format!("add {example}")),
            );
        }
    }
    let token_file = values::file(&mut section, "token_file", context);
    let ca_file = values::file(&mut section, "ca_file", context);
    section.finish();
    Some(PrimaryHub { url: url?, token_file: token_file?, ca_file })
}
