//! What must be recorded before a packet may leave, for sessions that outlive their connection.
//!
//! - A message of QoS 2 leaves when its packet identifier is recorded, and PUBREL when PUBREC is: both are in the flow of
//!   the session. One record of it is under way at a time; what comes meanwhile shares the next one.
//! - PUBCOMP leaves when it is recorded that the client's identifier is free.
//! - SUBACK and UNSUBACK leave when the subscriptions are recorded.
//!
//! PUBACK and PUBCOMP of the client are taken into the flow in memory. PUBCOMP is recorded as soon as no other record of the
//! flow is under way, and nothing waits for that; PUBACK a little later. So a message of QoS 1 may come twice after a crash,
//! and seldom a PUBREL, which not every client takes a second time.

use crate::{board::Board, connection::Client, end::End, translate};
use bytes::BytesMut;
use holdfast_broker::{SessionRecord, StoredSession};
use holdfast_mqtt::{Packet, PacketId, Publish, QoS, ReasonCode};
use holdfast_types::Offset;
use std::{collections::BTreeMap, sync::Arc};

/// Records awaited for one client, the flow's apart. At this bound the client is not read from.
pub(crate) const PROMISES_MAX: usize = 64;

/// Bytes that leave when something is recorded.
struct Promise {
    bytes: BytesMut,
    /// The client's packet identifier that is free then.
    released: Option<PacketId>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flow,
    /// The flow, and nothing waits for it.
    Completed,
    Release,
    Subscriptions,
}

/// The promises of a connection.
pub(crate) struct Durable {
    pub(crate) session: StoredSession,
    board: Arc<Board>,
    next: u64,
    promises: BTreeMap<u64, Promise>,
    /// What waits for the next record of the flow.
    waiting: BytesMut,
    /// What was sent on an earlier connection waits to be sent again, and everything else behind it.
    resuming: bool,
    /// A PUBCOMP has come that is not recorded.
    completed: bool,
    expiry_s: u32,
}

impl Durable {
    pub(crate) fn new(session: StoredSession, board: Arc<Board>, expiry_s: u32) -> Self {
        let (promises, waiting) = (BTreeMap::new(), BytesMut::new());
        Self { session, board, next: 0, promises, waiting, resuming: false, completed: false, expiry_s }
    }

    /// Bytes that wait for a record.
    pub(crate) fn held_back(&self) -> usize {
        self.waiting.len() + self.promises.values().map(|promise| promise.bytes.len()).sum::<usize>()
    }

    /// Whether so many records are awaited that the client is not read from.
    pub(crate) fn is_behind(&self) -> bool {
        self.promises.len() >= PROMISES_MAX
    }

    /// Whether new messages have to wait.
    pub(crate) fn is_resuming(&self) -> bool {
        self.resuming
    }

    /// Where a message has to wait: one of QoS 2 for the next record of the flow, and one of QoS 1 behind those that wait,
    /// so that messages leave in the order of their identifiers, in which they would be sent again.
    fn queue_of(&mut self, qos: QoS) -> Option<&mut BytesMut> {
        if qos == QoS::ExactlyOnce || !self.waiting.is_empty() {
            return Some(&mut self.waiting);
        }
        let flow = self.promises.values_mut().find(|promise| promise.kind == Kind::Flow);
        flow.map(|promise| &mut promise.bytes)
    }

    fn awaits(&self, kind: Kind) -> bool {
        self.promises.values().any(|promise| promise.kind == kind)
    }

    fn promise(&mut self, promise: Promise) -> impl FnOnce(bool) + Send + 'static {
        self.next += 1;
        let number = self.next;
        self.promises.insert(number, promise);
        let board = self.board.clone();
        move |recorded| board.keep(number, recorded)
    }

    fn keep_flow(&mut self) {
        if self.awaits(Kind::Flow) {
            return;
        }
        let kind = match self.waiting.is_empty() && !self.resuming {
            false => Kind::Flow,
            true if self.completed && !self.awaits(Kind::Completed) => Kind::Completed,
            true => return,
        };
        self.completed = false;
        let bytes = self.waiting.split();
        let kept = self.promise(Promise { bytes, released: None, kind });
        self.session.keep_flow(move |answer| kept(answer.is_ok()));
    }

    /// Packet identifiers of the client that may not be free on disk yet.
    pub(crate) fn unreleased(&self) -> impl Iterator<Item = PacketId> {
        self.promises.values().filter_map(|promise| promise.released)
    }
}

impl Client {
    /// Sends a packet when what it says is recorded.
    pub(crate) fn send_when_recorded(&mut self, packet: &Packet) {
        let Some(durable) = &mut self.durable else {
            self.send(packet);
            return;
        };
        let mut bytes = BytesMut::new();
        if self.codec.encode(packet, &mut bytes).is_err() {
            // It ends the connection.
            self.send(packet);
            return;
        }
        match packet {
            Packet::PubRel(ack) if durable.session.released(ack.packet_id) => {
                durable.waiting.extend_from_slice(&bytes);
            }
            Packet::PubComp(ack) if ack.reason == ReasonCode::Success => {
                let released = Some(ack.packet_id);
                let kept = durable.promise(Promise { bytes, released, kind: Kind::Release });
                durable.session.forget_received(ack.packet_id, move |answer| kept(answer.is_ok()));
            }
            Packet::SubAck(_) | Packet::UnsubAck(_) => {
                let kept = durable.promise(Promise { bytes, released: None, kind: Kind::Subscriptions });
                let record = SessionRecord {
                    user: self.key.user.clone(),
                    client_id: self.key.client_id.as_str().into(),
                    expiry_s: durable.expiry_s,
                    away_since: None,
                    subscriptions: self.subscriptions.records(),
                };
                durable.session.keep(&record, move |answer| kept(answer.is_ok()));
            }
            _ => self.out.extend_from_slice(&bytes),
        }
    }

    /// Whether a message of the session log has to wait, see [`Self::send_recorded`].
    pub(crate) fn holds_back(&mut self, qos: QoS) -> bool {
        self.durable.as_mut().is_some_and(|durable| durable.queue_of(qos).is_some())
    }

    /// Sends a message of the session log. One of QoS 2 waits until its packet identifier is recorded, and others of this log
    /// behind it.
    pub(crate) fn send_recorded(&mut self, order: Offset, publish: &Publish, bytes: BytesMut) {
        let (Some(durable), Some(id)) = (&mut self.durable, publish.packet_id) else {
            self.out.unsplit(bytes);
            return;
        };
        durable.session.sent(order, id, publish.qos as u8);
        match durable.queue_of(publish.qos) {
            Some(queue) => queue.extend_from_slice(&bytes),
            None => self.out.unsplit(bytes),
        }
    }

    /// Takes up what an earlier connection of the session has left, to be sent again when all of it is surely recorded.
    pub(crate) fn take_up(&mut self) {
        let unfinished = self.subscriptions.attend();
        let (version, now) = (self.connection.rules().version, self.shared.broker.now());
        let mut kept = Vec::with_capacity(unfinished.len());
        for one in unfinished {
            let Some(message) = one.message else {
                kept.push((one.packet, None));
                continue;
            };
            if let Some(publish) = translate::publish_again(&message, version, now) {
                kept.push((one.packet, Some(publish)));
                self.subscriptions.sent(one.packet, message);
            }
        }
        let Some(durable) = &mut self.durable else { return };
        // The connection before may have ended before its packet identifiers were recorded.
        let in_two_steps = |publish: &Option<Publish>| {
            publish.as_ref().is_none_or(|publish| publish.qos == QoS::ExactlyOnce)
        };
        durable.resuming = kept.iter().any(|(_, publish)| in_two_steps(publish));
        self.connection.take_up(durable.session.last_packet(), kept);
    }

    /// Asks for the record that packets wait for.
    pub(crate) fn keep_flow(&mut self) {
        self.durable.iter_mut().for_each(Durable::keep_flow);
    }

    /// Sends what has been recorded.
    pub(crate) fn take_kept(&mut self) -> Result<(), End> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        for (number, recorded) in self.board.take_kept() {
            if !recorded {
                return Err(End::NotTaken(ReasonCode::ServerBusy));
            }
            if let Some(promise) = durable.promises.remove(&number) {
                durable.resuming &= promise.kind != Kind::Flow;
                self.out.extend_from_slice(&promise.bytes);
            }
        }
        Ok(())
    }

    /// Whether retained messages have to wait for a SUBACK.
    pub(crate) fn holds_backlog(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.awaits(Kind::Subscriptions))
    }

    /// The client's acknowledgement of a message is taken into the flow.
    pub(crate) fn note_acknowledged(&mut self, packet: &Packet) {
        let Some(durable) = &mut self.durable else { return };
        match packet {
            Packet::PubAck(ack) => durable.session.done(ack.packet_id),
            Packet::PubComp(ack) => {
                durable.session.done(ack.packet_id);
                durable.completed = true;
            }
            Packet::PubRec(ack) if ack.reason.is_failure() => durable.session.done(ack.packet_id),
            _ => {}
        }
    }
}
