//! What the stories need: a gateway over a real store and broker, and a client made of the packets of `holdfast-mqtt`.

#![allow(dead_code, reason = "each test crate uses a part of it")]

pub mod hub;

use bytes::BytesMut;
use holdfast_auth::{DeviceRules, Grants, Password, Registry};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_gateway::{Gateway, GatewayConfig, Limits, Links, Stats, StatsSnapshot};
use holdfast_mqtt::*;
use holdfast_net::{Door, ListenConfig, PlainTcp, Settings};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{StoreConfig, SystemClock};
use holdfast_types::{Name, TopicFilter as Filter, WhenFull};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(30);

/// A runtime as the host has it.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut all = tokio::runtime::Builder::new_multi_thread();
    all.event_interval(holdfast_gateway::EVENT_INTERVAL).enable_all().build().unwrap()
}

/// A gateway at work. Its users `press` and `oven` have the password `secret`; they may publish below `plant/` and under
/// their own name, and subscribe to `plant/#`; what is below `plant/secret` is kept from `oven`.
pub struct House {
    pub address: SocketAddr,
    pub broker: Broker,
    pub stats: Arc<Stats>,
    pub stop: CancellationToken,
    pub running: JoinHandle<()>,
    pub registry: Arc<Registry>,
    plan: Plan,
    folder: TempDir,
}

/// What a house is built from.
#[derive(Clone)]
struct Plan {
    address: SocketAddr,
    door: Door,
    limits: Limits,
    when_full: WhenFull,
    quota_bytes: u64,
    links: Option<Arc<dyn Links>>,
}

impl Plan {
    fn new(address: SocketAddr, door: Door, limits: Limits, when_full: WhenFull, quota_bytes: u64) -> Self {
        Self { address, door, limits, when_full, quota_bytes, links: None }
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(Limits::default(), WhenFull::Block, 1 << 30).await
    }

    pub async fn limited(limits: Limits) -> Self {
        Self::with(limits, WhenFull::Block, 1 << 30).await
    }

    pub async fn with(limits: Limits, when_full: WhenFull, quota_bytes: u64) -> Self {
        Self::behind(Door::Tcp, limits, when_full, quota_bytes).await
    }

    pub async fn behind(door: Door, limits: Limits, when_full: WhenFull, quota_bytes: u64) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        Self::build(Plan::new(address, door, limits, when_full, quota_bytes), tempfile::tempdir().unwrap())
            .await
    }

    /// Behind a door at an address.
    pub async fn at(address: SocketAddr, door: Door) -> Self {
        let (limits, when_full, quota_bytes) = (Limits::default(), WhenFull::Block, 1 << 30);
        Self::build(Plan::new(address, door, limits, when_full, quota_bytes), tempfile::tempdir().unwrap())
            .await
    }

    /// Where edges may link, in which `links` has a say.
    pub async fn below(links: Arc<dyn Links>) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let plan = Plan::new(address, Door::Tcp, Limits::default(), WhenFull::Block, 1 << 30);
        Self::build(Plan { links: Some(links), ..plan }, tempfile::tempdir().unwrap()).await
    }

    /// The house after its end: only what is on disk is left.
    pub async fn restarted(self) -> Self {
        self.stop.cancel();
        self.running.await.unwrap();
        self.broker.store().close().unwrap();
        drop(self.broker);
        let plan = Plan { address: self.address, ..self.plan };
        Self::build(plan, self.folder).await
    }

    /// What another process finds after this one was killed now: the files as they are, and nothing else.
    pub async fn killed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        let (address, limits) = ("127.0.0.1:0".parse().unwrap(), Limits::default());
        Self::build(Plan { address, door: Door::Tcp, limits, ..self.plan.clone() }, folder).await
    }

    async fn build(plan: Plan, folder: TempDir) -> Self {
        let Plan { address, door, limits, when_full, quota_bytes, links } = plan.clone();
        let clock = Arc::new(SystemClock::new());
        let store = StoreConfig { ballast_bytes: 0, quota_bytes, ..StoreConfig::new(folder.path()) };
        let (store, _) = holdfast_store::open(store, clock.clone()).unwrap();
        let up = RouteDefinition {
            when_full,
            ..RouteDefinition::new("up", "FROM /messages/* WHERE NOT is_defined(local) INTO $upstream")
        };
        let scale =
            "FROM /messages WHERE for = 'scale' INTO BrokeredEndpoint(\"/modules/scale/inputs/orders\")";
        let routes = RouteTable::compile(vec![up, RouteDefinition::new("scale", scale)]).unwrap();
        let config = BrokerConfig { edge: Name::new("edge").unwrap(), routes, time_to_live: None };
        let broker = Broker::new(config, store, clock);
        let listen = ListenConfig {
            address,
            door,
            plain: PlainTcp::LoopbackOnly,
            settings: Settings::of_section("gateway"),
        };
        let config =
            GatewayConfig { listen: vec![listen], limits, content_type: None, anonymous: None, instance: 7 };
        let registry = registry();
        let gateway = match links {
            Some(links) => Gateway::bind_with_links(config, broker.clone(), registry.clone(), links).await,
            None => Gateway::bind(config, broker.clone(), registry.clone()).await,
        };
        let gateway = gateway.unwrap();
        let (address, stats, stop) = (gateway.addresses()[0], gateway.stats(), CancellationToken::new());
        let running = tokio::spawn(gateway.run(stop.clone()));
        Self { address, broker, stats, stop, running, registry, plan, folder }
    }

    /// Messages that the log upstream has on disk.
    pub fn recorded(&self) -> u64 {
        self.broker.store().queues().iter().map(|queue| queue.tail.0).sum()
    }

    pub fn counted(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// A client that is connected, with a clean session.
    pub async fn client(&self, version: Version, id: &str) -> Client {
        let mut client = Client::dial(self.address, version).await;
        let ack = client.connect(connect(version, id)).await;
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, false));
        client
    }

    /// The house still serves: a client connects, sends a message, and has it acknowledged.
    pub async fn serves(&self) {
        let mut client = self.client(Version::V311, "bystander").await;
        assert_eq!(client.publish("plant/alive", "yes", 1).await, ReasonCode::Success);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn registry() -> Arc<Registry> {
    let filters = |texts: &[&str]| texts.iter().map(|text| Filter::new(text).unwrap()).collect();
    let user = |name: &str| {
        let grants = Grants {
            publish: filters(&["plant/#", &format!("{name}/#")]),
            subscribe: filters(&["plant/#"]),
            deny: if name == "oven" { filters(&["plant/secret/#"]) } else { Vec::new() },
        };
        (Name::new(name).unwrap(), Password::Plain(b"secret".to_vec()), grants)
    };
    // Devices may publish below `d/` and their name.
    let grants = Grants { publish: vec![Filter::new("d/{device}/#").unwrap()], ..Grants::default() };
    let rules = DeviceRules {
        hosts: vec![hub::HUB.to_owned(), "hub.example.net".into()],
        grants,
        ..DeviceRules::default()
    };
    let users = Registry::new([user("press"), user("oven")], [3; 32]);
    let registry = users.unwrap_or_else(|faults| panic!("{faults:?}")).with_rules(rules);
    for device in hub::devices() {
        registry.add(device).unwrap();
    }
    Arc::new(registry)
}

/// CONNECT of user `press`.
pub fn connect(version: Version, id: &str) -> Connect {
    Connect { user_name: Some("press".into()), password: Some("secret".into()), ..Connect::new(version, id) }
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("not so in time: {what}"));
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    pub codec: Codec,
    buffer: BytesMut,
    next_id: u16,
    /// Messages that came while an acknowledgement was awaited.
    waiting: VecDeque<Publish>,
}

impl Client {
    pub async fn dial(address: SocketAddr, version: Version) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), version)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S, version: Version) -> Self {
        Self {
            stream,
            codec: Codec::client(version, PACKET_BYTES_MAX),
            buffer: BytesMut::new(),
            next_id: 0,
            waiting: VecDeque::new(),
        }
    }

    pub fn id(&mut self) -> PacketId {
        self.next_id += 1;
        PacketId::new(self.next_id).unwrap()
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        self.codec.encode(packet, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; none if the other side has closed.
    pub async fn next(&mut self) -> Option<Packet> {
        timeout(LONG, async {
            loop {
                if let Some(packet) = self.codec.decode(&mut self.buffer).unwrap() {
                    return Some(packet);
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .expect("a packet or the end of the connection")
    }

    pub async fn connect(&mut self, connect: Connect) -> ConnAck {
        self.send(&Packet::Connect(Box::new(connect))).await;
        match self.next().await {
            Some(Packet::ConnAck(ack)) => *ack,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Publishes and waits for the acknowledgement of QoS 1.
    pub async fn publish(&mut self, topic: &str, payload: &str, qos: u8) -> ReasonCode {
        let qos = QoS::from_level(qos).unwrap();
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.id());
        let publish = Publish { qos, packet_id, ..Publish::new(topic, payload.to_owned()) };
        self.send(&Packet::Publish(publish)).await;
        if qos == QoS::AtMostOnce {
            return ReasonCode::Success;
        }
        match self.next().await {
            Some(Packet::PubAck(ack)) if Some(ack.packet_id) == packet_id => ack.reason,
            other => panic!("{other:?} instead of PUBACK"),
        }
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> ReasonCode {
        let packet_id = self.id();
        let subscriptions = vec![Subscription::new(filter, QoS::from_level(qos).unwrap())];
        let subscribe =
            Subscribe { packet_id, subscription_id: None, user_properties: vec![], subscriptions };
        self.send(&Packet::Subscribe(Box::new(subscribe))).await;
        match self.next().await {
            Some(Packet::SubAck(ack)) => ack.reasons[0],
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// The next message; it is acknowledged as its quality of service asks.
    pub async fn message(&mut self) -> Publish {
        let publish = match self.waiting.pop_front() {
            Some(publish) => publish,
            None => match self.next().await {
                Some(Packet::Publish(publish)) => publish,
                other => panic!("{other:?} instead of PUBLISH"),
            },
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::PubAck(Ack::new(id))).await,
            (QoS::ExactlyOnce, Some(id)) => {
                self.send(&Packet::PubRec(Ack::new(id))).await;
                self.released(id).await;
                self.send(&Packet::PubComp(Ack::new(id))).await;
            }
            _ => {}
        }
        publish
    }

    async fn released(&mut self, id: PacketId) {
        loop {
            match self.next().await {
                Some(Packet::Publish(publish)) => self.waiting.push_back(publish),
                Some(Packet::PubRel(ack)) if ack.packet_id == id => return,
                other => panic!("{other:?} instead of PUBREL"),
            }
        }
    }

    /// Waits for the end of the connection and gives the reason, if the other side says one.
    pub async fn end(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        while let Some(packet) = self.next().await {
            if let Packet::Disconnect(disconnect) = packet {
                reason = Some(disconnect.reason);
            }
        }
        reason
    }

    /// Says goodbye and waits until the gateway has closed.
    pub async fn leave(mut self) {
        self.send(&Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success)))).await;
        self.end().await;
    }
}
