//! `holdfast check`: what could keep the edge from its work, one file for each check.

mod certificates;
mod clock;
mod plugins;
mod ports;
mod routes;
mod store;
mod upstream;

use crate::{cli::CheckArgs, output};
use holdfast_config::{Config, ConfigError};
use serde::Serialize;
use std::path::Path;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "text", rename_all = "lowercase")]
pub enum Finding {
    /// All is well; says what was seen.
    Ok(String),
    /// It works now and may not for long; says what to do.
    Warning(String),
    /// It does not work; says why and what to do.
    Error(String),
    /// It could not be looked at; says why.
    Skipped(String),
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// The ids of the checks, in the order in which they run.
const IDS: [&str; 8] = ["config", "routes", "store", "ports", "certificates", "plugins", "clock", "upstream"];

/// Runs the checks and says what they found. Gives whether all is well enough.
pub async fn run(file: Option<&Path>, args: &CheckArgs, json: bool) -> anyhow::Result<bool> {
    if let Some(unknown) = args.dont_run.iter().find(|id| !IDS.contains(&id.as_str())) {
        anyhow::bail!("there is no check {unknown:?}; those that are: {}", IDS.join(", "));
    }
    let wanted = |id: &str| !args.dont_run.iter().any(|left_out| left_out == id);
    let loaded = super::config(file);
    let mut findings: Vec<(&str, Finding)> = Vec::new();
    let config = match loaded {
        Ok(config) => {
            let control = holdfast_api::check_control_path(&config.paths.control);
            findings.push((
                "config",
                control.map_or_else(|error| Finding::Error(error.to_string()), |()| configured(&config)),
            ));
            Some(config)
        }
        Err(error) => {
            findings.push(("config", Finding::Error(faults(&error))));
            None
        }
    };
    let running = match &config {
        Some(config) => super::client::is_running(&config.paths.control).await,
        None => false,
    };
    for id in IDS.into_iter().skip(1).filter(|id| wanted(id)) {
        let finding = match &config {
            None => Finding::Skipped("the configuration has faults".to_owned()),
            Some(config) => match id {
                "routes" => routes::check(config),
                "store" => store::check(config, running),
                "ports" => ports::check(config, running).await,
                "certificates" => certificates::check(config, running),
                "plugins" => plugins::check(config),
                "clock" => clock::check(config),
                _ => upstream::check(config).await,
            },
        };
        findings.push((id, finding));
    }
    print(&findings, json)?;
    let bad = |finding: &Finding| match finding {
        Finding::Error(_) => true,
        Finding::Warning(_) => args.warnings_as_errors,
        Finding::Ok(_) | Finding::Skipped(_) => false,
    };
    Ok(!findings.iter().any(|(_, finding)| bad(finding)))
}

fn configured(config: &Config) -> Finding {
    Finding::Ok(format!(
        "edge {}, {}, {}, {}",
        config.edge,
        output::count(config.routes.len(), "route"),
        output::count(config.users.len(), "user"),
        match &config.upstream {
            Some(upstream) => {
                let ways = upstream.places.iter().flat_map(|place| &place.ways);
                format!("upstream {}", ways.map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            None => "no upstream: messages wait in the log".to_owned(),
        }
    ))
}

fn faults(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ConfigError>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

fn print(findings: &[(&str, Finding)], json: bool) -> anyhow::Result<()> {
    for (id, finding) in findings {
        if json {
            output::json(&Row { id, finding })?;
            continue;
        }
        let (mark, text) = match finding {
            Finding::Ok(text) => ("ok     ", text),
            Finding::Warning(text) => ("warning", text),
            Finding::Error(text) => ("error  ", text),
            Finding::Skipped(text) => ("skipped", text),
        };
        output::line(format!("{mark}  {id:<12}  {}", text.replace('\n', "\n                       ")));
    }
    Ok(())
}
