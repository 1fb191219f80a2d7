//! `[gateway]`.

use crate::{
    Gateway,
    reader::{Problem, Section, Value},
    values,
};
use holdfast_types::BODY_BYTES_MAX;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use toml::de::DeValue;

/// Most addresses to listen on.
const LISTENERS_MAX: usize = 16;
/// Most connections that may be asked for; each takes about 30 KiB.
const CONNECTIONS_MAX: u32 = 100_000;
/// Room for a topic and properties beside the largest body.
const PACKET_BYTES_MAX: u64 = BODY_BYTES_MAX as u64 + (1 << 20);
/// Least packet limit: CONNECT and short messages must fit.
const PACKET_BYTES_MIN: u64 = 1 << 10;

/// `users` tells whether there is anyone to listen for.
pub(crate) fn gateway(section: Option<Section<'_, '_, '_>>, users: bool) -> Gateway {
    let home = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
    let mut gateway = Gateway {
        listen: if users { vec![home] } else { Vec::new() },
        allow_remote_plain: false,
        content_type: None,
        connections_max: 100,
        packet_bytes_max: 1 << 20,
        unacked_max: 64,
    };
    let Some(mut section) = section else { return gateway };
    gateway.allow_remote_plain = section.take("allow_remote_plain", values::flag).unwrap_or(false);
    // A switch that could not be read is reported itself, not once more with each address.
    let remote = gateway.allow_remote_plain
        || section.value_of("allow_remote_plain").is_some_and(|v| values::flag(v).is_err());
    let read = |value: Value<'_, '_>| address(value, remote);
    let listen = section.take_list("listen", "[\"127.0.0.1:1883\"]", read);
    gateway.listen = listen.unwrap_or(gateway.listen);
    check_list(&section, &gateway.listen);
    gateway.content_type =
        section.take("content_type", |value| values::text(value, "\"application/json\"").map(str::to_owned));
    let connections = section.take("connections_max", |value| values::whole(value, 1, CONNECTIONS_MAX));
    gateway.connections_max = connections.unwrap_or(gateway.connections_max);
    let packet = section.take("packet_max", |value| values::size(value, PACKET_BYTES_MIN, PACKET_BYTES_MAX));
    let packet = packet.and_then(|bytes| u32::try_from(bytes).ok());
    gateway.packet_bytes_max = packet.unwrap_or(gateway.packet_bytes_max);
    let unacked = section.take("unacked_max", |value| values::whole(value, 1, 65_535));
    gateway.unacked_max = unacked.and_then(|count| u16::try_from(count).ok()).unwrap_or(gateway.unacked_max);
    section.finish();
    gateway
}

fn address(value: Value<'_, '_>, remote: bool) -> Result<SocketAddr, Problem> {
    let text = values::text(value, "\"127.0.0.1:1883\"")?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(not_an_address(text));
    };
    if !remote && !address.ip().is_loopback() {
        let home = SocketAddr::new(loopback_like(address.ip()), address.port());
        return Err(Problem::new(
            format!("{address} would let other machines connect without encryption"),
            format!(
                "listen on \"{home}\", or add allow_remote_plain = true to [gateway] if the network is trusted"
            ),
        ));
    }
    Ok(address)
}

fn loopback_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

fn not_an_address(text: &str) -> Problem {
    let reason = format!("{text:?} is not an address with a port");
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let fix = match (bare.parse::<IpAddr>(), text.split_once(':')) {
        (Ok(address), _) => format!("write \"{}\"", SocketAddr::new(address, 1883)),
        (Err(_), Some(("localhost", port))) => format!("write \"127.0.0.1:{port}\""),
        (Err(_), Some(("" | "*", port))) => {
            format!("write \"0.0.0.0:{port}\" for every address of the machine")
        }
        (Err(_), _) => {
            "write an IP address and a port from 0 to 65535, such as \"127.0.0.1:1883\"".to_owned()
        }
    };
    Problem::new(reason, fix)
}

fn check_list(section: &Section<'_, '_, '_>, listen: &[SocketAddr]) {
    let Some(value) = section.value_of("listen") else { return };
    let DeValue::Array(items) = value.get() else { return };
    if items.len() > LISTENERS_MAX {
        let reason = format!("there are {} addresses; at most {LISTENERS_MAX} are allowed", items.len());
        section.fault(value, "listen", Problem::new(reason, "listen on 0.0.0.0 instead of on each address"));
    }
    for (index, address) in listen.iter().enumerate() {
        // Port 0 asks for any free port, and may be asked for twice.
        if address.port() != 0 && listen.iter().take(index).any(|earlier| earlier == address) {
            section.fault(
                value,
                "listen",
                Problem::new(format!("{address} stands here twice"), "remove one of the two"),
            );
        }
    }
}
