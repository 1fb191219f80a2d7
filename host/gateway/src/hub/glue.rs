//! Where a connection meets the dialect: packets in, events out.

use super::{Event, Hub};
use crate::{connection::Client, end::End, plain::Plain, stats::Stats, wills::UserWill};
use bytes::Bytes;
use holdfast_mqtt::{
    AckProperties, Packet, Publish, QoS, ReasonCode, SubAck, Subscribe, UnsubAck, Unsubscribe,
    server::{Outcome, Ticket},
};

impl Client {
    /// Takes a message of a client of the dialect.
    pub(crate) fn hub_publish(&mut self, ticket: Ticket, publish: Publish) -> Result<(), End> {
        let Some(hub) = &mut self.hub else { return Ok(()) };
        match hub.publish(ticket, publish) {
            Ok(None) => {}
            Ok(Some(outcome)) => self.connection.settle(ticket, outcome),
            Err(end) => {
                // Nobody waits for its fate.
                let refused = Outcome::Refused(ReasonCode::ImplementationSpecificError);
                self.connection.settle(ticket, refused);
                return Err(end);
            }
        }
        Ok(())
    }

    /// Every filter is granted, with QoS 1 at most, whether it means something or not.
    pub(crate) fn hub_subscribe(&mut self, subscribe: &Subscribe) {
        let Some(hub) = &mut self.hub else { return };
        let granted = subscribe.subscriptions.iter().map(|one| match one.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce | QoS::ExactlyOnce => ReasonCode::GrantedQos1,
        });
        let reasons: Vec<_> = granted.collect();
        Stats::add(&self.shared.stats.subscriptions_granted, reasons.len());
        let properties = AckProperties::default();
        let answer = SubAck { packet_id: subscribe.packet_id, reasons, properties };
        let filters = subscribe.subscriptions.iter().map(|one| (one.filter.to_string(), one.qos));
        hub.subscribe(filters, Packet::SubAck(Box::new(answer)));
    }

    pub(crate) fn hub_unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let Some(hub) = &mut self.hub else { return };
        let reasons = unsubscribe.filters.iter().map(|_| ReasonCode::Success).collect();
        let properties = AckProperties::default();
        let answer = UnsubAck { packet_id: unsubscribe.packet_id, reasons, properties };
        let filters = unsubscribe.filters.iter().map(ToString::to_string);
        hub.unsubscribe(filters, Packet::UnsubAck(Box::new(answer)));
    }

    /// Whether the dialect holds up the client, which asked for more than was done.
    pub(crate) fn hub_is_behind(&self) -> bool {
        self.hub.as_ref().is_some_and(|hub| !hub.may_take_packets())
    }

    /// How many messages of the dialect the client can be sent now.
    pub(crate) fn hub_room(&self) -> usize {
        let has_room = self.out.len() < self.shared.limits.write_buffer_bytes_max;
        if self.hub.is_some() && has_room { self.connection.room() } else { 0 }
    }

    /// Does what the dialect wants to be done.
    pub(crate) fn hub_events(&mut self, events: Vec<Event>) -> Result<(), End> {
        for event in events {
            match event {
                Event::Answer(packet) => self.send(&packet),
                Event::Settle(ticket, outcome) => self.connection.settle(ticket, outcome),
                Event::Deliver(publish, sent) => self.hub_deliver(publish, sent),
                Event::Switch => {
                    if let Some(hub) = &mut self.hub {
                        hub.switch();
                    }
                }
                Event::End(end) => return Err(end),
            }
        }
        self.settle()
    }

    fn hub_deliver(&mut self, publish: Publish, sent: Option<super::Sent>) {
        let again = publish.dup;
        let mut packet = self.connection.deliver(publish);
        if let Packet::Publish(publish) = &mut packet {
            publish.dup = again;
        }
        let Packet::Publish(publish) = &packet else { return };
        let Some(hub) = &mut self.hub else { return };
        if let Err(error) = self.codec.encode(&packet, &mut self.out) {
            tracing::debug!(client = %hub.caller().identity, %error, topic = %Plain(&publish.topic), "a message cannot be sent");
            publish.packet_id.inspect(|id| self.connection.give_up(*id));
            Stats::one(&self.shared.stats.messages_lost);
            sent.inspect(|sent| hub.cannot_send(sent, &error));
            return;
        }
        if let Some(sent) = sent {
            hub.sent(publish.packet_id, sent);
        }
        Stats::one(&self.shared.stats.messages_out);
    }
}

/// The end of a connection of the dialect: its will is said, unless the client has said goodbye.
pub(crate) fn leave(hub: &Hub, will: Option<UserWill>, end: &End) {
    if let Some(UserWill { will, .. }) = will.filter(|_| end.wants_will()) {
        hub.will(&will.topic, Bytes::copy_from_slice(&will.payload), will.retain);
    }
}
