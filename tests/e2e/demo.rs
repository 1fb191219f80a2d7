//! `holdfast demo` as a newcomer runs it, and as one who loses patience.

use crate::support::{Process, binary, holdfast, wait_for};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The demo of this folder: what it makes lies in it.
fn demo(folder: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary());
    command.arg("demo").args(arguments).env("TMPDIR", folder);
    Process::start(command, &folder.join("demo.log"))
}

/// The folder of the edge that a demo runs, once it answers.
fn its_edge(demo: &mut Process) -> PathBuf {
    wait_for("the demo to show its edge at work", || {
        assert_eq!(demo.ended(), None, "{}", demo.printed());
        let printed = demo.printed();
        printed.contains("all is well").then_some(())?;
        printed.lines().find_map(|line| line.strip_prefix("the edge works in ")).map(PathBuf::from)
    })
}

#[test]
fn a_demo_that_is_told_to_end_ends_its_edge_and_its_hub() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &["--plain"]);
    let edge = its_edge(&mut demo);
    let asked = |config: &str| holdfast(&edge, &["--config", config, "status"]);
    asked("holdfast.toml").expect_good();

    let told = Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap();
    assert!(told.success());
    let end = wait_for("the demo to end", || demo.ended());
    assert!(!end.success(), "an interrupted demo has proved nothing: {end}");
    assert!(demo.printed().contains("the demo was interrupted"), "{}", demo.printed());
    wait_for("the processes to be gone", || processes_of(&edge).is_empty().then_some(()));
    // A process that ends has its sockets a little longer than its arguments.
    wait_for("nobody to answer", || {
        asked("holdfast.toml").err.contains("no host is running here").then_some(())
    });
}

#[test]
fn a_demo_whose_edge_ends_by_itself_says_so_and_where_to_look() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &["--plain"]);
    let edge = its_edge(&mut demo);
    let is_edge = |line: &&(String, String)| line.1.contains("holdfast.toml run");
    let (id, _) = processes_of(&edge).iter().find(is_edge).cloned().expect("the edge runs");
    assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
    let end = wait_for("the demo to end", || demo.ended());
    assert!(!end.success());
    let printed = demo.printed();
    assert!(printed.contains("the edge has ended (signal: 9") && printed.contains("edge.log"), "{printed}");
    wait_for("the processes to be gone", || processes_of(&edge).is_empty().then_some(()));
}

#[test]
fn a_demo_proves_that_nothing_was_lost_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &["--cut", "1", "--json"]);
    let end = wait_for("the demo to end", || demo.ended());
    let printed = demo.printed();
    assert!(end.success(), "{printed}");
    let answer: Value = printed.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    assert!(answer["acknowledged"].as_u64() > Some(100), "{answer}");
    assert!(answer["arrived"].as_u64() >= answer["acknowledged"].as_u64(), "{answer}");
    assert_eq!((&answer["cuts"], &answer["kills"], &answer["gaps"]), (&1.into(), &2.into(), &0.into()));
    assert_eq!(answer["faults"].as_array().map(Vec::len), Some(0), "{answer}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [folder.path().join("demo.log")]);
}

/// The numbers of processes whose arguments name the folder, and these: `proc(5)`, so that elsewhere there are none.
fn processes_of(folder: &Path) -> Vec<(String, String)> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = processes.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some((process.file_name().to_string_lossy().into_owned(), line))
    });
    all.filter(|(_, line)| line.contains(folder)).collect()
}
