//! Messages to a client: subscriptions, retained messages, and the packets that carry them.

use crate::{
    connection::Client,
    end::End,
    episodes::warn_once,
    plain::Plain,
    stats::Stats,
    subscriptions::{Subscribed, Wanted},
    translate,
};
use holdfast_auth::Action;
use holdfast_broker::{Held, Published};
use holdfast_mqtt::{
    AckProperties, Packet, PacketId, Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe,
    Subscription, UnsubAck, Unsubscribe,
};
use holdfast_types::TopicFilter;

/// Messages taken from the queue at once.
const BATCH_MESSAGES_MAX: usize = 64;

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
        let properties = AckProperties::default();
        self.send(&Packet::SubAck(Box::new(SubAck { packet_id: subscribe.packet_id, reasons, properties })));
        for (filter, granted) in retained {
            let ids: Vec<u32> = id.into_iter().collect();
            self.backlog.extend(self.shared.retained.matching(&filter, granted).into_iter().map(
                |mut publish| {
                    if !ids.is_empty() {
                        publish.properties.get_or_insert_default().subscription_ids = ids.clone();
                    }
                    publish
                },
            ));
        }
    }

    /// The reason for the SUBACK, and the filter if retained messages are to follow.
    fn subscribe_one(
        &mut self,
        wanted: &Subscription,
        id: Option<u32>,
    ) -> Result<(ReasonCode, Option<TopicFilter>), ReasonCode> {
        if wanted.filter.starts_with("$share/") {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let filter = TopicFilter::new(&wanted.filter).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        if let Err(refusal) = self.shared.registry.may(&self.key.user, Action::Subscribe(&filter)) {
            let kind = format!("subscribe {}", self.key.user);
            warn_once!(self.shared.episodes, &kind, %refusal, "a subscription is refused");
            return Err(ReasonCode::NotAuthorized);
        }
        let known = self.subscriptions.holds(&filter);
        let max = self.shared.limits.subscriptions_max;
        if !known && self.subscriptions.len() >= max {
            let kind = format!("subscriptions {}", self.key.user);
            warn_once!(self.shared.episodes, &kind, user = %self.key.user, max, "a client has too many subscriptions");
            return Err(ReasonCode::QuotaExceeded);
        }
        self.subscriptions.add(&self.shared, &self.key.user, &filter, Subscribed { qos: wanted.qos, id });
        Stats::one(&self.shared.stats.subscriptions_granted);
        let reason = match wanted.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        };
        let send_retained = match wanted.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => !known,
            RetainHandling::Never => false,
        };
        Ok((reason, send_retained.then_some(filter)))
    }

    pub(crate) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let reasons = unsubscribe.filters.iter().map(|text| match TopicFilter::new(text) {
            Ok(filter) if self.subscriptions.remove(&filter) => ReasonCode::Success,
            Ok(_) => ReasonCode::NoSubscriptionExisted,
            Err(_) => ReasonCode::TopicFilterInvalid,
        });
        let reasons = reasons.collect();
        let properties = AckProperties::default();
        self.send(&Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: unsubscribe.packet_id,
            reasons,
            properties,
        })));
    }

    /// How much may be taken from the queue now.
    pub(crate) fn wanted(&self) -> Wanted {
        let bytes = self.shared.limits.write_buffer_bytes_max.saturating_sub(self.out.len());
        let may = bytes > 0 && self.backlog.is_empty();
        let messages = if may { self.connection.room().min(BATCH_MESSAGES_MAX) } else { 0 };
        Wanted { messages, bytes }
    }

    /// Writes retained messages as far as the window and the buffer allow.
    pub(crate) fn write_backlog(&mut self) {
        while self.out.len() < self.shared.limits.write_buffer_bytes_max && self.connection.room() > 0 {
            let Some(publish) = self.backlog.pop_front() else { return };
            self.deliver(publish, None);
        }
    }

    /// Writes messages that the broker handed over.
    pub(crate) fn write_messages(&mut self, messages: &mut Vec<Published>) -> Result<(), End> {
        for published in messages.drain(..) {
            let Some(matched) = self.subscriptions.matched(&published) else { continue };
            let version = self.connection.rules().version;
            let publish = translate::publish(&published, matched.qos, matched.ids, version);
            self.deliver(publish, Some(published.held));
        }
        self.check_losses()
    }

    fn deliver(&mut self, publish: Publish, held: Option<Held>) {
        let packet = self.connection.deliver(publish);
        let Packet::Publish(publish) = &packet else { return };
        if let Err(error) = self.codec.encode(&packet, &mut self.out) {
            // The client said that it takes no packet this large: it is as if it had been sent (MQTT-3.1.2-25).
            tracing::debug!(user = %self.key.user, %error, topic = %Plain(&publish.topic), "a message is too large for a client");
            publish.packet_id.inspect(|id| self.connection.give_up(*id));
            Stats::one(&self.shared.stats.messages_lost);
            return;
        }
        if let (Some(id), Some(held)) = (publish.packet_id, held) {
            self.subscriptions.sent(id, held);
        }
        Stats::one(&self.shared.stats.messages_out);
    }

    /// A queue that was full has lost messages. With QoS 0 only, that is what QoS 0 means; otherwise the client is cut
    /// off, so that it notices.
    fn check_losses(&mut self) -> Result<(), End> {
        let lost = self.subscriptions.lost();
        let more = lost.saturating_sub(self.seen_lost);
        if more == 0 {
            return Ok(());
        }
        self.seen_lost = lost;
        self.shared.stats.messages_lost.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
        if self.subscriptions.acknowledged() {
            return Err(End::Behind { lost: more });
        }
        warn_once!(
            self.shared.episodes, &format!("slow {}", self.key.user), user = %self.key.user,
            client_id = %Plain(&self.key.client_id), lost = more, "a client reads too slowly and loses messages of QoS 0"
        );
        Ok(())
    }
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
