//! `upstream.url`, `upstream.hubs` and `upstream.transports`: whom the link goes to, and by which ways.

use crate::{
    Carrier, Transport, UpstreamAddress, UpstreamPlace,
    nearest::nearest,
    reader::{Problem, Section, Value},
    values,
};
use std::time::Duration;
use toml::de::DeValue;

/// Most hubs or brokers.
const PLACES_MAX: usize = 8;

/// What is written before an address.
const SCHEMES: [(&str, Transport); 5] = [
    ("mqtts", Transport::Tls),
    ("mqtt", Transport::Tcp),
    ("wss", Transport::WebSocketTls),
    ("ws", Transport::WebSocket),
    ("quic", Transport::Quic),
];

/// Spellings of other programs.
const OTHER_SCHEMES: [(&str, &str); 9] = [
    ("ssl", "mqtts"),
    ("tls", "mqtts"),
    ("mqtt+ssl", "mqtts"),
    ("tcp", "mqtt"),
    ("mqtt+tcp", "mqtt"),
    ("https", "wss"),
    ("http", "ws"),
    ("mqtt-quic", "quic"),
    ("mqtt+quic", "quic"),
];

const CARRIERS: [(&str, Carrier); 3] =
    [("quic", Carrier::Quic), ("mqtt", Carrier::Mqtt), ("websocket", Carrier::WebSocket)];

/// Spellings of IoT Edge and of other programs.
const OTHER_CARRIERS: [(&str, &str); 5] =
    [("mqttws", "websocket"), ("ws", "websocket"), ("wss", "websocket"), ("mqtts", "mqtt"), ("tls", "mqtt")];

/// One entry of `transports`.
#[derive(Clone)]
struct Wanted {
    carrier: Carrier,
    port: Option<u16>,
    path: Option<String>,
}

/// Whom the link goes to; none if nobody is named, which is reported. `hub` is there if the link is to a hub, and holds its
/// name if that is known: a hub is found under its name where nothing else is said.
pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    hub: Option<Option<&str>>,
) -> Option<Vec<UpstreamPlace>> {
    let wanted = section.take_list("transports", "[\"quic\", \"mqtt\", \"websocket\"]", transport);
    check_transports(section, wanted.as_deref());
    let url = section.take("url", |value| {
        let text = values::text(value, "\"mqtts://broker.example.com:8883\"")?;
        address(text).map(|address| (text.to_owned(), None, Named::Way(address)))
    });
    let hubs = hubs(section);
    if let (true, Some(value)) = (section.holds("url"), section.value_of("hubs")) {
        let problem =
            Problem::new("there are both url and hubs", "put the address of url into hubs, and remove url");
        section.fault(value, "hubs", problem);
    }
    let nobody = !section.holds("url") && !section.holds("hubs");
    if nobody && hub.is_none() {
        let problem = Problem::new(
            "there is no address of the broker",
            "add url = \"mqtts://broker.example.com:8883\"",
        );
        section.missing("url", problem);
    }
    let hub = hub.flatten().filter(|_| nobody).map(|hub| (hub.to_owned(), None, Named::Host(hub.to_owned())));
    let named: Vec<_> = url.into_iter().chain(hubs).chain(hub).collect();
    let places: Vec<_> = named
        .into_iter()
        .map(|(address, name, named)| UpstreamPlace { address, name, ways: ways(&named, wanted.as_deref()) })
        .collect();
    (!places.is_empty()).then_some(places)
}

/// `return_after` and `failover_after`.
pub(super) fn patience(section: &mut Section<'_, '_, '_>) -> (Duration, Duration) {
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let back = section.take("return_after", |value| values::time(value, second, day));
    let over = section.take("failover_after", |value| values::time(value, second, day));
    (back.unwrap_or(Duration::from_secs(300)), over.unwrap_or(Duration::from_secs(30)))
}

/// What was written for a place: one way to it, or its name alone.
enum Named {
    Way(UpstreamAddress),
    Host(String),
}

fn ways(named: &Named, wanted: Option<&[Wanted]>) -> Vec<UpstreamAddress> {
    let host = match named {
        Named::Way(way) => &way.host,
        Named::Host(host) => host,
    };
    let way = |wanted: &Wanted| {
        let mut way = match named {
            Named::Way(way) if Carrier::of(way.transport) == wanted.carrier => way.clone(),
            _ => UpstreamAddress::usual(wanted.carrier.encrypted(), host.clone()),
        };
        way.port = wanted.port.unwrap_or(way.port);
        way.path = wanted.path.clone().unwrap_or(way.path);
        way
    };
    match (wanted, named) {
        (Some(wanted), _) if !wanted.is_empty() => wanted.iter().map(way).collect(),
        (_, Named::Way(way)) => vec![way.clone()],
        (_, Named::Host(host)) => {
            Carrier::ALL.map(|carrier| UpstreamAddress::usual(carrier.encrypted(), host.clone())).into()
        }
    }
}

/// `name[:port][/path]`.
fn transport(value: Value<'_, '_>) -> Result<Wanted, Problem> {
    let text = values::text(value, "\"quic\", \"mqtt\" or \"websocket\"")?;
    let (rest, path) = match text.find('/') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at..)),
        None => (text, None),
    };
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    let Some((_, carrier)) = CARRIERS.iter().find(|(known, _)| *known == name) else {
        let lower = name.to_ascii_lowercase();
        let meant = OTHER_CARRIERS.iter().find(|(other, _)| *other == lower).map(|(_, meant)| *meant);
        let fix = match meant.or_else(|| nearest(&lower, CARRIERS.iter().map(|(known, _)| *known))) {
            Some(name) => format!("write {name:?}"),
            None => "write \"quic\", \"mqtt\" or \"websocket\"".to_owned(),
        };
        return Err(Problem::new(format!("{name:?} is no transport here"), fix));
    };
    if let (Some(_), false) = (path, *carrier == Carrier::WebSocket) {
        return Err(Problem::new("only a WebSocket has a path", "end it after the port"));
    }
    let port = port.map(|port| number(port, text)).transpose()?;
    Ok(Wanted { carrier: *carrier, port, path: path.map(str::to_owned) })
}

fn check_transports(section: &Section<'_, '_, '_>, wanted: Option<&[Wanted]>) {
    let (Some(value), Some(wanted)) = (section.value_of("transports"), wanted) else { return };
    let twice = wanted.iter().enumerate().any(|(at, one)| {
        wanted.iter().take(at).any(|earlier| earlier.carrier == one.carrier && earlier.port == one.port)
    });
    if twice {
        section.fault(
            value,
            "transports",
            Problem::new("a transport stands here twice", "remove one of the two"),
        );
    }
    if matches!(value.get(), DeValue::Array(items) if items.is_empty()) {
        let fix = "write the transports to try, in order, or remove the line";
        section.fault(value, "transports", Problem::new("there is no transport", fix));
    }
}

/// `hubs = [{ address = "…", name = "…", priority = 1 }]`, the least priority first.
fn hubs(section: &mut Section<'_, '_, '_>) -> Vec<(String, Option<String>, Named)> {
    let Some(value) = section.value("hubs") else { return Vec::new() };
    let DeValue::Array(items) = value.get() else {
        let example = "hubs = [{ address = \"hub-a.example\", priority = 1 }]";
        section.fault(value, "hubs", value.mismatch("a list", example));
        return Vec::new();
    };
    if items.is_empty() || items.len() > PLACES_MAX {
        let reason = format!("there are {} hubs", items.len());
        section.fault(value, "hubs", Problem::new(reason, format!("name 1 to {PLACES_MAX}")));
    }
    let mut found = Vec::new();
    for item in items.iter().take(PLACES_MAX) {
        if !matches!(item.get_ref(), DeValue::Table(_)) {
            let problem = Value(item).mismatch("a hub", "{ address = \"hub-a.example\", priority = 1 }");
            section.fault(Value(item), "hubs", problem);
            continue;
        }
        let Some(mut hub) = section.subsection("hubs", Value(item)) else { continue };
        let named = hub.take("address", |value| {
            let text = values::text(value, "\"hub-a.example\"")?;
            let named = if text.contains("://") { address(text).map(Named::Way) } else { bare(text) };
            named.map(|named| (text.to_owned(), named))
        });
        if !hub.holds("address") {
            hub.missing("address", Problem::new("a hub has no address", "add address = \"hub-a.example\""));
        }
        let name = hub.take("name", |value| values::host(values::text(value, "\"hub-a.example\"")?));
        let priority = hub.take("priority", |value| values::whole(value, 0, 1000)).unwrap_or(0);
        hub.finish();
        found.extend(named.map(|(address, named)| (priority, (address, name, named))));
    }
    found.sort_by_key(|(priority, _)| *priority);
    for (at, (_, (address, name, _))) in found.iter().enumerate() {
        let mut earlier = found.iter().take(at).map(|(_, earlier)| earlier);
        let twice = earlier.find_map(|(other, other_name, _)| {
            let same_name = name.as_ref().filter(|name| other_name.as_ref() == Some(name));
            same_name.or((other == address).then_some(address))
        });
        if let Some(twice) = twice {
            let problem = Problem::new(format!("{twice} stands here twice"), "remove one of the two");
            section.fault(value, "hubs", problem);
        }
    }
    found.into_iter().map(|(_, named)| named).collect()
}

fn bare(text: &str) -> Result<Named, Problem> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    values::host(inside).map(Named::Host)
}

/// `scheme://host[:port][/path]`. What is refused is not repeated whole, since it may hold a password.
fn address(text: &str) -> Result<UpstreamAddress, Problem> {
    let form = "write mqtts://host:8883, wss://host:443/mqtt or quic://host:14567";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Problem::new(
            "the address does not begin with mqtts://, mqtt://, wss://, ws:// or quic://",
            form,
        ));
    };
    let Some((_, transport)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
        let lower = scheme.to_ascii_lowercase();
        let known = SCHEMES.iter().map(|(known, _)| *known).find(|known| *known == lower);
        let meant = OTHER_SCHEMES.iter().find(|(other, _)| *other == lower).map(|(_, meant)| *meant);
        let fix = match known.or(meant) {
            Some(meant) => format!("write {meant}:// in its place"),
            None => form.to_owned(),
        };
        return Err(Problem::new(format!("{scheme}:// is not spoken here"), fix));
    };
    if rest.contains('@') {
        let fix = "remove it from the address; write user = \"…\" and password_file = \"…\"";
        return Err(Problem::new("the address holds a user or password", fix));
    }
    let mut way = UpstreamAddress::usual(*transport, String::new());
    let mut rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(at) = rest.find(['/', '?', '#']) {
        if Carrier::of(*transport) != Carrier::WebSocket {
            let problem = Problem::new("the address goes on after the port", "end it after the port");
            return Err(problem.at(scheme.len() + 3 + at));
        }
        way.path = rest.get(at..).unwrap_or_default().to_owned();
        if !way.path.starts_with('/')
            || way.path.contains('#')
            || way.path.chars().any(|c| !c.is_ascii_graphic())
        {
            let problem =
                Problem::new("this is no path of a WebSocket", "write a path such as /mqtt after the port");
            return Err(problem.at(scheme.len() + 3 + at));
        }
        rest = rest.get(..at).unwrap_or_default();
    }
    let (host, port) = split_port(rest);
    way.host = values::host(host).map_err(|problem| problem.at(scheme.len() + 3))?;
    if let Some(port) = port {
        way.port = number(port, text)?;
    }
    Ok(way)
}

pub(super) fn number(port: &str, text: &str) -> Result<u16, Problem> {
    port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(|| {
        let problem = Problem::new(format!("{port:?} is not a port"), "write a number from 1 to 65535");
        problem.at(text.rfind(port).unwrap_or_default())
    })
}

pub(super) fn split_port(rest: &str) -> (&str, Option<&str>) {
    if let Some((host, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some(after) }));
    }
    match rest.rsplit_once(':') {
        // An IPv6 address without brackets has no port that could be told apart.
        Some((host, _)) if host.contains(':') => (rest, None),
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    }
}
