//! Reads, checks and compiles modules on threads of their own, a bounded number at a time.

use crate::cache::CodeCache;
use crate::compiler::Compiler;
use crate::config::{EngineConfig, Limits, Profile};
use crate::engine::Common;
use crate::load::load;
use crate::module::Version;
use crate::plan::{PlannedModule, Unfit, Versions};
use crate::plugins::Source;
use crate::plugins::{self, Files};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::wants::{unmet, wished};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A module's files, loaded or refused.
pub(super) struct Loaded {
    pub(super) name: String,
    /// The files that were read, to see whether they have changed since.
    pub(super) files: Files,
    pub(super) version: Result<Version, String>,
}

pub(super) struct Loader {
    job: Job,
    jobs: JoinSet<Loaded>,
    at_a_time: Arc<Semaphore>,
}

#[derive(Clone)]
struct Job {
    folder: PathBuf,
    limits: Limits,
    runtime: Runtime,
    cache: CodeCache,
    compiler: Compiler,
    /// The number of the version that is loaded next.
    numbers: Arc<AtomicU64>,
    source: Option<Arc<dyn Source>>,
}

impl Loader {
    pub(super) fn new(config: &EngineConfig, common: &Common) -> Self {
        // A compile takes about ten times the memory of the component, so a small device does one at a time.
        let at_a_time = match config.profile {
            Profile::Standard => available_parallelism().map_or(1, Into::into),
            Profile::Small => 1,
        };
        let job = Job {
            folder: config.plugins_dir.clone(),
            limits: config.limits,
            runtime: common.runtime.clone(),
            cache: common.cache.clone(),
            compiler: config.compiler.clone(),
            numbers: Arc::new(AtomicU64::new(1)),
            source: config.source.clone(),
        };
        Self { job, jobs: JoinSet::new(), at_a_time: Arc::new(Semaphore::new(at_a_time)) }
    }

    /// Begins to load a module. `running` is the version that runs: code that has not changed is not loaded again.
    pub(super) fn load(
        &mut self,
        name: &str,
        files: Files,
        planned: Option<PlannedModule>,
        running: Option<Arc<Version>>,
    ) {
        self.jobs.spawn(self.begin(name.to_owned(), files, planned, running));
    }

    /// Loads all of these, and gives them, or what is wrong with each that is unfit.
    pub(super) fn load_all(
        &self,
        modules: Vec<(String, Files, PlannedModule, Option<Arc<Version>>)>,
    ) -> impl Future<Output = Result<Versions, Vec<Unfit>>> + Send + use<> {
        let all: Vec<_> = modules
            .into_iter()
            .map(|(name, files, planned, running)| self.begin(name, files, Some(planned), running))
            .collect();
        async move {
            let mut jobs: JoinSet<Loaded> = all.into_iter().collect();
            let (mut versions, mut unfit) = (Versions::new(), Vec::new());
            while let Some(loaded) = jobs.join_next().await {
                match loaded {
                    Ok(Loaded { name, files, version: Ok(version) }) => {
                        versions.insert(name, (files, Arc::new(version)));
                    }
                    Ok(Loaded { name, version: Err(reason), .. }) => {
                        unfit.push(Unfit { module: name, reason });
                    }
                    Err(error) => {
                        let reason = format!("loading ended badly: {error}");
                        unfit.push(Unfit { module: "unknown".to_owned(), reason });
                    }
                }
            }
            unfit.sort_by(|one, other| one.module.cmp(&other.module));
            if unfit.is_empty() { Ok(versions) } else { Err(unfit) }
        }
    }

    fn begin(
        &self,
        name: String,
        files: Files,
        planned: Option<PlannedModule>,
        running: Option<Arc<Version>>,
    ) -> impl Future<Output = Loaded> + Send + use<> {
        let (job, at_a_time) = (self.job.clone(), self.at_a_time.clone());
        async move {
            // The semaphore is never closed.
            let _turn = at_a_time.acquire_owned().await;
            let (reads, of) = (name.clone(), files.clone());
            let work = move || job.run(&reads, &of, planned.as_ref(), running.as_deref());
            let version = tokio::task::spawn_blocking(work).await;
            let version = version.unwrap_or_else(|error| Err(format!("loading ended badly: {error}")));
            Loaded { name, files, version }
        }
    }

    /// The next module that is loaded; none if none is being loaded. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Loaded> {
        loop {
            match self.jobs.join_next().await? {
                Ok(loaded) => return Some(loaded),
                Err(error) => tracing::error!(%error, "a module could not be loaded"),
            }
        }
    }

    /// Nothing more is loaded.
    pub(super) fn end(&mut self) {
        self.jobs.abort_all();
    }
}

impl Job {
    fn run(
        &self,
        name: &str,
        files: &Files,
        planned: Option<&PlannedModule>,
        running: Option<&Version>,
    ) -> Result<Version, String> {
        // Both files are read before either is judged, so that all that is wrong is said at once.
        let mut settings = plugins::read_settings(&self.folder, name, files, self.limits);
        // The operator's word goes before that of the deployment.
        let own = settings.as_ref().ok();
        let oci = match plugins::base_of(name) {
            Some(_) => own.and_then(|own| own.shadow_oci.as_deref()),
            None => own.and_then(|own| own.oci.as_deref()).or_else(|| planned?.oci.as_deref()),
        };
        let read = plugins::read_component(&self.folder, files, oci, self.source.as_deref());
        let code = read.and_then(|(bytes, digest)| {
            if let Ok(settings) = &mut settings {
                take_wishes(name, &bytes, settings);
            }
            match running {
                Some(running) if running.code.digest == digest => Ok(running.code.clone()),
                _ => load(&self.runtime, &self.cache, &self.compiler, &bytes, digest)
                    .map_err(|error| error.to_string()),
            }
        });
        match (settings, code) {
            (Ok(mut settings), Ok(code)) => {
                if let Some(planned) = planned {
                    planned.change(&mut settings);
                }
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let connections = Arc::new(Semaphore::new(settings.limits.connections as usize));
                Ok(Version { number, code, settings: Arc::new(settings), connections })
            }
            (Err(one), Err(other)) => Err(format!("{one}; {other}")),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => Err(reason),
        }
    }
}

/// Declares what the component declares, and says once for each file what it asks for and has not been granted.
fn take_wishes(name: &str, component: &[u8], settings: &mut Settings) {
    match wished(component, settings.limits) {
        Ok(wished) => {
            for line in unmet(&wished, settings) {
                tracing::warn!(module = name, "it asks for {line}");
            }
            settings.inputs.add(wished.inputs);
            settings.outputs.add(wished.outputs);
        }
        Err(why) => tracing::warn!(module = name, "{why}; it runs as if it asked for nothing"),
    }
}
