//! A hub beyond one machine: three processes on three NATS servers, and an edge that does not care which of them it is linked to.

use crate::{
    nats::Nats,
    soak::{Union, read},
    support::{Above, Dice, Edge, Publisher, number, wait_for, wait_within},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

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

/// Three hubs with one key for what is sealed, and an edge with a child that is told of all of them.
fn fleet(nats: &Nats) -> (Vec<Above>, Edge) {
    let mut hubs: Vec<Above> = (0..3).map(|_| Above::prepared(&storage(nats))).collect();
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
    let edge = Edge::with_gateway(&text, &[], "");
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    (hubs, edge)
}

fn goes_on_through(killed: &Killed) {
    const COUNT: u64 = 4000;
    // In a second: so few that there are some to come after each blow, also where the servers take seconds to agree anew.
    const RATE: u64 = 250;
    let mut nats = Nats::start(3);
    let (mut hubs, mut edge) = fleet(&nats);
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

/// Random blows, as `soak.rs` has them, for as long as one lets it run (the same variables): at one server of three, so that a
/// majority stands, at hubs and at the edge. Each hub hands the same stream to its consumers.
#[test]
fn soak_on_jetstream_each_acknowledged_message_is_there_once_and_in_order_whatever_dies() {
    const RATE: u64 = 100;
    let (seconds, seed) = (number("HOLDFAST_SOAK_SECONDS", 25), number("HOLDFAST_SOAK_SEED", 1));
    let (mut dice, mut nats) = (Dice::new(seed), Nats::start(3));
    let (mut hubs, mut edge) = fleet(&nats);
    edge.start();
    let count = seconds * RATE;
    let mut publisher = Publisher::start_paced(edge.gateway(), "plant/counter", count, RATE);
    let mut blows = BTreeMap::<&str, u64>::new();
    let pause = |low, high, dice: &mut Dice| thread::sleep(Duration::from_millis(dice.between(low, high)));
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let one = usize::try_from(dice.between(0, 1_000)).unwrap() % hubs.len();
        let blow = match dice.between(0, 1_000) % 5 {
            0 => {
                nats.kill(one);
                pause(0, 3_000, &mut dice);
                nats.start_one(one);
                "server killed"
            }
            1 | 2 => {
                hubs[one].kill();
                pause(0, 3_000, &mut dice);
                hubs[one].start();
                "hub killed"
            }
            3 => {
                edge.kill();
                pause(0, 500, &mut dice);
                edge.launch();
                "edge killed"
            }
            _ => {
                nats.kill(one);
                hubs[one].kill();
                edge.kill();
                pause(0, 1_000, &mut dice);
                edge.launch();
                nats.start_one(one);
                hubs[one].start();
                "one of each killed"
            }
        };
        *blows.entry(blow).or_default() += 1;
        pause(500, 3_000, &mut dice);
    }
    let patience = Duration::from_secs(120);
    wait_for("the edge answers", || edge.run(&["list"]).good.then_some(()));
    wait_within(patience, "the device is done", || (publisher.acknowledged() == count).then_some(()));
    let (acknowledged, connections) = publisher.finish();
    assert_eq!(acknowledged.len() as u64, count);
    wait_within(patience, "nothing waits", || (edge.waiting("upstream") == 0).then_some(()));
    for hub in &hubs {
        let (mut union, mut last, mut offset) = (Union::default(), BTreeMap::new(), None);
        for event in hub.events() {
            let (life, sequence, number) = read(&event);
            let before = last.insert(life.clone(), sequence);
            assert!(before.is_none_or(|before| before < sequence), "{sequence} comes twice or late: {event}");
            let before = offset.replace(event["offset"].as_u64().unwrap());
            assert!(before < offset, "offsets grow: {event}");
            union.take(life, sequence, number);
        }
        assert_eq!(union.complete_to(), count, "each is there, in order");
    }
    println!(
        "seed {seed}, {seconds} s: {count} messages acknowledged over {connections} connections of the device; blows {blows:?}"
    );
    assert!(edge.stop().success());
}
