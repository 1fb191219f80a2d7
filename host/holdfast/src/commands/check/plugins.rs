//! Whether what lies in the plugins folder can run.

use super::Finding;
use crate::module::inspect::inspect;
use holdfast_config::Config;
use std::fs;

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
    let mut bad = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        match fs::read(&path) {
            Err(error) => bad.push(format!("{} cannot be read: {error}", path.display())),
            Ok(bytes) => match inspect(&bytes).faults().as_slice() {
                [] => good += 1,
                faults => bad.push(format!("{}: {}", path.display(), faults.join("; "))),
            },
        }
    }
    if bad.is_empty() {
        Finding::Ok(format!("{good} modules in {}", folder.display()))
    } else {
        Finding::Error(bad.join("\n"))
    }
}
