//! `[upstream.concierge]`.

use super::places::{number, split_port};
use crate::{
    Concierge,
    reader::{Problem, Section},
    values,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::time::Duration;

/// What a public key of Ed25519 begins with in its DER form (RFC 8410).
const DER_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

pub(super) fn read(mut section: Section<'_, '_, '_>) -> Option<Concierge> {
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let url =
        section.take("url", |value| https(values::text(value, "\"https://concierge.example.com/active\"")?));
    let key = section.take("public_key", |value| public_key(values::text(value, "the key in base64")?));
    let interval = section.take("interval", |value| values::time(value, second, day));
    let examples = [
        ("url", "url = \"https://concierge.example.com/active\""),
        ("public_key", "public_key = \"…\", which `holdfast hub concierge key` prints"),
    ];
    for (key, example) in examples {
        if !section.holds(key) {
            let problem = Problem::new("the concierge cannot be asked without it", format!("add {example}"));
            section.missing(key, problem);
        }
    }
    section.finish();
    let (host, port, path) = url?;
    let interval = interval.unwrap_or(Duration::from_secs(60));
    Some(Concierge { host, port, path, public_key: key?, interval })
}

fn public_key(text: &str) -> Result<[u8; 32], Problem> {
    let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
    let raw = bytes.strip_prefix(&DER_HEAD).unwrap_or(&bytes);
    raw.try_into().map_err(|_| {
        let fix = "write what `holdfast hub concierge key` prints, or `openssl pkey -in key.pem -pubout -outform DER | base64`";
        Problem::new("this is no public key of Ed25519 in base64", fix)
    })
}

/// `https://host[:port][/path]`. What is refused is not repeated whole, since it may hold a password.
fn https(text: &str) -> Result<(String, u16, String), Problem> {
    let form = "write https://host/path, such as https://concierge.example.com/active";
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(Problem::new("the address of a concierge begins with https://", form));
    };
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = (rest.get(..at).unwrap_or_default(), rest.get(at..).unwrap_or_default());
    if authority.contains('@') {
        return Err(Problem::new(
            "the address holds a user or password",
            "remove it; nobody is asked for one",
        ));
    }
    if !(path.is_empty() || path.starts_with('/'))
        || path.contains('#')
        || !path.chars().all(|c| c.is_ascii_graphic())
    {
        return Err(Problem::new("this is no path to ask for", form).at("https://".len() + at));
    }
    let (host, port) = split_port(authority);
    let host = values::host(host).map_err(|problem| problem.at("https://".len()))?;
    let port = port.map_or(Ok(443), |port| number(port, text))?;
    Ok((host, port, if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}
