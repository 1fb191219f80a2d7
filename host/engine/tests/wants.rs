//! What a module declares is held against what it does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::with_wishes;
use std::fs;
use support::Plan;
use support::guests::guest;

const LINE: &str = "add to the module's .toml: outputs = [\"out\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_send_by_an_output_that_is_not_declared_is_refused_with_the_line_to_add() {
    let mut edge =
        Plan::new(&["m"]).with("m", "outbox_all", "outputs = [\"alarms\", \"x-*\"]\n").start().await;
    for body in ["one", "two"] {
        edge.feed("m", body).await;
    }
    let letters = edge.dead_letters("m", 2).await;
    for letter in &letters {
        let reason = &letter.death.reason;
        assert!(
            reason.contains("is not declared, but alarms, x-*; ") && reason.contains("outputs = ["),
            "{reason}"
        );
    }
    let status = edge.status("m").unwrap();
    assert_eq!((status.refusals["outputs"], status.restarts), (2, 0), "{status:#?}");
    let log = edge.log("m");
    let told: Vec<_> = log.iter().filter(|line| line.contains(LINE)).collect();
    assert_eq!(told.len(), 1, "once in an episode: {log:?}");
    assert!(edge.nothing_more());

    // The line, as it was told, is what helps.
    let folder = edge.stop().await;
    let mut edge =
        Plan::new(&["m"]).in_folder(&folder).with("m", "outbox_all", "outputs = [\"out\"]\n").start().await;
    edge.feed("m", "three").await;
    assert_eq!(edge.received().await.1, "three");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_declares_counts_with_what_its_settings_do() {
    let declares = |settings| with_wishes(fs::read(guest("outbox_all")).unwrap(), settings).unwrap();
    let plan = Plan::new(&["narrow", "wide"]);
    let files = plan.plugins();
    for module in ["narrow", "wide"] {
        fs::write(files.join(format!("{module}.wasm")), declares("outputs = [\"alarms\"]\n")).unwrap();
    }
    fs::write(files.join("wide.toml"), "outputs = [\"out\"]\n").unwrap();
    let mut edge = plan.start().await;
    edge.feed("narrow", "one").await;
    edge.dead_letters("narrow", 1).await;
    edge.feed("wide", "two").await;
    assert_eq!(edge.received().await, ("wide".to_owned(), "two".to_owned()));

    // A new version that declares nothing sends as it likes.
    edge.put("narrow.wasm", fs::read(guest("outbox_all")).unwrap());
    let old = support::name("narrow");
    edge.until("narrow", |status| status.last_swap.is_some()).await;
    edge.feed(&old, "three").await;
    assert_eq!(edge.received().await, ("narrow".to_owned(), "three".to_owned()));
    edge.stop().await;
}
