//! The ways upstream compared: `cargo bench -p holdfast-upstream --bench ways -- drain [messages]`, and
//! `… -- outage [seconds [tls | quic]]` and `… -- alarm [number [tls | quic]]`, which need Linux, `unshare`, `ip` and `python3`.
//!
//! `drain`: a backlog leaves by each way to a receiver on this machine that acknowledges all it reads; the rate, and the
//! CPU time of both sides for each message. `outage`: over a path with a round trip of 50 ms that loses 2 % of the packets
//! of each direction, how long after an outage the first message is at the receiver, and how many bytes of messages pass
//! in a second. `alarm`: over a path of 400 kB/s with a round trip of 50 ms, how long an alarm takes to its acknowledgement
//! when nothing else is under way, and behind a backlog. Each row ends in what it is of the row for TLS, or of what is wanted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

#[path = "../../net/tests/authority/mod.rs"]
mod authority;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/edge.rs"]
mod edge;
#[path = "support/receiver.rs"]
mod receiver;

use authority::{Authority, VALID};
use edge::Edge;
use holdfast_mqtt::Version;
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, QuicTls, Roots, ServerTls, ServerTlsConfig,
    Settings, Target, Way,
};
use holdfast_upstream::{Place, Upstream, UpstreamConfig};
use receiver::Receiver;
use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const BODY_BYTES: usize = 256;
/// A backlog that takes a path with losses some ten seconds.
const GOODPUT_MESSAGES: u64 = 60_000;
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Of the path for alarms, bytes in a second.
const RATE: u32 = 400_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let number = words.get(1).and_then(|word| word.parse().ok());
    match words.first().map(String::as_str) {
        Some("outage" | "alarm") => in_a_network_of_its_own(&words),
        Some("alarm-inside") => alarm(number.unwrap_or(30), words.get(2).map(String::as_str)),
        Some("outage-inside") => outage(number.unwrap_or(60), words.get(2).map(String::as_str)),
        _ => drain(number.unwrap_or(300_000)),
    }
}

struct Ways {
    home: Authority,
}

impl Ways {
    fn door(&self, name: &str) -> Door {
        let secure = || {
            let identity = self.home.issue("localhost", VALID);
            ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::None }).unwrap()
        };
        match name {
            "tcp" => Door::Tcp,
            "tls" => Door::Tls(secure()),
            "wss" => Door::WebSocketTls(secure()),
            _ => Door::Quic(secure()),
        }
    }

    fn target(&self, name: &str, address: SocketAddr) -> Target {
        let config = ClientTlsConfig {
            roots: Roots::File(self.home.root()),
            server_name: Some(HostName::new("localhost").unwrap()),
            ..ClientTlsConfig::default()
        };
        let tls = || ClientTls::build(&config).unwrap();
        let way = match name {
            "tcp" => Way::Tcp,
            "tls" => Way::Tls(tls()),
            "wss" => Way::WebSocketTls(tls(), "/mqtt".into()),
            _ => Way::Quic(QuicTls::build(&config).unwrap()),
        };
        Target::new(HostName::Ip(address.ip()), address.port(), way, Settings::of_section("upstream"))
    }
}

/// A link in a thread of its own, so that its CPU time is told apart.
struct Link {
    stop: CancellationToken,
    thread: thread::JoinHandle<()>,
}

impl Link {
    fn begin(edge: &Edge, target: Target, window: u16) -> Self {
        let config = UpstreamConfig { window, ..UpstreamConfig::new(vec![Place::of(target)], "edge-1") };
        let (stop, broker) = (CancellationToken::new(), edge.broker.clone());
        let token = stop.clone();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                Upstream::build(config, &broker).unwrap().spawn(token).finished().await.unwrap();
            });
        };
        Self { stop, thread: thread::Builder::new().name("link".into()).spawn(run).unwrap() }
    }

    fn end(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }
}

fn drain(messages: u64) {
    let ways = Ways { home: Authority::new("home") };
    let mut of_tls = 1.0;
    println!("{messages} messages of {BODY_BYTES} B, window 1024");
    for name in ["tls", "tcp", "wss", "quic"] {
        let edge = Edge::new();
        edge.fill(messages, BODY_BYTES);
        let receiver = Receiver::behind("127.0.0.1:0".parse().unwrap(), ways.door(name), Version::V5);
        let (begun, before) = (Instant::now(), cpu::by_thread());
        let link = Link::begin(&edge, ways.target(name, receiver.address), 1024);
        edge.drained();
        let (rate, after) = (messages as f64 / begun.elapsed().as_secs_f64(), cpu::by_thread());
        let of = |thread: &str| {
            let of = |all: &[(String, f64)]| all.iter().find(|(n, _)| n == thread).map_or(0.0, |(_, s)| *s);
            (of(&after) - of(&before)) * 1e6 / messages as f64
        };
        let (edge_us, receiver_us) = (of("link"), of("receiver"));
        if name == "tls" {
            of_tls = rate;
        }
        println!(
            "  {name:5} {rate:9.0} msg/s  link {edge_us:5.2} us, receiver {receiver_us:5.2} us CPU per message  {:.2} x tls",
            rate / of_tls
        );
        link.end();
    }
}

fn in_a_network_of_its_own(words: &[String]) {
    let mut inside = vec!["-rn".to_owned(), std::env::current_exe().unwrap().display().to_string()];
    inside.push(format!("{}-inside", words[0]));
    inside.extend(words.iter().skip(1).cloned());
    let status = Command::new("unshare").args(inside).status().expect("unshare (of util-linux) runs");
    assert!(status.success());
}

struct Path {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Path {
    fn new(lost_of_1000: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/support/lossy_path.py");
        let delay_ms = ROUND_TRIP.as_millis() / 2;
        let mut child = Command::new("python3")
            .args([script, &delay_ms.to_string(), &lost_of_1000.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut path = Self { child, input, output };
        assert_eq!(path.answer(), "ready");
        path
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
        assert_eq!(self.answer(), "ok");
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn outage(seconds: u64, only: Option<&str>) {
    let ways = Ways { home: Authority::new("home") };
    let mut path = Path::new(20);
    println!("round trip {ROUND_TRIP:?}, 2 % lost each way");
    let mut of_tls: Option<f64> = None;
    for name in ["tls", "quic"].into_iter().filter(|name| only.is_none_or(|only| only == *name)) {
        let edge = Edge::new();
        let receiver = Receiver::behind("10.99.0.1:0".parse().unwrap(), ways.door(name), Version::V5);
        let through = SocketAddr::from(([10, 99, 0, 2], receiver.address.port()));
        let link = Link::begin(&edge, ways.target(name, through), 1024);
        edge.fill(100, BODY_BYTES);
        receiver.has(100);

        let begun = Instant::now();
        edge.fill(GOODPUT_MESSAGES, BODY_BYTES);
        edge.drained();
        let goodput = (GOODPUT_MESSAGES * BODY_BYTES as u64) as f64 / begun.elapsed().as_secs_f64();
        if name == "tls" {
            of_tls = Some(goodput);
        }
        let ratio = of_tls.map(|tls| format!("  {:.2} x tls", goodput / tls)).unwrap_or_default();
        println!("  {name:5} goodput {goodput:8.0} B/s of bodies{ratio}");

        path.tell("cut");
        edge.fill(10, BODY_BYTES);
        thread::sleep(Duration::from_secs(seconds));
        let before = receiver.count();
        path.tell("mend");
        let mended = Instant::now();
        receiver.has(before + 1);
        let took = mended.elapsed();
        let wanted =
            if name == "quic" { ROUND_TRIP + Duration::from_millis(100) } else { Duration::from_secs(1) };
        println!(
            "  {name:5} first message {:4} ms after an outage of {seconds} s  {:.2} x the {} ms wanted",
            took.as_millis(),
            took.as_secs_f64() / wanted.as_secs_f64(),
            wanted.as_millis()
        );
        edge.drained();
        link.end();
    }
}

/// Sorted, in milliseconds: the median, nine of ten, the longest.
fn spread(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    [at(50), at(90), at(100)]
}

fn alarm(alarms: u64, only: Option<&str>) {
    let ways = Ways { home: Authority::new("home") };
    println!("{RATE} B/s, round trip {ROUND_TRIP:?}; ms to the acknowledgement (median, 9 of 10, longest)");
    for (lost_of_1000, name) in [(0, "tls"), (0, "quic"), (20, "tls"), (20, "quic")]
        .into_iter()
        .filter(|(_, name)| only.is_none_or(|only| only == *name))
    {
        let mut path = Path::new(lost_of_1000);
        path.tell(&format!("rate {RATE}"));
        let edge = Edge::with_alarms();
        let receiver = Receiver::behind("10.99.0.1:0".parse().unwrap(), ways.door(name), Version::V5);
        let through = SocketAddr::from(([10, 99, 0, 2], receiver.address.port()));
        let link = Link::begin(&edge, ways.target(name, through), 4096);
        let one = || {
            // Not in step with anything on the path.
            thread::sleep(Duration::from_millis(211));
            let begun = Instant::now();
            edge.alarm();
            let arrived = receiver.last_alarm().unwrap();
            (arrived - begun, begun.elapsed())
        };
        one();
        let quiet = spread((0..alarms.min(10)).map(|_| one().1).collect());
        edge.fill(alarms * 1500, BODY_BYTES);
        thread::sleep(Duration::from_secs(3));
        let (begun, before) = (Instant::now(), receiver.count());
        let (arrived, acknowledged) = (0..alarms).map(|_| one()).unzip::<_, _, Vec<_>, Vec<_>>();
        let carried =
            ((receiver.count() - before) * BODY_BYTES as u64) as f64 / begun.elapsed().as_secs_f64();
        let behind = spread(acknowledged);
        println!(
            "  {name:5} {:.0} % lost: alone {quiet:4.0?}, behind bulk {behind:4.0?}, of it until it was there {:4.0?}; {carried:.0} B/s of bodies; {:.2} x the {:.0} ms wanted",
            f64::from(lost_of_1000) / 10.0,
            spread(arrived),
            behind[0] / (quiet[0] * 2.0 + 50.0),
            quiet[0] * 2.0 + 50.0,
        );
        link.end();
    }
}
