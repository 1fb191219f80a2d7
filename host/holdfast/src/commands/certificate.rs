//! `holdfast certificate`: the certificates of this edge.

use crate::{
    certificates,
    cli::{CertificateCommand, DeviceCertArgs},
    output,
};
use anyhow::bail;
use holdfast_config::Config;
use holdfast_pki::Facts;
use holdfast_types::Name;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A certificate as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    what: &'a str,
    file: &'a Path,
    subject: &'a str,
    issuer: &'a str,
    names: &'a [String],
    not_before_s: u64,
    not_after_s: u64,
    renewal_s: Option<u64>,
    sha256: &'a str,
}

/// Does what was asked.
pub fn run(config: &Config, command: &CertificateCommand, json: bool) -> anyhow::Result<()> {
    match command {
        CertificateCommand::Show => show(config, json),
        CertificateCommand::Renew => renew(config, json),
    }
}

fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let folder = certificates::folder(config);
    if let Some(own) = &config.gateway.identity {
        one("server", &own.cert_file, &certificates::facts(&own.cert_file)?, Renewed::ByYou, json)?;
    }
    if !folder.has_authority() {
        if config.gateway.identity.is_none() {
            bail!(
                "there is no authority in {}; `holdfast init` makes one, and so does `holdfast run` if something listens with TLS",
                folder.authority().parent().unwrap_or(Path::new(".")).display()
            );
        }
        return Ok(());
    }
    one("authority", &folder.authority(), &certificates::facts(&folder.authority())?, Renewed::Never, json)?;
    if folder.server().exists() && config.gateway.identity.is_none() {
        one("server", &folder.server(), &certificates::facts(&folder.server())?, Renewed::ByHost, json)?;
    }
    if !json {
        output::line(format!("devices trust this edge by a copy of {}", shown(folder.authority()).display()));
    }
    Ok(())
}

fn renew(config: &Config, json: bool) -> anyhow::Result<()> {
    if let Some(own) = &config.gateway.identity {
        bail!(
            "this edge shows {}, which its own authority did not issue; put a new certificate and key there, and the \
             running edge takes them within 10 s",
            own.cert_file.display()
        );
    }
    let (folder, now) = (certificates::folder(config), SystemTime::now());
    folder.make_authority(&config.edge, now)?;
    let facts = folder.renew_server(&certificates::names(config)?, now)?;
    one("server", &folder.server(), &facts, Renewed::ByHost, json)?;
    if !json {
        output::line("a running edge shows it within 10 s; connections go on");
    }
    Ok(())
}

/// Issues a certificate for a device, into new files.
pub fn issue(config: &Config, args: &DeviceCertArgs, json: bool) -> anyhow::Result<()> {
    let device = Name::new(&args.device)?;
    let (folder, now) = (certificates::folder(config), SystemTime::now());
    folder.make_authority(&config.edge, now)?;
    let life = Duration::from_secs(u64::from(args.days) * 24 * 3600);
    let issued = folder.load()?.issue_to_device(&device, life, now)?;
    let facts = Facts::read(&issued.certificate)?;
    let name = file_name(&device);
    let (certificate, key) = (args.out.join(format!("{name}.pem")), args.out.join(format!("{name}.key")));
    holdfast_pki::write_new(&issued, &certificate, &key)?;
    if json {
        return output::json(&serde_json::json!({
            "device": device.as_str(), "certificate": certificate, "key": key,
            "not_after_s": seconds(facts.not_after), "sha256": facts.sha256,
        }));
    }
    output::line(format!("{} {}", certificate.display(), certificates::time_left(&facts, now)));
    output::line(format!("{} for this user alone", key.display()));
    output::line(format!("the device is let in with it once it is added: holdfast device add {device} --ca"));
    Ok(())
}

/// Names of devices may hold what some systems take for something else in names of files.
fn file_name(device: &Name) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    device.as_str().chars().map(safe).collect()
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Who renews a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Never,
    ByHost,
    ByYou,
}

fn one(what: &str, file: &Path, facts: &Facts, renewed: Renewed, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&Row {
            what,
            file,
            subject: &facts.subject,
            issuer: &facts.issuer,
            names: &facts.names,
            not_before_s: seconds(facts.not_before),
            not_after_s: seconds(facts.not_after),
            renewal_s: (renewed == Renewed::ByHost).then(|| seconds(facts.renewal())),
            sha256: &facts.sha256,
        });
    }
    output::line(format!("{what:<10} {}", shown(file.to_owned()).display()));
    output::line(format!("  {} from {}", facts.subject, facts.issuer));
    if !facts.names.is_empty() {
        output::line(format!("  for {}", facts.names.join(", ")));
    }
    let how = match renewed {
        Renewed::Never => "",
        Renewed::ByHost => "; the running edge renews it in time",
        Renewed::ByYou => "; replace its files in time",
    };
    output::line(format!("  {}{how}", certificates::time_left(facts, SystemTime::now())));
    output::line(format!("  SHA-256 {}", facts.sha256));
    Ok(())
}

/// The path from the root, since it is typed elsewhere.
fn shown(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
