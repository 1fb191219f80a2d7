//! `edge`, `[paths]`, `[modules]`, `[log]`.

use super::Context;
use crate::{
    Deployment, Level, Log, Modules, Paths, edge_name,
    load::EDGE_CHARACTERS_MAX,
    reader::{Problem, Section, Value},
    values,
};
use holdfast_types::Name;
use std::time::Duration;

/// The name of the edge: letters, digits, hyphens and dots, as in a host name.
pub(crate) fn edge(value: Value<'_, '_>, host_name: &str) -> Result<Name, Problem> {
    let toml::de::DeValue::String(text) = value.get() else {
        return Err(value.mismatch("a text", "edge = \"name\""));
    };
    let count = text.chars().count();
    let reason = if count == 0 {
        "the name of the edge is empty".to_owned()
    } else if count > EDGE_CHARACTERS_MAX {
        format!("the name of the edge has {count} characters; at most {EDGE_CHARACTERS_MAX} are allowed")
    } else if let Some(odd) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-.".contains(*c)) {
        format!("character {odd:?} is not allowed in the name of an edge")
    } else if text.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-'))
    {
        "each part of the name between dots must begin and end with a letter or digit".to_owned()
    } else {
        return Name::new(text).map_err(|why| Problem::new(why.to_string(), "write another name"));
    };
    let proposal = if count == 0 { edge_name(host_name) } else { edge_name(text) };
    Err(Problem::new(
        reason,
        format!("write 1 to 64 letters, digits, hyphens and dots, such as \"{proposal}\""),
    ))
}

pub(crate) fn paths(section: Option<Section<'_, '_, '_>>, context: &Context<'_>) -> Paths {
    let folder = context.folder;
    let mut data = folder.join("data");
    let (mut plugins, mut cache, mut control) = (folder.join("plugins"), None, None);
    if let Some(mut section) = section {
        let read = |value: Value<'_, '_>| values::path(value, folder);
        data = section.take("data", read).unwrap_or(data);
        plugins = section.take("plugins", read).unwrap_or(plugins);
        cache = section.take("cache", read);
        control = section.take("control", read);
        section.finish();
    }
    let cache = cache.unwrap_or_else(|| data.join("cache"));
    let control = control.unwrap_or_else(|| data.join("control.sock"));
    Paths { data, plugins, cache, control }
}

/// Least memory of a module: 1 MiB, since a small Rust component needs about that to start.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Most memory of a module: 4 GiB, the whole of a 32-bit linear memory.
const MEMORY_BYTES_MAX: u64 = 1 << 32;
/// Least stack of a module: a language's runtime starts with so much.
const STACK_BYTES_MIN: u64 = 64 << 10;
/// Most stack of a module: it is taken from the memory of each call that is under way.
const STACK_BYTES_MAX: u64 = 16 << 20;
/// Longest call of a handler: 10 minutes, the operation timeout of IoT Edge.
const CALL_TIME_MAX: Duration = Duration::from_secs(600);

pub(crate) fn modules(section: Option<Section<'_, '_, '_>>, context: &Context<'_>) -> Modules {
    let mut modules = Modules {
        memory_bytes_max: 64 << 20,
        call_time_max: Duration::from_secs(10),
        stack_bytes_max: None,
        retries_max: 5,
        compile_cache: true,
        registry_credentials: None,
        signature_keys: Vec::new(),
    };
    if let Some(mut section) = section {
        let memory = section.take("memory", |value| values::size(value, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX));
        modules.memory_bytes_max = memory.unwrap_or(modules.memory_bytes_max);
        let call_time =
            section.take("call_time", |value| values::time(value, Duration::from_millis(1), CALL_TIME_MAX));
        modules.call_time_max = call_time.unwrap_or(modules.call_time_max);
        modules.stack_bytes_max =
            section.take("stack", |value| values::size(value, STACK_BYTES_MIN, STACK_BYTES_MAX));
        let retries = section.take("retries", |value| values::whole(value, 0, 1000));
        modules.retries_max = retries.unwrap_or(modules.retries_max);
        modules.compile_cache = section.take("compile_cache", values::flag).unwrap_or(modules.compile_cache);
        modules.registry_credentials = values::file(&mut section, "registry_credentials", context);
        let keys = section.take_list("signature_keys", "[\"cosign.pub\"]", |value| {
            let path = values::path(value, context.folder)?;
            context.readable(&path).map(|()| path)
        });
        modules.signature_keys = keys.unwrap_or_default();
        section.finish();
    }
    modules
}

/// Longest probation of a deployment: a day shows what happens once a day.
const PROBATION_MAX: Duration = Duration::from_secs(86_400);

pub(crate) fn deployment(section: Option<Section<'_, '_, '_>>) -> Deployment {
    let mut deployment = Deployment { exclusive: false, probation: Duration::from_secs(60) };
    if let Some(mut section) = section {
        deployment.exclusive = section.take("exclusive", values::flag).unwrap_or(deployment.exclusive);
        let probation = section.take("probation", |value| values::time(value, Duration::ZERO, PROBATION_MAX));
        deployment.probation = probation.unwrap_or(deployment.probation);
        section.finish();
    }
    deployment
}

pub(crate) fn log(section: Option<Section<'_, '_, '_>>) -> Log {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace]
        .map(|level| (level.as_str(), level));
    let mut log = Log { level: Level::default() };
    if let Some(mut section) = section {
        log.level = section.take("level", |value| values::choice(value, &levels)).unwrap_or_default();
        section.finish();
    }
    log
}
