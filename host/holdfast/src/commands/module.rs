//! `holdfast module`: make, build and inspect modules.

use crate::{
    cli::{ModuleBuildArgs, ModuleCommand, ModuleInspectArgs, ModuleNewArgs},
    module::{
        build::{self, BuildOptions},
        inspect,
        new::{self, NewOptions, SdkSource},
    },
    output,
};
use anyhow::{Context, bail};
use std::fs;

/// Carries out a `module` command.
pub fn run(command: &ModuleCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ModuleCommand::New(args) => create(args, json),
        ModuleCommand::Build(args) => build(args, json),
        ModuleCommand::Inspect(args) => inspect(args, json),
    }
}

fn create(args: &ModuleNewArgs, json: bool) -> anyhow::Result<()> {
    let options = NewOptions {
        name: args.name.clone(),
        directory: args.dir.as_ref().map(|dir| dir.join(&args.name)),
        sdk: SdkSource::parse(&args.sdk),
    };
    let created = new::create(&options)?;
    if json {
        return output::json(&serde_json::json!({
            "name": created.name, "directory": created.directory, "files": created.files, "sdk": created.sdk,
        }));
    }
    let folder = created.directory.display();
    output::line(format!(
        "made {folder} with {} files; the SDK comes from {}",
        created.files.len(),
        created.sdk
    ));
    output::line(format!("test it:   cd {folder} && cargo test"));
    output::line(format!("build it:  holdfast module build {folder} --install plugins"));
    Ok(())
}

fn build(args: &ModuleBuildArgs, json: bool) -> anyhow::Result<()> {
    let options = BuildOptions { directory: args.dir.clone(), into: args.install.clone() };
    let built = build::build(&options, &mut |progress| output::note(progress))?;
    if json {
        return output::json(&serde_json::json!({
            "name": built.name, "component": built.component, "installed": built.installed, "bytes": built.bytes,
            "toolchain": built.toolchain.version(), "elapsed_ms": built.elapsed.as_millis(),
            "imports": built.inspection.imports,
        }));
    }
    output::line(format!(
        "built {} ({}) with {} in {}",
        built.component.display(),
        output::bytes(built.bytes),
        built.toolchain.version(),
        output::span(u64::try_from(built.elapsed.as_millis()).unwrap_or(u64::MAX))
    ));
    if let Some(installed) = built.installed {
        output::line(format!("installed {}", installed.display()));
    }
    Ok(())
}

fn inspect(args: &ModuleInspectArgs, json: bool) -> anyhow::Result<()> {
    let bytes = fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let found = inspect::inspect(&bytes);
    let faults = found.faults();
    if json {
        output::json(&serde_json::json!({
            "bytes": found.bytes, "imports": found.imports, "exports": found.exports, "faults": faults,
        }))?;
    } else {
        output::line(format!("{}: {}", args.file.display(), output::bytes(found.bytes)));
        for (title, interfaces) in [("imports", &found.imports), ("exports", &found.exports)] {
            for interface in interfaces {
                output::line(format!("  {title}  {interface}"));
            }
        }
    }
    if !faults.is_empty() {
        bail!("{} cannot run as a module: {}", args.file.display(), faults.join("; "));
    }
    Ok(())
}
