//! The life of a module: started, working, waiting after a failure, stopped, given up.

use super::Version;
use super::batches::Batches;
use super::calls::Calls;
use super::failures::Failures;
use super::handling::Attempts;
use super::orders::Control;
use super::probation::Probation;
use super::program::Program;
use super::rewind::Suspect;
use super::shadow::{Next, Shadow};
use super::swap::Candidate;
use super::turns::{OpenTurn, UnderWay};
use crate::config::Backoff;
use crate::http::{HttpDoor, Served, Site};
use crate::imports::Calling;
use crate::instance::{Instance, Outcome, Parts, Surroundings};
use crate::load::Serves;
use crate::logs::LogLevel;
use crate::module_log::ModuleLog;
use crate::pace::Pace;
use crate::relay::Quick;
use crate::runtime::Runtime;
use crate::state::ModuleState;
use crate::status::{RuntimeStatus, Shared, now};
use crate::twin::ModuleTwin;
use crate::waiting::Waiting;
use holdfast_broker::{Broker, Delivery, ReadError, Reader};
use holdfast_types::{Identity, LogId, Name};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The longest wait for the store when the module ends.
const END_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    /// A turn was not recorded: what is under way is waited for, then everything begins anew.
    Rewinding,
    Backoff(Moment),
    /// Stopped or failed: waits for an order.
    Idle,
    Ended,
}

/// What a runner is made from.
pub(crate) struct RunnerParts {
    pub(crate) name: Name,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: Runtime,
    pub(crate) door: HttpDoor,
    pub(crate) broker: Broker,
    pub(crate) version: Arc<Version>,
    pub(crate) backoff: Backoff,
    pub(crate) controls: mpsc::Receiver<Control>,
    pub(crate) stop: CancellationToken,
    /// Told when the module runs for the first time, or does not.
    pub(crate) ready: oneshot::Sender<()>,
    pub(crate) quick: Quick,
}

/// One module at work.
pub(crate) struct Runner {
    pub(super) name: Name,
    pub(super) shared: Arc<Shared>,
    pub(super) log: ModuleLog,
    pub(super) pace: Arc<Pace>,
    /// Until when it rests because it went too fast.
    pub(super) rests_until: Option<Moment>,
    pub(super) runtime: Runtime,
    pub(super) reader: Reader,
    pub(super) state: ModuleState,
    pub(super) twin: ModuleTwin,
    pub(super) calling: Calling,
    pub(super) calls: Calls,
    pub(super) version: Arc<Version>,
    pub(super) backoff: Backoff,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) stop: CancellationToken,
    ready: Option<oneshot::Sender<()>>,
    pub(super) phase: Phase,
    pub(super) instance: Option<Instance>,
    /// The main function, where there is one instead.
    pub(super) program: Program,
    door: HttpDoor,
    /// While it is there, HTTP requests come.
    served: Option<Served>,
    pub(super) inbox: VecDeque<Delivery>,
    pub(super) attempts: Attempts,
    pub(super) batches: Batches,
    pub(super) turn: OpenTurn,
    pub(super) under_way: Arc<UnderWay>,
    pub(super) failures: Failures,
    pub(super) suspect: Suspect,
    pub(super) candidate: Candidate,
    pub(super) probation: Option<Probation>,
    /// The version that is tried on a copy of the traffic, and its run.
    pub(super) next: Option<Next>,
    pub(super) shadow: Option<Shadow>,
    pub(super) stopped_by_operator: bool,
    /// When this task last gave way to others.
    pub(super) gave_way: Moment,
    pub(super) quick: Quick,
}

/// A task that ends otherwise than by its own end is seen in the status.
impl Drop for Runner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show(
                RuntimeStatus::Failed,
                "the host's task for this module failed; please report it, and restart the host",
            );
        } else if self.phase != Phase::Ended {
            self.show(RuntimeStatus::Stopped, "it did not stop in time and was ended");
        }
    }
}

impl Runner {
    pub(crate) fn new(parts: RunnerParts) -> Self {
        let RunnerParts {
            name,
            shared,
            runtime,
            door,
            broker,
            version,
            backoff,
            controls,
            stop,
            ready,
            quick,
        } = parts;
        let limits = version.settings.limits;
        let log = ModuleLog::new(name.clone(), shared.clone(), limits);
        let pace = Arc::new(Pace::new(limits, shared.clone()));
        let who = Identity::module(broker.edge().clone(), name.clone());
        let calling = Calling {
            methods: broker.methods(),
            who: who.clone(),
            stop: stop.clone(),
            waiting: Waiting::default(),
            shadow: false,
        };
        let phase = if version.settings.running { Phase::Starting } else { Phase::Idle };
        Self {
            reader: broker.reader(LogId::module(&name)),
            state: ModuleState::new(broker.documents(), &name),
            twin: ModuleTwin::new(broker.twins(), who.clone()),
            calling,
            calls: Calls::new(broker, who),
            name,
            shared,
            log,
            pace,
            rests_until: None,
            runtime,
            version,
            backoff,
            controls,
            stop,
            ready: Some(ready),
            phase,
            instance: None,
            program: Program::new(),
            door,
            served: None,
            inbox: VecDeque::new(),
            attempts: Attempts::default(),
            batches: Batches::default(),
            turn: OpenTurn::new(),
            under_way: Arc::default(),
            failures: Failures::default(),
            suspect: Suspect::default(),
            candidate: Candidate::default(),
            probation: None,
            next: None,
            shadow: None,
            stopped_by_operator: false,
            gave_way: Moment::now(),
            quick,
        }
    }

    /// Runs until the module is removed or the host stops.
    pub(crate) async fn run(mut self) {
        self.show_version();
        if self.phase == Phase::Idle {
            self.show(RuntimeStatus::Stopped, "its settings say status = \"stopped\"");
        }
        while self.phase != Phase::Ended {
            if self.phase != Phase::Starting
                && let Some(ready) = self.ready.take()
            {
                // Nobody may be waiting for it.
                let _ = ready.send(());
            }
            // Who sends to a module that waits for an order does not wait with it.
            self.reader.set_reading(self.phase != Phase::Idle && self.version.code.serves.messages());
            if matches!(self.phase, Phase::Idle | Phase::Ended) {
                self.calls.rest();
            }
            if self.phase != Phase::Running {
                self.served = None;
            }
            match self.phase {
                Phase::Starting if self.under_way.has_failed() => self.phase = Phase::Rewinding,
                Phase::Starting => self.start().await,
                Phase::Running => self.work().await,
                Phase::Rewinding => self.rewind().await,
                Phase::Backoff(until) => self.wait(Some(until)).await,
                Phase::Idle => self.wait(None).await,
                Phase::Ended => {}
            }
        }
        self.end().await;
    }

    pub(super) fn surroundings(&self) -> Surroundings {
        Surroundings {
            runtime: self.runtime.clone(),
            state: self.state.clone(),
            twin: self.twin.clone(),
            calling: self.calling.clone(),
            log: self.log.clone(),
            pace: self.pace.clone(),
            metrics: self.shared.metrics.clone(),
            name: self.name.clone(),
            shadow: false,
        }
    }

    /// Starts an instance, unless an order comes first: an order ends a start, which may take long.
    async fn start(&mut self) {
        let version = self.version.clone();
        self.calls.prepare(&version);
        match version.code.serves {
            Serves::Messages(..) => {}
            Serves::Program(_) => return self.start_program(),
            // Each request has an instance of its own.
            Serves::Requests(_) => return self.runs(),
        }
        let surroundings = self.surroundings();
        let parts = Parts { version: &version, surroundings: &surroundings };
        let started = tokio::select! {
            biased;
            () = self.stop.cancelled() => return self.phase = Phase::Ended,
            Some(control) = self.controls.recv() => return self.control(control).await,
            started = Instance::start(parts) => started,
        };
        match started {
            Ok(mut instance) => {
                self.turn.keep(instance.host(), &[], 0);
                self.instance = Some(instance);
                self.close_turn();
                self.runs();
            }
            Err(reason) => self.fail(&reason),
        }
    }

    /// The instance is in place: work begins.
    pub(super) fn runs(&mut self) {
        self.phase = Phase::Running;
        self.calls.runs(&self.version);
        self.serve_requests();
        self.failures.started(Moment::now());
        let mut status = self.shared.status();
        status.description.clear();
        status.status = RuntimeStatus::Running;
        status.last_start = Some(now());
        drop(status);
        self.cast_shadow();
    }

    /// HTTP requests come from now on, if the module answers them.
    fn serve_requests(&mut self) {
        self.served = None;
        if self.version.code.serves.requests().is_none() {
            return;
        }
        let path = self.version.settings.http_path.clone().unwrap_or_else(|| format!("/{}", self.name));
        let site = Site::new(self.version.clone(), self.surroundings(), self.shared.clone());
        match self.door.serve(&path, site) {
            Ok(served) => {
                self.log.host(LogLevel::Info, &format!("answers HTTP requests for {path}"));
                self.served = Some(served);
            }
            Err(other) => {
                let text = format!(
                    "does not answer HTTP requests: {other} has the path {path}; give it another, [http] path = \"/…\""
                );
                self.log.host(LogLevel::Error, &text);
                self.shared.status().last_error = Some(text);
            }
        }
    }

    /// Waits for the end of a back-off, for an order, or for a new version that is ready.
    async fn wait(&mut self, until: Option<Moment>) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.phase = Phase::Ended,
            Some(control) = self.controls.recv() => self.control(control).await,
            Some(started) = self.candidate.started() => self.switch(started).await,
            () = sleep_until(until) => self.resume(),
        }
    }

    /// Goes on with the instance that is there, or with a fresh one.
    pub(super) fn resume(&mut self) {
        if self.instance.is_some() {
            self.runs();
        } else {
            self.phase = Phase::Starting;
        }
    }

    /// One round: wait for something to do, then do as much as fits into one turn.
    async fn work(&mut self) {
        let settings = self.version.settings.clone();
        let limits = self.suspect.bounds(&settings.limits);
        if self.instance.is_none() {
            return self.attend().await;
        }
        if let Some(until) = self.rests_until {
            return self.rest(until).await;
        }
        let messages_max = limits.messages as usize;
        let reads = self.inbox.is_empty() && self.under_way.has_room(limits.turns);
        if reads && let Err(error) = self.read_ready(messages_max) {
            return self.store_fails(&error.to_string());
        }
        if self.must_wait(limits.turns) {
            let retry_at = self.attempts.retry_at;
            let timer = self.instance.as_ref().and_then(Instance::next_timer);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.phase = Phase::Ended,
                Some(control) = self.controls.recv() => return self.control(control).await,
                Some(started) = self.candidate.started() => return self.switch(started).await,
                () = sleep_until(timer) => {}
                () = sleep_until(retry_at), if retry_at.is_some() => {}
                () = self.under_way.changed() => {}
                () = self.calls.come() => {}
                // Only behind a look that found nothing: what was there before it rings for nobody.
                () = self.reader.rung(), if reads => {
                    if let Err(error) = self.read_ready(messages_max) {
                        return self.store_fails(&error.to_string());
                    }
                }
            }
        }
        if self.under_way.has_failed() {
            return self.phase = Phase::Rewinding;
        }
        self.fill_turn(limits.messages).await;
    }

    /// Waits until the module may go on. Its messages wait meanwhile, and so do calls of its methods.
    async fn rest(&mut self, until: Moment) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.phase = Phase::Ended,
            Some(control) = self.controls.recv() => self.control(control).await,
            Some(started) = self.candidate.started() => self.switch(started).await,
            () = tokio::time::sleep_until(until.into()) => self.rests_until = None,
        }
    }

    fn read_ready(&mut self, max: usize) -> Result<(), ReadError> {
        self.inbox.extend(self.reader.take(max)?);
        Ok(())
    }

    /// Whether there is nothing that could be done at once.
    fn must_wait(&mut self, turns_max: u32) -> bool {
        let may_handle = self.calls.are_there()
            || !self.inbox.is_empty()
                && self.attempts.retry_at.is_none_or(|at| at <= Moment::now())
                && self.under_way.has_room(turns_max);
        !may_handle || self.is_called()
    }

    /// Whether someone wants something of the module between two messages.
    pub(super) fn is_called(&mut self) -> bool {
        !self.controls.is_empty() || self.stop.is_cancelled() || self.candidate.has_started()
    }

    pub(super) fn show(&self, status: RuntimeStatus, description: &str) {
        let mut shown = self.shared.status();
        shown.status = status;
        description.clone_into(&mut shown.description);
    }

    pub(super) fn show_version(&self) {
        let mut status = self.shared.status();
        status.version = self.version.number;
        status.digest.clone_from(&self.version.code.digest);
        status.refused = None;
        status.rolled_back = None;
        status.memory_bytes_max = self.version.settings.limits.memory_bytes;
    }

    pub(super) fn close_turn(&mut self) {
        self.turn.close(&self.reader, &self.state, &self.twin, &self.under_way, &self.shared);
        let mut status = self.shared.status();
        status.inbox = self.inbox.len() as u64;
        status.memory_bytes = self.instance.as_ref().map_or(0, Instance::memory_bytes);
    }

    pub(super) fn adopt(&mut self, version: Arc<Version>) {
        let limits = version.settings.limits;
        self.log = ModuleLog::new(self.name.clone(), self.shared.clone(), limits);
        self.pace.set(limits);
        self.rests_until = None;
        self.batches = Batches::default();
        self.version = version;
        self.show_version();
    }

    /// Tells the instance to stop, records what it still did, and drops it.
    pub(super) async fn stop_instance(&mut self) {
        self.served = None;
        self.end_shadow();
        self.program.shutdown().await;
        let Some(mut instance) = self.instance.take() else { return };
        let busy = self.runtime.busy();
        match instance.stop().await {
            Outcome::Done => self.turn.keep(instance.host(), &[], 0),
            Outcome::Lost(reason) | Outcome::Retry(reason) | Outcome::Reject(reason) => {
                self.log.host(LogLevel::Warn, &format!("did not stop well: {reason}"));
            }
        }
        drop(busy);
        self.close_turn();
        self.shared.status().last_exit = Some(now());
    }

    async fn end(&mut self) {
        self.candidate.clear();
        self.stop_instance().await;
        if tokio::time::timeout(END_WAIT, self.under_way.drained()).await.is_err() {
            self.log
                .host(LogLevel::Warn, "ended before the store had answered; the last messages come again");
        }
        self.show(RuntimeStatus::Stopped, "");
    }
}

/// Sleeps until then; for ever without a time.
async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
