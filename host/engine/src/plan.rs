//! What a deployment wants of the modules, beside what lies in the plugins folder.
//!
//! A deployment names its modules. The component of each lies in the plugins folder, under its own name or that of its
//! image; a file that a deployment uses is the deployment's, and runs under no other name. Files that no module of the
//! deployment uses go on running as they are, unless the deployment is exclusive. The grants and limits of a module are
//! the operator's: they stand in `NAME.toml` beside its component, and no deployment can widen them.

use crate::module::Version;
use crate::plugins::{Files, Folder};
use crate::settings::{RestartPolicy, Settings};
use holdfast_types::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// One module of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedModule {
    /// Where its component comes from, as the deployment names it; for people.
    pub image: String,
    /// Files of the plugins folder in which it may lie, the likeliest first.
    pub files: Vec<String>,
    /// Its name in a registry, with the digest that pins it: where it is fetched from if none of the files is there.
    pub oci: Option<String>,
    /// Whether it is to run; otherwise it is there and stopped.
    pub running: bool,
    /// What happens when it fails.
    pub restart: RestartPolicy,
    /// Lower ones start first; each order when all of the one before run or have failed.
    pub start_order: u32,
    /// Its environment, on top of that of its settings file.
    pub environment: BTreeMap<String, String>,
}

/// The modules of a deployment. The default is that of a host without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The modules.
    pub modules: BTreeMap<Name, PlannedModule>,
    /// Whether nothing else of the plugins folder runs.
    pub exclusive: bool,
}

/// Modules with the files they were loaded from.
pub(crate) type Versions = BTreeMap<String, (Files, Arc<Version>)>;

/// A plan whose modules have all been read, checked and compiled.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) versions: Versions,
}

/// What follows from taking a plan.
pub struct Adopted {
    /// What there was before, with the very versions that ran: taking it brings them back, whatever lies in the folder.
    pub before: Prepared,
    /// Which version each module of the plan is to have, as [`crate::ModuleStatus::version`] tells.
    pub versions: BTreeMap<String, u64>,
}

/// Why a plan cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Modules are missing or refused; all of them are named.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unfit(Vec<Unfit>),
    /// The engine has stopped or is stopping.
    #[error("the module engine is stopping and takes no deployment")]
    Stopping,
}

/// A module that cannot run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The module.
    pub module: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: {}", self.module, self.reason)
    }
}

impl PlannedModule {
    /// The name of the file without `.wasm`, if one is there.
    fn stem<'f>(&self, folder: &'f Folder) -> Option<&'f str> {
        self.files.iter().find_map(|file| folder.component(file.strip_suffix(".wasm")?))
    }

    /// What to do when none is there.
    fn missing(&self) -> String {
        format!(
            "its component is not in the plugins folder: the image is {:?}, so put it there as {}, or name an image in a \
             registry with its digest (@sha256:…), which is fetched; an image of a container cannot run here, its work has \
             to be built as a component",
            self.image,
            self.files.join(" or ")
        )
    }

    /// Changes the settings of its file as the deployment wants.
    pub(crate) fn change(&self, settings: &mut Settings) {
        settings.running = self.running;
        settings.restart = self.restart;
        settings.start_order = self.start_order;
        settings.environment.extend(self.environment.clone());
    }
}

impl Plan {
    /// What the plan says of a module.
    pub(crate) fn module(&self, name: &str) -> Option<&PlannedModule> {
        self.modules.get(name)
    }

    /// The files of each module of the plan, and the modules whose files are missing.
    pub(crate) fn planned(&self, folder: &Folder) -> (BTreeMap<String, Files>, Vec<Unfit>) {
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        for (name, module) in &self.modules {
            let there = module.stem(folder).and_then(|stem| folder.files(name, stem));
            let fetched = || module.oci.is_some().then(|| folder.fetched(name));
            match there.or_else(fetched) {
                Some(files) => drop(found.insert(name.to_string(), files)),
                None => missing.push(Unfit { module: name.to_string(), reason: module.missing() }),
            }
        }
        (found, missing)
    }

    /// The modules that are to be there, each with its files, and those of the plan whose files are missing.
    pub(crate) fn wanted(&self, folder: &Folder) -> (BTreeMap<String, Files>, Vec<Unfit>) {
        let (mut wanted, missing) = self.planned(folder);
        if !self.exclusive {
            let used: BTreeSet<String> = wanted.values().map(|files| files.stem().to_owned()).collect();
            for stem in folder.stems().filter(|stem| !used.contains(*stem) && self.module(stem).is_none()) {
                wanted.extend(folder.files(stem, stem).map(|files| (stem.to_owned(), files)));
            }
        }
        (wanted, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn planned(files: &[&str]) -> PlannedModule {
        PlannedModule {
            image: "r.example/sensor:1".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            oci: None,
            running: true,
            restart: RestartPolicy::default(),
            start_order: 0,
            environment: BTreeMap::new(),
        }
    }

    #[test]
    fn what_a_deployment_uses_is_its_own_and_the_rest_goes_on_unless_it_is_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["sensor.wasm", "sensor.toml", "other.wasm", "thermo.toml", ".hidden.wasm"] {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        let folder = crate::plugins::scan(dir.path()).unwrap();
        let names = |plan: &Plan| {
            let (wanted, missing) = plan.wanted(&folder);
            let wanted: Vec<_> =
                wanted.iter().map(|(name, files)| format!("{name}={}", files.stem())).collect();
            (wanted.join(" "), missing.len())
        };
        let mut plan = Plan::default();
        assert_eq!(names(&plan), ("other=other sensor=sensor".to_owned(), 0));
        plan.modules.insert(Name::new("thermo").unwrap(), planned(&["thermo.wasm", "sensor.wasm"]));
        assert_eq!(names(&plan), ("other=other thermo=sensor".to_owned(), 0));
        plan.modules.insert(Name::new("other").unwrap(), planned(&["absent.wasm"]));
        assert_eq!(names(&plan), ("thermo=sensor".to_owned(), 1));
        // What is pinned in a registry needs no file.
        let pinned =
            PlannedModule { oci: Some("r.example/other@sha256:00".to_owned()), ..planned(&["absent.wasm"]) };
        plan.modules.insert(Name::new("other").unwrap(), pinned);
        assert_eq!(names(&plan), ("other=other thermo=sensor".to_owned(), 0));
        assert!(plan.wanted(&folder).0["other"].are_fetched());
        plan.modules.remove("other");
        plan.exclusive = true;
        assert_eq!(names(&plan), ("thermo=sensor".to_owned(), 0));
        // Its own settings file comes first, then that of the component.
        let settings =
            |name: &str, stem: &str| folder.files(name, stem).unwrap().settings_path(dir.path(), name);
        assert_eq!(settings("thermo", "sensor"), Some(dir.path().join("thermo.toml")));
        assert_eq!(settings("another", "sensor"), Some(dir.path().join("sensor.toml")));
        assert_eq!(settings("other", "other"), None);
    }
}
