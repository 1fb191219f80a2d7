//! An IoT Hub that does what the story says.

use super::scripted::{Scripted, Visitor, welcome};
use holdfast_mqtt::{
    Ack, AckProperties, ConnAck, Packet, PacketId, Publish, QoS, ReasonCode, SubAck,
    hub::{Operation, PropertyBag, topics},
};
use serde_json::{Value, json};

/// The hub's end of one connection: it grants each subscription, acknowledges each PUBLISH, and answers for the twin when the
/// story says so.
pub struct Side {
    pub visitor: Visitor,
    pub filters: Vec<(String, QoS)>,
    /// PUBACKs of the edge.
    pub acknowledged: Vec<u16>,
}

impl Side {
    pub async fn welcomed(hub: &Scripted) -> Self {
        Self::resumed(hub, false).await
    }

    pub async fn resumed(hub: &Scripted, session_present: bool) -> Self {
        let visitor = hub.welcomed(ConnAck { session_present, ..welcome() }).await;
        Self::of(visitor)
    }

    /// Of a connection that was welcomed.
    pub fn of(visitor: Visitor) -> Self {
        Self { visitor, filters: Vec::new(), acknowledged: Vec::new() }
    }

    /// Who the client says it is.
    pub fn device(&self) -> String {
        self.visitor.connect.client_id.to_string()
    }

    /// The next PUBLISH.
    pub async fn publish(&mut self) -> Publish {
        loop {
            match self.visitor.packet().await.expect("the edge is there") {
                Packet::Publish(publish) => {
                    self.visitor.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
                    return publish;
                }
                other => self.heard(other).await,
            }
        }
    }

    pub async fn heard(&mut self, packet: Packet) {
        match packet {
            Packet::Subscribe(all) => {
                let [one] = &all.subscriptions[..] else { panic!("{all:?}") };
                self.filters.push((one.filter.to_string(), one.qos));
                let reasons = vec![ReasonCode::GrantedQos1];
                let properties = AckProperties::default();
                let ack = SubAck { packet_id: all.packet_id, reasons, properties };
                self.visitor.send(Packet::SubAck(Box::new(ack))).await;
            }
            Packet::PubAck(ack) => self.acknowledged.push(ack.packet_id.get()),
            other => panic!("{other:?}"),
        }
    }

    /// The next telemetry.
    pub async fn telemetry(&mut self) -> Publish {
        loop {
            let publish = self.publish().await;
            if matches!(Operation::parse(&publish.topic), Ok(Operation::Telemetry { .. })) {
                return publish;
            }
        }
    }

    /// The next question for the twin; gives its number.
    pub async fn asked_for_twin(&mut self) -> String {
        let publish = self.publish().await;
        match Operation::parse(&publish.topic) {
            Ok(Operation::TwinGet { rid }) => rid.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// The next report; gives its number.
    pub async fn reported(&mut self) -> (String, Value) {
        let publish = self.publish().await;
        match Operation::parse(&publish.topic) {
            Ok(Operation::TwinReport { rid: Some(rid), version: None }) => {
                (rid.to_owned(), serde_json::from_slice(&publish.payload).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Answers the question for the twin as IoT Hub does.
    pub async fn gives_twin(&mut self, desired: Value, version: u64, reported: Value) {
        let rid = self.asked_for_twin().await;
        self.twin_is(&rid, desired, version, reported).await;
    }

    pub async fn twin_is(&mut self, rid: &str, mut desired: Value, version: u64, mut reported: Value) {
        desired["$version"] = version.into();
        reported["$version"] = 7.into();
        let twin = json!({ "desired": desired, "reported": reported });
        self.tells(topics::twin_response(200, rid, None), &twin).await;
    }

    pub async fn takes(&mut self, rid: &str) {
        self.says(topics::twin_response(204, rid, Some(8)), "").await;
    }

    pub async fn desires(&mut self, version: u64, mut patch: Value) {
        patch["$version"] = version.into();
        self.tells(topics::desired_patch(version), &patch).await;
    }

    pub async fn tells(&mut self, topic: String, body: &Value) {
        self.says(topic, &body.to_string()).await;
    }

    pub async fn says(&mut self, topic: String, body: &str) {
        self.visitor.send(Packet::Publish(Publish::new(topic, body.to_owned()))).await;
    }

    /// Sends a message from the cloud, with QoS 1.
    pub async fn orders(&mut self, packet: u16, body: &str, dup: bool) {
        let mut bag = PropertyBag::new();
        bag.set("$.mid", &format!("m-{body}"));
        bag.set("kind", "a/b");
        let publish = Publish::new(topics::cloud_to_device(&self.device(), &bag), body.to_owned());
        let (qos, packet_id) = (QoS::AtLeastOnce, PacketId::new(packet));
        self.visitor.send(Packet::Publish(Publish { qos, packet_id, dup, ..publish })).await;
    }

    /// Calls a method; gives status and payload.
    pub async fn calls(&mut self, name: &str, payload: &str) -> (i32, Value) {
        self.says(topics::method_request(name, "call-7"), payload).await;
        let publish = self.publish().await;
        match Operation::parse(&publish.topic) {
            Ok(Operation::MethodResponse { status, rid: "call-7" }) => {
                (status, serde_json::from_slice(&publish.payload).unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the acknowledgement of a message from the cloud.
    pub async fn has_acknowledged(&mut self, packet: u16) {
        while !self.acknowledged.contains(&packet) {
            let packet = self.visitor.packet().await.expect("the edge is there");
            self.heard(packet).await;
        }
    }
}
