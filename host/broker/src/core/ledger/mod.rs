//! Which messages of the session log each session still needs.
//!
//! A session is done with every message of an order below `next`, but for those it has in hand: they were taken, and the
//! client has not acknowledged them. What comes after waits. All of it follows from the session's flow, a small
//! document, and from one pass over the log: [`Ledger::session`] with the flow that is on disk, [`Ledger::appended`] for
//! each record, and [`Ledger::settled`] at the end.
//!
//! One slow session must not keep the whole log: when most of its bytes are needed by nobody, what is still needed of its
//! oldest part is appended anew ([`Ledger::worth_cleaning`], [`Ledger::moved`]). Such a message keeps its order.

#[cfg(test)]
mod tests;

use super::{
    occupancy::Occupancy,
    positions::{Position, Positions},
};
use holdfast_store::{Flight, FlowRecord};
use holdfast_types::Offset;
use std::collections::{HashMap, VecDeque};

/// Bounds of a ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LedgerLimits {
    /// Messages that wait for one session. One more makes the oldest go.
    pub(crate) messages: u64,
    /// Runs of positions over all sessions, 24 bytes each. At the bound, a session that gets a message loses its oldest.
    pub(crate) runs: usize,
    /// Bytes of the log below which nothing is appended anew.
    pub(crate) clean_bytes: u64,
}

/// A message that a session has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InHand {
    flight: Flight,
    /// Where it lies; none if it is gone and only its packet identifier is left.
    at: Option<Offset>,
}

#[derive(Debug, Default)]
struct Session {
    next: Offset,
    packet: u16,
    waiting: Positions,
    in_hand: VecDeque<InHand>,
    /// Messages were shared with it, which others may get.
    shared: bool,
    changed: bool,
}

/// Every session's part of the log.
#[derive(Debug)]
pub(crate) struct Ledger {
    sessions: HashMap<u32, Session>,
    log: Occupancy,
    limits: LedgerLimits,
    runs: usize,
}

impl Ledger {
    /// A ledger of a log that begins at `cursor`.
    pub(crate) fn new(cursor: Offset, limits: LedgerLimits) -> Self {
        Self { sessions: HashMap::new(), log: Occupancy::starting_at(cursor), limits, runs: 0 }
    }

    /// Takes in a session as its flow describes it; the log is told of afterwards.
    pub(crate) fn session(&mut self, number: u32, flow: &FlowRecord) {
        let in_hand = flow.open.iter().map(|flight| InHand { flight: *flight, at: None }).collect();
        let session = Session { next: flow.next, packet: flow.packet, in_hand, ..Session::default() };
        self.sessions.insert(number, session);
    }

    /// Ends a session.
    pub(crate) fn end(&mut self, number: u32) {
        let Some(session) = self.sessions.remove(&number) else { return };
        self.runs -= session.waiting.runs();
        let in_hand = session.in_hand.iter().filter_map(|one| one.at);
        in_hand.chain(session.waiting.iter().map(|one| one.at)).for_each(|at| self.log.release(at));
    }

    /// A record has been appended, or was found in the log; each recipient with whether it was picked from a group. Gives
    /// the sessions that lost their oldest message for it.
    pub(crate) fn appended(
        &mut self,
        position: Position,
        bytes: u32,
        recipients: impl Iterator<Item = (u32, bool)>,
    ) -> Vec<u32> {
        self.log.append(position.at, bytes);
        let mut losers = Vec::new();
        for (number, shared) in recipients {
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            session.shared |= shared;
            if position.order < session.next {
                let open = session.in_hand.iter_mut().find(|one| one.flight.order == position.order);
                if let Some(one) = open.filter(|one| one.at.is_none()) {
                    one.at = Some(position.at);
                    self.log.need(position.at);
                }
                continue;
            }
            let runs = session.waiting.runs();
            // A crash between appending anew and passing over the first copy leaves both in the log.
            if session.waiting.insert(position) {
                self.log.need(position.at);
            }
            self.runs = self.runs + session.waiting.runs() - runs;
            if session.waiting.len() > self.limits.messages || self.runs > self.limits.runs {
                losers.extend(self.drop_oldest(number).then_some(number));
            }
        }
        losers
    }

    fn drop_oldest(&mut self, number: u32) -> bool {
        let Some(session) = self.sessions.get_mut(&number) else { return false };
        let runs = session.waiting.runs();
        let Some(oldest) = session.waiting.pop_front() else { return false };
        self.runs = self.runs + session.waiting.runs() - runs;
        session.next = session.next.max(oldest.order.next());
        session.changed = true;
        self.log.release(oldest.at);
        true
    }

    /// The whole log has been gone over: what a session had in hand and is not there any more is forgotten, and what it
    /// had not sent yet waits again. Gives how many were gone.
    pub(crate) fn settled(&mut self) -> u64 {
        let mut gone = 0;
        let numbers: Vec<u32> = self.sessions.keys().copied().collect();
        for number in numbers {
            if let Some(session) = self.sessions.get_mut(&number) {
                let lost = |one: &InHand| one.at.is_none() && !one.flight.released;
                gone += session.in_hand.iter().filter(|one| lost(one)).count() as u64;
                // The client may have one of QoS 2: it must be told to forget the identifier before that is used again.
                let may_know = |one: &InHand| one.flight.qos == 2 && one.flight.packet.is_some();
                session
                    .in_hand
                    .iter_mut()
                    .filter(|one| lost(one) && may_know(one))
                    .for_each(|one| one.flight.released = true);
                session.in_hand.retain(|one| !lost(one));
            }
            self.put_back(number);
        }
        gone
    }

    /// Messages that wait for a session, and those that it has in hand.
    pub(crate) fn messages(&self, number: u32) -> (u64, u64) {
        let session = self.sessions.get(&number);
        session.map_or((0, 0), |session| (session.waiting.len(), session.in_hand.len() as u64))
    }

    /// Messages that wait for a session.
    pub(crate) fn waiting(&self, number: u32) -> u64 {
        self.sessions.get(&number).map_or(0, |session| session.waiting.len())
    }

    /// Hands the next messages of a session out, at most `max`.
    pub(crate) fn take(&mut self, number: u32, max: usize) -> Vec<Position> {
        let Some(session) = self.sessions.get_mut(&number) else { return Vec::new() };
        let runs = session.waiting.runs();
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(position) = session.waiting.pop_front() else { break };
            let flight = Flight { order: position.order, packet: None, qos: 0, released: false };
            session.in_hand.push_back(InHand { flight, at: Some(position.at) });
            session.next = session.next.max(position.order.next());
            taken.push(position);
        }
        session.changed |= !taken.is_empty();
        self.runs = self.runs + session.waiting.runs() - runs;
        taken
    }

    /// The messages that a session has in hand and that have no packet identifier wait again: their connection is gone.
    pub(crate) fn put_back(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let runs = session.waiting.runs();
        for one in &session.in_hand {
            if let (None, Some(at)) = (one.flight.packet, one.at) {
                session.waiting.insert(Position { order: one.flight.order, at });
            }
        }
        session.in_hand.retain(|one| one.flight.packet.is_some());
        self.runs = self.runs + session.waiting.runs() - runs;
    }

    /// One message that was handed out waits again.
    pub(crate) fn return_one(&mut self, number: u32, order: Offset) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let found = session.in_hand.iter().position(|one| one.flight.order == order);
        let Some(one) = found.and_then(|index| session.in_hand.remove(index)) else { return };
        let runs = session.waiting.runs();
        if let Some(at) = one.at {
            session.waiting.insert(Position { order, at });
        }
        self.runs = self.runs + session.waiting.runs() - runs;
    }

    /// Where a message that a session has in hand lies now.
    pub(crate) fn place(&self, number: u32, order: Offset) -> Option<Offset> {
        let session = self.sessions.get(&number)?;
        let in_hand = session.in_hand.iter().find(|one| one.flight.order == order);
        in_hand.map_or_else(|| session.waiting.at(order), |one| one.at)
    }

    /// A message that was handed out has a packet identifier now.
    pub(crate) fn sent(&mut self, number: u32, order: Offset, packet: u16, qos: u8) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        session.packet = packet;
        session.changed = true;
        if let Some(one) = session.in_hand.iter_mut().find(|one| one.flight.order == order) {
            one.flight.packet = Some(packet);
            one.flight.qos = qos;
        }
    }

    /// The client has a message of QoS 2. Says whether it is one of these.
    pub(crate) fn released(&mut self, number: u32, packet: u16) -> bool {
        let Some(session) = self.sessions.get_mut(&number) else { return false };
        let found = session.in_hand.iter_mut().find(|one| one.flight.packet == Some(packet));
        found.is_some_and(|one| {
            one.flight.released = true;
            session.changed = true;
            true
        })
    }

    /// The session is done with the message of a packet identifier.
    pub(crate) fn done(&mut self, number: u32, packet: u16) {
        self.finish(number, |flight| flight.packet == Some(packet));
    }

    /// The session is done with the message of an order: it cannot be sent.
    pub(crate) fn gone(&mut self, number: u32, order: Offset) {
        self.finish(number, |flight| flight.order == order);
    }

    fn finish(&mut self, number: u32, is: impl Fn(&Flight) -> bool) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let found = session.in_hand.iter().position(|one| is(&one.flight));
        if let Some(one) = found.and_then(|index| session.in_hand.remove(index)) {
            session.changed = true;
            one.at.iter().for_each(|at| self.log.release(*at));
        }
    }

    /// A session is over, its client will not come back: everything waits but what the client may have of QoS 2, which
    /// nobody else gets. Says whether anything that was shared may be among it; if not, the session can be ended.
    pub(crate) fn is_over(&mut self, number: u32) -> bool {
        let Some(session) = self.sessions.get_mut(&number) else { return false };
        let runs = session.waiting.runs();
        for one in session.in_hand.drain(..) {
            let Some(at) = one.at else { continue };
            if one.flight.packet.is_none() || one.flight.qos == 1 {
                session.waiting.insert(Position { order: one.flight.order, at });
            } else {
                self.log.release(at);
            }
        }
        self.runs = self.runs + session.waiting.runs() - runs;
        session.changed = true;
        session.shared && session.waiting.len() > 0
    }

    /// A message came for a session that is over: it is kept for others of the group.
    pub(crate) fn left_behind(&mut self, number: u32, position: Position, bytes: u32) {
        let flow = FlowRecord { next: position.order, ..FlowRecord::default() };
        if !self.sessions.contains_key(&number) {
            self.session(number, &flow);
        }
        self.appended(position, bytes, std::iter::once((number, true)));
    }

    /// Sessions with messages that wait and that may have been shared.
    pub(crate) fn sharing(&self) -> Vec<u32> {
        let shares = |session: &Session| session.shared && session.waiting.len() > 0;
        self.sessions.iter().filter(|(_, session)| shares(session)).map(|(number, _)| *number).collect()
    }

    /// Messages that wait for a session, after the one of an order. They go on waiting.
    pub(crate) fn peek(&self, number: u32, after: Option<Offset>, max: usize) -> Vec<Position> {
        let Some(session) = self.sessions.get(&number) else { return Vec::new() };
        session.waiting.iter().filter(|one| Some(one.order) > after).take(max).collect()
    }

    /// A message that waits is no longer this session's. None if it does not wait.
    pub(crate) fn hand_over(&mut self, number: u32, order: Offset) -> Option<Position> {
        let session = self.sessions.get_mut(&number)?;
        let runs = session.waiting.runs();
        let position = session.waiting.remove(order)?;
        // What waits below becomes one that is open.
        session.next = session.next.max(order.next());
        session.changed = true;
        self.runs = self.runs + session.waiting.runs() - runs;
        self.log.release(position.at);
        Some(position)
    }

    /// Nobody else took it: it waits for this session again. The cursor has not moved meanwhile.
    pub(crate) fn take_back(&mut self, number: u32, position: Position) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let runs = session.waiting.runs();
        if session.waiting.insert(position) {
            self.log.need(position.at);
        }
        session.changed = true;
        self.runs = self.runs + session.waiting.runs() - runs;
    }

    /// What is to be remembered of a session.
    pub(crate) fn flow(&self, number: u32) -> Option<FlowRecord> {
        let session = self.sessions.get(&number)?;
        let returned = session.waiting.iter().take_while(|one| one.order < session.next);
        let returned = returned.map(|one| Flight { order: one.order, packet: None, qos: 0, released: false });
        let open = session.in_hand.iter().map(|one| one.flight).chain(returned).collect();
        Some(FlowRecord { next: session.next, packet: session.packet, open })
    }

    /// The same, to be written now: it counts as unchanged afterwards.
    pub(crate) fn flow_to_write(&mut self, number: u32) -> Option<FlowRecord> {
        let flow = self.flow(number);
        if let Some(session) = self.sessions.get_mut(&number) {
            session.changed = false;
        }
        flow
    }

    /// Sessions whose flow on disk is not the one here.
    pub(crate) fn changed(&self) -> Vec<u32> {
        self.sessions.iter().filter(|(_, session)| session.changed).map(|(number, _)| *number).collect()
    }

    /// What was written did not reach the disk.
    pub(crate) fn not_written(&mut self, number: u32) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.changed = true;
        }
    }

    /// The lowest offset that any session needs.
    pub(crate) fn cursor(&mut self) -> Offset {
        self.log.advance();
        self.log.cursor()
    }

    /// The store has dropped everything below `cursor` for want of room or time. Gives how many messages each session
    /// lost.
    pub(crate) fn dropped_below(&mut self, cursor: Offset) -> HashMap<u32, u64> {
        let mut lost = HashMap::new();
        if cursor <= self.log.cursor() {
            return lost;
        }
        for (number, session) in &mut self.sessions {
            let runs = session.waiting.runs();
            // A message that was appended anew may lie above others of a higher order.
            let gone: Vec<Position> = session.waiting.iter().filter(|one| one.at < cursor).collect();
            for one in &gone {
                session.waiting.remove(one.order);
                self.log.release(one.at);
            }
            self.runs = self.runs + session.waiting.runs() - runs;
            if !gone.is_empty() {
                session.changed = true;
                let last = gone.iter().map(|one| one.order.next()).max().unwrap_or_default();
                // What waits below becomes one that is open.
                session.next = session.next.max(last);
                lost.insert(*number, gone.len() as u64);
            }
            for one in &mut session.in_hand {
                if let Some(at) = one.at.filter(|at| *at < cursor) {
                    self.log.release(at);
                    one.at = None;
                }
            }
        }
        lost
    }

    /// A record cannot be read, or has expired: nobody needs it any more.
    pub(crate) fn unreadable(&mut self, at: Offset) {
        for session in self.sessions.values_mut() {
            let runs = session.waiting.runs();
            let waiting = session.waiting.iter().find(|one| one.at == at);
            if let Some(one) = waiting {
                session.waiting.remove(one.order);
                session.next = session.next.max(one.order.next());
                session.changed = true;
                self.log.release(at);
            }
            self.runs = self.runs + session.waiting.runs() - runs;
            for one in session.in_hand.iter_mut().filter(|one| one.at == Some(at)) {
                one.at = None;
                self.log.release(at);
            }
        }
    }

    /// Messages that wait or are in hand, over all sessions, and the bytes of the log: all, and those still needed.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let of = |session: &Session| session.waiting.len() + session.in_hand.len() as u64;
        let (bytes, live) = self.log.bytes();
        (self.sessions.values().map(of).sum(), bytes, live)
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// If less than half of the log's bytes is needed: the needed records of its oldest part, and where that part ends.
    pub(crate) fn worth_cleaning(&mut self, messages: usize, bytes: u64) -> Option<(Vec<Offset>, Offset)> {
        self.log.advance();
        let (all, live) = self.log.bytes();
        if all < self.limits.clean_bytes || live.saturating_mul(2) >= all {
            return None;
        }
        let (needed, upto) = self.log.oldest(messages, bytes);
        (!needed.is_empty()).then_some((needed, upto))
    }

    /// Whether a session needs the message of this order, which lies there.
    pub(crate) fn needs(&self, number: u32, position: Position) -> bool {
        self.place(number, position.order) == Some(position.at)
    }

    /// A message was appended anew. A session that is done with it by now does not need it there either.
    pub(crate) fn moved(
        &mut self,
        from: Position,
        to: Offset,
        bytes: u32,
        recipients: impl Iterator<Item = u32>,
    ) {
        self.log.append(to, bytes);
        for number in recipients.collect::<Vec<_>>() {
            if !self.needs(number, from) {
                continue;
            }
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            let runs = session.waiting.runs();
            if session.waiting.remove(from.order).is_some() {
                session.waiting.insert(Position { order: from.order, at: to });
            } else if let Some(one) = session.in_hand.iter_mut().find(|one| one.flight.order == from.order) {
                one.at = Some(to);
            }
            self.runs = self.runs + session.waiting.runs() - runs;
            self.log.release(from.at);
            self.log.need(to);
        }
    }
}
