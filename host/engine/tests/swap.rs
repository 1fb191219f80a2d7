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
use support::guests::marked;
use support::{Plan, feeder};
use tokio::sync::Semaphore;

const MESSAGES: usize = 20_000;

/// Feeds messages as fast as they are taken while the module is replaced ten times; each answer must be the next.
async fn swapped_under_load(guest: &str, volatile: bool, answer: fn(usize) -> String) {
    let plan = Plan::new(&["m"]).with("m", guest, "");
    let mut edge = if volatile { plan.volatile_feed() } else { plan }.start().await;
    edge.until_running("m").await;
    let broker = edge.broker.clone();
    let feeding = tokio::spawn(async move {
        // In order, yet many under way at a time.
        let under_way = Arc::new(Semaphore::new(200));
        for n in 1..=MESSAGES {
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
        let digest = || digests.list()[0].digest.clone();
        for mark in 0..10 {
            let before = digest();
            // As a deployment does it: written beside, then renamed.
            fs::write(plugins.join(".new"), marked(&guest, &mark.to_string())).unwrap();
            fs::rename(plugins.join(".new"), plugins.join("m.wasm")).unwrap();
            while digest() == before {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            seen.insert(digest());
        }
        seen.len()
    });
    for n in 1..=MESSAGES {
        let (_, body) = edge.received().await;
        assert_eq!(body, answer(n), "message {n}");
    }
    feeding.await.unwrap();
    assert_eq!(swapping.await.unwrap(), 10);
    assert!(edge.nothing_more());
    let status = edge.until("m", |status| status.messages_in == MESSAGES as u64).await;
    assert_eq!((status.restarts, status.dead_letters), (0, 0));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_messages_are_all_there_once_and_in_order() {
    swapped_under_load("outbox_echo", false, |n| format!("in:{n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_goes_on_where_the_old_version_left_it() {
    swapped_under_load("keyvalue_counter", false, |n| format!("{n} {n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_a_version_reads_at_its_start_is_that_of_the_last_message_before_it() {
    swapped_under_load("keyvalue_cached", false, |n| format!("{n} {n}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volatile_messages_are_all_there_once_and_in_order() {
    swapped_under_load("outbox_echo", true, |n| format!("in:{n}")).await;
}
