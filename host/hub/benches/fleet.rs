//! Many edges and one hub: `cargo bench -p holdfast-hub --bench fleet -- [edges [seconds [period]]]`.
//!
//! The hub is a process of its own, this program again, with its gateway and its store in a folder. Each edge is a task that
//! speaks the link over TLS: it connects, greets, fetches what a new edge fetches, and then sends a message of 256 bytes in each
//! period of 10 s, at a moment of its own. Printed is how long it takes until all edges are linked when they come at once, for the first
//! time and after all were cut at once; the time from a message to its acknowledgement; and what an edge costs the hub in time
//! of processors and in memory. In the end every message must stand in the stream once, in order.
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
#[path = "support/process.rs"]
mod process;

use authority::{Authority, VALID};
use bytes::{Bytes, BytesMut};
use holdfast_auth::{SharedKey, sas};
use holdfast_link::{
    ANSWER_TOPIC, Call, Document, EVENTS_TOPIC, HUB_MODULE, Hello, PROTOCOL, Page, Part, STATUS_PROPERTY,
    SyncRequest, Welcome, event,
};
use holdfast_mqtt::{Ack, Codec, Connect, Packet, PacketId, Publish, PublishProperties, QoS, Version};
use holdfast_net::{Stream, Target, Timeouts, dial};
use holdfast_test_measure::{cpu_time, resident_bytes};
use holdfast_types::{Identity, Message, Name, Offset, Priority, Source, StableId};
use holdfast_upstream::{Backoff, BackoffConfig};
use process::{HUB, HubProcess, KEY, target, words};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

const BODY_BYTES: usize = 256;
const EPOCH: u64 = 0xe0;

/// How long all edges together may take until they are linked.
const STORM_MAX: Duration = Duration::from_secs(600);

/// What the edges do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Link, and wait.
    Link,
    /// Send from this moment on.
    Send(Instant),
    /// Everybody's connection ends, and is made anew.
    Cut,
    /// No more messages.
    Rest,
}

/// What all edges share.
struct Fleet {
    /// How often each edge sends.
    every: Duration,
    target: Target,
    order: watch::Receiver<Order>,
    linked: AtomicUsize,
    failed: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// From the message to its acknowledgement, in microseconds.
    waits: Mutex<Vec<u32>>,
}

struct Edge {
    fleet: Arc<Fleet>,
    name: Name,
    /// Which part of the time between two messages passes before its first one.
    at: f64,
    /// The sequence of the next message.
    next: u64,
    is_new: bool,
}

struct Session {
    stream: Stream,
    codec: Codec,
    input: BytesMut,
    out: BytesMut,
}

impl Session {
    async fn send(&mut self, packet: &Packet) -> Result<(), String> {
        self.codec.encode(packet, &mut self.out).map_err(|error| error.to_string())?;
        self.stream.write_all_buf(&mut self.out).await.map_err(|error| error.to_string())?;
        self.stream.flush().await.map_err(|error| error.to_string())
    }

    async fn next(&mut self) -> Result<Packet, String> {
        loop {
            if let Some(packet) = self.codec.decode(&mut self.input).map_err(|error| error.to_string())? {
                return Ok(packet);
            }
            self.input.reserve(4096);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err("the hub has closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn call<A: Document>(&mut self, call: Call, document: &impl Document) -> Result<A, String> {
        let properties = PublishProperties {
            response_topic: Some(ANSWER_TOPIC.into()),
            correlation_data: Some(Bytes::from_static(b"1")),
            ..PublishProperties::default()
        };
        let body = document.encode().unwrap();
        self.send(&published(Publish::new(call.topic(), body), properties)).await?;
        loop {
            match self.next().await? {
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        self.send(&Packet::PubAck(Ack::new(id))).await?;
                    }
                    let properties = publish.properties.unwrap_or_default();
                    let status =
                        properties.user_properties.iter().find(|(name, _)| **name == *STATUS_PROPERTY);
                    return match status.map(|(_, status)| &**status) {
                        Some("200") => Ok(A::decode(&publish.payload).unwrap()),
                        other => Err(format!("{call} was answered with {other:?}")),
                    };
                }
                Packet::PubAck(_) => {}
                other => return Err(format!("{other:?} instead of an answer")),
            }
        }
    }
}

fn published(publish: Publish, properties: PublishProperties) -> Packet {
    Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(PacketId::MIN),
        properties: Some(Box::new(properties)),
        ..publish
    })
}

impl Edge {
    /// Lives until there is to be no more; gives how many messages the hub has of it.
    async fn live(mut self) -> u64 {
        let mut backoff = Backoff::new(BackoffConfig::default());
        loop {
            let mut order = self.fleet.order.clone();
            let ended = match self.link().await {
                Ok(session) => {
                    self.fleet.linked.fetch_add(1, Ordering::Relaxed);
                    backoff = Backoff::new(BackoffConfig::default());
                    let mut sent = None;
                    let ended = self.stay(session, &mut sent).await;
                    // What the hub has of it says its next welcome.
                    self.fleet.sent.fetch_sub(u64::from(sent.is_some()), Ordering::Relaxed);
                    self.fleet.linked.fetch_sub(1, Ordering::Relaxed);
                    ended
                }
                Err(why) => Err(why),
            };
            match ended {
                Ok(()) if *order.borrow() == Order::Rest => return self.next,
                // Until all have been cut, or it would be cut again.
                Ok(()) => drop(order.wait_for(|order| *order != Order::Cut).await),
                Err(why) => {
                    if self.fleet.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                        println!("  the first connection that failed: {}: {why}", self.name);
                    }
                }
            }
            tokio::time::sleep(backoff.failed(random())).await;
        }
    }

    /// Connects, greets, and fetches what an edge fetches.
    async fn link(&mut self) -> Result<Session, String> {
        let stream =
            dial(&self.fleet.target, Timeouts::default()).await.map_err(|error| error.to_string())?;
        let mut session = Session {
            stream,
            codec: Codec::client(Version::V5, 1 << 20),
            input: BytesMut::new(),
            out: BytesMut::new(),
        };
        let who = Identity::module(self.name.clone(), Name::new(HUB_MODULE).unwrap());
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
        let token = sas::token(HUB, &who, &SharedKey::new(&KEY).unwrap(), until);
        let connect = Connect {
            user_name: Some(holdfast_link::user_name(HUB, &self.name).into()),
            password: Some(token.into_bytes().into()),
            keep_alive_s: 600,
            ..Connect::new(Version::V5, holdfast_link::client_id(&self.name))
        };
        session.send(&Packet::Connect(Box::new(connect))).await?;
        match session.next().await? {
            Packet::ConnAck(answer) if !answer.reason.is_failure() => {}
            other => return Err(format!("{other:?} instead of a welcome")),
        }
        let hello = Hello { protocol: PROTOCOL, epoch: EPOCH, held: Vec::new(), hub: None, revision: 0 };
        let welcome: Welcome = session.call(Call::Hello, &hello).await?;
        self.next = welcome.marks.first().map_or(0, |mark| mark.sequence.0 + 1);
        let parts = [Part::Twins, Part::Identities, Part::Settings, Part::Deployment];
        // One that was here before asks for its twins alone.
        for what in parts.into_iter().take(if self.is_new { parts.len() } else { 1 }) {
            let request = SyncRequest { what, of: None, page: None };
            let _: Page = session.call(Call::Sync, &request).await?;
        }
        self.is_new = false;
        Ok(session)
    }

    /// Does what is ordered until there is to be another connection.
    async fn stay(&mut self, mut session: Session, sent: &mut Option<Instant>) -> Result<(), String> {
        let mut order = self.fleet.order.clone();
        loop {
            let now = *order.borrow_and_update();
            let due = match now {
                Order::Cut => return Ok(()),
                Order::Rest if sent.is_none() => return Ok(()),
                Order::Send(from) if sent.is_none() => Some(self.due(from)),
                Order::Link | Order::Send(_) | Order::Rest => None,
            };
            tokio::select! {
                changed = order.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    let packet = self.message();
                    *sent = Some(Instant::now());
                    self.fleet.sent.fetch_add(1, Ordering::Relaxed);
                    session.send(&packet).await?;
                }
                packet = session.next() => match (packet?, sent.take()) {
                    (Packet::PubAck(ack), Some(since)) if !ack.reason.is_failure() => {
                        let micros = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
                        self.fleet.waits.lock().unwrap().push(micros);
                        self.fleet.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    (other, _) => return Err(format!("{other:?} instead of an acknowledgement")),
                },
            }
        }
    }

    /// When the next message is due of those that begin then.
    fn due(&self, from: Instant) -> Instant {
        let every = self.fleet.every;
        let (first, now) = (from + every.mul_f64(self.at), Instant::now());
        let mut due = first;
        while due < now {
            due += every;
        }
        due
    }

    fn message(&mut self) -> Packet {
        let id = StableId {
            edge: self.name.clone(),
            epoch: EPOCH,
            priority: Priority::DEFAULT,
            sequence: Offset(self.next),
        };
        self.next += 1;
        let source = Source::Module { module: Name::new("counter").unwrap(), output: None };
        let message = Message::new(vec![b'x'; BODY_BYTES]);
        let fields = event::encode(Some(&id), &source, &message);
        let user = fields.user.iter().map(|(name, value)| ((&**name).into(), (&**value).into()));
        let properties =
            PublishProperties { user_properties: user.collect(), ..PublishProperties::default() };
        published(Publish::new(EVENTS_TOPIC, message.body.clone()), properties)
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    u32::from_ne_bytes(bytes)
}

/// Waits until all are linked; gives how long that took.
async fn all_are_linked(fleet: &Fleet, edges: usize) -> Duration {
    let begun = Instant::now();
    while fleet.linked.load(Ordering::Relaxed) < edges {
        let linked = fleet.linked.load(Ordering::Relaxed);
        assert!(begun.elapsed() < STORM_MAX, "{linked} of {edges} edges are linked after {STORM_MAX:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// Prints what a storm has cost, and begins to count anew.
fn storm(name: &str, fleet: &Fleet, hub: &HubProcess, edges: usize, took: Duration, before: Duration) {
    let each = (cpu_time(&hub.id()) - before).as_secs_f64() * 1e3 / edges as f64;
    println!(
        "  {name}: all linked after {:.1} s, {:.0} in a second; {} attempts failed; {each:.2} ms of the hub's CPU for each",
        took.as_secs_f64(),
        edges as f64 / took.as_secs_f64(),
        fleet.failed.swap(0, Ordering::Relaxed),
    );
}

fn main() {
    process::be_a_hub();
    let numbers: Vec<usize> = words().iter().filter_map(|word| word.parse().ok()).collect();
    let edges = numbers.first().copied().unwrap_or(10_000);
    let seconds =
        |at: usize, usual: usize| Duration::from_secs(numbers.get(at).copied().unwrap_or(usual) as u64);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(edges, seconds(1, 60), seconds(2, 10)));
}

async fn measure(edges: usize, time: Duration, every: Duration) {
    let home = Authority::new("home");
    home.issue("localhost", VALID);
    let certificates = home.root().parent().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let hub = HubProcess::start("tls", folder.path(), &certificates, edges);
    println!(
        "{edges} edges over TLS, each a message of {BODY_BYTES} B every {every:?}, one hub, all on one machine"
    );
    println!("  all registered after {:.1} s", begun.elapsed().as_secs_f64());
    let (give, order) = watch::channel(Order::Link);
    let fleet = Arc::new(Fleet {
        every,
        target: target("tls", hub.port, &home.root()),
        order,
        linked: AtomicUsize::new(0),
        failed: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        waits: Mutex::default(),
    });
    let (empty, before) = (resident_bytes(&hub.id()), cpu_time(&hub.id()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=edges {
        let name = Name::new(&format!("edge-{number}")).unwrap();
        let at = number as f64 / edges as f64;
        tasks.spawn(Edge { fleet: fleet.clone(), name, at, next: 0, is_new: true }.live());
    }
    let took = all_are_linked(&fleet, edges).await;
    storm("first connection", &fleet, &hub, edges, took, before);

    let (begun, before, own) = (Instant::now(), cpu_time(&hub.id()), cpu_time("self"));
    give.send(Order::Send(begun)).unwrap();
    tokio::time::sleep(time).await;
    let (sent, used) = (fleet.sent.load(Ordering::Relaxed), cpu_time(&hub.id()) - before);
    let (took, own) = (begun.elapsed().as_secs_f64(), cpu_time("self") - own);
    give.send(Order::Link).unwrap();
    let resident = resident_bytes(&hub.id());
    // The last ones may be on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    while fleet.acknowledged.load(Ordering::Relaxed) < fleet.sent.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut waits = std::mem::take(&mut *fleet.waits.lock().unwrap());
    waits.sort_unstable();
    let ms = |part: f64| f64::from(waits[((waits.len() - 1) as f64 * part) as usize]) / 1e3;
    println!(
        "  for {took:.0} s: {:.0} msg/s; to the acknowledgement p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms; {:.2} of a processor at the hub, {:.2} at the edges; {} connections lost",
        sent as f64 / took,
        ms(0.5),
        ms(0.99),
        ms(1.0),
        used.as_secs_f64() / took,
        own.as_secs_f64() / took,
        fleet.failed.load(Ordering::Relaxed),
    );
    println!(
        "  resident at the hub: {} MiB before, {} MiB with all of them: {:.1} KiB for each edge",
        empty >> 20,
        resident >> 20,
        resident.saturating_sub(empty) as f64 / 1024.0 / edges as f64
    );

    let before = cpu_time(&hub.id());
    give.send(Order::Cut).unwrap();
    while fleet.linked.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    give.send(Order::Link).unwrap();
    let took = all_are_linked(&fleet, edges).await;
    storm("all cut at once", &fleet, &hub, edges, took, before);
    give.send(Order::Rest).unwrap();
    let acknowledged: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(hub.events(), acknowledged, "each message once, in order");
    println!("  all {acknowledged} messages are in the stream, each once and in order");
}
