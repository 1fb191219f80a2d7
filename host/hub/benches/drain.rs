//! A backlog of a real edge side drains into a real hub: `cargo bench -p holdfast-hub --bench drain -- [messages [way]]`.
//!
//! The hub is a process of its own, this program again, with its gateway and its store in a folder. The edge side has a store
//! with so many messages of 256 bytes, and one link over each way in turn, with a window of 4096. What is printed is the rate
//! from the first message to the last acknowledgement recorded, and what a message costs each side in time of processors.
//! In the end every message must stand in the stream once, in order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement fails loudly and prints"
)]

#[path = "../../net/tests/authority/mod.rs"]
mod authority;
#[path = "../../upstream/benches/support/edge.rs"]
mod edge;
#[path = "support/process.rs"]
mod process;

use authority::{Authority, VALID};
use edge::Edge;
use holdfast_auth::SharedKey;
use holdfast_test_measure::cpu_time;
use holdfast_types::Identity;
use holdfast_upstream::{Keeper, Kept, Known, Place, StatusHandle, Sync, Upstream, UpstreamConfig};
use process::{HUB, HubProcess, KEY, target, words};
use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const BODY_BYTES: usize = 256;
const WAYS: [&str; 3] = ["tls", "wss", "quic"];

/// How long no message may leave before the measurement fails.
const STILL: Duration = Duration::from_secs(30);

fn main() {
    process::be_a_hub();
    let words = words();
    let messages = words.first().and_then(|word| word.parse().ok()).unwrap_or(1_000_000);
    drain(messages, words.get(1).map(String::as_str));
}

/// Keeps what the hub decides in memory.
#[derive(Default)]
struct Notes(Mutex<Known>);

impl Keeper for Notes {
    fn known(&self) -> Known {
        self.0.lock().unwrap().clone()
    }

    fn apply(&self, sync: Sync) -> Kept<'_, Vec<Identity>> {
        Box::pin(async move {
            *self.0.lock().unwrap() = sync.known;
            Ok(Vec::new())
        })
    }
}

/// Waits until nothing waits upstream.
fn drained(edge: &Edge, status: &StatusHandle) {
    let (mut last, mut since) = (u64::MAX, Instant::now());
    loop {
        match edge.store.queues().iter().map(|queue| queue.waiting).sum() {
            0 => return,
            waiting if waiting != last => (last, since) = (waiting, Instant::now()),
            _ => assert!(since.elapsed() < STILL, "{last} messages do not leave: {:?}", status.status()),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn drain(messages: u64, only: Option<&str>) {
    let home = Authority::new("home");
    home.issue("localhost", VALID);
    let certificates = home.root().parent().unwrap().to_owned();
    println!("{messages} messages of {BODY_BYTES} B, window 4096, hub and edge on one machine");
    for way in WAYS.into_iter().filter(|way| only.is_none_or(|only| only == *way)) {
        let folder = tempfile::tempdir().unwrap();
        let hub = HubProcess::start(way, folder.path(), &certificates, 1);
        let edge = Edge::new();
        edge.fill(messages, BODY_BYTES);
        let (begun, own, other) = (Instant::now(), cpu_time("self"), cpu_time(&hub.id()));
        let (stop, broker, place) =
            (CancellationToken::new(), edge.broker.clone(), target(way, hub.port, &home.root()));
        let (token, (tell, told)) = (stop.clone(), mpsc::channel());
        let link = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let hub = holdfast_upstream::HubConfig {
                    hub: HUB.into(),
                    key: Some(SharedKey::new(&KEY).unwrap()),
                    token_life: Duration::from_secs(3600),
                    keeper: Arc::new(Notes::default()),
                };
                let config = UpstreamConfig {
                    window: 4096,
                    dialect: holdfast_upstream::Dialect::Hub(hub),
                    ..UpstreamConfig::new(vec![Place::of(place)], "edge-1")
                };
                let link = Upstream::build(config, &broker).unwrap().spawn(token);
                tell.send(link.status()).unwrap();
                link.finished().await.unwrap();
            });
        });
        drained(&edge, &told.recv().unwrap());
        let took = begun.elapsed().as_secs_f64();
        let micros = |used: Duration| used.as_secs_f64() * 1e6 / messages as f64;
        let own = micros(cpu_time("self") - own);
        let other = micros(cpu_time(&hub.id()) - other);
        stop.cancel();
        link.join().unwrap();
        assert_eq!(hub.events(), messages, "each message once, in order");
        let rate = messages as f64 / took;
        println!(
            "  {way:5} {rate:9.0} msg/s  {:.2} x the 100,000 wanted; edge {own:5.2} us, hub {other:5.2} us of CPU per message",
            rate / 100_000.0
        );
    }
}
