//! `holdfast hub concierge …`: which hub is the active one, signed. The key may lie where no hub is.

use super::super::logs;
use crate::{
    cli::{HubConciergeCommand, HubConciergeKey, HubConciergeSign},
    identities::random,
    output,
};
use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_config::Config;
use holdfast_link::{ActiveHub, ConciergeAnswer, Document};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What a hub answers `/concierge` with.
pub fn statement_file(config: &Config) -> PathBuf {
    config.paths.data.join("concierge.json")
}

pub fn run(named: Option<&Path>, command: &HubConciergeCommand, json: bool) -> anyhow::Result<()> {
    match command {
        HubConciergeCommand::Key(args) => key(named, args, json),
        HubConciergeCommand::Sign(args) => sign(named, args, json),
    }
}

fn key_file(named: Option<&Path>, args: &HubConciergeKey) -> anyhow::Result<PathBuf> {
    match &args.key_file {
        Some(file) => Ok(file.clone()),
        None => Ok(super::config(named)?.paths.data.join("concierge.key")),
    }
}

fn key(named: Option<&Path>, args: &HubConciergeKey, json: bool) -> anyhow::Result<()> {
    let file = key_file(named, args)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    match options.open(&file) {
        Ok(mut out) => {
            let text = format!("{}\n", BASE64_STANDARD.encode(random::<32>()?));
            out.write_all(text.as_bytes())
                .and_then(|()| out.sync_all())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    }
    let public_key = BASE64_STANDARD.encode(pair(&file)?.public_key());
    if json {
        return output::json(&json!({ "key_file": file, "public_key": public_key }));
    }
    output::note(format!("the private key is {}; edges need this in [upstream.concierge]:", file.display()));
    output::line(format!("public_key = \"{public_key}\""));
    Ok(())
}

fn pair(file: &Path) -> anyhow::Result<Ed25519KeyPair> {
    let text = fs::read_to_string(file).with_context(|| {
        format!("the key {} cannot be read; `holdfast hub concierge key` makes one", file.display())
    })?;
    let seed = BASE64_STANDARD.decode(text.trim()).unwrap_or_default();
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| {
        anyhow!(
            "{} is no key of a concierge: 32 bytes in base64; `holdfast hub concierge key` makes one",
            file.display()
        )
    })
}

fn sign(named: Option<&Path>, args: &HubConciergeSign, json: bool) -> anyhow::Result<()> {
    let pair = pair(&key_file(named, &args.key)?)?;
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the clock of this machine is before 1970")?;
    let issued_ms = u64::try_from(now.as_millis())?;
    let expires_ms = issued_ms.saturating_add(logs::age_ms(&args.valid)?);
    let statement = ActiveHub { active: args.active.clone(), issued_ms, expires_ms }.encode()?;
    let signature = BASE64_STANDARD.encode(pair.sign(&statement));
    let answer = ConciergeAnswer { statement: String::from_utf8(statement.to_vec())?, signature }.encode()?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => statement_file(&super::config(named)?),
    };
    if out == Path::new("-") {
        output::line(String::from_utf8(answer.to_vec())?);
        return Ok(());
    }
    // Whoever reads it meanwhile gets the one or the other whole.
    let beside = out.with_extension("new");
    fs::write(&beside, &answer).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, &out).with_context(|| format!("cannot write {}", out.display()))?;
    if json {
        return output::json(&json!({ "file": out, "active": args.active, "expires_ms": expires_ms }));
    }
    output::line(format!(
        "{} says that {} is the active hub, for {}",
        out.display(),
        args.active,
        args.valid
    ));
    Ok(())
}
