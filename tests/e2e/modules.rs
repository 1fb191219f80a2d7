//! Files that come to the plugins folder, change there and go, while the edge runs.

use crate::support::{Broker, Edge, Receiver, ready_made, wait_for};
use serde_json::Value;
use std::{fs, time::Instant};

/// A reading each 50 ms.
const FAST: &str = "[config]\nseed = 1\nperiod = \"50ms\"\nburst = 1\ncount = 0\nsensors = 2\n";

fn upstream(broker: &Broker) -> String {
    format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\nbackoff_max = \"1 s\"\n",
        broker.port()
    )
}

fn body(message: &Value) -> Value {
    serde_json::from_str(message["payload"].as_str().unwrap()).unwrap()
}

/// The numbers that the simulator has sent upstream, in order of arrival, each id once.
fn numbers(receiver: &mut Receiver) -> Vec<u64> {
    let mut known = std::collections::HashSet::new();
    let readings = receiver.seen().iter().filter(|message| message["source"] == "simulator/readings");
    let once = readings.filter(|message| known.insert(message["id"].to_string()));
    once.map(|message| body(message)["number"].as_u64().unwrap()).collect()
}

/// A component with the same work and another digest: a custom section more.
fn with_a_section(component: &[u8], text: &[u8; 4]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    // Section 0, six bytes: a name of one byte, then anything.
    bytes.extend([0, 6, 1, b'x']);
    bytes.extend(text);
    bytes
}

/// A component with another text of the same length in its data.
fn with_another_word(mut component: Vec<u8>, word: &[u8], other: &[u8]) -> Vec<u8> {
    let places: Vec<usize> =
        (0..component.len() - word.len()).filter(|at| component[*at..].starts_with(word)).collect();
    assert!(!places.is_empty());
    for at in places {
        component[at..at + word.len()].copy_from_slice(other);
    }
    component
}

#[test]
fn a_dropped_file_runs_without_a_restart_and_what_it_sends_goes_upstream() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let mut edge = Edge::started(&upstream(&broker));
    let process = edge.id();
    assert_eq!(edge.run(&["list"]).expect_good(), "no modules; put a component into the plugins folder\n");

    // Alone, without settings and without a route.
    let dropped = Instant::now();
    edge.drop_in("simulator.wasm", &ready_made("simulator"));
    edge.wait_module("simulator", "running");
    println!("runs {} ms after it was dropped", dropped.elapsed().as_millis());
    let first = receiver.wait("a reading upstream", |message| message["source"] == "simulator/readings");
    println!("its first message is upstream after {} ms", dropped.elapsed().as_millis());
    assert_eq!((&first["topic"], &body(&first)["number"]), (&"up/simulator/readings".into(), &1.into()));

    // Settings that come later are taken over too.
    edge.drop_in("simulator.toml", FAST.as_bytes());
    wait_for("the simulator has the new settings", || {
        edge.json(&["logs", "simulator"])
            .iter()
            .any(|line| line["text"].to_string().contains("50ms"))
            .then_some(())
    });
    wait_for("forty readings upstream", || (numbers(&mut receiver).len() >= 40).then_some(()));
    assert_eq!(edge.id(), process);
    assert!(edge.is_alive());
}

#[test]
fn a_replaced_file_takes_over_without_a_gap_and_a_removed_one_stops() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let edge = Edge::started(&upstream(&broker));
    edge.plug("simulator", "simulator", FAST);
    let mut digest = edge.wait_module("simulator", "running")["digest"].clone();
    for text in [b"one ", b"two "] {
        let so_far = numbers(&mut receiver).len();
        edge.drop_in("simulator.wasm", &with_a_section(&ready_made("simulator"), text));
        digest = wait_for("the new component runs", || {
            let module = edge.module("simulator")?;
            (module["state"] == "running" && module["digest"] != digest).then(|| module["digest"].clone())
        });
        wait_for("it goes on sending", || (numbers(&mut receiver).len() >= so_far + 20).then_some(()));
    }
    let numbers = numbers(&mut receiver);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "lost, repeated or out of order");

    // Quite another component under the same name.
    edge.drop_in("simulator.toml", b"");
    edge.drop_in("simulator.wasm", &ready_made("threshold"));
    edge.wait_log("a new version could not take over, the old one goes on");
    let kept = edge.module("simulator").unwrap();
    println!("kept: {kept}");
    assert_eq!((&kept["state"], &kept["digest"]), (&"running".into(), &digest));
    edge.drop_in("simulator.toml", b"[config]\nfield = \"temperature\"\nabove = 1.0\n");
    wait_for("the other component runs", || {
        edge.module("simulator").filter(|module| module["state"] == "running" && module["digest"] != digest)
    });

    fs::remove_file(edge.folder().join("plugins/simulator.wasm")).unwrap();
    wait_for("the removed module is gone", || edge.module("simulator").is_none().then_some(()));
}

#[test]
fn files_that_are_no_modules_say_what_they_are_while_others_run() {
    let edge = Edge::started("");
    edge.drop_in("text.wasm", b"hello, I am a text\n");
    edge.drop_in("core.wasm", b"\0asm\x01\0\0\0");
    // A component without anything in it.
    edge.drop_in("empty.wasm", b"\0asm\x0d\0\x01\0");
    edge.drop_in("cut.wasm", &ready_made("window")[..5_000]);
    edge.drop_in("nothing.wasm", b"");
    edge.plug("simulator", "simulator", FAST);
    edge.wait_module("simulator", "running");
    for (name, says) in [
        ("text", "is text"),
        ("core", "core WebAssembly module, not a component"),
        ("empty", "holdfast:module/handler"),
        ("cut", ""),
        ("nothing", "empty"),
    ] {
        let failed = edge.wait_module(name, "failed");
        let detail = failed["detail"].as_str().unwrap_or_default();
        println!("{name}: {detail}");
        assert!(!detail.is_empty() && detail.contains(says), "{name} does not say {says:?}: {failed}");
    }
    let sent = edge.module("simulator").unwrap()["sent"].as_u64().unwrap();
    wait_for("the simulator goes on", || {
        edge.module("simulator").filter(|module| module["sent"].as_u64().unwrap() > sent + 5)
    });
    // A good file in place of a bad one runs.
    edge.drop_in("text.wasm", &ready_made("window"));
    edge.wait_module("text", "running");
}

#[test]
fn readings_pass_through_two_modules_and_what_they_make_of_them_arrives() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let edge = Edge::prepare(&format!(
        "{}\n[routes]\n\
         to-window = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/window/inputs/readings\")'\n\
         to-threshold = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/threshold/inputs/r\")'\n\
         windows = 'FROM /messages/modules/window/outputs/windows INTO $upstream'\n\
         alerts = {{ route = 'FROM /messages/modules/threshold/* INTO $upstream', priority = 0, topic = \"up/alarm/{{output}}\" }}\n",
        upstream(&broker)
    ));
    edge.plug("simulator", "simulator", FAST);
    edge.plug(
        "window",
        "window",
        "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nlength = \"500ms\"\n",
    );
    edge.plug(
        "threshold",
        "threshold",
        "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nabove = 20.0\n",
    );
    let mut edge = edge;
    edge.start();

    let window = receiver.wait("a window of several readings", |message| {
        message["source"] == "window/windows" && body(message)["count"].as_u64().unwrap() > 1
    });
    let window = body(&window);
    let [mean, min, max] = ["mean", "min", "max"].map(|key| window[key].as_f64().unwrap());
    assert!(min <= mean && mean <= max && window["key"].as_str().unwrap().starts_with("sensor-"), "{window}");
    let raised = receiver.wait("an alert", |message| message["topic"] == "up/alarm/alerts");
    assert_eq!(raised["source"], "threshold/alerts");
    assert_eq!(body(&raised)["alert"], "raised");
    assert!(body(&raised)["value"].as_f64().unwrap() > 20.0, "{raised}");
    // Priority 0 is a series of its own.
    assert!(raised["id"].as_str().unwrap().contains("/0/"), "{raised}");
    assert!(numbers(&mut receiver).is_empty(), "readings have a route; none of it goes upstream");

    // A stopped module's messages wait, and come when it starts again.
    edge.run(&["stop", "window"]).expect_good();
    wait_for("readings wait for the stopped module", || (edge.waiting("module/window") > 10).then_some(()));
    edge.run(&["start", "window"]).expect_good();
    wait_for("the started module has caught up", || (edge.waiting("module/window") < 3).then_some(()));
}

/// A next version is tried on the readings that pass, an operator looks at what it would have done, and decides.
#[test]
fn a_next_version_is_tried_in_the_shadow_and_promoted_or_dropped() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let edge = Edge::started(&format!(
        "{}\n[routes]\n\
         in = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/threshold/inputs/readings\")'\n\
         out = 'FROM /messages/modules/threshold/* INTO $upstream'\n",
        upstream(&broker)
    ));
    edge.plug(
        "threshold",
        "threshold",
        "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nabove = 21.0\nhysteresis = 0.1\n[shadow]\nignore = [\"since\"]\n",
    );
    edge.plug("simulator", "simulator", &FAST.replace("50ms", "10ms"));
    let first = edge.wait_module("threshold", "running")["digest"].clone();
    let promote = edge.run(&["module", "promote", "threshold"]);
    promote.expect_refused(&["no next version of threshold", "threshold.next.wasm"]);

    // One that does not even start, and one that has another word for the end of an alert.
    edge.drop_in("threshold.next.wasm", &ready_made("window"));
    let failed = edge.wait_module("threshold.next", "failed");
    assert!(failed["detail"].to_string().contains("unknown field `above`"), "{failed}");
    edge.drop_in("threshold.next.wasm", &with_another_word(ready_made("threshold"), b"cleared", b"cleaned"));
    // Which readings it gets first, and how many of them end an alert, is a matter of when it has started.
    let shown = wait_for("differences among matches", || {
        let next = edge.module("threshold.next")?;
        let shadow = &next["shadow"];
        (shadow["differed"].as_u64() >= Some(2) && shadow["matched"].as_u64() > Some(10)).then_some(next)
    });
    println!("{}", edge.run(&["list"]).expect_good());
    assert_eq!((&shown["state"], &shown["sent"]), (&"shadow".into(), &0.into()));
    assert!(shown["shadow"]["differences"][0].as_str().unwrap().contains("cleaned"), "{shown}");
    let log = edge.run(&["logs", "threshold.next"]).expect_good();
    assert!(log.contains("this one sent alerts: ") && log.contains("cleaned"), "{log}");
    let metrics = edge.run(&["metrics"]).expect_good();
    let counted = "holdfast_module_shadow_calls_total{module=\"threshold.next\",result=\"matched\"}";
    assert!(metrics.contains(counted), "{metrics}");
    edge.run(&["restart", "--all"]).expect_good();
    edge.run(&["module", "drop", "threshold"]).expect_good();
    assert!(edge.module("threshold.next").is_none());
    assert_eq!(edge.module("threshold").unwrap()["digest"], first);

    // One that does the same.
    edge.drop_in("threshold.next.wasm", &with_a_section(&ready_made("threshold"), b"two "));
    let shown = wait_for("a hundred matches", || {
        let next = edge.module("threshold.next")?;
        (next["shadow"]["matched"].as_u64() >= Some(100)).then_some(next)
    });
    assert_eq!((&shown["shadow"]["differed"], &shown["sent"]), (&0.into(), &0.into()), "{shown}");
    println!("{}", edge.run(&["module", "promote", "threshold"]).expect_good());
    let after = edge.module("threshold").unwrap();
    assert_eq!((&after["digest"], &after["restarts"]), (&shown["digest"], &0.into()), "{after}");
    let alerts = receiver.seen().iter().filter(|message| message["source"] == "threshold/alerts").count();
    // What came upstream is what one version has sent: each raise of a sensor is followed by its end.
    wait_for("more alerts", || {
        let seen = receiver.seen().iter().filter(|message| message["source"] == "threshold/alerts");
        (seen.count() > alerts + 4).then_some(())
    });
    let mut raised = std::collections::BTreeSet::new();
    let mut known = std::collections::HashSet::new();
    for message in receiver.seen() {
        if message["source"] == "threshold/alerts" && known.insert(message["id"].to_string()) {
            let alert = body(message);
            let key = alert["key"].to_string();
            match alert["alert"].as_str().unwrap() {
                "raised" => assert!(raised.insert(key), "raised twice: {alert}"),
                word => assert!(word == "cleared" && raised.remove(&key), "ended twice: {alert}"),
            }
        }
    }
}

/// Whoever keeps an edge running sees in `list` how each module is.
#[test]
fn list_shows_state_restarts_the_last_error_memory_processor_messages_and_what_waits() {
    let edge = Edge::started(
        "[routes]\n\
         to-window = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/window/inputs/readings\")'\n\
         to-threshold = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/threshold/inputs/r\")'\n",
    );
    edge.plug("window", "window", "status = \"stopped\"\n");
    edge.plug(
        "threshold",
        "threshold",
        "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nabove = 21.0\n",
    );
    edge.plug("threshold", "broken", "[config]\nfield = \"temperature\"\nbeside = 21.0\n");
    edge.plug("simulator", "simulator", &FAST.replace("50ms", "10ms"));
    let number =
        |module: &Value, key: &str| module[key].as_u64().unwrap_or_else(|| panic!("{key}: {module}"));
    let shown = |name: &str, wanted: &dyn Fn(&Value) -> bool| {
        wait_for(&format!("list shows {name} as it is"), || edge.module(name).filter(|module| wanted(module)))
    };
    shown("simulator", &|module| {
        module["state"] == "running"
            && number(module, "sent") > 100
            && number(module, "memory_bytes") > 64 * 1024
            && number(module, "cpu_permille") > 0
            && number(module, "restarts") == 0
    });
    shown("threshold", &|module| number(module, "handled") > 100 && number(module, "waiting") < 100);
    let stopped = shown("window", &|module| module["state"] == "stopped" && number(module, "waiting") > 100);
    assert_eq!((number(&stopped, "handled"), number(&stopped, "memory_bytes")), (0, 0), "{stopped}");
    assert!(stopped["detail"].to_string().contains("status = \\\"stopped\\\""), "{stopped}");
    let broken = shown("broken", &|module| module["state"] == "backoff" && number(module, "restarts") == 1);
    assert!(broken["detail"].to_string().contains("unknown field `beside`"), "{broken}");
    // For people the same, a column each.
    let table = edge.run(&["list"]).expect_good();
    println!("{table}");
    let head = table.lines().next().unwrap();
    for column in
        ["MODULE", "STATE", "RESTARTS", "HANDLED", "SENT", "WAITING", "DEAD", "CPU", "MEMORY", "DETAIL"]
    {
        assert!(head.contains(column), "{column}: {table}");
    }
    // It is mended: it starts at once, and its restarts stay counted.
    edge.drop_in("broken.toml", b"[config]\nfield = \"temperature\"\nabove = 21.0\n");
    let mended = edge.wait_module("broken", "running");
    assert_eq!(number(&mended, "restarts"), 1, "{mended}");
}
