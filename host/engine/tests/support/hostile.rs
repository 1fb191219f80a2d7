//! Hostile modules beside a good one whose answers are timed.

use super::{Edge, Plan, feeder, name};
use holdfast_broker::SubscriptionOptions;
use holdfast_engine::RuntimeStatus;
use holdfast_types::{Durability, Message, QoS, TopicFilter, WhenFull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many hostile modules there are.
pub const HOSTILE: usize = 6;

/// A guest that behaves badly when it is fed.
#[derive(Clone, Copy)]
pub struct Hostile {
    pub guest: &'static str,
    pub settings: &'static str,
    pub body: &'static str,
    /// The limit that it meets, if it is one that is counted.
    pub limit: Option<&'static str>,
}

const fn hostile(
    guest: &'static str,
    settings: &'static str,
    body: &'static str,
    limit: Option<&'static str>,
) -> Hostile {
    Hostile { guest, settings, body, limit }
}

/// What they do, by name.
pub const ALL: &[(&str, Hostile)] = &[
    ("loops", hostile("handler_loop", "[limits]\ncall_ms = 1_000\n", "loop", None)),
    (
        "loops that have half a processor",
        hostile(
            "handler_loop",
            "[limits]\ncall_ms = 1_000\ncpu_percent = 50\n",
            "loop",
            Some("limits.cpu_percent"),
        ),
    ),
    ("floods of messages", hostile("outbox_flood", "", "100", Some("limits.sends"))),
    ("floods of bytes", hostile("outbox_flood", "", "1000000", Some("limits.send_bytes"))),
    ("floods of log lines", hostile("logging_lines", "", "10000", Some("limits.log_lines_per_s"))),
    (
        "growing memory",
        hostile(
            "handler_memory",
            "[limits]\nmemory_bytes = 33_554_432\n",
            "grow",
            Some("limits.memory_bytes"),
        ),
    ),
    ("recursion", hostile("handler_stack", "", "deep", None)),
    ("traps", hostile("handler_trap", "", "trap", None)),
    ("sleeps", hostile("handler_sleep", "[limits]\ncall_ms = 200\n", "sleep", None)),
];

/// How long the good one took to answer, in order of length.
pub struct Answers(pub Vec<Duration>);

impl Answers {
    pub fn per_mille(&self, n: usize) -> Duration {
        self.0[(self.0.len() - 1) * n / 1_000]
    }
}

/// Runs six of a guest, each fed again and again, beside an echo whose answers are timed; without a guest the echo alone.
/// The limit must have been met, if there is one.
pub async fn beside(hostile: Option<&Hostile>, answers: usize) -> Answers {
    let bad: Vec<String> = (0..hostile.map_or(0, |_| HOSTILE)).map(|n| format!("hostile{n}")).collect();
    let mut names: Vec<&str> = bad.iter().map(String::as_str).collect();
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
    for (name, hostile) in bad.iter().zip(hostile.into_iter().cycle()) {
        plan = plan.with(name, hostile.guest, hostile.settings);
    }
    let edge = plan.start().await;
    for name in &names {
        edge.until_running(name).await;
    }
    let mut answered = edge.broker.subscribe(name("test"), 1_000);
    answered.add(&TopicFilter::new("answers").unwrap().into(), SubscriptionOptions::new(QoS::AtLeastOnce));

    let done = Arc::new(AtomicBool::new(false));
    let (until, broker, fed) = (done.clone(), edge.broker.clone(), bad.clone());
    let body = hostile.map_or("", |hostile| hostile.body);
    let feeding = tokio::spawn(async move {
        while !until.load(Ordering::Relaxed) {
            for name in &fed {
                broker.publish(feeder(name), Message::new(body)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut times = Vec::new();
    for n in 0..answers {
        let sent = Instant::now();
        edge.broker.publish(feeder("good"), Message::new(n.to_string())).await.unwrap();
        answered.next().await.unwrap();
        times.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    if let Some(limit) = hostile.and_then(|hostile| hostile.limit) {
        edge.until(&bad[0], |status| status.refusals.contains_key(limit)).await;
    }
    done.store(true, Ordering::Relaxed);
    feeding.await.unwrap();
    untouched(&edge);
    edge.stop().await;
    times.sort();
    Answers(times)
}

fn untouched(edge: &Edge) {
    let good = edge.status("good").unwrap();
    assert_eq!((good.status, good.restarts, good.dead_letters), (RuntimeStatus::Running, 0, 0), "{good:#?}");
}
