//! One connection of a session.

use super::{
    KeepAlive, Session,
    acks::{Acks, Awaits, Outcome, Ticket, answer},
};
use crate::alias::Aliases;
use crate::{
    Ack, Disconnect, Packet, PacketId, ProtocolError, Publish, QoS, ReasonCode, Subscribe, Unsubscribe,
    Version,
};
use bytestring::ByteString;
use std::{collections::VecDeque, time::Instant};

/// What was agreed on in CONNECT and CONNACK.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The version spoken.
    pub version: Version,
    /// The keep alive in force, in seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Unacknowledged QoS 1 and 2 messages that are sent to the client at once.
    pub window: u16,
    /// Unacknowledged messages taken from the client at once. A client of version 5 was told so as receive maximum and
    /// breaks the protocol with more; a client of version 3.1.1 cannot know and is not read from until there is room.
    pub unacked_max: u16,
    /// Topic aliases that the client may use.
    pub topic_alias_maximum: u16,
    /// Topic aliases that may be used towards the client; it said how many it takes.
    pub client_aliases: u16,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand a message on, and report its fate with [`Connection::settle`]. The topic is complete.
    Publish {
        /// What to report with.
        ticket: Ticket,
        /// The message.
        publish: Publish,
    },
    /// Decide on subscriptions and send a SUBACK.
    Subscribe(Box<Subscribe>),
    /// End subscriptions and send an UNSUBACK.
    Unsubscribe(Box<Unsubscribe>),
    /// Send a packet.
    Send(Packet),
    /// The client has said goodbye; nothing it sends after that counts.
    Ended(Box<Disconnect>),
}

/// One connection of a session, after CONNECT was accepted.
#[derive(Debug)]
pub struct Connection {
    rules: Rules,
    session: Session,
    acks: Acks,
    keep_alive: KeepAlive,
    aliases: Vec<Option<ByteString>>,
    client_aliases: Aliases,
    /// Messages that the connection before has left unacknowledged and that were not sent again yet.
    left: VecDeque<PacketId>,
}

impl Connection {
    /// A connection that carries `session` on.
    pub fn new(rules: Rules, session: Session, now: Instant) -> Self {
        let keep_alive = KeepAlive::new(rules.keep_alive_s, now);
        let client_aliases = Aliases::up_to(rules.client_aliases);
        let left = session.outgoing.ids().collect();
        Self { rules, session, acks: Acks::default(), keep_alive, aliases: Vec::new(), client_aliases, left }
    }

    /// What was agreed on.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes a packet from the client and adds what is to be done to `actions`. After an error the connection ends with
    /// its reason.
    pub fn packet(&mut self, packet: Packet, actions: &mut Vec<Action>) -> Result<(), ProtocolError> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, actions)?,
            Packet::PubAck(ack) => self.session.outgoing.puback(ack.packet_id)?,
            Packet::PubRec(ack) => actions.extend(self.session.outgoing.pubrec(&ack)?.map(Action::Send)),
            Packet::PubComp(ack) => self.session.outgoing.pubcomp(ack.packet_id)?,
            Packet::PubRel(ack) => {
                let known = self.session.received.remove(&ack.packet_id);
                let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
                actions.push(Action::Send(Packet::PubComp(Ack::with(ack.packet_id, reason))));
            }
            Packet::Subscribe(subscribe) => actions.push(Action::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => actions.push(Action::Unsubscribe(unsubscribe)),
            Packet::PingReq => actions.push(Action::Send(Packet::PingResp)),
            Packet::Disconnect(disconnect) => actions.push(Action::Ended(disconnect)),
            Packet::Connect(_) => {
                return Err(ProtocolError::violation("a second CONNECT came on the same connection")
                    .clause("MQTT-3.1.0-2"));
            }
            Packet::Auth(_) => {
                return Err(ProtocolError::violation(
                    "AUTH came, but CONNECT named no authentication method",
                ));
            }
            server @ (Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp) => {
                let text = format!("{} came from a client; only servers send it", server.name());
                return Err(ProtocolError::violation(text));
            }
        }
        Ok(())
    }

    fn publish(&mut self, mut publish: Publish, actions: &mut Vec<Action>) -> Result<(), ProtocolError> {
        if self.rules.version == Version::V5 {
            self.check_v5(&mut publish)?;
        }
        let awaits = match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => Awaits::PubAck(id),
            (QoS::ExactlyOnce, Some(id)) => {
                if !self.session.received.insert(id) {
                    // Sent again. If its first copy is recorded, it is acknowledged again (MQTT-4.3.3-10); if that is
                    // still open, the acknowledgement to come answers both.
                    if !self.acks.open_qos2().any(|open| open == id) {
                        actions.push(Action::Send(Packet::PubRec(Ack::new(id))));
                    }
                    return Ok(());
                }
                Awaits::PubRec(id)
            }
            _ => Awaits::Nothing,
        };
        let ticket = self.acks.open(awaits, publish.payload.len());
        actions.push(Action::Publish { ticket, publish });
        Ok(())
    }

    fn check_v5(&mut self, publish: &mut Publish) -> Result<(), ProtocolError> {
        let waiting = self.acks.owed().max(self.session.received.len());
        if publish.qos != QoS::AtMostOnce && !publish.dup && waiting >= usize::from(self.rules.unacked_max) {
            let text =
                format!("more than {} messages wait for their acknowledgement", self.rules.unacked_max);
            return Err(ProtocolError::new(ReasonCode::ReceiveMaximumExceeded, text).clause("MQTT-3.3.4-7"));
        }
        let Some(properties) = &publish.properties else { return Ok(()) };
        if !properties.subscription_ids.is_empty() {
            let text = "PUBLISH from a client has a subscription identifier";
            return Err(ProtocolError::violation(text).clause("MQTT-3.3.4-6"));
        }
        let Some(alias) = properties.topic_alias else { return Ok(()) };
        if alias.get() > self.rules.topic_alias_maximum {
            let text =
                format!("topic alias {alias} is over the maximum of {}", self.rules.topic_alias_maximum);
            return Err(ProtocolError::new(ReasonCode::TopicAliasInvalid, text).clause("MQTT-3.3.2-9"));
        }
        let at = usize::from(alias.get());
        if self.aliases.len() <= at {
            self.aliases.resize(at + 1, None);
        }
        let Some(slot) = self.aliases.get_mut(at) else { return Ok(()) };
        if !publish.topic.is_empty() {
            *slot = Some(publish.topic.clone());
            return Ok(());
        }
        match slot {
            Some(topic) => {
                publish.topic = topic.clone();
                Ok(())
            }
            None => Err(ProtocolError::violation(format!("topic alias {alias} stands for no topic yet"))),
        }
    }

    /// Reports the fate of a message.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        self.acks.settle(ticket, outcome);
    }

    /// Hands over the acknowledgements that may leave now. An error is the reason for which the connection has to end,
    /// because there is no acknowledgement that would say so.
    pub fn ready(&mut self, mut send: impl FnMut(Packet)) -> Result<(), ReasonCode> {
        while let Some((awaits, outcome)) = self.acks.next() {
            if let (Awaits::PubRec(id), Outcome::Refused(_)) = (awaits, outcome) {
                self.session.received.remove(&id);
            }
            if let Some(packet) = answer(awaits, outcome, self.rules.version)? {
                send(packet);
            }
        }
        Ok(())
    }

    /// Messages from the client whose fate is open.
    pub fn unsettled(&self) -> usize {
        self.acks.len()
    }

    /// Bytes of their payloads.
    pub fn unsettled_bytes(&self) -> usize {
        self.acks.bytes()
    }

    /// Whether the fate of a QoS 2 message from the client is open.
    pub fn owes_pubrec(&self) -> bool {
        self.acks.open_qos2().next().is_some()
    }

    /// How many more messages of QoS 1 and 2 the client takes now.
    pub fn room(&self) -> usize {
        if !self.left.is_empty() {
            return 0;
        }
        self.session.outgoing.room(usize::from(self.rules.window))
    }

    /// Messages that the client has not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.session.outgoing.len()
    }

    /// Makes a message ready to be sent. For QoS 1 and 2 the caller has seen that there is [`Self::room`].
    pub fn deliver(&mut self, publish: Publish) -> Packet {
        Packet::Publish(self.session.outgoing.send(publish))
    }

    /// A message as it goes over the wire, if its topic has an alias or gets one now. An alias is good for this connection
    /// only, so that what is remembered for sending again has none (MQTT-3.3.2-7).
    pub fn aliased(&mut self, publish: &Publish) -> Option<Publish> {
        // An alias takes three bytes itself.
        if !self.client_aliases.any() || publish.topic.len() <= 3 {
            return None;
        }
        let mut aliased = publish.clone();
        self.client_aliases.apply(&mut aliased);
        Some(aliased)
    }

    /// A message with an alias was not sent: the client has not learned what stands for its topic.
    pub fn forget_alias(&mut self, topic: &str) {
        self.client_aliases.forget(topic);
    }

    /// Forgets a message that turned out to be larger than the client takes.
    pub fn give_up(&mut self, id: PacketId) {
        self.session.outgoing.give_up(id);
    }

    /// Takes up what was sent on an earlier connection, see [`super::Outgoing::take_up`]. Before anything is sent on this one.
    pub fn take_up(&mut self, last: u16, kept: impl IntoIterator<Item = (PacketId, Option<Publish>)>) {
        self.session.outgoing.take_up(last, kept);
        self.left = self.session.outgoing.ids().collect();
    }

    /// What to send again now. All that the connection before left unacknowledged goes out again in its order before
    /// anything new (MQTT-4.4.0-1, MQTT-4.6.0-1), but never more at once than this connection takes (MQTT-3.3.4-9).
    pub fn again(&mut self) -> Option<Packet> {
        while let Some(id) = self.left.front() {
            let sent = self.session.outgoing.len().saturating_sub(self.left.len());
            if sent >= usize::from(self.rules.window) {
                return None;
            }
            let packet = self.session.outgoing.again(*id);
            self.left.pop_front();
            if packet.is_some() {
                return packet;
            }
        }
        None
    }

    /// Bytes came from the client, or it was not listened to until now.
    pub fn heard(&mut self, now: Instant) {
        self.keep_alive.heard(now);
    }

    /// When the client is given up unless it is heard before.
    pub fn deadline(&self) -> Option<Instant> {
        self.keep_alive.deadline()
    }

    /// Ends the connection and gives the session back. QoS 2 messages whose fate is still open are forgotten: the client
    /// sends them again, and an acknowledgement without a record would be worse than a second copy.
    pub fn into_session(mut self) -> Session {
        for id in self.acks.open_qos2() {
            self.session.received.remove(&id);
        }
        self.session
    }
}
