//! NATS servers of the tests: on free ports of this machine, in folders that go with them.
#![allow(dead_code, reason = "each test uses its part")]

use holdfast_jetstream::JetStreamConfig;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The one that was asked for, or the one on the path.
fn program() -> PathBuf {
    std::env::var_os("HOLDFAST_TEST_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

/// Ports below those that systems give to clients, so that none is taken again while a server is away; each process begins
/// elsewhere.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut held = Vec::new();
    while held.len() < count {
        let nth = std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(nth % 20_000).unwrap();
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    held.iter().map(|port| port.local_addr().unwrap().port()).collect()
}

struct Server {
    port: u16,
    config: PathBuf,
    process: Option<Child>,
}

/// How a hub is told of servers that keep so many copies.
pub fn config(servers: Vec<String>, replicas: usize) -> JetStreamConfig {
    JetStreamConfig {
        servers,
        user: None,
        ca_file: None,
        certificate: None,
        replicas,
        prefix: "holdfast".to_owned(),
        age_max: None,
        bytes_max: None,
        snapshot_after: holdfast_jetstream::SNAPSHOT_AFTER,
    }
}

/// Servers of one cluster.
pub struct Nats {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

impl Nats {
    /// So many servers as one cluster; each answers when this returns.
    pub fn start(count: usize) -> Self {
        Self::with(count, "")
    }

    /// The same, with more lines of configuration.
    pub fn with(count: usize, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let (clients, routes) = ports.split_at(count);
        let all: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut nats = Self { dir, servers: Vec::new() };
        for (at, (port, route)) in clients.iter().zip(routes).enumerate() {
            let folder = nats.dir.path().join(format!("n{at}"));
            let cluster = match count {
                1 => String::new(),
                _ => format!(
                    "cluster {{ name: c{}, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                    std::process::id(),
                    all.join(", ")
                ),
            };
            let jetstream = if more.contains("no-jetstream") {
                String::new()
            } else {
                format!("jetstream {{ store_dir: {folder:?} }}")
            };
            let more = more.replace("no-jetstream", "");
            let text =
                format!("server_name: n{at}\nlisten: \"127.0.0.1:{port}\"\n{jetstream}\n{cluster}\n{more}\n");
            let config = nats.dir.path().join(format!("n{at}.conf"));
            std::fs::write(&config, text).unwrap();
            nats.servers.push(Server { port: *port, config, process: None });
            nats.start_one(at);
        }
        (0..count).for_each(|at| nats.answers(at));
        nats
    }

    /// Starts a server that is not running.
    pub fn start_one(&mut self, at: usize) {
        let log = std::fs::File::create(self.dir.path().join(format!("n{at}.log"))).unwrap();
        let server = &mut self.servers[at];
        let child = Command::new(program())
            .arg("-c")
            .arg(&server.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server 2.11 or newer is on the path, or HOLDFAST_TEST_NATS_SERVER names it");
        server.process = Some(child);
    }

    fn answers(&self, at: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        let port = self.servers[at].port;
        while Instant::now() < end {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut begin = [0; 4];
                if stream.read_exact(&mut begin).is_ok() && &begin == b"INFO" {
                    let _ = stream.write_all(b"PING\r\n");
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.dir.path().join(format!("n{at}.log"))).unwrap_or_default();
        panic!("nats-server {at} does not answer:\n{log}");
    }

    /// Kills a server as a power cut does.
    pub fn kill(&mut self, at: usize) {
        let mut process = self.servers[at].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The processes that run.
    pub fn processes(&self) -> Vec<u32> {
        self.servers.iter().filter_map(|server| Some(server.process.as_ref()?.id())).collect()
    }

    /// Where they are.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.port)).collect()
    }

    /// How a hub is told of them.
    pub fn config(&self) -> JetStreamConfig {
        config(self.urls(), self.servers.len())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(mut process) = server.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
