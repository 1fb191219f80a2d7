//! The upper end of one edge's link: what comes is sorted, calls of the edge are answered, calls to the edge are made.

use crate::{
    ingest::{Came, Ingest},
    upper::Upper,
};
use bytes::Bytes;
use holdfast_gateway::{EdgeDoor, EdgeLink, Fates};
use holdfast_link::{
    ANSWER_TOPIC, CALL_TOPIC_PREFIX, Call, Change, Delta, DesiredChange, Direction, Document, EVENTS_TOPIC,
    Problem, Revision, STATUS_PROPERTY, Status,
};
use holdfast_mqtt::{
    Publish, PublishProperties, QoS, ReasonCode,
    server::{Outcome, Ticket},
};
use holdfast_types::{Name, Source};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

/// Packets that wait for the connection of one edge. One more makes its sender wait.
const OUTGOING_MAX: usize = 64;

/// Changes that wait to be told to one edge. One more ends the link: the edge comes again and fetches everything.
const DOWNS_MAX: usize = 256;

/// Calls of one edge that are being answered. One more is told to come later.
const CALLS_MAX: usize = 32;

/// How long an edge may take to answer a call that it answers by itself.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How often messages that an edge did not take are tried again while it is linked.
const RETRY: Duration = Duration::from_secs(5);

/// Children of one edge whose right to be spoken for is remembered between changes of the registry.
const SPEAKERS_MAX: usize = 10_000;

/// Why a call to an edge has no answer of success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFault {
    /// It is not linked.
    #[error("the edge {0} is not linked; try again when it is back")]
    Away(Name),
    /// It did not answer in time.
    #[error("the edge {edge} did not answer within {} s", within.as_secs())]
    TimedOut {
        /// Which edge.
        edge: Name,
        /// The time.
        within: Duration,
    },
    /// It said no.
    #[error("the edge {edge} refused ({status}): {why}")]
    Refused {
        /// Which edge.
        edge: Name,
        /// As HTTP has it.
        status: u16,
        /// In its words.
        why: String,
    },
}

/// What an edge is told in order.
pub enum Down {
    /// Changes of what it should know, which lead to a revision.
    Changes {
        /// The revision that it must have before; with another one it fetches everything.
        from: u64,
        /// The revision.
        revision: u64,
        /// In this order.
        changes: Vec<Change>,
    },
    /// More has changed than can be told: it is to fetch everything.
    Everything {
        /// The revision that it leads to.
        revision: u64,
    },
    /// A desired change.
    Desired(DesiredChange),
}

/// A link that is open.
pub struct Link {
    /// The edge.
    pub edge: Name,
    outgoing: mpsc::Sender<Publish>,
    downs: mpsc::Sender<Down>,
    answers: Mutex<HashMap<u64, oneshot::Sender<(Status, Bytes)>>>,
    next_call: AtomicU64,
    calls: Arc<Semaphore>,
    /// Whether the edge has said hello.
    ready: AtomicBool,
    /// The revision that the edge is known to have.
    known: AtomicU64,
    /// Rung when messages wait for devices of this edge.
    post: Notify,
    /// Cancelled when the link is over.
    pub over: tokio_util::sync::CancellationToken,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("edge", &self.edge).finish_non_exhaustive()
    }
}

impl Link {
    fn new(edge: Name) -> (Arc<Self>, mpsc::Receiver<Publish>, mpsc::Receiver<Down>) {
        let (outgoing, packets) = mpsc::channel(OUTGOING_MAX);
        let (downs, changes) = mpsc::channel(DOWNS_MAX);
        let link = Arc::new(Self {
            edge,
            outgoing,
            downs,
            answers: Mutex::default(),
            next_call: AtomicU64::new(1),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            ready: AtomicBool::new(false),
            known: AtomicU64::new(0),
            post: Notify::new(),
            over: tokio_util::sync::CancellationToken::new(),
        });
        (link, packets, changes)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<(Status, Bytes)>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a link: gives it, and what the gateway runs. A link of the same edge that is open ends.
    pub fn open(
        edge: &Name,
        upper: &Arc<dyn Upper>,
        ingest: Arc<Ingest>,
        before: impl FnOnce(&Arc<Self>) -> Option<Arc<Self>>,
    ) -> EdgeLink {
        let (link, outgoing, downs) = Self::new(edge.clone());
        if let Some(before) = before(&link) {
            before.over.cancel();
        }
        upper.spawn(Box::pin(link.clone().run(upper.clone(), downs)));
        let over = link.over.clone();
        EdgeLink { door: Box::new(Door::new(upper.clone(), link, ingest)), outgoing, over }
    }

    /// Whether the edge has said hello, and is there.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.over.is_cancelled()
    }

    /// The edge has said hello: from here on changes are told, and those before stand in the revision that is read next.
    pub fn is_greeted(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The edge is told this revision now.
    pub fn begins_at(&self, revision: u64) {
        self.known.store(revision, Ordering::Release);
    }

    /// The edge has fetched a part of what it should know, and may know now for whom messages wait. What it has by then it says
    /// with its answer to the next change; until then it is sent once too often, which changes nothing.
    pub fn has_fetched(&self) {
        self.post.notify_one();
    }

    /// Messages wait for devices behind the edge.
    pub fn has_post(&self) {
        self.post.notify_one();
    }

    /// Tells the edge of a change, behind those before.
    pub fn tell(&self, down: Down) {
        if self.downs.try_send(down).is_err() && !self.over.is_cancelled() {
            tracing::warn!(edge = %self.edge, changes_max = DOWNS_MAX, "an edge does not keep up with changes; its link ends, and it fetches all of them");
            self.over.cancel();
        }
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// The edge is away, or says no, or nothing in time.
    pub async fn call(&self, call: Call, body: Bytes, within: Duration) -> Result<Bytes, CallFault> {
        let number = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.answers().insert(number, answer);
        let _forget = Forget { link: self, number };
        let properties = PublishProperties {
            response_topic: Some(ANSWER_TOPIC.into()),
            correlation_data: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
            ..PublishProperties::default()
        };
        let packet = Publish {
            qos: QoS::AtLeastOnce,
            properties: Some(Box::new(properties)),
            ..Publish::new(call.topic(), body)
        };
        let away = || CallFault::Away(self.edge.clone());
        let exchange = async {
            self.outgoing.send(packet).await.map_err(|_| away())?;
            answered.await.map_err(|_| away())
        };
        let (status, body) = tokio::select! {
            () = self.over.cancelled() => return Err(away()),
            answer = tokio::time::timeout(within, exchange) => {
                answer.map_err(|_| CallFault::TimedOut { edge: self.edge.clone(), within })??
            }
        };
        if status.is_success() {
            return Ok(body);
        }
        let why = Problem::decode(&body).map_or_else(|fault| fault.to_string(), |problem| problem.error);
        Err(CallFault::Refused { edge: self.edge.clone(), status: status.0, why })
    }

    /// Tells the edge what has changed, one after the other, until the link is over.
    async fn run(self: Arc<Self>, upper: Arc<dyn Upper>, mut downs: mpsc::Receiver<Down>) {
        loop {
            tokio::select! {
                () = self.over.cancelled() => return,
                down = downs.recv() => match down {
                    Some(down) => self.bring_down(down).await,
                    None => return,
                },
                () = self.post.notified() => upper.deliver_through(&self).await,
                () = tokio::time::sleep(RETRY), if upper.has_post() => upper.deliver_through(&self).await,
            }
        }
    }

    async fn bring_down(&self, down: Down) {
        // What an edge does not know yet it fetches after its hello.
        if !self.is_ready() {
            return;
        }
        let (call, body) = match &down {
            // A revision that nothing follows upon makes the edge fetch; an older one it would take for one that it has.
            Down::Everything { revision } if *revision <= self.known.load(Ordering::Acquire) => {
                return self.over.cancel();
            }
            Down::Everything { revision } => {
                (Call::Delta, Delta { from: u64::MAX, revision: *revision, changes: Vec::new() }.encode())
            }
            Down::Desired(change) => (Call::Desired, change.encode()),
            Down::Changes { from, revision, changes } => {
                if *revision <= self.known.load(Ordering::Acquire) {
                    return;
                }
                let (from, revision) = (*from, *revision);
                (Call::Delta, Delta { from, revision, changes: changes.clone() }.encode())
            }
        };
        let result = match body {
            Ok(body) => self.call(call, body, ANSWER_TIME_MAX).await,
            Err(fault) => {
                tracing::error!(edge = %self.edge, %fault, "a change cannot be told to an edge; its link ends, and it fetches all of it");
                self.over.cancel();
                return;
            }
        };
        match (result, down) {
            (Ok(answer), Down::Changes { revision, .. } | Down::Everything { revision }) => {
                // An edge that had to fetch everything may have a newer one.
                let has = Revision::decode(&answer).map_or(revision, |has| has.revision);
                self.known.fetch_max(has.max(revision), Ordering::AcqRel);
                self.post.notify_one();
            }
            (Ok(_), Down::Desired(_)) => {}
            // It has another revision and fetches everything by itself.
            (Err(CallFault::Refused { status, .. }), _) if status == Status::CONFLICT.0 => {}
            (Err(fault), _) => {
                tracing::warn!(edge = %self.edge, %fault, %call, "an edge did not take a change; its link ends, and it fetches all of it");
                self.over.cancel();
            }
        }
    }
}

/// Forgets a call that nobody waits for any more.
struct Forget<'l> {
    link: &'l Link,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.answers().remove(&self.number);
    }
}

/// What the gateway hands the packets of an edge to.
pub struct Door {
    upper: Arc<dyn Upper>,
    link: Arc<Link>,
    ingest: Arc<Ingest>,
    fates: Option<Arc<dyn Fates>>,
    came: Vec<Came>,
    /// Devices that the edge may speak for, and of which change of the registry this holds.
    speakers: (u64, HashMap<Name, bool>),
}

impl Door {
    fn new(upper: Arc<dyn Upper>, link: Arc<Link>, ingest: Arc<Ingest>) -> Self {
        Self { upper, link, ingest, fates: None, came: Vec::new(), speakers: (0, HashMap::new()) }
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome) {
        if let Some(fates) = &self.fates {
            fates.tell(vec![(ticket, outcome)]);
        }
    }

    /// Whether the edge may send this: for itself, for what is behind it, and for what is behind the edge where it was made.
    fn may_send(&mut self, event: &holdfast_link::Event) -> bool {
        let own = self.link.edge.clone();
        let origin = event.origin.as_ref().map_or(&own, |origin| &origin.edge);
        let device = match &event.source {
            // An edge runs its own modules, and names them as it likes.
            Source::Module { .. } => origin,
            Source::Child { child, .. } => child,
            Source::TwinChange { device, .. } => device,
        };
        self.may_speak_for(device) && (*origin == own || self.may_speak_for(origin))
    }

    fn may_speak_for(&mut self, device: &Name) -> bool {
        let changes = self.upper.changes();
        if self.speakers.0 != changes || self.speakers.1.len() > SPEAKERS_MAX {
            self.speakers = (changes, HashMap::new());
        }
        if let Some(may) = self.speakers.1.get(device) {
            return *may;
        }
        let may = self.upper.may_speak_for(&self.link.edge, device);
        if !may {
            tracing::warn!(edge = %self.link.edge, %device, "an edge sends for a device that is not behind it; it is refused");
        }
        self.speakers.1.insert(device.clone(), may);
        may
    }

    fn event(&mut self, ticket: Ticket, publish: Publish) {
        let none = PublishProperties::default();
        let properties = publish.properties.as_deref().unwrap_or(&none);
        let user = properties.user_properties.iter().map(|(name, value)| (&**name, &**value));
        let correlation = properties.correlation_data.as_deref();
        let event = holdfast_link::event::decode(
            publish.payload.clone(),
            properties.content_type.as_deref(),
            correlation,
            user,
        );
        let refused = |reason| Outcome::Refused(reason);
        let came = match event {
            Err(fault) => {
                tracing::warn!(edge = %self.link.edge, %fault, "a message of an edge cannot be read; it is refused");
                self.ingest.count_refused();
                return self.settle(ticket, refused(ReasonCode::PayloadFormatInvalid));
            }
            Ok(event) if event.id.as_ref().is_some_and(|id| id.edge != self.link.edge) => {
                self.ingest.count_refused();
                return self.settle(ticket, refused(ReasonCode::NotAuthorized));
            }
            Ok(event) => {
                let (may, id) = (self.may_send(&event), event.id.clone());
                if !may {
                    self.ingest.count_refused();
                }
                let outcome = if may { Outcome::Taken } else { refused(ReasonCode::NotAuthorized) };
                Came { ticket, outcome, id, event: may.then_some(event) }
            }
        };
        self.came.push(came);
    }

    fn answered(&self, publish: &Publish) {
        let Some(properties) = publish.properties.as_deref() else { return };
        let number = properties.correlation_data.as_deref().and_then(|data| data.try_into().ok());
        let status = properties.user_properties.iter().find(|(name, _)| **name == *STATUS_PROPERTY);
        let (Some(number), Some(status)) =
            (number.map(u64::from_be_bytes), status.and_then(|(_, value)| Status::parse(value)))
        else {
            tracing::warn!(edge = %self.link.edge, "an answer of an edge belongs to no call");
            return;
        };
        // A caller that no longer waits is no fault.
        if let Some(waits) = self.link.answers().remove(&number) {
            let _ = waits.send((status, Bytes::copy_from_slice(&publish.payload)));
        }
    }

    fn called(&self, publish: &Publish) {
        let properties = publish.properties.as_deref();
        let correlation =
            properties.and_then(|all| all.correlation_data.as_deref()).map(Bytes::copy_from_slice);
        let Some(correlation) = correlation else {
            tracing::warn!(edge = %self.link.edge, topic = %publish.topic, "a call of an edge has no correlation data; it is passed over");
            return;
        };
        let call = Call::of_topic(&publish.topic).filter(|call| call.direction() == Direction::Up);
        let permit = self.link.calls.clone().try_acquire_owned();
        let (upper, link, body) =
            (self.upper.clone(), self.link.clone(), Bytes::copy_from_slice(&publish.payload));
        let (ingest, name) = (self.ingest.clone(), publish.topic.to_string());
        self.upper.spawn(Box::pin(async move {
            let answer = match (call, &permit) {
                (None, _) => Err((
                    Status::NOT_FOUND,
                    Problem::new(format!("there is no call {name}; update the older side")),
                )),
                (_, Err(_)) => {
                    Err((Status::BUSY, Problem::new(format!("{CALLS_MAX} calls are being answered; later"))))
                }
                (Some(call), Ok(_)) => upper.answer(&link, &ingest, call, &body).await,
            };
            let (status, body) = match answer {
                Ok(body) => (Status::OK, body),
                Err((status, problem)) => (status, problem.encode().unwrap_or_default()),
            };
            let properties = PublishProperties {
                correlation_data: Some(correlation),
                user_properties: vec![(STATUS_PROPERTY.into(), status.to_string().into())],
                ..PublishProperties::default()
            };
            let packet = Publish {
                qos: QoS::AtLeastOnce,
                properties: Some(Box::new(properties)),
                ..Publish::new(ANSWER_TOPIC, body)
            };
            // An edge that has gone calls again.
            let _ = link.outgoing.send(packet).await;
            if call == Some(Call::Hello) && status.is_success() {
                link.post.notify_one();
            }
            drop(permit);
        }));
    }
}

impl EdgeDoor for Door {
    fn begin(&mut self, fates: Arc<dyn Fates>) {
        self.fates = Some(fates);
    }

    fn publish(&mut self, ticket: Ticket, publish: Publish) {
        match &*publish.topic {
            EVENTS_TOPIC => return self.event(ticket, publish),
            ANSWER_TOPIC => self.answered(&publish),
            topic if topic.starts_with(CALL_TOPIC_PREFIX) => self.called(&publish),
            _ => return self.settle(ticket, Outcome::Refused(ReasonCode::TopicNameInvalid)),
        }
        self.settle(ticket, Outcome::Taken);
    }

    fn flush(&mut self) {
        if let (false, Some(fates)) = (self.came.is_empty(), &self.fates) {
            self.ingest.take(std::mem::take(&mut self.came), self.upper.now(), fates);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.link.over.cancel();
        self.upper.link_ended(&self.link);
    }
}
