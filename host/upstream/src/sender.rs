//! From the reader to the session and back: what is sent, and what its acknowledgement means.

use crate::{
    Counters, LinkFault, Payload, UpstreamConfig,
    hold::Hold,
    hub::Hub,
    poison::Poison,
    run::INBOUND_PACKET_BYTES_MAX,
    status::Teller,
    topics::Topics,
    verdict::{ATTEMPTS_MAX, Verdict, verdict},
    wire,
};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use holdfast_broker::{Delivery, Reader, Refused, Turn};
use holdfast_link::{CALL_TOPIC_PREFIX, EVENTS_TOPIC};
use holdfast_mqtt::{
    Codec, Packet, Publish, ReasonCode, Version,
    client::{Action, Client, Granted},
};
use holdfast_net::Settings;
use holdfast_types::{InvalidTopic, Text, UnixMillis};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;

/// How messages look to the other side.
pub(crate) enum Form {
    /// To any broker.
    Plain(Topics, Payload),
    /// To a hub.
    Hub(Arc<Hub>),
}

/// What was sent with QoS 1 and waits for its acknowledgement.
pub(crate) enum Sent {
    /// A message of the log.
    Message(Delivery),
    /// A call of the hub; holds its correlation data.
    Call(Bytes),
    /// An answer to the hub.
    Answer,
}

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
    poison: Poison,
    pub(crate) records: Arc<Records>,
    codec: Codec,
    counters: Counters,
    welcomed: Option<Instant>,
    encryption: Option<Text>,
    window: u16,
    /// Read but not sent: large messages can fill the window in bytes before all that were read have room.
    ready: VecDeque<Delivery>,
    turn: Turn,
    /// The last reason for which a message was given up, so that one that repeats is told in the log once.
    told: Option<Text>,
}

/// What the store has been asked to record of acknowledgements, and what became of it.
#[derive(Default)]
pub(crate) struct Records {
    state: Mutex<RecordState>,
    pub(crate) bell: Notify,
}

#[derive(Default)]
struct RecordState {
    pending: usize,
    failed: Option<Refused>,
}

impl Records {
    fn state(&self) -> MutexGuard<'_, RecordState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why something was not recorded, if so. Told once.
    pub(crate) fn take_fault(&self) -> Option<Refused> {
        self.state().failed.take()
    }

    fn asked(&self) {
        self.state().pending += 1;
    }

    fn answered(&self, result: Result<(), Refused>) {
        let mut state = self.state();
        state.pending -= 1;
        let ring = state.pending == 0 || result.is_err();
        if let Err(refused) = result {
            state.failed.get_or_insert(refused);
        }
        drop(state);
        if ring {
            self.bell.notify_one();
        }
    }

    /// Waits until all that was asked for is recorded, or was not.
    pub(crate) async fn are_settled(&self) {
        while self.state().pending > 0 {
            self.bell.notified().await;
        }
    }
}

fn codec(version: Version) -> Codec {
    Codec::client(version, usize::try_from(INBOUND_PACKET_BYTES_MAX).unwrap_or(usize::MAX))
}

impl Sender {
    pub(crate) fn new(
        config: &UpstreamConfig,
        form: Form,
        client: Client<Sent>,
        reader: Reader,
        teller: Teller,
    ) -> Self {
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
            poison: Poison::default(),
            records: Arc::default(),
            codec: codec(config.version),
            counters: Counters::default(),
            welcomed: None,
            encryption: None,
            window: 1,
            ready: VecDeque::new(),
            turn: Turn::default(),
            told: None,
        }
    }

    /// A stream is open: begins the session.
    pub(crate) fn open(&mut self, encryption: Option<Text>, now: Instant) {
        self.encryption = encryption;
        self.codec = codec(self.version);
        self.codec.peer_max_packet_bytes = self.packet_bytes_max;
        if let Some(password) = self.hub().and_then(|hub| hub.password()) {
            self.client.set_password(password.0);
        }
        self.client.open(now);
    }

    /// The hub, if the link is to one.
    pub(crate) fn hub(&self) -> Option<Arc<Hub>> {
        match &self.form {
            Form::Plain(..) => None,
            Form::Hub(hub) => Some(hub.clone()),
        }
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
        self.send_calls(now);
        self.send_ready(now);
        self.act(now, out)?;
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
                Action::Acknowledged { ticket, reason, words } => self.call_answered(&ticket, reason, words),
                // Nothing is subscribed at a plain broker.
                Action::Received(publish) => {
                    if let Form::Hub(hub) = &self.form {
                        hub.port.received(*publish);
                    }
                }
                Action::Fail(fault) => return Err(LinkFault::Session(fault, self.settings.clone())),
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
                Err(error) => return Err(LinkFault::Protocol(error.to_string())),
            }
        }
    }

    /// How many messages to read now: none until a fair part of the window is free, so that under load tens of them
    /// share a read of the log, a write to the socket and a record of their acknowledgements.
    pub(crate) fn room(&self) -> usize {
        if self.hold.is_on() || !self.ready.is_empty() {
            return 0;
        }
        let room = self.client.room();
        let fair = usize::from(self.window.min(self.pace()) / 4).clamp(1, 64);
        if room >= fair || self.client.in_flight() == 0 { room } else { 0 }
    }

    fn pace(&self) -> u16 {
        self.hold.pace().min(self.poison.pace())
    }

    /// When messages that were kept back as suspects are due.
    pub(crate) fn poison_until(&self) -> Option<Instant> {
        self.poison.until(self.welcomed)
    }

    /// Takes messages that were read.
    pub(crate) fn take(&mut self, deliveries: Vec<Delivery>) {
        self.ready.extend(deliveries);
    }

    fn send_ready(&mut self, now: Instant) {
        if self.ready.is_empty() {
            return;
        }
        if let Form::Plain(topics, _) = &mut self.form {
            for (route, why) in topics.refresh() {
                tracing::warn!(%route, %why, "the route's own topic cannot be used; its messages go to the usual one");
            }
        }
        let unix = unix_now();
        while !self.hold.is_on() && self.client.room() > 0 {
            let Some(delivery) = self.ready.pop_front() else { return };
            let Some(delivery) = self.poison.admit(delivery, self.welcomed, now) else { continue };
            match self.publish_of(&delivery, unix) {
                Ok(publish) => {
                    self.poison.sent(&delivery, &publish.topic, now);
                    if let Err((Sent::Message(delivery), _)) =
                        self.client.publish(Sent::Message(delivery), publish, now)
                    {
                        self.poison.withdrawn(delivery.id.as_ref());
                        self.ready.push_front(delivery);
                        return;
                    }
                }
                Err(why) => self.give_up(&delivery, format!("no topic can be made for it: {why}"), 0),
            }
        }
    }

    fn publish_of(&self, delivery: &Delivery, now: UnixMillis) -> Result<Publish, InvalidTopic> {
        match &self.form {
            Form::Plain(topics, payload) => {
                Ok(wire::publish(delivery, topics.of(delivery)?, self.version, *payload, now))
            }
            Form::Hub(_) => Ok(wire::event(delivery, ByteString::from_static(EVENTS_TOPIC))),
        }
    }

    /// Calls and answers go before messages: they are few and small, and somebody waits for them.
    fn send_calls(&mut self, now: Instant) {
        let Form::Hub(hub) = &self.form else { return };
        while self.client.room() > 0 {
            let Some(publish) = hub.port.take() else { return };
            let correlation = publish.properties.as_ref().and_then(|all| all.correlation_data.clone());
            let is_call = publish.topic.starts_with(CALL_TOPIC_PREFIX);
            let ticket = correlation.filter(|_| is_call).map_or(Sent::Answer, Sent::Call);
            if let Err((_, publish)) = self.client.publish(ticket, publish, now) {
                return hub.port.put_back(publish);
            }
        }
    }

    fn call_answered(&self, sent: &Sent, reason: ReasonCode, words: Option<ByteString>) {
        if let (Form::Hub(hub), Sent::Call(correlation), true) = (&self.form, sent, reason.is_failure()) {
            let words = words.map(|words| format!(": {words:?}")).unwrap_or_default();
            hub.port.refused(correlation, &format!("it was refused with {reason}{words}"));
        }
    }

    fn encode(&mut self, packet: &Packet, out: &mut BytesMut) -> Result<(), LinkFault> {
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
                    Some(Sent::Call(correlation)) => {
                        if let Form::Hub(hub) = &self.form {
                            hub.port.refused(&correlation, &format!("it cannot be sent: {error}"));
                        }
                    }
                    Some(Sent::Answer) => tracing::warn!(%error, "an answer to the hub cannot be sent"),
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
        if !granted.session_present {
            self.start_over();
        }
        self.welcomed = Some(now);
        self.counters.connected += 1;
        self.teller.connected(self.encryption.clone(), now);
        if let Form::Hub(hub) = &self.form {
            hub.port.open();
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
            self.turn.done.push(delivery.ticket);
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
        self.ready.clear();
        self.hold.forget();
        self.poison.forget();
        self.reader.rewind();
    }
}

fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
