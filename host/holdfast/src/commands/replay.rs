//! `holdfast module test`: hands a component the messages of a recording, on an edge of its own that is gone afterwards,
//! and compares what it sends with what was recorded.

use crate::{cli::ModuleTestArgs, output};
use anyhow::{Context, bail};
use holdfast_api::PassingItem;
use holdfast_broker::{Broker, BrokerConfig, Tap};
use holdfast_engine::{Engine, EngineConfig, EngineHandle, ModuleStatus, Profile, RuntimeStatus, Sent};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{StoreConfig, SystemClock};
use holdfast_types::{Durability, Message, Name, Source};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Says which input a message of a child is for, where it cannot be told from its source.
const INPUT: &str = "holdfast-replay-input";

/// The longest wait for the module's start, and for one message.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most differences that are shown.
const SHOWN_MAX: usize = 10;

/// A message that the module is handed.
struct Given {
    source: Source,
    input: String,
    message: Message,
}

/// Replays. Gives whether everything was as recorded.
pub async fn run(args: &ModuleTestArgs, json: bool) -> anyhow::Result<bool> {
    let stem = args.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let module = args.module.clone().unwrap_or(stem);
    let module =
        Name::new(&module).with_context(|| format!("{module:?} is no name of a module; say --module"))?;
    let (given, expected) = read(&args.recording, &module)?;
    if given.is_empty() {
        bail!(
            "{} has no message for an input of {module}; record while messages come to it, or say --module",
            args.recording.display()
        );
    }
    let folder = Folder::new()?;
    let trial = Trial::start(&folder.0, &args.file, &module, &given).await?;
    let outcome = trial.replay(given).await;
    trial.end().await;
    let (sent, status) = outcome?;
    let compared =
        |all: Vec<Sent>| -> Vec<Sent> { all.into_iter().map(|one| one.without(&args.ignore)).collect() };
    report(&compared(expected), &compared(sent), &status, json)
}

fn read(recording: &Path, module: &Name) -> anyhow::Result<(Vec<Given>, Vec<Sent>)> {
    let text =
        fs::read_to_string(recording).with_context(|| format!("{} cannot be read", recording.display()))?;
    let (mut given, mut expected) = (Vec::new(), Vec::new());
    let input_of = |sink: &str| {
        let start = format!("BrokeredEndpoint(\"/modules/{module}/inputs/");
        Some(sink.strip_prefix(&start)?.strip_suffix("\")")?.to_owned())
    };
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |why: String| format!("{}, line {}: {why}", recording.display(), number + 1);
        let passing: PassingItem = serde_json::from_str(line).map_err(|error| {
            anyhow::anyhow!(bad(format!("no recorded message ({error}); make it with `holdfast record`")))
        })?;
        let source = passing.from.source().map_err(|error| anyhow::anyhow!(bad(error.to_string())))?;
        let message = passing.message.message().map_err(|error| anyhow::anyhow!(bad(error.to_string())))?;
        if let Source::Module { module: sender, output } = &source
            && sender == module
        {
            expected.push(Sent::of(output.as_ref(), &message));
            continue;
        }
        for input in passing.taken.iter().filter_map(|taken| input_of(&taken.sink)) {
            given.push(Given { source: source.clone(), input, message: message.clone() });
        }
    }
    Ok((given, expected))
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("holdfast-test-{}", std::process::id()));
        fs::create_dir_all(path.join("plugins"))
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind in the system's own folder for it is deleted by the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An edge with one module.
struct Trial {
    broker: Broker,
    engine: EngineHandle,
    module: Name,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Trial {
    async fn start(folder: &Path, file: &Path, module: &Name, given: &[Given]) -> anyhow::Result<Self> {
        let plugins = folder.join("plugins");
        let settings = file.with_extension("toml");
        if settings.is_file() {
            fs::copy(&settings, plugins.join(format!("{module}.toml")))?;
        }
        fs::copy(file, plugins.join(format!("{module}.wasm")))
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let clock = Arc::new(SystemClock::new());
        let store = StoreConfig { ballast_bytes: 0, ..StoreConfig::new(folder.join("store")) };
        let (store, _) = holdfast_store::open(store, clock.clone())?;
        let routes = RouteTable::compile(routes(module, given))
            .map_err(|faults| anyhow::anyhow!("the recording cannot be routed: {faults:?}"))?;
        let edge = Name::new("test").context("a name of an edge")?;
        let broker = Broker::new(BrokerConfig { edge, routes, time_to_live: None }, store, clock);
        let engine = Engine::build(
            EngineConfig::new(plugins, folder.join("code"), Profile::Standard),
            broker.clone(),
        )?;
        let handle = engine.handle();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        engine.spawn(&tasks, stop.clone())?;
        tasks.close();
        let trial = Self { broker, engine: handle, module: module.clone(), tasks, stop };
        let runs = |status: &ModuleStatus| status.status != RuntimeStatus::Unknown;
        let status = trial.until(runs).await?;
        if status.status != RuntimeStatus::Running {
            bail!("{module} does not run: {}", status.description);
        }
        Ok(trial)
    }

    /// Waits for a status of the module.
    async fn until(&self, wanted: impl Fn(&ModuleStatus) -> bool) -> anyhow::Result<ModuleStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.engine.list();
            let status = all.into_iter().find(|status| status.name == self.module.as_str());
            match status {
                Some(status) if wanted(&status) => return Ok(status),
                status if Instant::now() > end => bail!("the module is not done in time: {status:?}"),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Hands the messages over, each when the one before is done with.
    async fn replay(&self, given: Vec<Given>) -> anyhow::Result<(Vec<Sent>, ModuleStatus)> {
        let mut tap = self.broker.tap();
        let mut sent = Vec::new();
        for (number, one) in given.into_iter().enumerate() {
            let Given { source, input, mut message } = one;
            if !matches!(source, Source::Module { .. }) {
                message.properties.set(INPUT, &input);
            }
            self.broker.publish(source, message).await?;
            let done = number as u64 + 1;
            self.until(|status| {
                status.messages_in + status.dead_letters >= done || status.status == RuntimeStatus::Failed
            })
            .await?;
            self.take(&mut tap, &mut sent).await?;
        }
        let status = self.until(|_| true).await?;
        Ok((sent, status))
    }

    /// What the module has sent up to now.
    async fn take(&self, tap: &mut Tap, sent: &mut Vec<Sent>) -> anyhow::Result<()> {
        while let Ok(Some(passing)) = tokio::time::timeout(Duration::ZERO, tap.next()).await {
            let passing = passing.map_err(|missed| {
                anyhow::anyhow!("the module sent {} messages more than can be looked at", missed.0)
            })?;
            if let Source::Module { module, output } = &passing.envelope.source
                && *module == self.module
            {
                sent.push(Sent::of(output.as_ref(), &passing.envelope.message));
            }
        }
        Ok(())
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        // The folder goes away; that its store was not closed well is no loss.
        let _ = self.broker.store().close();
    }
}

/// Routes that lead each recorded message to its input, and nothing else.
fn routes(module: &Name, given: &[Given]) -> Vec<RouteDefinition> {
    let mut texts = BTreeSet::new();
    for one in given {
        let into = format!("INTO BrokeredEndpoint(\"/modules/{module}/inputs/{}\")", one.input);
        texts.insert(match &one.source {
            Source::Module { module: sender, output: Some(output) } => {
                format!("FROM /messages/modules/{sender}/outputs/{output} {into}")
            }
            Source::Module { module: sender, output: None } => {
                format!("FROM /messages/modules/{sender}/* {into}")
            }
            // What the module sends may carry the properties of what it got.
            Source::Child { .. } | Source::TwinChange { .. } => format!(
                "FROM /* WHERE {INPUT} = '{}' AND NOT is_defined($connectionModuleId) {into}",
                one.input
            ),
        });
    }
    // What it sends goes nowhere: the tap sees it all the same.
    let named = |(number, text): (usize, String)| RouteDefinition {
        durability: Durability::Volatile,
        ..RouteDefinition::new(&format!("replay-{number}"), text)
    };
    texts.into_iter().enumerate().map(named).collect()
}

fn report(expected: &[Sent], sent: &[Sent], status: &ModuleStatus, json: bool) -> anyhow::Result<bool> {
    let most = expected.len().max(sent.len());
    let differ: Vec<usize> = (0..most).filter(|at| expected.get(*at) != sent.get(*at)).collect();
    let same = differ.is_empty() && status.dead_letters == 0 && status.restarts == 0;
    if json {
        output::json(&serde_json::json!({
            "handled": status.messages_in, "dead_letters": status.dead_letters, "restarts": status.restarts,
            "expected": expected.len(), "sent": sent.len(), "different": differ.len(), "same": same,
        }))?;
        return Ok(same);
    }
    for at in differ.iter().take(SHOWN_MAX) {
        let shown = |one: Option<&Sent>| one.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        output::line(format!("message {}:", at + 1));
        output::line(format!("  recorded  {}", shown(expected.get(*at))));
        output::line(format!("  sent      {}", shown(sent.get(*at))));
    }
    if differ.len() > SHOWN_MAX {
        output::line(format!("and {} more", differ.len() - SHOWN_MAX));
    }
    if status.dead_letters > 0 || status.restarts > 0 {
        let why = status.last_error.as_deref().unwrap_or_default();
        output::line(format!("{} dead letters, {} restarts: {why}", status.dead_letters, status.restarts));
    }
    let verdict = if same { "the same as recorded" } else { "not the same as recorded" };
    output::line(format!(
        "{} messages handled, {} sent, {} recorded: {verdict}",
        status.messages_in,
        sent.len(),
        expected.len()
    ));
    Ok(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::Sink;

    #[test]
    fn a_recorded_message_finds_its_input_again() {
        let module = Name::new("m").unwrap();
        let feeder =
            Source::Module { module: Name::new("f").unwrap(), output: Some(Name::new("o").unwrap()) };
        let child = Source::Child { child: Name::new("c").unwrap(), topic: None };
        let given: Vec<Given> = [feeder, child]
            .into_iter()
            .map(|source| Given { source, input: "in".to_owned(), message: Message::new("x") })
            .collect();
        let table = RouteTable::compile(routes(&module, &given)).unwrap();
        assert_eq!(table.routes().len(), 2);
        assert!(matches!(table.routes().first().map(|route| &route.sink), Some(Sink::Input { .. })));
    }
}
