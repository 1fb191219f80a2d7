//! The reported properties of `$edgeAgent`, in the form of IoT Edge's schema 1.1. Pure.

use crate::commands::logs;
use holdfast_broker::DeploymentStatus;
use holdfast_config::manifest::{Deployment, Module};
use holdfast_engine::{ModuleStatus, RuntimeStatus};
use holdfast_types::UnixMillis;
use serde_json::{Map, Value, json};

/// Most characters of a text that says why: a twin has 4096 bytes for a text, and 32 KiB in all.
const WHY_CHARACTERS: usize = 256;

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    All,
    /// The states alone.
    States,
}

/// The document.
pub fn document(
    deployed: &Deployment,
    status: &DeploymentStatus,
    modules: &[ModuleStatus],
    detail: Detail,
) -> Map<String, Value> {
    let version = env!("CARGO_PKG_VERSION");
    let mut all = Map::new();
    all.insert("schemaVersion".to_owned(), json!("1.1"));
    all.insert("version".to_owned(), json!({ "version": version }));
    let platform = json!({ "os": std::env::consts::OS, "architecture": std::env::consts::ARCH });
    all.insert("runtime".to_owned(), json!({ "type": "wasm", "platform": platform }));
    if status.code != 0 {
        let last =
            json!({ "code": status.code, "description": shortened(&status.reason), "id": &*status.id });
        all.insert("lastDesiredStatus".to_owned(), last);
    }
    let itself = json!({ "type": "wasm", "runtimeStatus": "running", "version": version });
    all.insert("systemModules".to_owned(), json!({ "edgeAgent": itself, "edgeHub": itself }));
    let mut shown = Map::new();
    for status in modules.iter().filter(|status| is_key(&status.name)) {
        let wanted = deployed.modules.get(status.name.as_str());
        shown.insert(status.name.clone(), Value::Object(module(wanted, status, detail)));
    }
    all.insert("modules".to_owned(), Value::Object(shown));
    all
}

/// A key of a twin cannot hold these.
fn is_key(name: &str) -> bool {
    !name.contains(['.', '$', '#', ' '])
}

fn module(wanted: Option<&Module>, status: &ModuleStatus, detail: Detail) -> Map<String, Value> {
    let failed = matches!(status.status, RuntimeStatus::Failed | RuntimeStatus::Backoff);
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    put("runtimeStatus", json!(status.status.as_str()));
    put("restartCount", json!(status.restarts));
    put("exitCode", json!(i32::from(failed)));
    if detail == Detail::States {
        return all;
    }
    let why = status.rolled_back.as_ref().or(status.refused.as_ref()).unwrap_or(&status.description);
    put("statusDescription", json!(shortened(why)));
    put("type", json!("wasm"));
    for (key, at) in [("lastStartTimeUtc", status.last_start), ("lastExitTimeUtc", status.last_exit)] {
        if let Some(at) = at {
            put(key, json!(time(at)));
        }
    }
    if let Some(at) = status.last_start.filter(|_| status.restarts > 0) {
        put("lastRestartTimeUtc", json!(time(at)));
    }
    match wanted {
        Some(module) => {
            put("status", json!(if module.running { "running" } else { "stopped" }));
            put("restartPolicy", json!(module.restart.as_str()));
            put("imagePullPolicy", json!(module.pull.as_str()));
            put("settings", json!({ "image": module.image.to_string(), "digest": status.digest }));
            if let Some(version) = &module.version {
                put("version", json!(version));
            }
        }
        // It lies in the plugins folder and is no part of a deployment.
        None => put("settings", json!({ "image": format!("{}.wasm", status.name), "digest": status.digest })),
    }
    all
}

fn shortened(text: &str) -> String {
    text.chars().take(WHY_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `2026-01-31T23:59:59.999Z`.
pub fn time(at: UnixMillis) -> String {
    logs::time(at.0).replacen(' ', "T", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_broker::TWIN_BYTES_MAX;

    fn status(name: &str, status: RuntimeStatus) -> ModuleStatus {
        ModuleStatus {
            name: name.to_owned(),
            status,
            description: "it could not be started: no limit\nis set".repeat(40),
            restarts: 2,
            last_start: Some(UnixMillis(1_795_223_675_042)),
            digest: "0".repeat(64),
            ..ModuleStatus::default()
        }
    }

    #[test]
    fn a_module_is_told_of_in_the_words_of_iot_edge() {
        let manifest = json!({ "modulesContent": { "$edgeAgent": { "properties.desired": {
            "schemaVersion": "1.1",
            "modules": { "pump": { "restartPolicy": "always", "version": "1.2", "settings": { "image": "r.example/pump:1" } } },
        } } } });
        let deployed = holdfast_config::manifest::import(manifest.to_string().as_bytes()).unwrap();
        let last =
            DeploymentStatus { code: 406, reason: "module pump: trap".into(), ..DeploymentStatus::default() };
        let modules = [
            status("pump", RuntimeStatus::Backoff),
            status("other", RuntimeStatus::Running),
            status("a.b", RuntimeStatus::Running),
        ];
        let all = document(&deployed, &last, &modules, Detail::All);
        assert_eq!(all["lastDesiredStatus"]["code"], 406);
        let pump = &all["modules"]["pump"];
        for (key, value) in [
            ("runtimeStatus", json!("backoff")),
            ("exitCode", json!(1)),
            ("restartCount", json!(2)),
            ("lastStartTimeUtc", json!("2026-11-21T01:14:35.042Z")),
            ("status", json!("running")),
            ("restartPolicy", json!("always")),
            ("imagePullPolicy", json!("on-create")),
            ("version", json!("1.2")),
        ] {
            assert_eq!(pump[key], value, "{key}");
        }
        assert_eq!(
            (&pump["settings"]["image"], &all["modules"]["other"]["settings"]["image"]),
            (&json!("r.example/pump:1"), &json!("other.wasm"))
        );
        assert_eq!(all["modules"]["a.b"], Value::Null, "no key of a twin");
    }

    #[test]
    fn the_states_of_two_hundred_modules_have_room_in_a_twin() {
        let modules: Vec<_> =
            (0..200).map(|n| status(&format!("module-{n}"), RuntimeStatus::Failed)).collect();
        let short = document(&Deployment::default(), &DeploymentStatus::default(), &modules, Detail::States);
        assert!(Value::Object(short).to_string().len() < TWIN_BYTES_MAX);
    }
}
