//! Messages from a client: may it, what is it, and who hears of its fate.

use crate::{
    board::Board,
    episodes::{warn_once, warn_once_of},
    plain::Plain,
    shared::Shared,
    stats::Stats,
    translate,
};
use bytes::Bytes;
use holdfast_auth::Action;
use holdfast_broker::{Beside, SubscriberId};
use holdfast_mqtt::{
    Publish, QoS, ReasonCode, Version,
    server::{Connection, Outcome, Ticket},
};
use holdfast_types::{Name, Source, Topic};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

/// A body under this is copied: it is a slice of a buffer of up to this size, and one small message that waits for a
/// client that does not read would keep the whole buffer, which no bound counts.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// Topics of one client whose grant is remembered. A client with more of them is looked up again.
const TOPICS_REMEMBERED: usize = 64;

/// The way in for one client.
pub(crate) struct Inbound {
    user: Name,
    board: Arc<Board>,
    version: Version,
    /// The session that remembers packet identifiers of QoS 2, if it outlives its connection.
    session: Option<u32>,
    /// Topics that the client may publish to: checked once, allocated once.
    granted: HashSet<Topic>,
}

impl Inbound {
    pub(crate) fn new(user: Name, board: Arc<Board>, version: Version, session: Option<u32>) -> Self {
        Self { user, board, version, session, granted: HashSet::new() }
    }

    /// Hands a message on. Its fate comes by the board, or at once if it is refused here.
    pub(crate) fn publish(
        &mut self,
        shared: &Shared,
        connection: &mut Connection,
        origin: Option<SubscriberId>,
        ticket: Ticket,
        publish: Publish,
    ) {
        if let Err(reason) = self.hand_on(shared, origin, ticket, publish) {
            Stats::one(&shared.stats.messages_refused);
            connection.settle(ticket, Outcome::Refused(reason));
        }
    }

    fn hand_on(
        &mut self,
        shared: &Shared,
        origin: Option<SubscriberId>,
        ticket: Ticket,
        publish: Publish,
    ) -> Result<(), ReasonCode> {
        let topic = self.topic(shared, &publish.topic)?;
        let properties = publish.properties.as_deref();
        if !translate::is_what_it_says(&publish.payload, properties) {
            warn_once!(
                shared.episodes, &format!("format {}", self.user), user = %self.user, topic = %Plain(&topic),
                "a message says that it is UTF-8 text and is not; it is refused"
            );
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        let Ok(message) =
            translate::message(own(&publish.payload), properties, shared.unsaid.content_type.as_deref())
        else {
            warn_once!(
                shared.episodes, &format!("properties {}", self.user), user = %self.user, topic = %Plain(&topic),
                "a message has too many user properties and is refused"
            );
            return Err(ReasonCode::QuotaExceeded);
        };
        let mut how = translate::publishing(publish.qos, publish.retain, properties, origin);
        let _in_order = publish.retain.then(|| shared.retained.in_order());
        if publish.retain {
            match shared.retained.set(&topic, &publish, shared.broker.now()) {
                Ok(beside) => how.beside.extend(beside),
                Err(_) => self.not_retained(shared, &topic, &publish)?,
            }
        }
        if let (Some(session), QoS::ExactlyOnce, Some(packet)) =
            (self.session, publish.qos, publish.packet_id)
        {
            how.beside.push(Beside::Received { session, packet: packet.get() });
        }
        let source = Source::Child { child: self.user.clone(), topic: Some(topic) };
        let board = self.board.clone();
        let awaited = shared.awaited.clone();
        awaited.fetch_add(1, Ordering::Relaxed);
        shared.broker.publish_as(source, message, how, move |result| {
            awaited.fetch_sub(1, Ordering::Relaxed);
            board.settle(ticket, &result);
        });
        Ok(())
    }

    /// A client that can be told that it is not kept is told so, and nobody gets it; of others it is handed on.
    fn not_retained(&self, shared: &Shared, topic: &Topic, publish: &Publish) -> Result<(), ReasonCode> {
        Stats::one(&shared.stats.retained_over_limit);
        let refused = self.version == Version::V5 && publish.qos != QoS::AtMostOnce;
        warn_once!(
            shared.episodes, "retained", user = %self.user, topic = %Plain(topic), refused,
            max = shared.limits.retained_messages_max, max_bytes = shared.limits.retained_bytes_max,
            "there are too many retained messages; one more is refused, or handed on and not kept"
        );
        if refused { Err(ReasonCode::QuotaExceeded) } else { Ok(()) }
    }

    fn topic(&mut self, shared: &Shared, text: &str) -> Result<Topic, ReasonCode> {
        if let Some(topic) = self.granted.get(text) {
            return Ok(topic.clone());
        }
        let topic = Topic::new(text).map_err(|_| ReasonCode::TopicNameInvalid)?;
        if let Err(refusal) = shared.registry.may(&self.user, Action::Publish(&topic)) {
            let kind = format!("publish {}", self.user);
            warn_once_of!(shared.episodes, &kind, &refusal.to_string(), %refusal, "a message is refused");
            return Err(ReasonCode::NotAuthorized);
        }
        if self.granted.len() >= TOPICS_REMEMBERED {
            self.granted.clear();
        }
        self.granted.insert(topic.clone());
        Ok(topic)
    }
}

/// The payload without the buffer that it was read into, unless it is most of it.
pub(crate) fn own(payload: &Bytes) -> Bytes {
    if payload.len() < COPIED_BYTES_MAX { Bytes::copy_from_slice(payload) } else { payload.clone() }
}
