//! Modules from a registry: pushed, pinned, fetched, kept for starts without it, refused with the reason, signed.

use crate::support::{
    Above, Edge, Link, REGISTRY_USER, Registry, checkout, holdfast, registry_that_says, wait_for,
};
use serde_json::Value;
use std::{fs, net::TcpListener, path::Path};

/// A reading each 50 ms.
const FAST: &str = "[config]\nseed = 1\nperiod = \"50ms\"\nburst = 1\ncount = 0\nsensors = 2\n";

fn plugin(name: &str) -> String {
    checkout(&format!("plugins/{name}.wasm")).display().to_string()
}

/// Pushes a ready-made module; gives the reference that pins it.
fn pushed(folder: &Path, name: &str, reference: &str, more: &[&str]) -> String {
    let file = plugin(name);
    let mut arguments = vec!["--json", "module", "push", &file, reference];
    arguments.extend(more);
    let printed = holdfast(folder, &arguments).expect_good();
    let answer: Value = serde_json::from_str(&printed).unwrap();
    answer["reference"].as_str().unwrap().to_owned()
}

#[test]
fn a_module_runs_from_a_registry_and_starts_again_without_it() {
    let mut registry = Registry::start(false);
    let mut edge = Edge::started("");
    let pinned = pushed(edge.folder(), "simulator", &registry.reference("plant/simulator:1"), &[]);
    assert!(pinned.contains("plant/simulator:1@sha256:"), "{pinned}");

    let unpinned = registry.reference("plant/simulator:1");
    let told = edge.run(&["module", "pull", &unpinned]).expect_good();
    assert!(told.contains(&format!("oci = \"{pinned}\"")), "{told}");
    edge.drop_in("loose.toml", format!("[source]\noci = \"{unpinned}\"\n").as_bytes());
    let loose = edge.wait_module("loose", "failed");
    assert!(loose["detail"].to_string().contains("names no digest"), "{loose}");

    edge.drop_in("far.toml", format!("{FAST}[source]\noci = \"{pinned}\"\n").as_bytes());
    edge.wait_module("far", "running");
    wait_for("it sends", || edge.module("far").filter(|module| module["sent"].as_u64() > Some(3)));
    assert!(edge.stop().success());

    registry.stop();
    edge.start();
    edge.wait_module("far", "running");
    fs::remove_file(edge.folder().join("plugins/far.toml")).unwrap();
    wait_for("the removed module is gone", || edge.module("far").is_none().then_some(()));
}

/// A manifest with one module, whose image is this.
fn manifest(image: &str) -> String {
    serde_json::json!({ "modulesContent": {
        "$edgeAgent": { "properties.desired": {
            "schemaVersion": "1.1",
            "runtime": { "type": "docker", "settings": {} },
            "systemModules": {
                "edgeAgent": { "type": "docker", "settings": { "image": "mcr.example/agent:1.5" } },
                "edgeHub": { "type": "docker", "settings": { "image": "mcr.example/hub:1.5" } },
            },
            "modules": { "Sensor": {
                "type": "docker", "status": "running", "restartPolicy": "always", "version": "1.0",
                "settings": { "image": image },
            } },
        } },
        "$edgeHub": { "properties.desired": {
            "schemaVersion": "1.1", "routes": { "up": "FROM /messages/* INTO $upstream" },
            "storeAndForwardConfiguration": { "timeToLiveSecs": 600 },
        } },
    } })
    .to_string()
}

#[test]
fn a_deployment_brings_its_module_from_a_registry_and_one_that_cannot_be_had_changes_nothing() {
    let (mut registry, closed) = (Registry::start(false), Registry::start(true));
    let mut edge = Edge::started("[deployment]\nprobation = \"0 s\"\n");
    let apply = |edge: &Edge, image: &str| {
        fs::write(edge.folder().join("line.json"), manifest(image)).unwrap();
        edge.run(&["deployment", "apply", "line.json", "--wait"])
    };
    let pinned = pushed(edge.folder(), "simulator", &registry.reference("plant/simulator:1"), &[]);
    edge.drop_in("Sensor.toml", FAST.as_bytes());
    apply(&edge, &pinned).expect_good();
    let digest = edge.wait_module("Sensor", "running")["digest"].clone();

    // What cannot be had leaves everything as it is, and says why.
    // What has that digest is kept already; another one has to be asked for.
    let wanted = format!("sha256:{}", "1".repeat(64));
    let credentials = closed.credentials(REGISTRY_USER.1).display().to_string();
    let secret =
        pushed(edge.folder(), "window", &closed.reference("a/w:1"), &["--credentials", &credentials]);
    let zeros = format!("{}@sha256:{}", registry.reference("plant/simulator"), "0".repeat(64));
    let forbidden = format!("{}@{wanted}", registry_that_says("403 Forbidden", ""));
    let changed = format!("{}@{wanted}", registry_that_says("200 OK", "{}"));
    let unpinned = registry.reference("plant/simulator:1");
    for (image, why) in [
        (&secret, "wants to know who asks (401)"),
        (&forbidden, "may not have it (403)"),
        (&zeros, "there is no such manifest"),
        (&changed, "the manifest has the digest"),
        (&unpinned, "with its digest (@sha256:"),
    ] {
        let refused = apply(&edge, image);
        assert!(!refused.good, "{image}: {refused:?}");
        let told = format!("{}{}", refused.out, refused.err);
        assert!(told.contains(why), "{image} does not say {why:?}: {told}");
        let module = edge.module("Sensor").unwrap();
        assert_eq!((&module["state"], &module["digest"]), (&"running".into(), &digest), "{image}");
    }

    // It starts again without the registry.
    assert!(edge.stop().success());
    registry.stop();
    edge.start();
    assert_eq!(edge.wait_module("Sensor", "running")["digest"], digest);
    let sent = edge.module("Sensor").unwrap()["sent"].as_u64();
    wait_for("it sends", || edge.module("Sensor").filter(|module| module["sent"].as_u64() > sent));
}

/// What an operator of a fleet does: the component lies in a registry, the hub says which edges run it.
#[test]
fn o11_a_deployment_of_the_hub_names_an_image_of_a_registry_and_the_edge_runs_it_offline_too() {
    let mut registry = Registry::start(false);
    let hub = Above::started();
    let link = Link::to(hub.port());
    let mut edge = hub.edge(&link, "[deployment]\nprobation = \"0 s\"\n", &[], "");
    edge.drop_in("Sensor.toml", FAST.as_bytes());
    edge.start();
    let deploy = |name: &str, image: &str, priority: &str| {
        fs::write(hub.folder().join("line.json"), manifest(image)).unwrap();
        let set = ["deploy", "set", name, "line.json", "--device", "edge-1", "--priority", priority];
        hub.run(&set).expect_good();
    };
    let state = |wanted: &'static str| {
        wait_for(&format!("the hub hears that the deployment is {wanted}"), || {
            let shown = hub.json(&["edges"]).into_iter().find(|one| one["edge"] == "edge-1")?;
            (shown["deployment"]["state"] == wanted).then_some(shown)
        })
    };
    let first = pushed(edge.folder(), "simulator", &registry.reference("plant/sensor:1"), &[]);
    deploy("one", &first, "1");
    state("applied");
    let digest = edge.wait_module("Sensor", "running")["digest"].clone();
    wait_for("its readings are in the hub's stream", || {
        hub.events().iter().any(|event| event["module"] == "Sensor").then_some(())
    });

    // An image that the registry does not have changes nothing at the edge, and the hub hears why.
    deploy("two", &format!("{}@sha256:{}", registry.reference("plant/sensor"), "1".repeat(64)), "2");
    let told = state("refused");
    assert!(told.to_string().contains("there is no such manifest"), "{told}");
    assert_eq!(edge.module("Sensor").unwrap()["digest"], digest);

    // Without the registry and without the hub it runs again after a kill.
    registry.stop();
    link.cut();
    edge.kill();
    edge.start();
    assert_eq!(edge.wait_module("Sensor", "running")["digest"], digest);
    let sent = edge.module("Sensor").unwrap()["sent"].as_u64();
    wait_for("it sends", || edge.module("Sensor").filter(|module| module["sent"].as_u64() > sent));
}

/// A registry that takes a request and never answers.
fn registry_that_is_silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/a/module@sha256:{}", listener.local_addr().unwrap(), "1".repeat(64));
    std::thread::spawn(move || listener.incoming().map(Result::unwrap).collect::<Vec<_>>());
    reference
}

#[test]
fn an_edge_that_waits_for_a_registry_stops_at_once_and_shows_what_it_waits_for() {
    let mut edge = Edge::started("");
    let reference = registry_that_is_silent();
    edge.drop_in("far.toml", format!("[source]\noci = \"{reference}\"\n").as_bytes());
    let waits = edge.wait_module("far", "unknown");
    assert!(waits["detail"].to_string().contains("fetched or compiled"), "{waits}");
    // Its folder is free at once, so that the next one starts in it: the registry would be waited for five minutes.
    assert!(edge.stop().success());
    edge.start();
    edge.wait_module("far", "unknown");
}

#[test]
fn each_way_to_be_refused_says_what_it_is_and_what_to_do() {
    let registry = Registry::start(true);
    let folder = tempfile::tempdir().unwrap();
    let reference = registry.reference("a/module:1");
    let good = registry.credentials(REGISTRY_USER.1).display().to_string();
    let pinned = pushed(folder.path(), "window", &reference, &["--credentials", &good]);
    let pull = |reference: &str, more: &[&str]| {
        let mut arguments = vec!["module", "pull", reference];
        arguments.extend(more);
        holdfast(folder.path(), &arguments)
    };
    pull(&pinned, &["--credentials", &good]).expect_good();
    pull(&pinned, &[]).expect_refused(&["wants to know who asks (401)", "registry_credentials"]);
    let wrong = registry.credentials("wrong").display().to_string();
    pull(&pinned, &["--credentials", &wrong]).expect_refused(&["(401)", "name or password", "are wrong"]);
    let other = registry.reference("a/module:2");
    pull(&other, &["--credentials", &good]).expect_refused(&["there is no such manifest (2, 404)"]);
    pull(&registry_that_says("403 Forbidden", ""), &[]).expect_refused(&["who asks may not have it (403)"]);
    pull(&registry_that_says("500 Oops", "on fire"), &[]).expect_refused(&["answered 500", "on fire"]);
    let image =
        r#"{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"}]}"#;
    pull(&registry_that_says("200 OK", image), &[]).expect_refused(&[
        "is no WebAssembly component",
        "layer.v1.tar+gzip",
        "application/wasm",
    ]);
    pull("no-registry", &[]).expect_refused(&["names no registry", "ghcr.io/owner/module"]);
    pull("127.0.0.1:1/a/module:1", &[]).expect_refused(&["cannot be fetched", "refused the connection"]);

    // Somebody changes the component where it lies.
    let manifest = fs::read_to_string(registry.blob(pinned.split_once('@').unwrap().1)).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let blob = registry.blob(manifest["layers"][0]["digest"].as_str().unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&blob, bytes).unwrap();
    pull(&pinned, &["--credentials", &good]).expect_refused(&["the layer has the digest", "it is not used"]);
}

#[test]
fn with_a_key_of_the_operator_only_what_it_has_signed_runs() {
    let registry = Registry::start(false);
    let keys = tempfile::tempdir().unwrap();
    let path = |name: &str| keys.path().join(name).display().to_string();
    let write = |name: &str, algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        fs::write(keys.path().join(name), key.serialize_pem()).unwrap();
        fs::write(keys.path().join(format!("{name}.pub")), key.public_key_pem()).unwrap();
    };
    write("p256", &rcgen::PKCS_ECDSA_P256_SHA256);
    write("ed25519", &rcgen::PKCS_ED25519);
    write("stranger", &rcgen::PKCS_ECDSA_P256_SHA256);
    let config =
        format!("[modules]\nsignature_keys = [\"{}\", \"{}\"]\n", path("p256.pub"), path("ed25519.pub"));
    let edge = Edge::started(&config);
    for (module, plugin, key, state) in [
        ("by-p256", "window", Some("p256"), "running"),
        ("by-ed25519", "simulator", Some("ed25519"), "running"),
        ("by-a-stranger", "threshold", Some("stranger"), "failed"),
        ("by-nobody", "thermostat", None, "failed"),
    ] {
        let key = key.map(&path);
        let more: Vec<&str> = key.iter().flat_map(|key| ["--sign-key", key.as_str()]).collect();
        let pinned = pushed(edge.folder(), plugin, &registry.reference(&format!("a/{module}:1")), &more);
        let settings = fs::read_to_string(checkout(&format!("plugins/{plugin}.toml"))).unwrap();
        edge.drop_in(
            &format!("{module}.toml"),
            format!("{settings}\n[source]\noci = \"{pinned}\"\n").as_bytes(),
        );
        let shown = edge.wait_module(module, state);
        if state == "failed" {
            let detail = shown["detail"].to_string();
            assert!(detail.contains("sign"), "{detail}");
        }
    }
}
