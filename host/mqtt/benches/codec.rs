//! What reading and writing a PUBLISH of 256 bytes costs: `cargo bench -p holdfast-mqtt`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and may panic"
)]

use bytes::BytesMut;
use holdfast_mqtt::{Codec, PACKET_BYTES_MAX, Packet, PacketId, Publish, QoS, Version};
use std::{hint::black_box, time::Instant};

/// Packets in the buffer that is decoded: as many as one read brings.
const BATCH: usize = 200;
const ROUNDS: usize = 5000;

fn main() {
    for version in [Version::V311, Version::V5] {
        let mut codec = Codec::client(version, PACKET_BYTES_MAX);
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            packet_id: Some(PacketId::MIN),
            ..Publish::new("plant/line-1/press-07/temperature", vec![7; 256])
        };
        let packet = Packet::Publish(publish);
        let mut wire = BytesMut::new();
        (0..BATCH).for_each(|_| codec.encode(&packet, &mut wire).unwrap());
        let wire = wire.freeze();
        let (mut ours, mut theirs, mut encode) = (Vec::new(), Vec::new(), Vec::new());
        let mut out = BytesMut::new();
        for _ in 0..ROUNDS {
            let mut buffer = BytesMut::from(&wire[..]);
            let start = Instant::now();
            while let Some(packet) = codec.decode(&mut buffer).unwrap() {
                black_box(packet);
            }
            ours.push(start.elapsed().as_nanos() as usize / BATCH);
            let start = Instant::now();
            out.clear();
            (0..BATCH).for_each(|_| codec.encode(black_box(&packet), &mut out).unwrap());
            encode.push(start.elapsed().as_nanos() as usize / BATCH);
            theirs.push(library(version, &wire));
        }
        let median = |mut all: Vec<usize>| {
            all.sort_unstable();
            all[all.len() / 2]
        };
        println!(
            "MQTT {version}: decode {} ns, encode {} ns; rmqtt-codec decodes in {} ns",
            median(ours),
            median(encode),
            median(theirs)
        );
    }
}

fn library(version: Version, wire: &[u8]) -> usize {
    use tokio_util::codec::Decoder;
    let mut buffer = BytesMut::from(wire);
    let start = Instant::now();
    match version {
        Version::V311 => {
            let mut codec = rmqtt_codec::v3::Codec::default();
            while let Some(packet) = codec.decode(&mut buffer).unwrap() {
                black_box(packet);
            }
        }
        Version::V5 => {
            let mut codec = rmqtt_codec::v5::Codec::default();
            while let Some(packet) = codec.decode(&mut buffer).unwrap() {
                black_box(packet);
            }
        }
    }
    start.elapsed().as_nanos() as usize / BATCH
}
