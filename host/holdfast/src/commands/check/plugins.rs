//! Whether what lies in the plugins folder can run: components, and the settings beside them.

use super::Finding;
use crate::{
    commands::module::settings_of,
    module::{inspect::inspect, settings_text},
};
use holdfast_config::Config;
use holdfast_engine::Wants;
use std::{fs, io, path::Path};

pub fn check(config: &Config) -> Finding {
    let folder = &config.paths.plugins;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            return Finding::Warning(format!(
                "{} cannot be read: {error}; `holdfast init` makes it",
                folder.display()
            ));
        }
    };
    let mut good = 0;
    let (mut bad, mut lacks) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        match module(&path) {
            Ok(unmet) => {
                good += 1;
                lacks.extend(unmet.iter().map(|line| format!("{}: it asks for {line}", path.display())));
            }
            Err(fault) => bad.push(fault),
        }
    }
    // Folders have no order of their own.
    bad.sort();
    lacks.sort();
    if !bad.is_empty() {
        return Finding::Error(bad.join("\n"));
    }
    if !lacks.is_empty() {
        return Finding::Warning(lacks.join("\n"));
    }
    Finding::Ok(format!("{good} modules in {}", folder.display()))
}

/// What a component asks for and is not granted; or why it, or its settings, will not do.
fn module(component: &Path) -> Result<Vec<String>, String> {
    let unreadable = |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let bytes = fs::read(component).map_err(|error| unreadable(component, error))?;
    let faults = inspect(&bytes).faults();
    if !faults.is_empty() {
        return Err(format!("{}: {}", component.display(), faults.join("; ")));
    }
    let settings = settings_of(component);
    let text = settings_text(&settings).map_err(|error| unreadable(&settings, error))?;
    let wants = Wants::of(&bytes, &text);
    wants.granted.map_err(|faults| format!("{}: {faults}", settings.display()))?;
    wants.asks.map_err(|fault| format!("{}: {fault}", component.display()))?;
    Ok(wants.unmet)
}
