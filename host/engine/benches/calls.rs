//! What a call costs through the whole engine, beside the bare call of the same component by wasmtime in the same run.
//! Prints a table of figures and ratios; fails nothing. `-- call` (or hop, chain, peer, restart, hundred) prints a part of it.
//! The bare call and the engine take turns in short slices, and the medians are of those that other machines disturbed least.
//! With `HOLDFAST_PEER_EXTISM` naming the program of `tests/peers`, extism is among the peers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use holdfast_broker::{Subscriber, SubscriptionOptions};
use holdfast_engine::RuntimeStatus;
use holdfast_test_measure::{Calmest, Quiet, median, resident_bytes};
use holdfast_types::{Durability, Message, QoS, TopicFilter};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::guests::guest;
use support::{Edge, Plan, feeder, name};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const BODY: usize = 256;
/// Messages of a slice, which is short: what other machines take of the processors comes and goes.
const CALLS: usize = 20_000;
const LATENCIES: usize = 500;
/// Slices that count, and the most that are run for them.
const SLICES: usize = 20;
const SLICES_MAX: usize = 200;
/// Messages under way from the sender to the subscriber, as devices and modules have them. Bounded to the end: where a place was free
/// again as soon as the module was done, its task took 1.44 times the time of the bare call in the minutes in which it took 1.27 times
/// with this bound.
const UNDER_WAY: usize = 1_000;
const TOPIC: &str = "bench/out";

mod bare {
    //! The same world, bound as plainly as it can be.
    #![allow(missing_docs, unused_qualifications, clippy::all)]

    wasmtime::component::bindgen!({ path: "../../wit", world: "module", exports: { default: async } });

    use self::exports::holdfast::module::handler::Message;
    use self::holdfast::module::outbox::{Outgoing, SendError};
    use self::holdfast::module::types::{ModuleSource, Source, SystemProperties};
    use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
    use wasmtime::{Config, Engine, Store};
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

    pub struct Host {
        wasi: WasiCtx,
        table: ResourceTable,
        pub sent: usize,
    }

    impl WasiView for Host {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
        }
    }

    impl self::holdfast::module::types::Host for Host {}

    impl self::holdfast::module::outbox::Host for Host {
        fn send(&mut self, _: String, message: Outgoing) -> Result<(), SendError> {
            self.sent += message.body.len();
            Ok(())
        }
    }

    pub struct Bare {
        store: Store<Host>,
        module: Module,
        message: Message,
    }

    impl Bare {
        pub async fn new(path: &std::path::Path, body: usize) -> Self {
            let mut config = Config::new();
            config.concurrency_support(false).epoch_interruption(true);
            let engine = Engine::new(&config).unwrap();
            let component = Component::from_file(&engine, path).unwrap();
            let mut linker = Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
            self::holdfast::module::types::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host)
                .unwrap();
            self::holdfast::module::outbox::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host)
                .unwrap();
            linker.define_unknown_imports_as_traps(&component).unwrap();
            let host = Host { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), sent: 0 };
            let mut store = Store::new(&engine, host);
            store.set_epoch_deadline(1);
            let module = Module::instantiate_async(&mut store, &component, &linker).await.unwrap();
            let system = SystemProperties {
                message_id: None,
                correlation_id: None,
                content_type: None,
                content_encoding: None,
                creation_time: Some(1),
            };
            let source =
                Source::Module(ModuleSource { module: "feeder".to_owned(), output: Some("m".to_owned()) });
            let message = Message { body: vec![b'x'; body], properties: Vec::new(), system, source };
            Self { store, module, message }
        }

        pub async fn call(&mut self) {
            let handler = self.module.holdfast_module_handler();
            handler.call_handle(&mut self.store, "in", &self.message).await.unwrap().unwrap();
        }

        pub fn sent(&self) -> usize {
            self.store.data().sent
        }
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(PEER) {
        return native_echo();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let quiet = Quiet::look();
    println!("{:<58} {:>12} {:>10}  goal", "", "measured", "ratio");
    if is_wanted("call") {
        calls(&runtime);
    }
    if is_wanted("hop") {
        hop(&runtime);
    }
    if is_wanted("chain") {
        runtime.block_on(chain_of_ten());
    }
    if is_wanted("peer") {
        native_peer();
        if let Some(program) = std::env::var_os("HOLDFAST_PEER_EXTISM") {
            extism_peer(&runtime, &program);
        }
    }
    if is_wanted("restart") {
        runtime.block_on(restart());
    }
    if is_wanted("hundred") {
        runtime.block_on(hundred_modules());
    }
    quiet.say();
}

/// Whether a part of the table was asked for, or no part by its name.
fn is_wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

fn row(what: &str, measured: String, ratio: &str, goal: &str) {
    println!("{what:<58} {measured:>12} {ratio:>10}  {goal}");
}

fn nanos(time: Duration) -> String {
    match time.as_nanos() {
        ns @ 0..10_000 => format!("{ns} ns"),
        ns @ 10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        ns => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

fn rate(each: Duration) -> String {
    format!("{:.0}/s", 1.0 / each.as_secs_f64())
}

fn ratio(one: Duration, other: Duration) -> String {
    format!("{:.2}", one.as_secs_f64() / other.as_secs_f64())
}

/// What a call costs, bare and through the engine, alone and in batches, in turns.
fn calls(runtime: &Runtime) {
    let mut bare = runtime.block_on(bare::Bare::new(&guest("outbox_echo"), BODY));
    let mut alone = runtime.block_on(Through::new("outbox_echo"));
    let mut batches = runtime.block_on(Through::new("batches_echo"));
    let slices = Calmest::run(SLICES, SLICES_MAX, || {
        let bare = runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..CALLS {
                bare.call().await;
            }
            start.elapsed() / CALLS as u32
        });
        [Cost { busy: bare, wall: bare }, runtime.block_on(alone.slice()), runtime.block_on(batches.slice())]
    });
    assert!(bare.sent() >= SLICES * CALLS * BODY);
    runtime.block_on(alone.stop());
    runtime.block_on(batches.stop());
    let busy = |of: usize| nanos(slices.median(|slice| slice[of].busy).unwrap());
    let wall = |of: usize| slices.median(|slice| slice[of].wall).unwrap();
    let to_bare = |of: usize| {
        let ratio = |slice: &[Cost; 3]| slice[of].busy.as_secs_f64() / slice[0].busy.as_secs_f64();
        format!("{:.2}", slices.median(ratio).unwrap())
    };
    row("bare wasmtime call, 256 bytes, one send", busy(0), "", "");
    row("handler call through the engine: module's task, per call", busy(1), &to_bare(1), "<= 1.5");
    row("the same, wall time publish -> module -> subscriber", nanos(wall(1)), "", "");
    row("messages of 256 bytes through one module, volatile", rate(wall(1)), "", "");
    row("in batches: module's task, per message", busy(2), &to_bare(2), "");
    row("messages of 256 bytes in batches, volatile", rate(wall(2)), "", ">= 300000/s");
    println!("  medians of {slices}");
}

/// An edge with modules in a row, each sending to the next by a volatile route, the last to a topic.
async fn chain(modules: usize, guest: &str) -> (Edge, Subscriber) {
    let names: Vec<String> = (0..modules).map(|n| format!("m{n}")).collect();
    let mut plan = Plan::new(&["m0"]).volatile_feed();
    for n in 0..modules {
        let from = format!("FROM /messages/modules/m{n}/outputs/out INTO ");
        let into = match n + 1 < modules {
            true => format!("BrokeredEndpoint(\"/modules/m{}/inputs/in\")", n + 1),
            false => format!("Topic(\"{TOPIC}\")"),
        };
        plan = plan.with(&format!("m{n}"), guest, "").route(
            &format!("r{n}"),
            &format!("{from}{into}"),
            Durability::Volatile,
        );
    }
    let edge = plan.start().await;
    for name in &names {
        edge.until_running(name).await;
    }
    let subscriber = edge.broker.subscribe(name("bench"), 1 << 20);
    subscriber.add(&TopicFilter::new(TOPIC).unwrap().into(), SubscriptionOptions::new(QoS::AtLeastOnce));
    (edge, subscriber)
}

/// What a message costs.
struct Cost {
    /// Time that the module's task computes.
    busy: Duration,
    /// Time between two messages, from publish to the subscriber behind the module.
    wall: Duration,
}

/// An edge with one module, and a subscriber behind it.
struct Through {
    edge: Edge,
    subscriber: Option<Subscriber>,
}

impl Through {
    async fn new(guest: &str) -> Self {
        let (edge, subscriber) = chain(1, guest).await;
        Self { edge, subscriber: Some(subscriber) }
    }

    /// Many messages, as fast as they are taken.
    async fn slice(&mut self) -> Cost {
        let mut subscriber = self.subscriber.take().unwrap();
        let before = self.edge.status("m0").unwrap();
        let start = Instant::now();
        let (broker, source) = (self.edge.broker.clone(), feeder("m0"));
        let places = Arc::new(Semaphore::new(UNDER_WAY));
        let free = places.clone();
        let feeding = tokio::spawn(async move {
            for _ in 0..CALLS {
                places.acquire().await.unwrap().forget();
                broker.publish_then(source.clone(), Message::new(vec![b'x'; BODY]), |taken| {
                    taken.unwrap();
                });
            }
        });
        // A task, as the connections of devices are.
        let receiving = tokio::spawn(async move {
            let mut received = Vec::new();
            let mut count = 0;
            while count < CALLS {
                received.clear();
                subscriber.next_or_lost(&mut received, 10_000, usize::MAX).await;
                count += received.len();
                free.add_permits(received.len());
                assert_eq!(subscriber.lost().total(), 0, "it is further behind than it has room for");
            }
            subscriber
        });
        self.subscriber = Some(receiving.await.unwrap());
        let wall = start.elapsed() / CALLS as u32;
        feeding.await.unwrap();
        let target = before.messages_in + CALLS as u64;
        let after = self.edge.until("m0", |status| status.messages_in == target).await;
        Cost { busy: Duration::from_micros(after.busy_us - before.busy_us) / CALLS as u32, wall }
    }

    async fn stop(self) {
        self.edge.stop().await;
    }
}

/// Median time of one message from publish to the subscriber behind a chain, less that of a shorter chain.
fn hop(runtime: &Runtime) {
    let (short, behind_short) = runtime.block_on(chain(1, "outbox_echo"));
    let (long, behind_long) = runtime.block_on(chain(5, "outbox_echo"));
    let mut behind = Some((behind_short, behind_long));
    let hops = Calmest::run(SLICES, SLICES_MAX, || {
        let (behind_short, behind_long) = behind.take().unwrap();
        let (one, behind_short) = runtime.block_on(latency(&short, behind_short));
        let (five, behind_long) = runtime.block_on(latency(&long, behind_long));
        behind = Some((behind_short, behind_long));
        five.saturating_sub(one) / 4
    });
    runtime.block_on(short.stop());
    runtime.block_on(long.stop());
    let median = nanos(hops.median(|hop| *hop).unwrap());
    row("volatile hop module -> module, median of 4 in a row", median, "", "<= 20 us");
    println!("  median of {hops}");
}

/// A message each millisecond through ten modules in a row, for five seconds, from publish to the subscriber.
async fn chain_of_ten() {
    const MESSAGES: usize = 5_000;
    let (edge, mut subscriber) = chain(10, "outbox_echo").await;
    let broker = edge.broker.clone();
    let feeding = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        let mut sent = Vec::with_capacity(MESSAGES);
        for _ in 0..MESSAGES {
            beat.tick().await;
            sent.push(Instant::now());
            broker.publish(feeder("m0"), Message::new(vec![b'x'; BODY])).await.unwrap();
        }
        sent
    });
    let mut received = Vec::with_capacity(MESSAGES);
    for _ in 0..MESSAGES {
        subscriber.next().await.unwrap();
        received.push(Instant::now());
    }
    let sent = feeding.await.unwrap();
    edge.stop().await;
    let mut times: Vec<Duration> =
        sent.iter().zip(&received).map(|(sent, received)| *received - *sent).collect();
    times.sort();
    row("chain of 10 modules at 1,000/s, volatile: median", nanos(times[MESSAGES / 2]), "", "");
    row("the same: 99 of 100 within", nanos(times[MESSAGES * 99 / 100]), "", "<= 5 ms");
}

/// What this program is told when it is the peer.
const PEER: &str = "native-echo";

/// A native process behind a socket of the loopback, which sends back what it is given: what isolation by processes costs.
fn native_peer() {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut peer = std::process::Command::new(std::env::current_exe().unwrap())
        .arg(PEER)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(peer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut stream = std::net::TcpStream::connect(line.trim()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut body = [b'x'; BODY];
    for _ in 0..20_000 {
        let start = Instant::now();
        stream.write_all(&body).unwrap();
        stream.read_exact(&mut body).unwrap();
        times.push(start.elapsed());
    }
    drop(stream);
    peer.wait().unwrap();
    times.sort();
    row("peer: native process over TCP on loopback, there and back", nanos(times[times.len() / 2]), "", "");
}

fn native_echo() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut body = [0; BODY];
    while stream.read_exact(&mut body).is_ok() {
        stream.write_all(&body).unwrap();
    }
}

/// Extism, in a program of its own (tests/peers): it brings another wasmtime.
fn extism_peer(runtime: &Runtime, program: &std::ffi::OsStr) {
    let said = std::process::Command::new(program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let time = |what: &str| {
        let number = said.lines().find_map(|line| line.strip_prefix(what)?.trim().parse().ok());
        Duration::from_nanos(number.unwrap_or_else(|| panic!("extism said no {what}: {said}")))
    };
    let mut through = runtime.block_on(Through::new("outbox_echo"));
    let slices = Calmest::run(SLICES, SLICES_MAX, || runtime.block_on(through.slice()));
    runtime.block_on(through.stop());
    let ours = slices.median(|slice| slice.busy).unwrap();
    let call = time("call");
    row("handler call through the engine, beside extism", nanos(ours), &ratio(ours, call), "");
    row("peer: extism, a call with 256 bytes there and back", nanos(call), "", "");
    row("peer: extism, a fresh instance and its first call", nanos(time("instance")), "", "");
}

/// The median time of a message through a chain, one after the other. Who sends and receives is a task, as the connections of devices
/// are.
async fn latency(edge: &Edge, mut subscriber: Subscriber) -> (Duration, Subscriber) {
    let broker = edge.broker.clone();
    let sending = tokio::spawn(async move {
        let mut times = Vec::new();
        for _ in 0..LATENCIES {
            let start = Instant::now();
            broker.publish(feeder("m0"), Message::new(vec![b'x'; BODY])).await.unwrap();
            subscriber.next().await.unwrap();
            times.push(start.elapsed());
        }
        (median(&times).unwrap(), subscriber)
    });
    sending.await.unwrap()
}

/// From an operator's order to the first message that the fresh instance has handled.
async fn restart() {
    let (edge, mut subscriber) = chain(1, "outbox_echo").await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        edge.engine.restart("m0").await.unwrap();
        edge.broker.publish(feeder("m0"), Message::new(vec![b'x'; BODY])).await.unwrap();
        subscriber.next().await.unwrap();
        times.push(start.elapsed());
    }
    edge.stop().await;
    times.sort();
    row("restart to first message, median", nanos(times[times.len() / 2]), "", "<= 1 ms");
}

async fn hundred_modules() {
    let mut plan = Plan::new(&[]);
    let folder = support::Folder::new();
    let folder = Arc::new(folder);
    plan = plan.in_folder(&folder);
    // The first start fills the cache.
    let edge = plan.with("m000", "outbox_echo", "").start().await;
    edge.until_running("m000").await;
    for n in 1..100 {
        edge.install(&format!("m{n:03}"), "outbox_echo", "");
    }
    until_all_run(&edge).await;
    edge.stop().await;

    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = resident_bytes("self");
    let start = Instant::now();
    let edge = Plan::new(&[]).in_folder(&folder).start().await;
    until_all_run(&edge).await;
    row("100 modules from the cache of compiled code", nanos(start.elapsed()), "", "<= 1 s");
    let each = resident_bytes("self").saturating_sub(before) / 100;
    row("resident memory per idle module, all included", format!("{} KiB", each / 1024), "", "<= 1024 KiB");
    edge.stop().await;
}

async fn until_all_run(edge: &Edge) {
    loop {
        let running =
            edge.engine.list().iter().filter(|status| status.status == RuntimeStatus::Running).count();
        if running == 100 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
