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
use holdfast_mqtt::{
    Ack, ConnAck, Packet, Publish, QoS, ReasonCode, Version,
    hub::{ClientName, Operation, PropertyBag},
};
use holdfast_types::{Message, SystemKey};
use holdfast_upstream::{IotHubConfig, UpstreamConfig};
use std::time::Duration;
use support::{
    Edge, config,
    scripted::{Scripted, Visitor, welcome},
};

const HUB: &str = "plant.azure-devices.net";

fn to_iot_hub(port: u16, token_life: Duration) -> UpstreamConfig {
    let hub = IotHubConfig { hub: HUB.into(), key: Some(SharedKey::new(&[7; 32]).unwrap()), token_life };
    UpstreamConfig { iot_hub: Some(hub), ..config(port, Version::V5) }
}

/// The bag of a message of the device `edge-1`.
fn bag(publish: &Publish) -> PropertyBag {
    match Operation::parse(&publish.topic).unwrap() {
        Operation::Telemetry { device: "edge-1", module: None, bag } => bag,
        other => panic!("{other:?}"),
    }
}

async fn acknowledged(hub: &mut Visitor) -> Publish {
    let publish = hub.publish().await;
    hub.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
    publish
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
    let mut hub = hub.welcomed(welcome()).await;

    assert_eq!((hub.connect.version, &*hub.connect.client_id), (Version::V311, "edge-1"));
    let user = hub.connect.user_name.clone().unwrap();
    assert_eq!(&*user, format!("{HUB}/edge-1/?api-version=2021-04-12"));
    assert!(ClientName::parse(&hub.connect.client_id, &user).is_ok());
    let password = String::from_utf8(hub.connect.password.clone().unwrap().to_vec()).unwrap();
    let resource = format!("SharedAccessSignature sr={HUB}%2Fdevices%2Fedge-1&");
    assert!(password.starts_with(&resource) && !password.contains("edgeHub"), "{password}");

    let first = acknowledged(&mut hub).await;
    assert_eq!((&first.payload[..], first.qos), (&br#"{"celsius":21}"#[..], QoS::AtLeastOnce));
    let all = bag(&first);
    assert_eq!(all.value("$.ct"), Some("application/json"));
    assert_eq!(all.value("$.mid"), Some("m/1"));
    assert_eq!(all.value("kind of"), Some("a/b+c &é"));
    assert_eq!(all.value("holdfast-source"), Some("meter/out"));
    assert!(all.value("$.ctime").is_some_and(|at| at.ends_with('Z')), "{all:?}");
    assert!(all.value("$.cdid").is_none() && all.value("iothub-connection-device-id").is_none());
    let id = |bag: &PropertyBag| bag.value("holdfast-id").unwrap().to_owned();
    let second = bag(&acknowledged(&mut hub).await);
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
        let mut visitor = hub.welcomed(welcome()).await;
        passwords.push(visitor.connect.password.clone().unwrap());
        if round == 0 {
            acknowledged(&mut visitor).await;
            acknowledged(&mut visitor).await;
        }
        assert!(matches!(visitor.packet().await, Some(Packet::Disconnect(_))));
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
    let mut hub = hub.welcomed(welcome()).await;
    assert_eq!(&acknowledged(&mut hub).await.payload[..], b"small");
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
