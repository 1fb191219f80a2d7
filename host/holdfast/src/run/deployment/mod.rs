//! Carries deployments out, each as one transaction.
//!
//! Everything is read, checked and compiled before anything is touched. Then one commit says what is to run from now on, and
//! twins, routes with the time to live, and modules are switched, in this order: what is sent to a new module waits in its log
//! until it has started. For a while after the last has started the deployment is on probation: a module that fails brings
//! the whole deployment before back, with the very components that ran. A host that is killed on the way goes on with it.

mod judge;
pub mod kept;
mod wanted;

use anyhow::Context;
use holdfast_broker::{
    Broker, DeployedModule, DeploymentOrder, DeploymentOrigin, DeploymentPhase, DeploymentStatus, TwinError,
};
use holdfast_config::{
    Config,
    manifest::{self, MANIFEST_BYTES_MAX},
};
use holdfast_engine::{EngineHandle, Plan, Prepared};
use holdfast_types::{Identity, Name};
use judge::{Judge, Verdict};
use kept::{Kept, Last, Origin, Stored};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wanted::{Own, Refusal, Wanted};

/// How often the modules are looked at while a deployment starts and is on probation.
const LOOK: Duration = Duration::from_millis(50);

/// The longest time for all modules to start: IoT Edge's operation timeout.
const START_TIME_MAX: Duration = Duration::from_secs(600);

/// Most bytes of a deployment's id.
const ID_BYTES_MAX: usize = 256;

/// The deployments of this host.
pub struct Deployer {
    broker: Broker,
    own: Own,
    kept: Kept,
    /// What runs, as the engine is told.
    plan: Plan,
    not_carried: usize,
}

/// The one that carries orders out.
pub struct Running {
    deployer: Deployer,
    engine: EngineHandle,
    /// What ran before the deployment that is on probation.
    before: Option<Prepared>,
    /// The order that is being carried out.
    number: u64,
}

impl Deployer {
    /// Takes up what was deployed when the host last ran, or `file` if that holds something else, which is then on
    /// probation. The broker has its routes from now on.
    pub async fn open(config: &Config, broker: &Broker, file: Option<Stored>) -> anyhow::Result<Self> {
        let documents = broker.documents();
        let mut kept = Kept::load(&documents)?;
        let own = Own::of(config);
        if let Some(file) =
            file.filter(|file| kept.current.as_ref().is_none_or(|current| !current.is_same(file)))
        {
            let wanted = own.wanted(Some(&file)).map_err(|refusal| anyhow::anyhow!("{}", refusal.reason))?;
            let changed = replaced(broker, &kept, Some(file), &wanted)?;
            changed.save(&documents, &kept).await.context("the deployment was not recorded")?;
            kept = changed;
        }
        let wanted = own.wanted(kept.current.as_ref()).or_else(|refusal| {
            // It was good when it was recorded: this host knows less than the one that wrote it.
            tracing::error!(
                reason = refusal.reason,
                "the recorded deployment cannot be read; the configuration holds"
            );
            own.wanted(None)
        });
        let wanted = wanted.map_err(|refusal| anyhow::anyhow!("{}", refusal.reason))?;
        broker.replace_routing(wanted.table, wanted.time_to_live);
        Ok(Self { broker: broker.clone(), own, kept, plan: wanted.plan, not_carried: wanted.not_carried })
    }

    /// The modules that the engine begins with.
    pub fn plan(&self) -> Plan {
        self.plan.clone()
    }

    /// Ready to run.
    pub fn with_engine(self, engine: EngineHandle) -> Running {
        Running { deployer: self, engine, before: None, number: 0 }
    }
}

/// A deployment from a file, which is named as it.
pub fn from_file(file: &std::path::Path) -> anyhow::Result<Stored> {
    let text = crate::commands::deployment::text(file)?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    manifest::import(&text).map_err(|faults| anyhow::anyhow!("{}: {faults}", file.display()))?;
    Ok(Stored::new(&cut(&name, ID_BYTES_MAX), Origin::Operator, String::from_utf8(text)?))
}

fn cut(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text).to_owned()
}

/// What is to be kept when `next` takes over.
fn replaced(broker: &Broker, kept: &Kept, next: Option<Stored>, wanted: &Wanted) -> Result<Kept, TwinError> {
    let mut twins = kept.twins.clone();
    for name in wanted.desired.keys().filter(|name| !kept.twins.contains_key(*name)) {
        twins.insert(name.clone(), broker.twins().read(&of_edge(broker, name))?.desired);
    }
    // One that has not passed its probation is nothing to come back to.
    let previous = match &kept.current {
        Some(current) if !current.proved => kept.previous.clone(),
        current => current.clone(),
    };
    Ok(Kept { current: next, previous, last: kept.last.clone(), twins })
}

fn of_edge(broker: &Broker, module: &Name) -> Identity {
    Identity::module(broker.edge().clone(), module.clone())
}

impl Running {
    /// Carries out one order after the other. A deployment that is on its way when the host stops goes on when it is
    /// started again.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            self.take_up().await;
            let deployments = self.deployer.broker.deployments();
            loop {
                let (number, order) = deployments.next().await;
                self.number = number;
                self.carry_out(order).await;
            }
        })
        .await;
    }

    /// Goes on where the host was when it ended.
    async fn take_up(&mut self) {
        match &self.deployer.kept.current {
            Some(current) if !current.proved => {
                if let Err(error) = self.set_desired().await {
                    return self.back(&format!("the desired properties could not be set: {error}")).await;
                }
                let judge = Judge::new(&self.deployer.plan, None, &self.engine.list());
                self.trial(judge).await;
            }
            _ => {
                if !self.deployer.kept.twins.is_empty() {
                    self.restore_twins().await;
                }
                let last = self.deployer.kept.last.clone();
                if let Some(last) = last {
                    self.show(&last.id, last.origin, last.phase(), last.code, &last.reason, last.since_ms);
                }
            }
        }
    }

    async fn carry_out(&mut self, order: DeploymentOrder) {
        let id = cut(&order.id, ID_BYTES_MAX);
        let origin = Origin::from(order.origin);
        if self.repeats(&id, origin, &order) {
            let status = (*self.deployer.broker.deployments().status()).clone();
            return self
                .deployer
                .broker
                .deployments()
                .show(DeploymentStatus { order: self.number, ..status });
        }
        tracing::info!(deployment = id, "a deployment is being checked");
        self.show(&id, origin, DeploymentPhase::Checking, 0, "", now_ms());
        match self.switch(&id, origin, &order).await {
            Ok(judge) => self.trial(judge).await,
            Err(refusal) => self.refuse(&id, origin, &refusal).await,
        }
    }

    /// Whether the order changes nothing: it wants what runs, or the hub repeats one that has failed before.
    fn repeats(&self, id: &str, origin: Origin, order: &DeploymentOrder) -> bool {
        let kept = &self.deployer.kept;
        let failed_before = origin == Origin::Hub
            && kept.last.as_ref().is_some_and(|last| {
                last.id == id && last.origin == origin && last.phase() != DeploymentPhase::Applied
            });
        let wants = |current: &Stored| {
            let manifest = order.manifest.as_deref().unwrap_or_default();
            (current.id.as_str(), current.origin, current.manifest.as_bytes()) == (id, origin, manifest)
        };
        let applied = kept.last.as_ref().is_none_or(|last| last.phase() == DeploymentPhase::Applied);
        failed_before || applied && kept.current.as_ref().is_some_and(wants)
    }

    /// Checks everything, then switches everything.
    async fn switch(&mut self, id: &str, origin: Origin, order: &DeploymentOrder) -> Result<Judge, Refusal> {
        let next = match &order.manifest {
            None => None,
            Some(text) if text.len() > MANIFEST_BYTES_MAX => {
                let reason =
                    format!("the manifest has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len());
                return Err(Refusal { code: 400, reason });
            }
            Some(text) => {
                let text = String::from_utf8(text.to_vec());
                let text =
                    text.map_err(|_| Refusal { code: 400, reason: "the manifest is no UTF-8".to_owned() })?;
                Some(Stored::new(id, origin, text))
            }
        };
        let wanted = self.deployer.own.wanted(next.as_ref())?;
        let prepared = self.engine.prepare(wanted.plan.clone()).await;
        let prepared = prepared.map_err(|error| Refusal::failed(error.to_string()))?;

        let deployer = &mut self.deployer;
        let kept = replaced(&deployer.broker, &deployer.kept, next, &wanted);
        let kept = kept.map_err(|error| Refusal::failed(error.to_string()))?;
        // IMPORTANT: nothing is switched before it is recorded what is to run.
        let saved = kept.save(&deployer.broker.documents(), &deployer.kept).await;
        saved.map_err(|error| Refusal::failed(format!("the deployment was not recorded: {error:#}")))?;
        deployer.kept = kept;
        (deployer.plan, deployer.not_carried) = (wanted.plan, wanted.not_carried);
        self.show(id, origin, DeploymentPhase::Switching, 0, "", now_ms());

        let desired = self.set_all(&wanted.desired).await;
        self.deployer.broker.replace_routing(wanted.table, wanted.time_to_live);
        let before = self.engine.list();
        match self.engine.adopt(prepared).await {
            Ok(adopted) => {
                let judge = Judge::new(&self.deployer.plan, Some(&adopted.versions), &before);
                self.before = Some(adopted.before);
                match desired {
                    Ok(()) => Ok(judge),
                    Err(error) => {
                        Ok(judge.with_fault(format!("the desired properties could not be set: {error}")))
                    }
                }
            }
            // The host is stopping; it goes on with this when it is started again.
            Err(_) => std::future::pending().await,
        }
    }

    /// Watches the modules start, and go on for the time of the probation.
    async fn trial(&mut self, judge: Judge) {
        let (id, origin) = self.current();
        let started = Instant::now();
        loop {
            match judge.look(&self.engine.list()) {
                Verdict::Good => break,
                Verdict::Bad(why) => return self.back(&why).await,
                Verdict::Pending if started.elapsed() > START_TIME_MAX => {
                    return self
                        .back(&format!("not all modules started within {} s", START_TIME_MAX.as_secs()))
                        .await;
                }
                Verdict::Pending => sleep(LOOK).await,
            }
        }
        self.show(&id, origin, DeploymentPhase::Probation, 200, "", now_ms());
        let until = Instant::now() + self.deployer.own.probation;
        // Whoever orders another one has done with this.
        while Instant::now() < until
            && !self.deployer.plan.modules.is_empty()
            && !self.deployer.broker.deployments().has_waiting()
        {
            sleep(LOOK).await;
            if let Verdict::Bad(why) = judge.look(&self.engine.list()) {
                return self.back(&why).await;
            }
        }
        let mut kept = self.deployer.kept.clone();
        if let Some(current) = &mut kept.current {
            current.proved = true;
        }
        let since = now_ms();
        kept.twins.clear();
        let phase = if kept.current.is_some() { DeploymentPhase::Applied } else { DeploymentPhase::None };
        kept.last = Some(Last::new(&id, origin, phase, 200, "", since));
        self.save(kept).await;
        self.before = None;
        tracing::info!(deployment = id, "the deployment is applied");
        self.show(&id, origin, phase, 200, "", since);
    }

    /// Brings back what was before.
    async fn back(&mut self, why: &str) {
        let (id, origin) = self.current();
        tracing::error!(deployment = id, "the deployment failed and the one before comes back: {why}");
        let mut kept = self.deployer.kept.clone();
        kept.current = kept.previous.take();
        let since = now_ms();
        kept.last = Some(Last::new(&id, origin, DeploymentPhase::RolledBack, 406, why, since));
        self.save(kept).await;
        self.restore_twins().await;
        let mut reason = why.to_owned();
        if let Err(error) = self.take_back().await {
            tracing::error!(reason = error, "the deployment before cannot be brought back whole");
            reason = format!("{why}\nthe deployment before cannot be brought back whole: {error}");
        }
        self.show(&id, origin, DeploymentPhase::RolledBack, 406, &reason, since);
    }

    /// Routes and modules of what is kept as current.
    async fn take_back(&mut self) -> Result<(), String> {
        let wanted = self
            .deployer
            .own
            .wanted(self.deployer.kept.current.as_ref())
            .map_err(|refusal| refusal.reason)?;
        (self.deployer.plan, self.deployer.not_carried) = (wanted.plan.clone(), wanted.not_carried);
        self.deployer.broker.replace_routing(wanted.table, wanted.time_to_live);
        let prepared = match self.before.take() {
            Some(before) => before,
            None => self.engine.prepare(wanted.plan).await.map_err(|error| error.to_string())?,
        };
        self.engine.adopt(prepared).await.map(drop).map_err(|error| error.to_string())
    }

    /// It was not taken: everything goes on as it is.
    async fn refuse(&mut self, id: &str, origin: Origin, refusal: &Refusal) {
        tracing::error!(
            deployment = id,
            code = refusal.code,
            "the deployment is refused: {}",
            refusal.reason
        );
        let since = now_ms();
        let last = Last::new(id, origin, DeploymentPhase::Refused, refusal.code, &refusal.reason, since);
        self.save(Kept { last: Some(last), ..self.deployer.kept.clone() }).await;
        self.show(id, origin, DeploymentPhase::Refused, refusal.code, &refusal.reason, since);
    }

    async fn set_desired(&self) -> Result<(), String> {
        let wanted = self
            .deployer
            .own
            .wanted(self.deployer.kept.current.as_ref())
            .map_err(|refusal| refusal.reason)?;
        self.set_all(&wanted.desired).await
    }

    async fn set_all(&self, desired: &BTreeMap<Name, Map<String, Value>>) -> Result<(), String> {
        let broker = &self.deployer.broker;
        for (name, twin) in desired {
            let set = broker.twins().set_desired(&of_edge(broker, name), Value::Object(twin.clone())).await;
            set.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Puts the twins back that the deployment has changed, and forgets them.
    async fn restore_twins(&mut self) {
        let mut kept = self.deployer.kept.clone();
        if let Err(error) = self.set_all(&std::mem::take(&mut kept.twins)).await {
            // They are still kept: it is tried again when the host is started.
            return tracing::error!(error, "the desired properties of modules could not be put back");
        }
        self.save(kept).await;
    }

    /// Records it; what cannot be recorded is in force all the same, until the host is started again.
    async fn save(&mut self, kept: Kept) {
        if let Err(error) = kept.save(&self.deployer.broker.documents(), &self.deployer.kept).await {
            tracing::error!(error = format!("{error:#}"), "the state of the deployment was not recorded");
        }
        self.deployer.kept = kept;
    }

    fn current(&self) -> (String, Origin) {
        match &self.deployer.kept.current {
            Some(current) => (current.id.clone(), current.origin),
            None => (String::new(), Origin::Operator),
        }
    }

    fn show(&self, id: &str, origin: Origin, phase: DeploymentPhase, code: u16, reason: &str, since_ms: u64) {
        let Deployer { broker, kept, plan, not_carried, .. } = &self.deployer;
        broker.deployments().show(DeploymentStatus {
            order: self.number,
            id: id.into(),
            origin: DeploymentOrigin::from(origin),
            phase,
            code,
            reason: reason.into(),
            since: holdfast_types::UnixMillis(since_ms),
            running: kept.current.as_ref().map_or("", |current| &current.id).into(),
            modules: modules(plan, &self.engine),
            not_carried: *not_carried,
        });
    }
}

/// The modules of a plan as they are now.
pub fn modules(plan: &Plan, engine: &EngineHandle) -> Vec<DeployedModule> {
    let list = engine.list();
    let one = |(name, module): (&Name, &holdfast_engine::PlannedModule)| {
        let status = list.iter().find(|status| status.name == name.as_str());
        let why = status.map(|status| {
            let other = status.rolled_back.as_deref().or(status.refused.as_deref()).unwrap_or_default();
            if status.description.is_empty() { other } else { &status.description }
        });
        DeployedModule {
            name: name.text().clone(),
            image: module.image.as_str().into(),
            status: status.map_or("unknown", |status| status.status.as_str()).into(),
            reason: why.unwrap_or_default().into(),
        }
    };
    plan.modules.iter().map(one).collect()
}

fn now_ms() -> u64 {
    super::shown::now().0
}
