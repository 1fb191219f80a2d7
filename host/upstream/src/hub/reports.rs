//! What was reported here, told to the hub: what changed while the link was down, and then each change.
//!
//! Many changes of one twin become one patch: the difference between what the hub has and what is here now. What the hub
//! has is known from its last answer on this connection, or asked for. The version that it has taken is recorded, so that
//! after a reconnect only the twins are looked at that have changed since.

use super::{Hub, port::CallFault};
use crate::acknowledged;
use holdfast_broker::{TwinError, Twins};
use holdfast_link::{Call, Half, ReportForm, ReportedVersion, Status, TwinGet, TwinRecord, TwinReport};
use holdfast_types::Identity;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Twins that are told at the same time, so that a slow path does not make a thousand of them wait for one another.
const AT_ONCE: usize = 16;

/// Twins whose state at the hub is held in memory; beyond it the hub is asked.
const BASES_MAX: usize = 512;

/// Attempts at one twin while the hub answers that it has another state.
const ATTEMPTS: usize = 4;

/// How long to wait after the hub could not take a report for the moment.
const AGAIN: Duration = Duration::from_secs(5);

/// What the hub has of twins, as far as this connection has learnt it.
type Known = HashMap<Identity, (u64, Map<String, Value>)>;

type Bases = Mutex<Known>;

#[derive(Debug, thiserror::Error)]
enum ReportFault {
    #[error(transparent)]
    Call(#[from] CallFault),
    #[error(transparent)]
    Twin(#[from] TwinError),
    #[error("the hub has another state of it each time")]
    Moving,
}

impl ReportFault {
    /// Whether the same report may be taken later.
    fn is_for_now(&self) -> bool {
        match self {
            Self::Call(fault) => fault.status().is_none_or(Status::is_for_now),
            Self::Twin(_) | Self::Moving => true,
        }
    }
}

impl Hub {
    /// Tells all reports, from those that were made offline on.
    pub(super) async fn tell_reports(self: &Arc<Self>) {
        let twins = self.broker.twins();
        // Watched first, so that nothing is missed between the look at all and the first change.
        let mut watch = twins.watch_reported();
        let (hub, all) = (self.clone(), twins.clone());
        // Thousands of reads: not in the task that the connection runs in.
        let mut dirty = tokio::task::spawn_blocking(move || hub.unsent(&all)).await.unwrap_or_default();
        let bases = Arc::new(Bases::default());
        loop {
            let failed = self.tell(std::mem::take(&mut dirty), &bases).await;
            if failed.is_empty() {
                dirty = watch.next().await;
            } else {
                dirty = failed;
                sleep(AGAIN).await;
            }
        }
    }

    /// Whose reported properties are newer than what the hub has taken.
    fn unsent(&self, twins: &Twins) -> BTreeSet<Identity> {
        let all = twins.identities().unwrap_or_else(|error| {
            tracing::error!(%error, "the twins cannot be read; what was reported offline is not told");
            Vec::new()
        });
        let newer =
            |who: &Identity| twins.read(who).is_ok_and(|twin| twin.reported_version > self.acknowledged(who));
        all.into_iter().filter(newer).collect()
    }

    /// Gives those that are to be told again later.
    async fn tell(self: &Arc<Self>, dirty: BTreeSet<Identity>, bases: &Arc<Bases>) -> BTreeSet<Identity> {
        let (mut left, mut running, mut failed) = (dirty.into_iter(), JoinSet::new(), BTreeSet::new());
        loop {
            while running.len() < AT_ONCE
                && let Some(who) = left.next()
            {
                let (hub, bases) = (self.clone(), bases.clone());
                running.spawn(async move {
                    let told = hub.tell_one(&who, &bases).await;
                    (who, told)
                });
            }
            let Some(ended) = running.join_next().await else { return failed };
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((who, Err(ReportFault::Call(fault)))) if Self::is_unknown(&fault) => {
                    tracing::debug!(twin = %who, "the hub does not know it; its reports stay here");
                }
                Ok((who, Err(fault))) if fault.is_for_now() => {
                    tracing::warn!(twin = %who, %fault, "a report was not told to the hub; it is tried again");
                    failed.insert(who);
                }
                Ok((who, Err(fault))) => {
                    tracing::error!(twin = %who, %fault, "the hub does not take a report; its owner must report other values");
                }
                Err(error) => tracing::error!(%error, "a report was not told to the hub"),
            }
        }
    }

    async fn tell_one(&self, who: &Identity, bases: &Bases) -> Result<(), ReportFault> {
        let twins = self.broker.twins();
        for _ in 0..ATTEMPTS {
            let here = twins.read(who)?;
            if here.reported_version <= self.acknowledged(who) {
                return Ok(());
            }
            let base = lock(bases).remove(who);
            let (from, there) = match base {
                Some(base) => base,
                None => {
                    let twin: TwinRecord =
                        self.port.call(Call::TwinGet, &TwinGet { identity: who.clone() }).await?;
                    let half = twin.reported;
                    if half.version >= here.reported_version {
                        self.adopt(who, half).await?;
                        continue;
                    }
                    (half.version, half.document)
                }
            };
            let form = ReportForm::Patch { from, patch: Twins::difference(&there, &here.reported) };
            let version = here.reported_version;
            let report = TwinReport { identity: who.clone(), version, form };
            match self.port.call::<ReportedVersion>(Call::TwinReport, &report).await {
                Ok(answer) if answer.version == version => {
                    self.acknowledge(who, version).await;
                    let mut bases = lock(bases);
                    if bases.len() >= BASES_MAX {
                        bases.clear();
                    }
                    bases.insert(who.clone(), (version, here.reported));
                }
                // The hub has a newer one: it is fetched, and what is here stands above it.
                Ok(_) => {}
                Err(fault) if fault.status() == Some(Status::CONFLICT) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        let here = twins.read(who)?;
        if here.reported_version <= self.acknowledged(who) { Ok(()) } else { Err(ReportFault::Moving) }
    }

    /// Takes reported properties of the hub where they are newer, and learns where they are older than was thought.
    pub(super) async fn adopt(&self, who: &Identity, half: Half) -> Result<(), TwinError> {
        let mut acknowledged = self.acknowledged(who);
        let twins = self.broker.twins();
        let here = twins.read(who)?;
        if half.version < acknowledged
            || (half.version == here.reported_version && half.document == here.reported)
        {
            // A hub that was set back gets again what it has lost.
            if half.version != acknowledged {
                self.acknowledge(who, half.version).await;
            }
            return Ok(());
        }
        let mut version = half.version;
        if version == here.reported_version {
            // Both sides counted on without one another: what is here stands above what the hub has.
            (version, acknowledged) = (version.saturating_add(1), 0);
        }
        let adopted = twins.adopt_reported(who, half.document.into(), version, acknowledged).await?;
        if adopted == half.version {
            self.acknowledge(who, adopted).await;
        }
        Ok(())
    }

    /// The version of the reported properties that the hub has taken.
    fn acknowledged(&self, who: &Identity) -> u64 {
        acknowledged::read(&self.broker.documents(), who).unwrap_or(1)
    }

    async fn acknowledge(&self, who: &Identity, version: u64) {
        self.write(who, Some(version)).await;
    }

    async fn write(&self, who: &Identity, version: Option<u64>) {
        if let Err(refused) = acknowledged::write(&self.broker.documents(), [(who, version)]).await {
            tracing::warn!(twin = %who, %refused, "how far the hub has taken its reports was not recorded; the hub is asked again");
        }
    }

    /// Forgets the twin of an identity that is gone.
    pub(super) async fn forget(&self, who: &Identity) {
        if let Err(error) = self.broker.twins().remove(who).await {
            tracing::warn!(twin = %who, %error, "the twin of an identity that is gone was not removed");
        }
        self.write(who, None).await;
    }
}

fn lock(bases: &Bases) -> std::sync::MutexGuard<'_, Known> {
    bases.lock().unwrap_or_else(PoisonError::into_inner)
}
