//! The addresses in `gateway.listen`.

use crate::{
    Listen, Transport,
    nearest::nearest,
    reader::{Problem, Section, Value},
    values,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use toml::de::DeValue;

/// Most addresses to listen on.
const LISTENERS_MAX: usize = 16;

/// What is written before an address.
const SCHEMES: &[(&str, Transport)] = &[
    ("tcp", Transport::Tcp),
    ("tls", Transport::Tls),
    ("ws", Transport::WebSocket),
    ("wss", Transport::WebSocketTls),
    ("quic", Transport::Quic),
];

/// Spellings of other programs.
const OTHER_SCHEMES: &[(&str, &str)] = &[
    ("mqtt", "tcp"),
    ("mqtts", "tls"),
    ("ssl", "tls"),
    ("http", "ws"),
    ("https", "wss"),
    ("mqtt-quic", "quic"),
];

/// `[scheme://]address:port`. `remote` tells whether unencrypted connections of other machines are allowed.
pub(crate) fn read(value: Value<'_, '_>, remote: bool) -> Result<Listen, Problem> {
    let listen = address(value)?;
    if remote || !is_open(listen) {
        return Ok(listen);
    }
    let (safe, home) = alternatives(listen, listen.transport, listen.transport.encrypted().usual_port());
    Err(open(
        listen,
        format!(
            "listen on \"{safe}\" or on \"{home}\", or add allow_remote_plain = true to [gateway] if the network is trusted"
        ),
    ))
}

/// The same where nothing unencrypted may ever come from other machines, and the port is not that of MQTT.
pub(crate) fn read_for_http(value: Value<'_, '_>) -> Result<Listen, Problem> {
    let listen = address(value)?;
    let (safe, home) = alternatives(listen, Transport::Tcp, listen.address.port());
    match listen.transport {
        Transport::Tcp if is_open(listen) => {
            Err(open(listen, format!("listen on \"{safe}\", or on \"{home}\" for this machine alone")))
        }
        Transport::Tcp | Transport::Tls => Ok(listen),
        _ => Err(Problem::new(
            format!("{listen} is not for HTTP"),
            format!("write \"{home}\", or \"{safe}\" for other machines"),
        )),
    }
}

/// The address with encryption, at this port, and on this machine alone.
fn alternatives(listen: Listen, transport: Transport, port: u16) -> (Listen, Listen) {
    let ip = listen.address.ip();
    let home = SocketAddr::new(loopback_like(ip), listen.address.port());
    (
        Listen { transport: transport.encrypted(), address: SocketAddr::new(ip, port) },
        Listen { transport, address: home },
    )
}

fn is_open(listen: Listen) -> bool {
    !listen.transport.is_encrypted() && !listen.address.ip().is_loopback()
}

fn open(listen: Listen, fix: String) -> Problem {
    Problem::new(format!("{listen} would let other machines connect without encryption"), fix)
}

fn address(value: Value<'_, '_>) -> Result<Listen, Problem> {
    let text = values::text(value, "\"127.0.0.1:1883\"")?;
    let (transport, rest) = match text.split_once("://") {
        None => (Transport::Tcp, text),
        Some((scheme, rest)) => (transport(scheme)?, rest),
    };
    match rest.parse::<SocketAddr>() {
        Ok(address) => Ok(Listen { transport, address }),
        Err(_) => Err(not_an_address(text, transport, rest)),
    }
}

fn transport(scheme: &str) -> Result<Transport, Problem> {
    if let Some((_, transport)) = SCHEMES.iter().find(|(name, _)| *name == scheme) {
        return Ok(*transport);
    }
    let names = || SCHEMES.iter().map(|(name, _)| *name);
    let lower = scheme.to_ascii_lowercase();
    let meant = OTHER_SCHEMES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
    let fix = match meant.or_else(|| nearest(&lower, names())) {
        Some(name) => format!("write {name}:// in its place"),
        None => format!(
            "write one of {}",
            names().map(|name| format!("{name}://")).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(Problem::new(format!("{scheme}:// is not spoken here"), fix))
}

fn loopback_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

fn not_an_address(text: &str, transport: Transport, rest: &str) -> Problem {
    let reason = format!("{text:?} is not an address with a port");
    let scheme = if text.contains("://") { format!("{}://", transport.scheme()) } else { String::new() };
    let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
    let fix = match (bare.parse::<IpAddr>(), rest.split_once(':')) {
        (Ok(address), _) => format!("write \"{scheme}{}\"", SocketAddr::new(address, transport.usual_port())),
        (Err(_), Some(("localhost", port))) => format!("write \"{scheme}127.0.0.1:{port}\""),
        (Err(_), Some(("" | "*", port))) => {
            format!("write \"{scheme}0.0.0.0:{port}\" for every address of the machine")
        }
        (Err(_), _) => format!(
            "write an IP address and a port from 0 to 65535, such as \"{scheme}127.0.0.1:{}\"",
            transport.usual_port()
        ),
    };
    Problem::new(reason, fix)
}

/// What concerns more than one address.
pub(crate) fn check(section: &Section<'_, '_, '_>, listen: &[Listen]) {
    let Some(value) = section.value_of("listen") else { return };
    let DeValue::Array(items) = value.get() else { return };
    if items.len() > LISTENERS_MAX {
        let reason = format!("there are {} addresses; at most {LISTENERS_MAX} are allowed", items.len());
        section.fault(value, "listen", Problem::new(reason, "listen on 0.0.0.0 instead of on each address"));
    }
    for (index, this) in listen.iter().enumerate() {
        let same = |earlier: &&Listen| {
            earlier.address == this.address && earlier.transport.is_udp() == this.transport.is_udp()
        };
        // Port 0 asks for any free port, and may be asked for twice.
        if this.address.port() != 0 && listen.iter().take(index).any(|earlier| same(&earlier)) {
            let reason = format!("{} stands here twice", this.address);
            section.fault(value, "listen", Problem::new(reason, "remove one of the two, or change its port"));
        }
    }
}
