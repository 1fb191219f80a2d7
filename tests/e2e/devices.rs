//! Devices that the command line adds, at the gateway, while the edge runs. Tokens are made by Python's `hmac`.

use crate::support::{Edge, free_port, publish_as, python_says};
use serde_json::json;

const CONFIG: &str = "[hub]\nhost_name = \"hub.example.net\"\n[devices]\npublish = [\"plant/#\"]\n";

/// The primary key of a device that was added.
fn added(edge: &Edge, name: &str) -> String {
    let shown = edge.json(&["device", "add", name]).remove(0);
    let key = shown["keys"][0].as_str().unwrap().to_owned();
    let string = shown["connection_string"].as_str().unwrap();
    assert!(
        string.starts_with(&format!(
            "HostName=hub.example.net;DeviceId={name};SharedAccessKey={key};GatewayHostName="
        )),
        "{string}"
    );
    key
}

/// What a paho client with a token that is good for so long is told.
fn connects(edge: &Edge, name: &str, key: &str, seconds: i64) -> String {
    let port = edge.gateway().to_string();
    python_says("device.py", &[&port, "hub.example.net", name, key, &seconds.to_string()])
        .trim_end()
        .to_owned()
}

#[test]
fn a_device_that_was_added_survives_kill_9_and_every_no_is_one() {
    let mut edge = Edge::started(CONFIG);
    let key = added(&edge, "pump");
    // The edge is killed right after the command has returned.
    edge.kill();
    edge.start();
    assert_eq!(connects(&edge, "pump", &key, 3600), "connected");
    let other = "c29tZSBvdGhlciBrZXkgb2YgMzIgYnl0ZXMgaGVyZSE=";
    assert_eq!(connects(&edge, "pump", other, 3600), "refused 5");
    assert_eq!(connects(&edge, "pump", &key, -400), "refused 5");
    assert_eq!(connects(&edge, "stranger", &key, 3600), "refused 5");
    edge.wait_log("is not signed with a key of the device");
    edge.run(&["device", "disable", "pump"]).expect_good();
    assert_eq!(connects(&edge, "pump", &key, 3600), "refused 5");
    edge.stop();
    edge.start();
    assert_eq!(connects(&edge, "pump", &key, 3600), "refused 5");
    edge.run(&["device", "enable", "pump"]).expect_good();
    assert_eq!(connects(&edge, "pump", &key, 3600), "connected");
    edge.run(&["device", "remove", "pump"]).expect_good();
    assert_eq!(connects(&edge, "pump", &key, 3600), "refused 5");
    assert!(edge.json(&["device", "list"]).is_empty());
}

#[test]
fn what_the_registry_refuses_says_the_fix_and_keys_are_not_on_disk_in_plain_text() {
    let mut edge = Edge::started(CONFIG);
    let key = added(&edge, "pump");
    edge.run(&["device", "add", "pump"]).expect_refused(&["pump exists already"]);
    edge.run(&["device", "show", "pumo"])
        .expect_refused(&["there is no device pumo", "did you mean \"pump\"?"]);
    edge.run(&["device", "add", "x", "--key", "no!"]).expect_refused(&["the key is not base64"]);
    edge.run(&["device", "add", "x", "--key", "c2hvcnQ="]).expect_refused(&["the key has 5 bytes"]);
    let listed = edge.run(&["device", "show", "pump"]).expect_good();
    assert!(!listed.contains(&key), "{listed}");
    edge.stop();
    let data = edge.folder().join("data");
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(data.join("identity.key")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(key.len()).any(|part| part == key.as_bytes()), "{:?}", entry.path());
            }
        }
    }
    std::fs::rename(data.join("identity.key"), data.join("lost")).unwrap();
    edge.run(&["run"]).expect_refused(&["identity.key is missing", "put it back"]);
}

#[test]
fn a_plain_client_is_a_device_by_its_token_and_may_what_devices_may() {
    let config =
        "[devices]\npublish = [\"plant/{device}/#\"]\n[routes]\nup = 'FROM /messages/* INTO $upstream'\n";
    let mut edge =
        Edge::started(&format!("[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\n{config}", free_port()));
    edge.run(&["device", "add", "pump"]).expect_good();
    let token = edge.run(&["device", "token", "pump"]).expect_good();
    let sends = |topic: &str, token: &str| {
        publish_as(edge.gateway(), token, &["-V", "5", "-u", "pump", "-q", "1", "-t", topic, "-m", "21"])
    };
    sends("plant/pump/celsius", token.trim()).expect_good();
    let waits = edge.json(&["queue", "peek", "upstream", "-n", "1"]).remove(0);
    assert_eq!(
        waits["from"],
        json!({ "child": { "child": "pump", "topic": "plant/pump/celsius" } }),
        "{waits}"
    );
    sends("plant/lathe/celsius", token.trim());
    edge.wait_log("plant/lathe/celsius");
    assert_eq!(edge.waiting("upstream"), 1, "a device speaks for itself only");
    assert!(!sends("plant/pump/celsius", &token.trim().replace("sig=", "sig=A")).good);
    edge.run(&["device", "remove", "pump"]).expect_good();
    assert!(!sends("plant/pump/celsius", token.trim()).good);
    assert!(edge.stop().success());
}

#[test]
fn a_user_with_the_name_of_a_device_is_refused_at_the_start_with_the_way_out() {
    let mut edge = Edge::started("");
    edge.run(&["device", "add", "pump"]).expect_good();
    assert!(edge.stop().success());
    let config = std::fs::read_to_string(edge.config()).unwrap();
    std::fs::write(edge.config(), format!("{config}[[users]]\nname = \"pump\"\npassword = \"x\"\n")).unwrap();
    edge.launch();
    assert!(!edge.wait_end().success());
    let fix = "rename the user, or start without it once and remove the device: holdfast device remove pump";
    assert!(edge.log().contains(fix), "{}", edge.log());
}
