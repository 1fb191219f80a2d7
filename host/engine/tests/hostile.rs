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

use holdfast_broker::SubscriptionOptions;
use holdfast_engine::RuntimeStatus;
use holdfast_types::{Durability, Message, QoS, TopicFilter, WhenFull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Plan, feeder, name};

const MEDIAN: Duration = Duration::from_millis(50);
const WORST_OF_HUNDRED: Duration = Duration::from_secs(1);
const ANSWERS: usize = 300;
const HOSTILE: usize = 6;

/// Runs six of a guest, each fed with `body` again and again, beside an echo whose answers are measured. `limit` must
/// have been met, unless the guest meets none.
async fn beside(guest: &str, settings: &str, body: &str, limit: Option<&str>) {
    let hostile: Vec<String> = (0..HOSTILE).map(|n| format!("hostile{n}")).collect();
    let mut names: Vec<&str> = hostile.iter().map(String::as_str).collect();
    names.push("good");
    let mut plan = Plan::new(&names)
        .volatile_feed()
        // What is too much for a hostile module is dropped, so that feeding them never waits.
        .routes(|route| {
            if route.name.contains("hostile") {
                route.when_full = WhenFull::DropNewest;
            }
        })
        .config(|config| config.backoff.restarts_max = 1_000_000)
        .with("good", "outbox_echo", "")
        .route(
            "answers",
            "FROM /messages/modules/good/outputs/out INTO Topic(\"answers\")",
            Durability::Volatile,
        );
    for name in &hostile {
        plan = plan.with(name, guest, settings);
    }
    let edge = plan.start().await;
    for name in &names {
        edge.until_running(name).await;
    }
    let mut answers = edge.broker.subscribe(name("test"), 1_000);
    answers.add(&TopicFilter::new("answers").unwrap().into(), SubscriptionOptions::new(QoS::AtLeastOnce));

    let done = Arc::new(AtomicBool::new(false));
    let (until, broker, fed, body) = (done.clone(), edge.broker.clone(), hostile.clone(), body.to_owned());
    let feeding = tokio::spawn(async move {
        while !until.load(Ordering::Relaxed) {
            for name in &fed {
                broker.publish(feeder(name), Message::new(body.clone())).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut times = Vec::new();
    for n in 0..ANSWERS {
        let sent = Instant::now();
        edge.broker.publish(feeder("good"), Message::new(n.to_string())).await.unwrap();
        answers.next().await.unwrap();
        times.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    if let Some(limit) = limit {
        edge.until(&hostile[0], |status| status.refusals.contains_key(limit)).await;
    }
    done.store(true, Ordering::Relaxed);
    feeding.await.unwrap();
    times.sort();
    let (median, worst) = (times[ANSWERS / 2], times[ANSWERS * 99 / 100]);
    println!(
        "{guest:<16} median {median:>10.1?}  99 of 100 {worst:>10.1?}  most {:>10.1?}",
        times[ANSWERS - 1]
    );
    assert!(median <= MEDIAN, "{guest}: median {median:?}");
    assert!(worst <= WORST_OF_HUNDRED, "{guest}: {worst:?}");
    let good = edge.status("good").unwrap();
    assert_eq!((good.status, good.restarts, good.dead_letters), (RuntimeStatus::Running, 0, 0), "{good:#?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loops() {
    beside("handler_loop", "[limits]\ncall_ms = 1_000\n", "loop", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_that_have_half_a_processor() {
    let settings = "[limits]\ncall_ms = 1_000\ncpu_percent = 50\n";
    beside("handler_loop", settings, "loop", Some("limits.cpu_percent")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_messages() {
    beside("outbox_flood", "", "100", Some("limits.sends")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_bytes() {
    beside("outbox_flood", "", "1000000", Some("limits.send_bytes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_log_lines() {
    beside("logging_lines", "", "10000", Some("limits.log_lines_per_s")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_memory() {
    let settings = "[limits]\nmemory_bytes = 33_554_432\n";
    beside("handler_memory", settings, "grow", Some("limits.memory_bytes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion() {
    beside("handler_stack", "", "deep", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps() {
    beside("handler_trap", "", "trap", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeps() {
    beside("handler_sleep", "[limits]\ncall_ms = 200\n", "sleep", None).await;
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
