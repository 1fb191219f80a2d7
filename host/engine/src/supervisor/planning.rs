//! Taking a plan: what it no longer wants ends, the rest starts or is swapped in waves, lower start orders first.

use super::{SETTLING, Seen, Supervisor, is_same};
use crate::module::{Control, Version};
use crate::plan::{Adopted, Plan, PlanError, Prepared, Unfit};
use crate::plugins;
use crate::status::RuntimeStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

/// How often files that are being written are looked at before a plan is prepared from what is there.
const LOOKS_MAX: u32 = 40;

/// The modules that are still to be started, and those that are starting.
#[derive(Default)]
pub(super) struct Waves {
    left: BTreeMap<u32, Vec<(String, Arc<Version>)>>,
    open: Vec<(String, u64)>,
}

impl Waves {
    pub(super) fn are_under_way(&self) -> bool {
        !self.left.is_empty() || !self.open.is_empty()
    }
}

impl Supervisor {
    /// Loads the modules of a plan beside what runs; the answer comes when all are loaded.
    pub(super) async fn prepare(&mut self, plan: Plan, answer: oneshot::Sender<Result<Prepared, PlanError>>) {
        let folder = self.config.plugins_dir.clone();
        let mut looks = 0;
        let (files, missing) = loop {
            let scanned = match plugins::scan(&folder) {
                Ok(scanned) => scanned,
                Err(error) => {
                    let reason = format!("the plugins folder {} cannot be read: {error}", folder.display());
                    let unfit = plan
                        .modules
                        .keys()
                        .map(|name| Unfit { module: name.to_string(), reason: reason.clone() });
                    // Whoever asked may have gone.
                    let _ = answer.send(Err(PlanError::Unfit(unfit.collect())));
                    return;
                }
            };
            let planned = plan.planned(&scanned);
            looks += 1;
            let complete = planned.0.values().all(|files| files.are_old(self.config.settle));
            if complete || looks > LOOKS_MAX || self.stop.is_cancelled() {
                break planned;
            }
            tokio::time::sleep(SETTLING).await;
        };
        let modules = files.into_iter().filter_map(|(name, files)| {
            let planned = plan.module(&name)?.clone();
            let running = self.running.get(&name).map(|running| running.version.clone());
            Some((name, files, planned, running))
        });
        let loading = self.loader.load_all(modules.collect());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let loaded = tokio::select! {
                () = stop.cancelled() => Err(PlanError::Stopping),
                loaded = loading => match loaded {
                    Ok(versions) if missing.is_empty() => Ok(Prepared { plan, versions }),
                    loaded => {
                        let unfit = missing.into_iter().chain(loaded.err().into_iter().flatten());
                        Err(PlanError::Unfit(unfit.collect()))
                    }
                },
            };
            let _ = answer.send(loaded);
        });
    }

    /// Takes a plan. Gives what there was before.
    pub(super) async fn adopt(&mut self, prepared: Prepared) -> Adopted {
        let Prepared { plan, versions } = prepared;
        let before = self.snapshot();
        self.plan = plan;
        let wanted = match plugins::scan(&self.config.plugins_dir) {
            Ok(folder) => self.wanted(&folder).0,
            // What is in memory is enough for the plan itself; the others go on.
            Err(_) => self.seen.iter().map(|(name, seen)| (name.clone(), seen.files.clone())).collect(),
        };
        let stays = |name: &String| wanted.contains_key(name) || versions.contains_key(name);
        let known: BTreeSet<String> = self.seen.keys().cloned().chain(self.common.registry.names()).collect();
        let gone = known.into_iter().filter(|name| !stays(name)).collect();
        self.remove_all(gone, "the deployment does not want it").await;

        let mut expected = BTreeMap::new();
        let mut waves = Waves::default();
        for (name, (files, version)) in versions {
            let files = wanted.get(&name).cloned().unwrap_or(files);
            self.seen
                .insert(name.clone(), Seen { files, since: Instant::now(), taken: true, again_at: None });
            let shared = self.shared(&name);
            let mut status = shared.status();
            (status.refused, status.rolled_back) = (None, None);
            let at_rest = matches!(status.status, RuntimeStatus::Stopped | RuntimeStatus::Failed);
            drop(status);
            match self.running.get(&name) {
                Some(running) if is_same(&running.version, &version) => {
                    expected.insert(name, running.version.number);
                    if version.settings.running && at_rest {
                        // It was stopped or given up: the deployment wants it to run. A full queue of orders has one.
                        let _ = running.controls.try_send(Control::Start);
                    }
                }
                _ => {
                    expected.insert(name.clone(), version.number);
                    waves.left.entry(version.settings.start_order).or_default().push((name, version));
                }
            }
        }
        self.waves = waves;
        self.next_wave();
        Adopted { before, versions: expected }
    }

    /// The plan that holds, and what runs of it.
    fn snapshot(&self) -> Prepared {
        let running = self.plan.modules.keys().filter_map(|name| {
            let (seen, running) = (self.seen.get(name.as_str())?, self.running.get(name.as_str())?);
            Some((name.to_string(), (seen.files.clone(), running.version.clone())))
        });
        Prepared { plan: self.plan.clone(), versions: running.collect() }
    }

    /// Starts those of the next order, if those of the one before have started or failed.
    pub(super) fn next_wave(&mut self) {
        while self.waves.open.iter().all(|(name, number)| self.has_begun(name, *number)) {
            self.waves.open.clear();
            let Some((order, modules)) = self.waves.left.pop_first() else { return };
            for (name, version) in modules {
                let number = version.number;
                let Some(running) = self.running.get_mut(&name) else {
                    drop(self.start(&name, (*version).clone()));
                    self.waves.open.push((name, number));
                    continue;
                };
                match running.controls.try_send(Control::Replace(version.clone())) {
                    Ok(()) => {
                        running.version = version.clone();
                        if version.settings.running && self.is_stopped(&name) {
                            self.start_again(&name);
                        }
                        self.waves.open.push((name, number));
                    }
                    // Tried again with the next look.
                    Err(TrySendError::Full(_)) => {
                        self.waves.left.entry(order).or_default().push((name, version));
                        return;
                    }
                    // It is ending with the host.
                    Err(TrySendError::Closed(_)) => {}
                }
            }
        }
    }

    fn is_stopped(&self, name: &str) -> bool {
        self.common
            .registry
            .module(name)
            .is_some_and(|shared| shared.status().status == RuntimeStatus::Stopped)
    }

    /// An operator stopped it; the deployment wants it to run.
    fn start_again(&self, name: &str) {
        if let Some(running) = self.running.get(name) {
            let _ = running.controls.try_send(Control::Start);
        }
    }

    /// Whether it runs, is stopped as it should be, or has failed.
    fn has_begun(&self, name: &str, number: u64) -> bool {
        self.common.registry.module(name).is_none_or(|shared| {
            let status = shared.status();
            let settled = status.version == number && status.status != RuntimeStatus::Unknown;
            settled || status.refused.is_some() || status.rolled_back.is_some()
        })
    }
}
