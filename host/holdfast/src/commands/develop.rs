//! `holdfast module dev`: watches a project, builds it when it changes, puts the component into the plugins folder of the
//! running edge, and shows the module's log and its messages in one stream.

use super::client;
use crate::{
    cli::ModuleDevArgs,
    module::build::{self, BuildOptions},
    output,
};
use holdfast_api::{Item, LogsRequest, Request, TailRequest};
use holdfast_engine::with_wishes;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};

/// How often the sources are looked at. A person does not notice it, and it costs next to nothing.
const LOOK: Duration = Duration::from_millis(300);

/// Folders that builds write to, and what is hidden.
const NOT_SOURCES: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// How long a stream that broke off waits before it asks anew: the edge may be starting.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a body that a line has room for.
const BODY_BYTES: usize = 400;

/// Runs until it is stopped with Ctrl-C.
pub async fn run(control: &Path, plugins: &Path, args: &ModuleDevArgs) -> anyhow::Result<()> {
    let options =
        BuildOptions { directory: args.dir.clone(), into: Some(plugins.to_owned()), asks: Some(with_wishes) };
    let mut shown: Option<tokio::task::JoinSet<()>> = None;
    let mut seen = BTreeMap::new();
    loop {
        let now = sources(&args.dir);
        if now != seen {
            seen = now;
            let building = options.clone();
            // Builds take as long as they take; the streams go on meanwhile.
            let built = tokio::task::spawn_blocking(move || {
                build::build(&building, &mut |progress| output::note(progress))
            })
            .await?;
            match built {
                Ok(built) => {
                    output::line(format!("— built {} ({})", built.name, output::bytes(built.bytes)));
                    shown.get_or_insert_with(|| follow(control, &built.name));
                }
                Err(error) => output::line(format!("— not built: {error}")),
            }
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
        }
        if args.once {
            // What has been swapped in shows itself shortly.
            let _ = timeout(Duration::from_secs(3), std::future::pending::<()>()).await;
            return Ok(());
        }
    }
}

/// The files of a project, and when each was changed.
fn sources(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(about) = entry.metadata() else { continue };
            if name.starts_with('.') || NOT_SOURCES.contains(&name.as_str()) || name == "Cargo.lock" {
                continue;
            }
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), about.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            }
        }
    }
    found
}

/// Shows the log and the messages of a module, each as a stream that is asked for anew when it breaks off.
fn follow(control: &Path, module: &str) -> tokio::task::JoinSet<()> {
    let logs = Request::Logs(LogsRequest {
        module: Some(module.to_owned()),
        tail: Some(0),
        since_ms: None,
        until_ms: None,
        follow: true,
    });
    let messages =
        Request::Tail(TailRequest { source: None, route: None, count: None, body_bytes_max: BODY_BYTES });
    let mut streams = tokio::task::JoinSet::new();
    for request in [logs, messages] {
        let (control, module) = (control.to_owned(), module.to_owned());
        streams.spawn(async move {
            loop {
                if let Ok(mut client) = client::connect(&control).await
                    && let Ok(mut answers) = client.ask(&request).await
                {
                    while let Ok(Some(item)) = answers.next().await {
                        show(&module, &item);
                    }
                }
                sleep(AGAIN).await;
            }
        });
    }
    streams
}

fn show(module: &str, item: &Item) {
    match item {
        Item::Log(line) => output::line(format!("log      {}", output::foreign(&line.text))),
        Item::Passing(passing) => {
            let Ok(source) = passing.from.source() else { return };
            let body = passing.message.body.bytes().unwrap_or_default();
            let input = format!("\"/modules/{module}/inputs/");
            if matches!(&source, holdfast_types::Source::Module { module: sender, .. } if sender.as_str() == module)
            {
                output::line(format!(
                    "sends    {}  {}",
                    output::foreign(&source.to_string()),
                    output::body(&body, 100)
                ));
            } else if passing.taken.iter().any(|taken| taken.sink.contains(&input)) {
                output::line(format!(
                    "is given {}  {}",
                    output::foreign(&source.to_string()),
                    output::body(&body, 100)
                ));
            }
        }
        _ => {}
    }
}
