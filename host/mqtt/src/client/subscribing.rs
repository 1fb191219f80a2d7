//! What a client subscribes to when it connects, and what the server says of it.

use super::{Fault, in_flight::ID_MAX};
use crate::{Packet, PacketId, SubAck, Subscribe, Subscription};
use bytestring::ByteString;
use std::time::Instant;

/// Most filters that a client subscribes to. IoT Hub allows five for each device.
pub const SUBSCRIPTIONS_MAX: u16 = 8;

/// Subscriptions that the server has not answered for.
pub(super) struct Subscribing {
    since: Instant,
    /// None is answered for.
    open: Vec<Option<Subscription>>,
    refused: Vec<ByteString>,
}

impl Subscribing {
    pub(super) fn new(all: Vec<Subscription>, since: Instant) -> Self {
        Self { since, open: all.into_iter().map(Some).collect(), refused: Vec::new() }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Takes an answer; with the last one gives the filters that are not granted.
    pub(super) fn answered(&mut self, ack: &SubAck) -> Result<Option<Vec<ByteString>>, Fault> {
        let place = ids().position(|id| id == ack.packet_id);
        let one = place.and_then(|place| self.open.get_mut(place)?.take());
        let one = one.ok_or(Fault::UnknownPacketId(ack.packet_id))?;
        if ack.reasons.first().is_none_or(|reason| reason.is_failure()) {
            self.refused.push(one.filter);
        }
        let is_last = self.open.iter().all(Option::is_none);
        Ok(is_last.then(|| std::mem::take(&mut self.refused)))
    }
}

/// A SUBSCRIBE for each.
pub(super) fn packets(all: &[Subscription]) -> Vec<Packet> {
    let packet = |(packet_id, one): (PacketId, &Subscription)| {
        Packet::Subscribe(Box::new(Subscribe {
            packet_id,
            subscription_id: None,
            user_properties: Vec::new(),
            subscriptions: vec![one.clone()],
        }))
    };
    ids().zip(all).map(packet).collect()
}

/// The identifiers that subscriptions have: above those of messages.
fn ids() -> impl Iterator<Item = PacketId> {
    (ID_MAX..u16::MAX).filter_map(|below| PacketId::new(below + 1))
}
