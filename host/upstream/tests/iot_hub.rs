//! The link to an Azure IoT Hub, against a server that takes apart what it is told, as IoT Hub does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_auth::SharedKey;
use holdfast_broker::{MethodReply, Twin};
use holdfast_mqtt::{
    Ack, ConnAck, Packet, Publish, QoS, ReasonCode, Version,
    hub::{ClientName, Operation, PropertyBag, topics},
};
use holdfast_routes::RouteDefinition;
use holdfast_types::{Identity, LogId, Message, Name, SystemKey};
use holdfast_upstream::{Dialect, IotHubConfig, UpstreamConfig};
use serde_json::{Value, json};
use std::time::Duration;
use support::{
    Edge, config,
    iot_hub::Side,
    routes,
    scripted::{Scripted, welcome},
    until,
};

const HUB: &str = "plant.azure-devices.net";

fn to_iot_hub(port: u16, token_life: Duration) -> UpstreamConfig {
    let key = Some(SharedKey::new(&[7; 32]).unwrap());
    let hub = IotHubConfig { hub: HUB.into(), key, token_life, children: None };
    UpstreamConfig { dialect: Dialect::IotHub(hub), ..config(port, Version::V5) }
}

/// The bag of a message of the device `edge-1`.
fn bag(publish: &Publish) -> PropertyBag {
    match Operation::parse(&publish.topic).unwrap() {
        Operation::Telemetry { device: "edge-1", module: None, bag } => bag,
        other => panic!("{other:?}"),
    }
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

async fn twin(edge: &Edge, who: &str) -> Twin {
    edge.broker.twins().get(&id(who)).await.unwrap()
}

async fn until_desired(edge: &Edge, who: &str, desired: Value) {
    until("it is desired here", || {
        Value::Object(edge.broker.twins().read(&id(who)).unwrap().desired) == desired
    })
    .await;
}

#[tokio::test]
async fn the_edge_is_a_device_of_the_hub_and_its_messages_are_telemetry_with_all_that_belongs_to_them() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let mut message = Message::new(r#"{"celsius":21}"#);
    message.system.set(SystemKey::ContentType, "application/json");
    message.system.set(SystemKey::MessageId, "m/1");
    message.properties.set("kind of", "a/b+c &é");
    // What the sender says of itself does not stand where a hub says who it is, nor over what the host says.
    message.properties.set("iothub-connection-device-id", "other");
    message.properties.set("holdfast-id", "other");
    message.properties.set("$.cdid", "other");
    edge.publish("meter", message).await;
    edge.publish("meter", Message::new("2")).await;
    let link = edge.link(to_iot_hub(hub.port, Duration::from_secs(3600)));
    let mut hub = Side::welcomed(&hub).await;

    let connect = hub.visitor.connect.clone();
    assert_eq!((connect.version, &*connect.client_id), (Version::V311, "edge-1"));
    assert!(!connect.clean_start, "what the hub has for the edge waits for it");
    let user = connect.user_name.clone().unwrap();
    assert_eq!(&*user, format!("{HUB}/edge-1/?api-version=2021-04-12"));
    assert!(ClientName::parse(&connect.client_id, &user).is_ok());
    let password = String::from_utf8(connect.password.clone().unwrap().to_vec()).unwrap();
    let resource = format!("SharedAccessSignature sr={HUB}%2Fdevices%2Fedge-1&");
    assert!(password.starts_with(&resource) && !password.contains("edgeHub"), "{password}");

    let first = hub.telemetry().await;
    assert_eq!((&first.payload[..], first.qos), (&br#"{"celsius":21}"#[..], QoS::AtLeastOnce));
    let all = bag(&first);
    assert_eq!(all.value("$.ct"), Some("application/json"));
    assert_eq!(all.value("$.mid"), Some("m/1"));
    assert_eq!(all.value("kind of"), Some("a/b+c &é"));
    assert_eq!(all.value("holdfast-source"), Some("meter/out"));
    assert!(all.value("$.ctime").is_some_and(|at| at.ends_with('Z')), "{all:?}");
    assert!(all.value("$.cdid").is_none() && all.value("iothub-connection-device-id").is_none());
    let id = |bag: &PropertyBag| bag.value("holdfast-id").unwrap().to_owned();
    let second = bag(&hub.telemetry().await);
    assert!(id(&all).starts_with("edge-1/") && id(&all).ends_with("/0"), "{all:?}");
    assert!(id(&second).ends_with("/1"), "{second:?}");
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn the_connection_is_made_anew_before_its_token_ends_and_nothing_waits_for_that() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let mut config = to_iot_hub(hub.port, Duration::from_secs(2));
    // The wait between attempts would show: a renewal has none.
    config.backoff.min = Duration::from_secs(3600);
    config.backoff.max = Duration::from_secs(3600);
    edge.fill("meter", 0, 2).await;
    let link = edge.link(config);
    let mut passwords = Vec::new();
    for round in 0..2 {
        let mut side = Side::resumed(&hub, round > 0).await;
        passwords.push(side.visitor.connect.password.clone().unwrap());
        if round == 0 {
            side.telemetry().await;
            side.telemetry().await;
        }
        loop {
            match side.visitor.packet().await.expect("it leaves in order") {
                Packet::Disconnect(_) => break,
                Packet::Publish(publish) => {
                    side.visitor.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
                }
                other => side.heard(other).await,
            }
        }
    }
    assert_ne!(passwords[0], passwords[1]);
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn what_an_iot_hub_would_hang_up_on_becomes_a_dead_letter_and_the_rest_passes() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    edge.publish("meter", Message::new("x".repeat(300 * 1024))).await;
    edge.publish("meter", Message::new("small")).await;
    let link = edge.link(to_iot_hub(hub.port, Duration::from_secs(3600)));
    let mut hub = Side::welcomed(&hub).await;
    assert_eq!(&hub.telemetry().await.payload[..], b"small");
    edge.drained().await;
    assert_eq!(edge.dead_letters().len(), 1);
    link.stop().await;
}

#[tokio::test]
async fn who_is_refused_by_a_hub_is_told_of_the_settings_that_a_hub_has() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let mut link = edge.link(to_iot_hub(hub.port, Duration::from_secs(3600)));
    hub.welcomed(ConnAck::new(ReasonCode::NotAuthorized)).await;
    let complaint = link.complaint().await;
    assert!(complaint.contains("upstream.key_file, and the device edge-1 at the hub"), "{complaint}");
    assert!(!complaint.contains("upstream.password"), "{complaint}");
    link.stop().await;
}

/// An edge that leads messages from the cloud to the module `horn`.
fn edge_with_orders() -> Edge {
    let text = "FROM Topic(\"devices/+/messages/devicebound\") INTO BrokeredEndpoint(\"/modules/horn/inputs/orders\")";
    let mut all = routes();
    all.push(RouteDefinition::new("orders", text));
    Edge::with_routes(all)
}

fn horn() -> LogId {
    LogId::module(&Name::new("horn").unwrap())
}

/// What waits for the module `horn`.
fn orders(edge: &Edge) -> u64 {
    edge.store.queues().iter().filter(|one| one.queue.log == horn()).map(|one| one.waiting).sum()
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn desired_properties_come_by_version_and_a_gap_makes_the_edge_ask_again() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    let first = side.asked_for_twin().await;
    let expected = [
        ("$iothub/twin/res/#", QoS::AtMostOnce),
        ("$iothub/twin/PATCH/properties/desired/#", QoS::AtMostOnce),
        ("$iothub/methods/POST/#", QoS::AtMostOnce),
        ("devices/edge-1/messages/devicebound/#", QoS::AtLeastOnce),
    ];
    assert_eq!(side.filters, expected.map(|(filter, qos)| (filter.to_owned(), qos)));
    side.twin_is(&first, json!({ "site": "north", "modules": { "horn": { "volume": 3 } } }), 4, json!({}))
        .await;
    until_desired(&edge, "edge-1/horn", json!({ "volume": 3 })).await;
    until_desired(&edge, "edge-1", json!({ "site": "north", "modules": { "horn": { "volume": 3 } } })).await;
    assert_eq!(twin(&edge, "edge-1").await.desired_version, 4);

    // The next one follows; one that is not newer, or a second time, changes nothing.
    side.desires(5, json!({ "site": null, "modules": { "horn": { "volume": 5 }, "lamp": { "on": true } } }))
        .await;
    side.desires(5, json!({ "site": "again" })).await;
    side.desires(3, json!({ "site": "old" })).await;
    until_desired(&edge, "edge-1/lamp", json!({ "on": true })).await;
    until_desired(&edge, "edge-1", json!({ "modules": { "horn": { "volume": 5 }, "lamp": { "on": true } } }))
        .await;
    assert_eq!(Value::Object(twin(&edge, "edge-1/horn").await.desired), json!({ "volume": 5 }));

    // One was missed: 6. What the hub gives is the whole, and a module that is in it no longer has nothing desired of it.
    side.desires(7, json!({ "late": true })).await;
    side.gives_twin(json!({ "late": true, "modules": { "horn": { "volume": 6 } } }), 7, json!({})).await;
    until_desired(&edge, "edge-1/lamp", json!({})).await;
    until_desired(&edge, "edge-1/horn", json!({ "volume": 6 })).await;
    side.desires(8, json!({ "late": null })).await;
    until_desired(&edge, "edge-1", json!({ "modules": { "horn": { "volume": 6 } } })).await;

    // A hub that has an older state gives nothing: it is cut, and comes back so.
    drop(side);
    let mut side = Side::welcomed(&hub).await;
    side.gives_twin(json!({ "site": "of the past" }), 2, json!({})).await;
    side.desires(3, json!({ "site": "of the past, too" })).await;
    side.desires(9, json!({ "site": "now" })).await;
    until_desired(&edge, "edge-1", json!({ "modules": { "horn": { "volume": 6 } }, "site": "now" })).await;
    assert_eq!(twin(&edge, "edge-1").await.desired_version, 9);
    link.stop().await;
}

#[tokio::test]
async fn what_modules_report_goes_up_with_what_was_reported_offline_and_over_cuts() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let twins = edge.broker.twins();
    twins.report(&id("edge-1/horn"), json!({ "volume": 3, "tone": { "hz": 440 } })).await.unwrap();
    twins.report(&id("press-7"), json!({ "child": true })).await.unwrap();
    twins.report(&id("edge-1/$edgeAgent"), json!({ "agent": true })).await.unwrap();
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    // What the hub has of a store that is lost stays: of the edge, and of a module.
    let before = json!({ "firmware": "1.2", "modules": { "lamp": { "on": true }, "horn": { "old": 1 } } });
    side.gives_twin(json!({}), 1, before).await;
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "modules": { "horn": { "volume": 3, "tone": { "hz": 440 } } } }));
    // It is cut before the answer, and the hub has taken it. Meanwhile it has changed.
    drop((side, rid));
    twins.report(&id("edge-1/horn"), json!({ "volume": null, "old": null })).await.unwrap();
    let mut side = Side::welcomed(&hub).await;
    let there = json!({ "firmware": "1.2", "modules": { "lamp": { "on": true }, "horn": { "old": 1, "volume": 3, "tone": { "hz": 440 } } } });
    side.gives_twin(json!({}), 1, there).await;
    let mut taken = Vec::new();
    until_taken(
        &mut side,
        &mut taken,
        |all| all.iter().any(|patch| patch["modules"]["horn"]["tone"]["hz"] == 550),
        || {
            let twins = twins.clone();
            async move {
                twins.report(&id("edge-1/horn"), json!({ "tone": { "hz": 550 } })).await.unwrap();
            }
        },
    )
    .await;
    assert_eq!(twin(&edge, "edge-1").await.reported["firmware"], "1.2");
    until("the lamp has what the hub kept of it", || {
        edge.broker.twins().read(&id("edge-1/lamp")).unwrap().reported.get("on") == Some(&Value::Bool(true))
    })
    .await;

    until("it is on disk that the hub has taken them", || {
        let taken = |who: &str| edge.broker.documents().value("link/reported", who).unwrap().is_some();
        ["edge-1", "edge-1/horn", "edge-1/lamp"].into_iter().all(taken)
    })
    .await;

    // From here on what is here counts, deletions too, whatever the hub has.
    drop(side);
    twins.report(&id("edge-1"), json!({ "firmware": null, "site": "north" })).await.unwrap();
    let mut side = Side::resumed(&hub, true).await;
    let there = json!({ "firmware": "1.2", "foreign": 1, "modules": { "lamp": { "on": true }, "horn": { "tone": { "hz": 550 } } } });
    side.gives_twin(json!({}), 1, there).await;
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "firmware": null, "foreign": null, "site": "north" }));
    side.takes(&rid).await;
    twins.remove(&id("edge-1/lamp")).await.unwrap();
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "modules": { "lamp": null } }));
    side.takes(&rid).await;
    link.stop().await;
}

/// Takes reports until one is there that the story waits for; `meanwhile` happens first.
async fn until_taken<F: Future<Output = ()>>(
    side: &mut Side,
    taken: &mut Vec<Value>,
    enough: impl Fn(&[Value]) -> bool,
    meanwhile: impl FnOnce() -> F,
) {
    meanwhile().await;
    while !enough(taken) {
        let (rid, patch) = side.reported().await;
        side.takes(&rid).await;
        taken.push(patch);
    }
}

#[tokio::test]
async fn a_report_that_is_refused_for_now_is_told_again_and_one_that_is_refused_for_good_holds_up_no_other() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let twins = edge.broker.twins();
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    side.gives_twin(json!({}), 1, json!({})).await;
    twins.report(&id("edge-1/horn"), json!({ "volume": 1 })).await.unwrap();
    for status in [429, 503] {
        let (rid, patch) = side.reported().await;
        assert_eq!(patch, json!({ "modules": { "horn": { "volume": 1 } } }));
        side.says(topics::twin_response(status, &rid, None), r#"{"message":"later"}"#).await;
        side.gives_twin(json!({}), 1, json!({})).await;
    }
    let (rid, _) = side.reported().await;
    side.says(topics::twin_response(400, &rid, None), "too large").await;
    // It is not told again while it is the same; others are.
    twins.report(&id("edge-1/lamp"), json!({ "on": true })).await.unwrap();
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "modules": { "lamp": { "on": true } } }));
    side.takes(&rid).await;
    twins.report(&id("edge-1/horn"), json!({ "volume": 2 })).await.unwrap();
    let (rid, patch) = side.reported().await;
    assert_eq!(patch, json!({ "modules": { "horn": { "volume": 2 } } }));
    side.takes(&rid).await;
    assert!(side.visitor.is_silent().await);
    link.stop().await;
}

#[tokio::test]
async fn methods_go_to_the_module_that_their_name_says_and_to_the_agent_without_one() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    side.gives_twin(json!({}), 1, json!({})).await;
    for (who, says) in [("edge-1/horn", "horn"), ("edge-1/$edgeAgent", "agent")] {
        let mut server = edge.broker.methods().serve(&id(who));
        tokio::spawn(async move {
            while let Some(call) = server.next().await {
                let payload: Value = serde_json::from_slice(&call.payload).unwrap_or_default();
                let payload = json!({ "who": says, "name": &*call.name, "said": payload }).to_string().into();
                call.reply(MethodReply { status: 299, payload });
            }
        });
    }
    let (status, said) = side.calls("horn~sound", r#"{"seconds":2}"#).await;
    assert_eq!((status, said), (299, json!({ "who": "horn", "name": "sound", "said": { "seconds": 2 } })));
    let (_, said) = side.calls("ping", "").await;
    assert_eq!(said, json!({ "who": "agent", "name": "ping", "said": null }));
    let (_, said) = side.calls("horn~a~b", "null").await;
    assert_eq!(said["name"], "a~b", "the first one counts");
    let (status, said) = side.calls("lamp~on", "").await;
    assert_eq!(status, 404);
    assert!(said["message"].as_str().unwrap().contains("edge-1/lamp is not connected"), "{said}");
    let (status, said) = side.calls("~on", "").await;
    assert_eq!(status, 400);
    assert!(said["message"].as_str().unwrap().contains("MODULE~METHOD"), "{said}");

    // One that is in hand when the connection is cut is answered to nobody; the next connection has methods again.
    let mut slow = edge.broker.methods().serve(&id("edge-1/slow"));
    side.says(topics::method_request("slow~wait", "9"), "").await;
    let call = slow.next().await.unwrap();
    drop(side);
    let mut side = Side::resumed(&hub, true).await;
    call.reply(MethodReply { status: 200, payload: "{}".into() });
    side.gives_twin(json!({}), 1, json!({})).await;
    assert_eq!(side.calls("ping", "1").await.0, 299);
    link.stop().await;
}

#[tokio::test]
async fn a_message_from_the_cloud_is_acknowledged_when_it_is_on_disk_and_comes_again_if_that_was_cut() {
    let (edge, hub) = (edge_with_orders(), Scripted::new().await);
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    side.gives_twin(json!({}), 1, json!({})).await;
    for n in 1..=3 {
        side.orders(n, &n.to_string(), false).await;
    }
    side.has_acknowledged(3).await;
    assert_eq!((&side.acknowledged[..], orders(&edge)), (&[1, 2, 3][..], 3));

    // The hub does not hear the acknowledgement of the fourth, and with the kept session it comes first, before anything else is
    // said.
    side.orders(4, "4", false).await;
    until("the fourth is on disk", || orders(&edge) == 4).await;
    drop(side);
    let mut side = Side::resumed(&hub, true).await;
    side.orders(4, "4", true).await;
    side.orders(5, "5", false).await;
    side.gives_twin(json!({}), 1, json!({})).await;
    side.has_acknowledged(5).await;
    let read = edge.broker.reader(horn()).next(9).await.unwrap();
    let bodies: Vec<_> = read.iter().map(|one| one.envelope.message.body.clone()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4", "4", "5"], "in order, and none is missing");
    let message = &read[0].envelope.message;
    assert_eq!(message.system.value(SystemKey::MessageId), Some("m-1"));
    assert_eq!(message.properties.value("kind"), Some("a/b"));

    // One that no route takes is not kept at the hub for ever, and what goes up by any route is nothing of the hub's own.
    assert_eq!(edge.waiting(), 0);
    link.stop().await;
}

#[tokio::test]
async fn a_message_from_the_cloud_is_not_acknowledged_while_it_cannot_be_recorded() {
    let text = "FROM Topic(\"devices/+/messages/devicebound\") INTO BrokeredEndpoint(\"/modules/horn/inputs/orders\")";
    let (edge, hub) = (Edge::with_routes(vec![RouteDefinition::new("orders", text)]), Scripted::new().await);
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    let mut side = Side::welcomed(&hub).await;
    side.gives_twin(json!({}), 1, json!({})).await;
    edge.store.close().unwrap();
    side.orders(1, "1", false).await;
    while let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(300), side.visitor.packet()).await
    {
        assert!(!matches!(packet, Packet::PubAck(_)), "it is acknowledged");
    }
    link.stop().await;
}

#[tokio::test]
async fn a_hub_that_ends_the_connection_over_subscriptions_still_gets_telemetry() {
    let (edge, hub) = (Edge::new(), Scripted::new().await);
    edge.fill("meter", 0, 1).await;
    let link = edge.link(to_iot_hub(hub.port, HOUR));
    loop {
        let mut visitor = hub.welcomed(welcome()).await;
        match visitor.packet().await {
            Some(Packet::Subscribe(_)) => drop(visitor),
            Some(Packet::Publish(publish)) => {
                visitor.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
                break edge.drained().await;
            }
            other => panic!("{other:?}"),
        }
    }
    link.stop().await;
}
