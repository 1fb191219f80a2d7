//! What a module did cannot be recorded, now or ever; and who waits for whom when there is no room.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::{CommandError, RuntimeStatus};
use holdfast_types::{Durability, LogId, Message, WhenFull};
use std::fs;
use std::time::{Duration, Instant};
use support::guests::{guest, marked};
use support::{PATIENCE, Plan, feeder, name};

/// Less than the message that is too large, more than all the others.
const UPSTREAM_BYTES: u64 = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_can_never_be_recorded_becomes_a_dead_letter_and_all_others_are_handled_once()
{
    // Their state and messages are those of twenty calls.
    one_that_cannot_be_recorded("keyvalue_counter", |n| format!("{} {n}", n + 1), "21 after").await;
    one_that_cannot_be_recorded("batches_echo", |n| format!("in:{n}"), "in:after").await;
}

async fn one_that_cannot_be_recorded(guest: &str, answer: fn(usize) -> String, last: &str) {
    let up = "FROM /messages/modules/m INTO $upstream";
    let mut edge = Plan::new(&["m"])
        .route("up", up, Durability::Durable)
        .routes(|route| route.when_full = WhenFull::Block)
        .store(|store| {
            store.log_quotas.insert(LogId::upstream(), UPSTREAM_BYTES);
        })
        .start()
        .await;
    // They are all there before the module is, so that the large one shares its turn with others.
    for n in 0..20 {
        edge.feed("m", &n.to_string()).await;
        if n == 7 || n == 13 {
            edge.feed("m", &"x".repeat(2 * UPSTREAM_BYTES as usize)).await;
        }
    }
    edge.install("m", guest, "");
    assert_eq!(edge.bodies(20).await, (0..20).map(answer).collect::<Vec<_>>());
    let dead = edge.dead_letters("m", 2).await;
    for letter in &dead {
        assert!(letter.death.reason.contains("can never fit into log upstream"), "{}", letter.death.reason);
        assert_eq!(letter.death.attempts, 1);
    }
    let status = edge.until("m", |status| status.messages_in == 20).await;
    assert_eq!((status.messages_out, status.dead_letters, status.restarts), (20, 2, 0), "{status:#?}");
    edge.feed("m", "after").await;
    assert_eq!(edge.received().await.1, last);
    assert!(edge.nothing_more());
    assert_eq!(edge.store.dead_letters(&LogId::module(&name("m")), None, 10).unwrap().len(), 2);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_too_large_is_refused_at_once() {
    let settings = "[limits]\nstate_bytes = 8_000_000\n";
    let mut edge = Plan::new(&["m"]).with("m", "keyvalue_script", settings).start().await;
    edge.feed("m", "fill most 1048576\nfill over 1048577\nkeys").await;
    let answer = edge.received().await.1;
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[0], "Ok(())");
    assert!(lines[1].contains("the value has 1048577 bytes, one value may have 1048576"), "{answer}");
    assert_eq!(lines[2], "Ok([\"most\"])");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_take_a_turn_is_asked_again_and_nothing_is_lost_doubled_or_counted_twice() {
    const FILLING: usize = 2_000;
    let filler = "FROM /messages/modules/filler INTO $upstream";
    let own = "FROM /messages/modules/m INTO $upstream";
    let plan = Plan::new(&["m"]).with("m", "keyvalue_counter", "");
    let plan = plan.route("filler", filler, Durability::Durable).route("own", own, Durability::Durable);
    let mut edge = plan
        .routes(|route| route.when_full = WhenFull::Block)
        .store(|store| {
            store.log_quotas.insert(LogId::upstream(), UPSTREAM_BYTES);
        })
        .start()
        .await;
    edge.until_running("m").await;
    // The log is full, and so many wait for room in it that no more may wait.
    let (answer, answers) = std::sync::mpsc::channel();
    let source = holdfast_types::Source::Module { module: name("filler"), output: None };
    for n in 0..FILLING {
        let answer = answer.clone();
        let message = Message::new(format!("{n} {}", "x".repeat(100)).into_bytes());
        edge.broker.publish_then(source.clone(), message, move |result| answer.send(result.is_ok()).unwrap());
    }
    for n in 0..50 {
        edge.feed("m", &n.to_string()).await;
    }
    let status = edge.until("m", |status| status.status == RuntimeStatus::Backoff).await;
    assert!(status.description.contains("the store does not answer"), "{status:#?}");
    assert_eq!((status.messages_in, status.messages_out), (0, 0));
    // There is room again.
    let mut handled = 0;
    while handled < 50 {
        let (module, body) = edge.received().await;
        if module == "m" {
            assert_eq!(body, format!("{} {handled}", handled + 1));
            handled += 1;
        }
    }
    let status = edge.until("m", |status| status.messages_in == 50).await;
    assert_eq!((status.messages_out, status.dead_letters), (50, 0), "{status:#?}");
    assert!(edge.nothing_more());
    let taken = answers.try_iter().filter(|taken| *taken).count();
    assert!(taken < FILLING, "none of {FILLING} was refused");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_became_too_old_behind_a_slow_one_is_not_handled() {
    let plan = Plan::new(&["m"]).routes(|route| route.time_to_live_secs = Some(2));
    let settings = "[limits]\ncall_ms = 2_500\nattempts = 1\n";
    let mut edge = plan.with("m", "handler_sleep", settings).start().await;
    // A busy machine may take longer to compile a module than its messages live.
    edge.until_running("m").await;
    edge.engine.stop("m").await.unwrap();
    edge.until("m", |status| status.status == RuntimeStatus::Stopped).await;
    for body in ["sleep", "late", "later"] {
        edge.feed("m", body).await;
    }
    edge.engine.start("m").await.unwrap();
    let status = edge.until("m", |status| status.expired == 2).await;
    assert_eq!((status.messages_in, status.dead_letters), (0, 1), "{status:#?}");
    edge.feed("m", "fresh").await;
    assert_eq!(edge.received().await.1, "fresh");
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_to_a_stopped_module_by_a_volatile_route_that_blocks_is_not_held() {
    let mut edge = Plan::new(&["m"]).volatile_feed().with("m", "outbox_echo", "").start().await;
    edge.until_running("m").await;
    edge.engine.stop("m").await.unwrap();
    edge.until("m", |status| status.status == RuntimeStatus::Stopped).await;
    let sending = async {
        for n in 0..5_000 {
            edge.feed("m", &n.to_string()).await;
        }
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("the sender is held");
    let dropped = edge.broker.counters().dropped_volatile;
    assert!(dropped > 0);
    edge.engine.start("m").await.unwrap();
    // What fitted into the lane is there, in order.
    for n in 0..5_000 - dropped {
        assert_eq!(edge.received().await.1, format!("in:{n}"));
    }
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_sends_itself_more_than_its_lane_holds_goes_on() {
    let own = "FROM /messages/modules/m/outputs/self INTO BrokeredEndpoint(\"/modules/m/inputs/in\")";
    let up = "FROM /messages/modules/m/outputs/out INTO $upstream";
    let settings = "[limits]\nsends = 10_000\nturns_in_flight = 1\n";
    let mut edge = Plan::new(&["m"])
        .with("m", "outbox_burst", settings)
        .route("own", own, Durability::Volatile)
        .routes(|route| route.when_full = WhenFull::Block)
        .route("up", up, Durability::Durable)
        .start()
        .await;
    edge.feed("m", "6000").await;
    edge.until("m", |status| status.messages_in > 4_000).await;
    let dropped = edge.broker.counters().dropped_volatile;
    assert!(dropped > 0);
    for n in 0..6_000 - dropped {
        assert_eq!(edge.received().await.1, format!("echo {n}"));
    }
    edge.feed("m", "after").await;
    assert_eq!(edge.received().await.1, "after");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_from_one_that_failed_while_it_was_being_started() {
    for (restart, failed) in [("always", RuntimeStatus::Backoff), ("never", RuntimeStatus::Failed)] {
        let settings = format!("restart = \"{restart}\"\n[limits]\nattempts = 1\n");
        let mut edge = Plan::new(&["m"])
            .with("m", "handler_trap", &settings)
            .config(|config| (config.backoff.base, config.backoff.max) = (10 * PATIENCE, 10 * PATIENCE))
            .start()
            .await;
        edge.until_running("m").await;
        // The new version takes its time to start.
        edge.put("m.toml", "[config]\nsleep_ms = 2000\n");
        edge.put("m.wasm", fs::read(guest("handler_start")).unwrap());
        let begun = Instant::now();
        while !edge.log("m").iter().any(|line| line.contains("is being started beside")) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", edge.log("m"));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The old one fails meanwhile: a dead letter, and then its own fault.
        edge.feed("m", "trap").await;
        edge.feed("m", "trap").await;
        edge.until("m", |status| status.status == failed).await;
        assert_eq!(edge.received().await.1, "started");
        edge.until_running("m").await;
        edge.feed("m", "on").await;
        assert_eq!(edge.received().await.1, "on");
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_a_busy_module_cannot_take_are_refused_at_once_and_hold_up_nobody() {
    let mut edge = Plan::new(&["busy", "good"])
        .with("busy", "handler_loop", "[limits]\ncall_ms = 30_000\n")
        .with("good", "outbox_echo", "")
        .start()
        .await;
    edge.until_running("busy").await;
    edge.until_running("good").await;
    let source = feeder("busy");
    edge.broker.publish(source, Message::new("loop")).await.unwrap();
    let begun = Instant::now();
    let refused = loop {
        match edge.engine.restart("busy").await {
            Ok(()) => assert!(begun.elapsed() < Duration::from_secs(20)),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, CommandError::Busy { .. }), "{refused}");
    assert!(refused.to_string().contains("limits.call_ms"), "{refused}");
    // A new version waits too, and others are served meanwhile.
    edge.put("busy.wasm", marked("handler_loop", "new"));
    edge.engine.restart("good").await.unwrap();
    edge.feed("good", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(edge);
}
