//! One message for many, and many senders at an even pace: `cargo bench -p holdfast-gateway --bench fan_and_pace`.
//!
//! - **Fan-out**: one publisher sends messages of 256 bytes with QoS 0 as fast as they are taken, 50 subscribers count what
//!   comes for five seconds. The peer in the same run is Mosquitto.
//! - **Pace**: 50 publishers send 5,000 messages of 256 bytes each second together, with QoS 1, and wait for each
//!   acknowledgement: onto a durable route, and where no durable route takes them. Each slice begins with the disk's own time
//!   for a block that is appended to a file and synced, on the same file system and with nothing else going on.
//!
//! Clients are processes of their own, so that the CPU time of this one is the host's. Those that keep the pace never sleep and have
//! a processor of their own: an acknowledgement has come when it is in their socket, and what it takes to wake a client
//! that waits for it, some 40 us where a processor sleeps, is the client's time and not the host's. The host has the other
//! processors, with `taskset` of util-linux; fan-out has all of them. `fan-out` or `pace` as an argument runs only that.

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
use holdfast_test_measure::{Calmest, Quiet, again_on, cpu_time, median, processors};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    ops::Range,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SUBSCRIBERS: usize = 50;
const PUBLISHERS: usize = 50;
const COUNTED: Duration = Duration::from_secs(5);
/// Between two messages of one of them: 5,000 each second together.
const PACE: Duration = Duration::from_millis(10);
/// How long it is kept in one slice, how many slices count, and the most that are run for them: what other machines take of the
/// processors comes and goes.
const PACED: Duration = Duration::from_millis(400);
const SLICES: usize = 15;
const SLICES_MAX: usize = 100;
/// What the floor allows: p50 within so many times the disk's own fsync, and without a durable route all but one of a hundred within
/// a millisecond.
const FSYNCS_MAX: f64 = 1.5;
const VOLATILE_P99_US_MAX: u64 = 1000;
const PAYLOAD: [u8; 256] = [7; 256];
const TOPIC: &str = "plant/line-1/press-07/temperature";

const PARTS: [&str; 2] = ["fan-out", "pace"];
/// Says that this process is the host of the paced slices and has its processors.
const PLACED: &str = "--placed";

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
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has(PLACED) {
        return paced();
    }
    let chosen = |name| has(name) || !PARTS.iter().any(|part| has(part));
    if chosen("fan-out") {
        fanned_out();
    }
    if chosen("pace") {
        let (host, _) = placed();
        assert!(again_on(host).unwrap().arg(PLACED).status().unwrap().success());
    }
}

/// The processors of the host, and that of the clients that keep the pace.
fn placed() -> (Range<usize>, Range<usize>) {
    let all = processors();
    assert!(all >= 2, "this machine has {all} processors; host and clients need one each at least");
    (0..all - 1, all - 1..all)
}

fn fanned_out() {
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
}

/// What one slice of the pace gave; times in microseconds.
struct Paced {
    fsync: u64,
    durable_p50: u64,
    durable_p99: u64,
    volatile_p50: u64,
    volatile_p99: u64,
    /// The CPU time of the host for each durable message.
    cpu: f64,
    messages_per_fsync: f64,
    /// The share of fsyncs that began while another was under way.
    overlapped: f64,
}

/// The host of the paced slices.
fn paced() {
    let runtime = support::runtime();
    let house = runtime.block_on(support::House::new());
    let address = house.address.to_string();
    let quiet = Quiet::look();
    let slices = Calmest::run(SLICES, SLICES_MAX, || {
        let fsync = fsync_time();
        let (before, cpu) = (house.broker.store().stats(), cpu_time("self"));
        let [count, durable_p50, durable_p99] = pacing("durable", &address);
        let (after, cpu) = (house.broker.store().stats(), cpu_time("self") - cpu);
        let [_, volatile_p50, volatile_p99] = pacing("volatile", &address);
        let messages_per_fsync =
            (after.messages - before.messages) as f64 / (after.fsyncs - before.fsyncs) as f64;
        let overlapped =
            (after.overlapped - before.overlapped) as f64 / (after.fsyncs - before.fsyncs) as f64;
        let cpu = cpu.as_secs_f64() * 1e6 / count as f64;
        Paced {
            fsync,
            durable_p50,
            durable_p99,
            volatile_p50,
            volatile_p99,
            cpu,
            messages_per_fsync,
            overlapped,
        }
    });
    quiet.say();
    let of = |what: fn(&Paced) -> u64| slices.median(what).unwrap();
    let said = |holds: bool| if holds { "within" } else { "OVER" };
    let ratio = slices.median(|slice| slice.durable_p50 as f64 / slice.fsync as f64).unwrap();
    println!("paced, medians of {slices}");
    println!(
        "  durable: p50 {} us at an fsync of {} us, {ratio:.2} times it, {} the goal of {FSYNCS_MAX}; p99 {} us; {:.1} messages \
         in each fsync, {:.0} % of which began beside another; {:.0} us of CPU each",
        of(|slice| slice.durable_p50),
        of(|slice| slice.fsync),
        said(ratio <= FSYNCS_MAX),
        of(|slice| slice.durable_p99),
        slices.median(|slice| slice.messages_per_fsync).unwrap(),
        slices.median(|slice| slice.overlapped * 100.0).unwrap(),
        slices.median(|slice| slice.cpu).unwrap(),
    );
    let p99 = of(|slice| slice.volatile_p99);
    println!(
        "  no durable route: p50 {} us, p99 {p99} us, {} the goal of {VOLATILE_P99_US_MAX}",
        of(|slice| slice.volatile_p50),
        said(p99 <= VOLATILE_P99_US_MAX),
    );
}

/// One slice of clients that keep the pace: how many messages, and the microseconds to the acknowledgement of half of them and of all
/// but one of a hundred.
fn pacing(part: &str, address: &str) -> [u64; 3] {
    let (_, clients) = placed();
    let mut command = again_on(clients).unwrap();
    let said = said(command.args([part, address]).stdout(Stdio::piped()).spawn().unwrap());
    let numbers: Vec<u64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
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

    /// The next packet if it has come, on a stream that does not block.
    fn look(&mut self) -> Option<Packet> {
        let mut chunk = [0; 1 << 10];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                assert!(read > 0, "the broker has closed");
                self.input.extend_from_slice(&chunk[..read]);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        self.codec.decode(&mut self.input).unwrap()
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

/// A publisher that waits for each acknowledgement and sends at its pace.
struct Pacer {
    peer: Peer,
    next: Instant,
    number: u16,
    sent: Option<Instant>,
}

impl Pacer {
    fn is_done(&self) -> bool {
        self.sent.is_none() && u128::from(self.number) >= PACED.as_millis() / PACE.as_millis()
    }

    /// Sends if it is time, or looks for the acknowledgement and says how long it took.
    fn step(&mut self, properties: Option<&PublishProperties>) -> Option<Duration> {
        if let Some(sent) = self.sent {
            let packet = self.peer.look()?;
            assert!(matches!(packet, Packet::PubAck(_)), "{packet:?}");
            self.sent = None;
            return Some(sent.elapsed());
        }
        if !self.is_done() && Instant::now() >= self.next {
            self.next += PACE;
            self.number += 1;
            let publish = Publish {
                qos: QoS::AtLeastOnce,
                packet_id: PacketId::new(self.number),
                properties: properties.cloned().map(Box::new),
                ..Publish::new(TOPIC, &PAYLOAD[..])
            };
            self.peer.put(&Packet::Publish(publish));
            self.sent = Some(Instant::now());
            self.peer.flush();
        }
        None
    }
}

/// Publishers that keep the pace. This never sleeps.
fn pace(address: &str, durable: bool) {
    let peers: Vec<Peer> = (0..PUBLISHERS).map(|n| Peer::connect(address, &format!("pace-{n}"))).collect();
    let local = PublishProperties {
        user_properties: vec![("local".into(), "1".into())],
        ..PublishProperties::default()
    };
    let properties = (!durable).then_some(&local);
    let begin = Instant::now() + PACE;
    let pacer = |(n, peer): (usize, Peer)| {
        peer.stream.set_nonblocking(true).unwrap();
        Pacer { peer, next: begin + PACE * n as u32 / PUBLISHERS as u32, number: 0, sent: None }
    };
    let mut all: Vec<Pacer> = peers.into_iter().enumerate().map(pacer).collect();
    let mut times = Vec::new();
    while !all.iter().all(Pacer::is_done) {
        times.extend(all.iter_mut().filter_map(|one| one.step(properties)));
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_micros();
    println!("{} {} {}", times.len(), at(50), at(99));
}

/// The median time of a small write behind what a file holds, as whoever keeps a log writes, and its fsync, where the store is; in
/// microseconds.
fn fsync_time() -> u64 {
    const TIMES: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("file")).unwrap();
    let times: Vec<u64> = (0..TIMES)
        .map(|_| {
            let begin = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            begin.elapsed().as_micros() as u64
        })
        .collect();
    median(&times).unwrap()
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
