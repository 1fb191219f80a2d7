//! What an idle device costs: `cargo bench -p holdfast-gateway --bench idle_tls`.
//!
//! Opens connections with TLS, each with a session that stays and a subscription, and says how much memory the host has
//! for each. Then all of them break at once and come back, as fast as they can: how many each second, and what the host takes
//! meanwhile besides what it has afterwards. The clients are processes of their own, so that the memory and
//! the CPU time of this one are the host's. `HOLDFAST_BENCH_CONNECTIONS` is how many, 10,000 unless said; as many files
//! must be allowed (`ulimit -n`).

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

use holdfast_gateway::Limits;
use holdfast_mqtt::{ReasonCode, Version};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, Identity, Roots, ServerTls, ServerTlsConfig,
    Settings, Target, Timeouts, Way, dial,
};
use holdfast_test_measure::{cpu_time, resident_bytes, resident_bytes_max};
use holdfast_types::WhenFull;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use support::{Client, House, connect};
use tokio::{sync::Semaphore, task::JoinSet};

/// Client processes; each has its part of the connections.
const PROCESSES: usize = 4;

/// Handshakes that one client process has under way.
const AT_ONCE: usize = 32;

/// What a connection may cost.
const GOAL_BYTES: f64 = 30.0 * 1024.0;

/// Reconnects each second that are to be absorbed, and what the host may take for them: 64 KiB for each that may wait to be let
/// in.
const STORM_RATE: f64 = 1000.0;
const STORM_BYTES: u64 = 64 << 20;

/// Clients that may wait to be let in.
const UNGREETED: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "devices") {
        let number = |n: usize| arguments[at + n].parse().unwrap();
        devices(Path::new(&arguments[at + 1]), number(2) as u16, number(3), number(4));
        return;
    }
    let all: usize = std::env::var("HOLDFAST_BENCH_CONNECTIONS").map_or(10_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, door) = papers(folder.path());
    let limits = Limits {
        connections_max: all * 2,
        sessions_max: all * 2,
        ungreeted_max: UNGREETED,
        ungreeted_per_address_max: UNGREETED,
        connect_time_max: Duration::from_secs(60),
        ..Limits::default()
    };
    let runtime = support::runtime();
    let house = runtime.block_on(House::behind(door, limits, WhenFull::Block, 1 << 30));
    let mut crowd: Vec<Crowd> =
        (0..PROCESSES).map(|n| Crowd::start(&certificate, &house, n, all / PROCESSES)).collect();
    let expected = (all / PROCESSES * PROCESSES) as u64;

    // The first connections bring what is there once: threads, buffers of the allocator.
    let empty = resident_bytes("self");
    for (what, word) in [("connect", "open"), ("reconnect", "again")] {
        let (start, cpu) = (Instant::now(), cpu_time("self"));
        crowd.iter_mut().for_each(|one| one.say(word));
        crowd.iter_mut().for_each(Crowd::hear);
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), (cpu_time("self") - cpu).as_secs_f64());
        let counted = house.counted();
        assert_eq!(counted.connections, expected, "{counted:?}");
        let each = (resident_bytes("self") - empty) as f64 / expected as f64;
        println!(
            "{what}: {expected} in {seconds:.1} s ({:.0} each second, {:.0} us of CPU each); resident {:.1} KiB each, peak {} MiB",
            expected as f64 / seconds,
            cpu * 1e6 / expected as f64,
            each / 1024.0,
            resident_bytes_max("self") >> 20,
        );
        println!(
            "  {} the goal of {:.0} KiB",
            if each <= GOAL_BYTES { "within" } else { "OVER" },
            GOAL_BYTES / 1024.0
        );
        let (rate, over) =
            (expected as f64 / seconds, resident_bytes_max("self").saturating_sub(resident_bytes("self")));
        println!(
            "  {} the goals of {STORM_RATE} each second and {} MiB besides: {rate:.0} and {:.1}",
            if rate >= STORM_RATE && over <= STORM_BYTES { "within" } else { "OVER" },
            STORM_BYTES >> 20,
            over as f64 / f64::from(1 << 20),
        );
    }
}

fn papers(folder: &Path) -> (PathBuf, Door) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let identity = Identity { certificates: certificate.clone(), key };
    let tls = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::Asked }).unwrap();
    (certificate, Door::Tls(tls))
}

/// A process full of devices.
struct Crowd {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Crowd {
    fn start(certificate: &Path, house: &House, number: usize, count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("devices")
            .arg(certificate)
            .args([house.address.port().to_string(), number.to_string(), count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.to, "{word}").unwrap();
    }

    fn hear(&mut self) {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done", "a client process failed; are as many files allowed (ulimit -n)?");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: opens its connections at each word, after it has broken those before.
fn devices(certificate: &Path, port: u16, number: usize, count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let roots = Roots::File(certificate.to_owned());
    let way = Way::Tls(ClientTls::build(&ClientTlsConfig { roots, ..ClientTlsConfig::default() }).unwrap());
    let host = HostName::new("localhost").unwrap();
    let target = Arc::new(Target::new(host, port, way, Settings::of_section("bench")));
    let mut open = Vec::new();
    for (round, line) in std::io::stdin().lines().enumerate() {
        assert!(!line.unwrap().is_empty());
        open.clear();
        open = runtime.block_on(async {
            let (turns, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
            for n in 0..count {
                let (turns, target) = (turns.clone(), target.clone());
                tasks.spawn(async move {
                    let _turn = turns.acquire_owned().await.unwrap();
                    let stream = dial(&target, Timeouts::default()).await.unwrap();
                    let mut client = Client::over(stream, Version::V311);
                    let mut hello = connect(Version::V311, &format!("device-{number}-{n}"));
                    hello.clean_start = false;
                    hello.keep_alive_s = 600;
                    assert_eq!(client.connect(hello).await.reason, ReasonCode::Success);
                    if round == 0 {
                        client.subscribe(&format!("plant/device-{number}-{n}/#"), 1).await;
                    }
                    client
                });
            }
            tasks.join_all().await
        });
        println!("done");
    }
}
