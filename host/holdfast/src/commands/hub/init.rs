//! `holdfast hub init`: a commented configuration, an authority for certificates, and a token for the API.

use crate::{certificates, cli::HubInitArgs, commands::init::named, identities::random, output};
use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use holdfast_config::Config;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where the token of the API is.
pub fn token_file(config: &Config) -> PathBuf {
    config.paths.data.join("api.token")
}

/// Makes the token unless it is there; only this user may read it.
pub fn make_token(file: &Path) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = match options.open(file) {
        Ok(out) => out,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    };
    let token = BASE64_URL_SAFE_NO_PAD.encode(random::<32>()?);
    out.write_all(format!("{token}\n").as_bytes())
        .and_then(|()| out.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Writes `hub.toml` into the folder. Never overwrites.
pub fn init(args: &HubInitArgs, json: bool) -> anyhow::Result<()> {
    let name = named(&args.name)?;
    let text = Config::default_hub_text(&name);
    let file = args.dir.join(super::DEFAULT_FILE);
    let config = Config::parse(&text, &file, &crate::commands::host_name())?;
    fs::create_dir_all(&config.paths.data)
        .with_context(|| format!("cannot make {}", config.paths.data.display()))?;
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut out) => {
            out.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
            "{} is there already and was left as it is; edit it, or choose another folder",
            file.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    }
    let (folder, now) = (certificates::folder(&config), SystemTime::now());
    folder.make_authority(&config.edge, now)?;
    folder.keep_server(&certificates::names(&config)?, now)?;
    let token = token_file(&config);
    make_token(&token)?;
    let authority = std::path::absolute(folder.authority()).unwrap_or_else(|_| folder.authority());
    if json {
        return output::json(&serde_json::json!({
            "file": file, "hub": args.name, "authority": authority, "token_file": token
        }));
    }
    output::line(format!("wrote {} for the hub {}", file.display(), args.name));
    output::line(format!("edges and devices need a copy of {}", authority.display()));
    output::line(format!("services need the token in {}", token.display()));
    output::line(format!("then: holdfast hub run --config {}", file.display()));
    Ok(())
}
