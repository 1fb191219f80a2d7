//! A new version takes over while messages flow: none is lost, doubled or reordered, and state goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_types::Message;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::guests::{guest, marked};
use support::{Plan, feeder};
use tokio::sync::Semaphore;

/// So many messages and swaps are the proof.
const WHOLE: (usize, usize) = (100_000, 100);
/// And so many are enough where only what the module does is another. All of them whole:
/// `HOLDFAST_TEST_SWAP_MESSAGES=100000 HOLDFAST_TEST_SWAPS=100 cargo nextest run -p holdfast-engine --test swap`.
const PART: (usize, usize) = (20_000, 10);

fn sizes(usual: (usize, usize)) -> (usize, usize) {
    let size = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    (size("HOLDFAST_TEST_SWAP_MESSAGES", usual.0), size("HOLDFAST_TEST_SWAPS", usual.1))
}

/// Feeds messages as fast as they are taken while the module is replaced again and again; each answer must be the next.
async fn swapped_under_load(guest: &str, volatile: bool, usual: (usize, usize), answer: fn(usize) -> String) {
    let (messages, swaps) = sizes(usual);
    // A probation that is not passed: each version is replaced while the one before it is still kept.
    let plan = Plan::new(&["m"]).with("m", guest, "").config(|config| {
        config.settle = Duration::from_millis(20);
    });
    let mut edge = if volatile { plan.volatile_feed() } else { plan }.start().await;
    edge.until_running("m").await;
    let broker = edge.broker.clone();
    let swapped = Arc::new(AtomicUsize::new(0));
    let counted = swapped.clone();
    let feeding = tokio::spawn(async move {
        // In order, yet many under way at a time.
        let under_way = Arc::new(Semaphore::new(200));
        for n in 1..=messages {
            // Messages flow at each swap, and none runs ahead of them all.
            while n * swaps / messages > counted.load(Ordering::Relaxed) + 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let permit = under_way.clone().acquire_owned().await.unwrap();
            let message = Message::new(n.to_string().into_bytes());
            broker.publish_then(feeder("m"), message, move |result| {
                result.unwrap();
                drop(permit);
            });
        }
    });
    let (plugins, guest) = (edge.plugins(), guest.to_owned());
    let digests = edge.engine.clone();
    let swapping = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        let mut gaps = Vec::new();
        let digest = || digests.list()[0].digest.clone();
        for mark in 0..swaps {
            let before = digest();
            // As a deployment does it: written beside, then renamed.
            fs::write(plugins.join(".new"), marked(&guest, &mark.to_string())).unwrap();
            fs::rename(plugins.join(".new"), plugins.join("m.wasm")).unwrap();
            while digest() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            swapped.fetch_add(1, Ordering::Relaxed);
            gaps.push(digests.list()[0].swap_us.unwrap());
            seen.insert(digest());
        }
        gaps.sort_unstable();
        println!("without service: median {} us, longest {} us", gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        seen.len()
    });
    for n in 1..=messages {
        let (_, body) = edge.received().await;
        assert_eq!(body, answer(n), "message {n}");
    }
    feeding.await.unwrap();
    assert_eq!(swapping.await.unwrap(), swaps);
    assert!(edge.nothing_more());
    let status = edge.until("m", |status| status.messages_in == messages as u64).await;
    assert_eq!((status.restarts, status.dead_letters), (0, 0));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_messages_are_all_there_once_and_in_order() {
    swapped_under_load("outbox_echo", false, WHOLE, |n| format!("in:{n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_goes_on_where_the_old_version_left_it() {
    swapped_under_load("keyvalue_counter", false, PART, |n| format!("{n} {n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_a_version_reads_at_its_start_is_that_of_the_last_message_before_it() {
    swapped_under_load("keyvalue_cached", false, PART, |n| format!("{n} {n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volatile_messages_are_all_there_once_and_in_order() {
    swapped_under_load("outbox_echo", true, PART, |n| format!("in:{n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_whole_on_one_side_of_a_swap() {
    swapped_under_load("batches_echo", true, PART, |n| format!("in:{n}")).await;
    swapped_under_load("batches_script", false, PART, |n| format!("{n} {n}")).await;
}

/// Puts `bad` in the place of an echo, feeds what it fails at, and expects the echo to answer it.
async fn rolled_back(bad: &str, settings: &str, body: &str, reason: &str) {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    let first = edge.until_running("m").await.digest;
    edge.put("m.toml", settings);
    edge.put("m.wasm", fs::read(guest(bad)).unwrap());
    edge.until("m", |status| status.digest != first).await;
    edge.feed("m", body).await;
    edge.feed("m", "after").await;
    assert_eq!(edge.bodies(2).await, [format!("in:{body}"), "in:after".to_owned()], "{bad}");
    let status = edge.until_running("m").await;
    assert_eq!((&status.digest, status.dead_letters), (&first, 0), "{status:#?}");
    assert!(status.rolled_back.as_ref().is_some_and(|why| why.contains(reason)), "{status:#?}");
    let log = edge.log("m").join("\n");
    assert!(log.contains("failed in its probation, the one before it is back"), "{log}");

    // The same file once more is tried once more; a mended one stays.
    edge.put("m.wasm", fs::read(guest(bad)).unwrap());
    edge.until("m", |status| status.digest != first && status.rolled_back.is_none()).await;
    edge.feed("m", body).await;
    assert_eq!(edge.received().await.1, format!("in:{body}"));
    edge.until("m", |status| status.rolled_back.is_some()).await;
    edge.put("m.wasm", marked("outbox_echo", "mended"));
    edge.until("m", |status| status.digest != first && status.rolled_back.is_none()).await;
    edge.feed("m", "well").await;
    assert_eq!(edge.received().await.1, "in:well");
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_traps_gives_its_message_to_the_one_before() {
    rolled_back("handler_trap", "", "trap", "handle trapped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_never_answers_gives_its_message_to_the_one_before() {
    rolled_back("handler_loop", "[limits]\ncall_ms = 100\n", "loop", "limits.call_ms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_refuses_what_the_one_before_takes_gives_way_to_it() {
    rolled_back("handler_answer", "", "reject never", "never").await;
    rolled_back("handler_answer", "[limits]\nattempts = 2\n", "retry later", "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_has_passed_its_probation_stays() {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    let first = edge.until_running("m").await.digest;
    edge.put("m.toml", "[probation]\nseconds = 0\ncalls = 3\n[limits]\nattempts = 1\n");
    edge.put("m.wasm", fs::read(guest("handler_trap")).unwrap());
    edge.until("m", |status| status.digest != first).await;
    for n in 0..3 {
        edge.feed("m", &n.to_string()).await;
        assert_eq!(edge.received().await.1, n.to_string());
    }
    edge.feed("m", "trap").await;
    edge.dead_letters("m", 1).await;
    let status = edge.until_running("m").await;
    assert!(status.digest != first && status.rolled_back.is_none(), "{status:#?}");
    edge.stop().await;
}
