//! A hub as a process of its own: the program of the benchmark again, with a gateway, and its store in a folder.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use holdfast_auth::{DeviceRules, Registry, Sealer, SharedKey};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_gateway::{Gateway, GatewayConfig, Limits};
use holdfast_hub::{
    Hub, HubConfig,
    backend::{Embedded, EmbeddedConfig, Origin},
};
use holdfast_link::{Access, IdentityRecord, Proof, Secret};
use holdfast_net::{
    ClientTls, ClientTlsConfig, Door, HostName, ListenConfig, PlainTcp, QuicTls, Roots, ServerTls,
    ServerTlsConfig, Settings, Target, Way,
};
use holdfast_routes::RouteTable;
use holdfast_store::{StoreConfig, SystemClock};
use holdfast_types::{Identity, Name};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// What every edge proves itself with.
pub const KEY: [u8; 32] = [7; 32];

/// What the hub is called in tokens.
pub const HUB: &str = "hub";

/// The word that makes the program a hub.
const WORD: &str = "hub";

/// Devices that are added at once, so that they share commits.
const ADDED_AT_ONCE: usize = 500;

/// The words of the command line, without those of cargo.
pub fn words() -> Vec<String> {
    std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect()
}

/// Is a hub, if this process was started as one, and does not return then.
pub fn be_a_hub() {
    if let [word, way, folder, certificates, edges] = &words()[..]
        && word == WORD
    {
        serve(way, Path::new(folder), Path::new(certificates), edges.parse().unwrap());
    }
}

fn record(who: String, edge: bool, parent: Option<&str>) -> IdentityRecord {
    let key = SharedKey::new(&KEY).unwrap().expose();
    IdentityRecord {
        identity: Identity::parse(&who).unwrap(),
        proof: if edge { Proof::Sas { primary: Secret(key), secondary: None } } else { Proof::None },
        status: Access::Enabled,
        parent: parent.map(|parent| Name::new(parent).unwrap()),
        generation: "1".into(),
        edge,
    }
}

/// Says where it listens, and answers a line with how many events there are, when it has seen that those of each edge are in order.
#[tokio::main(flavor = "multi_thread")]
async fn serve(way: &str, folder: &Path, certificates: &Path, edges: usize) {
    let identity = holdfast_net::Identity {
        certificates: certificates.join("localhost-2100.certificate.pem"),
        key: certificates.join("localhost-2100.key.pem"),
    };
    let tls =
        ServerTls::build(&ServerTlsConfig { identity, clients: holdfast_net::ClientAuth::None }).unwrap();
    let door = match way {
        "tls" => Door::Tls(tls),
        "wss" => Door::WebSocketTls(tls),
        _ => Door::Quic(tls),
    };
    let clock = Arc::new(SystemClock::new());
    let (store, _) = holdfast_store::open(StoreConfig::new(folder), clock.clone()).unwrap();
    let routes = RouteTable::compile(Vec::new()).unwrap();
    let name = Name::new(HUB).unwrap();
    let broker =
        Broker::new(BrokerConfig { edge: name.clone(), routes, time_to_live: None }, store.clone(), clock);
    let registry = Registry::new([], [1; 32]).unwrap_or_else(|_| panic!("no users, no faults"));
    let rules = DeviceRules { hosts: vec![HUB.to_owned()], ..DeviceRules::default() };
    let registry = Arc::new(registry.with_rules(rules));
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
    let names: Vec<String> = (1..=edges).map(|number| format!("edge-{number}")).collect();
    for some in names.chunks(ADDED_AT_ONCE) {
        let mut added = tokio::task::JoinSet::new();
        for name in some {
            let (hub, record) = (hub.clone(), record(name.clone(), true, None));
            added.spawn(async move { hub.put_device(record).await.unwrap() });
        }
        added.join_all().await;
    }
    hub.put_device(record("meter".to_owned(), false, Some("edge-1"))).await.unwrap();
    let (plain, settings) = (PlainTcp::LoopbackOnly, Settings::of_section("gateway"));
    let listen = vec![ListenConfig { address: "127.0.0.1:0".parse().unwrap(), door, plain, settings }];
    // As `holdfast hub init` has it; but all edges come from one address here, as if each had one of its own.
    let usual = Limits::default();
    let limits = Limits {
        connections_max: 20_000,
        ungreeted_per_address_max: usual.ungreeted_max + 1,
        unacked_max: 4096,
        window_max: 4096,
        ..usual
    };
    let config = GatewayConfig { listen, limits, content_type: None, anonymous: None, instance: 1 };
    let gateway = Gateway::bind_as_hub(config, broker, registry, hub.clone(), hub.clone()).await.unwrap();
    println!("{}", gateway.addresses()[0].port());
    tokio::spawn(gateway.run(CancellationToken::new()));
    let lines = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    lines.await.unwrap();
    let (mut at, mut next, mut count) = (0, HashMap::<Name, u64>::new(), 0_u64);
    loop {
        let read = hub.events(at, 10_000, 16 << 20).await.unwrap();
        if read.events.is_empty() {
            break;
        }
        for (_, event) in &read.events {
            let Origin::Edge(id) = &event.origin else { panic!("not of an edge's log") };
            let next = next.entry(id.edge.clone()).or_default();
            assert_eq!(id.sequence.0, *next, "each of {} once, and in order", id.edge);
            *next += 1;
            count += 1;
        }
        at = read.next;
    }
    println!("{count}");
    std::process::exit(0);
}

pub struct HubProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where edges connect.
    pub port: u16,
}

impl HubProcess {
    /// One that knows so many edges, with a door for this way, in this folder.
    pub fn start(way: &str, folder: &Path, certificates: &Path, edges: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([WORD, way])
            .args([folder, certificates])
            .arg(edges.to_string())
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

    /// Its number.
    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// How many events it has; it ends with that.
    pub fn events(mut self) -> u64 {
        writeln!(self.input, "events").unwrap();
        let events = self.line().parse().unwrap();
        self.child.wait().unwrap();
        events
    }
}

/// Where the hub listens, for an edge.
pub fn target(way: &str, port: u16, root: &Path) -> Target {
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
