//! A hub dies: another one goes on. All of it the whole binary. The names of the stories begin with the requirement that they
//! show.

use crate::support::{Above, Edge, Link, Sdk, host, publish, wait_for};
use serde_json::{Value, json};
use std::{fs, path::Path, thread, time::Duration};

/// Everything goes up.
const ROUTES: &str = "[routes]\nup = 'FROM /messages/* INTO $upstream'\n";

/// A short patience, so that a story does not take minutes.
const HURRY: &str = "failover_after = \"1 s\"\nreturn_after = \"1 s\"\n";

/// How long nothing happens that must not: several times what the edge would wait.
const A_WHILE: Duration = Duration::from_secs(4);

/// What an edge below two hubs is told, with these settings of `[upstream]`.
fn both(first: (&Above, &Link), second: (&Above, &Link), settings: &str) -> String {
    let (one, two) = (first.0.entry(first.1, 1), second.0.entry(second.1, 2));
    format!("hubs = [{one}, {two}]\n{HURRY}{settings}{ROUTES}")
}

fn send(edge: &Edge, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        let body = json!({ "n": n }).to_string();
        publish(edge.gateway(), &["-q", "1", "-t", "plant/a", "-m", &body]).expect_good();
    }
}

/// The numbers in a hub's stream, in its order.
fn numbers(hub: &Above) -> Vec<u64> {
    hub.events().iter().filter_map(|event| event["body"]["n"].as_u64()).collect()
}

fn has(hub: &Above, wanted: impl IntoIterator<Item = u64>) {
    let wanted: Vec<u64> = wanted.into_iter().collect();
    wait_for(&format!("the hub has {wanted:?}, each once and in order"), || {
        let found = numbers(hub);
        assert!(found.len() <= wanted.len(), "{found:?}");
        (found == wanted).then_some(())
    });
}

fn is_at(edge: &Edge, hub: &str) -> bool {
    let status = edge.json(&["status"]).remove(0);
    status["upstream"]["connected"] == true && status["upstream"]["address"] == hub
}

fn wait_at(edge: &Edge, hub: &str) {
    wait_for(&format!("the edge is linked to {hub}"), || is_at(edge, hub).then_some(()));
}

fn wait_knows(hub: &Above, device: &str) {
    wait_for(&format!("the hub knows {device}"), || hub.knows(device).then_some(()));
}

#[test]
fn d1_when_the_primary_dies_the_edge_goes_on_at_the_secondary_and_returns_when_it_is_told() {
    let mut first = Above::named("hub-a.test", "");
    let second = Above::following("hub-b.test", &first);
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let mut edge = first.edge_above(&both((&first, &to_first), (&second, &to_second), ""), &[], "");
    first.add(&["sensor-1", "--parent", "edge-1"]);
    wait_knows(&second, "sensor-1");
    edge.start();
    wait_at(&edge, "hub-a.test");
    send(&edge, [1, 2]);
    has(&first, [1, 2]);

    first.kill();
    send(&edge, [3, 4]);
    wait_at(&edge, "hub-b.test");
    // What the first had acknowledged as well: it might never come back.
    has(&second, 1..=4);

    // It does come back. Nobody goes there without being told.
    first.start();
    thread::sleep(A_WHILE);
    assert!(is_at(&edge, "hub-b.test"));
    send(&edge, [5]);
    has(&second, 1..=5);
    assert!(edge.json(&["upstream", "--use", "auto"])[0]["done"].is_string());
    wait_at(&edge, "hub-a.test");
    send(&edge, [6]);
    // What it had before is dropped by its stable id, what came meanwhile is there now.
    has(&first, 1..=6);

    // And again: a failover is nothing that happens once.
    first.kill();
    send(&edge, [7]);
    has(&second, 1..=7);
    assert!(edge.stop().success());
}

#[test]
fn d1_an_edge_that_is_to_return_by_itself_does() {
    let mut first = Above::named("hub-a.test", "");
    let second = Above::following("hub-b.test", &first);
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let settings = "return_by_itself = true\n";
    let mut edge = first.edge_above(&both((&first, &to_first), (&second, &to_second), settings), &[], "");
    wait_knows(&second, "edge-1");
    edge.start();
    wait_at(&edge, "hub-a.test");
    first.kill();
    wait_at(&edge, "hub-b.test");
    first.start();
    wait_at(&edge, "hub-a.test");
    assert!(edge.stop().success());
}

#[test]
fn d2_the_concierge_says_where_to_go_and_nobody_else() {
    let (first, mut concierge) = (Above::named("hub-a.test", ""), Above::over_tls("concierge.test"));
    let second = Above::following("hub-b.test", &first);
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let made = concierge.json(&["concierge", "key"]).remove(0);
    let settings = format!(
        "ca_file = \"{}\"\n[upstream.concierge]\nurl = \"https://127.0.0.1:{}/concierge\"\ninterval = \"1 s\"\n\
         public_key = {}\n",
        concierge.folder().join("data/certificates/authority.pem").display(),
        concierge.api(),
        made["public_key"]
    );
    let mut edge = first.edge_above(&both((&first, &to_first), (&second, &to_second), &settings), &[], "");
    wait_knows(&second, "edge-1");
    let said = concierge.folder().join("data/concierge.json");
    let sign = |hub: &str| {
        concierge.run(&["concierge", "sign", hub]).expect_good();
        fs::read(&said).unwrap()
    };
    edge.start();
    edge.wait_log("whether a statement was signed there");
    let early = sign("hub-a.test");
    sign("hub-b.test");
    wait_at(&edge, "hub-b.test");
    let checked = edge.run(&["check"]);
    assert!(checked.out.contains("the concierge names hub-b.test"), "{checked:?}");

    // An answer of before, one for a hub that this edge does not know, one that somebody else signed, one that is over.
    fs::write(&said, &early).unwrap();
    edge.wait_log("is older than the one that was followed last");
    sign("hub-x.test");
    edge.wait_log("it names the hub \"hub-x.test\", and this edge knows hub-a.test, hub-b.test");
    let stranger = concierge.folder().join("stranger.key");
    let stranger = stranger.to_str().unwrap();
    concierge.run(&["concierge", "key", "--key-file", stranger]).expect_good();
    concierge.run(&["concierge", "sign", "hub-a.test", "--key-file", stranger]).expect_good();
    edge.wait_log("is not signed with the key in upstream.concierge.public_key");
    assert!(is_at(&edge, "hub-b.test"));
    let refused = edge.log().matches("the concierge is not followed").count();
    thread::sleep(A_WHILE);
    assert_eq!(edge.log().matches("the concierge is not followed").count(), refused, "said once");

    // The concierge dies, and the edge too. It stays where it was sent.
    concierge.kill();
    // In the middle of a handshake, or with nobody there to shake hands: it is said once, as the one or the other.
    wait_for("the edge says that the concierge is away", || {
        (edge.log().matches("the concierge is not followed").count() > refused).then_some(())
    });
    edge.kill();
    edge.start();
    wait_at(&edge, "hub-b.test");
    concierge.start();
    concierge.run(&["concierge", "sign", "hub-a.test"]).expect_good();
    wait_at(&edge, "hub-a.test");
    assert!(edge.stop().success());
}

#[test]
fn d3_a_secondary_that_imported_the_registry_has_edge_and_child_without_the_primary() {
    let (mut first, second) = (Above::named("hub-a.test", ""), Above::named("hub-b.test", ""));
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let above = both((&first, &to_first), (&second, &to_second), "");
    let host = host(21);
    let listen = [format!("tls://{host}:8883")];
    let mut edge = first.edge_above(&above, &listen, &format!("host_names = [\"{host}\"]\n"));
    let key = first.add(&["press", "--parent", "edge-1"]);
    first.run(&["twin", "set", "press", r#"{"interval": 5}"#]).expect_good();

    // The keys in the file are for the second hub alone.
    let recipient = second.run(&["recipient"]).expect_good();
    let file = first.folder().join("registry.jsonl");
    let file = file.to_str().unwrap();
    first.run(&["export", file, "--recipient", recipient.trim()]).expect_good();
    assert!(!fs::read_to_string(file).unwrap().contains(&key));
    first.run(&["import", file]).expect_refused(&["export it again"]);
    let imported = second.json(&["import", file]).remove(0);
    assert_eq!(imported, json!({ "changed": 3, "same": 0, "refused": [] }));
    let again = second.json(&["import", file]).remove(0);
    assert_eq!(again, json!({ "changed": 0, "same": 3, "refused": [] }));
    // Or under a password, as for a backup.
    let backup = first.folder().join("backup.jsonl");
    let backup = backup.to_str().unwrap();
    let password = first.folder().join("password");
    fs::write(&password, "correct horse battery\n").unwrap();
    let password = ["--password-file", password.to_str().unwrap()];
    first.run(&[&["export", backup], &password[..]].concat()).expect_good();
    second.run(&["import", backup]).expect_refused(&["--password-file"]);
    let same = second.json(&[&["import", backup], &password[..]].concat()).remove(0);
    assert_eq!(same, json!({ "changed": 0, "same": 3, "refused": [] }));

    edge.start();
    wait_at(&edge, "hub-a.test");
    wait_for("the edge knows press", || edge.run(&["device", "show", "press"]).good.then_some(()));
    let shown = edge.json(&["device", "show", "press", "--secrets"]).remove(0);
    let mut press = Sdk::connected(&edge.authority(), shown["connection_string"].as_str().unwrap(), false);
    first.kill();
    press.send(r#"{"n":1}"#, json!({}));
    has(&second, [1]);
    let reply = second.json(&["method", "press", "reboot", "{}"]).remove(0);
    assert_eq!(reply["status"], 200);
    second.run(&["twin", "set", "press", r#"{"interval": 6}"#]).expect_good();
    assert_eq!(press.tells("desired")["patch"]["interval"], 6);
    press.order(json!({ "do": "report", "patch": { "fan": 1 } }));
    press.tells("reported");
    wait_for("the second hub has the report", || {
        (second.twin("press")["reported"] == json!({ "fan": 1 })).then_some(())
    });

    // What the first had, imported once more, overwrites nothing that is newer.
    second.run(&["import", file]).expect_good();
    let twin = second.twin("press");
    assert_eq!((&twin["desired"]["interval"], &twin["reported"]["fan"]), (&json!(6), &json!(1)));

    // The first comes back with an older twin, and the edge with what was reported since.
    first.start();
    edge.run(&["upstream", "--use", "hub-a.test"]).expect_good();
    wait_at(&edge, "hub-a.test");
    wait_for("the first hub has the report", || {
        (first.twin("press")["reported"] == json!({ "fan": 1 })).then_some(())
    });
    assert!(edge.stop().success());
}

#[test]
fn d3_a_secondary_follows_its_primary_through_kills_of_both() {
    let mut first = Above::named("hub-a.test", "");
    first.add(&["before"]);
    let mut second = Above::following("hub-b.test", &first);
    wait_knows(&second, "before");
    first.add(&["line", "--edge"]);
    let key = first.add(&["press", "--parent", "line"]);
    first.run(&["twin", "set", "press", r#"{"speed": 1}"#]).expect_good();
    wait_knows(&second, "press");
    let shown = second.run(&["device", "show", "press", "--secrets"]).expect_good();
    assert!(shown.contains(&key), "{shown}");

    // It says whom it follows, and how far it has come.
    let primary = first.status();
    let follows = wait_for("the second hub is where the first is", || {
        let follows = second.status()["follows"].clone();
        (follows["revision"] == primary["revision"]).then_some(follows)
    });
    let is_as = (&follows["id"], &follows["whole"], &follows["fault"]);
    assert_eq!(is_as, (&primary["id"], &json!(true), &Value::Null));

    second.kill();
    first.run(&["device", "remove", "before"]).expect_good();
    first.run(&["twin", "set", "press", r#"{"speed": 2}"#]).expect_good();
    second.start();
    wait_for("the second hub has caught up", || {
        (!second.knows("before") && second.twin("press")["desired"]["speed"] == 2).then_some(())
    });

    first.kill();
    wait_for("the second hub says that the first is away", || {
        second.status()["follows"]["fault"]
            .as_str()
            .is_some_and(|why| why.contains("no hub answers at"))
            .then_some(())
    });
    // It goes on by itself, and what it says is newer is not undone.
    second.run(&["twin", "set", "press", r#"{"speed": 3}"#]).expect_good();
    first.start();
    first.add(&["after"]);
    wait_knows(&second, "after");
    assert_eq!(second.twin("press")["desired"]["speed"], 3);
}

#[test]
fn d4_what_comes_twice_late_or_from_an_older_hub_changes_nothing() {
    let mut first = Above::named("hub-a.test", "");
    let second = Above::following("hub-b.test", &first);
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let mut edge = first.edge_above(&both((&first, &to_first), (&second, &to_second), ""), &[], "");
    for child in ["sensor-1", "press"] {
        first.add(&[child, "--parent", "edge-1"]);
    }
    let set = |hub: &Above, speed: u64| {
        hub.run(&["twin", "set", "press", &json!({ "speed": speed }).to_string()]).expect_good();
    };
    let speed = |hub: &Above| hub.twin("press")["desired"]["speed"].clone();
    let edge_has = |edge: &Edge, wanted: u64| {
        wait_for(&format!("the edge has speed {wanted}"), || {
            let twin = edge.run(&["twin", "show", "press", "--json"]);
            let twin: Value = serde_json::from_str(&twin.out).ok()?;
            (twin["desired"]["speed"] == wanted).then_some(())
        });
    };
    let exported = |from: &Above, to: &Above, name: &str| {
        let recipient = to.run(&["recipient"]).expect_good();
        let file = from.folder().join(name).to_str().unwrap().to_owned();
        from.run(&["export", &file, "--recipient", recipient.trim()]).expect_good();
        file
    };
    set(&first, 1);
    wait_for("the second hub knows the device", || second.knows("press").then_some(()));
    wait_for("the second hub has followed", || (speed(&second) == 1).then_some(()));
    let early = exported(&first, &second, "early.jsonl");
    edge.start();
    wait_at(&edge, "hub-a.test");
    edge_has(&edge, 1);
    send(&edge, 1..=5);
    has(&first, 1..=5);

    // The first hub dies with an older state; at the second one life goes on.
    first.kill();
    wait_at(&edge, "hub-b.test");
    set(&second, 2);
    set(&second, 3);
    edge_has(&edge, 3);
    send(&edge, 6..=10);
    has(&second, 1..=10);
    for _ in 0..2 {
        second.run(&["import", &early]).expect_good();
        assert_eq!(speed(&second), 3, "what is older overwrites nothing");
    }

    // Back at the first one: its older patch does not undo the newer one, what it lacks comes in order, and what it has
    // is not there twice. So it is however often the edge moves.
    first.start();
    for (hub, name) in [(&first, "hub-a.test"), (&second, "hub-b.test"), (&first, "hub-a.test")] {
        edge.run(&["upstream", "--use", name]).expect_good();
        wait_at(&edge, name);
        has(hub, 1..=10);
        edge_has(&edge, 3);
    }
    assert_eq!(speed(&first), 1);

    // Merged, twice, and in the wrong order.
    let late = exported(&second, &first, "late.jsonl");
    for _ in 0..2 {
        first.run(&["import", &late]).expect_good();
        assert_eq!(speed(&first), 3);
    }
    let twin = first.twin("press");
    set(&first, 4);
    edge_has(&edge, 4);
    first.run(&["import", &late]).expect_good();
    assert_eq!(speed(&first), 4, "after {twin}");
    send(&edge, [11]);
    has(&first, 1..=11);
    assert!(edge.stop().success());
}

/// Copies a folder as a backup would.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn d5_what_a_hub_acknowledged_before_it_died_for_good_is_at_the_next_one_once_and_in_order() {
    let mut first = Above::named("hub-a.test", "");
    let second = Above::following("hub-b.test", &first);
    let (to_first, to_second) = (Link::to(first.port()), Link::to(second.port()));
    let mut edge = first.edge_above(&both((&first, &to_first), (&second, &to_second), ""), &[], "");
    first.add(&["sensor-1", "--parent", "edge-1"]);
    wait_knows(&second, "sensor-1");
    edge.start();
    wait_at(&edge, "hub-a.test");
    // The second hub has an older state of this edge.
    edge.run(&["upstream", "--use", "hub-b.test"]).expect_good();
    wait_at(&edge, "hub-b.test");
    send(&edge, 1..=10);
    has(&second, 1..=10);
    edge.run(&["upstream", "--use", "hub-a.test"]).expect_good();
    wait_at(&edge, "hub-a.test");
    send(&edge, 11..=30);
    has(&first, 1..=30);
    edge.run(&["upstream", "--use", "auto"]).expect_good();

    first.kill();
    edge.kill();
    edge.start();
    send(&edge, 31..=35);
    has(&second, 1..=35);
    let edges: Vec<Value> = second.json(&["edges"]);
    let gaps: u64 =
        edges[0]["telemetry"].as_array().unwrap().iter().map(|one| one["missing"].as_u64().unwrap()).sum();
    assert_eq!(gaps, 0, "{edges:?}");
    assert!(edge.stop().success());
}

#[test]
fn d5_a_hub_that_comes_back_from_an_older_backup_asks_again_for_what_it_had_acknowledged() {
    let mut hub = Above::named("hub-a.test", "");
    let link = Link::to(hub.port());
    let above = format!("keep_acknowledged = \"10 min\"\n{ROUTES}");
    let mut edge = hub.edge(&link, &above, &[], "");
    hub.add(&["sensor-1", "--parent", "edge-1"]);
    edge.start();
    wait_at(&edge, &format!("127.0.0.1:{}", link.port()));
    send(&edge, 1..=5);
    has(&hub, 1..=5);
    hub.kill();
    let (data, backup) = (hub.folder().join("data"), hub.folder().join("backup"));
    copy(&data, &backup);
    hub.start();
    send(&edge, 6..=15);
    has(&hub, 1..=15);

    hub.kill();
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    hub.start();
    send(&edge, [16]);
    has(&hub, 1..=16);
    assert!(edge.stop().success());
}
