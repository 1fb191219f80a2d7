//! The loop of who writes a module: record what passes, hand it to a component, see what is different.

use crate::support::{Edge, checkout, holdfast};
use serde_json::Value;
use std::{fs, thread};

const ROUTES: &str = r#"[routes]
in = 'FROM /messages/modules/simulator/outputs/readings INTO BrokeredEndpoint("/modules/threshold/inputs/readings")'
"#;
const FAST: &str = "[config]\nseed = 1\nperiod = \"20ms\"\nburst = 1\ncount = 0\nsensors = 2\n";

#[test]
fn what_was_recorded_is_what_the_same_component_sends_and_another_one_does_not() {
    let edge = Edge::started(ROUTES);
    let settings = "[config]\nfield = \"temperature\"\nkey = \"sensor\"\nabove = 21.0\nhysteresis = 0.1\n";
    thread::scope(|scope| {
        let recording = scope.spawn(|| {
            edge.run(&[
                "record",
                "--output",
                "r.jsonl",
                "--module",
                "threshold",
                "--count",
                "120",
                "--time",
                "60s",
            ])
        });
        edge.plug("threshold", "threshold", settings);
        edge.wait_module("threshold", "running");
        edge.plug("simulator", "simulator", FAST);
        let told = recording.join().unwrap().expect_good();
        assert!(told.contains("recorded 120 messages"), "{told}");
    });
    let lines = fs::read_to_string(edge.folder().join("r.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 120);

    // With the settings it had, and with others.
    let test = |name: &str, settings: &str| {
        let folder = edge.folder().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(checkout("plugins/threshold.wasm"), folder.join("threshold.wasm")).unwrap();
        fs::write(folder.join("threshold.toml"), settings).unwrap();
        let component = format!("{name}/threshold.wasm");
        holdfast(
            edge.folder(),
            &["--json", "module", "test", &component, "--recording", "r.jsonl", "--ignore", "since"],
        )
    };
    let same = test("same", settings);
    let answer: Value = serde_json::from_str(&same.out).unwrap_or_else(|error| panic!("{error}: {same:?}"));
    // The last messages may have been recorded before what they led to.
    assert!(answer["handled"].as_u64() > Some(20), "{answer}");
    assert!(answer["expected"].as_u64() > Some(0), "{answer}");
    let late = answer["sent"].as_u64().unwrap() - answer["expected"].as_u64().unwrap();
    assert!(late <= 2 && answer["different"] == late, "{answer}");
    let other = test("other", "[config]\nfield = \"no.such.field\"\nabove = 1.0\n");
    assert!(!other.good && other.out.contains("\"same\":false"), "{other:?}");
}

#[test]
fn a_recording_that_is_none_and_a_component_that_is_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let test =
        |component: &str| holdfast(folder.path(), &["module", "test", component, "--recording", "r.jsonl"]);
    let plugin = checkout("plugins/threshold.wasm").display().to_string();
    test(&plugin).expect_refused(&["r.jsonl cannot be read"]);
    fs::write(folder.path().join("r.jsonl"), "{}\n").unwrap();
    test(&plugin).expect_refused(&["line 1", "no recorded message", "holdfast record"]);
    fs::write(folder.path().join("r.jsonl"), "").unwrap();
    test(&plugin).expect_refused(&["no message for an input of threshold"]);
}

#[test]
fn a_component_says_what_it_does_asks_for_and_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    let inspect = |file: &str| holdfast(folder.path(), &["module", "inspect", file]);
    for file in ["host-metrics.wasm", "host-metrics.toml"] {
        fs::copy(checkout(&format!("plugins/{file}")), folder.path().join(file)).unwrap();
    }
    let told = inspect("host-metrics.wasm").expect_good();
    for text in
        ["it handles messages", "if granted, files: [grants] directories", "it is granted  directory /proc"]
    {
        assert!(told.contains(text), "{text:?} is not in {told}");
    }
    // What it asks for stands in a section of its own: id 0, length, the name and its length, the text.
    let wish = "[grants]\nhosts = [\"api.example:443\"]\n";
    let mut bytes = fs::read(checkout("plugins/window.wasm")).unwrap();
    let name = "holdfast-grants";
    bytes.extend([0, u8::try_from(1 + name.len() + wish.len()).unwrap(), u8::try_from(name.len()).unwrap()]);
    bytes.extend(name.as_bytes());
    bytes.extend(wish.as_bytes());
    fs::write(folder.path().join("asks.wasm"), bytes).unwrap();
    let told = inspect("asks.wasm").expect_good();
    assert!(told.contains("it asks for  connections to api.example, port 443"), "{told}");
    assert!(told.contains("nothing is granted"), "{told}");
}
