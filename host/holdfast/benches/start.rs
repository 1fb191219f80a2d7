//! What a start costs, and what the program holds at rest: `cargo bench -p holdfast --bench start`.
//!
//! An edge with a gateway and the four modules that come with the project, whose compiled code is in the cache. It is started, and
//! killed as soon as a module has handled a message, so that each start but the first also recovers the store. Then it is left to
//! itself for a while with each profile, and its memory is read. Prints a table; fails nothing.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use holdfast_api::{Client, Item, ModuleItem, Request};
use holdfast_test_measure::{Calmest, Quiet, median, resident_bytes};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MODULES: [&str; 4] = ["host-metrics", "simulator", "threshold", "window"];

/// Starts that count, and the most that are made for them.
const STARTS: usize = 20;
const STARTS_MAX: usize = 100;

/// What a start may take to the first message, and the program at rest.
const GOAL_MS: f64 = 150.0;
const GOAL_MIB: f64 = 40.0;

/// How long it is left to itself before its memory is read: what a start needed has been given back.
const REST: Duration = Duration::from_secs(10);

/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let runtime = Runtime::new().unwrap();
    let quiet = Quiet::look();
    starts(&runtime);
    for profile in ["standard", "small"] {
        at_rest(&runtime, profile);
    }
    quiet.say();
}

fn starts(runtime: &Runtime) {
    // The first reading leaves as soon as the timer of the simulator may run out.
    let edge = Edge::new("standard", "period = \"10ms\"");
    let (first, _) = runtime.block_on(edge.start());
    println!("first start, which compiles the modules: a message is handled after {} ms", ms(first));
    let calmest = Calmest::run(STARTS, STARTS_MAX, || runtime.block_on(edge.start()));
    let handled = calmest.median(|(handled, _)| *handled).unwrap();
    let listening = calmest.median(|(_, listening)| *listening).unwrap();
    println!(
        "from the start of the process, with the code in the cache and after a kill, medians of {calmest}"
    );
    println!("  it answers at the control socket: {} ms", ms(listening));
    println!("  a module has handled a message: {} ms, {}", ms(handled), goal(ms(handled), GOAL_MS, "ms"));
}

fn at_rest(runtime: &Runtime, profile: &str) {
    let edge = Edge::new(profile, "");
    let mut taken = Vec::new();
    // The first one compiles.
    for _ in 0..4 {
        let running = runtime.block_on(edge.running());
        std::thread::sleep(REST);
        taken.push(resident_bytes(&running.0.id().to_string()) as f64 / f64::from(1 << 20));
    }
    let (first, later) = taken.split_first().unwrap();
    let later = median(later).unwrap();
    println!(
        "at rest with four modules, profile {profile}: {first:.1} MiB resident after a first start, {later:.1} MiB after others, {}",
        goal(first.max(later), GOAL_MIB, "MiB")
    );
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn goal(measured: f64, goal: f64, unit: &str) -> String {
    let word = if measured <= goal { "within" } else { "over" };
    format!("{word} the goal of {goal} {unit}")
}

/// A folder with a configuration and modules.
struct Edge(TempDir);

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Edge {
    fn new(profile: &str, simulator: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        for module in MODULES {
            for kind in ["wasm", "toml"] {
                let file = format!("{module}.{kind}");
                fs::copy(given.join(&file), plugins.join(&file)).unwrap();
            }
        }
        if !simulator.is_empty() {
            fs::write(plugins.join("simulator.toml"), format!("[config]\n{simulator}\n")).unwrap();
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "edge = \"bench\"\n[store]\nprofile = \"{profile}\"\n[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[routes]\n\
             readings = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/window/inputs/readings\")'\n\
             alerts = 'FROM /messages/modules/simulator/* INTO BrokeredEndpoint(\"/modules/threshold/inputs/readings\")'\n"
        );
        fs::write(dir.path().join("holdfast.toml"), config).unwrap();
        Self(dir)
    }

    fn launch(&self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.arg("run").current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// From the start of the process to the first handled message, and to the first answer at the control socket.
    async fn start(&self) -> (Duration, Duration) {
        let began = Instant::now();
        let _running = self.launch();
        let mut client = self.client(began).await;
        let listening = began.elapsed();
        loop {
            if modules(&mut client).await.iter().any(|module| module.handled > 0) {
                return (began.elapsed(), listening);
            }
            patiently(began).await;
        }
    }

    /// All of its modules run.
    async fn running(&self) -> Running {
        let began = Instant::now();
        let running = self.launch();
        let mut client = self.client(began).await;
        while modules(&mut client).await.iter().filter(|module| module.state == "running").count()
            < MODULES.len()
        {
            patiently(began).await;
        }
        running
    }

    async fn client(&self, began: Instant) -> Client {
        let control = self.0.path().join("data/control.sock");
        loop {
            match Client::connect(&control).await {
                Ok(client) => return client,
                Err(_) => patiently(began).await,
            }
        }
    }
}

async fn modules(client: &mut Client) -> Vec<ModuleItem> {
    let items = client.ask_all(&Request::Modules).await.unwrap();
    let module = |item| match item {
        Item::Module(module) => Some(module),
        _ => None,
    };
    items.into_iter().filter_map(module).collect()
}

/// Until the next look.
async fn patiently(began: Instant) {
    assert!(began.elapsed() < PATIENCE, "no message has been handled");
    tokio::time::sleep(Duration::from_millis(1)).await;
}
