//! What clients ask for: telemetry, their twins, answers to method calls, filters.

use super::{Event, Hub, bag, filters};
use crate::{end::End, episodes::warn_once, inbound, plain::Plain, stats::Stats};
use bytes::Bytes;
use holdfast_broker::{MethodReply, Receipt, Refused, Twin, TwinError};
use holdfast_mqtt::{
    Packet, Publish, QoS, ReasonCode,
    hub::{Feature, NoOperation, Operation, PropertyBag, topics},
    server::{Outcome, Ticket},
};
use holdfast_types::{MESSAGE_BYTES_MAX_UPSTREAM, Message, Name};
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;

/// The property that says that a message was sent with RETAIN, which a hub does not keep.
const RETAIN_PROPERTY: &str = "mqtt-retain";

/// The property that tells a will from telemetry.
const MESSAGE_TYPE_PROPERTY: &str = "iothub-MessageType";

impl Hub {
    /// Takes a message of the client. An error ends the connection, as a hub ends it.
    pub(crate) fn publish(&mut self, ticket: Ticket, publish: Publish) -> Result<Option<Outcome>, End> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(End::NotDialect("a message of QoS 2; IoT Hub takes QoS 0 and 1".to_owned()));
        }
        match Operation::parse(&publish.topic) {
            Ok(Operation::Telemetry { device, module, bag }) if self.caller.is(device, module) => {
                self.telemetry(ticket, &bag, &publish)
            }
            Ok(Operation::Telemetry { .. }) => {
                let text = format!("telemetry of another device on {:?}", &*publish.topic);
                Err(End::NotDialect(text))
            }
            Ok(Operation::TwinGet { rid }) => {
                self.twin_get(ticket, rid.to_owned());
                Ok(None)
            }
            Ok(Operation::TwinReport { rid, version }) => {
                self.twin_report(ticket, rid.map(str::to_owned), version, &publish.payload);
                Ok(None)
            }
            Ok(Operation::MethodResponse { status, rid }) => {
                self.method_response(status, rid, &publish.payload);
                Ok(Some(Outcome::Taken))
            }
            Err(why @ NoOperation::Twin(_)) => Err(End::NotDialect(why.to_string())),
            Err(why) => {
                self.dropped(&why);
                Ok(Some(Outcome::Taken))
            }
        }
    }

    /// A hub acknowledges what it cannot make sense of, so that a device does not send it for ever.
    fn dropped(&self, why: &dyn std::fmt::Display) {
        Stats::one(&self.shared.stats.messages_refused);
        warn_once!(
            self.shared.episodes, &format!("hub drop {}", self.caller.identity), client = %self.caller.identity,
            why = %Plain(&why.to_string()), "a message of a device is acknowledged and dropped, as IoT Hub does it"
        );
    }

    fn telemetry(
        &mut self,
        ticket: Ticket,
        bag: &PropertyBag,
        publish: &Publish,
    ) -> Result<Option<Outcome>, End> {
        let mut message = Message::new(inbound::own(&publish.payload));
        let output = match bag::read(bag, &mut message) {
            Ok(output) => output,
            Err(why) => {
                self.dropped(&why);
                return Ok(Some(Outcome::Taken));
            }
        };
        if publish.retain {
            message.properties.set(RETAIN_PROPERTY, "true");
        }
        let bytes = message.size_bytes();
        if bytes > MESSAGE_BYTES_MAX_UPSTREAM {
            let max = MESSAGE_BYTES_MAX_UPSTREAM;
            return Err(End::NotDialect(format!("a message of {bytes} bytes; IoT Hub takes {max}")));
        }
        self.caller.stamp(&mut message);
        let (board, awaited) = (self.board.clone(), self.shared.awaited.clone());
        awaited.fetch_add(1, Ordering::Relaxed);
        self.hand_on(message, output, move |result| {
            awaited.fetch_sub(1, Ordering::Relaxed);
            board.settle(ticket, &result);
        });
        Ok(None)
    }

    /// Telemetry goes to the hub where this is one, else to the routes.
    fn hand_on(
        &self,
        message: Message,
        output: Option<Name>,
        done: impl FnOnce(Result<Receipt, Refused>) + Send + 'static,
    ) {
        match &self.shared.above {
            Some(above) => above.telemetry(&self.caller.identity, message, Box::new(done)),
            None => {
                let source = self.caller.source(&self.shared.broker, output);
                self.shared.broker.publish_then(source, message, done);
            }
        }
    }

    fn twin_get(&mut self, ticket: Ticket, rid: String) {
        let (shared, identity) = (self.shared.clone(), self.caller.identity.clone());
        let answer = self.twin_answer(rid, ticket);
        self.jobs.push(async move {
            let twin = match &shared.above {
                Some(above) => above.twin(&identity).await,
                None => shared.broker.twins().get(&identity).await,
            };
            match twin {
                Ok(twin) => answer.say(200, None, document(twin)),
                Err(error) => answer.refuse(&error),
            }
        });
    }

    fn twin_report(&mut self, ticket: Ticket, rid: Option<String>, version: Option<&str>, body: &[u8]) {
        let version = version.map(str::parse::<u64>).transpose();
        let patch = serde_json::from_slice::<Value>(body);
        let (shared, identity) = (self.shared.clone(), self.caller.identity.clone());
        let mut answer = self.twin_answer(rid.unwrap_or_default(), ticket);
        // Without an identifier nobody waits for the answer.
        answer.wanted = answer.wanted && !answer.rid.is_empty();
        self.jobs.push(async move {
            let (patch, version) = match (patch, version) {
                (Ok(patch), Ok(version)) => (patch, version),
                (Err(why), _) => return answer.malformed(&why),
                (_, Err(why)) => return answer.malformed(&why),
            };
            let reported = match &shared.above {
                Some(above) => above.report(&identity, patch, version).await,
                None => shared.broker.twins().report_if(&identity, patch, version).await,
            };
            match reported {
                Ok(version) => answer.say(204, Some(version), Bytes::new()),
                Err(error) => answer.refuse(&error),
            }
        });
    }

    fn twin_answer(&self, rid: String, ticket: Ticket) -> TwinAnswer {
        let granted = self.filters.granted(Feature::TwinResponses);
        TwinAnswer { rid, ticket, wanted: granted.is_some(), qos: granted.unwrap_or_default() }
    }

    fn method_response(&self, status: i32, rid: &str, payload: &Bytes) {
        match self.shared.hub.calls.take(&self.caller.identity, rid) {
            Some(call) => call.reply(MethodReply { status, payload: Bytes::copy_from_slice(payload) }),
            // The caller has stopped waiting.
            None => {
                tracing::debug!(client = %self.caller.identity, rid = %Plain(&rid), "an answer to a method comes too late");
            }
        }
    }

    /// Subscribes: every filter is granted, with QoS 1 at most; one that means nothing does nothing. `answer` leaves when
    /// the filters are on disk.
    pub(crate) fn subscribe(&mut self, filters: impl Iterator<Item = (String, QoS)>, answer: Packet) {
        let before = self.filters.clone();
        for (filter, qos) in filters {
            let qos = qos.min(QoS::AtLeastOnce);
            if Feature::of(&filter, &self.caller.identity.device, self.caller.identity.module.as_deref())
                .is_none()
            {
                tracing::debug!(client = %self.caller.identity, filter = %Plain(&filter), "a subscription means nothing in the dialect");
            }
            self.filters.add(&filter, qos, &self.caller.identity);
        }
        self.filters_changed(&before, answer);
    }

    /// Unsubscribes.
    pub(crate) fn unsubscribe(&mut self, filters: impl Iterator<Item = String>, answer: Packet) {
        let before = self.filters.clone();
        for filter in filters {
            self.filters.remove(&filter);
        }
        self.filters_changed(&before, answer);
    }

    fn filters_changed(&mut self, before: &filters::Filters, answer: Packet) {
        if self.filters == *before || !self.session.lasts {
            self.jobs.push(async move { vec![Event::Answer(answer), Event::Switch] });
            return;
        }
        let written = self.write(self.filters.written());
        self.jobs.push(async move {
            match written.await {
                Ok(()) => vec![Event::Answer(answer), Event::Switch],
                // The client subscribes again on its next connection.
                Err(_) => vec![Event::End(End::NotTaken(ReasonCode::ServerBusy))],
            }
        });
    }

    /// Forgets what is on disk.
    pub(super) fn forget_filters(&mut self) {
        let written = self.write(None);
        self.jobs.push(async move {
            // What was not forgotten is forgotten with the next change.
            let _ = written.await;
            Vec::new()
        });
    }

    fn write(&self, filters: Option<Bytes>) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        let key = self.caller.identity.to_string();
        self.shared.broker.documents().write(filters::SPACE, &key, filters)
    }

    /// The will of the client as telemetry, once it is gone without a goodbye.
    pub(crate) fn will(&self, topic: &str, payload: Bytes, retain: bool) {
        let Ok(Operation::Telemetry { bag, .. }) = Operation::parse(topic) else { return };
        let mut message = Message::new(payload);
        let Ok(output) = bag::read(&bag, &mut message) else { return };
        message.properties.set(MESSAGE_TYPE_PROPERTY, "Will");
        if retain {
            message.properties.set(RETAIN_PROPERTY, "true");
        }
        self.caller.stamp(&mut message);
        Stats::one(&self.shared.stats.wills);
        let client = self.caller.identity.clone();
        self.hand_on(message, output, move |result| {
            if let Err(error) = result {
                tracing::warn!(%client, %error, "a will was not taken");
            }
        });
    }
}

/// An answer about the twin, to be made when the request is done.
struct TwinAnswer {
    rid: String,
    ticket: Ticket,
    wanted: bool,
    qos: QoS,
}

impl TwinAnswer {
    fn say(self, status: u16, version: Option<u64>, body: Bytes) -> Vec<Event> {
        let mut events = vec![Event::Settle(self.ticket, Outcome::Taken)];
        if self.wanted {
            let topic = topics::twin_response(status, &self.rid, version);
            events.push(Event::Deliver(Publish { qos: self.qos, ..Publish::new(topic, body) }, None));
        }
        events
    }

    fn refuse(self, error: &TwinError) -> Vec<Event> {
        self.say(error.status(), None, json!({ "message": error.to_string() }).to_string().into())
    }

    fn malformed(self, why: &dyn std::fmt::Display) -> Vec<Event> {
        self.say(
            400,
            None,
            json!({ "message": format!("the patch cannot be read: {why}") }).to_string().into(),
        )
    }
}

/// A twin as IoT Hub gives it to its device.
fn document(twin: Twin) -> Bytes {
    let half = |mut half: Map<String, Value>, version: u64| {
        half.insert("$version".to_owned(), version.into());
        Value::Object(half)
    };
    let desired = half(twin.desired, twin.desired_version);
    let reported = half(twin.reported, twin.reported_version);
    json!({ "desired": desired, "reported": reported }).to_string().into()
}
