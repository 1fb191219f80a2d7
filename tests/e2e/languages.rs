//! A module in each language: made, built and run with the commands that a newcomer types, down to its messages.

use crate::support::{Edge, checkout, holdfast, node_modules, python_tool, wait_for, wait_within};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

/// Feeds the module of a name; what it sends goes upstream and stays there.
fn routes(name: &str) -> String {
    format!(
        "[routes]\nin = 'FROM /messages/modules/feed/* INTO BrokeredEndpoint(\"/modules/{name}/inputs/readings\")'\n"
    )
}

fn built(edge: &Edge, project: &str) -> Value {
    let answer = holdfast(edge.folder(), &["--json", "module", "build", project, "--install", "plugins"]);
    let printed = answer.expect_good();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Makes a project, lets `prepare` bring the tools that `tests/run` has fetched, builds it and waits until it runs.
fn new_module(lang: &str, prepare: impl FnOnce(&Path)) -> Edge {
    let edge = Edge::started(&routes("hello"));
    holdfast(edge.folder(), &["module", "new", "hello", "--lang", lang]).expect_good();
    prepare(&edge.folder().join("hello"));
    let built = built(&edge, "hello");
    // An engine of a language is much to compile.
    let running = wait_within(Duration::from_secs(150), "it runs", || {
        edge.module("hello").filter(|module| module["state"] == "running")
    });
    println!(
        "{lang}: {} bytes, built in {} ms, holds {} bytes",
        built["bytes"], built["elapsed_ms"], running["memory_bytes"]
    );
    edge
}

/// The bodies that a module has sent upstream, in order.
fn sent(edge: &Edge, from: &str) -> Vec<String> {
    let stored = edge.json(&["queue", "peek", "upstream", "--count", "100"]);
    let own = stored.iter().filter(|stored| stored["from"]["module"]["module"] == from);
    own.map(|stored| stored["message"]["body"]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn send(edge: &Edge, body: &str) {
    edge.run(&["send", "--from", "feed/out", body]).expect_good();
}

fn wait_sent(edge: &Edge, wanted: &[&str]) {
    wait_for(&format!("{wanted:?} was sent"), || (sent(edge, "hello") == wanted).then_some(()));
}

/// What the component says that it takes messages by and sends by.
fn declares(edge: &Edge) -> (Value, Value) {
    let inspected = edge.json(&["module", "inspect", "plugins/hello.wasm"]).remove(0);
    (inspected["inputs"].clone(), inspected["outputs"].clone())
}

/// Messages are counted, and the count outlives the instance.
fn counts(edge: &Edge) {
    send(edge, "one");
    send(edge, "two");
    wait_sent(edge, &["1: one", "2: two"]);
    edge.run(&["restart", "hello"]).expect_good();
    send(edge, "three");
    wait_sent(edge, &["1: one", "2: two", "3: three"]);
}

/// The twin is followed and reported; a method is served.
fn follows_and_serves(edge: &Edge) {
    edge.run(&["twin", "set", "/hello", r#"{"label": "no. "}"#]).expect_good();
    wait_for("the label is reported", || {
        (edge.json(&["twin", "show", "/hello"])[0]["reported"]["label"] == "no. ").then_some(())
    });
    send(edge, "four");
    wait_sent(edge, &["1: one", "2: two", "3: three", "no. 4: four"]);
    let reply = &edge.json(&["method", "call", "/hello", "reset"])[0];
    assert_eq!((&reply["status"], &reply["payload"]), (&json!(200), &json!({ "before": 4 })), "{reply}");
    send(edge, "five");
    wait_sent(edge, &["1: one", "2: two", "3: three", "no. 4: four", "no. 1: five"]);
}

#[test]
fn in_python() {
    let edge = new_module("python", |project| {
        let own = project.join(".venv/bin");
        fs::create_dir_all(&own).unwrap();
        std::os::unix::fs::symlink(python_tool("componentize-py"), own.join("componentize-py")).unwrap();
    });
    counts(&edge);
    follows_and_serves(&edge);
    assert_eq!(declares(&edge), (json!(["readings"]), json!(["out"])));
}

#[test]
fn in_javascript() {
    let edge = new_module("js", |project| {
        std::os::unix::fs::symlink(node_modules(), project.join("node_modules")).unwrap();
    });
    counts(&edge);
    follows_and_serves(&edge);
    assert_eq!(declares(&edge), (json!(["readings"]), json!(["out"])));
}

#[test]
fn in_c() {
    let edge = new_module("c", |_| ());
    counts(&edge);
    assert_eq!(declares(&edge), (json!(["readings"]), json!(["out"])));
    // A handler that is left out answers all the same.
    edge.run(&["--json", "method", "call", "/hello", "reset"])
        .expect_refused(&["\"status\":501", "no method"]);

    // What does not compile says where, and what runs goes on.
    let source = edge.folder().join("hello/module.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("return holdfast_done();", "return holdfast_don();")).unwrap();
    holdfast(edge.folder(), &["module", "build", "hello"]).expect_refused(&["module.c:", "holdfast_don"]);
    assert_eq!(edge.module("hello").unwrap()["state"], "running");
}

#[test]
fn the_example_in_c_beats_reports_and_serves() {
    let edge = Edge::started(&routes("pump-c"));
    let project = edge.folder().join("pump-c");
    fs::create_dir_all(&project).unwrap();
    for file in ["module.c", "pump-c.toml"] {
        fs::copy(checkout(&format!("examples/pump-c/{file}")), project.join(file)).unwrap();
    }
    std::os::unix::fs::symlink(checkout("sdk/c/src").canonicalize().unwrap(), project.join("holdfast"))
        .unwrap();
    edge.drop_in("pump-c.toml", b"[config]\nperiod_ms = 50\n");
    built(&edge, "pump-c");
    edge.wait_module("pump-c", "running");
    for strokes in ["5", "7", "many", "1.5"] {
        send(&edge, strokes);
    }
    wait_for("the total is reported", || {
        (edge.json(&["twin", "show", "/pump-c"])[0]["reported"]["strokes"] == 12).then_some(())
    });
    wait_for("what is no number is given up", || (edge.module("pump-c")?["failed"] == 2).then_some(()));
    wait_for("what it measures is shown", || {
        let metrics = &edge.module("pump-c")?["metrics"];
        let (total, observed) = (&metrics["strokes_total"]["counter"], &metrics["strokes"]["histogram"]);
        (*total == 12
            && observed["count"] == 2
            && observed["sum"] == 12.0
            && metrics["pressure_bar"]["gauge"] == 1.5)
            .then_some(())
    });
    let page = edge.run(&["metrics"]).expect_good();
    for line in [
        "holdfast_module_own_total{module=\"pump-c\",metric=\"strokes_total\"} 12",
        "holdfast_module_own{module=\"pump-c\",metric=\"pressure_bar\"} 1.5",
        "holdfast_module_own_observed_bucket{module=\"pump-c\",metric=\"strokes\",le=\"5\"} 1",
        "holdfast_module_own_observed_bucket{module=\"pump-c\",metric=\"strokes\",le=\"+Inf\"} 2",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    wait_for("the total is sent", || {
        sent(&edge, "pump-c").contains(&r#"{"strokes":12}"#.to_owned()).then_some(())
    });
    let reply = &edge.json(&["method", "call", "/pump-c", "reset"])[0];
    assert_eq!((&reply["status"], &reply["payload"]), (&json!(200), &json!({ "before": 12 })), "{reply}");
    wait_for("it began anew", || {
        (edge.json(&["twin", "show", "/pump-c"])[0]["reported"]["strokes"] == 0).then_some(())
    });
}
