//! Modules that take several messages at once: what comes of a batch is what comes of its messages one by one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::{BUCKETS, Histogram, Measured, ModuleStatus, RuntimeStatus};
use holdfast_types::{Durability, HOPS_MAX, Message};
use std::fs;
use support::guests::{guest, marked};
use support::{Edge, Plan, feeder};

/// How many batches there were, and how many messages in all of them, those that failed included.
fn batches(status: &ModuleStatus) -> (u64, u64) {
    match status.metrics.get("batch_messages") {
        Some(Measured::Histogram(all)) => (all.count, all.sum as u64),
        _ => (0, 0),
    }
}

fn alone(status: &ModuleStatus) -> u64 {
    match status.metrics.get("alone_total") {
        Some(Measured::Counter(count)) => *count,
        _ => 0,
    }
}

/// An edge whose module `m` finds these messages waiting when it starts.
async fn waiting(plan: Plan, settings: &str, bodies: &[&str]) -> Edge {
    let edge = plan.start().await;
    for body in bodies {
        edge.feed("m", body).await;
    }
    edge.install("m", "batches_script", settings);
    edge
}

/// What the module sends when it handles these messages, each once.
fn counted(bodies: &[&str]) -> Vec<String> {
    bodies.iter().enumerate().map(|(n, body)| format!("{} {body}", n + 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_comes_at_once_and_what_comes_alone_comes_alone() {
    let bodies = ["a", "b", "c", "d"];
    let mut edge = waiting(Plan::new(&["m"]), "", &bodies).await;
    assert_eq!(edge.bodies(4).await, counted(&bodies));
    let status = edge.until("m", |status| status.messages_in == 4).await;
    assert_eq!((batches(&status), alone(&status), status.messages_out), ((1, 4), 0, 4));
    edge.feed("m", "e").await;
    assert_eq!(edge.received().await.1, "5 e");
    let status = edge.until("m", |status| status.messages_in == 5).await;
    assert_eq!((batches(&status), alone(&status)), ((1, 4), 1));
    edge.stop().await;
}

/// The messages come in one batch, which fails at `bad`. All others are handled once and in order; `bad` alone becomes a
/// dead letter, after its attempts.
async fn one_bad_message(bad: &str, settings: &str, attempts: u32, restarts: u32, reason: &str) {
    let settings = format!("[limits]\nattempts = 2\n{settings}");
    let mut edge = waiting(Plan::new(&["m"]), &settings, &["a", "b", bad, "c", "d"]).await;
    assert_eq!(edge.bodies(4).await, counted(&["a", "b", "c", "d"]), "{bad}");
    let dead = edge.dead_letters("m", 1).await;
    assert_eq!(dead[0].death.attempts, attempts, "{bad}");
    assert!(dead[0].death.reason.contains(reason), "{}", dead[0].death.reason);
    let status = edge.until("m", |status| status.messages_in == 4).await;
    assert_eq!((status.dead_letters, status.restarts), (1, restarts), "{status:#?}");
    assert_eq!((batches(&status), alone(&status)), ((1, 5), 4 + u64::from(attempts)), "{bad}");
    let log = edge.log("m").join("\n");
    assert!(log.contains("a batch failed, its 5 messages are handled one by one"), "{log}");
    // What comes later comes in batches again.
    edge.engine.stop("m").await.unwrap();
    edge.feed("m", "e").await;
    edge.feed("m", "f").await;
    edge.engine.start("m").await.unwrap();
    assert_eq!(edge.bodies(2).await, ["5 e", "6 f"]);
    let status = edge.until("m", |status| status.messages_in == 6).await;
    assert_eq!(batches(&status), (2, 7));
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_message_that_is_refused_leaves_nothing_and_only_that_one_is_given_up() {
    one_bad_message("reject never", "", 1, 0, "never").await;
    one_bad_message("retry later", "", 2, 0, "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_the_middle_of_a_batch_costs_the_instance_and_one_message() {
    one_bad_message("trap", "", 2, 3, "as told").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_the_time_of_its_messages_and_no_more() {
    one_bad_message("loop", "call_ms = 50\n", 2, 3, "handle took longer than 50 ms").await;
    let edge =
        waiting(Plan::new(&["m"]), "[limits]\nattempts = 1\ncall_ms = 50\n", &["a", "loop", "b"]).await;
    edge.dead_letters("m", 1).await;
    let log = edge.log("m").join("\n");
    assert!(log.contains("handle-batch took longer than 150 ms"), "{log}");
    edge.stop().await;
    // No longer than a second, however many they are.
    let settings = "[limits]\nattempts = 1\ncall_ms = 600\n";
    let edge = waiting(Plan::new(&["m"]), settings, &["a", "loop", "b"]).await;
    edge.dead_letters("m", 1).await;
    let log = edge.log("m").join("\n");
    assert!(log.contains("handle-batch took longer than 1000 ms"), "{log}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volatile_messages_of_a_batch_that_failed_are_handled_one_by_one_too() {
    let mut edge = Plan::new(&["m"]).volatile_feed().with("m", "batches_script", "").start().await;
    edge.until_running("m").await;
    edge.engine.stop("m").await.unwrap();
    for body in ["a", "reject never", "b", "c"] {
        edge.feed("m", body).await;
    }
    edge.engine.start("m").await.unwrap();
    assert_eq!(edge.bodies(3).await, counted(&["a", "b", "c"]));
    let status = edge.until("m", |status| status.dead_letters == 1).await;
    assert_eq!((batches(&status), alone(&status)), ((1, 4), 4));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_in_messages_and_in_bytes() {
    // 300 small ones, and then large ones: two of them fit into a batch, and the largest comes alone.
    let small: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let large = "x".repeat(100 * 1024);
    let largest = "y".repeat(300 * 1024);
    let mut bodies: Vec<&str> = small.iter().map(String::as_str).collect();
    bodies.extend([large.as_str(); 5]);
    bodies.extend([largest.as_str(), "z"]);
    let mut edge = waiting(Plan::new(&["m"]), "", &bodies).await;
    let shown: Vec<String> =
        bodies.iter().enumerate().map(|(n, body)| format!("{} {:.20}", n + 1, body)).collect();
    assert_eq!(edge.bodies(bodies.len()).await, shown);
    let status = edge.until("m", |status| status.messages_in == bodies.len() as u64).await;
    let Measured::Histogram(messages) = &status.metrics["batch_messages"] else { panic!("{status:?}") };
    let Measured::Histogram(kib) = &status.metrics["batch_kib"] else { panic!("{status:?}") };
    let above = |histogram: &Histogram, bound: f64| {
        let bucket = BUCKETS.iter().position(|upper| *upper == bound).unwrap();
        histogram.count - histogram.at_most[bucket]
    };
    assert!(above(messages, 100.0) == 0 && messages.sum / (messages.count as f64) <= 64.0, "{messages:?}");
    assert!(above(kib, 250.0) == 0 && above(kib, 100.0) > 0, "{kib:?}");
    assert!(alone(&status) >= 1, "the largest comes alone");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_batch_have_the_same_number_of_hops() {
    // What has passed as many modules as may is given up alone: those beside it are not counted as if they had.
    let back = "FROM /messages/modules/m/outputs/again INTO BrokeredEndpoint(\"/modules/m/inputs/in\")";
    let plan = Plan::new(&["m"]).route("again", back, Durability::Durable).route(
        "out",
        "FROM /messages/modules/m/outputs/out INTO $upstream",
        Durability::Durable,
    );
    let circles = usize::from(HOPS_MAX) + 1;
    let order = format!("{}end", "again ".repeat(circles));
    let mut edge = waiting(plan, "", &[&order, &order, "a", "b"]).await;
    let mut hops = Vec::new();
    // Each of the two orders is sent once for each hop that it may have.
    for _ in 0..2 * usize::from(HOPS_MAX) + 2 {
        let envelope = edge.next_envelope().await;
        let is_order = String::from_utf8_lossy(&envelope.message.body).contains("again");
        hops.push((is_order, envelope.hops));
    }
    assert!(hops.iter().filter(|(is_order, _)| !is_order).all(|(_, hops)| *hops == 1), "{hops:?}");
    let mut of_orders: Vec<u8> =
        hops.iter().filter(|(is_order, _)| *is_order).map(|(_, hops)| *hops).collect();
    of_orders.sort_unstable();
    let expected: Vec<u8> = (1..=HOPS_MAX).flat_map(|hops| [hops; 2]).collect();
    assert_eq!(of_orders, expected);
    assert!(batches(&edge.status("m").unwrap()).0 > 0);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bounds_a_call_bounds_each_message_of_a_batch() {
    // Together they send more than one may, and less than all of them may.
    let more = "FROM /messages/modules/m/outputs/more INTO $upstream";
    let plan = || Plan::new(&["m"]).route("more", more, Durability::Durable);
    let settings = "[limits]\nsends = 5\n";
    let bodies = ["send 3", "send 4", "send 3"];
    let mut edge = waiting(plan(), settings, &bodies).await;
    let sent = edge.bodies(10).await;
    assert_eq!(sent[..4], ["3 0", "3 1", "3 2", "4 0"], "{sent:?}");
    let status = edge.until("m", |status| status.messages_in == 3).await;
    assert_eq!((batches(&status), alone(&status), status.dead_letters), ((1, 3), 0, 0), "{status:#?}");
    edge.stop().await;

    // Bytes are not multiplied: together they send too many, and each of them does not.
    let settings = "[limits]\nsend_bytes = 20\n";
    let mut edge = waiting(plan(), settings, &bodies).await;
    assert_eq!(edge.bodies(10).await.len(), 10);
    let status = edge.until("m", |status| status.messages_in == 3).await;
    assert_eq!((batches(&status), alone(&status), status.dead_letters), ((1, 3), 3, 0), "{status:#?}");
    assert!(!status.refusals.contains_key("limits.send_bytes"), "{status:#?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_whose_batch_traps_gives_its_messages_to_the_one_before() {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    let first = edge.until_running("m").await.digest;
    edge.put("m.wasm", fs::read(guest("batches_script")).unwrap());
    edge.until("m", |status| status.digest != first).await;
    // All at once, so that they wait together.
    for body in ["trap", "a", "b", "c"] {
        edge.broker.publish_then(feeder("m"), Message::new(body.as_bytes()), |taken| {
            taken.unwrap();
        });
    }
    let bodies = edge.bodies(4).await;
    assert_eq!(bodies, ["in:trap", "in:a", "in:b", "in:c"]);
    let status = edge.until("m", |status| status.rolled_back.is_some()).await;
    assert_eq!((&status.digest, status.dead_letters), (&first, 0));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_message_for_message_whether_it_takes_batches_or_not() {
    for (working, next) in [("batches_echo", "batches_echo"), ("batches_echo", "outbox_echo")] {
        let mut edge = Plan::new(&["m"]).volatile_feed().with("m", working, "").start().await;
        edge.until_running("m").await;
        edge.put("m.next.wasm", marked(next, "next"));
        edge.until("m.next", |status| status.status == RuntimeStatus::Shadow).await;
        for n in 0..100 {
            edge.broker.publish_then(feeder("m"), Message::new(n.to_string().into_bytes()), |taken| {
                taken.unwrap();
            });
        }
        assert_eq!(edge.bodies(100).await, (0..100).map(|n| format!("in:{n}")).collect::<Vec<_>>());
        let status = edge.until("m.next", |status| status.messages_in == 100).await;
        let report = status.shadow.unwrap();
        assert_eq!((report.differed, report.skipped), (0, 0), "{report:?}");
        assert!((1..=100).contains(&report.matched), "a batch is compared as one call: {report:?}");
        edge.stop().await;
    }
}
