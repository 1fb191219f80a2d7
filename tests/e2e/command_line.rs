//! The command line, as an operator meets it: each command once, and each of the faults that happen to everyone.

use crate::support::{
    Broker, Edge, Receiver, free_port, holdfast, publish, publish_as, ready_made, wait_for,
};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
};

/// Readings go into the threshold module and nowhere else.
const TO_THRESHOLD: &str = r#"
[modules]
retries = 1
[routes]
to-threshold = 'FROM /messages/modules/probe/* INTO BrokeredEndpoint("/modules/threshold/inputs/readings")'
hot = { route = "FROM /messages/modules/furnace/* WHERE level = 'high' INTO $upstream", priority = 0 }
"#;

#[test]
fn from_an_empty_folder_to_a_running_edge() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let made = holdfast(folder, &["init", "--edge", "plant-7"]).expect_good();
    assert!(made.contains("holdfast.toml") && made.contains("plant-7"), "{made}");
    holdfast(folder, &["init"]).expect_refused(&["is there already", "left as it is"]);
    // No upstream is a warning.
    let checked = holdfast(folder, &["check"]).expect_good();
    for word in ["config", "store", "ports", "plugins", "clock", "warning  upstream"] {
        assert!(checked.contains(word), "{word}: {checked}");
    }
    holdfast(folder, &["check", "--warnings-as-errors"]).expect_refused(&["upstream"]);
    holdfast(folder, &["check", "--warnings-as-errors", "--dont-run", "upstream"]).expect_good();
    holdfast(folder, &["list"]).expect_refused(&["no host is running here", "holdfast run"]);
    holdfast(folder, &["init", "other", "--edge", "a b/c"]).expect_refused(&["cannot be the name", "a-b-c"]);

    let text = fs::read_to_string(folder.join("holdfast.toml")).unwrap();
    let mut edge = Edge::prepare("");
    let named = text.replace("plant-7", "plant-8");
    fs::write(edge.config(), named).unwrap();
    edge.start();
    assert!(edge.run(&["check"]).expect_good().contains("the running edge has data open"));
    assert!(edge.stop().success());
    assert!(
        edge.log().contains("edge plant-8 is running") && edge.log().contains("stopped"),
        "{}",
        edge.log()
    );
    // A folder that was used before is used again.
    edge.start();
    assert!(edge.stop().success());
}

#[test]
fn modules_are_listed_restarted_stopped_and_their_logs_shown() {
    let mut edge = Edge::prepare("");
    edge.plug("simulator", "simulator", "[config]\nperiod = \"100ms\"\n");
    edge.plug("window", "window", "");
    edge.start();
    edge.wait_module("simulator", "running");
    edge.wait_module("window", "running");
    let table = edge.run(&["list"]).expect_good();
    assert!(table.starts_with("MODULE") && table.lines().count() == 3, "{table}");

    edge.run(&["restart", "simulator"]).expect_good();
    edge.run(&["restart", "--all"]).expect_good();
    wait_for("the simulator has said three times that it starts", || {
        (edge.json(&["logs", "simulator"]).len() >= 3).then_some(())
    });
    let last = edge.json(&["logs", "simulator", "--tail", "2"]);
    assert_eq!(last.len(), 2);
    assert!(last.iter().all(|line| line["module"] == "simulator" && line["time_ms"].is_u64()), "{last:?}");
    assert_eq!(
        edge.json(&["logs", "simulator", "--since", "1h"]).len(),
        edge.json(&["logs", "simulator"]).len()
    );
    edge.run(&["logs", "simulator", "--since", "soon"]).expect_refused(&["90s, 10m, 2h or 1d"]);

    edge.run(&["stop", "simulator"]).expect_good();
    edge.wait_module("simulator", "stopped");
    edge.run(&["start", "simulator"]).expect_good();
    edge.wait_module("simulator", "running");
    for command in ["logs", "restart", "stop", "start"] {
        edge.run(&[command, "simulatr"]).expect_refused(&["no module \"simulatr\"", "simulator, window"]);
    }
    assert!(edge.run(&["log", "debug"]).expect_good().contains("debug"));
    let neither = edge.run(&["restart"]);
    assert!(neither.code == Some(2) && neither.err.contains("--all"), "{neither:?}");
    assert!(edge.json(&["service", "show"])[0]["text"].as_str().unwrap().contains("ExecStart="));
    publish(edge.gateway(), &["-q", "1", "-t", "plant/x", "-m", "x"]).expect_good();
    edge.wait_log("DEBUG");
}

#[test]
fn what_waits_is_shown_purged_and_dead_letters_are_put_back() {
    let mut edge = Edge::prepare(TO_THRESHOLD);
    edge.plug("threshold", "threshold", "[config]\nabove = 10.0\n");
    edge.start();
    edge.wait_module("threshold", "running");
    for n in 0..3 {
        let receipt = edge.json(&["send", "--from", "furnace/heat", "-p", "level=high", &format!("hot {n}")]);
        assert_eq!((receipt.len(), &receipt[0]["durable"]), (1, &1.into()), "{receipt:?}");
    }
    let unwanted = edge.run(&["send", "--from", "furnace/heat", "-p", "level=low", "cold"]).expect_good();
    assert!(unwanted.contains("no route"), "{unwanted}");
    assert_eq!(edge.waiting("upstream"), 3);
    let waiting = edge.json(&["queue", "peek", "upstream", "-n", "2"]);
    let texts: Vec<&Value> = waiting.iter().map(|one| &one["message"]["body"]["text"]).collect();
    assert_eq!(texts, ["hot 0", "hot 1"]);
    assert!(edge.run(&["queue", "peek", "upstream"]).expect_good().contains("furnace/heat"));
    edge.run(&["queue", "peek", "downstream"]).expect_refused(&["no log \"downstream\"", "upstream"]);
    edge.run(&["queue", "purge", "upstream"]).expect_refused(&["--yes"]);
    assert_eq!(edge.json(&["queue", "purge", "upstream", "--yes"]), [serde_json::json!({ "purged": 3 })]);
    assert_eq!(edge.waiting("upstream"), 0);

    // Not JSON: the module refuses it, and it becomes a dead letter; put back, it does so again.
    edge.run(&["send", "--from", "probe/t", "no JSON"]).expect_good();
    let log = "module/threshold";
    let dead = |edge: &Edge| edge.json(&["queue", "peek", log, "--dead"]);
    let letters = wait_for("a dead letter", || Some(dead(&edge)).filter(|letters| !letters.is_empty()));
    assert!(letters[0]["dead"]["reason"].as_str().unwrap().contains("JSON"), "{letters:?}");
    assert_eq!(letters[0]["message"]["body"]["text"], "no JSON");
    assert_eq!(edge.json(&["queue", "requeue", log]), [serde_json::json!({ "requeued": 1 })]);
    wait_for("the dead letter is there again, further on", || {
        dead(&edge).iter().any(|letter| letter["offset"] != letters[0]["offset"]).then_some(())
    });
    edge.json(&["queue", "purge", log, "--dead", "--yes"]);
    assert!(dead(&edge).is_empty());
    assert!(edge.stop().success());
}

#[test]
fn what_is_counted_is_read_on_the_command_line_and_over_http() {
    let port = free_port();
    let mut edge = Edge::started(&format!("{TO_THRESHOLD}\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n"));
    edge.run(&["send", "--from", "furnace/heat", "-p", "level=high", "hot"]).expect_good();
    let scraped = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let queued = "holdfast_queue_messages{log=\"upstream\",priority=\"0\"} 1";
    for text in [scraped(), edge.run(&["metrics"]).expect_good()] {
        // Reports of the agent are messages too.
        let accepted = text.lines().find_map(|line| line.strip_prefix("holdfast_messages_accepted_total "));
        assert!(text.contains(queued) && accepted.is_some_and(|count| count != "0"), "{text}");
    }
    let families = edge.json(&["metrics"]);
    assert!(families.iter().any(|family| family["name"] == "holdfast_store_fsyncs_total"), "{families:?}");
    assert!(edge.stop().success());
    fs::write(edge.config(), "[metrics]\nlisten = \"0.0.0.0:9600\"\n").unwrap();
    edge.run(&["check"]).expect_refused(&["metrics.listen", "would answer other machines"]);
}

#[test]
fn messages_are_watched_as_they_pass() {
    let edge = Edge::started(TO_THRESHOLD);
    edge.plug("simulator", "simulator", "[config]\nperiod = \"100ms\"\n");
    // What the agent reports of the module passes too.
    edge.run(&["tail", "--route", "nosuch"]).expect_refused(&["there is no route \"nosuch\"", "routes list"]);
    let passing = edge.json(&["tail", "-n", "3", "--from", "simulator/"]);
    assert_eq!(passing.len(), 3);
    assert!(passing.iter().all(|one| one["from"]["module"]["module"] == "simulator"), "{passing:?}");
    let shown = edge.run(&["tail", "-n", "1", "--from", "simulator/"]).expect_good();
    assert!(shown.contains("simulator/readings → [default] $upstream"), "{shown}");
}

#[test]
fn routes_are_listed_and_explained_without_a_running_edge() {
    let edge = Edge::prepare(TO_THRESHOLD);
    let listed = edge.json(&["routes", "list"]);
    let names: Vec<&Value> = listed.iter().map(|route| &route["name"]).collect();
    assert!(names.len() == 2 && names.contains(&&"hot".into()), "{listed:?}");
    let low = ["routes", "explain", "--from", "furnace/heat", "-p", "level=low", "x"];
    let text = edge.run(&low).expect_good();
    assert!(text.contains("not taken") && text.contains("where level is 'low'"), "{text}");
    assert!(text.contains("FROM /messages/modules/probe/* does not match"), "{text}");
    let high = edge.json(&["routes", "explain", "--from", "furnace/heat", "-p", "level=high", "x"]);
    let taken: Vec<&Value> =
        high.iter().filter(|one| one["taken"] == true).map(|one| &one["route"]).collect();
    assert_eq!(taken, ["hot"]);
}

#[test]
fn a_component_is_inspected_and_what_is_none_is_named() {
    let edge = Edge::prepare("");
    edge.drop_in("good.wasm", &ready_made("simulator"));
    edge.drop_in("core.wasm", b"\0asm\x01\0\0\0");
    let text = edge.run(&["module", "inspect", "plugins/good.wasm"]).expect_good();
    assert!(text.contains("exports  holdfast:module/handler@"), "{text}");
    let found = edge.json(&["module", "inspect", "plugins/good.wasm"]);
    assert!(
        found.len() == 1 && found[0]["imports"].as_array().is_some_and(|all| !all.is_empty()),
        "{found:?}"
    );
    edge.run(&["module", "inspect", "plugins/core.wasm"]).expect_refused(&["core module, not a component"]);
    edge.run(&["module", "inspect", "plugins/none.wasm"]).expect_refused(&["none.wasm cannot be read"]);
    // `check` looks at them before they run.
    edge.run(&["check"]).expect_refused(&["core.wasm"]);
}

#[test]
fn a_configuration_with_several_faults_has_all_of_them_named() {
    let edge = Edge::prepare("");
    let text = "edge = \"a b\"\nbogus = 1\n[store]\nquota = \"1 MiB\"\n[routes]\n\
                bad = \"FROM /messages/* INTO nowhere\"\n[upstream]\nurl = \"http://x\"\n";
    fs::write(edge.config(), text).unwrap();
    let faults = [
        "5 faults",
        "holdfast.toml:1:8",
        "holdfast.toml:2:1",
        "no key \"bogus\"",
        "holdfast.toml:4:9",
        "64 MiB",
        "holdfast.toml:6:",
        "$upstream",
        "holdfast.toml:8:7",
        "write ws://",
    ];
    for command in ["run", "check", "list"] {
        edge.run(&[command]).expect_refused(&faults);
    }
    fs::write(edge.config(), "edge = \"a\nx").unwrap();
    edge.run(&["run"]).expect_refused(&["holdfast.toml:1"]);
    holdfast(edge.folder(), &["--config", "elsewhere.toml", "run"]).expect_refused(&["elsewhere.toml"]);
}

#[test]
fn a_second_edge_in_the_same_folder_is_refused_and_the_first_goes_on() {
    let edge = Edge::started("");
    let process = edge.id();
    edge.run(&["run"]).expect_refused(&[
        "running already",
        &process.to_string(),
        "holdfast stop",
        "paths.data",
    ]);
    edge.run(&["list"]).expect_good();
}

#[test]
fn a_taken_port_is_named_with_its_setting_and_the_way_to_find_who_has_it() {
    let mut edge = Edge::prepare("");
    let port = edge.gateway();
    let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let says = [format!("port {port}"), "gateway.listen".into(), format!("ss -ltunp 'sport = :{port}'")];
    let says = says.each_ref().map(String::as_str);
    edge.run(&["check"]).expect_refused(&says);
    edge.run(&["run"]).expect_refused(&says);
    drop(holder);
    // The refused start has left nothing behind that holds up the next.
    edge.start();
    assert!(edge.stop().success());
}

#[test]
fn an_unreachable_upstream_is_an_error_for_check_and_the_edge_queues() {
    let mut broker = Broker::start();
    let port = broker.port();
    broker.stop();
    let mut edge = Edge::prepare(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{port}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\nbackoff_max = \"1 s\"\n"
    ));
    let says = [format!("127.0.0.1:{port} refused the connection"), "upstream.url".into()];
    let says = says.each_ref().map(String::as_str);
    edge.run(&["check"]).expect_refused(&says);
    edge.start();
    for number in 1..=3 {
        publish(edge.gateway(), &["-q", "1", "-t", "plant/x", "-m", &number.to_string()]).expect_good();
    }
    edge.wait_log(says[0]);
    assert_eq!(edge.waiting("upstream"), 3);
    // Over a restart too; and when the broker comes, all of it goes there, in order.
    assert!(edge.stop().success());
    edge.start();
    assert_eq!(edge.waiting("upstream"), 3);
    // The edge must not come before the receiver has subscribed: then Mosquitto would throw its messages away.
    edge.kill();
    broker.again();
    let mut receiver = Receiver::start(port, "up/#");
    edge.start();
    receiver.wait("the third message", |message| message["payload"] == "3");
    let bodies: Vec<String> =
        receiver.seen().iter().map(|m| m["payload"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    wait_for("nothing waits any more", || (edge.waiting("upstream") == 0).then_some(()));
    assert!(edge.run(&["check"]).expect_good().contains("ok       upstream"));
}

#[test]
fn wrong_passwords_and_oversized_messages_are_refused_and_logged() {
    let edge = Edge::started("");
    let refused = publish_as(edge.gateway(), "guess", &["-t", "plant/x", "-m", "x"]);
    assert!(!refused.good && refused.err.contains("bad user name or password"), "{refused:?}");
    edge.wait_log("the password of user sensor-1 is wrong");
    let mut big = tempfile::NamedTempFile::new().unwrap();
    big.write_all(&[b'x'; 100_000]).unwrap();
    let path = big.path().to_str().unwrap();
    let refused = publish(edge.gateway(), &["-q", "1", "-t", "plant/x", "-f", path]);
    assert!(!refused.good, "{refused:?}");
    edge.wait_log("at most 65536");
    assert!(
        !edge.log().contains("guess") && !edge.log().contains("a sensor's password"),
        "a password is in the log"
    );
    publish(edge.gateway(), &["-q", "1", "-t", "plant/x", "-m", "small"]).expect_good();
    assert_eq!(edge.waiting("upstream"), 1, "the refused ones are not recorded");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let edge = Edge::prepare("[paths]\ndata = \"plain-file/data\"\n");
    fs::write(edge.folder().join("plain-file"), "in the way").unwrap();
    edge.run(&["run"]).expect_refused(&["plain-file/data"]);
    edge.run(&["check"]).expect_refused(&["plain-file/data"]);
    // Rights do not bind root.
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    if user == b"0\n" {
        println!("as root, folders without the right to write are left out");
        return;
    }
    let edge = Edge::prepare("[paths]\ndata = \"closed/data\"\n");
    let closed = edge.folder().join("closed");
    fs::create_dir(&closed).unwrap();
    let mut rights = fs::metadata(&closed).unwrap().permissions();
    rights.set_readonly(true);
    fs::set_permissions(&closed, rights).unwrap();
    edge.run(&["run"]).expect_refused(&["closed/data", "right"]);
    edge.run(&["check"]).expect_refused(&["closed/data"]);
}
