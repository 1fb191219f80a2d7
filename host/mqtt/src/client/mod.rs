//! The client's side of a session, as a state machine: events and `now` go in, actions come out. No I/O, no clock.
//!
//! A [`Client`] outlives its connections. Whoever drives it reports that a transport is open, hands in each packet that
//! arrives, asks for [`Client::room`] before it publishes, calls [`Client::tick`] when [`Client::deadline`] has come, and
//! does what [`Client::next_action`] says. A message is named by a ticket of the driver's choosing, and is given back by
//! that ticket when the server has acknowledged it.
//!
//! What a driver subscribes to ([`Client::set_subscriptions`]) is subscribed at each connection, before anything is sent
//! again. Only QoS 1 goes out. The window counts from the oldest message that is not acknowledged, so that a server which
//! acknowledges out of order cannot stretch it: after a reconnect at most one window is sent again.

mod fault;
mod in_flight;
mod options;
mod subscribing;

pub use fault::Fault;
pub use options::{Granted, Options};
pub use subscribing::SUBSCRIPTIONS_MAX;

use crate::alias::Aliases;
use crate::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, SubAck, Subscription,
    Version,
};
use bytes::Bytes;
use bytestring::ByteString;
use in_flight::InFlight;
use std::{
    collections::VecDeque,
    num::NonZeroU16,
    time::{Duration, Instant},
};
use subscribing::Subscribing;

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// Write this packet.
    Send(Packet),
    /// The session is open.
    Connected(Granted),
    /// The server answered for a message. A reason that is a failure means that it did not take it.
    Acknowledged {
        /// The message.
        ticket: T,
        /// Taken, or why not.
        reason: ReasonCode,
        /// The reason in words, if the server gave some.
        words: Option<ByteString>,
    },
    /// A message came. It is acknowledged: QoS 1 once it stands here, or by the driver, QoS 2 as its steps demand.
    Received(Box<Publish>),
    /// The server has answered for every subscription.
    Subscribed {
        /// The filters that it does not grant.
        refused: Vec<ByteString>,
    },
    /// The connection is of no more use: close it, then call [`Client::closed`].
    Fail(Fault),
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No transport.
    Closed,
    /// CONNECT is sent.
    Connecting { since: Instant },
    /// CONNACK has come.
    Connected,
    /// The connection has failed or is being left; whatever still arrives is ignored.
    Leaving,
}

/// The client's side of a session. `T` is the driver's ticket for a message.
pub struct Client<T> {
    options: Options,
    phase: Phase,
    in_flight: InFlight<T>,
    aliases: Aliases,
    /// The window in force; may be lowered by the driver ([`Client::limit_window`]).
    window: u16,
    limit: u16,
    keep_alive: Duration,
    last_sent: Option<Instant>,
    last_received: Option<Instant>,
    pinged: Option<Instant>,
    /// When something was last acknowledged, or the window last became non-empty.
    progress: Option<Instant>,
    actions: VecDeque<Action<T>>,
    subscriptions: Vec<Subscription>,
    subscribing: Option<Subscribing>,
}

impl<T> Client<T> {
    /// A client that has no connection yet.
    pub fn new(options: Options) -> Self {
        let window = options.window.get();
        Self {
            phase: Phase::Closed,
            in_flight: InFlight::new(),
            aliases: Aliases::none(),
            window,
            limit: u16::MAX,
            keep_alive: Duration::from_secs(options.keep_alive_s.into()),
            last_sent: None,
            last_received: None,
            pinged: None,
            progress: None,
            actions: VecDeque::new(),
            subscriptions: Vec::new(),
            subscribing: None,
            options,
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_action(&mut self) -> Option<Action<T>> {
        self.actions.pop_front()
    }

    /// Whether the session is open.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// How many messages may be published now.
    pub fn room(&self) -> usize {
        let full = self.in_flight.bytes() >= self.options.window_bytes;
        if self.phase != Phase::Connected || full || self.in_flight.has_unsent() {
            return 0;
        }
        usize::from(self.window.min(self.limit)).saturating_sub(self.in_flight.span())
    }

    /// How many messages are sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.unacknowledged()
    }

    /// Since when messages are in flight and nothing has come.
    pub fn unanswered_since(&self) -> Option<Instant> {
        if self.phase != Phase::Connected || !self.waits_for_acks() {
            return None;
        }
        // Of what was sent before something came, that may have been the answer.
        self.last_received.max(self.progress)
    }

    /// Payload bytes that are sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.bytes()
    }

    /// Keeps at most `messages` in flight until told otherwise, whatever the server would take. At least one.
    pub fn limit_window(&mut self, messages: u16) {
        self.limit = messages.max(1);
    }

    /// The user name of the next CONNECT, where it depends on who is asked.
    pub fn set_user_name(&mut self, user_name: ByteString) {
        self.options.user_name = Some(user_name);
    }

    /// The password of the next CONNECT, where one is good for some time only.
    pub fn set_password(&mut self, password: Bytes) {
        self.options.password = Some(password);
    }

    /// What to subscribe to at the next connection: [`SUBSCRIPTIONS_MAX`] filters at most, the rest are left out. Each has a
    /// SUBSCRIBE of its own, as the SDKs of IoT Hub send it.
    pub fn set_subscriptions(&mut self, mut subscriptions: Vec<Subscription>) {
        subscriptions.truncate(SUBSCRIPTIONS_MAX.into());
        self.subscriptions = subscriptions;
    }

    /// A transport is open: begins the session with CONNECT.
    pub fn open(&mut self, now: Instant) {
        let options = &self.options;
        let v5 = options.version == Version::V5;
        let mut connect = Connect::new(options.version, options.client_id.clone());
        connect.clean_start = options.clean_start;
        connect.keep_alive_s = options.keep_alive_s;
        connect.user_name.clone_from(&options.user_name);
        connect.password.clone_from(&options.password);
        connect.will.clone_from(&options.will);
        if v5 {
            connect.session_expiry_s = if options.clean_start { 0 } else { options.session_expiry_s };
            connect.maximum_packet_bytes = Some(options.maximum_packet_bytes);
            connect.user_properties.clone_from(&options.user_properties);
        }
        if options.clean_start {
            self.in_flight.clear();
        }
        self.aliases = Aliases::none();
        self.keep_alive = Duration::from_secs(options.keep_alive_s.into());
        self.phase = Phase::Connecting { since: now };
        self.pinged = None;
        self.subscribing = None;
        self.last_received = Some(now);
        self.send(Packet::Connect(Box::new(connect)), now);
    }

    /// The transport is gone, whoever closed it. Messages in flight are kept if the session may outlive the connection,
    /// and are forgotten otherwise.
    pub fn closed(&mut self) {
        self.phase = Phase::Closed;
        self.actions.clear();
        self.in_flight.connection_lost();
        if self.options.clean_start {
            self.in_flight.clear();
        }
    }

    /// Forgets all messages in flight. Only between connections, or when none is left unacknowledged.
    pub fn forget(&mut self) {
        self.in_flight.clear();
    }

    /// Ends the session in order: sends DISCONNECT and takes no more.
    pub fn leave(&mut self, now: Instant) {
        if self.phase == Phase::Connected {
            self.send(Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))), now);
        }
        self.phase = Phase::Leaving;
    }

    /// Publishes a message with QoS 1. There must be [`Client::room`]; if there is none, the message comes back.
    ///
    /// # Errors
    /// There is no room.
    pub fn publish(&mut self, ticket: T, publish: Publish, now: Instant) -> Result<(), (T, Publish)> {
        self.publish_with(ticket, publish, now, true)
    }

    /// The same for a message that goes on a stream of its own: with its whole topic, since an alias may be known to the
    /// server later than what uses it.
    ///
    /// # Errors
    /// There is no room.
    pub fn publish_beside(&mut self, ticket: T, publish: Publish, now: Instant) -> Result<(), (T, Publish)> {
        self.publish_with(ticket, publish, now, false)
    }

    fn publish_with(
        &mut self,
        ticket: T,
        mut publish: Publish,
        now: Instant,
        aliases: bool,
    ) -> Result<(), (T, Publish)> {
        if self.room() == 0 {
            return Err((ticket, publish));
        }
        let bytes = publish.payload.len();
        publish.qos = QoS::AtLeastOnce;
        publish.dup = false;
        let id = self.in_flight.next_id();
        publish.packet_id = Some(id);
        let kept = (!self.options.clean_start).then(|| publish.clone());
        self.progress = if self.in_flight.unacknowledged() == 0 { Some(now) } else { self.progress };
        self.in_flight.push(ticket, bytes, kept);
        if aliases {
            self.aliases.apply(&mut publish);
        }
        self.send(Packet::Publish(publish), now);
        Ok(())
    }

    /// The packet with this identifier could not be written (too large, or not expressible): nothing of it is on the
    /// wire. Gives back whose it was; the identifier is free again.
    pub fn withdraw(&mut self, id: PacketId, topic: &str) -> Option<T> {
        // The server has not seen the alias that may have been set with it.
        self.aliases.forget(topic);
        self.in_flight.acknowledge(id)
    }

    /// Acknowledges a message of QoS 1 that came over this connection.
    pub fn acknowledge(&mut self, id: PacketId, now: Instant) {
        if self.phase == Phase::Connected {
            self.send(Packet::PubAck(Ack::new(id)), now);
        }
    }

    /// A packet has arrived.
    pub fn receive(&mut self, packet: Packet, now: Instant) {
        self.last_received = Some(now);
        // Any packet shows that the server is there, not only PINGRESP.
        self.pinged = None;
        match (self.phase, packet) {
            (Phase::Closed | Phase::Leaving, _) => {}
            (Phase::Connecting { .. }, Packet::ConnAck(ack)) => self.connected(&ack, now),
            (Phase::Connecting { .. }, other) => self.fail(Fault::Unexpected(other.name())),
            (Phase::Connected, Packet::PubAck(ack)) => self.acknowledged(ack, now),
            (Phase::Connected, Packet::SubAck(ack)) => self.subscribed(&ack),
            (Phase::Connected, Packet::PingResp) => {}
            (Phase::Connected, Packet::Disconnect(bye)) => {
                self.fail(Fault::Disconnected { reason: bye.reason, words: bye.reason_string });
            }
            (Phase::Connected, Packet::Publish(publish)) => self.published(publish, now),
            (Phase::Connected, Packet::PubRel(ack)) => {
                self.send(Packet::PubComp(Ack::new(ack.packet_id)), now);
            }
            (Phase::Connected, other) => self.fail(Fault::Unexpected(other.name())),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        let late = |since: Option<Instant>, within: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= within)
        };
        match self.phase {
            Phase::Closed | Phase::Leaving => {}
            Phase::Connecting { since } => {
                if late(Some(since), self.options.answer_within) {
                    self.fail(Fault::NoConnAck { after: self.options.answer_within });
                }
            }
            Phase::Connected if late(self.pinged, self.options.answer_within) => {
                self.fail(Fault::NoPingResp { after: self.options.answer_within });
            }
            Phase::Connected if self.waits_for_acks() && late(self.progress, self.options.ack_within) => {
                self.fail(Fault::NoPubAck {
                    after: self.options.ack_within,
                    in_flight: self.in_flight.unacknowledged(),
                });
            }
            Phase::Connected if late(self.subscribing_since(), self.options.answer_within) => {
                self.fail(Fault::NoSubAck { after: self.options.answer_within });
            }
            Phase::Connected => {
                let idle = late(self.last_sent, self.keep_alive) || late(self.last_received, self.keep_alive);
                if self.pinged.is_none() && !self.keep_alive.is_zero() && idle {
                    self.pinged = Some(now);
                    self.send(Packet::PingReq, now);
                }
            }
        }
    }

    /// When [`Client::tick`] is due, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed | Phase::Leaving => None,
            Phase::Connecting { since } => Some(since + self.options.answer_within),
            Phase::Connected => {
                let answer = self.pinged.map(|at| at + self.options.answer_within);
                let suback = self.subscribing_since().map(|at| at + self.options.answer_within);
                let ack =
                    self.progress.filter(|_| self.waits_for_acks()).map(|at| at + self.options.ack_within);
                let quiet = self.last_sent.into_iter().chain(self.last_received).min();
                let ping = quiet
                    .filter(|_| self.pinged.is_none() && !self.keep_alive.is_zero())
                    .map(|at| at + self.keep_alive);
                [answer, suback, ack, ping].into_iter().flatten().min()
            }
        }
    }

    fn subscribing_since(&self) -> Option<Instant> {
        self.subscribing.as_ref().map(Subscribing::since)
    }

    fn waits_for_acks(&self) -> bool {
        self.in_flight.unacknowledged() > 0
    }

    fn connected(&mut self, ack: &ConnAck, now: Instant) {
        if ack.reason != ReasonCode::Success {
            return self.fail(Fault::Refused {
                reason: ack.reason,
                words: ack.reason_string.clone(),
                server_reference: ack.server_reference.clone(),
            });
        }
        if ack.maximum_qos == QoS::AtMostOnce {
            return self.fail(Fault::QosNotSupported);
        }
        // A session where a clean one was asked for breaks MQTT-3.2.2-2 (version 3.1.1: MQTT-3.2.2-1).
        if ack.session_present && self.options.clean_start {
            return self.fail(Fault::UnexpectedSession);
        }
        if !ack.session_present {
            self.in_flight.clear();
        }
        self.phase = Phase::Connected;
        self.window = ack.receive_maximum.map_or(in_flight::ID_MAX, NonZeroU16::get).min(in_flight::ID_MAX);
        self.window = self.window.min(self.options.window.get());
        let keep_alive_s = ack.server_keep_alive_s.unwrap_or(self.options.keep_alive_s);
        self.keep_alive = Duration::from_secs(keep_alive_s.into());
        let topic_aliases = ack.topic_alias_maximum.min(self.options.topic_aliases_max);
        self.aliases = Aliases::up_to(topic_aliases);
        self.progress = Some(now);
        self.actions.push_back(Action::Connected(Granted {
            session_present: ack.session_present,
            window: self.window,
            maximum_packet_bytes: ack.maximum_packet_bytes,
            topic_aliases,
            keep_alive_s,
            assigned_client_id: ack.assigned_client_id.clone(),
        }));
        self.subscribe(now);
        self.resend(now);
    }

    fn subscribe(&mut self, now: Instant) {
        if !self.subscriptions.is_empty() {
            self.subscribing = Some(Subscribing::new(self.subscriptions.clone(), now));
            for packet in subscribing::packets(&self.subscriptions) {
                self.send(packet, now);
            }
        }
    }

    fn subscribed(&mut self, ack: &SubAck) {
        match self.subscribing.as_mut().map(|all| all.answered(ack)) {
            None => self.fail(Fault::Unexpected("SUBACK")),
            Some(Err(fault)) => self.fail(fault),
            Some(Ok(None)) => {}
            Some(Ok(Some(refused))) => {
                self.subscribing = None;
                self.actions.push_back(Action::Subscribed { refused });
            }
        }
    }

    /// Sends again what the last connection left unacknowledged, in the order of the first sending (MQTT-4.6.0-1), as
    /// far as the server's receive maximum allows.
    fn resend(&mut self, now: Instant) {
        while let Some(mut publish) = self.in_flight.next_unsent(self.window.into()) {
            publish.dup = true;
            self.aliases.apply(&mut publish);
            self.send(Packet::Publish(publish), now);
        }
    }

    fn acknowledged(&mut self, ack: Ack, now: Instant) {
        let Some(ticket) = self.in_flight.acknowledge(ack.packet_id) else {
            return self.fail(Fault::UnknownPacketId(ack.packet_id));
        };
        self.progress = Some(now);
        let words = ack.properties.and_then(|properties| properties.reason_string);
        self.actions.push_back(Action::Acknowledged { ticket, reason: ack.reason, words });
        if self.in_flight.has_unsent() {
            self.resend(now);
        }
    }

    /// What comes is acknowledged, unless the driver does that, so that the server does not send it for ever. A driver that has subscribed to nothing may
    /// still get some: of a kept session with subscriptions of a former user of the identifier, or of a server that sends to
    /// its clients unasked.
    fn published(&mut self, publish: Publish, now: Instant) {
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(_)) if self.options.acknowledge_by_hand => {}
            (QoS::AtLeastOnce, Some(id)) => self.send(Packet::PubAck(Ack::new(id)), now),
            (QoS::ExactlyOnce, Some(id)) => self.send(Packet::PubRec(Ack::new(id)), now),
            _ => {}
        }
        self.actions.push_back(Action::Received(Box::new(publish)));
    }

    fn send(&mut self, packet: Packet, now: Instant) {
        self.last_sent = Some(now);
        self.actions.push_back(Action::Send(packet));
    }

    fn fail(&mut self, fault: Fault) {
        self.phase = Phase::Leaving;
        self.actions.push_back(Action::Fail(fault));
    }
}

#[cfg(test)]
mod tests;
