//! `[storage]`.

use super::Context;
use crate::{
    Storage,
    reader::{Problem, Section, Value},
    values,
};
use toml::de::DeValue;

/// Most servers that are named: those of one cluster; each tells of the others.
const SERVERS_MAX: usize = 16;
/// Copies unless the file says otherwise: one server may be lost.
const REPLICAS: u32 = 3;
/// Most characters of a prefix.
const PREFIX_MAX: usize = 32;
const PREFIX: &str = "holdfast";
const EXAMPLE: &str = "servers = [\"nats://nats-1.example:4222\"]";

/// The servers of a hub beyond one machine; none where the section is absent.
pub(crate) fn storage(section: Option<Section<'_, '_, '_>>, context: &Context<'_>) -> Option<Storage> {
    let mut section = section?;
    if !section.holds("servers") {
        let reason = "the storage has no servers";
        section.missing("servers", Problem::new(reason, format!("add {EXAMPLE}, or remove [storage]")));
    }
    let servers = servers(&mut section);
    let user = section.take("user", |value| values::text(value, "\"hub\"").map(str::to_owned));
    let password_file = values::file(&mut section, "password_file", context);
    for (there, absent) in [("user", "password_file"), ("password_file", "user")] {
        if section.holds(there) && !section.holds(absent) {
            let reason = format!("there is {there} and no {absent}; the servers ask for both");
            section.missing(absent, Problem::new(reason, format!("add {absent} = \"…\", or remove {there}")));
        }
    }
    let ca_file = values::file(&mut section, "ca_file", context);
    let identity = values::identity(&mut section, context);
    let replicas = section.take("replicas", |value| match values::whole(value, 1, 5)? {
        number if number % 2 == 1 => Ok(number),
        number => Err(Problem::new(
            format!("{number} copies outlive the loss of no more servers than {}", number - 1),
            "write 1, 3 or 5",
        )),
    });
    let prefix = section.take("prefix", |value| {
        let text = values::text(value, "\"holdfast\"")?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text.len() <= PREFIX_MAX && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(Problem::new(
                format!("{text:?} is no prefix of streams"),
                format!("write small letters, digits and hyphens, at most {PREFIX_MAX}"),
            )),
        }
    });
    section.finish();
    (!servers.is_empty()).then_some(Storage {
        servers,
        user,
        password_file,
        ca_file,
        identity,
        replicas: replicas.unwrap_or(REPLICAS),
        prefix: prefix.unwrap_or_else(|| PREFIX.to_owned()),
    })
}

fn servers(section: &mut Section<'_, '_, '_>) -> Vec<String> {
    let Some(value) = section.value("servers") else { return Vec::new() };
    let DeValue::Array(items) = value.get() else {
        section.fault(value, "servers", value.mismatch("a list", EXAMPLE));
        return Vec::new();
    };
    if items.is_empty() || items.len() > SERVERS_MAX {
        let reason = format!("there are {} servers", items.len());
        section.fault(value, "servers", Problem::new(reason, format!("name 1 to {SERVERS_MAX}")));
    }
    let mut found = Vec::new();
    for item in items.iter().take(SERVERS_MAX) {
        let item = Value(item);
        match values::text(item, "\"nats://nats-1.example:4222\"") {
            Ok(text) if text.starts_with("nats://") || text.starts_with("tls://") => {
                found.push(text.to_owned());
            }
            Ok(text) => {
                let reason = format!("{text:?} is no address of a NATS server");
                let fix = "write \"nats://nats-1.example:4222\", or tls:// for an encrypted connection";
                section.fault(item, "servers", Problem::new(reason, fix));
            }
            Err(problem) => section.fault(item, "servers", problem),
        }
    }
    found
}
