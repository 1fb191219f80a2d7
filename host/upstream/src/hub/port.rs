//! Calls over the connection: out with a deadline, in through a bounded box.

use bytes::Bytes;
use bytestring::ByteString;
use holdfast_link::{
    ANSWER_TOPIC, BODY_BYTES_MAX, Call, Direction, Document, DocumentFault, Mark, Problem, STATUS_PROPERTY,
    Status,
};
use holdfast_mqtt::{Publish, PublishProperties};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

/// How long an answer may take: a hub that is overrun, and a path that is slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

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

struct Answer {
    status: Status,
    body: Bytes,
}

/// Between the connection and those who call and are called.
#[derive(Default)]
pub(crate) struct Port {
    state: Mutex<State>,
    /// Something is to be sent.
    pub(crate) to_send: Notify,
    /// The box has something, or the port was opened or closed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Whether the hub has answered the greeting of this connection.
    is_greeted: bool,
    /// How far it said there that it has stored this edge's messages, until somebody takes note.
    marks: Option<Vec<Mark>>,
    out: VecDeque<Publish>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Never used twice while the process lives, so that a late answer of an old connection meets nobody.
    next: u64,
    inbox: VecDeque<Incoming>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Open,
    Closed,
}

impl Port {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is about to be made.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        *state = State { next: state.next, ..State::default() };
    }

    /// The hub has welcomed the connection.
    pub(crate) fn open(&self) {
        self.state().phase = Phase::Open;
        self.changed.notify_waiters();
    }

    /// The hub has answered the greeting: from here on it takes telemetry.
    pub(crate) fn greeted(&self, marks: Vec<Mark>) {
        let mut state = self.state();
        (state.is_greeted, state.marks) = (true, Some(marks));
        drop(state);
        self.to_send.notify_one();
    }

    /// Whether the hub takes telemetry.
    pub(crate) fn is_greeted(&self) -> bool {
        self.state().is_greeted
    }

    /// How far the hub had stored this edge's messages when it was greeted; once for each greeting.
    pub(crate) fn take_marks(&self) -> Option<Vec<Mark>> {
        self.state().marks.take()
    }

    /// The connection has ended: nobody gets an answer any longer.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        *state = State { next: state.next, phase: Phase::Closed, ..State::default() };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the port is opened; false if it is closed instead.
    pub(crate) async fn is_opened(&self) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.state().phase {
                Phase::Before => {}
                Phase::Open => return true,
                Phase::Closed => return false,
            }
            changed.await;
        }
    }

    /// Waits until the port is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state().phase == Phase::Closed {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().phase == Phase::Open
    }

    /// Calls the hub and waits for its answer.
    pub(crate) async fn call<A: Document>(
        &self,
        call: Call,
        document: &impl Document,
    ) -> Result<A, CallFault> {
        let body = document.encode()?;
        let (send, answer) = oneshot::channel();
        let number = {
            let mut state = self.state();
            if state.phase != Phase::Open {
                return Err(CallFault::Disconnected(call));
            }
            state.next += 1;
            let number = state.next;
            state.waiting.insert(number, send);
            let properties = PublishProperties {
                response_topic: Some(ByteString::from_static(ANSWER_TOPIC)),
                correlation_data: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
                ..PublishProperties::default()
            };
            let mut publish = Publish::new(call.topic(), body);
            publish.properties = Some(Box::new(properties));
            state.out.push_back(publish);
            number
        };
        self.to_send.notify_one();
        let answered = timeout(ANSWER_WITHIN, answer).await;
        let answer = match answered {
            Ok(answer) => answer.map_err(|_| CallFault::Disconnected(call))?,
            Err(_) => {
                self.state().waiting.remove(&number);
                return Err(CallFault::TimedOut(call));
            }
        };
        if !answer.status.is_success() {
            let problem = Problem::decode(&answer.body).unwrap_or_default();
            return Err(CallFault::Refused { call, status: answer.status, problem });
        }
        Ok(A::decode(&answer.body)?)
    }

    /// The next call of the hub; none when the port is closed.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(incoming) = state.inbox.pop_front() {
                    return Some(incoming);
                }
                if state.phase == Phase::Closed {
                    return None;
                }
            }
            changed.await;
        }
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
        let mut state = self.state();
        // After the end of the connection nobody waits for it.
        if state.phase == Phase::Open {
            state.out.push_back(publish);
            drop(state);
            self.to_send.notify_one();
        }
    }

    /// The next packet for the connection.
    pub(crate) fn take(&self) -> Option<Publish> {
        self.state().out.pop_front()
    }

    /// It did not fit; it goes first next time.
    pub(crate) fn put_back(&self, publish: Publish) {
        self.state().out.push_front(publish);
    }

    /// A packet of ours can never be sent, or was refused: whoever waits for its answer has none.
    pub(crate) fn refused(&self, correlation: &[u8], why: &str) {
        let Some(number) = number(correlation) else { return };
        if let Some(waiting) = self.state().waiting.remove(&number) {
            let body = Problem::new(why).encode().unwrap_or_default();
            // One who no longer waits has given up.
            let _ = waiting.send(Answer { status: Status::FAILED, body });
        }
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
            let waiting = number(&correlation).and_then(|number| self.state().waiting.remove(&number));
            if let Some(waiting) = waiting {
                let _ = waiting.send(Answer { status, body: publish.payload });
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
        let mut state = self.state();
        if state.inbox.len() >= INBOX_MAX {
            drop(state);
            let why = format!("{INBOX_MAX} calls wait at this edge; try again");
            return self.refuse(incoming, Status::BUSY, why);
        }
        state.inbox.push_back(incoming);
        drop(state);
        self.changed.notify_waiters();
    }

    fn refuse(&self, incoming: Incoming, status: Status, why: String) {
        let body = Problem::new(why).encode().unwrap_or_default();
        self.send_answer(incoming, status, body);
    }
}

fn number(correlation: &[u8]) -> Option<u64> {
    correlation.try_into().ok().map(u64::from_be_bytes)
}
