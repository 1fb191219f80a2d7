//! `holdfast deployment`: manifests of Azure IoT Edge.

use super::client;
use crate::{
    cli::{DeploymentApplyArgs, DeploymentCommand, DeploymentFiles},
    output::{self, Table},
};
use anyhow::{Context, bail};
use holdfast_api::{DeploymentAction, DeploymentItem, DeploymentRequest, Item, Request};
use holdfast_config::{
    Config,
    manifest::{
        Deployment, Document, Faults, MANIFEST_BYTES_MAX, Module, NotCarried, flatten, import_layered,
    },
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Characters of a value that a row has room for.
const VALUE_CHARACTERS: usize = 60;

/// The code that IoT Edge gives what has been applied.
const APPLIED: u16 = 200;

/// Carries out a `deployment` command. Gives whether all is well.
pub async fn run(config: &Config, command: &DeploymentCommand, json: bool) -> anyhow::Result<bool> {
    let control = &config.paths.control;
    match command {
        DeploymentCommand::Check(args) => check(config, args, json),
        DeploymentCommand::Apply(args) => apply(control, args, json).await,
        DeploymentCommand::Show => ask(control, DeploymentAction::Show, false, json).await.map(|_| true),
        DeploymentCommand::Clear => Ok(ask(control, DeploymentAction::Clear, true, json).await? == APPLIED),
    }
}

async fn apply(control: &Path, args: &DeploymentApplyArgs, json: bool) -> anyhow::Result<bool> {
    let files = &args.files.files;
    let texts = files.iter().map(|file| text(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let manifest = match documents(files, &texts).as_slice() {
        [one] => one.json.to_vec(),
        several => flatten(several)?,
    };
    let name =
        files.first().and_then(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned());
    let id = args.id.clone().or(name).unwrap_or_default();
    let manifest = String::from_utf8(manifest).context("the manifest is no UTF-8")?;
    Ok(ask(control, DeploymentAction::Apply { id, manifest }, args.wait, json).await? == APPLIED)
}

/// Asks the running edge and prints how the deployment stands. Gives its code.
async fn ask(control: &Path, action: DeploymentAction, wait: bool, json: bool) -> anyhow::Result<u16> {
    let request = Request::Deployment(DeploymentRequest { action, wait });
    let items = client::ask(control, &request).await?;
    let [Item::Deployment(found)] = items.as_slice() else {
        bail!("the edge gave an unexpected answer: {items:?}")
    };
    if json {
        output::json(found)?;
    } else {
        print(found);
    }
    Ok(found.code)
}

fn print(found: &DeploymentItem) {
    let DeploymentItem { id, phase, code, reason, .. } = found;
    if phase == "none" {
        output::line("nothing is deployed; the edge runs as its holdfast.toml says");
    } else {
        let code = if *code == 0 { String::new() } else { format!(", code {code}") };
        output::line(format!("deployment {} of the {}: {phase}{code}", output::foreign(id), found.origin));
    }
    for line in reason.iter().flat_map(|reason| reason.lines()) {
        output::line(format!("  {}", output::foreign(line)));
    }
    let running = match &found.running {
        Some(running) if running != id => Some(format!("deployment {}", output::foreign(running))),
        None if phase != "none" => Some("what holdfast.toml and the plugins folder say".to_owned()),
        _ => None,
    };
    if let Some(running) = running {
        output::line(format!("running: {running}"));
    }
    if !found.modules.is_empty() {
        let mut rows = Table::new(["MODULE", "STATE", "IMAGE", "DETAIL"]);
        for module in &found.modules {
            let detail = module.detail.as_deref().map(output::foreign).unwrap_or_default();
            rows.row([module.name.clone(), module.state.clone(), module.image.clone(), detail]);
        }
        rows.print();
    }
    if found.running.is_some() {
        let all = found.not_carried.iter().map(|one| (one.pointer.as_str(), &one.value, one.reason.as_str()));
        not_carried(all.collect());
    }
}

fn check(config: &Config, args: &DeploymentFiles, json: bool) -> anyhow::Result<bool> {
    match read(&args.files)? {
        Ok(deployment) => show(config, &deployment, json).map(|()| true),
        Err(faults) if json => {
            for fault in faults.iter() {
                output::json(&json!({
                    "fault": {
                        "document": fault.document, "pointer": fault.pointer, "code": fault.code.status(),
                        "reason": fault.reason, "fix": fault.fix,
                    },
                }))?;
            }
            Ok(false)
        }
        Err(faults) => bail!("{faults}"),
    }
}

/// Reads manifests from files.
fn read(files: &[PathBuf]) -> anyhow::Result<Result<Deployment, Faults>> {
    let texts = files.iter().map(|file| text(file)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(import_layered(&documents(files, &texts)))
}

/// Each file with its name, if there are several.
fn documents<'a>(files: &'a [PathBuf], texts: &'a [Vec<u8>]) -> Vec<Document<'a>> {
    let name = |file: &'a PathBuf| if files.len() > 1 { file.to_str().unwrap_or_default() } else { "" };
    files.iter().zip(texts).map(|(file, json)| Document { name: name(file), priority: None, json }).collect()
}

/// Reads a file, and no more of it than a manifest may have.
pub fn text(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let bytes_max = MANIFEST_BYTES_MAX as u64 + 1;
    File::open(file)
        .and_then(|open| open.take(bytes_max).read_to_end(&mut text))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}

fn show(config: &Config, deployment: &Deployment, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&as_json(config, deployment));
    }
    let mut rows = Table::new(["MODULE", "STATUS", "RESTART", ">ORDER", "IMAGE", "COMPONENT"]);
    for (name, module) in &deployment.modules {
        rows.row([
            name.to_string(),
            if module.running { "running" } else { "stopped" }.to_owned(),
            module.restart.as_str().to_owned(),
            if module.start_order == u32::MAX { "last".to_owned() } else { module.start_order.to_string() },
            module.image.to_string(),
            component(config, name, module).map_or_else(|missing| missing, |file| file.display().to_string()),
        ]);
    }
    rows.print();
    match &deployment.routes {
        None => output::line("routes: those of holdfast.toml stay, there is no $edgeHub"),
        Some(routes) => {
            let mut rows = Table::new(["ROUTE", "PRIORITY", ">TTL S", "TEXT"]);
            for route in routes {
                rows.row([
                    route.name.to_string(),
                    route.priority.to_string(),
                    route.time_to_live_secs.filter(|s| *s > 0).map_or_else(String::new, |s| s.to_string()),
                    route.text.clone(),
                ]);
            }
            rows.print();
        }
    }
    if let Some(time) = deployment.time_to_live {
        let time = time.map_or_else(|| "for ever".to_owned(), |time| format!("{} s", time.as_secs()));
        output::line(format!("messages are kept {time} where their route says nothing"));
    }
    for (name, desired) in &deployment.desired {
        let text = Value::Object(desired.clone()).to_string();
        output::line(format!("desired of {name}: {}", output::body(text.as_bytes(), VALUE_CHARACTERS)));
    }
    let all =
        deployment.not_carried.iter().map(|one| (one.pointer.as_str(), &one.value, one.reason.as_str()));
    not_carried(all.collect());
    Ok(())
}

/// Prints what is not carried over: where it stands, what it is, and why.
fn not_carried(all: Vec<(&str, &Value, &str)>) {
    if all.is_empty() {
        return output::line("everything is carried over");
    }
    output::line(format!("{} not carried over:", output::count(all.len(), "value")));
    for (pointer, value, reason) in all {
        let value = output::body(value.to_string().as_bytes(), VALUE_CHARACTERS);
        output::line(format!("  {} = {value}\n      {reason}", output::foreign(pointer)));
    }
}

/// The file in which the component of a module lies, or which are missing.
fn component(config: &Config, name: &str, module: &Module) -> Result<PathBuf, String> {
    let files = module.image.files(name);
    let paths = files.iter().map(|file| config.paths.plugins.join(file));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| format!("missing: {}", files.join(" or ")))
}

fn as_json(config: &Config, deployment: &Deployment) -> Value {
    let modules: Vec<Value> = deployment
        .modules
        .iter()
        .map(|(name, module)| {
            json!({
                "name": name.as_str(), "image": module.image.to_string(),
                "status": if module.running { "running" } else { "stopped" },
                "restartPolicy": module.restart.as_str(), "startupOrder": module.start_order,
                "imagePullPolicy": module.pull.as_str(), "env": module.environment, "version": module.version,
                "component": component(config, name, module).ok(),
            })
        })
        .collect();
    let routes = deployment.routes.as_ref().map(|routes| {
        let one = |route: &holdfast_routes::RouteDefinition| {
            json!({
                "name": &*route.name, "route": route.text, "priority": route.priority.level(),
                "timeToLiveSecs": route.time_to_live_secs,
            })
        };
        routes.iter().map(one).collect::<Vec<_>>()
    });
    let desired: serde_json::Map<String, Value> = deployment
        .desired
        .iter()
        .map(|(name, twin)| (name.to_string(), Value::Object(twin.clone())))
        .collect();
    json!({
        "modules": modules,
        "routes": routes,
        "timeToLiveSecs": deployment.time_to_live.map(|time| time.map_or(-1.0, |time| time.as_secs_f64())),
        "desired": desired,
        "notCarried": deployment.not_carried.iter().map(not_carried_json).collect::<Vec<_>>(),
    })
}

/// One thing that is not carried over, for programs.
fn not_carried_json(one: &NotCarried) -> Value {
    json!({ "document": one.document, "pointer": one.pointer, "value": one.value, "reason": one.reason })
}
