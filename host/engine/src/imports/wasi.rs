//! WASI 0.2 for one instance: clocks and random as they are; standard output as log lines; the granted directories and
//! the module's own environment; sockets reach the granted hosts.

use super::network::Reach;
use super::stdio::Lines;
use crate::logs::LogLevel;
use crate::module_log::ModuleLog;
use crate::settings::Settings;
use wasmtime_wasi::{FsPerms, WasiCtx};

/// Why a granted directory could not be given.
#[derive(Debug, thiserror::Error)]
#[error(
    "the directory {host} is granted but cannot be opened ({reason}); make it, say optional = true, or take the line \
     out of [grants] directories"
)]
pub(crate) struct NoDirectory {
    host: String,
    reason: String,
}

/// The WASI context of a new instance.
pub(crate) fn context(
    name: &str,
    settings: &Settings,
    log: &ModuleLog,
    reach: &Reach,
) -> Result<WasiCtx, NoDirectory> {
    let mut wasi = WasiCtx::builder();
    wasi.arg(name)
        .args(&settings.arguments)
        .stdout(Lines::stdout(log.clone()))
        .stderr(Lines::stderr(log.clone()));
    // Sockets are there for modules whose language links them always; without a grant every address is refused.
    let some = !settings.hosts.is_empty();
    wasi.allow_tcp(some).allow_udp(false).allow_ip_name_lookup(some);
    let reached = reach.clone();
    wasi.socket_addr_check(move |address, used| reached.check(address, used));
    for (key, value) in &settings.environment {
        wasi.env(key, value);
    }
    for grant in &settings.directories {
        if grant.optional && !grant.host.exists() {
            let host = grant.host.display();
            log.host(
                LogLevel::Info,
                &format!("{host} is not there; its grant is optional, so it is left out"),
            );
            continue;
        }
        let may = if grant.write && !reach.shadow { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&grant.host, &grant.guest, may).map_err(|error| NoDirectory {
            host: grant.host.display().to_string(),
            reason: error.root_cause().to_string(),
        })?;
    }
    Ok(wasi.build())
}
