//! A module that goes faster than it may is slowed, not refused: its messages wait, and none is lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use std::time::{Duration, Instant};
use support::{Edge, Plan};

/// Feeds an echo with `messages` of `bytes`, under a limit, and gives how long it took.
async fn echoed(messages: usize, bytes: usize, settings: &str, limit: &str) -> (Edge, Duration) {
    let settings = format!("[limits]\n{settings}\n");
    let mut edge = Plan::new(&["m"]).volatile_feed().with("m", "outbox_echo", &settings).start().await;
    edge.until_running("m").await;
    let began = Instant::now();
    for n in 0..messages {
        edge.feed("m", &format!("{n:0bytes$}")).await;
    }
    for n in 0..messages {
        assert_eq!(edge.received().await.1, format!("in:{n:0bytes$}"));
    }
    let took = began.elapsed();
    let status = edge.until("m", |status| status.messages_in == messages as u64).await;
    assert!(status.refusals.get(limit).is_some_and(|times| *times > 0), "{status:#?}");
    let told = edge.log("m").into_iter().filter(|line| line.contains(limit)).count();
    assert_eq!(told, 1, "once in an episode: {:?}", edge.log("m"));
    (edge, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_bytes_in_and_out_keep_to_their_rates() {
    for (settings, limit) in [
        ("messages_in_per_s = 100", "limits.messages_in_per_s"),
        ("messages_out_per_s = 100", "limits.messages_out_per_s"),
        // A message of 100 bytes counts a little more, for its properties.
        ("bytes_in_per_s = 10_000", "limits.bytes_in_per_s"),
        ("bytes_out_per_s = 10_000", "limits.bytes_out_per_s"),
    ] {
        // A burst of one second's worth and a turn, and then the rest at the rate.
        let (edge, took) = echoed(300, 97, settings, limit).await;
        assert!(took >= Duration::from_millis(900), "{settings}: {took:?}");
        edge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_computes_more_than_its_share_is_slowed_and_the_time_it_rests_does_not_count() {
    let settings = "[limits]\ncpu_percent = 20\ncall_ms = 600\nattempts = 1\n";
    let edge = Plan::new(&["m"]).with("m", "handler_loop", settings).start().await;
    edge.until_running("m").await;
    let began = Instant::now();
    edge.feed("m", "loop").await;
    let dead = edge.dead_letters("m", 1).await;
    let took = began.elapsed();
    assert!(dead[0].death.reason.contains("took longer than 600 ms"), "{:?}", dead[0]);
    let status = edge.until("m", |status| status.dead_letters == 1).await;
    // The burst of half a second is spent at once; what follows has a fifth of the time.
    let computed = Duration::from_micros(status.busy_us);
    assert!(computed > Duration::from_millis(200), "{status:#?}");
    let share = (computed.saturating_sub(Duration::from_millis(120))).as_secs_f64() / took.as_secs_f64();
    assert!(share < 0.25, "{share}: {computed:?} in {took:?}");
    assert!(status.refusals["limits.cpu_percent"] > 0);
    assert!(status.cpu_permille > 0, "{status:#?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_rests_is_stopped_and_swapped_all_the_same() {
    let settings = "[limits]\nmessages_in_per_s = 1\n";
    let edge = Plan::new(&["m"]).with("m", "outbox_echo", settings).start().await;
    for n in 0..100 {
        edge.feed("m", &n.to_string()).await;
    }
    edge.until("m", |status| status.refusals.contains_key("limits.messages_in_per_s")).await;
    edge.put("m.toml", "[limits]\nmessages_in_per_s = 1000000\n");
    edge.until("m", |status| status.messages_in == 100).await;
    assert!(edge.status("m").unwrap().last_swap.is_some());
    edge.stop().await;
}
