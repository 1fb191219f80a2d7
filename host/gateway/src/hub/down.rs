//! What clients are sent: messages from the cloud and to inputs, desired changes, method calls.

use super::{Event, Hub, bag, shared::DELIVERIES_MAX};
use crate::{end::End, episodes::warn_once};
use holdfast_broker::{Broker, Delivery, DesiredPatch, MethodCall, ReadError, Reader, Ticket, Turn};
use holdfast_mqtt::{
    PacketId, Publish, QoS,
    hub::{Feature, topics},
};
use holdfast_types::{LogId, Offset};

/// Most messages of one log that are handed to a client at once (edgeHub: 10).
const BATCH_MESSAGES_MAX: usize = 10;

/// The reader of a client's log.
pub(crate) struct Inbox {
    reader: Reader,
}

/// A message that was sent and not yet acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    inbox: Feature,
    ticket: Ticket,
    offset: Option<Offset>,
}

impl Inbox {
    pub(super) fn new(broker: &Broker, log: LogId) -> Self {
        Self { reader: broker.reader(log) }
    }

    pub(super) async fn next(&mut self, room: usize) -> Result<Vec<Delivery>, ReadError> {
        self.reader.next(room.min(BATCH_MESSAGES_MAX)).await
    }
}

impl Hub {
    pub(super) fn cloud_to_device(&self, messages: Result<Vec<Delivery>, ReadError>) -> Vec<Event> {
        self.deliveries(Feature::CloudToDevice, messages, |hub, delivery| {
            Some(topics::cloud_to_device(&hub.caller.identity.device, &bag::of_cloud_message(delivery)))
        })
    }

    pub(super) fn inputs(&self, messages: Result<Vec<Delivery>, ReadError>) -> Vec<Event> {
        self.deliveries(Feature::Inputs, messages, |hub, delivery| {
            let (module, input) = (hub.caller.identity.module.as_ref()?, delivery.input.as_ref()?);
            let bag = bag::of_input_message(delivery, hub.shared.broker.edge());
            Some(topics::input(&hub.caller.identity.device, module, input, &bag))
        })
    }

    fn deliveries(
        &self,
        inbox: Feature,
        messages: Result<Vec<Delivery>, ReadError>,
        topic: impl Fn(&Self, &Delivery) -> Option<String>,
    ) -> Vec<Event> {
        let messages = match messages {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(client = %self.caller.identity, %error, "a device cannot be sent its messages");
                return vec![Event::End(End::NotTaken(holdfast_mqtt::ReasonCode::ServerBusy))];
            }
        };
        let qos = self.granted(inbox);
        let mut events = Vec::with_capacity(messages.len());
        for delivery in messages {
            let sent =
                Sent { inbox, ticket: delivery.ticket, offset: delivery.id.as_ref().map(|id| id.sequence) };
            let times = self.times_handed_out(&sent);
            if times > DELIVERIES_MAX {
                self.give_up(&sent, &delivery);
                continue;
            }
            let Some(topic) = topic(self, &delivery) else {
                self.done(&sent);
                continue;
            };
            // The client may have it from an earlier connection (MQTT-3.3.1-1).
            let dup = times > 1 && qos != QoS::AtMostOnce;
            let publish = Publish { qos, dup, ..Publish::new(topic, delivery.envelope.message.body.clone()) };
            events.push(Event::Deliver(publish, Some(sent)));
        }
        events
    }

    /// How often a message was handed out, now included; only those from the cloud are counted.
    fn times_handed_out(&self, sent: &Sent) -> u32 {
        let (Feature::CloudToDevice, Some(offset), Some(inbox)) =
            (sent.inbox, sent.offset, self.inbox(sent.inbox))
        else {
            return 1;
        };
        self.shared.hub.handed_out(&self.shared.broker, inbox.reader.log(), offset)
    }

    /// Gives a message up that was handed out too often.
    fn give_up(&self, sent: &Sent, delivery: &Delivery) {
        let Some(inbox) = self.inbox(sent.inbox) else { return };
        let child = &self.caller.identity;
        tracing::warn!(%child, id = ?delivery.id, deliveries = DELIVERIES_MAX, "a device never acknowledges a message; it becomes a dead letter");
        let reason = format!("the device did not acknowledge it in {DELIVERIES_MAX} deliveries").into();
        let turn = Turn { dead: vec![(sent.ticket, reason, DELIVERIES_MAX)], ..Turn::default() };
        inbox.reader.settle(turn, |_| {});
        if let Some(offset) = sent.offset {
            self.shared.hub.done(&self.shared.broker, inbox.reader.log(), offset);
        }
    }

    /// Keeps what was sent until the client acknowledges it; what asks for no acknowledgement is done.
    pub(crate) fn sent(&mut self, id: Option<PacketId>, sent: Sent) {
        match id {
            Some(id) => {
                self.sent.insert(id, sent);
            }
            None => self.done(&sent),
        }
    }

    /// The client has acknowledged a message: the cursor of its log moves.
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        if let Some(sent) = self.sent.remove(&id) {
            self.done(&sent);
        }
    }

    /// A message cannot be sent, because no packet holds it.
    pub(crate) fn cannot_send(&self, sent: &Sent, why: &dyn std::fmt::Display) {
        let Some(inbox) = self.inbox(sent.inbox) else { return };
        warn_once!(
            self.shared.episodes, &format!("send {}", self.caller.identity), client = %self.caller.identity, %why,
            "a message cannot be sent to a device; it becomes a dead letter"
        );
        let turn = Turn { dead: vec![(sent.ticket, why.to_string().into(), 1)], ..Turn::default() };
        inbox.reader.settle(turn, |_| {});
    }

    fn done(&self, sent: &Sent) {
        // A feature that was turned off has no reader: its messages come again when it is turned on.
        let Some(inbox) = self.inbox(sent.inbox) else { return };
        inbox.reader.ack([sent.ticket]);
        if let (Feature::CloudToDevice, Some(offset)) = (sent.inbox, sent.offset) {
            self.shared.hub.done(&self.shared.broker, inbox.reader.log(), offset);
        }
    }

    fn inbox(&self, feature: Feature) -> Option<&Inbox> {
        match feature {
            Feature::CloudToDevice => self.cloud_to_device.as_ref(),
            Feature::Inputs => self.inputs.as_ref(),
            Feature::TwinResponses | Feature::DesiredPatches | Feature::Methods => None,
        }
    }

    pub(super) fn method_request(&self, call: MethodCall) -> Vec<Event> {
        let (name, payload) = (call.name.clone(), call.payload.clone());
        let rid = self.shared.hub.calls.keep(&self.caller.identity, call);
        self.one(Feature::Methods, topics::method_request(&name, &rid), payload)
    }

    pub(super) fn desired_patch(&self, patch: DesiredPatch) -> Vec<Event> {
        let mut body = patch.patch;
        if let Some(body) = body.as_object_mut() {
            body.insert("$version".to_owned(), patch.version.into());
        }
        self.one(Feature::DesiredPatches, topics::desired_patch(patch.version), body.to_string().into())
    }

    fn one(&self, feature: Feature, topic: String, payload: bytes::Bytes) -> Vec<Event> {
        let publish = Publish { qos: self.granted(feature), ..Publish::new(topic, payload) };
        vec![Event::Deliver(publish, None)]
    }
}
