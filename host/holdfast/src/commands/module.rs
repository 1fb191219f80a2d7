//! `holdfast module`: make, build and inspect modules, fetch and push them.

use crate::{
    cli::{
        LanguageName, ModuleBuildArgs, ModuleCommand, ModuleInspectArgs, ModuleName, ModuleNewArgs,
        ModulePullArgs, ModulePushArgs,
    },
    dialer::Dialer,
    module::{
        build::{self, BuildOptions},
        inspect,
        languages::Language,
        new::{self, NewOptions, SdkSource},
    },
    output,
    registry::{self, Credentials, Reference, Signer, Verifier},
    run::ways::Network,
};
use anyhow::{Context, bail};
use holdfast_api::ModuleAction;
use holdfast_config::Config;
use holdfast_engine::{GRANTS_SECTION, Wants, base_of, with_wishes};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Carries out a `module` command. Gives whether all is well.
pub async fn run(file: Option<&Path>, command: &ModuleCommand, json: bool) -> anyhow::Result<bool> {
    match command {
        ModuleCommand::New(args) => create(args, json)?,
        ModuleCommand::Build(args) => build(args, json)?,
        ModuleCommand::Inspect(args) => inspect(args, json)?,
        ModuleCommand::Test(args) => return super::replay::run(args, json).await,
        ModuleCommand::Dev(args) => {
            let config = super::config(file)?;
            let plugins = args.plugins.as_ref().unwrap_or(&config.paths.plugins);
            super::develop::run(&config.paths.control, plugins, args).await?;
        }
        ModuleCommand::Pull(args) => pull(&super::config(file)?, args, json).await?,
        ModuleCommand::Push(args) => push(&super::config(file)?, args, json).await?,
        ModuleCommand::Promote(args) => change(file, ModuleAction::Promote, args, json).await?,
        ModuleCommand::Drop(args) => change(file, ModuleAction::Drop, args, json).await?,
    }
    Ok(true)
}

/// What is done with the next version of a module.
async fn change(
    file: Option<&Path>,
    action: ModuleAction,
    args: &ModuleName,
    json: bool,
) -> anyhow::Result<()> {
    let control = super::config(file)?.paths.control;
    super::list::change(&control, action, Some(args.module.clone()), json).await
}

fn create(args: &ModuleNewArgs, json: bool) -> anyhow::Result<()> {
    let options = NewOptions {
        name: args.name.clone(),
        directory: args.dir.as_ref().map(|dir| dir.join(&args.name)),
        sdk: SdkSource::parse(&args.sdk),
        language: match args.lang {
            LanguageName::Rust => Language::Rust,
            LanguageName::Python => Language::Python,
            LanguageName::Js => Language::JavaScript,
            LanguageName::C => Language::C,
        },
    };
    let created = new::create(&options)?;
    if json {
        return output::json(&serde_json::json!({
            "name": created.name, "directory": created.directory, "files": created.files, "sdk": created.sdk,
        }));
    }
    let folder = created.directory.display();
    output::line(format!(
        "made {folder} with {} files; the contract comes from {}",
        created.files.len(),
        created.sdk
    ));
    if options.language == Language::Rust {
        output::line(format!("test it:   cd {folder} && cargo test"));
    }
    output::line(format!("build it:  holdfast module build {folder} --install plugins"));
    Ok(())
}

fn build(args: &ModuleBuildArgs, json: bool) -> anyhow::Result<()> {
    let options =
        BuildOptions { directory: args.dir.clone(), into: args.install.clone(), asks: Some(with_wishes) };
    let built = build::build(&options, &mut |progress| output::note(progress))?;
    if json {
        return output::json(&serde_json::json!({
            "name": built.name, "component": built.component, "installed": built.installed, "bytes": built.bytes,
            "toolchain": built.toolchain, "elapsed_ms": built.elapsed.as_millis(),
            "imports": built.inspection.imports,
        }));
    }
    output::line(format!(
        "built {} ({}) with {} in {}",
        built.component.display(),
        output::bytes(built.bytes),
        built.toolchain,
        output::span(u64::try_from(built.elapsed.as_millis()).unwrap_or(u64::MAX))
    ));
    if let Some(installed) = built.installed {
        output::line(format!("installed {}", installed.display()));
    }
    Ok(())
}

/// The settings of a component: those beside it of its name, or of the module whose next version it is.
pub fn settings_of(component: &Path) -> PathBuf {
    let stem = component.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    component.with_file_name(format!("{}.toml", base_of(&stem).unwrap_or(&stem)))
}

fn inspect(args: &ModuleInspectArgs, json: bool) -> anyhow::Result<()> {
    let bytes = fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let found = inspect::inspect(&bytes);
    let faults = found.faults();
    let beside = settings_of(&args.file);
    let settings = fs::read_to_string(&beside).ok();
    // What asks or grants and cannot be understood is a fault that is told, and the rest is shown.
    let wants = Wants::of(&bytes, settings.as_deref().unwrap_or_default());
    if json {
        let granted = settings.is_some().then(|| wants.granted.as_ref().ok()).flatten();
        output::json(&serde_json::json!({
            "bytes": found.bytes, "imports": found.imports, "exports": found.exports, "purpose": found.purpose(),
            "needs": found.needs(), "inputs": wants.inputs.names(), "outputs": wants.outputs.names(),
            "asks": wants.asks.as_ref().ok(), "granted": granted, "unmet": wants.unmet, "faults": faults,
        }))?;
    } else {
        output::line(format!("{}: {}", args.file.display(), output::bytes(found.bytes)));
        for (title, interfaces) in [("imports", &found.imports), ("exports", &found.exports)] {
            for interface in interfaces {
                output::line(format!("  {title}  {interface}"));
            }
        }
        for (title, ports) in [("input", &wants.inputs), ("output", &wants.outputs)] {
            for name in ports.names().unwrap_or_default() {
                output::line(format!("  {title:<7}  {name}"));
            }
            if ports.names().is_some_and(<[String]>::is_empty) {
                output::line(format!("  it has no {title}"));
            }
        }
        for words in found.purpose() {
            output::line(format!("  it {words}"));
        }
        for words in found.needs() {
            output::line(format!("  it can use, if granted, {words}"));
        }
        let file = beside.display().to_string();
        for (title, from, lines) in
            [("asks for", GRANTS_SECTION, &wants.asks), ("is granted", &file, &wants.granted)]
        {
            for line in lines.iter().flatten() {
                output::line(format!("  it {title}  {line}  ({from})"));
            }
        }
        for line in &wants.unmet {
            output::line(format!("  it lacks  {line}"));
        }
        if settings.is_none() {
            output::line(format!("  nothing is granted: there is no {file}"));
        }
    }
    if let Err(why) = &wants.asks {
        bail!("{}: {why}", args.file.display());
    }
    if let Err(why) = &wants.granted {
        bail!("{} of {} is wrong: {why}", beside.display(), args.file.display());
    }
    if !faults.is_empty() {
        bail!("{} cannot run as a module: {}", args.file.display(), faults.join("; "));
    }
    Ok(())
}

/// Reaches registries as the host does.
fn dialer(config: &Config) -> anyhow::Result<Dialer> {
    Ok(Dialer::of(Network::of(&config.net)?))
}

/// Names and passwords: those of the file that is named, else of the configuration.
fn credentials(
    named: Option<&PathBuf>,
    config: &Config,
    reference: &Reference,
) -> anyhow::Result<Option<Credentials>> {
    match named.or(config.modules.registry_credentials.as_ref()) {
        Some(file) => Ok(Credentials::read(file, &reference.registry)?),
        None => Ok(None),
    }
}

async fn pull(config: &Config, args: &ModulePullArgs, json: bool) -> anyhow::Result<()> {
    let reference = Reference::parse(&args.reference).map_err(anyhow::Error::msg)?;
    let credentials = credentials(args.credentials.as_ref(), config, &reference)?;
    let keys = if args.key.is_empty() { &config.modules.signature_keys } else { &args.key };
    let verifier = Verifier::read(keys)?;
    let pulled = registry::pull(&dialer(config)?, &reference, credentials, verifier.as_ref()).await?;
    let faults = inspect::inspect(&pulled.component).faults();
    if !faults.is_empty() {
        bail!("{reference} cannot run as a module: {}", faults.join("; "));
    }
    if let Some(file) = &args.output {
        fs::write(file, &pulled.component)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let pinned = reference.pinned(&pulled.digest).to_string();
    if json {
        return output::json(&serde_json::json!({
            "reference": pinned, "digest": pulled.digest, "bytes": pulled.component.len(), "output": args.output,
            "signed": verifier.is_some(),
        }));
    }
    let bytes = output::bytes(pulled.component.len() as u64);
    let signed = if verifier.is_some() { ", signed by a known key" } else { "" };
    output::line(format!("{bytes}{signed}; to run it, put this into name.toml in the plugins folder:"));
    output::line(format!("[source]\noci = \"{pinned}\""));
    Ok(())
}

async fn push(config: &Config, args: &ModulePushArgs, json: bool) -> anyhow::Result<()> {
    let reference = Reference::parse(&args.reference).map_err(anyhow::Error::msg)?;
    let bytes = fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let faults = inspect::inspect(&bytes).faults();
    if !faults.is_empty() {
        bail!("{} cannot run as a module: {}", args.file.display(), faults.join("; "));
    }
    let credentials = credentials(args.credentials.as_ref(), config, &reference)?;
    let signer = args.sign_key.as_deref().map(Signer::read).transpose()?;
    let digest =
        registry::push(&dialer(config)?, &reference, credentials, bytes.into(), signer.as_ref()).await?;
    let pinned = reference.pinned(&digest).to_string();
    if json {
        return output::json(&serde_json::json!({
            "reference": pinned, "digest": digest, "signed": signer.is_some(),
        }));
    }
    output::line(format!("pushed {pinned}"));
    Ok(())
}
