//! A module that misbehaves is stopped alone: its message becomes a dead letter, its neighbour notices nothing.

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
use std::time::{Duration, Instant};
use support::{Edge, Plan};

/// Feeds a bad message between good ones. The good ones come out, in order; the bad one becomes a dead letter with the
/// reason; the instance is replaced as often as the message was tried.
async fn one_bad_message(guest: &str, settings: &str, bad: &str, reasons: &[&str]) -> Edge {
    let settings = format!("[limits]\nattempts = 2\n{settings}");
    let mut edge = Plan::new(&["bad", "good"])
        .with("bad", guest, &settings)
        .with("good", "outbox_echo", "")
        .start()
        .await;
    for body in ["one", bad, "two"] {
        edge.feed("bad", body).await;
    }
    // The neighbour answers all the while.
    let mut slowest = Duration::ZERO;
    let mut from_bad = Vec::new();
    for n in 0..100 {
        let sent = Instant::now();
        edge.feed("good", &n.to_string()).await;
        loop {
            let (module, body) = edge.received().await;
            if module == "good" {
                assert_eq!(body, format!("in:{n}"));
                break;
            }
            from_bad.push(body);
        }
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "the neighbour took {slowest:?}");
    while from_bad.len() < 2 {
        from_bad.push(edge.received().await.1);
    }
    assert_eq!(from_bad, ["one", "two"]);
    let dead = edge.dead_letters("bad", 1).await;
    assert_eq!(dead[0].death.attempts, 2);
    for reason in reasons {
        assert!(dead[0].death.reason.contains(reason), "{reason:?} is not in {:?}", dead[0].death.reason);
    }
    let status = edge.until("bad", |status| status.messages_in == 2).await;
    assert_eq!((status.restarts, status.dead_letters), (2, 1), "{status:#?}");
    assert_eq!(status.status, RuntimeStatus::Running);
    assert_eq!(edge.status("good").unwrap().restarts, 0);
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_told_with_the_modules_last_words() {
    let reasons = ["handle trapped", "this is what was asked for"];
    one_bad_message("handler_trap", "", "trap", &reasons).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_ended_at_its_deadline() {
    let reasons = ["handle took longer than 100 ms", "limits.call_ms"];
    one_bad_message("handler_loop", "call_ms = 100\n", "loop", &reasons).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_is_ended_at_the_deadline_too() {
    let reasons = ["handle took longer than 100 ms"];
    one_bad_message("handler_sleep", "call_ms = 100\n", "sleep", &reasons).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_recursion_ends_at_the_stack() {
    let reasons = ["handle trapped", "stack", "modules.stack"];
    one_bad_message("handler_stack", "", "deep", &reasons).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_is_as_large_as_the_host_says() {
    for (kib, fits) in [(64, false), (1024, true)] {
        let mut edge = Plan::new(&["m"])
            .with("m", "handler_stack", "[limits]\nattempts = 1\n")
            .config(move |config| config.stack_bytes = kib * 1024)
            .start()
            .await;
        edge.feed("m", "depth 4000").await;
        if fits {
            assert_eq!(edge.received().await.1, "depth 4000");
        } else {
            let dead = edge.dead_letters("m", 1).await;
            assert!(dead[0].death.reason.contains("modules.stack"), "{}", dead[0].death.reason);
        }
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_its_bound() {
    let reasons = ["bytes of memory, 8388608 are allowed", "limits.memory_bytes"];
    let edge = one_bad_message("handler_memory", "memory_bytes = 8_388_608\n", "grow", &reasons).await;
    let status = edge.status("bad").unwrap();
    assert!(status.memory_bytes < 8 << 20, "{status:#?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_at_its_bound_in_messages_and_in_bytes_and_nothing_of_it_is_sent() {
    let settings = "[limits]\nsends = 100\nsend_bytes = 1_000_000\n";
    let mut edge = Plan::new(&["flood"]).with("flood", "outbox_flood", settings).start().await;
    for bytes in ["1", "100000"] {
        edge.feed("flood", bytes).await;
    }
    let dead = edge.dead_letters("flood", 2).await;
    assert!(dead[0].death.reason.contains("100 messages") && dead[0].death.reason.contains("limits.sends"));
    assert!(dead[1].death.reason.contains("limits.send_bytes"), "{}", dead[1].death.reason);
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_traps_on_every_message_is_given_up_and_its_messages_wait() {
    let mut edge = Plan::new(&["bad"])
        .with("bad", "handler_trap", "[limits]\nattempts = 1\n")
        .config(|config| config.backoff.restarts_max = 3)
        .start()
        .await;
    for _ in 0..20 {
        edge.feed("bad", "trap").await;
    }
    let status = edge.until("bad", |status| status.status == RuntimeStatus::Failed).await;
    assert!(status.description.contains("restarted 3 times"), "{}", status.description);
    // The first dead letter was the message's own fault; the next four cost three restarts and the last of them.
    let given_up = edge.dead_letters("bad", 5).await.len();
    assert_eq!(given_up, 5);
    edge.engine.restart("bad").await.unwrap();
    edge.dead_letters("bad", 6).await;
    edge.until("bad", |status| status.status == RuntimeStatus::Failed).await;
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_never_means_that_a_trap_is_the_end_until_an_operator_says_otherwise() {
    let mut edge = Plan::new(&["bad"])
        .with("bad", "handler_trap", "restart = \"never\"\n[limits]\nattempts = 2\n")
        .start()
        .await;
    for body in ["trap", "after"] {
        edge.feed("bad", body).await;
    }
    let status = edge.until("bad", |status| status.status == RuntimeStatus::Failed).await;
    assert!(status.description.contains("restart policy is \"never\""), "{}", status.description);
    assert!(edge.nothing_more());
    // The message is tried once more and given up; then the next is handled.
    edge.engine.start("bad").await.unwrap();
    assert_eq!(edge.received().await.1, "after");
    assert_eq!(edge.dead_letters("bad", 1).await[0].death.attempts, 2);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_loops_at_a_time_delay_a_neighbour_by_ticks_not_by_their_deadline() {
    let loops: Vec<String> = (0..8).map(|n| format!("loop{n}")).collect();
    let mut names: Vec<&str> = loops.iter().map(String::as_str).collect();
    names.push("good");
    let mut plan = Plan::new(&names).volatile_feed().with("good", "outbox_echo", "");
    for name in &loops {
        plan = plan.with(name, "handler_loop", "[limits]\ncall_ms = 20_000\n");
    }
    let mut edge = plan.start().await;
    for name in &names {
        edge.until_running(name).await;
    }
    for name in &loops {
        edge.feed(name, "loop").await;
    }
    let began = Instant::now();
    for n in 0..20 {
        edge.feed("good", &n.to_string()).await;
        assert_eq!(edge.received().await.1, format!("in:{n}"));
    }
    assert!(began.elapsed() < Duration::from_secs(19), "twenty messages took {:?}", began.elapsed());
    // They loop still: the host is not asked to wait for them.
    drop(edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_too_many_is_refused_and_the_setting_is_named() {
    let settings = "restart = \"never\"\n[config]\nbeat_ms = 20\nonce_ms = 50\n[limits]\ntimers = 1\n";
    let edge = Plan::new(&[]).with("m", "timers_beat", settings).start().await;
    let status = edge.until("m", |status| status.status == RuntimeStatus::Failed).await;
    assert_eq!(status.refusals["limits.timers"], 1, "{status:#?}");
    assert!(edge.log("m").iter().any(|line| line.contains("raise limits.timers")), "{:?}", edge.log("m"));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_over_their_bytes_are_dropped_and_counted() {
    let settings = "[limits]\nlog_lines_per_s = 100_000\nlog_bytes_per_s = 1_000\n";
    let edge = Plan::new(&["m"]).with("m", "logging_lines", settings).start().await;
    edge.feed("m", "10000").await;
    let status = edge.until("m", |status| status.messages_in == 1).await;
    let dropped = status.refusals["limits.log_bytes_per_s"];
    // Lines of five bytes: those of one second, and of the time that the call took.
    assert!((1..9_900).contains(&dropped), "{status:#?}");
    let log = edge.log("m");
    assert!(log.iter().any(|line| line.contains("limits.log_bytes_per_s = 1000")), "{log:?}");
    assert!(log.len() < 10_000 - usize::try_from(dropped).unwrap() + 20, "{}", log.len());
    edge.stop().await;
}
