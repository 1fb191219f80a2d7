//! A hub beyond one machine: three processes on three NATS servers, and an edge that does not care which of them it is linked to.

use crate::{
    nats::Nats,
    support::{Above, Edge, Publisher, wait_for, wait_within},
};
use serde_json::Value;
use std::{fs, time::Duration};

fn storage(nats: &Nats) -> String {
    format!("[storage]\nservers = {:?}\nreplicas = {}\n", nats.urls(), nats.urls().len())
}

/// What is killed while messages are on their way.
struct Killed {
    server: bool,
    hub: bool,
}

#[test]
fn n4_one_of_three_servers_is_killed_and_each_message_is_there_once_in_order() {
    goes_on_through(&Killed { server: true, hub: false });
}

#[test]
fn n4_one_of_three_hubs_is_killed_and_each_message_is_there_once_in_order() {
    goes_on_through(&Killed { server: false, hub: true });
}

#[test]
fn n4_one_of_three_hubs_and_one_of_three_servers_are_killed_and_each_message_is_there_once_in_order() {
    goes_on_through(&Killed { server: true, hub: true });
}

fn goes_on_through(killed: &Killed) {
    const COUNT: u64 = 4000;
    // In a second: so few that there are some to come after each blow, also where the servers take seconds to agree anew.
    const RATE: u64 = 250;
    let mut nats = Nats::start(3);
    let mut hubs: Vec<Above> = (0..3).map(|_| Above::prepared(&storage(&nats))).collect();
    hubs[0].start();
    // Credentials are sealed with one key, which an operator brings to each of them.
    hubs[1].launch();
    wait_for("it says what is missing", || {
        hubs[1].log().contains("copy it from the data folder").then_some(())
    });
    let key = fs::read(hubs[0].folder().join("data/identity.key")).unwrap();
    hubs[1].kill();
    for hub in &mut hubs[1..] {
        fs::create_dir_all(hub.folder().join("data")).unwrap();
        fs::write(hub.folder().join("data/identity.key"), &key).unwrap();
        hub.start();
    }
    let key = hubs[1].add(&["edge-1", "--edge"]);
    hubs[2].add(&["sensor-1", "--parent", "edge-1"]);
    wait_for("the first hub knows of both", || (hubs[0].json(&["device", "list"]).len() == 2).then_some(()));
    let places: Vec<String> = hubs
        .iter()
        .enumerate()
        .map(|(at, hub)| format!("{{ address = \"mqtt://127.0.0.1:{}\", priority = {at} }}", hub.port()))
        .collect();
    // Any of the hubs has what one of them acknowledged, so that the edge need not keep it.
    let text = format!(
        "[upstream]\nprofile = \"hub\"\nhub = \"hub.test\"\nhubs = [{}]\nkey_file = \"edge.key\"\n\
         keep_acknowledged = \"0 s\"\nfailover_after = \"1 s\"\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n\
         [routes]\nup = 'FROM /messages/* INTO $upstream'\n",
        places.join(", ")
    );
    let mut edge = Edge::with_gateway(&text, &[], "");
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    edge.start();
    let mut publisher = Publisher::start_paced(edge.gateway(), "plant/counter", COUNT, RATE);
    let stored = |hub: &Above, wanted: u64| {
        wait_within(Duration::from_secs(120), &format!("{wanted} messages are stored"), || {
            let edges = hub.json(&["edges"]);
            (edges[0]["telemetry"][0]["sequence"].as_u64() >= Some(wanted)).then_some(())
        });
    };
    stored(&hubs[2], COUNT / 5);
    if killed.server {
        nats.kill(0);
        stored(&hubs[2], 2 * COUNT / 5);
    }
    if killed.hub {
        assert!(publisher.acknowledged() < COUNT, "there are messages to come");
        // The hub that the edge is linked to.
        hubs[0].kill();
        stored(&hubs[2], 3 * COUNT / 5);
    }
    if killed.server {
        nats.start_one(0);
    }
    wait_within(Duration::from_secs(120), "all is acknowledged", || {
        (publisher.acknowledged() >= COUNT).then_some(())
    });
    publisher.finish();
    wait_within(Duration::from_secs(120), "nothing waits", || (edge.waiting("upstream") == 0).then_some(()));
    let living = &hubs[usize::from(killed.hub)..];
    for hub in living {
        let events = hub.events();
        let numbers: Vec<u64> =
            events.iter().map(|event| event["body"]["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    }
    // Each half of a pair that names another process is one hub to its operator.
    let linked = || living.iter().filter(|hub| hub.json(&["edges"])[0]["linked"] == true).count();
    wait_for("the edge is linked to one of them", || (linked() == 1).then_some(()));
    hubs[1].run(&["twin", "set", "edge-1", "{\"interval\": 7}"]).expect_good();
    wait_for("the edge has it", || {
        (hubs[2].twin("edge-1")["desired"]["interval"] == 7
            && edge.json(&["twin", "show", "$edgeHub"]).first().is_some_and(Value::is_object))
        .then_some(())
    });
    assert!(edge.stop().success());
}

#[test]
fn what_is_wrong_with_the_storage_is_said_before_and_while_a_hub_runs() {
    let mut nats = Nats::start(1);
    let mut hub = Above::prepared(&storage(&nats));
    hub.run(&["check"]).expect_good();
    hub.start();
    let status = |hub: &Above| hub.json(&["status"]).remove(0)["storage"].as_str().unwrap().to_owned();
    assert_eq!(status(&hub), "ok");
    nats.kill(0);
    hub.run(&["check"]).expect_refused(&["no NATS server answers", "storage.servers"]);
    wait_for("a running hub says so", || status(&hub).contains("no NATS server answers").then_some(()));
    nats.start_one(0);
    wait_for("it is well again", || (status(&hub) == "ok").then_some(()));
    hub.add(&["press"]);
}
