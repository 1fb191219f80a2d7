//! Devices that speak the dialect of IoT Hub.

use super::{Client, House};
use holdfast_auth::{Credential, Device, DeviceStatus, SharedKey, sas};
use holdfast_mqtt::*;
use holdfast_types::{Identity, UnixMillis};
use serde_json::Value;

/// The key of every device here.
pub const KEY: [u8; 32] = [9; 32];

/// The name that tokens are for.
pub const HUB: &str = "hub.test";

/// Devices `lathe` and `saw`, and the edge with its module `scale`.
pub fn devices() -> impl Iterator<Item = Device> {
    ["lathe", "saw", "edge", "edge/scale"].into_iter().map(|name| Device {
        identity: Identity::parse(name).unwrap(),
        credential: Credential::SharedKey { primary: SharedKey::new(&KEY).unwrap(), secondary: None },
        status: DeviceStatus::Enabled,
        parent: None,
        generation: "g-1".into(),
        edge: name == "edge",
        added: UnixMillis(0),
    })
}

/// A token of `device` or `device/module`, for a host.
pub fn sas_token(host: &str, name: &str, key: &[u8], expiry_s: u64) -> String {
    sas::token(host, &Identity::parse(name).unwrap(), &SharedKey::new(key).unwrap(), expiry_s)
}

/// CONNECT of a device, or of `device/module`, as SDKs send it.
pub fn connect_device(name: &str) -> Connect {
    Connect {
        clean_start: false,
        keep_alive_s: 60,
        user_name: Some(format!("{HUB}/{name}/?api-version=2021-04-12&DeviceClientType=test%2F1").into()),
        password: Some(sas_token(HUB, name, &KEY, 4_000_000_000).into()),
        ..Connect::new(Version::V311, name)
    }
}

impl House {
    /// A device that is connected for the first time.
    pub async fn device(&self, name: &str) -> Client {
        let mut client = Client::dial(self.address, Version::V311).await;
        assert_eq!(client.connect(connect_device(name)).await.reason, ReasonCode::Success);
        client
    }

    /// A device that comes back to its subscriptions.
    pub async fn device_again(&self, name: &str) -> Client {
        let mut client = Client::dial(self.address, Version::V311).await;
        let ack = client.connect(connect_device(name)).await;
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, true));
        client
    }
}

impl Client {
    /// Asks something about the twin; gives the status, what follows it in the topic, and the body.
    pub async fn ask(&mut self, topic: &str, body: &str) -> (String, String, Value) {
        let packet_id = Some(self.id());
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id, ..Publish::new(topic, body.to_owned()) };
        self.send(&Packet::Publish(publish)).await;
        let (mut acknowledged, mut answer) = (false, None);
        while !acknowledged || answer.is_none() {
            match self.next().await {
                Some(Packet::PubAck(_)) => acknowledged = true,
                Some(Packet::Publish(publish)) => {
                    let ack = Ack::new(publish.packet_id.unwrap());
                    self.send(&Packet::PubAck(ack)).await;
                    answer = Some(publish);
                }
                other => panic!("{other:?} instead of an answer"),
            }
        }
        let answer = answer.unwrap();
        let (status, rest) = answer.topic.strip_prefix("$iothub/twin/res/").unwrap().split_once('/').unwrap();
        let body = serde_json::from_slice(&answer.payload).unwrap_or(Value::Null);
        (status.to_owned(), rest.to_owned(), body)
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        let packet_id = self.id();
        let unsubscribe = Unsubscribe { packet_id, filters: vec![filter.into()], user_properties: vec![] };
        self.send(&Packet::Unsubscribe(Box::new(unsubscribe))).await;
        assert!(matches!(self.next().await, Some(Packet::UnsubAck(ack)) if ack.packet_id == packet_id));
    }
}
