//! Whether the modules of a deployment have started, and go on well. Pure: what the engine shows comes in.

use holdfast_engine::{ModuleStatus, Plan, RuntimeStatus};
use std::collections::BTreeMap;

/// What is found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some are still starting.
    Pending,
    /// All are as they should be.
    Good,
    /// One is not, and why.
    Bad(String),
}

/// What is expected of the modules of a deployment.
pub struct Judge {
    cases: BTreeMap<String, Case>,
    /// What went wrong beside the modules.
    fault: Option<String>,
}

struct Case {
    running: bool,
    /// Which version it is to have; none if any will do, since the host has just been started.
    version: Option<u64>,
    /// What had been counted before.
    restarts: u32,
    dead_letters: u64,
    /// It was in trouble before and has not changed: that is not this deployment's doing.
    excused: bool,
}

impl Judge {
    /// `versions` says which version each module is to have, `now` is what the engine shows before they start.
    pub fn new(plan: &Plan, versions: Option<&BTreeMap<String, u64>>, now: &[ModuleStatus]) -> Self {
        let cases = plan.modules.iter().map(|(name, module)| {
            let version = versions.and_then(|versions| versions.get(name.as_str()).copied());
            let before = now.iter().find(|status| status.name == name.as_str());
            let counted = before.filter(|_| versions.is_some());
            let case = Case {
                running: module.running,
                version,
                restarts: counted.map_or(0, |status| status.restarts),
                dead_letters: counted.map_or(0, |status| status.dead_letters),
                excused: counted.is_some_and(|status| {
                    Some(status.version) == version
                        && matches!(status.status, RuntimeStatus::Backoff | RuntimeStatus::Failed)
                }),
            };
            (name.to_string(), case)
        });
        Self { cases: cases.collect(), fault: None }
    }

    /// The same with something that went wrong beside the modules.
    pub fn with_fault(self, fault: String) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// Looks at what the engine shows.
    pub fn look(&self, now: &[ModuleStatus]) -> Verdict {
        if let Some(fault) = &self.fault {
            return Verdict::Bad(fault.clone());
        }
        let mut verdict = Verdict::Good;
        for (name, case) in self.cases.iter().filter(|(_, case)| !case.excused) {
            let found = now.iter().find(|status| status.name == *name);
            match found.map_or(Verdict::Pending, |status| case.look(status)) {
                Verdict::Good => {}
                Verdict::Pending => verdict = Verdict::Pending,
                Verdict::Bad(why) => return Verdict::Bad(format!("module {name}: {why}")),
            }
        }
        verdict
    }
}

impl Case {
    fn look(&self, status: &ModuleStatus) -> Verdict {
        if let Some(why) = status.rolled_back.as_ref().or(status.refused.as_ref()) {
            return Verdict::Bad(why.clone());
        }
        if self.version.is_some_and(|version| version != status.version) {
            return Verdict::Pending;
        }
        let last = || status.last_error.clone().unwrap_or_else(|| status.description.clone());
        match status.status {
            RuntimeStatus::Failed | RuntimeStatus::Backoff => Verdict::Bad(status.description.clone()),
            RuntimeStatus::Running if status.restarts > self.restarts => Verdict::Bad(last()),
            RuntimeStatus::Running if status.dead_letters > self.dead_letters => {
                Verdict::Bad(format!("it gave a message up: {}", last()))
            }
            RuntimeStatus::Running if self.running => Verdict::Good,
            // An operator may stop a module; that is no failure.
            RuntimeStatus::Stopped => Verdict::Good,
            RuntimeStatus::Running | RuntimeStatus::Unknown | RuntimeStatus::Shadow => Verdict::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::{PlannedModule, RestartPolicy};
    use holdfast_types::Name;

    fn plan(modules: &[(&str, bool)]) -> Plan {
        let planned = |running| PlannedModule {
            image: String::new(),
            files: Vec::new(),
            oci: None,
            running,
            restart: RestartPolicy::Always,
            start_order: 0,
            environment: BTreeMap::new(),
        };
        let modules = modules.iter().map(|(name, running)| (Name::new(name).unwrap(), planned(*running)));
        Plan { modules: modules.collect(), exclusive: false }
    }

    fn status(name: &str, version: u64, status: RuntimeStatus) -> ModuleStatus {
        ModuleStatus {
            name: name.to_owned(),
            version,
            status,
            description: "why".to_owned(),
            ..ModuleStatus::default()
        }
    }

    #[test]
    fn good_is_when_each_has_its_version_and_runs_or_is_stopped_as_wanted() {
        let versions = BTreeMap::from([("a".to_owned(), 7), ("b".to_owned(), 8)]);
        let old = [status("a", 3, RuntimeStatus::Running)];
        let judge = Judge::new(&plan(&[("a", true), ("b", false)]), Some(&versions), &old);
        assert_eq!(judge.look(&old), Verdict::Pending, "the old version still runs, and b is not there");
        let a = status("a", 7, RuntimeStatus::Running);
        assert_eq!(judge.look(&[a.clone(), status("b", 8, RuntimeStatus::Unknown)]), Verdict::Pending);
        let b = status("b", 8, RuntimeStatus::Stopped);
        assert_eq!(judge.look(&[a.clone(), b.clone()]), Verdict::Good);
        let bad = |a: ModuleStatus| matches!(judge.look(&[a, b.clone()]), Verdict::Bad(why) if why.contains("module a"));
        assert!(bad(status("a", 7, RuntimeStatus::Backoff)) && bad(status("a", 7, RuntimeStatus::Failed)));
        assert!(bad(ModuleStatus {
            rolled_back: Some("trap".into()),
            ..status("a", 3, RuntimeStatus::Running)
        }));
        assert!(bad(ModuleStatus {
            refused: Some("start".into()),
            ..status("a", 3, RuntimeStatus::Running)
        }));
        assert!(bad(ModuleStatus { restarts: 1, ..a.clone() }) && bad(ModuleStatus { dead_letters: 1, ..a }));
    }

    #[test]
    fn what_was_in_trouble_before_and_has_not_changed_is_excused() {
        let versions = BTreeMap::from([("a".to_owned(), 3)]);
        let old = [status("a", 3, RuntimeStatus::Backoff)];
        let judge = Judge::new(&plan(&[("a", true)]), Some(&versions), &old);
        assert_eq!(judge.look(&old), Verdict::Good);
        // After a restart of the host nothing is excused.
        let judge = Judge::new(&plan(&[("a", true)]), None, &old);
        assert!(matches!(judge.look(&old), Verdict::Bad(_)));
    }
}
