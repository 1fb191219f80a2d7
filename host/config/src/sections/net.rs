//! `[net]` and `[net.proxy]`: how this machine reaches others.

use super::{
    Context,
    places::split_port,
    upstream::{credential, password},
};
use crate::{
    Net, Proxy,
    reader::{Problem, Section, Value},
    values,
};
use std::net::{IpAddr, SocketAddr};

/// Most name servers: a resolver of the C library takes three.
const NAME_SERVERS_MAX: usize = 8;
/// Most hosts that are reached without the proxy.
const EXCEPT_MAX: usize = 256;
/// The port of name servers.
const DNS_PORT: u16 = 53;

pub(crate) fn net(section: Option<Section<'_, '_, '_>>, context: &Context<'_>) -> Net {
    let Some(mut section) = section else { return Net::default() };
    let name_servers =
        section.take_list("name_servers", "[\"10.0.0.2:53\"]", name_server).unwrap_or_default();
    if let (true, Some(value)) = (name_servers.len() > NAME_SERVERS_MAX, section.value_of("name_servers")) {
        let reason = format!("there are {} name servers", name_servers.len());
        section.fault(
            value,
            "name_servers",
            Problem::new(reason, format!("name at most {NAME_SERVERS_MAX}")),
        );
    }
    let proxy = section.section("proxy").and_then(|section| proxy(section, context));
    section.finish();
    Net { name_servers, proxy }
}

/// `address[:port]`; a name would need a name server itself.
fn name_server(value: Value<'_, '_>) -> Result<SocketAddr, Problem> {
    let text = values::text(value, "\"10.0.0.2:53\"")?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    text.parse().map_err(|_| {
        let reason = format!("{text:?} is no address of a name server");
        Problem::new(reason, "write an IP address, and a port where it is not 53, such as \"10.0.0.2:53\"")
    })
}

fn proxy(mut section: Section<'_, '_, '_>, context: &Context<'_>) -> Option<Proxy> {
    let address =
        section.take("url", |value| proxy_address(values::text(value, "\"http://proxy.example.com:3128\"")?));
    if !section.holds("url") {
        let problem =
            Problem::new("there is no address of the proxy", "add url = \"http://proxy.example.com:3128\"");
        section.missing("url", problem);
    }
    let user = section.take("user", |value| credential(value, "\"edge-1\""));
    let password = password(&mut section, context);
    if password.is_some() && !section.holds("user") {
        section.missing("user", Problem::new("there is a password and no user", "add user = \"…\""));
    }
    let except = section.take_list("except", "[\".plant.example\", \"10.0.0.7\"]", |value| {
        let text = values::text(value, "\".plant.example\"")?;
        values::host(text.strip_prefix('.').unwrap_or(text)).map(|_| text.to_owned())
    });
    let except = except.unwrap_or_default();
    if let (true, Some(value)) = (except.len() > EXCEPT_MAX, section.value_of("except")) {
        let reason = format!("there are {} hosts; at most {EXCEPT_MAX} are allowed", except.len());
        section.fault(
            value,
            "except",
            Problem::new(reason, "name the end that they share, such as \".example.com\""),
        );
    }
    section.finish();
    let (host, port) = address?;
    Some(Proxy { host, port, user, password, except })
}

/// `http://host:port`. What is refused is not repeated, since it may hold a password.
fn proxy_address(text: &str) -> Result<(String, u16), Problem> {
    let form = "write http://host:port, such as http://proxy.example.com:3128";
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(Problem::new("the address of a proxy begins with http://", form));
    };
    if rest.contains('@') {
        let fix = "remove it from the address; write user = \"…\" and password_file = \"…\" in [net.proxy]";
        return Err(Problem::new("the address holds a user or password", fix));
    }
    let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest));
    let host = values::host(host).map_err(|problem| problem.at("http://".len()))?;
    match port.and_then(|port| port.parse().ok()).filter(|port| *port != 0) {
        Some(port) => Ok((host, port)),
        None => Err(Problem::new("the address of the proxy has no port", form)),
    }
}
