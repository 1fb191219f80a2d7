//! `holdfast init`: a commented configuration, the folders it names, and an authority for its certificates.

use crate::{certificates, cli::InitArgs, output};
use anyhow::{Context, bail};
use holdfast_config::{Config, edge_name};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::SystemTime,
};

/// The name that was given for an edge or a hub, if it can be one.
pub fn named(name: &str) -> anyhow::Result<String> {
    let fitting = edge_name(name);
    if *fitting != *name {
        bail!("{name:?} cannot be the name; write letters, digits, hyphens and dots, such as {fitting:?}");
    }
    Ok(name.to_owned())
}

/// Writes `holdfast.toml` into the folder. Never overwrites.
pub fn run(args: &InitArgs, json: bool) -> anyhow::Result<()> {
    let edge = match &args.edge {
        Some(name) => named(name)?,
        None => edge_name(&super::host_name()).to_string(),
    };
    let text = Config::default_text(&edge);
    let file = args.dir.join("holdfast.toml");
    let config = Config::parse(&text, &file, &super::host_name())
        .with_context(|| format!("the edge's name {edge:?} cannot be used"))?;
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let mut out = match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(out) => out,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} is there already and was left as it is; edit it, or choose another folder",
                file.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    };
    out.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    for folder in [&config.paths.data, &config.paths.plugins] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (folder, now) = (certificates::folder(&config), SystemTime::now());
    folder.make_authority(&config.edge, now)?;
    folder.keep_server(&certificates::names(&config)?, now)?;
    let authority = std::path::absolute(folder.authority()).unwrap_or_else(|_| folder.authority());
    if json {
        return output::json(&serde_json::json!({
            "file": file, "edge": edge, "plugins": config.paths.plugins, "authority": authority
        }));
    }
    output::line(format!("wrote {} for the edge {edge}", file.display()));
    output::line(format!("devices that connect with TLS need a copy of {}", authority.display()));
    output::line(format!(
        "put modules into {}, then: holdfast run --config {}",
        config.paths.plugins.display(),
        file.display()
    ));
    Ok(())
}
