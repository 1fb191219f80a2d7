//! Whether the store's folder can be used.

use super::Finding;
use crate::output;
use holdfast_config::Config;
use std::{fs, io::Write};

pub fn check(config: &Config, running: bool) -> Finding {
    let folder = &config.paths.data;
    if running {
        return Finding::Ok(format!(
            "the running edge has {} open; see `holdfast queue list`",
            folder.display()
        ));
    }
    if let Err(error) = fs::create_dir_all(folder) {
        return Finding::Error(format!(
            "{} cannot be made: {error}; make it, or change paths.data",
            folder.display()
        ));
    }
    let probe = folder.join(".holdfast-check");
    let written = fs::File::create(&probe).and_then(|mut file| {
        file.write_all(b"check")?;
        file.sync_data()
    });
    // Removing the probe may fail only where writing has failed too.
    let _ = fs::remove_file(&probe);
    if let Err(error) = written {
        return Finding::Error(format!(
            "{} cannot be written: {error}; give this user the right to it, or change paths.data",
            folder.display()
        ));
    }
    match fs4::available_space(folder) {
        Ok(free) if free < config.store.quota_bytes => Finding::Warning(format!(
            "{} has {} free, and store.quota is {}: lower the quota or make room, or the disk is full before the quota is",
            folder.display(),
            output::bytes(free),
            output::bytes(config.store.quota_bytes)
        )),
        Ok(free) => Finding::Ok(format!("{} can be written, {} free", folder.display(), output::bytes(free))),
        Err(error) => {
            Finding::Warning(format!("the free space of {} is not known: {error}", folder.display()))
        }
    }
}
