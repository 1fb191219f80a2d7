//! What a QoS 1 message costs the host from the socket to the durable log and back: `cargo bench -p holdfast-gateway`.
//!
//! The publishers are processes of their own, so that the CPU time of this one is the host's. Each keeps a window of 100
//! messages of 256 bytes. The peer in the same run is Mosquitto with persistence, which does not fsync, and with one
//! subscriber at QoS 1: the shape in which a message leaves it again. (Ours has left for the disk.) Both take turns.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and may panic"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use bytes::BytesMut;
use holdfast_mqtt::*;
use holdfast_test_measure::{Calmest, Quiet, cpu_time};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Messages of a slice, how many slices count, and the most that are run for them: what other machines take of the processors comes
/// and goes, and would be counted as CPU time.
const MESSAGES: u32 = 100_000;
const SLICES: usize = 5;
const SLICES_MAX: usize = 20;
const WINDOW: usize = 100;
/// What the subscriber says when it has subscribed.
const SUBSCRIBED: &str = "subscribed";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "publish") {
        publish(&arguments[at + 1], &arguments[at + 2], arguments[at + 3].parse().unwrap());
        return;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "subscribe") {
        subscribe(&arguments[at + 1], arguments[at + 2].parse().unwrap());
        return;
    }
    let runtime = support::runtime();
    let quiet = Quiet::look();
    for publishers in [1, 50] {
        let slices = Calmest::run(SLICES, SLICES_MAX, || (ours(&runtime, publishers), mosquitto(publishers)));
        let of = |what: fn(&Cost) -> f64| slices.median(|(ours, _)| what(ours)).unwrap();
        println!(
            "{publishers} publishers: {:.0} messages/s acknowledged, {:.2} us of CPU each, {:.0} messages per fsync",
            of(|cost| cost.rate),
            of(|cost| cost.cpu),
            of(|cost| cost.messages_per_fsync)
        );
        if slices.slices.iter().all(|(_, theirs)| theirs.is_some()) {
            let theirs =
                |what: fn(&Cost) -> f64| slices.median(|(_, one)| one.as_ref().map(what)).flatten().unwrap();
            println!(
                "  mosquitto: {:.0} messages/s delivered, {:.2} us of CPU each; ratio {:.2}",
                theirs(|cost| cost.rate),
                theirs(|cost| cost.cpu),
                slices.median(|(ours, one)| one.as_ref().map(|one| ours.cpu / one.cpu)).flatten().unwrap()
            );
        } else {
            println!("  mosquitto is not installed: no peer");
        }
        println!("  medians of {slices}");
    }
    quiet.say();
}

/// What messages cost: microseconds of CPU time for each.
struct Cost {
    rate: f64,
    cpu: f64,
    /// Mosquitto has no fsync.
    messages_per_fsync: f64,
}

fn ours(runtime: &tokio::runtime::Runtime, publishers: u32) -> Cost {
    let house = runtime.block_on(support::House::new());
    runtime.block_on(house.serves());
    let (cpu, start) = (cpu_time("self"), Instant::now());
    let count = run_publishers(&house.address.to_string(), publishers);
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time("self") - cpu);
    let fsyncs = house.broker.store().stats().fsyncs;
    Cost {
        rate: count / seconds,
        cpu: cpu.as_secs_f64() * 1e6 / count,
        messages_per_fsync: count / fsyncs as f64,
    }
}

/// Runs publishers to their end. Gives the number of messages.
fn run_publishers(address: &str, publishers: u32) -> f64 {
    let each = MESSAGES / publishers;
    let mut children: Vec<_> =
        (0..publishers).map(|n| me(&["publish", address, &n.to_string(), &each.to_string()])).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    f64::from(each * publishers)
}

fn me(arguments: &[&str]) -> Child {
    command(arguments).spawn().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments);
    command
}

/// The same publishers and one subscriber with Mosquitto between them; none if it is not installed.
fn mosquitto(publishers: u32) -> Option<Cost> {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         autosave_interval 5\nset_tcp_nodelay true\nmax_inflight_messages 1000\nmax_queued_messages 1000000\n\
         user root\nlog_type none\n",
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let mut broker = Command::new("mosquitto").arg("-c").arg(&config).spawn().ok()?;
    let address = format!("127.0.0.1:{port}");
    while TcpStream::connect(&address).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let each = MESSAGES / publishers;
    let count = (each * publishers).to_string();
    let mut subscriber = command(&["subscribe", &address, &count]).stdout(Stdio::piped()).spawn().unwrap();
    // What is published before it has subscribed does not come.
    let mut line = String::new();
    BufReader::new(subscriber.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), SUBSCRIBED);
    let pid = broker.id().to_string();
    let (cpu, start) = (cpu_time(&pid), Instant::now());
    let count = run_publishers(&address, publishers);
    assert!(subscriber.wait().unwrap().success());
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time(&pid) - cpu);
    broker.kill().unwrap();
    broker.wait().unwrap();
    Some(Cost {
        rate: count / seconds,
        cpu: cpu.as_secs_f64() * 1e6 / count,
        messages_per_fsync: f64::INFINITY,
    })
}

/// A subscriber at QoS 1 that acknowledges what comes until it has `count` messages.
fn subscribe(address: &str, count: u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut codec = Codec::client(Version::V311, PACKET_BYTES_MAX);
    let (mut out, mut input, mut chunk) = (BytesMut::new(), BytesMut::new(), [0; 64 << 10]);
    codec.encode(&Packet::Connect(Box::new(support::connect(Version::V311, "bench-sub"))), &mut out).unwrap();
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user_properties: Vec::new(),
        subscriptions: vec![Subscription::new("#", QoS::AtLeastOnce)],
    };
    codec.encode(&Packet::Subscribe(Box::new(subscribe)), &mut out).unwrap();
    let mut received = 0;
    while received < count {
        stream.write_all(&out).unwrap();
        out.clear();
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the broker has closed");
        input.extend_from_slice(&chunk[..read]);
        while let Some(packet) = codec.decode(&mut input).unwrap() {
            match packet {
                Packet::SubAck(_) => println!("{SUBSCRIBED}"),
                Packet::Publish(publish) => {
                    received += 1;
                    if let Some(id) = publish.packet_id {
                        codec.encode(&Packet::PubAck(Ack::new(id)), &mut out).unwrap();
                    }
                }
                _ => {}
            }
        }
    }
}

/// A publisher that keeps its window full.
fn publish(address: &str, name: &str, count: u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut codec = Codec::client(Version::V311, PACKET_BYTES_MAX);
    let (mut out, mut input, mut chunk) = (BytesMut::new(), BytesMut::new(), [0; 16 << 10]);
    let hello = support::connect(Version::V311, &format!("bench-{name}"));
    codec.encode(&Packet::Connect(Box::new(hello)), &mut out).unwrap();
    let (mut sent, mut acked) = (0_u32, 0_u32);
    let payload = vec![7; 256];
    while acked < count {
        while sent < count && ((sent - acked) as usize) < WINDOW {
            let packet_id = PacketId::new((sent % 60_000) as u16 + 1);
            let publish = Publish {
                qos: QoS::AtLeastOnce,
                packet_id,
                ..Publish::new("plant/line-1/press-07/temperature", payload.clone())
            };
            codec.encode(&Packet::Publish(publish), &mut out).unwrap();
            sent += 1;
        }
        stream.write_all(&out).unwrap();
        out.clear();
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the gateway has closed");
        input.extend_from_slice(&chunk[..read]);
        while let Some(packet) = codec.decode(&mut input).unwrap() {
            acked += u32::from(matches!(packet, Packet::PubAck(_)));
        }
    }
}
