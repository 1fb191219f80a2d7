//! A next version is tried on a copy of the traffic: what it would send is compared, and goes nowhere.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_broker::MethodTimes;
use holdfast_engine::{CommandError, RuntimeStatus, ShadowReport, Source};
use holdfast_types::Identity;
use std::fs;
use std::sync::Arc;
use support::guests::{guest, marked};
use support::{Edge, Plan, name};

/// Waits until the shadow of `m` has been compared so often.
async fn compared(edge: &Edge, calls: u64) -> ShadowReport {
    let done = |report: &ShadowReport| report.matched + report.differed == calls;
    let status = edge.until("m.next", |status| status.shadow.as_ref().is_some_and(done)).await;
    status.shadow.unwrap()
}

async fn with_next(base: &str, settings: &str, next: Vec<u8>) -> Edge {
    let edge = Plan::new(&["m"]).with("m", base, settings).start().await;
    edge.until_running("m").await;
    edge.put("m.next.wasm", next);
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_the_same_matches_sends_nothing_and_takes_over_when_it_is_promoted() {
    let mut edge = with_next("outbox_echo", "", marked("outbox_echo", "two")).await;
    let first = edge.status("m").unwrap().digest;
    for n in 0..50 {
        edge.feed("m", &n.to_string()).await;
    }
    let expected: Vec<String> = (0..50).map(|n| format!("in:{n}")).collect();
    assert_eq!(edge.bodies(50).await, expected, "each once, by the version that works");
    let report = compared(&edge, 50).await;
    assert_eq!(report, ShadowReport { matched: 50, ..ShadowReport::default() });
    let shown = edge.status("m.next").unwrap();
    assert_eq!((shown.messages_in, shown.messages_out), (50, 0), "{shown:#?}");

    edge.engine.promote("m").await.unwrap();
    edge.until_gone("m.next").await;
    let status = edge.until("m", |status| status.digest != first).await;
    assert_eq!(status.digest, shown.digest);
    edge.feed("m", "after").await;
    assert_eq!(edge.received().await.1, "in:after");
    assert!(edge.nothing_more());
    assert!(!edge.plugins().join("m.next.wasm").exists());
    // It is the module's own file now: the next start has it too.
    let folder = edge.stop().await;
    let edge = Plan::new(&["m"]).in_folder(&folder).start().await;
    assert_eq!(edge.until_running("m").await.digest, shown.digest);
    assert_eq!(edge.engine.promote("m").await, Err(CommandError::NoNext { name: "m".to_owned() }));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_counted_and_the_first_are_told_until_it_is_dropped() {
    let next = fs::read(guest("handler_answer")).unwrap();
    let mut edge = with_next("outbox_echo", "", next).await;
    for body in ["one", "reject never", "retry later"] {
        edge.feed("m", body).await;
    }
    assert_eq!(edge.bodies(3).await, ["in:one", "in:reject never", "in:retry later"]);
    let report = compared(&edge, 3).await;
    assert_eq!((report.matched, report.differed, report.skipped), (0, 3, 0));
    let told = report.differences.join("\n");
    for part in
        ["sent out: in:one; this one sent out: one", "this one rejected it", "asks for another try: later"]
    {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let log = edge.log("m.next").join("\n");
    assert!(log.contains("this one sent out: one"), "{log}");
    for n in 0..20 {
        edge.feed("m", &n.to_string()).await;
        edge.received().await;
    }
    assert_eq!(compared(&edge, 23).await.differences.len(), 10, "the others are counted only");
    let status = edge.status("m").unwrap();
    assert_eq!((status.dead_letters, status.restarts), (0, 0), "the version that works is not touched");

    let refused = edge.engine.restart("m.next").await.unwrap_err().to_string();
    assert!(refused.contains("holdfast module promote m"), "{refused}");
    edge.engine.drop_next("m").await.unwrap();
    edge.until_gone("m.next").await;
    edge.feed("m", "after").await;
    assert_eq!(edge.received().await.1, "in:after");
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_a_copy_of_the_state_that_is_never_written_back() {
    let mut edge = Plan::new(&["m"]).with("m", "keyvalue_counter", "").start().await;
    for n in 1..=5 {
        edge.feed("m", "x").await;
        assert_eq!(edge.received().await.1, format!("{n} x"));
    }
    edge.put("m.next.wasm", marked("keyvalue_counter", "two"));
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    for n in 6..=40 {
        edge.feed("m", "x").await;
        assert_eq!(edge.received().await.1, format!("{n} x"), "counted once for each message");
    }
    let report = compared(&edge, 35).await;
    assert_eq!((report.matched, report.differed), (35, 0), "{report:#?}");
    // The copy is made anew with each instance of the version that works.
    edge.engine.restart("m").await.unwrap();
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "41 x");
    assert_eq!(compared(&edge, 36).await.differed, 0);
    edge.engine.promote("m").await.unwrap();
    edge.until_gone("m.next").await;
    edge.until("m", |status| status.last_swap.is_some()).await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "42 x");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_traps_or_never_ends_costs_the_version_that_works_nothing() {
    for (bad, body, why) in
        [("handler_trap", "trap", "handle trapped"), ("handler_loop", "loop", "limits.call_ms")]
    {
        let next = fs::read(guest(bad)).unwrap();
        let mut edge = with_next("outbox_echo", "[limits]\ncall_ms = 50\n", next).await;
        for n in 0..25 {
            edge.feed("m", body).await;
            assert_eq!(edge.received().await.1, format!("in:{body}"), "{n}");
        }
        let given_up = edge.until("m.next", |status| status.status == RuntimeStatus::Failed).await;
        assert!(given_up.description.contains("lost 20 times"), "{given_up:#?}");
        let report = given_up.shadow.unwrap();
        assert_eq!((report.matched, report.differed), (0, 20));
        assert!(report.differences[0].contains(why), "{report:#?}");
        assert_eq!(edge.until_running("m").await.restarts, 0);
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_calls_nobody_and_its_replies_are_compared() {
    let next = marked("methods_both", "two");
    let mut edge = Plan::new(&["m", "other"])
        .with("m", "methods_both", "[grants]\nmethods = [\"/other\"]\n")
        .with("other", "methods_both", "")
        .start()
        .await;
    edge.until_running("m").await;
    edge.until_running("other").await;
    edge.put("m.next.wasm", next);
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    let m = Identity::module(name("edge"), name("m"));
    let methods = edge.broker.methods();
    let call = |method: &'static str| methods.call(&m, method, "7".into(), MethodTimes::default());
    assert_eq!(call("echo").await.unwrap().payload, "7");
    assert_eq!(call("count").await.unwrap().payload, "1");
    assert_eq!(call("count").await.unwrap().payload, "2");
    assert_eq!(compared(&edge, 3).await.matched, 3);
    // What the other module would do is done once, for the version that works.
    edge.feed("m", "call /other count 0 7").await;
    let bodies = edge.bodies(4).await;
    assert!(bodies.contains(&"200 1".to_owned()), "{bodies:?}");
    assert_eq!(bodies.iter().filter(|body| *body == "invoked count").count(), 3, "{bodies:?}");
    let report = compared(&edge, 4).await;
    assert_eq!(report.differed, 1);
    assert!(report.differences[0].contains("a shadow calls nobody"), "{report:#?}");
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_tried_says_why_and_the_module_goes_on() {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    edge.until_running("m").await;
    edge.put("m.next.wasm", "a text");
    let status = edge.until("m.next", |status| status.status == RuntimeStatus::Failed).await;
    assert!(status.description.contains("text"), "{status:#?}");
    edge.put("m.next.wasm", fs::read(guest("cli_ticks")).unwrap());
    let status = edge.until("m.next", |status| status.description.contains("handles messages")).await;
    assert_eq!(status.status, RuntimeStatus::Failed, "{status:#?}");
    // One that waits for its module runs when that comes.
    edge.put("later.next.wasm", marked("outbox_echo", "two"));
    let status = edge.until("later.next", |status| status.description.contains("shadow of later")).await;
    assert_eq!(status.status, RuntimeStatus::Unknown);
    edge.install("later", "outbox_echo", "");
    edge.until("later.next", |status| status.status == RuntimeStatus::Shadow).await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    edge.stop().await;
}

/// A registry that has another echo under every name.
#[derive(Debug)]
struct Registry;

impl Source for Registry {
    fn fetch(&self, reference: &str) -> Result<Vec<u8>, String> {
        Ok(marked("outbox_echo", reference))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_registry_has_is_tried_and_takes_over_when_the_settings_name_it() {
    let config = |config: &mut holdfast_engine::EngineConfig| config.source = Some(Arc::new(Registry));
    let mut edge = Plan::new(&["m"]).config(config).with("m", "outbox_echo", "").start().await;
    edge.until_running("m").await;
    edge.put("m.toml", "[shadow]\noci = \"r.example/m:2\"\n");
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    compared(&edge, 1).await;
    let refused = edge.engine.promote("m").await.unwrap_err().to_string();
    assert!(refused.contains("[source] oci of m.toml"), "{refused}");
    let digest = edge.status("m.next").unwrap().digest;
    fs::remove_file(edge.plugins().join("m.wasm")).unwrap();
    edge.put("m.toml", "[source]\noci = \"r.example/m:2\"\n");
    edge.until_gone("m.next").await;
    edge.until("m", |status| status.digest == digest).await;
    // A file beside what a registry has would hide what the settings name from then on.
    edge.put("m.next.wasm", marked("outbox_echo", "three"));
    edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
    let refused = edge.engine.promote("m").await.unwrap_err().to_string();
    assert!(refused.contains("m comes from a registry"), "{refused}");
    assert!(edge.plugins().join("m.next.wasm").exists());
    edge.engine.drop_next("m").await.unwrap();
    edge.until_gone("m.next").await;
    edge.stop().await;
}
