//! The MQTT decoder of Holdfast against three others, for as long as somebody lets it run:
//!
//! ```text
//! cargo run --release --manifest-path tests/fuzz/Cargo.toml -- --seconds 3600 --seed 1 [--freeze FILE]
//! ```
//!
//! Packets are made up byte by byte and damaged. Each is given to every decoder. What must hold:
//!
//! - ours never panics, takes no more memory than has come, and says the same when the bytes come in two parts;
//! - what it takes, it writes again as a packet that every decoder that took the first takes, with the same content;
//! - where it says otherwise than another, the difference has its explanation in `explained.tsv`.
//!
//! It ends with 1 if anything else was found, and prints the shortest packet of each such kind every minute. `--freeze` writes
//! those packets with what is said of them; `host/mqtt/tests/frozen.tsv` has such cases, which the tests of `host/mqtt` run.

mod dice;
mod differences;
mod generate;
mod oracles;

use bytes::BytesMut;
use dice::Dice;
use differences::{Differences, kind_of};
use holdfast_mqtt::{Codec, Packet, ProtocolError, Version};
use oracles::{ORACLES, Verdict};
use std::{
    panic::catch_unwind,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Largest packet: far above what is made up.
const PACKET_BYTES_MAX: usize = 1 << 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seconds, mut seed, mut freeze) = (60, 1, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (name.as_str(), value.parse::<u64>()) {
            ("--seconds", Ok(number)) => seconds = number,
            ("--seed", Ok(number)) => seed = number,
            ("--freeze", _) if !value.is_empty() => freeze = Some(value),
            _ => {
                eprintln!("usage: holdfast-fuzz [--seconds N] [--seed S] [--freeze FILE]");
                return ExitCode::from(2);
            }
        }
    }
    // A panic is caught and counted; its text would only hide the findings.
    std::panic::set_hook(Box::new(|_| {}));
    let mut dice = Dice::new(seed);
    let mut found = Differences::default();
    let (end, mut said, mut packets) = (Instant::now() + Duration::from_secs(seconds), Instant::now(), 0_u64);
    while Instant::now() < end {
        for _ in 0..1000 {
            let version = if dice.once_in(2) { Version::V5 } else { Version::V311 };
            let bytes = generate::packet(&mut dice, version);
            judge(version, &bytes, dice.below(bytes.len()), &mut found);
        }
        packets += 1000;
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("{packets} packets, {}", found.summary());
            found.report();
        }
    }
    println!("{packets} packets from seed {seed} in {seconds} s, {}", found.summary());
    if let Some(file) = freeze
        && let Err(error) = std::fs::write(&file, found.frozen())
    {
        eprintln!("{file} cannot be written: {error}");
    }
    let unexplained = found.report();
    if unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What our decoder says of bytes.
fn ours(version: Version, bytes: &[u8]) -> Result<Option<Packet>, ProtocolError> {
    Codec::client(version, PACKET_BYTES_MAX).decode(&mut BytesMut::from(bytes))
}

/// The same bytes in two parts: the first is never more than the beginning of a packet, or wrong already.
fn in_two(version: Version, bytes: &[u8], at: usize) -> Result<Option<Packet>, ProtocolError> {
    let mut codec = Codec::client(version, PACKET_BYTES_MAX);
    let mut buffer = BytesMut::from(&bytes[..at]);
    match codec.decode(&mut buffer) {
        Ok(None) => {
            buffer.extend_from_slice(&bytes[at..]);
            codec.decode(&mut buffer)
        }
        other => other,
    }
}

fn judge(version: Version, bytes: &[u8], cut: usize, found: &mut Differences) {
    let kind = kind_of(version, bytes);
    let both = catch_unwind(|| (ours(version, bytes), in_two(version, bytes, cut)));
    let Ok((mine, again)) = both else {
        found.note(&format!("holdfast panics\t{kind}"), version, bytes, "panic");
        return;
    };
    // What stands behind the first packet is none of its business.
    if mine != again && again.as_ref().is_ok_and(Option::is_some) != mine.as_ref().is_ok_and(Option::is_some)
    {
        found.note(&format!("holdfast in two parts\t{kind}"), version, bytes, "differs");
    }
    let packet = match mine {
        Ok(None) => return,
        Ok(Some(packet)) => Ok(packet),
        Err(error) => Err(error),
    };
    let Some(whole) = whole(bytes) else { return };
    let opinions: Vec<(&str, Verdict)> =
        ORACLES.iter().map(|oracle| (oracle.name, oracle.ask(version, whole))).collect();
    found.panics(opinions.iter().filter(|(_, opinion)| *opinion == Verdict::Panicked).count());
    match packet {
        Ok(packet) => {
            found.taken();
            for (name, opinion) in &opinions {
                if let Verdict::Refused(why) = opinion {
                    found.note(&format!("{name}\t{kind}\trefuses\t{why}"), version, whole, "taken");
                }
            }
            written_again(version, &packet, whole, &kind, &opinions, found);
        }
        Err(error) => {
            found.refused();
            let votes = |wanted: fn(&Verdict) -> bool| opinions.iter().filter(|(_, one)| wanted(one)).count();
            let taken = votes(|one| matches!(one, Verdict::Taken(_)));
            if taken > 0 && votes(|one| matches!(one, Verdict::Refused(_))) == 0 {
                let why = error.clause.map_or_else(|| differences::words(&error.text), str::to_owned);
                found.note(&format!("all\t{kind}\ttake\t{why}"), version, whole, &error.to_string());
            }
        }
    }
}

/// The first packet, by its own length.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (mut length, mut shift, mut at) = (0_usize, 0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << shift;
        (shift, at) = (shift + 7, at + 1);
        if byte & 0x80 == 0 {
            return bytes.get(..at + length);
        }
        if shift > 21 {
            return Some(bytes);
        }
    }
}

/// What we took and write again says the same to everybody.
fn written_again(
    version: Version,
    packet: &Packet,
    bytes: &[u8],
    kind: &str,
    opinions: &[(&str, Verdict)],
    found: &mut Differences,
) {
    let mut wire = BytesMut::new();
    if let Err(error) = Codec::client(version, PACKET_BYTES_MAX).encode(packet, &mut wire) {
        let why = differences::words(&error.to_string());
        found.note(&format!("holdfast cannot write\t{kind}\t{why}"), version, bytes, "taken");
        return;
    }
    match ours(version, &wire) {
        Ok(Some(again)) if again == *packet => {}
        other => {
            let what = format!("{other:?}");
            found.note(&format!("holdfast reads otherwise what it wrote\t{kind}"), version, bytes, &what);
        }
    }
    for (oracle, (name, opinion)) in ORACLES.iter().zip(opinions) {
        let Verdict::Taken(first) = opinion else { continue };
        match oracle.ask(version, &wire) {
            Verdict::Taken(second) if same(&second, first) => {}
            Verdict::Taken(_) => {
                let how = if wire.len() < bytes.len() {
                    "reads otherwise what is shorter"
                } else {
                    "reads otherwise"
                };
                found.note(&format!("{name}\t{kind}\t{how}"), version, bytes, "taken");
            }
            Verdict::Refused(why) => {
                found.note(&format!("{name}\t{kind}\trefuses what we write\t{why}"), version, bytes, "taken");
            }
            Verdict::NoOpinion | Verdict::Panicked => {}
        }
    }
}

/// Whether two readings hold the same. Properties of different kinds may come in another order, which says nothing.
fn same(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    one == other || sorted(one) == sorted(other)
}
