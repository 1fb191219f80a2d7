//! A next version in the shadow of the one that works: it is given a copy of the traffic, what it sends is compared with
//! what the other one sent, and goes nowhere.
//!
//! The shadow has an instance, limits, a log and a copy of the state of its own; the copy is made between two calls and
//! never written back. It reads files and writes none, connects to nobody, and calls no methods. Its timers run out when
//! those of the other do. Calls that failed and are tried again are not copied. Whenever the version that works gets a fresh instance, so does its shadow.
//!
//! The version that works never waits for its shadow: what does not fit between them is left out, and counted.

use super::Version;
use super::runner::Runner;
use crate::imports::{Calling, Outbox};
use crate::instance::{Instance, Outcome, Parts, Surroundings};
use crate::logs::LogLevel;
use crate::module_log::ModuleLog;
use crate::pace::Pace;
use crate::sent::{Sent, without};
use crate::status::{RuntimeStatus, ShadowReport, Shared, now};
use bytes::Bytes;
use holdfast_broker::{Delivery, MethodReply};
use holdfast_types::{Envelope, Name};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as Moment;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;

/// Most calls that wait for a shadow. A version that is a little slower than the other catches up; one that is further
/// behind than this is compared by sample.
const WAITING_MAX: usize = 1_024;

/// Most bytes of messages that wait for it, given and sent.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most differences that are told; the others are counted.
const TOLD_MAX: usize = 10;

/// After so many lost instances it is given up: what is to be known is known.
const LOST_MAX: u32 = 20;

/// A version that is to run in the shadow of a module, and where it is shown.
pub(crate) struct Next {
    pub(crate) name: Name,
    pub(crate) version: Arc<Version>,
    pub(crate) shared: Arc<Shared>,
}

/// A call that is copied.
enum Call {
    Message { input: Option<Name>, envelope: Arc<Envelope> },
    Batch(Vec<(Option<Name>, Arc<Envelope>)>),
    Timer(String),
    Desired { version: u64, patch: String },
    Method { name: String, payload: String },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { input, envelope } => {
                let given = Sent::of(input.as_ref(), &envelope.message);
                write!(f, "a message from {} for {given}", envelope.source)
            }
            Self::Batch(messages) => write!(f, "{} messages at once", messages.len()),
            Self::Timer(name) => write!(f, "timer {name:?}"),
            Self::Desired { version, .. } => write!(f, "desired properties {version}"),
            Self::Method { name, .. } => write!(f, "method {name:?}"),
        }
    }
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    To {
        sent: Vec<Sent>,
        reply: Option<(i32, Bytes)>,
    },
    Rejection,
    /// It was not done.
    Nothing(String),
}

impl Came {
    fn of(outcome: &Outcome, outbox: &Outbox, reply: Option<&MethodReply>, ignore: &[String]) -> Self {
        match outcome {
            Outcome::Done => {
                let reply = reply.map(|reply| (reply.status, without(reply.payload.clone(), ignore)));
                Self::To { sent: sent(outbox, ignore).collect(), reply }
            }
            Outcome::Reject(_) => Self::Rejection,
            Outcome::Retry(reason) => Self::Nothing(format!("asks for another try: {reason}")),
            Outcome::Lost(reason) => Self::Nothing(reason.clone()),
        }
    }
}

fn sent<'a>(outbox: &'a Outbox, ignore: &'a [String]) -> impl Iterator<Item = Sent> + 'a {
    outbox.sent().iter().map(|(output, message)| Sent::of(output.as_ref(), message).without(ignore))
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To { sent, reply } => {
                let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
                f.write_str(if sent.is_empty() { "nothing sent" } else { "sent " })?;
                f.write_str(&sent.join("; "))?;
                match reply {
                    Some((status, payload)) => {
                        write!(f, "; replied {status} {}", String::from_utf8_lossy(payload))
                    }
                    None => Ok(()),
                }
            }
            Self::Rejection => f.write_str("rejected it"),
            Self::Nothing(reason) => f.write_str(reason),
        }
    }
}

/// A call with what it came to.
struct Copied {
    call: Call,
    came: Came,
    bytes: usize,
}

/// The version that works holds this while its shadow runs.
pub(super) struct Shadow {
    copies: mpsc::Sender<Copied>,
    bytes: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    ignore: Vec<String>,
    /// Ends with this.
    _run: JoinSet<()>,
}

impl Shadow {
    pub(super) fn message(&self, delivery: &Delivery, outcome: &Outcome, outbox: &Outbox) {
        let given = delivery.envelope.message.size_bytes();
        let call = || Call::Message { input: delivery.input.clone(), envelope: delivery.envelope.clone() };
        self.copy(given, call, outcome, outbox, None);
    }

    /// A batch that failed is not copied: its messages come again, one by one.
    pub(super) fn batch(&self, batch: &[Delivery], outcome: &Outcome, outbox: &Outbox) {
        if *outcome != Outcome::Done {
            return;
        }
        let given = batch.iter().map(|delivery| delivery.envelope.message.size_bytes()).sum();
        let call =
            || Call::Batch(batch.iter().map(|one| (one.input.clone(), one.envelope.clone())).collect());
        self.copy(given, call, outcome, outbox, None);
    }

    pub(super) fn timer(&self, name: &str, outcome: &Outcome, outbox: &Outbox) {
        self.copy(name.len(), || Call::Timer(name.to_owned()), outcome, outbox, None);
    }

    pub(super) fn desired(&self, version: u64, patch: &str, outcome: &Outcome, outbox: &Outbox) {
        let call = || Call::Desired { version, patch: patch.to_owned() };
        self.copy(patch.len(), call, outcome, outbox, None);
    }

    pub(super) fn method(
        &self,
        (name, payload): (&str, &str),
        (outcome, reply): &(Outcome, Option<MethodReply>),
        outbox: &Outbox,
    ) {
        let call = || Call::Method { name: name.to_owned(), payload: payload.to_owned() };
        self.copy(payload.len(), call, outcome, outbox, reply.as_ref());
    }

    fn copy(
        &self,
        given: usize,
        call: impl FnOnce() -> Call,
        outcome: &Outcome,
        outbox: &Outbox,
        reply: Option<&MethodReply>,
    ) {
        if matches!(outcome, Outcome::Retry(_) | Outcome::Lost(_)) {
            return;
        }
        let replied = reply.map_or(0, |reply| reply.payload.len());
        let bytes = given + replied + usize::try_from(outbox.bytes()).unwrap_or(usize::MAX / 4);
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        let place = if fits { self.copies.try_reserve() } else { Err(TrySendError::Full(())) };
        match place {
            Ok(place) => {
                place.send(Copied {
                    call: call(),
                    came: Came::of(outcome, outbox, reply, &self.ignore),
                    bytes,
                });
            }
            Err(full) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                // One that was given up is skipped by nobody.
                if matches!(full, TrySendError::Full(())) {
                    self.shared.status().shadow.get_or_insert_default().skipped += 1;
                }
            }
        }
    }
}

impl Runner {
    /// Runs the next version in the shadow of the instance that is there.
    pub(super) fn cast_shadow(&mut self) {
        self.shadow = None;
        let Some(next) = &self.next else { return };
        if self.instance.is_none() {
            return;
        }
        let state = match self.state.copied() {
            Ok(state) => state,
            Err(error) => {
                next.shared.fails(&format!("the state cannot be copied: {error}"));
                return;
            }
        };
        let limits = next.version.settings.limits;
        let surroundings = Surroundings {
            state,
            twin: self.twin.apart(),
            calling: Calling { shadow: true, ..self.calling.clone() },
            log: ModuleLog::new(next.name.clone(), next.shared.clone(), limits),
            pace: Arc::new(Pace::new(limits, next.shared.clone())),
            metrics: next.shared.metrics.clone(),
            shadow: true,
            ..self.surroundings()
        };
        let (copies, taken) = mpsc::channel(WAITING_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let (version, shared) = (next.version.clone(), next.shared.clone());
        let ignore = version.settings.shadow_ignore.clone();
        let run = Run {
            version,
            surroundings,
            shared: shared.clone(),
            copies: taken,
            bytes: bytes.clone(),
            ignore: ignore.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(run.run());
        self.shadow = Some(Shadow { copies, bytes, shared, ignore, _run: tasks });
    }

    /// There is no instance in whose shadow the next version could run.
    pub(super) fn end_shadow(&mut self) {
        self.shadow = None;
        if let Some(next) = &self.next {
            next.shared.waits(&self.name);
        }
    }
}

impl Shared {
    /// The next version cannot be tried.
    fn fails(&self, reason: &str) {
        let mut status = self.status();
        status.status = RuntimeStatus::Failed;
        status.last_error = Some(reason.to_owned());
        status.memory_bytes = 0;
        reason.clone_into(&mut status.description);
    }

    /// The next version waits for the one in whose shadow it is to run.
    pub(crate) fn waits(&self, base: &str) {
        let mut status = self.status();
        status.status = RuntimeStatus::Unknown;
        status.memory_bytes = 0;
        status.description = format!("it is tried in the shadow of {base} when that runs");
    }
}

/// The shadow at work.
struct Run {
    version: Arc<Version>,
    surroundings: Surroundings,
    shared: Arc<Shared>,
    copies: mpsc::Receiver<Copied>,
    bytes: Arc<AtomicUsize>,
    ignore: Vec<String>,
}

impl Run {
    async fn run(mut self) {
        let mut lost = 0;
        loop {
            let started = Instance::start(Parts { version: &self.version, surroundings: &self.surroundings });
            let mut instance = match Box::pin(started).await {
                Ok(instance) => instance,
                Err(reason) => return self.give_up(&reason),
            };
            self.keep(&mut instance);
            self.begins();
            loop {
                let Some(copied) = self.copies.recv().await else { return };
                self.bytes.fetch_sub(copied.bytes, Ordering::Relaxed);
                while let Some(hold) = self.surroundings.pace.hold(Moment::now()) {
                    tokio::time::sleep(hold.time).await;
                }
                if let Some(reason) = self.compare(&mut instance, copied).await {
                    lost += 1;
                    self.shared.status().restarts += 1;
                    if lost >= LOST_MAX {
                        return self.give_up(&format!("{reason}; it was lost {lost} times"));
                    }
                    break;
                }
            }
        }
    }

    fn begins(&self) {
        let mut status = self.shared.status();
        status.status = RuntimeStatus::Shadow;
        status.version = self.version.number;
        status.digest.clone_from(&self.version.code.digest);
        status.memory_bytes_max = self.version.settings.limits.memory_bytes;
        status.last_start = Some(now());
        status.description.clear();
        status.shadow.get_or_insert_default();
    }

    fn give_up(&self, reason: &str) {
        self.surroundings.log.host(LogLevel::Error, &format!("given up: {reason}"));
        self.shared.fails(reason);
    }

    /// What a call did takes effect in the copy of the state, and nowhere else.
    fn keep(&self, instance: &mut Instance) {
        let host = instance.host();
        host.outbox.clear();
        if host.state.keep(0) {
            self.surroundings.state.committed(0);
        }
        drop(host.twin.keep(0, 0));
    }

    /// Hands over a batch; one by one if this version takes none, or not this one. `sent` is what was sent and is kept.
    async fn batch(
        &self,
        instance: &mut Instance,
        messages: &[(Option<Name>, Arc<Envelope>)],
        sent: &mut Vec<Sent>,
    ) -> Outcome {
        let given: Vec<_> = messages
            .iter()
            .map(|(input, envelope)| (input.as_deref().unwrap_or_default(), &**envelope))
            .collect();
        match instance.handle_batch(&given).await {
            Outcome::Reject(_) | Outcome::Retry(_) => {}
            ended @ (Outcome::Done | Outcome::Lost(_)) => return ended,
        }
        for (input, envelope) in given {
            let outcome = instance.handle(input, envelope).await;
            if outcome != Outcome::Done {
                return outcome;
            }
            sent.extend(self::sent(&instance.host().outbox, &self.ignore));
            self.keep(instance);
        }
        Outcome::Done
    }

    /// Makes the call, and compares. Gives why the instance is lost, if it is.
    async fn compare(&self, instance: &mut Instance, copied: Copied) -> Option<String> {
        let Copied { call, came: expected, bytes: _ } = copied;
        let busy = self.surroundings.runtime.busy();
        let meter = instance.meter.clone();
        meter.resumed(Moment::now());
        let mut before = Vec::new();
        let (outcome, reply) = match &call {
            Call::Message { input, envelope } => {
                (instance.handle(input.as_deref().unwrap_or_default(), envelope).await, None)
            }
            Call::Batch(messages) => (self.batch(instance, messages, &mut before).await, None),
            Call::Timer(name) => (instance.fire(name.clone()).await, None),
            Call::Desired { version, patch } => (instance.desired(*version, patch.clone()).await, None),
            Call::Method { name, payload } => instance.invoke(name.clone(), payload.clone()).await,
        };
        meter.paused(Moment::now());
        drop(busy);
        let mut came = Came::of(&outcome, &instance.host().outbox, reply.as_ref(), &self.ignore);
        if let Came::To { sent, .. } = &mut came {
            before.append(sent);
            *sent = before;
        }
        self.note(&call, &expected, &came);
        self.keep(instance);
        let mut status = self.shared.status();
        status.memory_bytes = instance.memory_bytes();
        status.messages_in += match &call {
            Call::Message { .. } => 1,
            Call::Batch(messages) => messages.len() as u64,
            Call::Timer(_) | Call::Desired { .. } | Call::Method { .. } => 0,
        };
        match outcome {
            Outcome::Lost(reason) => Some(reason),
            Outcome::Done | Outcome::Retry(_) | Outcome::Reject(_) => None,
        }
    }

    fn note(&self, call: &Call, expected: &Came, came: &Came) {
        let mut status = self.shared.status();
        let report = status.shadow.get_or_insert_default();
        if expected == came {
            report.matched += 1;
            return;
        }
        report.differed += 1;
        if let Some(told) = tell(report, call, expected, came) {
            drop(status);
            self.surroundings.log.host(LogLevel::Warn, &told);
        }
    }
}

/// Notes a difference if it is one of the first. Gives it in words.
fn tell(report: &mut ShadowReport, call: &Call, expected: &Came, came: &Came) -> Option<String> {
    if report.differences.len() >= TOLD_MAX {
        return None;
    }
    let text = format!("{call}: the version that works {expected}; this one {came}");
    report.differences.push(text.clone());
    Some(text)
}
