//! One task for each connection.
//!
//! It waits for whichever comes first: fates of messages, room to write, bytes to read, messages for the client, a
//! deadline, another connection of the same client, the end of the host. Each turn takes all that is there: one read
//! feeds many messages to the broker, one wake-up takes many fates, one write carries many acknowledgements.

use crate::{
    beside::Beside,
    board::Board,
    cuts::Thread,
    durable::Durable,
    end::End,
    greet::Greeted,
    hub::{self, Hub},
    inbound::Inbound,
    life::Begun,
    limits::FAIR_SHARE,
    linked::{self, Linked},
    outbound,
    pace::Pace,
    reading::{READ_BYTES, Reading},
    sessions::{Held, Kept, Key},
    shared::Shared,
    stats::Stats,
    subscriptions::Subscriptions,
};
use bytes::BytesMut;
use holdfast_broker::{Losses, Published, StoredSession};
use holdfast_mqtt::{
    Codec, ConnAck, Packet, ProtocolError, Publish, ReasonCode, Version,
    server::{Action, Connection, Outcome, Rules, Ticket},
};
use holdfast_types::TopicFilter;
use std::{
    collections::VecDeque,
    future::pending,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Longest time for the last bytes to a client.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// How far away a timer is set when nothing has a deadline.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// What was agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) rules: Rules,
    pub(crate) session_expiry_s: u32,
    /// The keep alive that the client is told to use in place of its own.
    pub(crate) server_keep_alive_s: Option<u16>,
    /// Whether the client wants reasons in words.
    pub(crate) problem_information: bool,
    /// Whether the client asked for a longer session and has to be told.
    pub(crate) expiry_shortened: bool,
}

/// A connection and all that it holds.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    pub(crate) terms: Terms,
    /// A packet that the client must get is larger than it takes.
    unsendable: Option<&'static str>,
    pub(crate) codec: Codec,
    pub(crate) connection: Connection,
    pub(crate) subscriptions: Subscriptions,
    /// What packets wait for, in a session that outlives its connection.
    pub(crate) durable: Option<Durable>,
    /// Retained messages for new subscriptions, until the window lets them go.
    pub(crate) backlog: VecDeque<Publish>,
    /// Topics that are kept from this client, whatever it has subscribed to.
    pub(crate) denied: Vec<TopicFilter>,
    /// Losses of the queue that have been dealt with.
    pub(crate) seen_lost: Losses,
    pub(crate) out: BytesMut,
    pub(crate) inbuf: BytesMut,
    /// Whether packets were left in it at the end of a turn.
    pub(crate) more: bool,
    /// Whether as many messages came for the client as are taken at once.
    pub(crate) flooded: bool,
    pub(crate) reading: Reading,
    inbound: Inbound,
    /// Present if the client speaks the dialect of IoT Hub.
    pub(crate) hub: Option<Box<Hub>>,
    /// Present if it is the link of an edge to this hub.
    pub(crate) linked: Option<Box<Linked>>,
    pub(crate) board: Arc<Board>,
    fates: Vec<(Ticket, Outcome)>,
    actions: Vec<Action>,
    pace: Pace,
    /// Whether the client is not read from.
    held_back: bool,
    /// Since when the client has taken no byte of what is to be written.
    stalled: Option<Instant>,
    pub(crate) beside: Beside,
    /// Whether bytes were written that the stream may still hold, as an encrypted one does.
    unflushed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    /// Bytes that the stream may hold until it is flushed.
    Bytes,
    /// Everything has left.
    All,
}

/// Writes what is there, or flushes if nothing is. Cancel safe.
async fn write_some(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> std::io::Result<Wrote> {
    if out.is_empty() {
        return writer.flush().await.map(|()| Wrote::All);
    }
    match writer.write_buf(out).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        _ => Ok(Wrote::Bytes),
    }
}

impl Client {
    pub(crate) fn begin(
        shared: Arc<Shared>,
        greeted: Greeted,
        key: Key,
        begun: Begun,
        beside: Beside,
    ) -> Self {
        let Begun { kept, session_present } = begun;
        let Kept { session, subscriptions } = *kept;
        let now = Instant::now();
        let board = Arc::new(Board::default());
        let hub = greeted.hub.map(|caller| {
            let kept = hub::Session { clean: greeted.clean_start, lasts: greeted.terms.session_expiry_s > 0 };
            Box::new(Hub::begin(&shared, &board, caller, kept))
        });
        let linked = greeted.link.map(|link| Linked::begin(link, &board));
        let session_present = session_present || hub.as_ref().is_some_and(|hub| hub.had_session());
        let stored = subscriptions.stored().cloned();
        let number = stored.as_ref().map(StoredSession::number);
        let durable = stored.map(|one| Durable::new(one, board.clone(), greeted.terms.session_expiry_s));
        let mut client = Self {
            hub,
            linked,
            inbound: Inbound::new(greeted.user, board.clone(), greeted.terms.rules.version, number),
            durable,
            connection: Connection::new(greeted.terms.rules, session, now),
            terms: greeted.terms,
            unsendable: None,
            codec: greeted.codec,
            seen_lost: subscriptions.lost(),
            subscriptions,
            backlog: VecDeque::new(),
            denied: shared.registry.denied(&key.user),
            out: BytesMut::new(),
            inbuf: greeted.rest,
            more: false,
            flooded: false,
            reading: Reading::new(now),
            board,
            fates: Vec::new(),
            actions: Vec::new(),
            pace: Pace::new(shared.limits.messages_per_second_max, shared.limits.bytes_per_second_max, now),
            held_back: false,
            stalled: None,
            unflushed: false,
            beside,
            key,
            shared,
        };
        Stats::one(&client.shared.stats.connections_accepted);
        client.send_connack(&greeted.terms, session_present, greeted.assigned);
        client.take_up();
        client
    }

    fn send_connack(&mut self, terms: &Terms, session_present: bool, assigned: bool) {
        let mut ack = ConnAck::new(ReasonCode::Success);
        ack.session_present = session_present;
        if terms.rules.version == Version::V5 {
            let limits = &self.shared.limits;
            ack.session_expiry_s = terms.expiry_shortened.then_some(terms.session_expiry_s);
            ack.receive_maximum = limits.unacked_max.try_into().ok();
            ack.maximum_packet_bytes = u32::try_from(limits.packet_bytes_max).ok();
            ack.assigned_client_id = assigned.then(|| self.key.client_id.as_str().into());
            ack.topic_alias_maximum = limits.topic_aliases_max;
            ack.server_keep_alive_s = terms.server_keep_alive_s;
        }
        self.send(&Packet::ConnAck(Box::new(ack)));
    }

    /// Appends a packet to what is to be written. One that the client must get and that is larger than it takes ends the
    /// connection at the next opportunity: it may not be sent (MQTT-3.1.2-24), and nothing works without it.
    pub(crate) fn send(&mut self, packet: &Packet) {
        if let Err(error) = self.codec.encode(packet, &mut self.out) {
            tracing::debug!(user = %self.key.user, packet = packet.name(), %error, "a packet cannot be sent");
            if !matches!(packet, Packet::Publish(_)) {
                self.unsendable = Some(packet.name());
            }
        }
    }

    pub(crate) fn check_sendable(&self) -> Result<(), End> {
        self.unsendable.map_or(Ok(()), |packet| Err(End::Unsendable { packet }))
    }

    pub(crate) async fn run(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        held: &Held,
        thread: Option<&mut Thread>,
        stop: &CancellationToken,
    ) -> End {
        let mut replaced = pin!(held.replaced.cancelled());
        let mut stopped = pin!(stop.cancelled());
        let mut cut = pin!(async {
            match thread {
                Some(thread) => thread.ended().await,
                None => pending().await,
            }
        });
        let mut armed = self.deadline();
        let mut timer = pin!(sleep_until(armed.into()));
        let mut messages: Vec<Published> = Vec::new();
        let board = self.board.clone();
        loop {
            if let Err(end) = self.step_back().await {
                return end;
            }
            self.write_backlog();
            self.keep_flow();
            let deadline = self.deadline();
            if deadline < armed {
                armed = deadline;
                timer.as_mut().reset(armed.into());
            }
            let held_back = !self.may_take_packets();
            if !std::mem::replace(&mut self.held_back, held_back) && held_back && !self.pace.is_over() {
                Stats::one(&self.shared.stats.held_back);
            }
            let reading = !held_back && !self.more;
            if reading {
                self.reading.make_room(&mut self.inbuf);
            }
            if reading
                && self.beside.has_bytes()
                && let Err(end) = self.process_beside()
            {
                return end;
            }
            let (wanted, room, link_room) = (self.wanted(), self.hub_room(), self.link_room());
            let turn = tokio::select! {
                biased;
                () = &mut replaced => Err(End::TakenOver),
                () = &mut stopped => Err(End::Stopping),
                end = &mut cut => Err(end),
                () = board.written() => self.settle(),
                written = write_some(writer, &mut self.out), if self.has_to_write() => self.written(written),
                _turn = self.shared.heavy.turn(), if self.more || self.flooded => self.go_on(&mut messages),
                read = reader.read_buf(&mut self.inbuf), if reading => self.read(read),
                news = self.beside.news(reading), if self.beside.is_possible() => self.beside_news(news),
                events = hub::next(&mut self.hub, room) => self.hub_events(events),
                publish = linked::next(&mut self.linked, link_room) => self.link_deliver(publish),
                () = self.subscriptions.next_many(&mut messages, wanted) => self.hand_out(&mut messages),
                () = &mut timer => {
                    let checked = self.check_deadlines(Instant::now());
                    armed = self.deadline();
                    timer.as_mut().reset(armed.into());
                    checked
                }
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    /// Whether packets of the client may be taken now. A client that is ahead of the log, of its own pace, or of what
    /// it reads, is not read from.
    pub(crate) fn may_take_packets(&self) -> bool {
        let limits = &self.shared.limits;
        !self.is_ahead() && self.out.len() < limits.write_buffer_bytes_max
    }

    /// Whether it is for our reasons that the client is not read from.
    fn is_ahead(&self) -> bool {
        let limits = &self.shared.limits;
        let unsettled = self.connection.unsettled();
        // The fates of its own messages wake a client that is over its fair share.
        (unsettled >= FAIR_SHARE && self.shared.awaited.load(Ordering::Relaxed) >= limits.awaited_max)
            || unsettled >= usize::from(limits.unacked_max)
            || self.connection.unsettled_bytes() >= limits.unacked_bytes_max
            || self.pace.is_over()
            || self.hub_is_behind()
            || self.durable.as_ref().is_some_and(Durable::is_behind)
    }

    /// Takes one packet. Gives how many messages it was.
    pub(crate) fn take(&mut self, packet: Packet) -> Result<usize, End> {
        let mut taken = 0;
        let mut actions = std::mem::take(&mut self.actions);
        let acknowledged = outbound::acknowledged(&packet);
        let noted = acknowledged.is_some() || matches!(packet, Packet::PubComp(_));
        let ack = (noted && self.durable.is_some()).then(|| packet.clone());
        self.connection.packet(packet, &mut actions).map_err(End::Protocol)?;
        ack.iter().for_each(|ack| self.note_acknowledged(ack));
        if let Some(id) = acknowledged {
            self.subscriptions.acknowledge(id);
            self.hub.iter_mut().for_each(|hub| hub.acknowledge(id));
        }
        for action in actions.drain(..) {
            taken += usize::from(matches!(action, Action::Publish { .. }));
            self.act(action)?;
        }
        self.actions = actions;
        Ok(taken)
    }

    pub(crate) fn count_messages(&mut self, taken: usize) {
        if taken > 0 {
            Stats::add(&self.shared.stats.messages_in, taken);
            self.spend(taken, 0);
        }
    }

    /// Counts what the client has sent against what it may each second.
    pub(crate) fn spend(&mut self, messages: usize, bytes: usize) {
        if self.pace.spend(messages, bytes, Instant::now()) {
            Stats::one(&self.shared.stats.paced);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), End> {
        match action {
            Action::Publish { ticket, publish } if self.linked.is_some() => {
                self.link_publish(ticket, publish);
            }
            Action::Subscribe(subscribe) if self.linked.is_some() => self.link_subscribe(&subscribe),
            Action::Publish { ticket, publish } if self.hub.is_some() => self.hub_publish(ticket, publish)?,
            Action::Subscribe(subscribe) if self.hub.is_some() => self.hub_subscribe(&subscribe),
            Action::Unsubscribe(unsubscribe) if self.hub.is_some() => self.hub_unsubscribe(&unsubscribe),
            Action::Publish { ticket, publish } => {
                let origin = self.subscriptions.origin();
                self.inbound.publish(&self.shared, &mut self.connection, origin, ticket, publish);
            }
            Action::Send(packet) => self.send_when_recorded(&packet),
            Action::Subscribe(subscribe) => self.subscribe(&subscribe),
            Action::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Action::Ended(disconnect) => {
                if disconnect.session_expiry_s.is_some_and(|s| s > 0) && self.terms.session_expiry_s == 0 {
                    let text =
                        "DISCONNECT asks for a session that outlives the connection, and CONNECT did not";
                    let reason = ReasonCode::ProtocolError;
                    return Err(End::Protocol(ProtocolError { reason, clause: None, text: text.into() }));
                }
                let will = disconnect.reason != ReasonCode::Success;
                return Err(End::Goodbye { will, session_expiry_s: disconnect.session_expiry_s });
            }
        }
        Ok(())
    }

    /// Takes the fates that are there and writes the acknowledgements that may leave.
    pub(crate) fn settle(&mut self) -> Result<(), End> {
        self.take_fates();
        self.take_kept()?;
        self.release()?;
        if self.inbuf.is_empty() { Ok(()) } else { self.process() }
    }

    fn take_fates(&mut self) {
        self.board.take(&mut self.fates);
        for (ticket, outcome) in self.fates.drain(..) {
            self.connection.settle(ticket, outcome);
        }
    }

    pub(crate) fn release(&mut self) -> Result<(), End> {
        let (codec, out, beside) = (&self.codec, &mut self.out, &mut self.beside);
        let released = self.connection.ready(|packet| {
            // An acknowledgement always fits.
            let _ = codec.encode(&packet, beside.answers(&packet).unwrap_or(&mut *out));
        });
        released.map_err(End::NotTaken)
    }

    fn has_to_write(&self) -> bool {
        self.unflushed || !self.out.is_empty()
    }

    fn written(&mut self, written: std::io::Result<Wrote>) -> Result<(), End> {
        self.unflushed = written.map_err(End::Broken)? == Wrote::Bytes;
        self.stalled = None;
        if self.out.is_empty() && self.out.capacity() > *READ_BYTES.end() {
            self.out = BytesMut::new();
        }
        // The buffer was full: packets may wait behind it.
        if self.inbuf.is_empty() { Ok(()) } else { self.process() }
    }

    fn deadline(&mut self) -> Instant {
        let now = Instant::now();
        if !self.has_to_write() {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert(now);
        }
        let stall = self.stalled.map(|since| since + self.shared.limits.write_stall_max);
        let all = [self.connection.deadline(), stall, self.pace.resume()];
        all.into_iter().flatten().min().unwrap_or(now + NO_DEADLINE)
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), End> {
        if self.stalled.is_some_and(|since| now >= since + self.shared.limits.write_stall_max) {
            return Err(End::Stalled);
        }
        if self.is_ahead() {
            // What we do not read cannot be held against the client.
            self.connection.heard(now);
        }
        if self.connection.deadline().is_some_and(|deadline| now >= deadline) {
            return Err(End::Silent);
        }
        self.pace.refill(now);
        if self.inbuf.is_empty() { Ok(()) } else { self.process() }
    }

    /// Waits a little for the fates of messages that were taken, tells the client what is to be told, and closes.
    pub(crate) async fn finish(&mut self, writer: &mut (impl AsyncWrite + Unpin), end: &End) {
        let board = self.board.clone();
        // A session that outlives the connection must know which messages of QoS 2 it has.
        let remembers =
            self.durable.is_some() && self.connection.owes_pubrec() && !matches!(end, End::Stopping);
        let settle_time_max = if remembers { NO_DEADLINE } else { self.shared.limits.settle_time_max };
        let settled = async {
            while self.connection.unsettled() > 0 {
                self.take_fates();
                if self.release().is_err() || self.connection.unsettled() == 0 {
                    break;
                }
                board.written().await;
            }
        };
        // What is not settled in time stays unacknowledged; the client sends it again.
        let _ = timeout(settle_time_max, settled).await;
        // No DISCONNECT goes out before a CONNACK (MQTT-3.14.0-1).
        let greeted = self.unsendable != Some("CONNACK");
        if let (Some(reason), Version::V5, true) = (end.reason(), self.connection.rules().version, greeted) {
            self.say_why(reason, end);
        }
        let farewell = async {
            // A client that is gone or does not read cannot be told.
            let _ = writer.write_all_buf(&mut self.out).await;
            let _ = writer.shutdown().await;
        };
        let _ = timeout(FAREWELL_TIME_MAX, farewell).await;
    }
}
