//! The task: dial, run a connection, wait, again.

use crate::{
    Backoff, BuildError, ConfigFault, Dialect, IotHubConfig, LinkFault, LinkState, Place, StatusHandle,
    UpstreamConfig,
    children::{Board, Children, Template},
    choice::Choice,
    concierge::Asking,
    form::Form,
    hub::Hub,
    iot_hub::{self, IotHub},
    link::Ended,
    peer::Peer,
    probe::{Moved, Probe, Shared},
    sender::Sender,
    status::Teller,
    tokens::Tokens,
    topics::Topics,
};
use holdfast_broker::{Broker, ChildLinks, Reader};
use holdfast_mqtt::{
    Version,
    client::{Client, Options},
};
use holdfast_net::{Stream, Timeouts, dial};
use holdfast_types::{Identity, LogId, Name};
use std::{
    collections::VecDeque,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    task::{JoinError, JoinHandle},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Largest packet that is taken: a call or an answer of a hub, with room for its properties. A plain broker sends nothing but
/// acknowledgements.
pub(crate) const INBOUND_PACKET_BYTES_MAX: u32 = 320 * 1024;

/// How long the store may take to record the last acknowledgements when the link ends: an fsync on a slow card.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// The link, checked and ready to start.
pub struct Upstream {
    run: Run,
    asking: Option<Asking>,
    children: Children,
    handle: StatusHandle,
    notes: Vec<ConfigFault>,
}

/// The link, running.
pub struct Running {
    task: JoinHandle<Drained>,
    handle: StatusHandle,
}

/// How the link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Messages that were sent and not acknowledged in time. They are sent again at the next start.
    pub unacknowledged: usize,
}

/// A link that is ready to run.
pub(crate) struct Run {
    places: Arc<Vec<Place>>,
    timeouts: Timeouts,
    shared: Shared,
    probe: Probe,
    sender: Sender,
    backoff: Backoff,
}

/// What the checks of the configuration made of it, for every link.
#[derive(Clone, Copy)]
pub(crate) struct Checks {
    window: NonZeroU16,
    keep_alive_s: u16,
}

/// A link, and what shows it.
pub(crate) struct Made {
    pub(crate) run: Run,
    pub(crate) status: StatusHandle,
    shared: Shared,
}

/// Makes a link that carries what a reader reads: the edge's, or that of a child. The configuration was checked.
pub(crate) fn make(
    config: &UpstreamConfig,
    checks: Checks,
    form: Form,
    reader: Reader,
    child: Option<Name>,
) -> Made {
    let options = Options {
        version: config.version,
        client_id: (*config.client_id).into(),
        user_name: config.user.as_deref().map(Into::into),
        password: config.password.as_ref().map(|secret| secret.0.clone()),
        clean_start: config.clean_start,
        session_expiry_s: u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX),
        keep_alive_s: checks.keep_alive_s,
        window: checks.window,
        window_bytes: config.window_bytes,
        topic_aliases_max: if config.version == Version::V5 { config.topic_aliases_max } else { 0 },
        answer_within: config.answer_within,
        ack_within: config.ack_within,
        maximum_packet_bytes: INBOUND_PACKET_BYTES_MAX,
        will: None,
        user_properties: Vec::new(),
        acknowledge_by_hand: matches!(form.peer(), Some(Peer::IotHub(_))),
    };
    let places = Arc::new(config.places.clone());
    let choice = Choice::new(config.choice, places.iter().map(|place| place.targets.len()));
    let shared = Shared::new(choice);
    let (teller, status) = Teller::new(places.clone(), shared.clone(), child);
    let probe = Probe::new(places.clone(), config.timeouts, shared.clone());
    let sender = Sender::new(config, form, Client::new(options), reader, teller);
    let backoff = Backoff::new(config.backoff);
    let run = Run { timeouts: config.timeouts, places, shared: shared.clone(), probe, sender, backoff };
    Made { run, status, shared }
}

/// How one round of attempts ended.
enum Round {
    /// It was told to stop.
    Stopped { unacknowledged: usize },
    /// Another round is due at once.
    Again,
    /// Another round is due after a wait.
    Wait(LinkFault, Duration),
}

impl Upstream {
    /// Checks the configuration and takes the reader of the log `upstream`, of which there is one at a time. Opens
    /// nothing yet.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn build(mut config: UpstreamConfig, broker: &Broker) -> Result<Self, BuildError> {
        let mut own_children = None;
        let peer = match std::mem::take(&mut config.dialect) {
            Dialect::Plain => None,
            Dialect::Hub(hub) => {
                config.version = Version::V5;
                config.clean_start = true;
                config.client_id = Hub::client_id(broker.edge()).into();
                Some(Peer::Hub(Hub::new(hub, &config.places, broker.clone())))
            }
            Dialect::IotHub(hub) => {
                config.version = Version::V311;
                // What a hub has for the edge waits for it while it is away, and its subscriptions stand.
                config.clean_start = false;
                config.client_id = broker.edge().as_str().into();
                config.packet_bytes_max = config.packet_bytes_max.min(iot_hub::PACKET_BYTES_MAX);
                let who = Identity::device(broker.edge().clone());
                let tokens =
                    Tokens::new(who, hub.hub.clone(), &config.places, hub.key.clone(), hub.token_life);
                let peer = IotHub::new(tokens, broker.clone(), config.backoff);
                own_children = hub.children.clone().map(|children| (children, hub));
                Some(Peer::IotHub(peer))
            }
        };
        if let Some(peer) = &peer {
            config.user = Some(peer.user_name(0).into());
            config.password = None;
        }
        let checked = config.check()?;
        let checks = Checks { window: checked.window, keep_alive_s: checked.keep_alive_s };
        let concierge = config.concierge.take();
        let (form, notes) = match peer {
            Some(peer) => (Form::Peer(peer), Vec::new()),
            None => {
                let (topics, faults) = Topics::new(broker, checked.topic);
                if !faults.is_empty() {
                    let of_route = |(route, why)| ConfigFault {
                        setting: format!("routes.{route}.topic"),
                        text: format!("{why}"),
                    };
                    return Err(BuildError { faults: faults.into_iter().map(of_route).collect() });
                }
                let notes = notes(&config, &topics);
                (Form::Plain(topics, config.payload), notes)
            }
        };
        let reader = broker.reader(LogId::upstream());
        let Made { run, status, shared } = make(&config, checks, form, reader, None);
        let asking = concierge.map(|concierge| Asking {
            concierge,
            places: run.places.iter().map(|place| place.name.clone()).collect(),
            shared,
            timeouts: config.timeouts,
            documents: broker.documents(),
        });
        let (own, template) = match own_children {
            Some((own, IotHubConfig { hub, token_life, .. })) => {
                (Some(own), Some(Template { config, checks, hub, token_life }))
            }
            None => (None, None),
        };
        let board = Board::new(broker.edge(), own);
        broker.set_child_links(template.is_some().then(|| board.clone() as Arc<dyn ChildLinks>));
        let handle = status.with_children(board.clone());
        let children = Children::new(broker, board, template, handle.clone());
        Ok(Self { run, asking, children, handle, notes })
    }

    /// What works, but not as well as it could; for `holdfast check`.
    pub fn notes(&self) -> &[ConfigFault] {
        &self.notes
    }

    /// Shows what the link is doing.
    pub fn status(&self) -> StatusHandle {
        self.handle.clone()
    }

    /// Starts the link. It ends when `stop` is cancelled and its window is acknowledged or the time for that is over.
    pub fn spawn(self, stop: CancellationToken) -> Running {
        for note in &self.notes {
            tracing::warn!(setting = note.setting, "{}", note.text);
        }
        let Self { run, asking, children, handle, .. } = self;
        // Before the first attempt, which then goes where the concierge said last.
        let asked = asking.map(Asking::begin);
        let task = tokio::spawn(async move {
            let asks = async {
                match asked {
                    Some(asked) => asked.ask().await,
                    None => std::future::pending().await,
                }
            };
            let links = async {
                let (own, of_children) = tokio::join!(run.run(stop.clone()), children.run(stop));
                Drained { unacknowledged: own.unacknowledged + of_children }
            };
            tokio::select! {
                drained = links => drained,
                never = asks => match never {},
            }
        });
        Running { task, handle }
    }
}

impl Running {
    /// Shows what the link is doing.
    pub fn status(&self) -> StatusHandle {
        self.handle.clone()
    }

    /// Waits until the link has ended.
    ///
    /// # Errors
    /// The task was aborted or panicked.
    pub async fn finished(self) -> Result<Drained, JoinError> {
        self.task.await
    }
}

impl Run {
    /// Runs the link until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Drained {
        let mut attempt = 1;
        let unacknowledged = loop {
            match self.round(&mut attempt, &stop).await {
                Round::Stopped { unacknowledged } => break unacknowledged,
                Round::Again => {}
                Round::Wait(fault, delay) => {
                    attempt = attempt.saturating_add(1);
                    self.sender.teller.waiting(fault.to_string().into(), delay);
                    tokio::select! {
                        () = stop.cancelled() => break 0,
                        // Somebody said where to go: that need not wait.
                        () = self.shared.told.notified() => {}
                        () = sleep(delay) => {}
                    }
                }
            }
        };
        // What was acknowledged is recorded before the link is said to have ended: else the next one would send it again.
        let records = self.sender.records.clone();
        if timeout(RECORD_WITHIN, records.are_settled()).await.is_err() {
            tracing::warn!(
                "the store did not record the last acknowledgements in time; some messages will be sent twice"
            );
        }
        self.sender.teller.state(LinkState::Stopped);
        Drained { unacknowledged }
    }

    /// Tries one way after another until one leads to a welcome, and runs that connection to its end.
    async fn round(&mut self, attempt: &mut u32, stop: &CancellationToken) -> Round {
        let mut ways: VecDeque<Moved> =
            self.shared.choice().round(Instant::now()).into_iter().map(Moved::to).collect();
        let mut last = None;
        while let Some(Moved { at, stream, .. }) = ways.pop_front() {
            self.sender.teller.tries(at);
            self.sender.teller.state(LinkState::Connecting { attempt: *attempt });
            let target = self.places.get(at.place).and_then(|place| place.targets.get(at.way));
            let begun = Instant::now();
            let fresh = stream.is_none();
            let dialled = match (stream, target) {
                (Some(stream), _) => Ok(stream),
                (None, None) => continue,
                (None, Some(target)) => tokio::select! {
                    biased;
                    () = stop.cancelled() => return Round::Stopped { unacknowledged: 0 },
                    dialled = dial(target, self.timeouts) => dialled,
                },
            };
            if fresh {
                self.probe.dialled_in(begun.elapsed());
            }
            let fault = match dialled {
                Err(error) => LinkFault::Dial(error),
                Ok(stream) => match self.connection(stream, stop).await {
                    (Ended::Stopped { unacknowledged }, _) => return Round::Stopped { unacknowledged },
                    (Ended::Renewed, _) => {
                        *attempt = 1;
                        return Round::Again;
                    }
                    (Ended::Moving(moved), _) => {
                        *attempt = 1;
                        ways = VecDeque::from([moved]);
                        // Should the better way fail after all, there is another round at once.
                        last = Some(None);
                        continue;
                    }
                    (Ended::Failed(fault), Some(since)) => {
                        *attempt = 0;
                        return Round::Wait(fault, self.backoff.ended(since.elapsed(), random()));
                    }
                    (Ended::Failed(fault), None) if fault.is_about_the_way() => fault,
                    (Ended::Failed(fault), None) => {
                        // Whoever answers with a refusal has been reached; other ways there lead to the same answer.
                        ways.retain(|other| other.at.place != at.place);
                        fault
                    }
                },
            };
            self.shared.choice().failed(at, fault.to_string().into(), Instant::now());
            last = Some(match last {
                Some(None) => None,
                _ => Some(fault),
            });
        }
        match last {
            Some(Some(fault)) if fault.is_silence() => Round::Wait(fault, self.backoff.unanswered(random())),
            Some(Some(fault)) => Round::Wait(fault, self.backoff.failed(random())),
            Some(None) | None => Round::Again,
        }
    }

    /// Runs one connection; tells how it ended, and since when it was welcomed if it was.
    async fn connection(&mut self, stream: Stream, stop: &CancellationToken) -> (Ended, Option<Instant>) {
        self.probe.reset();
        let ended = match self.sender.peer() {
            None => self.sender.run(stream, &mut self.probe, stop).await,
            Some(peer) => {
                peer.begin();
                let (sender, probe) = (&mut self.sender, &mut self.probe);
                let run = async {
                    let ended = sender.run(stream, probe, stop).await;
                    peer.end(sender.is_welcomed() && ended.is_by_peer());
                    ended
                };
                tokio::join!(run, peer.serve()).0
            }
        };
        self.probe.reset();
        self.shared.choice().ended(Instant::now());
        let welcomed = self.sender.disconnected(ended.is_by_peer(), Instant::now());
        (ended, welcomed)
    }
}

/// Duplicates can only be dropped by those who can tell them.
fn notes(config: &UpstreamConfig, topics: &Topics) -> Vec<ConfigFault> {
    let text = "MQTT 3.1.1 has no user properties, so the messages carry no identity and a receiver cannot drop \
                duplicates; put {id} into the topic, set payload = \"envelope\", or use version 5";
    let without = if config.carries_id() { Vec::new() } else { topics.without_id(config.section()) };
    without.into_iter().map(|setting| ConfigFault { setting, text: text.to_owned() }).collect()
}

/// Jitter needs no secrecy. Where the system has no random numbers the nanoseconds of the clock do.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.subsec_nanos().wrapping_mul(2_654_435_761)
    })
}
