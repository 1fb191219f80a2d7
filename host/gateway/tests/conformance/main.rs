//! What both specifications of MQTT demand of a server, shown on a real gateway over a socket, by chapter.
//!
//! `tests/conformance/` has the tables that say which test covers which normative statement.
#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod malformed;
mod publish;
mod retained;
mod subscribe;

use holdfast_mqtt::*;
use support::Client;
use support::{House, connect};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

/// Subscribes and gives the reasons.
async fn subscribe(client: &mut Client, id: Option<u32>, wanted: Vec<Subscription>) -> Vec<ReasonCode> {
    let packet_id = client.id();
    let subscribe =
        Subscribe { packet_id, subscription_id: id, user_properties: vec![], subscriptions: wanted };
    client.send(&Packet::Subscribe(Box::new(subscribe))).await;
    match client.next().await {
        Some(Packet::SubAck(ack)) if ack.packet_id == packet_id => ack.reasons,
        other => panic!("{other:?} instead of SUBACK"),
    }
}

/// Ends subscriptions and gives the reasons.
async fn unsubscribe(client: &mut Client, filters: &[&'static str]) -> Vec<ReasonCode> {
    let packet_id = client.id();
    let filters = filters.iter().map(|filter| (*filter).into()).collect();
    let unsubscribe = Unsubscribe { packet_id, filters, user_properties: vec![] };
    client.send(&Packet::Unsubscribe(Box::new(unsubscribe))).await;
    match client.next().await {
        Some(Packet::UnsubAck(ack)) if ack.packet_id == packet_id => ack.reasons,
        other => panic!("{other:?} instead of UNSUBACK"),
    }
}

/// Publishes, with every step of its quality of service, and gives the first answer.
async fn publish(client: &mut Client, publish: Publish) -> ReasonCode {
    let packet_id = (publish.qos != QoS::AtMostOnce).then(|| client.id());
    let qos = publish.qos;
    client.send(&Packet::Publish(Publish { packet_id, ..publish })).await;
    match (qos, packet_id) {
        (QoS::AtLeastOnce, Some(id)) => match client.next().await {
            Some(Packet::PubAck(ack)) if ack.packet_id == id => ack.reason,
            other => panic!("{other:?} instead of PUBACK"),
        },
        (QoS::ExactlyOnce, Some(id)) => {
            let reason = match client.next().await {
                Some(Packet::PubRec(ack)) if ack.packet_id == id => ack.reason,
                other => panic!("{other:?} instead of PUBREC"),
            };
            if !reason.is_failure() {
                client.send(&Packet::PubRel(Ack::new(id))).await;
                assert_eq!(client.next().await, Some(Packet::PubComp(Ack::new(id))));
            }
            reason
        }
        _ => ReasonCode::Success,
    }
}

/// A message of QoS 1.
fn message(topic: &'static str, payload: &'static str) -> Publish {
    Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, payload) }
}

/// A message that is to be retained.
fn retained(topic: &'static str, payload: &'static str) -> Publish {
    Publish { retain: true, ..message(topic, payload) }
}

/// The topic and payload of a message.
fn said(publish: &Publish) -> (String, String) {
    (publish.topic.to_string(), String::from_utf8(publish.payload.to_vec()).unwrap())
}

/// Connects with a session that outlives the connection, and says whether it was there.
async fn session(house: &House, version: Version, id: &str, clean: bool) -> (Client, bool) {
    let mut client = Client::dial(house.address, version).await;
    let ack =
        client.connect(Connect { clean_start: clean, session_expiry_s: 3600, ..connect(version, id) }).await;
    assert_eq!(ack.reason, ReasonCode::Success);
    (client, ack.session_present)
}
