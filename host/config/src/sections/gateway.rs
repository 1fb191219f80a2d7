//! `[gateway]`.

use super::{Context, listen};
use crate::{
    Gateway, Listen,
    reader::{Problem, Section},
    values,
};
use holdfast_types::{BODY_BYTES_MAX, Name};
use std::time::Duration;

/// Most names of this edge: they stand in one certificate, which each device gets with each handshake.
const HOST_NAMES_MAX: usize = 32;
/// Most connections that may be asked for; each takes about 30 KiB.
const CONNECTIONS_MAX: u32 = 100_000;
/// Most handshakes at once that may be asked for; each takes about 40 KiB.
const HANDSHAKES_MAX: u32 = 10_000;
/// Longest time for a handshake and CONNECT that may be asked for. IoT Edge gives 60 s.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest keep alive that MQTT can express, near enough.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(18 * 3600);
/// Room for a topic and properties beside the largest body.
const PACKET_BYTES_MAX: u64 = BODY_BYTES_MAX as u64 + (1 << 20);
/// Most messages each second that a bound may say; who has no bound leaves it out.
const MESSAGES_PER_SECOND_MAX: u32 = 1_000_000;
/// Least bytes each second: a client must get a short message through in less than its keep alive.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
/// Least packet limit: CONNECT and short messages must fit.
const PACKET_BYTES_MIN: u64 = 1 << 10;

/// `anyone` tells whether there is anyone to listen for; `users` are the names of those that have one.
pub(crate) fn gateway(
    section: Option<Section<'_, '_, '_>>,
    anyone: bool,
    users: &[Name],
    context: &Context<'_>,
) -> Gateway {
    let mut gateway = Gateway {
        listen: if anyone { vec![Listen::HOME] } else { Vec::new() },
        allow_remote_plain: false,
        host_names: Vec::new(),
        identity: None,
        client_ca_file: None,
        content_type: None,
        anonymous: None,
        keep_alive_max: None,
        connections_max: 100,
        handshakes_max: 256,
        handshakes_per_address_max: 128,
        connect_time_max: Duration::from_secs(10),
        packet_bytes_max: 1 << 20,
        unacked_max: 64,
        messages_per_second_max: None,
        bytes_per_second_max: None,
    };
    let Some(mut section) = section else { return gateway };
    let remote;
    (gateway.allow_remote_plain, remote) = values::switch(&mut section, "allow_remote_plain");
    let addresses = section.take_list("listen", "[\"127.0.0.1:1883\"]", |value| listen::read(value, remote));
    let readable = addresses.is_some() || !section.holds("listen");
    gateway.listen = addresses.unwrap_or(gateway.listen);
    listen::check(&section, &gateway.listen);
    let names = section.take_list("host_names", "[\"edge.example.com\"]", |value| {
        values::host(values::text(value, "\"edge.example.com\"")?)
    });
    gateway.host_names = names.unwrap_or_default();
    if let (true, Some(value)) = (gateway.host_names.len() > HOST_NAMES_MAX, section.value_of("host_names")) {
        let reason =
            format!("there are {} names; at most {HOST_NAMES_MAX} are allowed", gateway.host_names.len());
        section.fault(value, "host_names", Problem::new(reason, "keep those that devices use"));
    }
    if let Some(tls) = section.section("tls") {
        let idle = readable && !gateway.listen.iter().any(|listen| listen.transport.is_encrypted());
        certificates(tls, &mut gateway, idle, context);
    }
    gateway.content_type =
        section.take("content_type", |value| values::text(value, "\"application/json\"").map(str::to_owned));
    gateway.anonymous = section.take("anonymous", |value| {
        let text = values::text(value, "\"guest\", the name of a user")?;
        let name =
            Name::new(text).map_err(|why| Problem::new(why.to_string(), "write the name of a user"))?;
        if users.contains(&name) {
            return Ok(name);
        }
        let fix = format!("add [[users]] with name = \"{name}\" and what it may do, or remove this line");
        Err(Problem::new(format!("there is no user {name}"), fix))
    });
    gateway.keep_alive_max =
        section.take("keep_alive_max", |value| values::time(value, Duration::from_secs(5), KEEP_ALIVE_MAX));
    let connections = section.take("connections_max", |value| values::whole(value, 1, CONNECTIONS_MAX));
    gateway.connections_max = connections.unwrap_or(gateway.connections_max);
    handshakes(&mut section, &mut gateway);
    let packet = section.take("packet_max", |value| values::size(value, PACKET_BYTES_MIN, PACKET_BYTES_MAX));
    let packet = packet.and_then(|bytes| u32::try_from(bytes).ok());
    gateway.packet_bytes_max = packet.unwrap_or(gateway.packet_bytes_max);
    let unacked = section.take("unacked_max", |value| values::whole(value, 1, 65_535));
    gateway.unacked_max = unacked.and_then(|count| u16::try_from(count).ok()).unwrap_or(gateway.unacked_max);
    gateway.messages_per_second_max =
        section.take("messages_per_second_max", |value| values::whole(value, 1, MESSAGES_PER_SECOND_MAX));
    gateway.bytes_per_second_max = section
        .take("bytes_per_second_max", |value| values::size(value, BYTES_PER_SECOND_MIN, u64::from(u32::MAX)));
    section.finish();
    gateway
}

/// Bounds of those who have not said who they are.
fn handshakes(section: &mut Section<'_, '_, '_>, gateway: &mut Gateway) {
    let all = section.take("handshakes_max", |value| values::whole(value, 1, HANDSHAKES_MAX));
    gateway.handshakes_max = all.unwrap_or(gateway.handshakes_max);
    let each = section.take("handshakes_per_address_max", |value| values::whole(value, 1, HANDSHAKES_MAX));
    gateway.handshakes_per_address_max = each.unwrap_or(gateway.handshakes_per_address_max);
    let time = section
        .take("connect_time_max", |value| values::time(value, Duration::from_secs(1), CONNECT_TIME_MAX));
    gateway.connect_time_max = time.unwrap_or(gateway.connect_time_max);
}

/// `[gateway.tls]`. `idle` tells that nothing listens with TLS.
fn certificates(mut section: Section<'_, '_, '_>, gateway: &mut Gateway, idle: bool, context: &Context<'_>) {
    gateway.identity = values::identity(&mut section, context);
    gateway.client_ca_file = values::file(&mut section, "client_ca_file", context);
    for key in ["cert_file", "key_file", "client_ca_file"] {
        if let (true, Some(value)) = (idle, section.value_of(key)) {
            let fix = "add an address such as \"tls://0.0.0.0:8883\" to gateway.listen, or remove this line";
            section.fault(value, key, Problem::new("nothing listens with TLS, so this has no effect", fix));
        }
    }
    section.finish();
}
