//! How much telemetry a cluster of NATS servers on this machine takes from one hub process: `cargo bench -p holdfast-jetstream --
//! [edges [events in a batch [servers]]]`. Each edge has up to 4096 events of 256 bytes under way; what is printed is events and
//! messages of the stream in a second, and the time of processors for each event, of this process and of the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement fails loudly and prints"
)]

#[path = "../tests/nats/mod.rs"]
mod nats;

use holdfast_hub::backend::{Backend, Batch, Event, Origin, Progress};
use holdfast_jetstream::JetStream;
use holdfast_link::Mark;
use holdfast_test_measure::cpu_time;
use holdfast_types::{Envelope, Message, Name, Offset, Priority, Source, StableId, UnixMillis};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

const EVENTS: u64 = 200_000;
const WINDOW: usize = 4096;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, usual: u64| numbers.get(at).copied().unwrap_or(usual);
    let (edges, batch, servers) = (number(0, 4), number(1, 150), number(2, 3));
    let nats = nats::Nats::start(usize::try_from(servers).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let storage = Arc::new(JetStream::open(&nats.config()).await.unwrap());
        // No more than can be had in some ten seconds where each event is a message.
        let each = EVENTS.min(EVENTS * batch / 10).max(batch) / edges;
        let (begun, own, other) = (Instant::now(), cpu_time("self"), servers_time(&nats));
        let mut senders = tokio::task::JoinSet::new();
        for edge in 0..edges {
            senders.spawn(send(storage.clone(), Name::new(&format!("edge-{edge}")).unwrap(), each, batch));
        }
        senders.join_all().await;
        let (took, events) = (begun.elapsed().as_secs_f64(), (each * edges) as f64);
        let micros = |used: Duration| used.as_secs_f64() * 1e6 / events;
        let (own, other) = (micros(cpu_time("self") - own), micros(servers_time(&nats) - other));
        let messages = storage.counts().messages as f64;
        println!(
            "{servers} servers, {edges} edges, batches of {batch}: {:.0} events and {:.0} messages per second; hub {own:.1} us, \
             servers together {other:.1} us of CPU per event",
            events / took,
            messages / took,
        );
    });
}

async fn send(storage: Arc<JetStream>, edge: Name, each: u64, batch: u64) {
    let window = Arc::new(Semaphore::new(WINDOW));
    let message = Message::new(vec![b'x'; 256]);
    let source = Source::Module { module: Name::new("m").unwrap(), output: None };
    let mut next = 0;
    while next < each {
        let upto = (next + batch).min(each);
        let room = window.clone().acquire_many_owned(u32::try_from(upto - next).unwrap()).await.unwrap();
        let id = |sequence| StableId {
            edge: edge.clone(),
            epoch: 1,
            priority: Priority::DEFAULT,
            sequence: Offset(sequence),
        };
        let event = |sequence| {
            let (message, source) = (message.clone(), source.clone());
            let envelope = Arc::new(Envelope { message, source, received: UnixMillis(sequence), hops: 0 });
            Event { envelope, origin: Origin::Edge(id(sequence)), brought: None }
        };
        let mark = Mark { epoch: 1, priority: Priority::DEFAULT, sequence: Offset(upto - 1) };
        let progress = Progress { mark, gaps: 0, missing: 0, last_gap: None };
        let given = Batch {
            events: (next..upto).map(event).collect(),
            progress: vec![(edge.clone(), progress)],
            order: None,
        };
        let stored = move |result: Result<(), _>| {
            result.unwrap();
            drop(room);
        };
        storage.append(given, Box::new(stored));
        next = upto;
    }
    drop(window.acquire_many(u32::try_from(WINDOW).unwrap()).await.unwrap());
}

fn servers_time(nats: &nats::Nats) -> Duration {
    nats.processes().iter().map(|process| cpu_time(&process.to_string())).sum()
}
