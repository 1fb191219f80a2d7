//! The binary under test, in a folder of its own.

use super::{checkout, free_port, process::Process, wait_for};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};
use tempfile::TempDir;

/// The name and the password of the one who may connect.
pub const USER: &str = "sensor-1";
pub const PASSWORD: &str = "a sensor's password";

/// An edge: a folder, a configuration, and a process when it runs.
pub struct Edge {
    // Before the folder, which its end is still read from.
    process: Option<Process>,
    dir: TempDir,
    gateway: u16,
    doors: HashMap<String, u16>,
}

/// What a command has printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// Whether it ended with 0.
    pub good: bool,
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// That it went well; gives what was printed.
    #[track_caller]
    pub fn expect_good(self) -> String {
        assert!(self.good, "failed: {self:?}");
        self.out
    }

    /// That it was refused with exit code 1, and said all of these.
    #[track_caller]
    pub fn expect_refused(&self, texts: &[&str]) {
        assert_eq!(self.code, Some(1), "was not refused with 1: {self:?}");
        for text in texts {
            assert!(self.err.contains(text) || self.out.contains(text), "does not say {text:?}: {self:?}");
        }
    }
}

impl Edge {
    /// A folder with this configuration behind the gateway's, which lets one user do everything.
    pub fn prepare(config: &str) -> Self {
        Self::with_doors(config, &[])
    }

    /// The same, with more doors: schemes of `gateway.listen`, each on a port of its own.
    pub fn with_doors(config: &str, schemes: &[&str]) -> Self {
        let doors: HashMap<String, u16> =
            schemes.iter().map(|scheme| ((*scheme).to_owned(), free_port())).collect();
        let listen: Vec<String> =
            doors.iter().map(|(scheme, port)| format!("{scheme}://127.0.0.1:{port}")).collect();
        Self { doors, ..Self::with_gateway(config, &listen, "") }
    }

    /// The same, with these entries of `gateway.listen` beside that on a free port, and more keys of `[gateway]`.
    pub fn with_gateway(config: &str, listen: &[String], keys: &str) -> Self {
        Self::named("edge-1", config, listen, keys)
    }

    /// The same for an edge of another name.
    pub fn named(name: &str, config: &str, listen: &[String], keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gateway = free_port();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        let more: String = listen.iter().map(|one| format!(", \"{one}\"")).collect();
        let edge = Self { dir, gateway, doors: HashMap::new(), process: None };
        let text = format!(
            "edge = \"{name}\"\n{config}\n[gateway]\nlisten = [\"127.0.0.1:{gateway}\"{more}]\nunacked_max = 256\n\
             packet_max = \"64 KiB\"\n{keys}\
             [[users]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\npublish = [\"plant/#\"]\nsubscribe = [\"#\"]\n"
        );
        fs::write(edge.config(), text).unwrap();
        edge
    }

    /// The same, and runs.
    pub fn started(config: &str) -> Self {
        let mut edge = Self::prepare(config);
        edge.start();
        edge
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder().join("holdfast.toml")
    }

    /// The port of its gateway.
    pub fn gateway(&self) -> u16 {
        self.gateway
    }

    /// The port of another door.
    pub fn door(&self, scheme: &str) -> u16 {
        self.doors[scheme]
    }

    /// The certificate that devices need to trust it.
    pub fn authority(&self) -> PathBuf {
        self.folder().join("data/certificates/authority.pem")
    }

    /// What the host has logged in all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("edge.log")).unwrap_or_default()
    }

    /// Starts the process and does not wait for anything.
    pub fn launch(&mut self) {
        self.launch_with(&[], &[]);
    }

    fn launch_with(&mut self, arguments: &[&str], variables: &[(&str, &str)]) {
        assert!(self.process.is_none(), "runs already");
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config()).arg("run").args(arguments);
        command.current_dir(self.folder()).envs(variables.iter().copied());
        self.process = Some(Process::start(command, &self.folder().join("edge.log")));
    }

    /// Starts the process and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[], &[]);
    }

    /// The same with more arguments of `run`, and with variables of the environment.
    pub fn start_with(&mut self, arguments: &[&str], variables: &[(&str, &str)]) {
        self.launch_with(arguments, variables);
        wait_for("the edge answers", || {
            let process = self.process.as_mut().unwrap();
            if let Some(status) = process.ended() {
                panic!("the edge ended at once: {status}");
            }
            self.run(&["list"]).good.then_some(())
        });
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("does not run").id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("does not run").kill();
    }

    /// `holdfast stop`, and waits until the process has ended; gives how.
    pub fn stop(&mut self) -> ExitStatus {
        self.run(&["stop"]).expect_good();
        let status = self.wait_end();
        assert!(!self.log().contains("panicked at"), "a task of the edge has panicked:\n{}", self.log());
        status
    }

    /// Waits until the process has ended by itself; gives how.
    pub fn wait_end(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("does not run");
        wait_for("the edge ends", || process.ended())
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Runs a command of `holdfast` for this edge.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut all = vec!["--config", "holdfast.toml"];
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

    /// A module as `list` shows it.
    pub fn module(&self, name: &str) -> Option<Value> {
        self.json(&["list"]).into_iter().find(|module| module["name"] == name)
    }

    /// Waits until a module is in this state; gives what `list` shows then.
    pub fn wait_module(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("module {name} is {state}"), || {
            self.module(name).filter(|module| module["state"] == state)
        })
    }

    /// Messages that wait in a log.
    pub fn waiting(&self, log: &str) -> u64 {
        let queues = self.json(&["queue", "list"]);
        queues
            .iter()
            .filter(|queue| queue["log"] == log)
            .map(|queue| queue["waiting"].as_u64().unwrap())
            .sum()
    }

    /// Waits until the host has logged this.
    pub fn wait_log(&self, text: &str) {
        wait_for(&format!("the edge logs {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// Puts bytes into the plugins folder as an operator would: written beside, then renamed.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) {
        let beside = self.folder().join(format!("{name}.new"));
        fs::write(&beside, bytes).unwrap();
        fs::rename(&beside, self.folder().join("plugins").join(name)).unwrap();
    }

    /// Puts a ready-made module there under a name, with these settings.
    pub fn plug(&self, plugin: &str, name: &str, settings: &str) {
        self.drop_in(&format!("{name}.toml"), settings.as_bytes());
        self.drop_in(&format!("{name}.wasm"), &ready_made(plugin));
    }
}

/// A component of this checkout.
pub fn ready_made(plugin: &str) -> Vec<u8> {
    fs::read(checkout(&format!("plugins/{plugin}.wasm"))).unwrap()
}

/// Runs `holdfast` in a folder.
pub fn holdfast(folder: &Path, arguments: &[&str]) -> Answer {
    let out = Command::new(binary()).args(arguments).current_dir(folder).output().unwrap();
    Answer {
        good: out.status.success(),
        code: out.status.code(),
        out: String::from_utf8(out.stdout).expect("output is UTF-8"),
        err: String::from_utf8(out.stderr).expect("output is UTF-8"),
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("HOLDFAST_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_holdfast")), PathBuf::from)
}
