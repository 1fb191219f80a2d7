//! Messages between sending and acknowledgement.

use crate::{PacketId, Publish};
use std::collections::VecDeque;

/// Packet identifiers of messages run from 1 to this, and then again; those above are for SUBSCRIBE, so that the two never meet.
pub(super) const ID_MAX: u16 = u16::MAX - super::SUBSCRIPTIONS_MAX;

/// Messages in the order of their first sending. Identifiers are given in sequence, so that a message is found by the
/// distance of its identifier from the oldest one, without a map.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    slots: VecDeque<Slot<T>>,
    /// The identifier of the first slot, or of the next message if there is none.
    first: PacketId,
    bytes: usize,
    unacknowledged: usize,
    /// How many slots at the front have been sent on this connection, acknowledged or not.
    sent: usize,
    /// How many of these are not acknowledged.
    waiting: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// Taken when the message is acknowledged.
    ticket: Option<T>,
    bytes: usize,
    /// What to send again if the session outlives the connection.
    publish: Option<Publish>,
}

impl<T> InFlight<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            first: PacketId::MIN,
            bytes: 0,
            unacknowledged: 0,
            sent: 0,
            waiting: 0,
        }
    }

    /// From the oldest unacknowledged message to the newest, both included.
    pub(super) fn span(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// Payload bytes not acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.slots.len()
    }

    pub(super) fn next_id(&self) -> PacketId {
        id_after(self.first, self.slots.len())
    }

    /// Notes that the message with [`Self::next_id`] is sent.
    pub(super) fn push(&mut self, ticket: T, bytes: usize, publish: Option<Publish>) {
        self.slots.push_back(Slot { ticket: Some(ticket), bytes, publish });
        self.bytes += bytes;
        self.unacknowledged += 1;
        self.sent += 1;
        self.waiting += 1;
    }

    /// Takes the ticket of the message with `id`, if it is in flight on this connection.
    pub(super) fn acknowledge(&mut self, id: PacketId) -> Option<T> {
        let at = distance(self.first, id);
        let slot = self.slots.get_mut(at).filter(|_| at < self.sent)?;
        let ticket = slot.ticket.take()?;
        slot.publish = None;
        self.bytes -= slot.bytes;
        self.unacknowledged -= 1;
        self.waiting -= 1;
        while matches!(self.slots.front(), Some(Slot { ticket: None, .. })) {
            self.slots.pop_front();
            self.first = id_after(self.first, 1);
            self.sent = self.sent.saturating_sub(1);
        }
        Some(ticket)
    }

    /// Nothing is sent on the next connection yet.
    pub(super) fn connection_lost(&mut self) {
        self.sent = 0;
        self.waiting = 0;
    }

    /// The next message to send again, if fewer than `window` are unacknowledged on this connection.
    pub(super) fn next_unsent(&mut self, window: usize) -> Option<Publish> {
        loop {
            let slot = self.slots.get(self.sent)?;
            if self.waiting >= window {
                return None;
            }
            self.sent += 1;
            if let Some(publish) = &slot.publish {
                self.waiting += 1;
                return Some(publish.clone());
            }
        }
    }

    /// Forgets everything; identifiers go on from where they are.
    pub(super) fn clear(&mut self) {
        self.first = self.next_id();
        self.slots.clear();
        self.bytes = 0;
        self.unacknowledged = 0;
        self.sent = 0;
        self.waiting = 0;
    }
}

fn id_after(first: PacketId, steps: usize) -> PacketId {
    let steps = u16::try_from(steps % usize::from(ID_MAX)).unwrap_or(0);
    let zero_based = (u32::from(first.get()) - 1 + u32::from(steps)) % u32::from(ID_MAX);
    u16::try_from(zero_based + 1).ok().and_then(PacketId::new).unwrap_or(PacketId::MIN)
}

fn distance(first: PacketId, id: PacketId) -> usize {
    let (first, id) = (usize::from(first.get()), usize::from(id.get()));
    if id >= first { id - first } else { id + usize::from(ID_MAX) - first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_wrap_before_those_of_subscriptions_and_skip_zero() {
        let mut all = InFlight::new();
        for n in 0..200_000_u32 {
            let id = all.next_id();
            all.push(n, 1, None);
            assert_eq!(u32::from(id.get()), n % u32::from(ID_MAX) + 1);
            if n >= 100 {
                let old = n - 100;
                let id = PacketId::new(u16::try_from(old % u32::from(ID_MAX) + 1).unwrap()).unwrap();
                assert_eq!(all.acknowledge(id), Some(old));
            }
        }
        assert_eq!((all.span(), all.unacknowledged(), all.bytes()), (100, 100, 100));
    }

    #[test]
    fn an_acknowledgement_out_of_order_leaves_the_span_as_it_is() {
        let mut all = InFlight::new();
        let ids: Vec<_> = (0..4)
            .map(|n| {
                let id = all.next_id();
                all.push(n, 1, None);
                id
            })
            .collect();
        assert_eq!(all.acknowledge(ids[2]), Some(2));
        assert_eq!(all.acknowledge(ids[2]), None, "twice");
        assert_eq!((all.span(), all.unacknowledged()), (4, 3));
        assert_eq!(all.acknowledge(ids[0]), Some(0));
        assert_eq!((all.span(), all.unacknowledged()), (3, 2));
        assert_eq!(all.acknowledge(ids[1]), Some(1));
        assert_eq!((all.span(), all.unacknowledged()), (1, 1), "two leave together");
        assert_eq!(all.acknowledge(PacketId::new(77).unwrap()), None);
    }
}
