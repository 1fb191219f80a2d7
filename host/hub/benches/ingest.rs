//! How many messages of edges the hub stores in a second, on one machine without sockets: packets of 256-byte messages are
//! handed to the hub as the gateway hands them over, as many as one read brings, with a window of 4096; each is
//! acknowledged when it is on disk.
//!
//! `cargo bench -p holdfast-hub --bench ingest [-- EDGES]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    reason = "a measurement fails loudly and prints"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use holdfast_test_measure::cpu_time;
use std::time::{Duration, Instant};
use support::{Edge, TestHub};

/// Messages of all edges together.
const MESSAGES: u64 = 400_000;
/// Messages in one read: 64 KiB of packets.
const READ: u64 = 150;
/// Messages that an edge has under way.
const WINDOW: u64 = 4096;

fn main() {
    let edges: u64 = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let hub = TestHub::open(dir.path()).await;
        let mut senders = tokio::task::JoinSet::new();
        let each = MESSAGES / edges;
        let mut linked = Vec::new();
        for edge in 0..edges {
            let name = format!("edge-{edge}");
            hub.put(&name, true, None).await;
            linked.push(Edge::linked(&hub, &name, 0).await.0);
        }
        let (started, used) = (Instant::now(), cpu_time("self"));
        for mut edge in linked {
            senders.spawn(async move {
                let mut sent = 0;
                while sent < each {
                    while sent + READ > edge.fates() as u64 + WINDOW {
                        tokio::time::sleep(Duration::from_micros(200)).await;
                    }
                    let upto = (sent + READ).min(each);
                    edge.send_body(sent..upto, 256);
                    sent = upto;
                }
                edge.told(usize::try_from(each).unwrap()).await;
            });
        }
        senders.join_all().await;
        let (took, used) = (started.elapsed().as_secs_f64(), cpu_time("self") - used);
        let rate = MESSAGES as f64 / took;
        let micros = used.as_secs_f64() * 1e6 / MESSAGES as f64;
        println!("{edges} edges, {MESSAGES} messages of 256 bytes: {rate:.0} per second, {micros:.1} us of CPU each");
        assert_eq!(hub.hub.span().await.unwrap().next, MESSAGES);
    });
}
