//! From the reader to the session and back: what is sent, and what its acknowledgement means.

use crate::{
    Counters, LinkFault, UpstreamConfig,
    form::{Form, Sent},
    hold::Hold,
    horizon::Horizon,
    lanes::Lanes,
    link::{OUT_BYTES_MAX, URGENT_OUT_BYTES_MAX},
    peer::Peer,
    poison::Poison,
    records::Records,
    run::INBOUND_PACKET_BYTES_MAX,
    status::Teller,
    verdict::{ATTEMPTS_MAX, Verdict, verdict},
    wire,
};
use bytes::BytesMut;
use bytestring::ByteString;
use holdfast_broker::{Delivery, Drain, Reader, Turn};
use holdfast_mqtt::{
    Codec, Packet, ReasonCode, Version,
    client::{Action, Client, Granted},
};
use holdfast_net::{Branches, Settings};
use holdfast_types::{Priority, Text};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Silence with messages in flight after which the way in use is tried anew beside. Brokers acknowledge within a second;
/// nothing is given up yet, so one that takes longer is not disturbed.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Carries messages from the reader to the session and acknowledgements back. Lives as long as the link.
pub(crate) struct Sender {
    form: Form,
    version: Version,
    packet_bytes_max: usize,
    settings: Settings,
    pub(crate) drain_within: Duration,
    pub(crate) client: Client<Sent>,
    pub(crate) reader: Reader,
    pub(crate) teller: Teller,
    pub(crate) hold: Hold,
    pub(crate) horizon: Horizon,
    poison: Poison,
    pub(crate) records: Arc<Records>,
    codec: Codec,
    counters: Counters,
    welcomed: Option<Instant>,
    encryption: Option<Text>,
    window: u16,
    window_bytes: usize,
    /// Whether priorities may have streams of their own, and those that they have.
    streams: bool,
    drain: Drain,
    pub(crate) lanes: Lanes,
    /// The priority of the message that is being sent.
    sending: Priority,
    /// The priority that was read last; what is more urgent may pass it.
    reads: Priority,
    /// Whether some messages may be more urgent than others.
    has_priorities: bool,
    /// Read but not sent: large messages can fill the window in bytes before all that were read have room.
    ready: VecDeque<Delivery>,
    turn: Turn,
    /// The last reason for which a message was given up, so that one that repeats is told in the log once.
    told: Option<Text>,
}

fn codec(version: Version) -> Codec {
    Codec::client(version, usize::try_from(INBOUND_PACKET_BYTES_MAX).unwrap_or(usize::MAX))
}

impl Sender {
    pub(crate) fn new(
        config: &UpstreamConfig,
        form: Form,
        client: Client<Sent>,
        mut reader: Reader,
        teller: Teller,
    ) -> Self {
        reader.set_drain(config.drain);
        Self {
            form,
            version: config.version,
            packet_bytes_max: config.packet_bytes_max,
            settings: config.settings().cloned().unwrap_or_else(|| Settings::of_section("upstream")),
            drain_within: config.drain_within,
            client,
            reader,
            teller,
            hold: Hold::new(config.backoff.min, config.backoff.max),
            horizon: Horizon::new(config.keep_acknowledged),
            poison: Poison::default(),
            records: Arc::default(),
            codec: codec(config.version),
            counters: Counters::default(),
            welcomed: None,
            encryption: None,
            window: 1,
            window_bytes: config.window_bytes,
            // A session that outlives its connection sends again on its own stream, and would overtake itself.
            streams: config.streams && config.clean_start,
            drain: config.drain,
            lanes: Lanes::default(),
            sending: Priority::DEFAULT,
            reads: Priority::DEFAULT,
            has_priorities: false,
            ready: VecDeque::new(),
            turn: Turn::default(),
            told: None,
        }
    }

    /// Streams beside that of the session may be opened here.
    pub(crate) fn open_beside(&mut self, door: Option<Branches>) {
        self.lanes = Lanes::new(door.filter(|_| self.streams), self.drain);
    }

    /// A stream is open: begins the session.
    pub(crate) fn open(&mut self, encryption: Option<Text>, now: Instant) {
        self.encryption = encryption;
        self.codec = codec(self.version);
        self.codec.peer_max_packet_bytes = self.packet_bytes_max;
        if let Some((user, password)) = self.form.login(self.teller.place()) {
            self.client.set_user_name(user.into());
            if let Some(password) = password {
                self.client.set_password(password.0);
            }
        }
        self.client.set_subscriptions(self.form.subscriptions());
        self.client.open(now);
    }

    /// The hub, if the link is to one.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.form.peer().cloned()
    }

    /// How long a connection may live before its token ends; none if it has none.
    pub(crate) fn renew_after(&self) -> Option<Duration> {
        self.form.renew_after()
    }

    /// Whether the broker has welcomed this connection.
    pub(crate) fn is_welcomed(&self) -> bool {
        self.welcomed.is_some()
    }

    /// Does all that can be done without waiting: times out, sends what is ready, encodes, takes acknowledgements in.
    pub(crate) fn step(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), LinkFault> {
        // IMPORTANT: answers first. They decide whether more may be sent, and how fast.
        self.act(now, out)?;
        self.client.tick(now);
        if self.client.in_flight() == 0 {
            let suspects = self.poison.release(self.welcomed, now);
            for delivery in self.hold.release(now).into_iter().chain(suspects).rev() {
                self.ready.push_front(delivery);
            }
        }
        self.client.limit_window(self.pace());
        self.send_calls(now, out)?;
        self.send_ready(now, out)?;
        self.act(now, out)?;
        self.turn.done.extend(self.horizon.done(now));
        self.settle();
        self.teller.numbers(self.client.in_flight() + self.hold.len(), self.counters);
        Ok(())
    }

    /// Does what the session asks for.
    fn act(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), LinkFault> {
        while let Some(action) = self.client.next_action() {
            match action {
                Action::Send(packet) => self.encode(&packet, out)?,
                Action::Connected(granted) => self.welcome(&granted, now),
                Action::Acknowledged { ticket: Sent::Message(delivery), reason, words } => {
                    self.answered(delivery, reason, words, now);
                }
                Action::Acknowledged { ticket, reason, words } => self.form.answered(&ticket, reason, words),
                // Nothing is subscribed at a plain broker.
                Action::Received(publish) => {
                    if let Some(peer) = self.form.peer() {
                        peer.received(*publish)?;
                    }
                }
                Action::Subscribed { refused } => {
                    if let Some(peer) = self.form.peer() {
                        peer.subscribed(&refused);
                    }
                }
                Action::Fail(fault) => {
                    let at_hub = self.form.at_hub();
                    return Err(LinkFault::Session(fault, Box::new(self.settings.clone()), at_hub));
                }
            }
        }
        Ok(())
    }

    /// Bytes have arrived.
    pub(crate) fn receive(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), LinkFault> {
        loop {
            match self.codec.decode(input) {
                Ok(Some(packet)) => self.client.receive(packet, now),
                Ok(None) => return Ok(()),
                // A port that speaks something else, such as TLS, answers a CONNECT with what is no MQTT.
                Err(error) if !self.is_welcomed() => {
                    let why = LinkFault::Protocol(error.to_string()).to_string();
                    return Err(LinkFault::NotWelcomed(why));
                }
                Err(error) => return Err(LinkFault::Protocol(error.to_string())),
            }
        }
    }

    /// How many messages to read now, and how urgent they must be: none until a fair part of the window is free, so that
    /// under load tens of them share a read of the log, a write to the socket and a record of their acknowledgements. Where
    /// messages have priorities, an eighth of the window is kept for what is more urgent than what was read last.
    pub(crate) fn wanted(&self) -> (usize, Option<Priority>) {
        let (pace, room) = (self.pace(), self.client.room());
        if self.hold.is_on() || room == 0 || !self.form.takes_messages() {
            return (0, None);
        }
        let kept = if self.has_priorities && pace == u16::MAX { usize::from(self.window / 8) } else { 0 };
        let free = room.saturating_sub(kept);
        let full = kept > 0 && self.client.in_flight_bytes() >= self.window_bytes / 8 * 7;
        let fair = usize::from(self.window.min(pace) / 4).clamp(1, 64);
        if self.ready.is_empty() && !full && (free >= fair || self.client.in_flight() == 0) {
            return (free.max(1), None);
        }
        (room.min(kept), Some(self.reads))
    }

    fn pace(&self) -> u16 {
        self.hold.pace().min(self.poison.pace())
    }

    /// When the connection counts as silent, if nothing comes before.
    pub(crate) fn silent_at(&self) -> Option<Instant> {
        self.client.unanswered_since().map(|since| since + SILENT_AFTER)
    }

    /// Whether messages are in flight and nothing has come for long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// When messages that were kept back as suspects are due.
    pub(crate) fn poison_until(&self) -> Option<Instant> {
        self.poison.until(self.welcomed)
    }

    /// Takes messages that were read.
    pub(crate) fn take(&mut self, deliveries: Vec<Delivery>, urgent: bool) {
        let Some(priority) = deliveries.first().map(priority) else { return };
        if !urgent {
            self.reads = priority;
        }
        let at = match self.drain {
            // Before what is less urgent and was read earlier, behind what is as urgent.
            Drain::InOrder => self.ready.iter().position(|waiting| self::priority(waiting) > priority),
            // Who reads kept the shares; what was read and is overtaken for ever has none.
            Drain::Share(_) => None,
        };
        let behind = at.map(|at| self.ready.split_off(at));
        self.ready.extend(deliveries);
        self.ready.extend(behind.into_iter().flatten());
    }

    fn send_ready(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), LinkFault> {
        if self.ready.is_empty() || !self.form.takes_messages() {
            return Ok(());
        }
        if let Some(marks) = self.form.hub().and_then(|hub| hub.port.take_marks()) {
            self.horizon.hub_has(&marks);
        }
        if let Form::Plain(topics, _) = &mut self.form {
            for (route, why) in topics.refresh() {
                tracing::warn!(%route, %why, "the route's own topic cannot be used; its messages go to the usual one");
            }
        }
        let unix = wire::unix_now();
        let out_bytes_max =
            if self.has_priorities { usize::from(URGENT_OUT_BYTES_MAX) } else { OUT_BYTES_MAX };
        while !self.hold.is_on() && self.client.room() > 0 {
            let Some(next) = self.ready.front().map(priority) else { return Ok(()) };
            // What has a stream of its own waits for no other: that of the session may stand still until the other side
            // lets it go on, which it tells only now and then.
            let is_full = match self.lanes.output(next) {
                Some(lane) => lane.len() >= OUT_BYTES_MAX,
                None => out.len() >= out_bytes_max,
            };
            if is_full {
                return Ok(());
            }
            let Some(delivery) = self.ready.pop_front() else { return Ok(()) };
            if self.horizon.was_taken(delivery.id.as_ref()) {
                self.horizon.keeps(&delivery, now);
                continue;
            }
            let Some(delivery) = self.poison.admit(delivery, self.welcomed, now) else { continue };
            match self.form.publish_of(&delivery, self.version, unix) {
                Ok(publish) => {
                    self.poison.sent(&delivery, &publish.topic, now);
                    self.sending = priority(&delivery);
                    let sent = if self.lanes.output(self.sending).is_some() {
                        self.client.publish_beside(Sent::Message(delivery), publish, now)
                    } else {
                        self.client.publish(Sent::Message(delivery), publish, now)
                    };
                    if let Err((Sent::Message(delivery), _)) = sent {
                        self.poison.withdrawn(delivery.id.as_ref());
                        self.ready.push_front(delivery);
                        return Ok(());
                    }
                    if self.has_priorities {
                        // While it is known whose bytes these are; and how many wait counts.
                        self.act(now, out)?;
                    }
                }
                Err(why) => self.give_up(&delivery, format!("no topic can be made for it: {why}"), 0),
            }
        }
        Ok(())
    }

    /// Calls and answers go before messages: they are few and small, and somebody waits for them.
    fn send_calls(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), LinkFault> {
        let Some(peer) = self.form.peer() else { return Ok(()) };
        for id in peer.take_acknowledged() {
            self.client.acknowledge(id, now);
        }
        // They go over the stream of the session.
        self.sending = Priority::DEFAULT;
        while self.client.room() > 0 {
            let Some(publish) = peer.take() else { break };
            if let Err((_, publish)) = self.client.publish(Sent::of(&publish), publish, now) {
                peer.put_back(publish);
                break;
            }
        }
        self.act(now, out)
    }

    fn encode(&mut self, packet: &Packet, out: &mut BytesMut) -> Result<(), LinkFault> {
        let out = match packet {
            Packet::Publish(_) => self.lanes.output(self.sending).unwrap_or(out),
            _ => out,
        };
        match (self.codec.encode(packet, out), packet) {
            (Ok(()), Packet::Publish(publish)) => {
                self.counters.sent += 1;
                self.counters.sent_bytes += publish.payload.len() as u64;
                Ok(())
            }
            (Ok(()), _) => Ok(()),
            (Err(error), Packet::Publish(publish)) => {
                match publish.packet_id.and_then(|id| self.client.withdraw(id, &publish.topic)) {
                    Some(Sent::Message(delivery)) => {
                        self.poison.withdrawn(delivery.id.as_ref());
                        self.give_up(&delivery, format!("the broker cannot be sent it: {error}"), 0);
                    }
                    Some(call) => self.form.unsendable(&call, &error.to_string()),
                    None => {}
                }
                Ok(())
            }
            (Err(error), other) => Err(LinkFault::Unwritable(format!("{}: {error}", other.name()))),
        }
    }

    fn welcome(&mut self, granted: &Granted, now: Instant) {
        self.window = granted.window;
        if let Some(max) = granted.maximum_packet_bytes.and_then(|max| usize::try_from(max).ok()) {
            self.codec.peer_max_packet_bytes = max.min(self.packet_bytes_max);
        }
        self.horizon.goes_to(self.teller.place());
        if !granted.session_present {
            self.start_over();
        }
        self.has_priorities = self.reader.has_priorities();
        self.welcomed = Some(now);
        self.counters.connected += 1;
        self.teller.connected(self.encryption.clone(), now);
        if let Some(peer) = self.form.peer() {
            peer.welcomed();
        }
    }

    fn answered(&mut self, delivery: Delivery, reason: ReasonCode, words: Option<ByteString>, now: Instant) {
        let refusal = || {
            let words = words.as_ref().map(|words| format!(": {words:?}")).unwrap_or_default();
            format!("the broker refused it with {reason}{words}")
        };
        self.poison.answered(delivery.id.as_ref());
        let verdict = verdict(reason);
        if verdict == Verdict::Done {
            self.counters.acknowledged += 1;
            self.hold.passed(delivery.id.as_ref(), true);
            if !self.horizon.keeps(&delivery, now) {
                self.turn.done.push(delivery.ticket);
            }
            return;
        }
        // A volatile message is not worth holding up others for.
        let attempts = delivery.id.as_ref().map_or(ATTEMPTS_MAX, |id| self.hold.count(id));
        let again = match verdict {
            Verdict::Later => delivery.id.is_some(),
            Verdict::Again => attempts < ATTEMPTS_MAX,
            Verdict::Done | Verdict::Never => false,
        };
        if again {
            tracing::debug!(id = ?delivery.id, %reason, attempts, "the broker refused a message for the moment");
            self.counters.deferred += 1;
            self.hold.put(delivery, now);
        } else {
            self.give_up(&delivery, refusal(), attempts);
        }
    }

    fn give_up(&mut self, delivery: &Delivery, reason: String, attempts: u32) {
        let reason: Text = reason.into();
        if self.told.as_ref() != Some(&reason) {
            let id = delivery.id.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%reason, id, route = %delivery.route, "a message was given up; see `holdfast queue peek`");
            self.told = Some(reason.clone());
        }
        self.counters.given_up += 1;
        self.hold.passed(delivery.id.as_ref(), false);
        self.turn.dead.push((delivery.ticket, reason, attempts));
    }

    /// Hands over what is done, to be recorded together.
    fn settle(&mut self) {
        if self.turn.done.is_empty() && self.turn.dead.is_empty() {
            return;
        }
        let records = self.records.clone();
        records.asked();
        self.reader.settle(std::mem::take(&mut self.turn), move |result| records.answered(result));
    }

    /// Ends the session in order: writes DISCONNECT. Gives the number of messages that are not acknowledged.
    pub(crate) fn leave(&mut self, now: Instant, out: &mut BytesMut) -> usize {
        let unacknowledged = self.client.in_flight() + self.hold.len();
        self.client.leave(now);
        while let Some(action) = self.client.next_action() {
            if let Action::Send(packet) = action
                && let Err(error) = self.codec.encode(&packet, out)
            {
                tracing::debug!(%error, "DISCONNECT cannot be written");
            }
        }
        unacknowledged
    }

    /// Clears up after a connection. Gives the moment of the broker's welcome, if there was one.
    pub(crate) fn disconnected(&mut self, by_peer: bool, now: Instant) -> Option<Instant> {
        if self.welcomed.is_some()
            && let Some(condemned) = self.poison.ended(by_peer, self.window, now)
        {
            let (size, ends) = (condemned.delivery.envelope.message.body.len(), condemned.ends);
            let reason = format!(
                "the broker closed {ends} connections over it, sent alone, and took others: topic {:?}, body of {size} \
                 bytes; see the broker's log for what it minds",
                condemned.topic
            );
            self.give_up(&condemned.delivery, reason, ends);
        }
        self.lanes = Lanes::default();
        self.settle();
        self.client.closed();
        // A kept session is resumed with what is in flight, unless the store lost count of it, or messages must go alone.
        if self.records.take_fault().is_some() || self.client.in_flight() == 0 || self.poison.is_alone() {
            self.start_over();
        }
        self.teller.numbers(self.client.in_flight() + self.hold.len(), self.counters);
        self.welcomed.take()
    }

    /// Forgets all that was read and is not acknowledged, and reads from the cursor again.
    fn start_over(&mut self) {
        self.client.forget();
        self.horizon.rewound();
        self.ready.clear();
        self.hold.forget();
        self.poison.forget();
        self.reader.rewind();
    }
}

/// Of a message that is not recorded, the lowest.
fn priority(delivery: &Delivery) -> Priority {
    delivery.id.as_ref().map_or(Priority::DEFAULT, |id| id.priority)
}
