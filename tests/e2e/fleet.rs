//! A hub whose storage are NATS servers: what is wrong with them is said.

use crate::{
    nats::Nats,
    support::{Above, wait_for},
};

fn storage(nats: &Nats) -> String {
    format!("[storage]\nservers = {:?}\nreplicas = {}\n", nats.urls(), nats.urls().len())
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
