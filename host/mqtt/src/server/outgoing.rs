//! Messages on their way to the client: packet identifiers, the window, QoS 1 and QoS 2, sending again.

use crate::{Ack, Packet, PacketId, ProtocolError, Publish, QoS, ReasonCode};
use std::collections::VecDeque;

/// Messages that the client has not acknowledged yet, in the order in which they were sent.
///
/// Identifiers are given in turn, so that those in use lie between the oldest and the next; when the next would be the
/// oldest, nothing is sent until the oldest is acknowledged.
#[derive(Clone, Debug)]
pub struct Outgoing {
    flights: VecDeque<Flight>,
    next: PacketId,
}

#[derive(Clone, Debug)]
struct Flight {
    id: PacketId,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Sent; PUBACK or PUBREC is awaited.
    Sent(Box<Publish>),
    /// PUBREC has come and PUBREL was sent; PUBCOMP is awaited.
    Released,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { flights: VecDeque::new(), next: PacketId::MIN }
    }
}

impl Outgoing {
    /// How many messages are not acknowledged yet.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether all are acknowledged.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// How many more may be sent if the client takes `window` at once (MQTT-3.3.4-9).
    pub fn room(&self, window: usize) -> usize {
        let Some(oldest) = self.flights.front() else { return window };
        let identifiers = match distance(oldest.id, self.next) {
            0 => 0,
            used => usize::from(u16::MAX).saturating_sub(used),
        };
        window.saturating_sub(self.flights.len()).min(identifiers)
    }

    /// Gives `publish` an identifier if its quality of service needs one and remembers it. The caller has asked for
    /// [`Self::room`].
    pub fn send(&mut self, mut publish: Publish) -> Publish {
        publish.dup = false;
        if publish.qos == QoS::AtMostOnce {
            publish.packet_id = None;
            return publish;
        }
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(PacketId::MIN);
        publish.packet_id = Some(id);
        self.flights.push_back(Flight { id, stage: Stage::Sent(Box::new(publish.clone())) });
        publish
    }

    /// The client has a QoS 1 message. An unknown identifier is ignored: it may belong to a message that was given up.
    pub fn puback(&mut self, id: PacketId) -> Result<(), ProtocolError> {
        let Some(at) = self.position(id) else { return Ok(()) };
        match self.flights.get(at).map(|flight| &flight.stage) {
            Some(Stage::Sent(publish)) if publish.qos == QoS::AtLeastOnce => {
                self.flights.remove(at);
                Ok(())
            }
            _ => Err(wrong_ack("PUBACK", id)),
        }
    }

    /// The client has a QoS 2 message. Gives the PUBREL to send; none after a refusal (MQTT-4.3.3-4).
    pub fn pubrec(&mut self, ack: &Ack) -> Result<Option<Packet>, ProtocolError> {
        let id = ack.packet_id;
        let Some(at) = self.position(id) else {
            return Ok(Some(Packet::PubRel(Ack::with(id, ReasonCode::PacketIdentifierNotFound))));
        };
        if ack.reason.is_failure() {
            self.flights.remove(at);
            return Ok(None);
        }
        let Some(flight) = self.flights.get_mut(at) else { return Ok(None) };
        if let Stage::Sent(publish) = &flight.stage
            && publish.qos != QoS::ExactlyOnce
        {
            return Err(wrong_ack("PUBREC", id));
        }
        flight.stage = Stage::Released;
        Ok(Some(Packet::PubRel(Ack::new(id))))
    }

    /// The client has forgotten the identifier of a QoS 2 message.
    pub fn pubcomp(&mut self, id: PacketId) -> Result<(), ProtocolError> {
        let Some(at) = self.position(id) else { return Ok(()) };
        if matches!(self.flights.get(at).map(|flight| &flight.stage), Some(Stage::Sent(_))) {
            return Err(wrong_ack("PUBCOMP", id));
        }
        self.flights.remove(at);
        Ok(())
    }

    /// Forgets a message that cannot be sent.
    pub fn give_up(&mut self, id: PacketId) {
        if let Some(at) = self.position(id) {
            self.flights.remove(at);
        }
    }

    /// The messages that are not acknowledged, in the order in which they were sent first.
    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.flights.iter().map(|flight| flight.id)
    }

    /// What to send again for a message on a new connection; none if it was acknowledged since.
    pub fn again(&self, id: PacketId) -> Option<Packet> {
        let flight = self.flights.get(self.position(id)?)?;
        Some(match &flight.stage {
            Stage::Sent(publish) => Packet::Publish(Publish { dup: true, ..(**publish).clone() }),
            Stage::Released => Packet::PubRel(Ack::new(flight.id)),
        })
    }

    /// Takes up messages that were sent on an earlier connection and kept elsewhere since then, each with its identifier: a
    /// message to send again, or none where PUBREC has come. `last` is the identifier that was given last, 0 if none was.
    pub fn take_up(&mut self, last: u16, kept: impl IntoIterator<Item = (PacketId, Option<Publish>)>) {
        if self.flights.is_empty() && self.next == PacketId::MIN {
            self.next = last.checked_add(1).and_then(PacketId::new).unwrap_or(PacketId::MIN);
        }
        for (id, publish) in kept {
            let stage = match publish {
                Some(publish) => Stage::Sent(Box::new(Publish { packet_id: Some(id), ..publish })),
                None => Stage::Released,
            };
            self.flights.push_back(Flight { id, stage });
        }
        // Going on from the next identifier, the oldest in use comes first.
        let next = self.next;
        self.flights.make_contiguous().sort_by_key(|flight| distance(next, flight.id));
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        let oldest = self.flights.front()?.id;
        self.flights.binary_search_by_key(&distance(oldest, id), |flight| distance(oldest, flight.id)).ok()
    }
}

/// How many steps lead from one identifier to another, where 1 follows 65,535.
fn distance(from: PacketId, to: PacketId) -> usize {
    let (from, to) = (usize::from(from.get()), usize::from(to.get()));
    if to >= from { to - from } else { to + usize::from(u16::MAX) - from }
}

fn wrong_ack(name: &str, id: PacketId) -> ProtocolError {
    ProtocolError::violation(format!(
        "{name} for packet identifier {id} does not fit the message's quality of service"
    ))
}
