//! What hostile clients cost the others: `cargo bench -p holdfast-gateway --bench hostile`.
//!
//! Twenty clients with TLS publish a message of QoS 1 each every 10 ms and wait for its acknowledgement, while another process
//! attacks from another address, one way after the other. For each way: the latency of the twenty beside their quiet figure, how long
//! one more client takes to connect, how long one that shares the address of the attackers does, and what the memory of the host has
//! grown by. No durable route takes what the twenty send: what the disk does meanwhile is not the attackers' doing.
//!
//! What else the machine does moves these latencies by a factor of five from one minute to the next. So quiet and attack take turns in
//! slices of half a second, the rounds in which other machines took least count, and what is compared are the medians of their quiet
//! slices and of those under attack of one way: what comes and goes hits both alike, and a slice that was hit alone does not count for
//! more than one.
//!
//! Everything runs on one machine, on which each has processors of its own, as it would have elsewhere: the host half of them, the
//! twenty a quarter, the attackers a quarter. What the attackers cost is then what they cost the host. Needs `taskset` of util-linux,
//! four processors, and IPv6 on the loopback. Names of ways as arguments run only these. On a machine that others disturb much,
//! `HOLDFAST_BENCH_ROUNDS` is how many rounds are run at most for each way, 36 unless said.

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
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, Identity, Roots, ServerTls, ServerTlsConfig,
    Settings, Stream, Target, Timeouts, Way, dial,
};
use holdfast_test_measure::{Calmest, Quiet, again_on, median, processors, resident_bytes};
use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{Client, House, connect, hub};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::timeout};

/// The others, and the pace of each.
const OTHERS: usize = 20;
const PACE: Duration = Duration::from_millis(10);
/// How long is counted at once, in quiet and under attack.
const SLICE: Duration = Duration::from_millis(500);
/// How long the acknowledgements of a slice are waited for.
const LATE: Duration = Duration::from_millis(100);
/// Before it is counted, so that the attack is under way: as long as it takes until all attackers are there, and for those who say
/// nothing until places are taken from them.
const WARM: Duration = Duration::from_secs(1);
const WARM_SILENCE: Duration = Duration::from_secs(3);
/// Rounds that count for each way, each with a slice of either kind, and how many are run at most.
const ROUNDS: usize = 9;
const ROUNDS_MAX: usize = 36;
/// Connections that attack at once.
const AT_ONCE: usize = 64;
/// What an attack may add to the memory of the host: the connections that say nothing, the buffers of those that do, the
/// queues of those that do not read.
const GROWN_BYTES_MAX: u64 = 64 << 20;

/// Where the attackers dial, and where the others do. Whoever dials an address of 127.0.0.0/8 comes from 127.0.0.1, whichever it
/// is; so the others come over IPv6.
const OF_ATTACKERS: &str = "127.0.0.1";
const OF_OTHERS: &str = "::1";

/// Newcomers that are tried one after the other, and those at the address of the attackers, which may have to wait.
const NEWCOMERS: usize = 20;
const NEIGHBOURS: usize = 5;

/// Says that this process has its processors.
const PLACED: &str = "--placed";

const WAYS: [&str; 8] =
    ["silence", "handshakes", "endless", "lengths", "wildcards", "passwords", "tokens", "identity"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--as") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let port = arguments[at + 3].parse().unwrap();
        return runtime.unwrap().block_on(work(&arguments[at + 1], Path::new(&arguments[at + 2]), port));
    }
    if !arguments.iter().any(|argument| argument == PLACED) {
        let mut again = placed(Part::Host);
        std::process::exit(again.args(&arguments[1..]).arg(PLACED).status().unwrap().code().unwrap_or(1));
    }
    let chosen = |way: &&str| {
        let named = WAYS.iter().any(|way| arguments.iter().any(|argument| argument == way));
        !named || arguments.iter().any(|argument| argument == way)
    };
    let folder = tempfile::tempdir().unwrap();
    let (certificate, door) = papers(folder.path());
    let runtime = support::runtime();
    let house = runtime.block_on(House::at("[::]:0".parse().unwrap(), door));
    let port = house.address.port();
    let from = |address| std::net::TcpStream::connect((address, port)).unwrap().local_addr().unwrap().ip();
    assert_ne!(from(OF_ATTACKERS), from(OF_OTHERS), "the others share the address of the attackers");
    let me = |part: &str| start(part, &certificate, port);
    let mut others = Others::of(me("others"));
    let machine = Quiet::look();
    let rounds_max = std::env::var("HOLDFAST_BENCH_ROUNDS").map_or(ROUNDS_MAX, |n| n.parse().unwrap());
    for way in WAYS.into_iter().filter(chosen) {
        let rounds = Calmest::run(ROUNDS, rounds_max, || {
            let quiet = (others.slice(), connecting(me("newcomers")));
            let before = (resident_bytes("self"), house.counted());
            let mut attack = me(way);
            std::thread::sleep(if way == "silence" { WARM_SILENCE } else { WARM });
            let found = (others.slice(), connecting(me("newcomers")));
            let now = house.counted();
            let neighbours = said(me("neighbours"));
            attack.kill().unwrap();
            attack.wait().unwrap();
            let grown = resident_bytes("self").saturating_sub(before.0);
            println!(
                "  quiet {}, then {}; refused {}, protocol errors {}, pushed out {}, too late {}, messages in {}, open {}",
                quiet.0,
                found.0,
                now.connects_refused - before.1.connects_refused,
                now.protocol_errors - before.1.protocol_errors,
                now.connections_pushed_out - before.1.connections_pushed_out,
                now.connects_too_late - before.1.connects_too_late,
                now.messages_in - before.1.messages_in,
                now.connections
            );
            let end = Instant::now() + Duration::from_secs(20);
            while house.counted().connections > OTHERS as u64 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            Round { quiet, found, neighbours: (neighbours[0], neighbours[1]), grown }
        });
        println!("{way}: {}", verdict(&rounds));
    }
    machine.say();
}

/// What the twenty saw in a slice: the latency at half and at 99 of 100 messages, in microseconds, and the share of the processors
/// that other machines took meanwhile.
#[derive(Clone, Copy)]
struct Slice {
    half: u64,
    most: u64,
    stolen: f64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} us (taken {:.1} %)", self.half, self.most, self.stolen * 100.0)
    }
}

/// What one way of attacking cost once: what the twenty saw and how long a new client took, in quiet and under attack; how long one at
/// the attackers' address does, and how many of those were let in; what the memory has grown by.
struct Round {
    quiet: (Slice, u64),
    found: (Slice, u64),
    neighbours: (u64, u64),
    grown: u64,
}

fn verdict(rounds: &Calmest<Round>) -> String {
    let of = |what: fn(&Round) -> u64| rounds.median(what).unwrap();
    let times = |now: u64, then: u64| now as f64 / then as f64;
    let (half, quiet_half) = (of(|one| one.found.0.half), of(|one| one.quiet.0.half));
    let (most, quiet_most) = (of(|one| one.found.0.most), of(|one| one.quiet.0.most));
    let (half_times, most_times) = (times(half, quiet_half), times(most, quiet_most));
    let grown = rounds.slices.iter().map(|one| one.grown).max().unwrap_or_default();
    let holds = half_times <= 2.0 && most_times <= 2.0 && grown <= GROWN_BYTES_MAX;
    format!(
        "p50 {half} us, {half_times:.2} times {quiet_half}, p99 {most} us, {most_times:.2} times {quiet_most}; a new client is there in \
         {} us ({} in quiet), one beside the attackers in {} us ({} of {} let in); memory grown by {:.1} MiB; {}; of {rounds}",
        of(|one| one.found.1),
        of(|one| one.quiet.1),
        of(|one| one.neighbours.0),
        rounds.slices.iter().map(|one| one.neighbours.1).sum::<u64>(),
        rounds.slices.len() * NEIGHBOURS,
        grown as f64 / f64::from(1 << 20),
        if holds { "within the goals" } else { "OVER a goal" }
    )
}

/// The process of the twenty.
struct Others {
    _child: Child,
    ask: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Others {
    /// They are all connected when this returns.
    fn of(mut child: Child) -> Self {
        let (ask, hear) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut one = Self { _child: child, ask, hear };
        assert_eq!(one.line(), "ready");
        one
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// What they see from now on.
    fn slice(&mut self) -> Slice {
        let machine = Quiet::silently();
        self.ask.write_all(b"\n").unwrap();
        let line = self.line();
        let stolen = machine.stolen();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        Slice { half: numbers[0], most: numbers[1], stolen }
    }
}

fn papers(folder: &Path) -> (PathBuf, Door) {
    let made = rcgen::generate_simple_self_signed([OF_ATTACKERS.to_owned(), OF_OTHERS.to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let identity = Identity { certificates: certificate.clone(), key };
    let tls = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::Asked }).unwrap();
    (certificate, Door::Tls(tls))
}

/// Who has processors of its own.
#[derive(Clone, Copy)]
enum Part {
    Host,
    Others,
    Attackers,
}

/// This program again, on the processors of its part.
fn placed(part: Part) -> Command {
    let all = processors();
    assert!(all >= 4, "this machine has {all} processors; four are needed, so that each part has its own");
    again_on(match part {
        Part::Host => 0..all / 2,
        Part::Others => all / 2..all * 3 / 4,
        Part::Attackers => all * 3 / 4..all,
    })
    .unwrap()
}

/// This program again, as one of the parts.
fn start(part: &str, certificate: &Path, port: u16) -> Child {
    let is_attack = WAYS.contains(&part);
    let mut command = placed(if is_attack { Part::Attackers } else { Part::Others });
    command.args(["--as", part]).arg(certificate).arg(port.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn said(child: Child) -> Vec<u64> {
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// How long a new client needs, with handshake and proof, half of the times.
fn connecting(newcomers: Child) -> u64 {
    let found = said(newcomers);
    assert_eq!(found[1], NEWCOMERS as u64, "each is let in");
    found[0]
}

async fn work(part: &str, certificate: &Path, port: u16) {
    let from = if WAYS.contains(&part) || part == "neighbours" { OF_ATTACKERS } else { OF_OTHERS };
    let roots = Roots::File(certificate.to_owned());
    let tls = ClientTls::build(&ClientTlsConfig { roots, ..ClientTlsConfig::default() }).unwrap();
    let way = Way::Tls(tls);
    let door = Target::new(HostName::new(from).unwrap(), port, way, Settings::of_section("bench"));
    let door = Arc::new(door);
    match part {
        "others" => return others(&door).await,
        "newcomers" => return newcomers(&door, NEWCOMERS).await,
        "neighbours" => return newcomers(&door, NEIGHBOURS).await,
        _ => {}
    }
    let mut attackers = JoinSet::new();
    for n in 0..AT_ONCE {
        let (part, door) = (part.to_owned(), door.clone());
        attackers.spawn(async move {
            loop {
                // What becomes of one attempt is not the attacker's concern.
                let attempt = Box::pin(attack(&part, &door, port, n));
                let _ = timeout(Duration::from_secs(20), attempt).await;
                tokio::task::yield_now().await;
            }
        });
    }
    attackers.join_all().await;
}

/// One attempt, until the host has enough of it.
async fn attack(way: &str, door: &Target, port: u16, n: usize) -> Option<()> {
    let zeros = [0; 16 << 10];
    match way {
        "silence" => {
            // The head of a handshake, byte by byte.
            let mut all = Vec::new();
            for _ in 0..8 {
                all.push(TcpStream::connect((OF_ATTACKERS, port)).await.ok()?);
            }
            for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] {
                for stream in &mut all {
                    // One that was closed stays in the list until all are made anew.
                    let _ = stream.write_all(&[byte]).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        "handshakes" => drop(dial(door, Timeouts::default()).await.ok()?),
        "endless" => {
            let mut stream = dial(door, Timeouts::default()).await.ok()?;
            let header = if n.is_multiple_of(2) {
                [0x10, 0xff, 0xff, 0xff, 0x7f]
            } else {
                [0x10, 0x80, 0x80, 0x01, 0]
            };
            stream.write_all(&header).await.ok()?;
            loop {
                stream.write_all(&zeros).await.ok()?;
            }
        }
        "lengths" => {
            let mut client = greeted(door, &format!("lengths-{n}"), "press").await?;
            let header: &[u8] = match n % 3 {
                0 => &[0x30, 0xff, 0xff, 0xff, 0x7f],
                1 => &[0x32, 0xff, 0xff, 0x13],
                _ => &[0x82, 20, 0, 1, 0xff, 0xff, 0xff, 0x7f],
            };
            client.stream.write_all(header).await.ok()?;
            loop {
                client.stream.write_all(&zeros).await.ok()?;
            }
        }
        "wildcards" => {
            let mut client = greeted(door, &format!("wild-{n}"), "press").await?;
            let filter = |k: usize| format!("plant/{}#", "+/".repeat(k % 40));
            let subscriptions = (0..500).map(|k| Subscription::new(filter(k), QoS::AtMostOnce)).collect();
            let packet_id = PacketId::MIN;
            let subscribe =
                Subscribe { packet_id, subscription_id: None, user_properties: vec![], subscriptions };
            client.send(&Packet::Subscribe(Box::new(subscribe))).await;
            let mut bytes = BytesMut::new();
            for k in 0..32 {
                let topic = format!("plant/{}{n}", "x/".repeat(k));
                client.codec.encode(&Packet::Publish(Publish::new(topic, "flood")), &mut bytes).ok()?;
            }
            // What comes for it is not read.
            loop {
                client.stream.write_all(&bytes).await.ok()?;
            }
        }
        "passwords" => {
            let stream = dial(door, Timeouts::default()).await.ok()?;
            let mut client = Client::over(stream, Version::V311);
            let wrong =
                Connect { password: Some(format!("wrong {n}").into()), ..connect(Version::V311, "w") };
            client.send(&Packet::Connect(Box::new(wrong))).await;
            client.next().await;
        }
        "tokens" => {
            let stream = dial(door, Timeouts::default()).await.ok()?;
            let mut client = Client::over(stream, Version::V311);
            let password = Some(hub::sas_token(hub::HUB, "lathe", &[8; 32], 4_000_000_000).into());
            let wrong = Connect { password, ..hub::connect_device("lathe") };
            client.send(&Packet::Connect(Box::new(wrong))).await;
            client.next().await;
        }
        // One of the others by its client identifier, with a password that is right for somebody else.
        "identity" => drop(greeted(door, &format!("other-{}", n % OTHERS), "oven").await?),
        other => panic!("there is no way {other:?}"),
    }
    Some(())
}

async fn greeted(door: &Target, id: &str, user: &str) -> Option<Client<Stream>> {
    let mut client = Client::over(dial(door, Timeouts::default()).await.ok()?, Version::V5);
    let hello = Connect { user_name: Some(user.to_owned().into()), ..connect(Version::V5, id) };
    client.send(&Packet::Connect(Box::new(hello))).await;
    matches!(client.next().await, Some(Packet::ConnAck(ack)) if ack.reason == ReasonCode::Success)
        .then_some(client)
}

/// Publishes until nobody asks any more, and says for each slice that is asked for what it saw.
async fn others(door: &Arc<Target>) {
    let times: Arc<Mutex<Vec<(Instant, Duration)>>> = Arc::default();
    let mut all = JoinSet::new();
    for n in 0..OTHERS {
        let mut client = greeted(door, &format!("other-{n}"), "press").await.expect("it is let in");
        let times = times.clone();
        all.spawn(async move {
            let mut next = Instant::now() + PACE * n as u32 / OTHERS as u32;
            let local = PublishProperties {
                user_properties: vec![("local".into(), "1".into())],
                ..PublishProperties::default()
            };
            for packet_id in (1..=u16::MAX).cycle().map(PacketId::new) {
                tokio::time::sleep_until(next.into()).await;
                next += PACE;
                let publish = Publish {
                    qos: QoS::AtLeastOnce,
                    packet_id,
                    properties: Some(Box::new(local.clone())),
                    ..Publish::new("press/temperature", vec![7; 256])
                };
                let sent = Instant::now();
                client.send(&Packet::Publish(publish)).await;
                let ack = client.next().await;
                assert!(matches!(ack, Some(Packet::PubAck(_))), "{ack:?}");
                times.lock().unwrap().push((sent, sent.elapsed()));
            }
        });
    }
    let asked = tokio::task::spawn_blocking(move || {
        println!("ready");
        for _ in std::io::stdin().lines() {
            let begin = Instant::now();
            std::thread::sleep(SLICE + LATE);
            let mut all = std::mem::take(&mut *times.lock().unwrap());
            all.retain(|(sent, _)| (begin..begin + SLICE).contains(sent));
            let mut all: Vec<Duration> = all.into_iter().map(|(_, took)| took).collect();
            all.sort();
            let at = |share: usize| all[all.len() * share / 100].as_micros();
            println!("{} {}", at(50), at(99));
        }
    });
    tokio::select! {
        ended = asked => ended.unwrap(),
        failed = all.join_next() => panic!("one of the others has ended: {failed:?}"),
    }
}

/// How long half of them take at most, and how many are let in.
async fn newcomers(door: &Target, count: usize) {
    let mut times = Vec::new();
    for n in 0..count {
        let begin = Instant::now();
        let client = greeted(door, &format!("new-{n}"), "press").await;
        times.extend(client.as_ref().map(|_| begin.elapsed().as_micros() as u64));
    }
    println!("{} {}", median(&times).unwrap_or(0), times.len());
    // Whoever waits for it reads a pipe.
    std::io::stdout().flush().unwrap();
}
