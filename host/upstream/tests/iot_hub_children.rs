//! Children under their own identities at an IoT Hub: each over a connection of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_auth::{Credential, Device, DeviceStatus, Registry, SharedKey, sas};
use holdfast_broker::MethodReply;
use holdfast_mqtt::{
    Ack, ConnAck, Packet, PacketId, Publish, QoS, ReasonCode, Version,
    hub::{Operation, PropertyBag, topics},
};
use holdfast_routes::RouteDefinition;
use holdfast_types::{Identity, LogId, Message, Name, Source, UnixMillis};
use holdfast_upstream::{ChildrenConfig, ChildrenStatus, Dialect, IotHubConfig, Place, UpstreamConfig};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use support::{
    Edge, Link, config,
    iot_hub::Side,
    scripted::{Scripted, Visitor, welcome},
    target, until,
};
use tokio::task::JoinHandle;

const HUB: &str = "plant.azure-devices.net";
const HOUR: Duration = Duration::from_secs(3600);
/// How long a connection stays that is of no use.
const IDLE: Duration = Duration::from_millis(300);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn key(seed: u8) -> SharedKey {
    SharedKey::new(&[seed; 32]).unwrap()
}

fn device(text: &str, seed: u8) -> Device {
    Device {
        identity: id(text),
        credential: Credential::SharedKey { primary: key(seed), secondary: None },
        status: DeviceStatus::Enabled,
        parent: None,
        generation: "1".into(),
        edge: false,
        added: UnixMillis(0),
    }
}

/// An edge with children, and the hub above.
struct Plant {
    edge: Edge,
    registry: Arc<Registry>,
    hub: Scripted,
    own: ChildrenConfig,
}

impl Plant {
    /// Each child has the key of its place in the list, from 1 on.
    async fn with(children: &[&str]) -> Self {
        let registry = Arc::new(Registry::new([], [0; 32]).unwrap_or_else(|faults| panic!("{faults:?}")));
        for (child, seed) in children.iter().zip(1..) {
            registry.add(device(child, seed)).unwrap();
        }
        let edge = Edge::with_routes(vec![RouteDefinition::new("all", "FROM /messages/* INTO $upstream")]);
        let own =
            ChildrenConfig { registry: registry.clone(), connections_max: 10, idle_after: HOUR, turn: HOUR };
        Self { edge, registry, hub: Scripted::new().await, own }
    }

    fn config(&self, children: Option<ChildrenConfig>) -> UpstreamConfig {
        let hub = IotHubConfig { hub: HUB.into(), key: Some(key(7)), token_life: HOUR, children };
        UpstreamConfig { dialect: Dialect::IotHub(hub), ..config(self.hub.port, Version::V5) }
    }

    /// The link, connected as the edge, whose own connection is served.
    async fn link(&self) -> (Link, Served) {
        let link = self.edge.link(self.config(Some(self.own.clone())));
        let edge = self.hub.welcomed(welcome()).await;
        assert_eq!(&*edge.connect.client_id, "edge-1", "it is the first, and tells the others where to go");
        (link, Served::begin(edge))
    }

    async fn send(&self, child: &str, body: &str) {
        let source = Source::Child { child: name(child), topic: None };
        self.edge.broker.publish(source, Message::new(body.to_owned())).await.unwrap();
    }

    fn waiting(&self, child: &str) -> u64 {
        self.edge.broker.waiting_of_children().get(&name(child)).copied().unwrap_or_default()
    }

    async fn drained(&self, child: &str) {
        until("the log of the child is empty", || self.waiting(child) == 0).await;
    }
}

/// A connection of which a story wants nothing but what it brings up.
struct Served {
    task: JoinHandle<()>,
    brought: tokio::sync::mpsc::UnboundedReceiver<Publish>,
}

impl Served {
    fn begin(visitor: Visitor) -> Self {
        let (told, brought) = tokio::sync::mpsc::unbounded_channel();
        let mut side = Side::of(visitor);
        let task = tokio::spawn(async move {
            while let Some(packet) = side.visitor.packet().await {
                match packet {
                    Packet::Publish(publish) => {
                        side.visitor.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
                        let asked = match Operation::parse(&publish.topic) {
                            Ok(Operation::TwinGet { rid }) => Some(rid.to_owned()),
                            Ok(Operation::Telemetry { .. }) => {
                                // The story may have ended.
                                let _ = told.send(publish);
                                None
                            }
                            _ => None,
                        };
                        if let Some(rid) = asked {
                            side.twin_is(&rid, json!({}), 1, json!({})).await;
                        }
                    }
                    Packet::PingReq => side.visitor.send(Packet::PingResp).await,
                    Packet::Disconnect(_) => return,
                    other => side.heard(other).await,
                }
            }
        });
        Self { task, brought }
    }

    async fn brings(&mut self) -> Publish {
        self.brought.recv().await.expect("it is connected")
    }

    /// Waits until the edge has ended the connection; gives what it has brought up besides.
    async fn ends(mut self) -> Vec<Publish> {
        tokio::time::timeout(support::LONG, self.task).await.expect("it ends").unwrap();
        std::iter::from_fn(|| self.brought.try_recv().ok()).collect()
    }
}

impl Link {
    fn children(&self) -> ChildrenStatus {
        self.status.status().children.unwrap()
    }
}

/// The password is a token for this device, signed with this key.
fn assert_signed(visitor: &Visitor, who: &str, key: &SharedKey) {
    let password = String::from_utf8(visitor.connect.password.clone().unwrap().to_vec()).unwrap();
    let expiry = password.split("&se=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
    assert_eq!(password, sas::token(HUB, &id(who), key, expiry));
}

/// Body, device and stable identity of telemetry.
fn told(publish: &Publish) -> (String, String, String) {
    let body = String::from_utf8(publish.payload.to_vec()).unwrap();
    match Operation::parse(&publish.topic).unwrap() {
        Operation::Telemetry { device, module: None, bag } => {
            let id = bag.value("holdfast-id").unwrap();
            let (queue, sequence) = id.rsplit_once('/').unwrap();
            (body, device.to_owned(), format!("{}/{sequence}", queue.split('/').next().unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_child_is_a_device_of_the_hub_and_one_that_is_refused_holds_up_nobody_and_loses_nothing() {
    let plant = Plant::with(&["press", "oven"]).await;
    let (link, mut edge) = plant.link().await;
    for n in 0..3 {
        plant.send("press", &n.to_string()).await;
        plant.send("oven", &n.to_string()).await;
    }
    plant.send("lamp", "of nobody of its own").await;
    assert_eq!(told(&edge.brings().await).1, "edge-1");

    // The hub knows the oven, and does not know the press.
    let (mut oven, mut refused): (Option<Served>, u32) = (None, 0);
    while oven.is_none() || refused < 2 {
        let mut visitor = plant.hub.visitor().await;
        match &*visitor.connect.client_id {
            "press" => {
                assert_signed(&visitor, "press", &key(1));
                visitor.send(Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::NotAuthorized)))).await;
                refused += 1;
            }
            "oven" => {
                assert_signed(&visitor, "oven", &key(2));
                assert!(!visitor.connect.clean_start, "what the hub has for it waits for it");
                let user = visitor.connect.user_name.clone().unwrap();
                assert_eq!(&*user, format!("{HUB}/oven/?api-version=2021-04-12"));
                visitor.send(Packet::ConnAck(Box::new(welcome()))).await;
                oven = Some(Served::begin(visitor));
            }
            other => panic!("{other}"),
        }
    }
    let mut of_oven = Vec::new();
    for _ in 0..3 {
        of_oven.push(told(&oven.as_mut().unwrap().brings().await));
    }
    let expected = |child: &str, n: u64| (n.to_string(), child.to_owned(), format!("{child}/{n}"));
    assert_eq!(of_oven, (0..3).map(|n| expected("oven", n)).collect::<Vec<_>>());
    plant.drained("oven").await;
    assert_eq!(plant.waiting("press"), 3);
    until("the press is in trouble", || link.children().troubled.len() == 1).await;
    let status = link.children();
    assert_eq!((status.connected, status.waiting, status.troubled[0].child.as_str()), (1, 0, "press"));
    let reason = &status.troubled[0].reason;
    assert!(reason.contains("register the device press at the hub"), "{reason}");
    assert!(!reason.contains("upstream."), "it is no matter of the settings: {reason}");
    assert_eq!(link.status.status().counters.acknowledged, 4, "the oven's count, too");

    // Now it does.
    let mut press = Served::begin(plant.hub.welcomed(welcome()).await);
    for n in 0..3 {
        assert_eq!(told(&press.brings().await), expected("press", n));
    }
    plant.drained("press").await;
    until("nobody is in trouble", || link.children().troubled.is_empty()).await;
    assert_eq!(link.children().connected, 2);
    assert_eq!(link.stop().await.unacknowledged, 0);
    press.ends().await;
}

#[tokio::test]
async fn what_comes_down_for_a_child_is_the_childs() {
    let plant = Plant::with(&["press"]).await;
    let (broker, press) = (&plant.edge.broker, id("press"));
    let (link, _edge) = plant.link().await;
    // It has nothing to send; that it is here is enough.
    broker.present(&press, true);
    let mut side = Side::welcomed(&plant.hub).await;
    assert_eq!(side.device(), "press");
    broker.twins().report(&press, json!({ "rpm": 3 })).await.unwrap();
    let desired = json!({ "speed": 5, "modules": { "none": true } });
    side.gives_twin(desired.clone(), 4, json!({ "rpm": 1, "serial": "x" })).await;
    assert_eq!(side.filters.last().unwrap().0, "devices/press/messages/devicebound/#");

    // The twin is the child's, whatever its keys are, and what is reported here counts.
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "rpm": 3 }), "what only the hub had was taken under what is here");
    side.takes(&rid).await;
    let twin = || broker.twins().read(&press).unwrap();
    until("it is desired here", || Value::Object(twin().desired) == desired).await;
    assert_eq!(Value::Object(twin().reported), json!({ "rpm": 3, "serial": "x" }));
    side.desires(5, json!({ "speed": 6 })).await;
    until("it is changed here", || twin().desired["speed"] == 6 && twin().desired_version == 5).await;
    broker.twins().report(&press, json!({ "modules": "mine" })).await.unwrap();
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "modules": "mine" }));
    side.takes(&rid).await;
    // Others' twins are not told here.
    broker.twins().report(&id("edge-1"), json!({ "not": "told" })).await.unwrap();
    broker.twins().report(&id("press/m"), json!({ "not": "told" })).await.unwrap();

    let mut served = broker.methods().serve(&press);
    let server = tokio::spawn(async move {
        let call = served.next().await.unwrap();
        assert_eq!((&*call.name, &call.payload[..]), ("arm~reboot", &b"7"[..]));
        call.reply(MethodReply { status: 201, payload: "8".into() });
    });
    assert_eq!(side.calls("arm~reboot", "7").await, (201, json!(8)));
    server.await.unwrap();
    assert_eq!(side.calls("reboot", "").await.0, 404, "it is not connected with methods");

    // Messages: on disk before they are acknowledged, and once though one comes twice.
    side.orders(1, "a", false).await;
    side.has_acknowledged(1).await;
    drop(side);
    let mut side = Side::resumed(&plant.hub, true).await;
    side.orders(1, "a", true).await;
    side.orders(2, "b", false).await;
    // Without an identifier each is one, and so is another under the same.
    let mut named = PropertyBag::new();
    named.set("$.mid", "m-a");
    for (packet, bag) in [(3, PropertyBag::new()), (4, named)] {
        let publish = Publish::new(topics::cloud_to_device("press", &bag), "c");
        let packet_id = PacketId::new(packet);
        side.visitor.send(Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id, ..publish })).await;
    }
    side.gives_twin(json!({}), 5, json!({ "rpm": 3, "serial": "x", "modules": "mine" })).await;
    side.has_acknowledged(4).await;
    let waiting = broker.reader(LogId::child(&name("press"))).next(9).await.unwrap();
    let bodies: Vec<_> = waiting.iter().map(|one| one.envelope.message.body.clone()).collect();
    assert_eq!(bodies, ["a", "b", "c", "c"]);
    assert_eq!(waiting[0].envelope.message.properties.value("kind"), Some("a/b"));
    link.stop().await;
}

#[tokio::test]
async fn a_connection_stays_as_long_as_it_is_wanted_and_is_made_again_when_it_is() {
    let mut plant = Plant::with(&["press", "oven"]).await;
    plant.own.idle_after = IDLE;
    let (link, _edge) = plant.link().await;
    plant.send("press", "1").await;
    let mut side = Served::begin(plant.hub.welcomed(welcome()).await);
    assert_eq!(told(&side.brings().await).0, "1");
    // Nothing is left and the child is away.
    side.ends().await;
    until("none is connected", || link.children().connected == 0).await;
    plant.edge.broker.present(&id("press"), true);
    let mut side = Served::begin(plant.hub.welcomed(welcome()).await);
    plant.send("press", "2").await;
    assert_eq!(told(&side.brings().await).0, "2");
    // While it is here, that it sends nothing is no reason: others' connections end meanwhile.
    for n in 0..3 {
        plant.send("oven", &n.to_string()).await;
        Served::begin(plant.hub.welcomed(welcome()).await).ends().await;
    }
    plant.send("press", "3").await;
    assert_eq!(told(&side.brings().await).0, "3");
    plant.edge.broker.present(&id("press"), false);
    side.ends().await;
    link.stop().await;
}

#[tokio::test]
async fn what_a_cut_took_the_acknowledgement_of_comes_again_under_the_same_identity() {
    let plant = Plant::with(&["press"]).await;
    let (link, _edge) = plant.link().await;
    plant.send("press", "1").await;
    let mut side = Side::welcomed(&plant.hub).await;
    let first = loop {
        match side.visitor.packet().await.unwrap() {
            Packet::Publish(publish) if publish.topic.contains("/events/") => break told(&publish),
            Packet::Publish(_) => {}
            other => side.heard(other).await,
        }
    };
    drop(side);
    plant.send("press", "2").await;
    let mut side = Served::begin(plant.hub.welcomed(welcome()).await);
    assert_eq!(told(&side.brings().await), first);
    assert_eq!(told(&side.brings().await).2, "press/1");
    plant.drained("press").await;
    link.stop().await;
}

#[tokio::test]
async fn children_go_where_the_edge_is_and_wait_while_it_is_nowhere() {
    let plant = Plant::with(&["press"]).await;
    let other = Scripted::new().await;
    let mut config = plant.config(Some(plant.own.clone()));
    config.places.push(Place::of(target(other.port)));
    let link = plant.edge.link(config);
    plant.send("press", "1").await;
    // The edge is refused: nobody else comes.
    let mut visitor = plant.hub.visitor().await;
    for _ in 0..3 {
        assert_eq!(&*visitor.connect.client_id, "edge-1");
        visitor.send(Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::NotAuthorized)))).await;
        visitor = plant.hub.visitor().await;
    }
    visitor.send(Packet::ConnAck(Box::new(welcome()))).await;
    let edge = Served::begin(visitor);
    let mut press = Served::begin(plant.hub.welcomed(welcome()).await);
    assert_eq!(told(&press.brings().await).2, "press/0");
    plant.drained("press").await;

    // It is sent to the other hub, and the child goes with it.
    link.status.use_place(Some(&format!("127.0.0.1:{}", other.port))).unwrap();
    edge.ends().await;
    let _edge = Served::begin(other.welcomed(welcome()).await);
    press.ends().await;
    plant.send("press", "2").await;
    let visitor = other.welcomed(welcome()).await;
    assert_signed(&visitor, "press", &key(1));
    assert_eq!(told(&Served::begin(visitor).brings().await).2, "press/1");
    link.stop().await;
}

#[tokio::test]
async fn another_key_ends_the_connection_at_once_and_signs_the_next() {
    let plant = Plant::with(&["press"]).await;
    let (link, _edge) = plant.link().await;
    plant.send("press", "1").await;
    let visitor = plant.hub.welcomed(welcome()).await;
    assert_signed(&visitor, "press", &key(1));
    let mut side = Served::begin(visitor);
    side.brings().await;
    plant.drained("press").await;
    plant.registry.replace(device("press", 9)).unwrap();
    side.ends().await;
    let visitor = plant.hub.welcomed(welcome()).await;
    assert_signed(&visitor, "press", &key(9));
    let mut side = Served::begin(visitor);
    plant.send("press", "2").await;
    assert_eq!(told(&side.brings().await), ("2".to_owned(), "press".to_owned(), "press/1".to_owned()));
    link.stop().await;
}

#[tokio::test]
async fn what_a_child_leaves_that_is_removed_goes_up_as_the_edges() {
    let plant = Plant::with(&["press", "oven"]).await;
    let (link, mut edge) = plant.link().await;
    plant.edge.broker.present(&id("press"), true);
    let mut side = Side::welcomed(&plant.hub).await;
    plant.send("press", "1").await;
    // The hub says nothing to it.
    while !matches!(side.visitor.packet().await, Some(Packet::Publish(one)) if one.topic.contains("/events/"))
    {
    }
    plant.registry.remove(&id("press")).unwrap();
    while side.visitor.packet().await.is_some() {}
    let first = edge.brings().await;
    assert_eq!(told(&first), ("1".to_owned(), "edge-1".to_owned(), "edge-1/0".to_owned()));
    assert!(first.topic.contains("holdfast-source=press"), "{}", first.topic);
    plant.send("press", "2").await;
    assert_eq!(told(&edge.brings().await).2, "edge-1/1");
    plant.edge.drained().await;
    assert_eq!(plant.edge.broker.waiting_of_children(), BTreeMap::new());
    link.stop().await;
}

#[tokio::test]
async fn what_a_disabled_child_has_sent_waits_until_it_is_enabled() {
    let mut plant = Plant::with(&["press"]).await;
    plant.own.idle_after = IDLE;
    plant.send("press", "before anybody asked: the edge's").await;
    let disabled = Device { status: DeviceStatus::Disabled, ..device("press", 1) };
    plant.registry.replace(disabled).unwrap();
    let (link, mut edge) = plant.link().await;
    assert_eq!(told(&edge.brings().await).1, "edge-1");
    plant.send("press", "1").await;
    until("it is in trouble", || {
        let status = link.children();
        status.connected == 0 && status.troubled.iter().any(|one| one.reason.contains("device enable press"))
    })
    .await;
    assert_eq!(plant.waiting("press"), 1);
    plant.registry.replace(device("press", 1)).unwrap();
    let mut side = Served::begin(plant.hub.welcomed(welcome()).await);
    assert_eq!(told(&side.brings().await).0, "1");
    link.stop().await;
}

#[tokio::test]
async fn what_is_left_when_children_go_up_as_the_edges_again_is_the_edges() {
    let plant = Plant::with(&["press"]).await;
    let (link, edge) = plant.link().await;
    drop(edge);
    for n in 0..3 {
        plant.send("press", &n.to_string()).await;
    }
    let mut visitor = plant.hub.visitor().await;
    visitor.send(Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::NotAuthorized)))).await;
    link.stop().await;
    assert_eq!(plant.waiting("press"), 3);
    let link = plant.edge.link(plant.config(None));
    assert_eq!(link.status.status().children, None);
    let mut edge = Served::begin(loop {
        let mut visitor = plant.hub.visitor().await;
        if &*visitor.connect.client_id == "edge-1" {
            visitor.send(Packet::ConnAck(Box::new(welcome()))).await;
            break visitor;
        }
    });
    for n in 0..3 {
        assert_eq!(told(&edge.brings().await), (n.to_string(), "edge-1".to_owned(), format!("edge-1/{n}")));
    }
    assert_eq!(plant.waiting("press"), 0);
    link.stop().await;
}

#[tokio::test]
async fn where_more_children_want_a_connection_than_may_have_one_they_take_turns() {
    let mut plant = Plant::with(&["press", "oven", "pump"]).await;
    (plant.own.connections_max, plant.own.turn) = (1, Duration::from_millis(50));
    let (link, _edge) = plant.link().await;
    // All of them are here and stay.
    for child in ["press", "oven", "pump"] {
        plant.edge.broker.present(&id(child), true);
        plant.send(child, "1").await;
    }
    until("two wait", || link.children().waiting == 2).await;
    let (mut turns, mut came) = (BTreeMap::<String, usize>::new(), BTreeSet::new());
    // Each gets another turn after its first.
    while came.len() < 3 || turns.len() < 3 || turns.values().any(|turns| *turns < 2) {
        let visitor = plant.hub.welcomed(welcome()).await;
        let who = visitor.connect.client_id.to_string();
        assert!(link.children().connected <= 1);
        for publish in Served::begin(visitor).ends().await {
            assert_eq!(told(&publish), ("1".to_owned(), who.clone(), format!("{who}/0")));
            came.insert(who.clone());
        }
        *turns.entry(who).or_default() += 1;
    }
    link.stop().await;
}

#[tokio::test]
async fn who_has_no_key_goes_up_as_the_edges() {
    let plant = Plant::with(&["press"]).await;
    let certified = Device { credential: Credential::CertificateAuthority, ..device("oven", 0) };
    plant.registry.add(certified).unwrap();
    plant.registry.add(device("edge-1", 3)).unwrap();
    let (link, mut edge) = plant.link().await;
    plant.edge.broker.present(&id("oven"), true);
    for child in ["oven", "lamp", "edge-1"] {
        plant.send(child, child).await;
        assert_eq!(told(&edge.brings().await).1, "edge-1");
    }
    assert_eq!(link.children().connected, 0);
    link.stop().await;
}
