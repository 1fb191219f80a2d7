//! How fast a backlog leaves, and what a message costs: `cargo bench -p holdfast-upstream -- [messages] [window] [port]`.
//!
//! With a port the backlog goes to the broker that listens there on this machine. Without, the receiver is as fast as it
//! can be: it reads, counts, and acknowledges everything it has read in one write. What is printed is the rate from the
//! first message to the last acknowledgement recorded, and the CPU time of each thread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/edge.rs"]
mod edge;
#[path = "support/receiver.rs"]
mod receiver;

use edge::Edge;
use holdfast_broker::Broker;
use holdfast_mqtt::Version;
use holdfast_net::{Door, HostName, Settings, Target, Way};
use holdfast_upstream::{Place, Upstream, UpstreamConfig};
use receiver::Receiver;
use std::{thread, time::Instant};
use tokio_util::sync::CancellationToken;

const BODY_BYTES: usize = 256;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let messages = numbers.first().copied().unwrap_or(300_000);
    let windows = match numbers.get(1) {
        Some(window) => vec![u16::try_from(*window).unwrap()],
        None => vec![256, 1024],
    };
    for version in [Version::V311, Version::V5] {
        for window in &windows {
            drain(messages, *window, version, numbers.get(2).map(|port| u16::try_from(*port).unwrap()));
        }
    }
}

fn drain(messages: u64, window: u16, version: Version, port: Option<u16>) {
    let edge = Edge::new();
    edge.fill(messages, BODY_BYTES);
    let (broker, store) = (edge.broker.clone(), edge.store.clone());
    let any = "127.0.0.1:0".parse().unwrap();
    let port = port.unwrap_or_else(|| Receiver::behind(any, Door::Tcp, version).address.port());
    let begun = Instant::now();
    let before = cpu::by_thread();
    let link = thread::Builder::new().name("link".into()).spawn(move || run(port, window, version, &broker));
    edge.drained();
    let (took, after) = (begun.elapsed(), cpu::by_thread());
    println!("{version:?} window {window}: {:.0} msg/s", messages as f64 / took.as_secs_f64());
    for (name, seconds) in after {
        let earlier = before.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, seconds)| *seconds);
        let micros = (seconds - earlier) * 1e6 / messages as f64;
        if micros >= 0.1 {
            println!("    {name}: {micros:.2} us CPU per message");
        }
    }
    let stats = store.stats();
    println!("    {} fsyncs in all, {} commits", stats.fsyncs, stats.commits);
    drop(link);
}

fn run(port: u16, window: u16, version: Version, broker: &Broker) {
    let host = HostName::new("127.0.0.1").unwrap();
    let target = Target::new(host, port, Way::Tcp, Settings::of_section("upstream"));
    let config = UpstreamConfig { version, window, ..UpstreamConfig::new(vec![Place::of(target)], "edge-1") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let link = Upstream::build(config, broker).unwrap().spawn(CancellationToken::new());
        link.finished().await.unwrap()
    });
}
