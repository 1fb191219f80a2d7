//! Manifests of Azure IoT Edge at the whole binary: they run as they are, are applied whole or not at all, and a failing one
//! goes by itself. Requirements O9, O11, N6 and N10.

use crate::support::{Above, Dice, Edge, Link, free_port, wait_for};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};

/// A reading each 50 ms.
const FAST: &str = "[config]\nseed = 1\nperiod = \"50ms\"\n";
/// Alerts on every reading.
const LOW: &str = "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nabove = -100.0\n";
/// No limit: the module does not start.
const BAD: &str = "[config]\nfield = \"temperature\"\n";

/// Nobody listens upstream; the plugins folder has components and their settings.
fn edge(probation: &str) -> Edge {
    let edge = Edge::prepare(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\n[deployment]\nprobation = \"{probation}\"\n[routes]\n\
         own = 'FROM /messages/* INTO $upstream'\n",
        free_port()
    ));
    edge.plug("simulator", "simulator", FAST);
    edge.plug("threshold", "threshold", LOW);
    edge.plug("window", "window", "");
    edge
}

fn module(image: &str, order: u32) -> Value {
    json!({
        "type": "docker", "status": "running", "restartPolicy": "always", "startupOrder": order, "version": "1.0",
        "settings": { "image": image, "createOptions": "{\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"80\"}]}}}" },
        "env": { "MODE": { "value": "edge" } },
    })
}

/// A manifest in the shape that the portal makes.
fn manifest(modules: &Value, routes: &Value, sensor: &Value) -> String {
    json!({
        "modulesContent": {
            "$edgeAgent": { "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": { "type": "docker", "settings": { "minDockerVersion": "v1.25" } },
                "systemModules": {
                    "edgeAgent": { "type": "docker", "settings": { "image": "mcr.example/agent:1.5" } },
                    "edgeHub": { "type": "docker", "settings": { "image": "mcr.example/hub:1.5" } },
                },
                "modules": modules,
            } },
            "$edgeHub": { "properties.desired": {
                "schemaVersion": "1.1", "routes": routes, "storeAndForwardConfiguration": { "timeToLiveSecs": 600 },
            } },
            "Sensor": { "properties.desired": sensor },
        },
    })
    .to_string()
}

/// A sensor that feeds a filter whose alerts go upstream.
fn chain(sensor: &Value) -> String {
    let modules = json!({ "Sensor": module("registry.example/plant/simulator:1.5", 2), "Filter": module("threshold.wasm", 1) });
    let routes = json!({
        "toFilter": "FROM /messages/modules/Sensor/* INTO BrokeredEndpoint(\"/modules/Filter/inputs/in\")",
        "up": { "route": "FROM /messages/modules/Filter/outputs/* INTO $upstream", "priority": 1, "timeToLiveSecs": 60 },
        "rest": "FROM /messages INTO $upstream",
    });
    manifest(&modules, &routes, sensor)
}

fn write(edge: &Edge, file: &str, manifest: &str) {
    fs::write(edge.folder().join(file), manifest).unwrap();
}

fn shown(edge: &Edge) -> Value {
    edge.json(&["deployment", "show"]).remove(0)
}

fn wait_phase(edge: &Edge, id: &str, phase: &str) -> Value {
    wait_for(&format!("deployment {id} is {phase}"), || {
        let found = shown(edge);
        (found["id"] == id && found["phase"] == phase).then_some(found)
    })
}

fn running(edge: &Edge) -> Vec<String> {
    let names = edge.json(&["list"]).into_iter().filter(|module| module["state"] == "running");
    names.map(|module| module["name"].as_str().unwrap().to_owned()).collect()
}

fn routes(edge: &Edge) -> Vec<String> {
    edge.json(&["routes", "list"]).iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect()
}

fn desired(edge: &Edge) -> Value {
    edge.json(&["twin", "show", "/Sensor"]).remove(0)["desired"].clone()
}

fn lives(edge: &Edge, from: &str) -> Vec<u64> {
    if edge.waiting("upstream") == 0 {
        return Vec::new();
    }
    let stored = edge.json(&["queue", "peek", "upstream", "-n", "1000"]);
    let of = stored.iter().filter(|one| one["from"].to_string().contains(from));
    of.map(|one| one["expires_ms"].as_u64().unwrap() - one["received_ms"].as_u64().unwrap()).collect()
}

#[test]
fn o11_n10_a_manifest_runs_as_it_is_survives_a_kill_and_what_it_leaves_alone_goes_on() {
    let mut edge = edge("0 s");
    edge.start();
    for name in ["simulator", "threshold", "window"] {
        edge.wait_module(name, "running");
    }
    write(&edge, "line-7.json", &chain(&json!({"SendInterval": 5})));
    let applied = edge.json(&["deployment", "apply", "line-7.json", "--wait"]).remove(0);
    assert_eq!(
        (&applied["phase"], &applied["code"], &applied["running"]),
        (&json!("applied"), &json!(200), &json!("line-7.json"))
    );

    // Its modules run under their names; what it does not use goes on.
    assert_eq!(running(&edge), ["Filter", "Sensor", "window"]);
    assert_eq!(routes(&edge), ["rest", "toFilter", "up"]);
    assert_eq!(desired(&edge), json!({"SendInterval": 5}));
    wait_for("alerts of the filter wait upstream", || (!lives(&edge, "Filter").is_empty()).then_some(()));

    // What cannot be carried over is named, with its place.
    let named = applied["not_carried"].as_array().unwrap();
    let place = "/modulesContent/$edgeAgent/properties.desired/modules/Filter/settings/createOptions/HostConfig/PortBindings";
    let ports = named.iter().find(|one| one["pointer"] == place).unwrap();
    assert!(ports["reason"].as_str().unwrap().contains("gateway"), "{ports}");
    let text = edge.run(&["deployment", "show"]).expect_good();
    assert!(
        text.contains("deployment line-7.json of the operator: applied, code 200") && text.contains(place),
        "{text}"
    );

    edge.kill();
    edge.start();
    edge.wait_module("Sensor", "running");
    edge.wait_module("Filter", "running");
    assert_eq!(shown(&edge)["phase"], "applied");
    assert_eq!((running(&edge).contains(&"simulator".to_owned()), routes(&edge).len()), (false, 3));

    // Without it everything is as the files say.
    edge.run(&["deployment", "clear"]).expect_good();
    for name in ["simulator", "threshold", "window"] {
        edge.wait_module(name, "running");
    }
    assert_eq!((running(&edge).len(), routes(&edge)), (3, vec!["own".to_owned()]));
    assert!(edge.stop().success());
}

#[test]
fn o9_the_time_to_live_comes_from_the_manifest_and_from_its_routes_and_what_waits_keeps_its_own() {
    let mut edge = edge("0 s");
    edge.start();
    edge.run(&["send", "--from", "press-7:t", "before"]).expect_good();
    write(&edge, "line-7.json", &chain(&json!({})));
    edge.run(&["deployment", "apply", "line-7.json", "--wait"]).expect_good();
    edge.run(&["send", "--from", "press-7:t", "after"]).expect_good();
    wait_for("an alert", || (!lives(&edge, "Filter").is_empty()).then_some(()));
    assert_eq!(lives(&edge, "press-7"), [7_200_000, 600_000]);
    assert!(lives(&edge, "Filter").iter().all(|life| *life == 60_000));
    assert!(edge.stop().success());
}

#[test]
fn o11_n6_a_module_that_fails_its_start_or_its_probation_brings_the_whole_deployment_before_back() {
    let mut edge = edge("5 min");
    write(&edge, "good.json", &chain(&json!({"SendInterval": 5})));
    edge.start_with(&["--deployment", "good.json"], &[]);
    wait_phase(&edge, "good.json", "probation");
    assert_eq!(running(&edge), ["Filter", "Sensor", "window"]);

    // One of its modules does not start: nothing of it stays.
    edge.plug("threshold", "broken", BAD);
    let modules = json!({ "Sensor": module("simulator.wasm", 1), "Late": module("broken.wasm", 9) });
    let bad = manifest(&modules, &json!({ "other": "FROM /* INTO $upstream" }), &json!({"SendInterval": 1}));
    write(&edge, "bad.json", &bad);
    let refused = edge.run(&["deployment", "apply", "bad.json"]);
    refused.expect_refused(&["rolled-back, code 406", "module Late", "running: deployment good.json"]);
    wait_for("the deployment before runs", || {
        (running(&edge) == ["Filter", "Sensor", "window"]).then_some(())
    });
    assert_eq!(
        (routes(&edge), desired(&edge)),
        (vec!["rest".into(), "toFilter".into(), "up".into()], json!({"SendInterval": 5}))
    );
    let sensor = edge.module("Sensor").unwrap();
    assert_eq!(sensor["restarts"], 0, "{sensor}");

    // A module that starts well and cannot do its work.
    let mut worse: Value = serde_json::from_str(&chain(&json!({"SendInterval": 2}))).unwrap();
    let filter = "/modulesContent/$edgeAgent/properties.desired/modules/Filter";
    worse.pointer_mut(filter).unwrap()["env"]["MODE"]["value"] = json!("other");
    write(&edge, "worse.json", &worse.to_string());
    let trial = edge.json(&["deployment", "apply", "worse.json"]).remove(0);
    assert_eq!(
        (&trial["phase"], &trial["running"], &trial["previous"]),
        (&json!("probation"), &json!("worse.json"), &json!("good.json"))
    );
    assert_eq!(desired(&edge), json!({"SendInterval": 2}));
    edge.run(&["send", "--from", "Sensor/readings", "this is no JSON"]).expect_good();
    let back = wait_phase(&edge, "worse.json", "rolled-back");
    assert_eq!((&back["running"], &back["code"]), (&json!("good.json"), &json!(406)));
    assert!(back["reason"].as_str().unwrap().contains("module Filter"), "{back}");
    wait_for("its twin is back", || (desired(&edge) == json!({"SendInterval": 5})).then_some(()));

    // The verdict and what runs are still known after a kill.
    edge.kill();
    edge.start();
    assert_eq!(
        (&shown(&edge)["phase"], &shown(&edge)["running"]),
        (&json!("rolled-back"), &json!("good.json"))
    );
    edge.wait_module("Filter", "running");
    assert!(edge.stop().success());
}

#[test]
fn o11_what_is_no_manifest_or_has_no_component_is_refused_with_iot_edges_codes_and_nothing_changes() {
    let mut edge = edge("0 s");
    edge.start();
    write(&edge, "good.json", &chain(&json!({})));
    edge.run(&["deployment", "apply", "good.json", "--wait"]).expect_good();
    let mut missing: Value = serde_json::from_str(&chain(&json!({}))).unwrap();
    let modules = "/modulesContent/$edgeAgent/properties.desired/modules";
    missing.pointer_mut(modules).unwrap()["Camera"] = module("registry.example/vision/detect:2", 3);
    let mut schema: Value = serde_json::from_str(&chain(&json!({}))).unwrap();
    schema.pointer_mut("/modulesContent/$edgeAgent/properties.desired").unwrap()["schemaVersion"] =
        json!("9.0");
    let mut route: Value = serde_json::from_str(&chain(&json!({}))).unwrap();
    route.pointer_mut("/modulesContent/$edgeHub/properties.desired/routes").unwrap()["bad"] =
        json!("FROM nowhere");
    let twin = manifest(&json!({}), &json!({}), &json!({"a.b": 1}));
    fs::write(edge.folder().join("plugins/text.wasm"), "no component").unwrap();
    let mut text: Value = serde_json::from_str(&chain(&json!({}))).unwrap();
    text.pointer_mut(modules).unwrap()["Filter"] = module("text.wasm", 3);
    for (manifest, code, words) in [
        (missing.to_string(), 406, vec!["module Camera", "Camera.wasm or detect.wasm", "container"]),
        (text.to_string(), 406, vec!["module Filter", "the file is text"]),
        (schema.to_string(), 412, vec!["\"9.0\""]),
        (route.to_string(), 400, vec!["/routes/bad", "fix:"]),
        (twin, 400, vec!["Sensor", "a.b"]),
        ("{".to_owned(), 400, vec!["no JSON"]),
        (json!({"modulesContent": {}}).to_string(), 417, vec!["$edgeAgent"]),
    ] {
        write(&edge, "next.json", &manifest);
        edge.run(&["deployment", "apply", "next.json"]).expect_refused(&words);
        let found = shown(&edge);
        assert_eq!(
            (&found["code"], &found["phase"], &found["running"]),
            (&json!(code), &json!("refused"), &json!("good.json"))
        );
        assert_eq!(
            (running(&edge), routes(&edge).len()),
            (vec!["Filter".into(), "Sensor".into(), "window".into()], 3)
        );
    }
    // The same from a file, without an edge: every fault at once.
    write(&edge, "next.json", &route.to_string());
    edge.run(&["deployment", "check", "next.json"])
        .expect_refused(&["1 fault in the manifest", "/routes/bad"]);
    write(&edge, "next.json", &missing.to_string());
    let checked = edge.run(&["deployment", "check", "next.json"]).expect_good();
    assert!(
        checked.contains("missing: Camera.wasm or detect.wasm") && checked.contains("not carried over"),
        "{checked}"
    );
    assert!(edge.stop().success());
    edge.run(&["run", "--deployment", "absent.json"]).expect_refused(&["cannot read absent.json"]);
}

#[test]
fn o11_a_kill_in_the_middle_leaves_the_old_deployment_or_the_new_one_never_a_mixture() {
    let mut edge = edge("100 ms");
    let mut dice = Dice::new(u64::from(std::process::id()));
    edge.start();
    for round in 0..6_u64 {
        // Each has one route and a twin with its number.
        let modules = json!({ "Sensor": module("simulator.wasm", 1), "Filter": module("threshold.wasm", 2) });
        let name = format!("round{round}");
        let route = json!({ name.clone(): "FROM /messages/modules/Sensor/* INTO BrokeredEndpoint('/modules/Filter/inputs/in')" });
        write(&edge, &name, &manifest(&modules, &route, &json!({ "round": round })));
        let pause = Duration::from_millis(dice.between(0, 400));
        thread::scope(|scope| {
            let apply = scope.spawn(|| edge.run(&["deployment", "apply", &name, "--wait"]));
            thread::sleep(pause);
            assert!(
                std::process::Command::new("kill")
                    .args(["-9", &edge.id().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            let _ = apply.join().unwrap();
        });
        edge.kill();
        edge.start();
        // The one that was begun goes on to its end.
        let found = wait_for("the deployment is at its end", || {
            let found = shown(&edge);
            ["applied", "none"].contains(&found["phase"].as_str().unwrap()).then_some(found)
        });
        println!("killed after {} ms: {} runs", pause.as_millis(), found["running"]);
        match found["running"].as_str() {
            Some(id) => {
                assert_eq!(routes(&edge), [id]);
                wait_for("twin and modules are those of the deployment", || {
                    let same = desired(&edge) == json!({ "round": id[5..].parse::<u64>().unwrap() });
                    (same && running(&edge) == ["Filter", "Sensor", "window"]).then_some(())
                });
            }
            None => assert_eq!((routes(&edge), desired(&edge)), (vec!["own".to_owned()], json!({}))),
        }
    }
    assert!(edge.stop().success());
}

/// The operator of a fleet, at the hub: what cannot be meant is refused there, what fails at the edge is told there with the
/// reason, and what was taken back is not shown as if it still were to run.
#[test]
fn o11_a_deployment_of_the_hub_that_fails_comes_back_and_the_hub_is_told_why() {
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = hub.edge(&link, "[deployment]\nprobation = \"1 s\"\n", &[], "");
    edge.plug("simulator", "simulator", FAST);
    edge.plug("threshold", "threshold", LOW);
    edge.plug("threshold", "Late", BAD);
    edge.start();
    let set = |id: &str, manifest: &str, device: &str| {
        let file = hub.folder().join(format!("{id}.json"));
        fs::write(&file, manifest).unwrap();
        hub.run(&["deploy", "set", id, file.to_str().unwrap(), "--device", device])
    };
    let shown = |id: &str, state: &str| {
        wait_for(&format!("the hub shows {id} as {state}"), || {
            let told = hub.json(&["edges"]).remove(0)["deployment"].clone();
            let is_it = told["deployment"].as_str()?.starts_with(id) && told["state"] == state;
            is_it.then_some(told)
        })
    };
    let faulty =
        chain(&json!({})).replace("INTO $upstream", "INTOO $upstream").replace("always", "sometimes");
    set("faulty", &faulty, "edge-1").expect_refused(&["4 faults", "/routes/up", "restartPolicy", "fix: "]);
    assert!(hub.json(&["deploy", "list"]).is_empty());
    let nobody = set("nobody", &chain(&json!({})), "edge-9");
    assert!(nobody.good && nobody.err.contains("for no edge now"), "{nobody:?}");
    hub.run(&["deploy", "remove", "nobody"]).expect_good();

    let good = set("good", &chain(&json!({})), "edge-1");
    assert!(good.good && !good.err.contains("for no edge"), "{good:?}");
    shown("good", "applied");
    let modules = json!({ "Sensor": module("simulator.wasm", 1), "Late": module("Late.wasm", 2) });
    let routes = json!({ "up": "FROM /messages/* INTO $upstream" });
    // Of two that name the same edge the newer one is taken.
    set("worse", &manifest(&modules, &routes, &json!({})), "edge-1").expect_good();
    let told = shown("worse", "rolled-back");
    assert!(told["reason"].as_str().unwrap().contains("module Late: start failed"), "{told}");
    let table = hub.run(&["edges"]).expect_good();
    assert!(table.contains("module Late: start failed"), "{table}");
    assert!(running(&edge).contains(&"Filter".to_owned()), "what ran before runs again");

    hub.run(&["deploy", "remove", "worse"]).expect_good();
    shown("good", "applied");
    hub.run(&["deploy", "remove", "good"]).expect_good();
    wait_for("nothing is deployed", || {
        edge.run(&["deployment", "show"]).out.contains("nothing is deployed").then_some(())
    });
    shown("good", "removed");
    assert!(edge.stop().success());
}
