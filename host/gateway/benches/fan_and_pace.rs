//! One message for many, and many senders at an even pace: `cargo bench -p holdfast-gateway --bench fan_and_pace`.
//!
//! - **Fan-out**: one publisher sends messages of 256 bytes with QoS 0 as fast as they are taken, 50 subscribers count what
//!   comes for five seconds. The peer in the same run is Mosquitto.
//! - **Pace**: 50 publishers send 5,000 messages of 256 bytes each second together, with QoS 1, and wait for each
//!   acknowledgement: onto a durable route, beside the disk's own fsync; and where no durable route takes them.
//!
//! Clients are processes of their own, so that the CPU time of this one is the host's.

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
use holdfast_test_measure::{Quiet, cpu_time};
use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SUBSCRIBERS: usize = 50;
const PUBLISHERS: usize = 50;
const COUNTED: Duration = Duration::from_secs(5);
/// Between two messages of one of them: 5,000 each second together.
const PACE: Duration = Duration::from_millis(10);
const PAYLOAD: [u8; 256] = [7; 256];
const TOPIC: &str = "plant/line-1/press-07/temperature";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let part = |name: &str| arguments.iter().position(|one| one == name).map(|at| arguments[at + 1].clone());
    if let Some(address) = part("flood") {
        return flood(&address);
    }
    if let Some(address) = part("count") {
        return count(&address);
    }
    if let Some(address) = part("durable") {
        return pace(&address, true);
    }
    if let Some(address) = part("volatile") {
        return pace(&address, false);
    }
    let runtime = support::runtime();
    let house = runtime.block_on(support::House::new());
    let address = house.address.to_string();
    let (rate, ours) = fan_out(&address, "self");
    println!("fan-out 1 to {SUBSCRIBERS}: {rate:.0} messages/s delivered, {ours:.2} us of CPU each");
    match mosquitto(fan_out) {
        Some((theirs, cpu)) => println!(
            "  mosquitto: {theirs:.0} messages/s delivered, {cpu:.2} us of CPU each; rate {:.2}, CPU {:.2}",
            rate / theirs,
            ours / cpu
        ),
        None => println!("  mosquitto is not installed: no peer"),
    }
    drop(house);
    let house = runtime.block_on(support::House::new());
    let address = house.address.to_string();
    let quiet = Quiet::look();
    let fsync = fsync_time();
    let before = house.broker.store().stats();
    println!(
        "paced, durable: {}; fsync of this disk {} us",
        said(me("durable", &address)),
        fsync.as_micros()
    );
    let after = house.broker.store().stats();
    println!(
        "  {:.1} messages in each fsync of the store, which took {} us with its write",
        (after.messages - before.messages) as f64 / (after.fsyncs - before.fsyncs) as f64,
        after.fsync_us_mean
    );
    println!("paced, no durable route: {}", said(me("volatile", &address)));
    quiet.say();
}

fn me(part: &str, address: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args([part, address]).stdout(Stdio::piped()).spawn().unwrap()
}

fn said(child: Child) -> String {
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Messages delivered each second, and CPU time for each of the broker whose process this is.
fn fan_out(address: &str, pid: &str) -> (f64, f64) {
    let counting = me("count", address);
    // They have subscribed when the first message is there; until then nothing is counted.
    let mut flooding = me("flood", address);
    thread::sleep(Duration::from_secs(1));
    let cpu = cpu_time(pid);
    let delivered: f64 = said(counting).parse().unwrap();
    let cpu = cpu_time(pid) - cpu;
    flooding.kill().unwrap();
    flooding.wait().unwrap();
    (delivered / COUNTED.as_secs_f64(), cpu.as_secs_f64() * 1e6 / delivered)
}

struct Peer {
    stream: TcpStream,
    codec: Codec,
    input: BytesMut,
    out: BytesMut,
}

impl Peer {
    fn connect(address: &str, name: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let codec = Codec::client(Version::V5, PACKET_BYTES_MAX);
        let mut peer = Self { stream, codec, input: BytesMut::new(), out: BytesMut::new() };
        peer.put(&Packet::Connect(Box::new(support::connect(Version::V5, name))));
        peer.flush();
        assert!(matches!(peer.next(), Packet::ConnAck(_)));
        peer
    }

    fn put(&mut self, packet: &Packet) {
        self.codec.encode(packet, &mut self.out).unwrap();
    }

    fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    fn next(&mut self) -> Packet {
        let mut chunk = [0; 64 << 10];
        loop {
            if let Some(packet) = self.codec.decode(&mut self.input).unwrap() {
                return packet;
            }
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the broker has closed");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Sends until it is killed.
fn flood(address: &str) {
    let mut peer = Peer::connect(address, "flood");
    loop {
        for _ in 0..32 {
            peer.put(&Packet::Publish(Publish::new(TOPIC, &PAYLOAD[..])));
        }
        peer.flush();
    }
}

/// Subscribers that count what comes in the time, from a second after the first message on.
fn count(address: &str) {
    let counters: Vec<_> = (0..SUBSCRIBERS)
        .map(|n| {
            let mut peer = Peer::connect(address, &format!("count-{n}"));
            let subscribe = Subscribe {
                packet_id: PacketId::MIN,
                subscription_id: None,
                user_properties: Vec::new(),
                subscriptions: vec![Subscription::new("plant/#", QoS::AtMostOnce)],
            };
            peer.put(&Packet::Subscribe(Box::new(subscribe)));
            peer.flush();
            thread::spawn(move || {
                while !matches!(peer.next(), Packet::Publish(_)) {}
                let begin = Instant::now() + Duration::from_secs(1);
                while Instant::now() < begin {
                    peer.next();
                }
                let end = Instant::now() + COUNTED;
                let mut count = 0_u64;
                while Instant::now() < end {
                    peer.next();
                    count += 1;
                }
                count
            })
        })
        .collect();
    println!("{}", counters.into_iter().map(|counter| counter.join().unwrap()).sum::<u64>());
}

/// Publishers that wait for each acknowledgement and send at their pace.
fn pace(address: &str, durable: bool) {
    let all: Vec<_> = (0..PUBLISHERS)
        .map(|n| {
            let mut peer = Peer::connect(address, &format!("pace-{n}"));
            thread::spawn(move || {
                let local = PublishProperties {
                    user_properties: vec![("local".into(), "1".into())],
                    ..PublishProperties::default()
                };
                let properties = (!durable).then(|| Box::new(local));
                let mut next = Instant::now() + PACE * n as u32 / PUBLISHERS as u32;
                let mut times = Vec::new();
                for number in 0..COUNTED.as_millis() / PACE.as_millis() {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += PACE;
                    let packet_id = PacketId::new(number as u16 + 1);
                    let publish = Publish {
                        qos: QoS::AtLeastOnce,
                        packet_id,
                        properties: properties.clone(),
                        ..Publish::new(TOPIC, &PAYLOAD[..])
                    };
                    let sent = Instant::now();
                    peer.put(&Packet::Publish(publish));
                    peer.flush();
                    assert!(matches!(peer.next(), Packet::PubAck(_)));
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times: Vec<Duration> = all.into_iter().flat_map(|one| one.join().unwrap()).collect();
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_micros();
    println!("{} messages, p50 {} us, p99 {} us", times.len(), at(50), at(99));
}

/// The median time of a small write and its fsync where the store is.
fn fsync_time() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("file")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let begin = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// What is measured at Mosquitto; none if it is not installed.
fn mosquitto<T>(measure: impl FnOnce(&str, &str) -> T) -> Option<T> {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\nlog_type none\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut broker = Command::new("mosquitto").arg("-c").arg(&config).spawn().ok()?;
    let address = format!("127.0.0.1:{port}");
    while TcpStream::connect(&address).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    let measured = measure(&address, &broker.id().to_string());
    broker.kill().unwrap();
    broker.wait().unwrap();
    Some(measured)
}
