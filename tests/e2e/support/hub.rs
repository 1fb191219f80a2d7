//! A hub of the binary under test, in a folder of its own.

use super::{edge::Answer, free_port, holdfast, process::Process, wait_for};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};
use tempfile::TempDir;

/// A hub: a folder, a configuration, and a process when it runs.
pub struct Hub {
    // Before the folder, which its end is still read from.
    process: Option<Process>,
    dir: TempDir,
}

impl Hub {
    /// A folder that `holdfast hub init` has filled, with these entries of `gateway.listen` and more configuration.
    pub fn prepare(listen: &[String], host: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        holdfast(dir.path(), &["hub", "init", "."]).expect_good();
        let hub = Self { process: None, dir };
        let api = free_port();
        let listen: Vec<String> = listen.iter().map(|one| format!("{one:?}")).collect();
        let text = format!(
            "edge = \"hub\"\n[hub]\nlisten = \"127.0.0.1:{api}\"\nhost_name = \"hub.example.net\"\n[gateway]\n\
             listen = [{}]\nhost_names = [{host:?}]\nunacked_max = 4096\n{more}",
            listen.join(", ")
        );
        fs::write(hub.folder().join("hub.toml"), text).unwrap();
        hub
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate that edges and devices need to trust it.
    pub fn authority(&self) -> PathBuf {
        self.folder().join("data/certificates/authority.pem")
    }

    /// What it has logged in all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("hub.log")).unwrap_or_default()
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "runs already");
        let mut command = Command::new(super::edge::binary());
        command.args(["hub", "run", "--config"]).arg(self.folder().join("hub.toml"));
        self.process = Some(Process::start(command, &self.folder().join("hub.log")));
        wait_for("the hub answers", || {
            if let Some(status) = self.process.as_mut().unwrap().ended() {
                panic!("the hub ended at once: {status}\n{}", self.log());
            }
            self.run(&["status"]).good.then_some(())
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("does not run").kill();
    }

    /// SIGTERM, and waits until it has ended; gives how.
    pub fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("does not run");
        let told = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(told.success());
        let status = wait_for("the hub ends", || process.ended());
        assert!(!self.log().contains("panicked at"), "a task of the hub has panicked:\n{}", self.log());
        status
    }

    /// Runs a command of `holdfast hub`.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut all = vec!["--config", "hub.toml", "hub"];
        all.extend(arguments);
        holdfast(self.folder(), &all)
    }

    /// Runs it with `--json`; gives a value for each line.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let printed = self.run(&all).expect_good();
        let value =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {line}"));
        printed.lines().map(value).collect()
    }

    /// Everything in its stream.
    pub fn events(&self) -> Vec<Value> {
        self.json(&["monitor", "--from", "earliest", "--no-follow"])
    }
}
