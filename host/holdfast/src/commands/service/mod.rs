//! `holdfast service`: the edge as a service of the system.

#[cfg(not(windows))]
mod systemd;
#[cfg(windows)]
mod windows;

use crate::{cli::ServiceCommand, output};
use std::path::Path;
#[cfg(not(windows))]
use systemd as system;
#[cfg(windows)]
use windows as system;

/// Carries out a `service` command. `config` is the file that was named.
pub fn run(config: Option<&Path>, command: &ServiceCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ServiceCommand::Install(args) => system::install(config, args, json),
        ServiceCommand::Show(args) => {
            let text = system::text(config, args)?;
            if json {
                return output::json(&serde_json::json!({ "text": text }));
            }
            output::line(text.trim_end());
            Ok(())
        }
        ServiceCommand::Remove(args) => system::remove(args, json),
        // It is a run, and begins elsewhere.
        #[cfg(windows)]
        ServiceCommand::Run => Ok(()),
    }
}
