//! A backlog of a real edge side drains into a real hub: `cargo bench -p holdfast-hub --bench drain -- [messages]`.
//!
//! The hub is a process of its own, this program again, with its gateway and its store in a folder. The edge side has a store with so many messages of 256 bytes, and one link over each way in turn, with a window
//! of 4096. What is printed is the rate from the first message to the last acknowledgement recorded, and what a message costs
//! each side in time of processors. In the end every message must stand in the stream once, in order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement fails loudly and prints"
)]

#[path = "../../net/tests/authority/mod.rs"]
mod authority;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "../../upstream/benches/support/edge.rs"]
mod edge;

use authority::{Authority, VALID};
use cpu::cpu_time;
use edge::Edge;
use holdfast_auth::{Registry, Sealer, SharedKey};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_gateway::{Gateway, GatewayConfig, Limits};
use holdfast_hub::{
    Hub, HubConfig,
    backend::{Embedded, EmbeddedConfig, Origin},
};
use holdfast_link::{Access, IdentityRecord, Proof, Secret};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, ListenConfig, PlainTcp, QuicTls, Roots,
    ServerTls, ServerTlsConfig, Settings, Target, Way,
};
use holdfast_routes::RouteTable;
use holdfast_store::{StoreConfig, SystemClock};
use holdfast_types::{Identity, Name};
use holdfast_upstream::{Keeper, Kept, Known, Place, Sync, Upstream, UpstreamConfig};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const BODY_BYTES: usize = 256;
const KEY: [u8; 32] = [7; 32];
const WAYS: [&str; 3] = ["tls", "wss", "quic"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.first().map(String::as_str) {
        Some("hub") => hub(&words[1], Path::new(&words[2]), Path::new(&words[3])),
        _ => drain(words.first().and_then(|word| word.parse().ok()).unwrap_or(1_000_000)),
    }
}

/// The hub's end: says where it listens, and answers `events` with how many there are, and whether they are in order.
#[tokio::main(flavor = "multi_thread")]
async fn hub(way: &str, folder: &Path, certificates: &Path) {
    let identity = holdfast_net::Identity {
        certificates: certificates.join("localhost-2100.certificate.pem"),
        key: certificates.join("localhost-2100.key.pem"),
    };
    let tls = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::None }).unwrap();
    let door = match way {
        "tls" => Door::Tls(tls),
        "wss" => Door::WebSocketTls(tls),
        _ => Door::Quic(tls),
    };
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(StoreConfig::new(folder), clock.clone()).unwrap();
    let routes = RouteTable::compile(Vec::new()).unwrap();
    let name = Name::new("hub").unwrap();
    let broker =
        Broker::new(BrokerConfig { edge: name.clone(), routes, time_to_live: None }, store.clone(), clock);
    let registry = Arc::new(Registry::new([], [1; 32]).unwrap_or_else(|_| panic!("no users, no faults")));
    let hub = Hub::open(HubConfig {
        name,
        backend: Arc::new(Embedded::open(store, EmbeddedConfig::default()).unwrap()),
        registry: registry.clone(),
        sealer: Sealer::new(&KEY),
        broker: broker.clone(),
        peers: None,
    })
    .await
    .unwrap();
    let key = SharedKey::new(&KEY).unwrap().expose();
    hub.put_device(IdentityRecord {
        identity: Identity::parse("edge-1").unwrap(),
        proof: Proof::Sas { primary: Secret(key), secondary: None },
        status: Access::Enabled,
        parent: None,
        generation: "1".into(),
        edge: true,
    })
    .await
    .unwrap();
    let meter = IdentityRecord {
        identity: Identity::parse("meter").unwrap(),
        proof: Proof::None,
        status: Access::Enabled,
        parent: Some(Name::new("edge-1").unwrap()),
        generation: "1".into(),
        edge: false,
    };
    hub.put_device(meter).await.unwrap();
    let (plain, settings) = (PlainTcp::LoopbackOnly, Settings::of_section("gateway"));
    let listen = vec![ListenConfig { address: "127.0.0.1:0".parse().unwrap(), door, plain, settings }];
    let limits = Limits { unacked_max: 4096, window_max: 4096, ..Limits::default() };
    let config = GatewayConfig { listen, limits, content_type: None, anonymous: None, instance: 1 };
    let gateway = Gateway::bind_as_hub(config, broker, registry, hub.clone(), hub.clone()).await.unwrap();
    println!("{}", gateway.addresses()[0].port());
    tokio::spawn(gateway.run(CancellationToken::new()));
    let lines = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    lines.await.unwrap();
    let (mut at, mut expected) = (0, 0);
    loop {
        let read = hub.events(at, 10_000, 16 << 20).await.unwrap();
        if read.events.is_empty() {
            break;
        }
        for (_, event) in &read.events {
            let Origin::Edge(id) = &event.origin else { panic!("not of the edge's log") };
            assert_eq!(id.sequence.0, expected, "once, and in order");
            expected += 1;
        }
        at = read.next;
    }
    println!("{expected}");
    std::process::exit(0);
}

struct HubProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl HubProcess {
    fn start(way: &str, folder: &Path, certificates: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["hub", way])
            .args([folder, certificates])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut hub = Self { child, input, output, port: 0 };
        hub.port = hub.line().parse().unwrap();
        hub
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// How many events it has; it ends with that.
    fn events(mut self) -> u64 {
        writeln!(self.input, "events").unwrap();
        let events = self.line().parse().unwrap();
        self.child.wait().unwrap();
        events
    }
}

/// Keeps what the hub decides in memory.
#[derive(Default)]
struct Notes(Mutex<Known>);

impl Keeper for Notes {
    fn known(&self) -> Known {
        self.0.lock().unwrap().clone()
    }

    fn apply(&self, sync: Sync) -> Kept<'_, Vec<Identity>> {
        Box::pin(async move {
            *self.0.lock().unwrap() = sync.known;
            Ok(Vec::new())
        })
    }
}

fn target(way: &str, port: u16, root: &Path) -> Target {
    let config = ClientTlsConfig {
        roots: Roots::File(root.to_owned()),
        server_name: Some(HostName::new("localhost").unwrap()),
        ..ClientTlsConfig::default()
    };
    let tls = || ClientTls::build(&config).unwrap();
    let way = match way {
        "tls" => Way::Tls(tls()),
        "wss" => Way::WebSocketTls(tls(), "/mqtt".into()),
        _ => Way::Quic(QuicTls::build(&config).unwrap()),
    };
    Target::new(HostName::new("127.0.0.1").unwrap(), port, way, Settings::of_section("upstream"))
}

fn drain(messages: u64) {
    let home = Authority::new("home");
    home.issue("localhost", VALID);
    let certificates = home.root().parent().unwrap().to_owned();
    println!("{messages} messages of {BODY_BYTES} B, window 4096, hub and edge on one machine");
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let hub = HubProcess::start(way, folder.path(), &certificates);
        let edge = Edge::new();
        edge.fill(messages, BODY_BYTES);
        let (begun, own, other) = (Instant::now(), cpu_time("self"), cpu_time(&hub.child.id().to_string()));
        let (stop, broker, place) =
            (CancellationToken::new(), edge.broker.clone(), target(way, hub.port, &home.root()));
        let token = stop.clone();
        let link = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let hub = holdfast_upstream::HubConfig {
                    hub: "hub".into(),
                    key: Some(SharedKey::new(&KEY).unwrap()),
                    token_life: Duration::from_secs(3600),
                    keeper: Arc::new(Notes::default()),
                };
                let config = UpstreamConfig {
                    window: 4096,
                    hub: Some(hub),
                    ..UpstreamConfig::new(vec![Place::of(place)], "edge-1")
                };
                Upstream::build(config, &broker).unwrap().spawn(token).finished().await.unwrap();
            });
        });
        edge.drained();
        let took = begun.elapsed().as_secs_f64();
        let micros = |used: Duration| used.as_secs_f64() * 1e6 / messages as f64;
        let own = micros(cpu_time("self") - own);
        let other = micros(cpu_time(&hub.child.id().to_string()) - other);
        stop.cancel();
        link.join().unwrap();
        assert_eq!(hub.events(), messages, "each message once, in order");
        let rate = messages as f64 / took;
        println!(
            "  {way:5} {rate:9.0} msg/s  {:.2} x the 100,000 wanted; edge {own:5.2} us, hub {other:5.2} us of CPU per message",
            rate / 100_000.0
        );
    }
}
