//! Messages to a client: subscriptions, retained messages, and the packets that carry them.

use crate::{
    connection::Client,
    durable::Durable,
    end::End,
    episodes::{warn_once, warn_once_of},
    plain::Plain,
    stats::Stats,
    subscriptions::Wanted,
    translate,
};
use holdfast_auth::{Action, Refusal};
use holdfast_broker::{Interest, Published, SubscriptionOptions};
use holdfast_mqtt::{
    AckProperties, EncodeError, Packet, PacketId, Publish, QoS, ReasonCode, RetainHandling, SubAck,
    Subscribe, Subscription, UnsubAck, Unsubscribe,
};
use holdfast_types::TopicFilter;
use std::num::NonZeroU32;

/// Messages taken from the queue at once.
pub(crate) const BATCH_MESSAGES_MAX: usize = 64;

/// Retained messages that may wait for one client before a further subscription that asks for more is refused. A client
/// that acknowledges keeps far below.
const BACKLOG_MESSAGES_MAX: usize = 4096;

impl Client {
    pub(crate) fn subscribe(&mut self, subscribe: &Subscribe) {
        let id = subscribe.subscription_id;
        let mut reasons = Vec::with_capacity(subscribe.subscriptions.len());
        let mut retained = Vec::new();
        for wanted in &subscribe.subscriptions {
            match self.subscribe_one(wanted, id) {
                Ok((reason, filter)) => {
                    reasons.push(reason);
                    retained.extend(filter.map(|filter| (filter, wanted.qos)));
                }
                Err(reason) => {
                    Stats::one(&self.shared.stats.subscriptions_refused);
                    reasons.push(reason);
                }
            }
        }
        self.subscriptions.settle(&self.shared, &self.key.user);
        let properties = AckProperties::default();
        let ack = SubAck { packet_id: subscribe.packet_id, reasons, properties };
        self.send_when_recorded(&Packet::SubAck(Box::new(ack)));
        let now = self.shared.broker.now();
        for (filter, granted) in retained {
            let matching = self.shared.retained.matching(&filter, granted, now).into_iter();
            let denied = &self.denied;
            self.backlog.extend(matching.filter(|one| !is_denied(denied, &one.topic)).map(|mut publish| {
                if let Some(id) = id {
                    publish.properties.get_or_insert_default().subscription_ids = vec![id];
                }
                publish
            }));
        }
    }

    /// The reason for the SUBACK, and the filter if retained messages are to follow.
    fn subscribe_one(
        &mut self,
        wanted: &Subscription,
        id: Option<u32>,
    ) -> Result<(ReasonCode, Option<TopicFilter>), ReasonCode> {
        let interest = interest(&wanted.filter)?;
        if let Err(refusal) = self.shared.registry.may(&self.key.user, Action::Subscribe(&interest.filter)) {
            let kind = format!("subscribe {}", self.key.user);
            warn_once_of!(self.shared.episodes, &kind, &refusal.to_string(), %refusal, "a subscription is refused");
            return Err(match refusal {
                // Of what is kept from it, the client does not learn that it is there.
                Refusal::Denied { .. } => ReasonCode::UnspecifiedError,
                _ => ReasonCode::NotAuthorized,
            });
        }
        let known = self.subscriptions.holds(&interest);
        let max = self.shared.limits.subscriptions_max;
        if !known && self.subscriptions.len() >= max {
            Stats::one(&self.shared.stats.subscriptions_over_limit);
            let kind = format!("subscriptions {}", self.key.user);
            warn_once!(self.shared.episodes, &kind, user = %self.key.user, max, "a client has too many subscriptions");
            return Err(ReasonCode::QuotaExceeded);
        }
        // Shared subscriptions get no retained messages (MQTT 5, section 4.8.2).
        let send_retained = interest.group.is_none()
            && match wanted.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => !known,
                RetainHandling::Never => false,
            };
        if send_retained && self.backlog.len() >= BACKLOG_MESSAGES_MAX {
            let kind = format!("backlog {}", self.key.user);
            warn_once!(self.shared.episodes, &kind, user = %self.key.user, "a client subscribes faster than it takes retained messages");
            return Err(ReasonCode::QuotaExceeded);
        }
        let options = SubscriptionOptions {
            qos: translate::types_qos(wanted.qos),
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            id: id.and_then(NonZeroU32::new),
        };
        let filter = send_retained.then(|| interest.filter.clone());
        self.subscriptions.add(interest, options);
        Stats::one(&self.shared.stats.subscriptions_granted);
        let reason = match wanted.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        };
        Ok((reason, filter))
    }

    pub(crate) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let reasons = unsubscribe.filters.iter().map(|text| match interest(text) {
            Ok(interest) if self.subscriptions.remove(&interest) => ReasonCode::Success,
            Ok(_) => ReasonCode::NoSubscriptionExisted,
            Err(reason) => reason,
        });
        let reasons = reasons.collect();
        self.subscriptions.settle(&self.shared, &self.key.user);
        let properties = AckProperties::default();
        let ack = UnsubAck { packet_id: unsubscribe.packet_id, reasons, properties };
        self.send_when_recorded(&Packet::UnsubAck(Box::new(ack)));
    }

    /// How much may be taken from the queue now.
    pub(crate) fn wanted(&self) -> Wanted {
        let held_back = self.durable.as_ref().map_or(0, Durable::held_back);
        let bytes = self.shared.limits.write_buffer_bytes_max.saturating_sub(self.out.len() + held_back);
        let resuming = self.durable.as_ref().is_some_and(Durable::is_resuming);
        let may = bytes > 0 && self.backlog.is_empty() && !resuming && !self.flooded;
        let messages = if may { self.connection.room().min(BATCH_MESSAGES_MAX) } else { 0 };
        Wanted { messages, bytes }
    }

    /// Writes what the connection before has left unacknowledged, then retained messages, as far as the window and the
    /// buffer allow.
    pub(crate) fn write_backlog(&mut self) {
        if self.durable.as_ref().is_some_and(Durable::is_resuming) {
            return;
        }
        while self.out.len() < self.shared.limits.write_buffer_bytes_max {
            let Some(packet) = self.connection.again() else { break };
            let too_large = self.encode(&packet).is_err();
            if let (Packet::Publish(Publish { packet_id: Some(id), .. }), true) = (&packet, too_large) {
                self.connection.give_up(*id);
                self.subscriptions.acknowledge(*id);
                self.durable.iter().for_each(|durable| durable.session.done(*id));
                Stats::one(&self.shared.stats.messages_lost);
            }
        }
        if self.holds_backlog() {
            return;
        }
        while self.out.len() < self.shared.limits.write_buffer_bytes_max && self.connection.room() > 0 {
            let Some(publish) = self.backlog.pop_front() else { return };
            self.deliver(publish, None);
        }
    }

    /// Writes messages that the broker handed over.
    pub(crate) fn write_messages(&mut self, messages: &mut Vec<Published>) -> Result<(), End> {
        let version = self.connection.rules().version;
        let now = self.shared.broker.now();
        for published in messages.drain(..) {
            if is_denied(&self.denied, &published.topic) {
                self.give_up(&published);
                continue;
            }
            match translate::publish(&published, version, now) {
                Some(publish) => self.deliver(publish, Some(published)),
                None => {
                    Stats::one(&self.shared.stats.messages_expired);
                    self.give_up(&published);
                }
            }
        }
        let expired = self.subscriptions.take_expired();
        self.shared.stats.messages_expired.fetch_add(expired, std::sync::atomic::Ordering::Relaxed);
        self.check_losses()
    }

    fn deliver(&mut self, publish: Publish, published: Option<Published>) {
        let packet = self.connection.deliver(publish);
        let Packet::Publish(publish) = &packet else { return };
        let start = self.out.len();
        let order = published.as_ref().and_then(|published| published.order);
        // What waits for a record may be overtaken by a message that counts on its alias.
        let encoded = match order {
            Some(_) if self.holds_back(publish.qos) => self.codec.encode(&packet, &mut self.out),
            _ => self.encode(&packet),
        };
        if let Err(error) = encoded {
            // The client said that it takes no packet this large: it is as if it had been sent (MQTT-3.1.2-25).
            tracing::debug!(user = %self.key.user, %error, topic = %Plain(&publish.topic), "a message is too large for a client");
            publish.packet_id.inspect(|id| self.connection.give_up(*id));
            published.iter().for_each(|published| self.give_up(published));
            Stats::one(&self.shared.stats.messages_lost);
            return;
        }
        if let Some(order) = order {
            let bytes = self.out.split_off(start);
            self.send_recorded(order, publish, bytes);
        }
        if let (Some(id), Some(published)) = (publish.packet_id, published) {
            self.subscriptions.sent(id, published);
        }
        Stats::one(&self.shared.stats.messages_out);
    }

    fn encode(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        if let Packet::Publish(publish) = packet
            && let Some(aliased) = self.connection.aliased(publish)
        {
            match self.codec.encode(&Packet::Publish(aliased), &mut self.out) {
                Ok(()) => return Ok(()),
                // Perhaps it fits without.
                Err(_) => self.connection.forget_alias(&publish.topic),
            }
        }
        self.codec.encode(packet, &mut self.out)
    }

    /// A message of the session log cannot be sent to this client.
    fn give_up(&self, published: &Published) {
        if let (Some(durable), Some(order)) = (&self.durable, published.order) {
            durable.session.given_up(order);
        }
    }

    /// A queue that was full has lost messages. With QoS 0, that is what QoS 0 means; after others the client is cut off,
    /// so that it notices.
    fn check_losses(&mut self) -> Result<(), End> {
        let lost = self.subscriptions.lost();
        let more = lost.total().saturating_sub(self.seen_lost.total());
        if more == 0 {
            return Ok(());
        }
        let promised = lost.promised > self.seen_lost.promised;
        self.seen_lost = lost;
        if promised {
            return Err(End::Behind { lost: more });
        }
        warn_once!(
            self.shared.episodes, &format!("slow {}", self.key.user), user = %self.key.user,
            client_id = %Plain(&self.key.client_id), lost = more, "a client reads too slowly and loses messages of QoS 0"
        );
        Ok(())
    }
}

fn is_denied(denied: &[TopicFilter], topic: &str) -> bool {
    denied.iter().any(|filter| filter.matches(topic))
}

/// What a filter on the wire asks for.
pub(crate) fn interest(text: &str) -> Result<Interest, ReasonCode> {
    let filter = holdfast_mqtt::TopicFilter::new(text).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    let group = filter.share().map(Into::into);
    let filter = TopicFilter::new(filter.filter()).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    Ok(Interest { group, filter })
}

/// The message to the client whose body is not needed any more after this packet of the client.
pub(crate) fn acknowledged(packet: &Packet) -> Option<PacketId> {
    match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) => Some(ack.packet_id),
        _ => None,
    }
}

/// The reason as DISCONNECT can carry it (MQTT 5, table 3-10).
pub(crate) fn sayable(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::PacketIdentifierInUse | ReasonCode::PacketIdentifierNotFound => ReasonCode::ProtocolError,
        ReasonCode::ClientIdentifierNotValid | ReasonCode::BadUserNameOrPassword => ReasonCode::NotAuthorized,
        ReasonCode::UnsupportedProtocolVersion | ReasonCode::ServerUnavailable | ReasonCode::Banned => {
            ReasonCode::UnspecifiedError
        }
        sayable => sayable,
    }
}
