//! Acknowledgements leave in the order in which the messages came, whatever the order in which they got durable.

use crate::{Ack, Packet, PacketId, ReasonCode, Version};
use std::collections::VecDeque;

/// Stands for one PUBLISH from the client until its fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// What became of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that an acknowledgement promises is true.
    Taken,
    /// It was not taken. The client of version 5 is told why; version 3.1.1 has no word for no, so that the connection
    /// ends instead of a false acknowledgement (MQTT-3.3.5-2).
    Refused(ReasonCode),
}

/// The kind of acknowledgement that a PUBLISH waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// QoS 0.
    Nothing,
    PubAck(PacketId),
    PubRec(PacketId),
}

#[derive(Debug)]
struct Slot {
    awaits: Awaits,
    outcome: Option<Outcome>,
    bytes: usize,
}

/// The PUBLISH packets whose fate is open, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Acks {
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
    owed: usize,
}

impl Acks {
    pub(super) fn open(&mut self, awaits: Awaits, bytes: usize) -> Ticket {
        let ticket = Ticket(self.first + self.slots.len() as u64);
        self.slots.push_back(Slot { awaits, outcome: None, bytes });
        self.bytes += bytes;
        self.owed += usize::from(awaits != Awaits::Nothing);
        ticket
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        let slot =
            ticket.0.checked_sub(self.first).and_then(|at| self.slots.get_mut(usize::try_from(at).ok()?));
        if let Some(slot) = slot {
            slot.outcome = Some(outcome);
        }
    }

    /// The next PUBLISH in order whose fate is known.
    pub(super) fn next(&mut self) -> Option<(Awaits, Outcome)> {
        let outcome = self.slots.front()?.outcome?;
        let slot = self.slots.pop_front()?;
        self.first += 1;
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        self.owed = self.owed.saturating_sub(usize::from(slot.awaits != Awaits::Nothing));
        Some((slot.awaits, outcome))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many acknowledgements are owed: all but QoS 0.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Identifiers of QoS 2 messages whose fate is open.
    pub(super) fn open_qos2(&self) -> impl Iterator<Item = PacketId> {
        self.slots.iter().filter_map(|slot| match slot.awaits {
            Awaits::PubRec(id) => Some(id),
            Awaits::Nothing | Awaits::PubAck(_) => None,
        })
    }
}

/// The acknowledgement for `awaits`, nothing for QoS 0, or the reason for which the connection has to end.
pub(super) fn answer(
    awaits: Awaits,
    outcome: Outcome,
    version: Version,
) -> Result<Option<Packet>, ReasonCode> {
    let reason = match outcome {
        Outcome::Taken => ReasonCode::Success,
        Outcome::Refused(reason) => reason,
    };
    let may_say_no = version == Version::V5 && says_no(reason);
    Ok(match awaits {
        Awaits::Nothing => None,
        _ if reason.is_failure() && !may_say_no => return Err(reason),
        Awaits::PubAck(id) => Some(Packet::PubAck(Ack::with(id, reason))),
        Awaits::PubRec(id) => Some(Packet::PubRec(Ack::with(id, reason))),
    })
}

/// Whether a PUBACK or PUBREC can carry this reason (MQTT 5, table 3-4). After any other, the client is to try again on
/// a new connection.
fn says_no(reason: ReasonCode) -> bool {
    use ReasonCode::*;
    matches!(
        reason,
        UnspecifiedError
            | ImplementationSpecificError
            | NotAuthorized
            | TopicNameInvalid
            | PacketIdentifierInUse
            | QuotaExceeded
            | PayloadFormatInvalid
    )
}
