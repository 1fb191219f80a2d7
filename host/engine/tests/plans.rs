//! Deployments as the engine sees them: prepared beside what runs, taken in waves, and taken back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::{Plan, PlanError, PlannedModule, RestartPolicy, RuntimeStatus};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use support::{Edge, name};

fn planned(file: &str, start_order: u32, mode: &str) -> PlannedModule {
    PlannedModule {
        image: file.to_owned(),
        files: vec![file.to_owned()],
        oci: None,
        running: true,
        restart: RestartPolicy::Always,
        start_order,
        environment: BTreeMap::from([("MODE".to_owned(), mode.to_owned())]),
    }
}

fn plan(modules: &[(&str, PlannedModule)]) -> Plan {
    let modules = modules.iter().map(|(module, planned)| (name(module), planned.clone()));
    Plan { modules: modules.collect(), exclusive: false }
}

async fn edge() -> Edge {
    let edge = support::Plan::new(&["echo"]).with("echo", "outbox_echo", "");
    edge.config(|config| config.settle = Duration::from_millis(20)).start().await
}

/// The names of those that run.
fn running(edge: &Edge) -> Vec<String> {
    let all = edge.engine.list().into_iter().filter(|module| module.status == RuntimeStatus::Running);
    all.map(|module| module.name).collect()
}

async fn until(edge: &Edge, wanted: &[&str]) {
    let end = std::time::Instant::now() + support::PATIENCE;
    while running(edge) != wanted {
        assert!(std::time::Instant::now() < end, "{:?} run, not {wanted:?}", running(edge));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_prepared_beside_what_runs_taken_in_its_order_and_taken_back() {
    let edge = edge().await;
    until(&edge, &["echo"]).await;
    let wanted = plan(&[("late", planned("echo.wasm", 7, "a")), ("early", planned("echo.wasm", 2, "a"))]);
    let prepared = edge.engine.prepare(wanted).await.unwrap();
    assert_eq!(running(&edge), ["echo"], "nothing has been touched");

    // Its file is the deployment's now.
    let adopted = edge.engine.adopt(prepared).await.unwrap();
    until(&edge, &["early", "late"]).await;
    let module = |module: &str| edge.engine.list().into_iter().find(|one| one.name == module).unwrap();
    assert!(module("early").last_start <= module("late").last_start);
    for one in ["early", "late"] {
        assert_eq!(module(one).version, adopted.versions[one]);
    }

    // The next plan changes one of them; taking back what was before brings that very version back.
    let next = plan(&[("late", planned("echo.wasm", 7, "b")), ("early", planned("echo.wasm", 2, "a"))]);
    let swapped = edge.engine.adopt(edge.engine.prepare(next).await.unwrap()).await.unwrap();
    assert_eq!(swapped.versions["early"], adopted.versions["early"], "unchanged, so not loaded anew");
    assert_ne!(swapped.versions["late"], adopted.versions["late"]);
    let end = std::time::Instant::now() + support::PATIENCE;
    while module("late").version != swapped.versions["late"] {
        assert!(std::time::Instant::now() < end, "{:?}", module("late"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let back = edge.engine.adopt(swapped.before).await.unwrap();
    assert_eq!(back.versions, adopted.versions);
    while module("late").version != adopted.versions["late"] {
        assert!(std::time::Instant::now() < end, "{:?}", module("late"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(running(&edge), ["early", "late"]);

    // And without a plan the folder alone says what runs.
    edge.engine.adopt(adopted.before).await.unwrap();
    until(&edge, &["echo"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_that_cannot_run_is_named_and_nothing_changes() {
    let edge = edge().await;
    until(&edge, &["echo"]).await;
    let plugins = edge.folder.path().join("plugins");
    fs::write(plugins.join("text.wasm"), "no component").unwrap();
    fs::write(plugins.join("faulty.toml"), "restart = \"sometimes\"").unwrap();
    let wanted = plan(&[
        ("absent", planned("absent.wasm", 0, "a")),
        ("faulty", planned("echo.wasm", 0, "a")),
        ("good", planned("echo.wasm", 0, "a")),
        ("text", planned("text.wasm", 0, "a")),
    ]);
    let Err(PlanError::Unfit(unfit)) = edge.engine.prepare(wanted).await else { panic!("it was taken") };
    let named: Vec<_> = unfit.iter().map(|one| one.module.as_str()).collect();
    assert_eq!(named, ["absent", "faulty", "text"]);
    for (one, word) in unfit.iter().zip(["put it there as absent.wasm", "sometimes", "the file is text"]) {
        assert!(one.reason.contains(word), "{one}");
    }
    assert!(running(&edge).contains(&"echo".to_owned()));
}
