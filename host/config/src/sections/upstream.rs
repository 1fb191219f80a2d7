//! `[upstream]`.

use super::{Context, concierge, places, upstream_hub};
use crate::{
    Drain, HubKind, MqttVersion, Password, Payload, Transport, Upstream, UpstreamPlace,
    reader::{Problem, Section, Value},
    template, values,
};
use holdfast_types::Name;
use std::{net::IpAddr, time::Duration};
use toml::de::DeValue;

/// Most bytes in client id and user name: what IoT Hub's user names need, with room.
const CREDENTIAL_BYTES_MAX: usize = 1024;
/// MQTT carries the keep alive in 16 bits of seconds.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(18 * 3600);
/// Least packet limit: CONNECT and short messages must fit.
const PACKET_BYTES_MIN: u64 = 1 << 10;
/// The largest packet that MQTT can say (MQTT 5, 1.5.5), rounded up.
const PACKET_BYTES_MAX: u64 = 256 << 20;
/// Longest that acknowledged messages are kept: a hub that was not missed for a day was not lost with them.
const KEEP_MAX: Duration = Duration::from_secs(86_400);
const KEEP_BYTES_MAX: u64 = 1 << 40;
/// How long they are kept for another hub unless the file says otherwise: longer than a failover takes, by far.
const KEEP_USUAL: Duration = Duration::from_secs(600);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);

pub(crate) fn upstream(
    mut section: Section<'_, '_, '_>,
    edge: &Name,
    context: &Context<'_>,
) -> Option<Upstream> {
    let kind = upstream_hub::kind(&mut section);
    let is_hub = kind.is_some();
    let (mut hub, identity) = upstream_hub::hub(&mut section, kind, context);
    let mut places = places::read(&mut section, is_hub.then_some(hub.as_ref().map(|hub| &*hub.name)));
    if let (Some(hub), Some(places)) = (&mut hub, &mut places) {
        upstream_hub::name(hub, places);
    }
    if let (Some(HubKind::IotHub), Some(places)) = (kind, &mut places) {
        upstream_hub::iot_hub_ways(&section, places);
    }
    let (return_after, failover_after) = places::patience(&mut section);
    let return_by_itself = section.take("return_by_itself", values::flag).unwrap_or(false);
    let concierge = section.section("concierge").and_then(concierge::read);
    let (allow_plain, may_be_plain) = values::switch(&mut section, "allow_plain");
    let client_id = section.take("client_id", |value| credential(value, "\"edge-1\""));
    let user = section.take("user", |value| credential(value, "\"edge-1\""));
    let password = password(&mut section, context);
    let versions = [("3.1.1", MqttVersion::V311), ("5", MqttVersion::V5), ("5.0", MqttVersion::V5)];
    let version = section.take("version", |value| values::choice(value, &versions)).unwrap_or_default();
    let topic = section.take("topic", |value| {
        let text = values::text(value, "\"holdfast/{edge}/{source}\"")?;
        template::check(text).map(|()| text.to_owned())
    });
    // It is what an IoT Hub speaks.
    let version = if kind == Some(HubKind::IotHub) { MqttVersion::V311 } else { version };
    let payloads = [("raw", Payload::Raw), ("envelope", Payload::Envelope)];
    let payload = section.take("payload", |value| values::choice(value, &payloads)).unwrap_or_default();
    let window = section.take("window", |value| values::whole(value, 1, 65_535));
    let packet = section.take("packet_max", |value| values::size(value, PACKET_BYTES_MIN, PACKET_BYTES_MAX));
    let keep_alive =
        section.take("keep_alive", |value| values::time(value, Duration::from_secs(5), KEEP_ALIVE_MAX));
    let drain = section.take("drain", drain).unwrap_or_default();
    let streams = section.take("streams", values::flag).unwrap_or(true);
    let keep = section.take("keep_acknowledged", |value| values::time(value, Duration::ZERO, KEEP_MAX));
    let keep_bytes =
        section.take("keep_acknowledged_max", |value| values::size(value, PACKET_BYTES_MIN, KEEP_BYTES_MAX));
    let (backoff_min, backoff_max) = backoff(&mut section);
    let ca_file = values::file(&mut section, "ca_file", context);
    if let Some(places) = &places {
        check_encryption(&section, places, may_be_plain, is_hub);
    }
    if password.is_some() && !section.holds("user") && version == MqttVersion::V311 {
        let reason = "there is a password and no user, which MQTT 3.1.1 forbids";
        section.missing("user", Problem::new(reason, "add user = \"…\", or write version = \"5\""));
    }
    section.finish();
    // An IoT Hub hands duplicates on, as a plain broker does.
    let drops_duplicates = kind == Some(HubKind::Holdfast);
    let keep_usual = places.as_ref().is_some_and(|places| drops_duplicates && places.len() > 1);
    Some(Upstream {
        places: places?,
        return_after,
        return_by_itself,
        concierge,
        failover_after,
        allow_plain,
        client_id: client_id.unwrap_or_else(|| edge.to_string()),
        user,
        password,
        version,
        topic: topic.unwrap_or_else(|| "holdfast/{edge}/{source}".to_owned()),
        payload,
        window: window.and_then(|count| u16::try_from(count).ok()).unwrap_or(256),
        packet_bytes_max: packet.and_then(|bytes| u32::try_from(bytes).ok()),
        drain,
        streams,
        keep_acknowledged: keep.unwrap_or(if keep_usual { KEEP_USUAL } else { Duration::ZERO }),
        keep_acknowledged_bytes: keep_bytes.unwrap_or(64 << 20),
        keep_alive: keep_alive.unwrap_or(Duration::from_secs(60)),
        backoff_min,
        backoff_max,
        ca_file,
        identity,
        hub,
    })
}

pub(super) fn credential(value: Value<'_, '_>, example: &str) -> Result<String, Problem> {
    let text = values::text(value, example)?;
    if text.len() > CREDENTIAL_BYTES_MAX {
        let reason = format!("the text has {} bytes; at most {CREDENTIAL_BYTES_MAX} are allowed", text.len());
        return Err(Problem::new(reason, "make it shorter"));
    }
    if text.contains('\0') {
        return Err(Problem::new("the text holds the character U+0000, which MQTT forbids", "remove it"));
    }
    Ok(text.to_owned())
}

pub(super) fn password(section: &mut Section<'_, '_, '_>, context: &Context<'_>) -> Option<Password> {
    let inline = section.take("password", values::secret);
    let file = values::file(section, "password_file", context);
    if let (true, Some(value)) = (section.holds("password_file"), section.value_of("password")) {
        let problem = Problem::new("there are both password and password_file", "remove password");
        section.fault(value, "password", problem);
    }
    file.map(Password::File).or(inline.map(Password::Inline))
}

/// `"in-order"`, or the share of the most urgent, such as `"75 %"`.
fn drain(value: Value<'_, '_>) -> Result<Drain, Problem> {
    let choices = "\"in-order\", or a share of the link from \"1 %\" to \"99 %\"";
    let DeValue::String(text) = value.get() else { return Err(value.mismatch("a text", choices)) };
    if text == "in-order" {
        return Ok(Drain::InOrder);
    }
    let hundredths = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u8>().ok());
    match hundredths {
        Some(share @ 1..=99) => Ok(Drain::Share(share)),
        Some(100) => Err(Problem::new(
            "with all of the link for the most urgent there is nothing to share",
            "write \"in-order\"",
        )),
        _ => Err(Problem::new(format!("{text:?} is not a choice here"), format!("write {choices}"))),
    }
}

fn backoff(section: &mut Section<'_, '_, '_>) -> (Duration, Duration) {
    let least = Duration::from_millis(100);
    let min = section.take("backoff_min", |value| values::time(value, least, BACKOFF_MAX));
    let max = section.take("backoff_max", |value| values::time(value, least, BACKOFF_MAX));
    let (first, last) = (min.unwrap_or(Duration::from_secs(1)), max.unwrap_or(Duration::from_secs(60)));
    // A time that could not be read is reported itself, and the default in its place is nobody's fault.
    let read = |key: &str, time: Option<Duration>| time.is_some() || !section.holds(key);
    if !read("backoff_min", min) || !read("backoff_max", max) {
        return (first, last);
    }
    let key = if max.is_some() { "backoff_max" } else { "backoff_min" };
    if let (true, Some(value)) = (first > last, section.value_of(key)) {
        let reason = format!("backoff_min ({first:?}) is longer than backoff_max ({last:?})");
        section.fault(value, key, Problem::new(reason, "make backoff_max the longer one"));
    }
    (first, last)
}

/// Only TLS leaves the machine unless the file says otherwise, and settings of TLS mean that TLS is wanted.
fn check_encryption(
    section: &Section<'_, '_, '_>,
    places: &[UpstreamPlace],
    may_be_plain: bool,
    is_hub: bool,
) {
    let ways = || places.iter().flat_map(|place| &place.ways);
    let open = ways().find(|way| !way.transport.is_encrypted() && !is_loopback(&way.host));
    let key = if section.holds("url") { "url" } else { "hubs" };
    if let (false, Some(open), Some(value)) = (may_be_plain, open, section.value_of(key)) {
        let (plain, safe) = match open.transport {
            Transport::WebSocket => ("ws", "wss://"),
            _ => ("mqtt", "mqtts://"),
        };
        let reason = format!("{plain} to {} would carry messages and passwords unencrypted", open.host);
        let port = open.transport.encrypted().usual_port();
        let fix = format!(
            "write {safe}{}:{port}, or add allow_plain = true to [upstream] if the network is trusted",
            open.host
        );
        section.fault(value, key, Problem::new(reason, fix));
    }
    if section.holds("concierge") || ways().any(|way| way.transport.is_encrypted()) {
        return;
    }
    for key in ["ca_file", "cert_file", "key_file"] {
        // Alone it is the key that tokens for a hub are signed with.
        if key == "key_file" && is_hub && !section.holds("cert_file") {
            continue;
        }
        if let Some(value) = section.value_of(key) {
            let reason = format!("{key} has no effect with mqtt://");
            section.fault(value, key, Problem::new(reason, "write mqtts:// in url, or remove this line"));
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
