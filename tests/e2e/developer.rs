//! The loop of who writes a module: record what passes, hand it to a component, see what is different.

use crate::support::{Edge, Process, binary, checkout, holdfast, ready_made, wait_for};
use serde_json::Value;
use std::{fs, process::Command, thread};

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

#[test]
fn a_slip_of_the_finger_in_a_route_is_named_with_what_was_meant() {
    let edge = Edge::prepare(
        "[routes]\n\
         from = 'FROM /messages/modules/simulator/outputs/raedings INTO $upstream'\n\
         into = 'FROM /messages/* INTO BrokeredEndpoint(\"/modules/simulator/inputs/in\")'\n\
         well = 'FROM /messages/modules/simulator/outputs/readings INTO $upstream'\n",
    );
    edge.plug("simulator", "simulator", "");
    let slip = "simulator declares no output \"raedings\"; write \"readings\"";
    let none = "simulator declares no input \"in\"; it has: none";
    let found = edge.json(&["check", "--dont-run", "upstream"]);
    let routes = found.iter().find(|one| one["id"] == "routes").unwrap();
    assert_eq!(routes["result"], "warning", "{routes}");
    assert_eq!(routes["text"], format!("from: {slip}\ninto: {none}"), "{routes}");
    let listed = edge.run(&["routes", "list"]);
    assert!(listed.err.contains(&format!("note: from: {slip}")) && listed.good, "{listed:?}");
    let explained = edge.run(&["routes", "explain", "--from", "simulator/raedings", "x"]);
    assert!(explained.err.contains(slip) && explained.good, "{explained:?}");
}

#[test]
fn what_a_component_asks_for_and_is_not_granted_is_told_with_the_line_that_grants_it() {
    let edge = Edge::prepare("");
    let asks =
        "[grants]\nmethods = [\"/horn\"]\nhosts = [\"api.example:443\"]\n[environment]\nTOKEN = \"mine\"\n";
    let wasm = holdfast_engine::with_wishes(ready_made("window"), asks).unwrap();
    edge.drop_in("asks.wasm", &wasm);
    edge.drop_in("asks.toml", b"[grants]\nhosts = [\"*.example:*\"]\n");
    let lines = [
        "methods of /horn, which are not granted; to grant them, add to its .toml: [grants] methods = [\"/horn\"]",
        "the environment variable TOKEN, which is not set; to set it, add to its .toml: [environment] TOKEN = ",
    ];
    let inspected = &edge.json(&["module", "inspect", "plugins/asks.wasm"])[0];
    assert_eq!(inspected["outputs"], serde_json::json!(["windows"]), "{inspected}");
    assert_eq!(inspected["unmet"].as_array().unwrap().len(), lines.len(), "{inspected}");
    let told = edge.run(&["module", "inspect", "plugins/asks.wasm"]).expect_good();
    let checked = edge.run(&["check", "--dont-run", "upstream"]).out;
    for line in lines {
        assert!(told.contains(&format!("it lacks  {line}")), "{line} is not in {told}");
        assert!(checked.contains(&format!("asks.wasm: it asks for {line}")), "{line} is not in {checked}");
    }
    assert!(told.contains("output   windows"), "{told}");
    // Settings that cannot be read are found before they are needed.
    edge.drop_in("asks.toml", b"outputs = [\"a b\"]\n[grant]\n");
    edge.run(&["check", "--dont-run", "upstream"]).expect_refused(&[
        "asks.toml: line 1: outputs: \"a b\" is no name",
        "line 2: grant is not known here",
    ]);
}

/// The whole loop in one terminal: it builds at each change, swaps, and shows what the module logs, is given and sends.
#[test]
fn a_module_is_written_while_it_runs_and_one_that_does_not_compile_changes_nothing() {
    let edge = Edge::started(
        "[routes]\nin = 'FROM /messages/modules/feed/* INTO BrokeredEndpoint(\"/modules/hello/inputs/readings\")'\n",
    );
    holdfast(edge.folder(), &["module", "new", "hello", "--lang", "c"]).expect_good();
    let mut dev = Command::new(binary());
    dev.current_dir(edge.folder()).args(["--config", "holdfast.toml", "module", "dev", "hello"]);
    let dev = Process::start(dev, &edge.folder().join("dev.log"));
    let shows =
        |text: &str| wait_for(&format!("it shows {text:?}"), || dev.printed().contains(text).then_some(()));
    shows("— built hello");
    edge.wait_module("hello", "running");
    let feed = |body: &str| drop(edge.run(&["send", "--from", "feed/out", body]).expect_good());
    // It may look away for a moment when the module comes up.
    wait_for("it shows what passes", || {
        feed("one");
        dev.printed().contains("is given feed/out  one").then_some(())
    });
    shows("sends    hello/out  1: one");

    let source = edge.folder().join("hello/module.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("%ld: %s", "%ld; %s").replace("has started", "is another")).unwrap();
    shows("log      hello is another");
    feed("two");
    shows("; two");

    fs::write(&source, text.replace("return", "retrun")).unwrap();
    shows("— not built: ");
    feed("three");
    shows("; three");
    fs::write(edge.folder().join("hello/hello.toml"), "outputs = 7\n").unwrap();
    fs::write(&source, &text).unwrap();
    shows("hello.toml: line 1: outputs is an integer");
    assert_eq!(edge.module("hello").unwrap()["state"], "running");
}
