//! Which room may know which: the picture in ARCHITECTURE.md as data, compared with what cargo says.
#![cfg(test)]

use std::{collections::BTreeSet, process::Command};

/// Each room and the rooms it may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("mqtt", &[]),
    ("link", &["types"]),
    ("routes", &["types"]),
    ("auth", &["types"]),
    ("config", &["types", "routes"]),
    ("store", &["types"]),
    ("net", &["types"]),
    ("pki", &[]),
    ("broker", &["types", "routes", "auth", "store"]),
    ("engine", &["types", "broker"]),
    ("gateway", &["types", "mqtt", "auth", "net", "broker"]),
    ("upstream", &["types", "mqtt", "link", "auth", "net", "broker"]),
    ("api", &["types", "net", "broker"]),
    ("links", &["types", "mqtt", "link", "auth", "store", "broker", "gateway"]),
    ("hub", &["types", "mqtt", "link", "links", "auth", "config", "net", "store", "broker", "gateway"]),
    ("jetstream", &["types", "link", "hub"]),
];

/// Libraries that one room alone may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("fjall", &["store"]),
    ("async-nats", &["jetstream"]),
    ("wasmtime", &["engine"]),
    ("wasmtime-wasi", &["engine"]),
    ("wasmtime-wasi-http", &["engine"]),
    ("quinn", &["net"]),
    ("quinn-proto", &["net"]),
    ("rcgen", &["pki"]),
    ("rmqtt-codec", &["mqtt"]),
    ("tokio-rustls", &["net"]),
    ("tungstenite", &["net"]),
    ("interprocess", &["api"]),
    ("hyper", &["api", "engine", "holdfast", "hub"]),
    ("anyhow", &["holdfast"]),
    ("clap", &["holdfast"]),
];

/// Rooms without tasks and sockets. All but `pki` are without files too.
const PURE: &[&str] = &["types", "mqtt", "link", "routes", "auth", "pki"];
const IMPURE: &[&str] = &["tokio", "tokio-util", "cap-std", "interprocess", "notify", "quinn"];

/// The rooms' direct dependencies that end up in the product: name, and names of what it depends on.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(holdfast_test_tidy::root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter(|p| p["manifest_path"].as_str().unwrap().replace('\\', "/").contains("/host/"))
        .map(|p| {
            let name = p["name"].as_str().unwrap().trim_start_matches("holdfast-").to_owned();
            let dependencies = p["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
            (name, dependencies.map(|d| d["name"].as_str().unwrap().to_owned()).collect())
        })
        .collect()
}

#[test]
fn every_room_knows_only_its_neighbours() {
    let packages = packages();
    assert!(packages.len() > ARROWS.len(), "cargo metadata lists the rooms");
    for (room, dependencies) in packages.iter().filter(|(room, _)| room != "holdfast") {
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| name == room) else {
            panic!("host/{room} is new: add it to ARROWS here and to the table in ARCHITECTURE.md");
        };
        for neighbour in dependencies.iter().filter_map(|d| d.strip_prefix("holdfast-")) {
            assert!(
                may.contains(&neighbour),
                "host/{room} knows host/{neighbour}, which ARCHITECTURE.md forbids"
            );
        }
    }
}

#[test]
fn a_library_that_belongs_to_one_room_is_named_by_no_other() {
    for (room, dependencies) in packages() {
        for (library, owners) in OWNERS {
            let named = dependencies.contains(*library);
            assert!(
                !named || owners.contains(&room.as_str()),
                "host/{room} names {library}; only {owners:?} may"
            );
        }
    }
}

#[test]
fn pure_rooms_have_no_tasks_sockets_or_files() {
    for (room, dependencies) in packages().iter().filter(|(room, _)| PURE.contains(&room.as_str())) {
        for library in IMPURE {
            assert!(!dependencies.contains(*library), "host/{room} is pure and must not name {library}");
        }
    }
}
