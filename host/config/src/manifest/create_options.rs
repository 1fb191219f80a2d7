//! `createOptions`: how a container would be made, as text that is JSON, in up to eight pieces.

use super::{
    Module,
    node::{Fields, Node},
    text::{self, part},
};
use serde_json::Value;

/// The pieces; IoT Hub allows 512 bytes for a text, later 4096, and the agent cuts longer ones.
const PIECES: [&str; 8] = [
    "createOptions",
    "createOptions01",
    "createOptions02",
    "createOptions03",
    "createOptions04",
    "createOptions05",
    "createOptions06",
    "createOptions07",
];

/// Reads all pieces. Variables join those of the module, which win.
pub(super) fn read(settings: &mut Fields<'_>, module: &mut Module) {
    let pieces: Vec<Option<Node<'_>>> = PIECES.into_iter().map(|key| settings.take(key)).collect();
    let Some(first) = pieces.iter().flatten().next() else { return };
    // A template may have the object itself.
    if let (Value::Object(_), 1) = (first.value, pieces.iter().flatten().count()) {
        return options(first, first.value, module);
    }
    let mut text = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        let Some(piece) = piece else { continue };
        let Some(more) = piece.text("\"{…}\", the options as text") else { return };
        if !pieces.iter().take(at).all(Option::is_some) {
            let before = PIECES.get(at.saturating_sub(1)).unwrap_or(&"");
            return piece.fault(format!("{before} is missing before this piece"), "give all pieces in order");
        }
        text.push_str(more);
    }
    if text.trim().is_empty() {
        return;
    }
    match text::parse(text.as_bytes()) {
        Ok((value, _)) => options(first, &value, module),
        Err(error) => first.fault(
            format!("the text of createOptions is no JSON: {error}"),
            "give the options as text that is a JSON object, or leave createOptions out",
        ),
    }
}

fn options(node: &Node<'_>, options: &Value, module: &mut Module) {
    let Value::Object(map) = options else {
        return node.fault("createOptions is no JSON object", "write \"{}\", or leave it out");
    };
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        match (key.as_str(), value) {
            ("Env", Value::Array(variables)) => variables.iter().for_each(|one| variable(node, one, module)),
            ("HostConfig", Value::Object(host)) => {
                for (inner, value) in host.iter().filter(|(_, value)| !value.is_null()) {
                    let path = format!("{}{}", part(key), part(inner));
                    of_host(node, &path, inner, value);
                }
            }
            (key, value) => name(node, &part(key), value, of_container(key)),
        }
    }
}

/// `NAME=text`. A variable of `env` has the last word, as in IoT Edge.
fn variable(node: &Node<'_>, one: &Value, module: &mut Module) {
    match one.as_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if !name.is_empty() => {
            module.environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        _ => name(node, "/Env", one, "it is no NAME=text".to_owned()),
    }
}

fn of_host(node: &Node<'_>, path: &str, key: &str, value: &Value) {
    match (key, value) {
        ("Binds", Value::Array(binds)) => {
            for (at, bind) in binds.iter().enumerate() {
                let grant = bind.as_str().and_then(grant);
                let reason =
                    grant.unwrap_or_else(|| "a module sees the directories that it is granted".to_owned());
                name(node, &format!("{path}/{at}"), bind, reason);
            }
        }
        ("Binds" | "Mounts" | "Devices", value) => {
            name(
                node,
                path,
                value,
                "a module sees the directories that [grants] of its NAME.toml names".to_owned(),
            );
        }
        ("PortBindings" | "PublishAllPorts" | "NetworkMode", value) => {
            name(
                node,
                path,
                value,
                "a module opens no ports; devices and messages come through the gateway".to_owned(),
            );
        }
        ("Memory" | "MemorySwap" | "MemoryReservation", value) => {
            let reason = "[limits] memory_bytes in its NAME.toml bounds the memory of a module";
            name(node, path, value, reason.to_owned());
        }
        ("NanoCpus" | "CpuShares" | "CpuQuota" | "CpuPeriod" | "CpusetCpus", value) => {
            name(node, path, value, "[limits] call_ms in its NAME.toml bounds the time of a call".to_owned());
        }
        ("LogConfig", value) => {
            name(
                node,
                path,
                value,
                "the last lines of each module are kept in memory: `holdfast logs`".to_owned(),
            );
        }
        ("RestartPolicy", value) => {
            name(node, path, value, "restartPolicy of the module holds".to_owned());
        }
        (_, value) => name(node, path, value, "it is for a container".to_owned()),
    }
}

/// The grant that means the same as `host:guest[:options]`; none if it is a volume, which has no place on the host.
fn grant(bind: &str) -> Option<String> {
    let (host, rest) = bind.split_once(':')?;
    let (guest, options) = rest.split_once(':').unwrap_or((rest, ""));
    let write = !options.split(',').any(|option| option == "ro");
    host.starts_with('/').then(|| {
        format!(
            "to grant the same, write into its NAME.toml: [grants] directories = [{{ host = {host:?}, guest = {guest:?}, \
             write = {write} }}]"
        )
    })
}

fn of_container(key: &str) -> String {
    match key {
        "ExposedPorts" => "a module opens no ports; devices and messages come through the gateway",
        "Cmd" | "Entrypoint" => "a module has no command line; give it desired properties or env",
        "Volumes" => "a module sees the directories that [grants] of its NAME.toml names",
        "NetworkingConfig" | "Hostname" => "a module has no network of its own",
        "User" => "a module runs in the host's sandbox, not as a user",
        _ => "it is for a container",
    }
    .to_owned()
}

fn name(node: &Node<'_>, path: &str, value: &Value, reason: String) {
    node.within(path, node.value).not_carried_as(value.clone(), reason);
}
