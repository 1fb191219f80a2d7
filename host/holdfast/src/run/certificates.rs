//! Keeps the certificate that devices are shown good and in step with its files, without dropping a connection.

use crate::certificates;
use holdfast_config::Config;
use holdfast_net::ServerTls;
use holdfast_pki::{Folder, Kept, Life, Names};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at: a renewal is shown within this time, and a few small files are read.
const LOOK: Duration = Duration::from_secs(10);

/// What is looked after.
pub struct Keeper {
    tls: ServerTls,
    /// The local authority and the names of this edge; none where the certificate is somebody else's.
    local: Option<(Folder, Names)>,
    /// That certificate, which nobody here can renew.
    foreign: Option<PathBuf>,
    /// What was wrong at the last look. It is said when it begins.
    wrong: Option<String>,
}

/// Makes sure that the doors have a certificate, if one of them needs it: makes the authority at the first start, and
/// issues what is missing or too old.
pub fn prepare(config: &Config) -> anyhow::Result<()> {
    let Some((folder, names)) = local(config)? else { return Ok(()) };
    let now = SystemTime::now();
    if folder.make_authority(&config.edge, now)? {
        tracing::info!(
            file = %folder.authority().display(),
            "made an authority for this edge; devices that connect with TLS need a copy of this file"
        );
    }
    if let Kept::Issued(facts, reason) = folder.keep_server(&names, now)? {
        tracing::info!(names = facts.names.join(" "), %reason, "issued a certificate for this edge");
    }
    Ok(())
}

fn local(config: &Config) -> anyhow::Result<Option<(Folder, Names)>> {
    if config.gateway.identity.is_some() || !certificates::are_shown(config) {
        return Ok(None);
    }
    Ok(Some((certificates::folder(config), certificates::names(config)?)))
}

impl Keeper {
    /// Looks after what `tls` shows.
    pub fn new(config: &Config, tls: ServerTls) -> anyhow::Result<Self> {
        let foreign = config.gateway.identity.as_ref().map(|own| own.cert_file.clone());
        Ok(Self { tls, local: local(config)?, foreign, wrong: None })
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        // A machine that slept looks once.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => self.look(SystemTime::now()),
            }
        }
    }

    fn look(&mut self, now: SystemTime) {
        let wrong = self.renew(now).and_then(|()| self.show()).and_then(|()| self.is_good(now)).err();
        if let Some(fault) = &wrong
            && self.wrong.as_ref() != Some(fault)
        {
            tracing::warn!(%fault, "devices are shown a certificate that is not in order; the last one that could be used is shown on");
        }
        self.wrong = wrong;
    }

    fn renew(&self, now: SystemTime) -> Result<(), String> {
        let Some((folder, names)) = &self.local else { return Ok(()) };
        if let Kept::Issued(_, reason) = folder.keep_server(names, now).map_err(|error| error.to_string())? {
            tracing::info!(%reason, "issued a new certificate for this edge");
        }
        Ok(())
    }

    /// Devices refuse a certificate that is past its time, and only they would say so.
    fn is_good(&self, now: SystemTime) -> Result<(), String> {
        let Some(file) = &self.foreign else { return Ok(()) };
        let facts = certificates::facts(file).map_err(|error| format!("{error:#}"))?;
        match facts.life(now) {
            Life::Good | Life::Due => Ok(()),
            Life::Expired | Life::NotYet => Err(format!(
                "the certificate in {} is past its time or before it; put another one and its key there",
                file.display()
            )),
        }
    }

    fn show(&self) -> Result<(), String> {
        // Files that are replaced one by one do not fit together for a moment; the next look finds both.
        if self.tls.reload().map_err(|fault| fault.to_string())? {
            tracing::info!("a new certificate is shown to devices from now on");
        }
        Ok(())
    }
}
