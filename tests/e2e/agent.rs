//! `$edgeAgent` at the whole binary: what the hub sees of the modules, and what it may ask. Requirements O11 and T1.

use crate::support::{Edge, wait_for};
use serde_json::{Value, json};
use std::fs;

fn reported(edge: &Edge) -> Value {
    edge.json(&["twin", "show", "/$edgeAgent"]).remove(0)["reported"].clone()
}

/// Waits until a module is reported so.
fn wait_reported(edge: &Edge, module: &str, key: &str, wanted: &Value) -> Value {
    wait_for(&format!("{module} is reported with {key} = {wanted}"), || {
        let found = reported(edge)["modules"][module].clone();
        (&found[key] == wanted).then_some(found)
    })
}

#[test]
fn o11_t1_the_agent_reports_each_module_and_answers_its_methods_with_the_link_down() {
    let mut edge = Edge::prepare("[deployment]\nprobation = \"0 s\"\n");
    edge.plug("simulator", "simulator", "[config]\nseed = 1\nperiod = \"100ms\"\n");
    edge.plug("window", "window", "");
    edge.start();
    let manifest = json!({ "modulesContent": { "$edgeAgent": { "properties.desired": {
        "schemaVersion": "1.1",
        "modules": { "Sensor": {
            "version": "1.5", "type": "docker", "status": "running", "restartPolicy": "always",
            "settings": { "image": "registry.example/plant/simulator:1.5" },
        } },
    } } } });
    fs::write(edge.folder().join("line.json"), manifest.to_string()).unwrap();
    edge.run(&["deployment", "apply", "line.json", "--wait"]).expect_good();

    let sensor = wait_reported(&edge, "Sensor", "runtimeStatus", &json!("running"));
    for (key, value) in [
        ("status", json!("running")),
        ("restartPolicy", json!("always")),
        ("imagePullPolicy", json!("on-create")),
        ("version", json!("1.5")),
        ("restartCount", json!(0)),
        ("exitCode", json!(0)),
    ] {
        assert_eq!(sensor[key], value, "{sensor}");
    }
    assert_eq!(sensor["settings"]["image"], "registry.example/plant/simulator:1.5");
    wait_reported(&edge, "window", "runtimeStatus", &json!("running"));
    wait_for("the deployment is reported", || {
        (reported(&edge)["lastDesiredStatus"]["code"] == 200).then_some(())
    });
    assert_eq!(
        reported(&edge)["modules"]["simulator"],
        Value::Null,
        "its file runs under the deployment's name"
    );

    let ping = edge.json(&["method", "call", "/$edgeAgent", "ping"]).remove(0);
    assert_eq!(ping, json!({ "status": 200, "payload": null }));
    let before = sensor["lastStartTimeUtc"].clone();
    let restart = r#"{"schemaVersion": "1.0", "id": "Sensor"}"#;
    edge.run(&["method", "call", "/$edgeAgent", "RestartModule", restart]).expect_good();
    wait_for("Sensor was started again", || {
        let found = reported(&edge)["modules"]["Sensor"].clone();
        (found["lastStartTimeUtc"] != before && found["runtimeStatus"] == "running").then_some(())
    });
    let ask = r#"{"schemaVersion": "1.0", "items": [{"id": "Sensor", "filter": {"tail": 2}}], "contentType": "json"}"#;
    let logs = edge.json(&["method", "call", "/$edgeAgent", "GetModuleLogs", ask]).remove(0);
    let lines = logs["payload"][0]["payload"].as_array().unwrap();
    assert_eq!((&logs["payload"][0]["id"], lines.len()), (&json!("Sensor"), 2));
    assert!(lines.iter().all(|line| line["text"].is_string() && line["timestamp"].is_string()), "{logs}");
    let all = r#"{"items": [{"id": ".*", "filter": {"since": "1h", "loglevel": 6}}]}"#;
    let all = edge.json(&["method", "call", "/$edgeAgent", "GetModuleLogs", all]).remove(0);
    assert_eq!(all["payload"].as_array().unwrap().len(), 2);
    assert!(all["payload"][0]["payload"].as_str().unwrap().starts_with("<6> 20"), "{all}");

    for (method, payload, words) in [
        ("RestartModule", r#"{"id": "Sensr"}"#, ["status 404", "Sensr"]),
        ("RestartModule", r#"{"id": "edgeHub"}"#, ["status 400", "the host itself"]),
        ("RestartModule", "{}", ["status 400", "missing field"]),
        ("GetModuleLogs", r#"{"items": [{"id": "nobody"}]}"#, ["status 404", "nobody"]),
        ("GetModuleLogs", r#"{"items": [], "encoding": "gzip"}"#, ["status 400", "none"]),
        ("UploadModuleLogs", "{}", ["status 501", "GetModuleLogs"]),
        ("Dance", "{}", ["status 404", "ping"]),
    ] {
        edge.run(&["method", "call", "/$edgeAgent", method, payload]).expect_refused(&words);
    }

    // What an operator does, and what goes, is reported too.
    edge.run(&["stop", "Sensor"]).expect_good();
    wait_reported(&edge, "Sensor", "runtimeStatus", &json!("stopped"));
    fs::remove_file(edge.folder().join("plugins/window.wasm")).unwrap();
    wait_for("window is gone", || reported(&edge)["modules"]["window"].is_null().then_some(()));
    assert!(edge.stop().success());
}
