//! Calls over the connection: out with a deadline, in through a bounded box.

use crate::line::{ANSWER_WITHIN, Line, NoAnswer};
use bytes::Bytes;
use bytestring::ByteString;
use holdfast_link::{
    ANSWER_TOPIC, BODY_BYTES_MAX, Call, Direction, Document, DocumentFault, Mark, Problem, STATUS_PROPERTY,
    Status,
};
use holdfast_mqtt::{Publish, PublishProperties};

/// Most calls of the hub that wait to be begun; one more is answered 429.
const INBOX_MAX: usize = 256;

/// Most bytes of the correlation data of a call of the hub.
const CORRELATION_BYTES_MAX: usize = 256;

/// Why a call of ours has no answer of success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFault {
    #[error("the connection ended before the hub answered {0}")]
    Disconnected(Call),
    #[error("the hub did not answer {0} within {ANSWER_WITHIN:?}")]
    TimedOut(Call),
    #[error("the hub answered {call} with {status}: {}", problem.error)]
    Refused { call: Call, status: Status, problem: Problem },
    #[error(transparent)]
    Document(#[from] DocumentFault),
}

impl CallFault {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A call of the hub.
pub(crate) struct Incoming {
    pub(crate) call: Call,
    pub(crate) body: Bytes,
    correlation: Bytes,
    respond_to: ByteString,
}

pub(crate) struct Answer {
    status: Status,
    body: Bytes,
}

/// What came of the greeting of this connection.
#[derive(Default)]
pub(crate) struct Greeting {
    is_answered: bool,
    /// How far the hub said there that it has stored this edge's messages, until somebody takes note.
    marks: Option<Vec<Mark>>,
}

/// Between the connection and those who call and are called.
pub(crate) type Port = Line<Incoming, Answer, Greeting>;

impl Port {
    /// The hub has answered the greeting: from here on it takes telemetry.
    pub(crate) fn greeted(&self, marks: Vec<Mark>) {
        self.known(|greeting| *greeting = Greeting { is_answered: true, marks: Some(marks) });
        self.to_send.notify_one();
    }

    /// Whether the hub takes telemetry.
    pub(crate) fn is_greeted(&self) -> bool {
        self.known(|greeting| greeting.is_answered)
    }

    /// How far the hub had stored this edge's messages when it was greeted; once for each greeting.
    pub(crate) fn take_marks(&self) -> Option<Vec<Mark>> {
        self.known(|greeting| greeting.marks.take())
    }

    /// Calls the hub and waits for its answer.
    pub(crate) async fn call<A: Document>(
        &self,
        call: Call,
        document: &impl Document,
    ) -> Result<A, CallFault> {
        let body = document.encode()?;
        let question = |number: u64| {
            let properties = PublishProperties {
                response_topic: Some(ByteString::from_static(ANSWER_TOPIC)),
                correlation_data: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
                ..PublishProperties::default()
            };
            let mut publish = Publish::new(call.topic(), body);
            publish.properties = Some(Box::new(properties));
            publish
        };
        let answer = self.ask(question).await.map_err(|none| match none {
            NoAnswer::Disconnected => CallFault::Disconnected(call),
            NoAnswer::TimedOut => CallFault::TimedOut(call),
        })?;
        if !answer.status.is_success() {
            let problem = Problem::decode(&answer.body).unwrap_or_default();
            return Err(CallFault::Refused { call, status: answer.status, problem });
        }
        Ok(A::decode(&answer.body)?)
    }

    /// Answers a call of the hub.
    pub(crate) fn answer(&self, incoming: Incoming, result: Result<impl Document, (Status, Problem)>) {
        let encoded = result.and_then(|document| {
            document.encode().map_err(|fault| (Status::TOO_LARGE, Problem::new(fault.to_string())))
        });
        let (status, body) = match encoded {
            Ok(body) => (Status::OK, body),
            Err((status, problem)) => (status, problem.encode().unwrap_or_default()),
        };
        self.send_answer(incoming, status, body);
    }

    fn send_answer(&self, incoming: Incoming, status: Status, body: Bytes) {
        let properties = PublishProperties {
            correlation_data: Some(incoming.correlation),
            user_properties: vec![(ByteString::from_static(STATUS_PROPERTY), status.to_string().into())],
            ..PublishProperties::default()
        };
        let mut publish = Publish::new(incoming.respond_to, body);
        publish.properties = Some(Box::new(properties));
        self.send(publish);
    }

    /// A packet of ours can never be sent, or was refused: whoever waits for its answer has none.
    pub(crate) fn refused(&self, correlation: &[u8], why: &str) {
        let Some(number) = number(correlation) else { return };
        let body = Problem::new(why).encode().unwrap_or_default();
        self.answered(number, Answer { status: Status::FAILED, body });
    }

    /// A packet has come.
    pub(crate) fn received(&self, publish: Publish) {
        let properties = publish.properties.unwrap_or_default();
        let correlation = properties.correlation_data.clone().unwrap_or_default();
        if &*publish.topic == ANSWER_TOPIC {
            let status = properties.user_properties.iter().find(|(name, _)| &**name == STATUS_PROPERTY);
            let Some(status) = status.and_then(|(_, value)| Status::parse(value)) else {
                return tracing::warn!("the hub sent an answer without status; it is passed over");
            };
            if let Some(number) = number(&correlation) {
                self.answered(number, Answer { status, body: publish.payload });
            }
            return;
        }
        let call = Call::of_topic(&publish.topic).filter(|call| call.direction() == Direction::Down);
        let (Some(call), Some(respond_to)) = (call, properties.response_topic) else {
            return tracing::warn!(topic = %publish.topic, "the hub sent what this edge does not know; it is passed over");
        };
        if correlation.len() > CORRELATION_BYTES_MAX {
            return tracing::warn!(%call, "the hub sent a call with too long correlation data; it is passed over");
        }
        let incoming = Incoming { call, body: publish.payload, correlation, respond_to };
        if incoming.body.len() > BODY_BYTES_MAX {
            let why =
                format!("the body has {} bytes, at most {BODY_BYTES_MAX} are allowed", incoming.body.len());
            return self.refuse(incoming, Status::TOO_LARGE, why);
        }
        if let Err(incoming) = self.came(incoming, INBOX_MAX) {
            let why = format!("{INBOX_MAX} calls wait at this edge; try again");
            self.refuse(incoming, Status::BUSY, why);
        }
    }

    fn refuse(&self, incoming: Incoming, status: Status, why: String) {
        let body = Problem::new(why).encode().unwrap_or_default();
        self.send_answer(incoming, status, body);
    }
}

fn number(correlation: &[u8]) -> Option<u64> {
    correlation.try_into().ok().map(u64::from_be_bytes)
}
