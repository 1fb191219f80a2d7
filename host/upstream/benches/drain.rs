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

use bytes::{Buf, BytesMut};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_mqtt::{Ack, Codec, ConnAck, Packet, PacketId, ReasonCode, Version};
use holdfast_net::{HostName, Settings, Target, Way};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Store, StoreConfig, SystemClock};
use holdfast_types::{Message, Name, Source};
use holdfast_upstream::{Place, Upstream, UpstreamConfig};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
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
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(StoreConfig::new(folder.path()), clock.clone()).unwrap();
    let route = RouteDefinition::new("all", "FROM /messages/* INTO $upstream");
    let config = BrokerConfig {
        edge: Name::new("edge-1").unwrap(),
        routes: RouteTable::compile(vec![route]).unwrap(),
        time_to_live: None,
    };
    let broker = Broker::new(config, store.clone(), clock);
    fill(&broker, messages);

    let port = port.unwrap_or_else(|| receiver(version));
    let begun = Instant::now();
    let before = cpu();
    let link = thread::Builder::new().name("link".into()).spawn(move || run(port, window, version, &broker));
    while waiting(&store) > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let (took, after) = (begun.elapsed(), cpu());
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

fn fill(broker: &Broker, messages: u64) {
    let source = Source::Child { child: Name::new("meter").unwrap(), topic: None };
    let (told, heard) = std::sync::mpsc::channel();
    let mut open = 0;
    for _ in 0..messages {
        let told = told.clone();
        broker.publish_then(source.clone(), Message::new(vec![b'x'; BODY_BYTES]), move |result| {
            let _ = told.send(result.is_ok());
        });
        open += 1;
        while open >= 1000 {
            assert!(heard.recv().unwrap());
            open -= 1;
        }
    }
    while open > 0 {
        assert!(heard.recv().unwrap());
        open -= 1;
    }
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

fn waiting(store: &Store) -> u64 {
    store.queues().iter().map(|queue| queue.waiting).sum()
}

/// Starts the receiver; gives its port.
fn receiver(version: Version) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::Builder::new()
        .name("receiver".into())
        .spawn(move || receive(&listener.accept().unwrap().0, version))
        .unwrap();
    port
}

fn receive(mut stream: &TcpStream, version: Version) {
    stream.set_nodelay(true).unwrap();
    let codec = Codec::client(version, 1 << 20);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let Ok(got @ 1..) = stream.read(&mut chunk) else { return };
        input.extend_from_slice(&chunk[..got]);
        while let Some((kind, id, bytes)) = packet(&input) {
            input.advance(bytes);
            let answer = match kind {
                1 => Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
                3 => Packet::PubAck(Ack::new(id)),
                _ => continue,
            };
            codec.encode(&answer, &mut out).unwrap();
        }
        stream.write_all(&out.split()).unwrap();
    }
}

/// The type of the first whole packet, the identifier behind its topic, and its length: all a receiver needs that does
/// nothing with it.
fn packet(input: &[u8]) -> Option<(u8, PacketId, usize)> {
    let (mut length, mut head) = (0, 1);
    loop {
        let byte = *input.get(head)?;
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte < 0x80 {
            break;
        }
    }
    let body = input.get(head..head + length)?;
    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let id = body.get(topic + 2..topic + 4).map_or(1, |id| u16::from_be_bytes([id[0], id[1]]));
    Some((input[0] >> 4, PacketId::new(id).unwrap_or(PacketId::MIN), head + length))
}

/// CPU seconds of each thread by its name. Empty where there is no /proc.
fn cpu() -> Vec<(String, f64)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut all: Vec<(String, f64)> = Vec::new();
    for task in tasks.flatten() {
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        let Ok(times) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos: f64 = times.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        match all.iter_mut().find(|(known, _)| *known == name.trim()) {
            Some((_, seconds)) => *seconds += nanos / 1e9,
            None => all.push((name.trim().to_owned(), nanos / 1e9)),
        }
    }
    all
}
