//! What a QoS 1 message costs the host from the socket to the durable log and back: `cargo bench -p holdfast-gateway`.
//!
//! The publishers are processes of their own, so that the CPU time of this one is the host's. Each keeps a window of 100
//! messages of 256 bytes. The peer to compare with is Mosquitto with persistence, which does not fsync.

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
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

const MESSAGES: u32 = 300_000;
const WINDOW: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "publish") {
        publish(&arguments[at + 1], &arguments[at + 2], arguments[at + 3].parse().unwrap());
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for publishers in [1, 50] {
        let house = runtime.block_on(support::House::new());
        runtime.block_on(house.serves());
        let (cpu, start) = (cpu_time(), Instant::now());
        let each = MESSAGES / publishers;
        let mut children: Vec<_> = (0..publishers)
            .map(|n| {
                let me = std::env::current_exe().unwrap();
                let (address, count) = (house.address.to_string(), each.to_string());
                Command::new(me).args(["publish", &address, &n.to_string(), &count]).spawn().unwrap()
            })
            .collect();
        assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time() - cpu);
        let fsyncs = house.broker.store().stats().fsyncs;
        let count = f64::from(each * publishers);
        println!(
            "{publishers} publishers: {:.0} messages/s acknowledged, {:.2} us of CPU each, {:.0} messages per fsync",
            count / seconds,
            cpu.as_secs_f64() * 1e6 / count,
            count / fsyncs as f64
        );
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

/// CPU time of this process, from the fields `utime` and `stime` of proc(5) in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
