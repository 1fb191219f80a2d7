//! This very binary, started as a process of its own, so that killing it is real.

use anyhow::Context;
use std::{fs::OpenOptions, path::Path, process::Stdio};
use tokio::process::{Child, Command};

/// Starts it with a configuration and a command; what it says goes to the end of a file.
pub fn start(config: &Path, command: &[&str], log: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    Command::new(program)
        .arg("--config")
        .arg(config)
        .args(command)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("holdfast {} could not be started", command.join(" ")))
}
