//! Whether the certificates that the doors show are good, and stay so.

use super::Finding;
use crate::{
    certificates,
    run::{doors, parts},
};
use holdfast_config::Config;
use holdfast_net::{ClientAuth, ServerTls, ServerTlsConfig};
use holdfast_pki::{Facts, Life};
use std::{path::Path, time::SystemTime};

pub fn check(config: &Config, running: bool) -> Finding {
    if let Err(error) = parts::named_authorities(config) {
        return Finding::Error(format!("{error:#}"));
    }
    if !certificates::are_shown(config) {
        return Finding::Ok("nothing listens with TLS".to_owned());
    }
    let (folder, own) = (certificates::folder(config), config.gateway.identity.as_ref());
    let file = match own {
        Some(own) => own.cert_file.clone(),
        None if !folder.has_authority() || !folder.server().exists() => {
            return Finding::Ok(format!(
                "the authority and the certificate of this edge are made at its start; devices then need {}",
                folder.authority().display()
            ));
        }
        None => folder.server(),
    };
    if own.is_none()
        && let Some(finding) = authority(&folder.authority())
    {
        return finding;
    }
    let facts = match certificates::facts(&file) {
        Ok(facts) => facts,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    let tls =
        ServerTls::build(&ServerTlsConfig { identity: doors::identity(config), clients: ClientAuth::None });
    if let Err(fault) = tls {
        return Finding::Error(fault.to_string());
    }
    let fix = match (own, running) {
        (Some(_), _) => "put a new certificate and its key in place of these files",
        (None, true) => {
            "the running edge should have renewed it: look at its log, or try `holdfast certificate renew`"
        }
        (None, false) => "it is renewed at the next start, or now with `holdfast certificate renew`",
    };
    let now = SystemTime::now();
    let (file, left) = (file.display(), certificates::time_left(&facts, now));
    match facts.life(now) {
        Life::Expired => Finding::Error(format!("{file} {left}: {fix}")),
        Life::NotYet => Finding::Error(format!("{file} {left}: look at the clock of this machine, or {fix}")),
        // One of our own is renewed a little later than people are warned of others.
        Life::Due if own.is_none() || facts.left(now) < certificates::WARN => {
            Finding::Warning(format!("{file} is {left} only: {fix}"))
        }
        Life::Good if own.is_some() && facts.left(now) < certificates::WARN => {
            Finding::Warning(format!("{file} is {left} only: {fix}"))
        }
        Life::Due | Life::Good => Finding::Ok(format!("{left}, for {}", facts.names.join(", "))),
    }
}

/// What is wrong with the authority, if anything is.
fn authority(file: &Path) -> Option<Finding> {
    let facts: Facts = match certificates::facts(file) {
        Ok(facts) => facts,
        Err(error) => return Some(Finding::Error(format!("{error:#}"))),
    };
    let now = SystemTime::now();
    let left = certificates::time_left(&facts, now);
    let fix = "move its folder away, and the next start makes a new authority, whose certificate every device needs";
    match facts.life(now) {
        Life::Expired => Some(Finding::Error(format!("the authority in {} {left}: {fix}", file.display()))),
        _ if facts.left(now) < certificates::WARN => {
            Some(Finding::Warning(format!("the authority in {} is {left} only: {fix}", file.display())))
        }
        _ => None,
    }
}
