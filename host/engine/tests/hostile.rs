//! Modules that do their worst, one kind after the other, beside one that answers: how long its answers take.
//!
//! The bound that is stated: half of a neighbour's answers come within five ticks of 10 ms, 99 of 100 within a second,
//! while more hostile modules than processors run, on a machine that has other work besides. A tick is how long a module
//! that computes keeps its thread.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::RuntimeStatus;
use holdfast_types::{Durability, Message};
use std::time::{Duration, Instant};
use support::hostile::{ALL, beside};
use support::{Plan, feeder, name};

const MEDIAN: Duration = Duration::from_millis(50);
const WORST_OF_HUNDRED: Duration = Duration::from_secs(1);
const ANSWERS: usize = 300;

/// The neighbour of such modules answers in time, on a machine that may be busy; `cargo bench --bench neighbours` has the
/// figures of one that is not.
async fn neighbour_of(what: &str) {
    let (_, hostile) = ALL.iter().find(|(name, _)| *name == what).unwrap();
    let answers = beside(Some(hostile), ANSWERS).await;
    let (median, worst) = (answers.per_mille(500), answers.per_mille(990));
    println!("{what:<32} median {median:>10.1?}  99 of 100 {worst:>10.1?}");
    assert!(median <= MEDIAN, "{what}: median {median:?}");
    assert!(worst <= WORST_OF_HUNDRED, "{what}: {worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loops() {
    neighbour_of("loops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_that_have_half_a_processor() {
    neighbour_of("loops that have half a processor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_messages() {
    neighbour_of("floods of messages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_bytes() {
    neighbour_of("floods of bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_log_lines() {
    neighbour_of("floods of log lines").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_memory() {
    neighbour_of("growing memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion() {
    neighbour_of("recursion").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps() {
    neighbour_of("traps").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeps() {
    neighbour_of("sleeps").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_is_made_of_is_bounded_and_the_setting_is_named() {
    for (settings, limit) in [
        ("instances = 1", "limits.instances"),
        ("tables = 0", "limits.tables"),
        ("table_elements = 1", "limits.table_elements"),
        ("memories = 0", "limits.memories"),
        ("memory_bytes = 65536", "limits.memory_bytes"),
    ] {
        let settings = format!("restart = \"never\"\n[limits]\n{settings}\n");
        let edge = Plan::new(&["m"]).with("m", "outbox_echo", &settings).start().await;
        let status = edge.until("m", |status| status.status == RuntimeStatus::Failed).await;
        assert!(status.description.contains(limit), "{limit}: {}", status.description);
        edge.stop().await;
    }
}

/// Two modules that send each other all they get, over routes that block: nobody reads for either while both wait.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_feed_each_other_never_stand_still() {
    let route = |from: &str, to: &str| {
        format!(
            "FROM /messages/modules/{from}/outputs/out INTO BrokeredEndpoint(\"/modules/{to}/inputs/in\")"
        )
    };
    let edge = Plan::new(&["a", "b"])
        .route("ab", &route("a", "b"), Durability::Durable)
        .route("ba", &route("b", "a"), Durability::Durable)
        .volatile_feed()
        .with("a", "outbox_echo", "")
        .with("b", "outbox_echo", "")
        .start()
        .await;
    edge.until_running("a").await;
    edge.until_running("b").await;
    let feed = |module: &'static str| {
        let broker = edge.broker.clone();
        tokio::spawn(async move {
            for _ in 0..10_000 {
                broker.publish(feeder(module), Message::new("x")).await.unwrap();
            }
        })
    };
    let (a, b) = (feed("a"), feed("b"));
    a.await.unwrap();
    b.await.unwrap();
    let lengths = |module: &str| edge.broker.lane_lengths(&holdfast_types::LogId::module(&name(module)));
    let began = Instant::now();
    while lengths("a") != (0, 0) || lengths("b") != (0, 0) {
        assert!(
            began.elapsed() < support::PATIENCE,
            "they stand still: {:?} {:?}",
            lengths("a"),
            lengths("b")
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{} dropped", edge.broker.counters().dropped_volatile);
    edge.stop().await;
}
