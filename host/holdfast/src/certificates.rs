//! The certificates of this edge: where they are, whose names they hold, what they say.

use anyhow::Context;
use holdfast_config::Config;
use holdfast_pki::{Facts, Folder, Names};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

/// Left of a life when people are warned: a week to find out why nothing was renewed.
pub const WARN: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of the local authority.
pub fn folder(config: &Config) -> Folder {
    Folder::new(config.paths.data.join("certificates"))
}

/// Whether some door shows a certificate.
pub fn are_shown(config: &Config) -> bool {
    config.gateway.listen.iter().any(|listen| listen.transport.is_encrypted())
}

/// The names by which devices may know this edge: those in the configuration, its own name, that of the machine, the
/// addresses that it listens on, and those of this machine to itself.
pub fn names(config: &Config) -> anyhow::Result<Names> {
    let given = &config.gateway.host_names;
    let first = given.first().map_or(config.edge.as_str(), String::as_str);
    let mut names = Names::new(first)?;
    for name in given.iter().skip(1) {
        names.add(name).context("gateway.host_names")?;
    }
    names.add(&config.edge)?;
    // A machine may have a name that no certificate can hold; then devices do not use it either.
    let _ = names.add(&crate::commands::host_name());
    for name in ["localhost", "127.0.0.1", "::1"] {
        names.add(name)?;
    }
    for address in config.gateway.listen.iter().map(|listen| listen.address.ip()) {
        if !address.is_unspecified() {
            names.add(&address.to_string())?;
        }
    }
    Ok(names)
}

/// What the certificate in a file says.
pub fn facts(file: &Path) -> anyhow::Result<Facts> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read; check that this user may read it", file.display()))?;
    Facts::read(&text).with_context(|| file.display().to_string())
}

/// How long a certificate is good, for people.
pub fn time_left(facts: &Facts, now: SystemTime) -> String {
    let left = facts.left(now);
    if left.is_zero() {
        let past = now.duration_since(facts.not_after).unwrap_or_default();
        return format!("expired {} ago", span(past));
    }
    match facts.not_before.duration_since(now) {
        Ok(wait) if !wait.is_zero() => format!("begins in {}", span(wait)),
        _ => format!("good for {}", span(left)),
    }
}

fn span(time: Duration) -> String {
    let days = time.as_secs() / (24 * 3600);
    if days >= 2 {
        return format!("{days} days");
    }
    crate::output::span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
