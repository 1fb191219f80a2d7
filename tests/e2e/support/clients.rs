//! MQTT clients that others wrote: paho, mosquitto_pub, mosquitto_sub.

use super::{
    checkout,
    edge::{Answer, PASSWORD, USER},
    process::Process,
    wait_for,
};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// A Python that has paho-mqtt.
fn python() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let look = || {
        let python =
            std::env::var_os("HOLDFAST_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let tried = Command::new(&python).args(["-c", "import paho.mqtt"]).output();
        assert!(
            tried.is_ok_and(|out| out.status.success()),
            "{} has no paho-mqtt; run tests/run, or set HOLDFAST_TEST_PYTHON to a Python that has it",
            python.display()
        );
        python
    };
    FOUND.get_or_init(look).clone()
}

/// A tool that is installed beside that Python.
pub fn python_tool(name: &str) -> PathBuf {
    let tool = python().with_file_name(name);
    assert!(tool.is_file(), "there is no {}; tests/run installs it", tool.display());
    tool
}

/// Runs a script of this folder to its end, which must be a good one; gives what it printed.
pub fn python_says(name: &str, arguments: &[&str]) -> String {
    says(script(name), name, arguments)
}

/// The same for a script of Node.js, with the packages that `tests/run` installs.
pub fn node_says(name: &str, arguments: &[&str]) -> String {
    says(node_script(name, "mqtt"), name, arguments)
}

/// The packages of Node.js that `tests/run` installs.
pub fn node_modules() -> PathBuf {
    std::env::var_os("HOLDFAST_TEST_NODE_MODULES")
        .map_or_else(|| checkout("target/test-node/node_modules"), PathBuf::from)
}

/// A script of this folder for Node.js, which needs a package that `tests/run` installs.
pub fn node_script(name: &str, package: &str) -> Command {
    let mut command = Command::new("node");
    let modules = node_modules();
    assert!(
        modules.join(package).exists(),
        "{} has no {package}; run tests/run, or set HOLDFAST_TEST_NODE_MODULES to a folder that has it",
        modules.display()
    );
    command.env("NODE_PATH", modules).arg(checkout("tests/e2e").join(name));
    command
}

fn says(mut command: Command, name: &str, arguments: &[&str]) -> String {
    command.args(arguments).env("HOLDFAST_E2E_USER", USER).env("HOLDFAST_E2E_PASSWORD", PASSWORD);
    let out = command.output().unwrap_or_else(|error| {
        panic!("{} could not be started ({error}); tests/run installs it", command.get_program().display())
    });
    let printed = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{name} {arguments:?}: {printed}{}", String::from_utf8_lossy(&out.stderr));
    printed
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(checkout("tests/e2e").join(name));
    command
}

/// A paho subscriber with a session; it writes down every message that it gets, duplicates too.
pub struct Receiver {
    process: Process,
    dir: TempDir,
    read: u64,
    seen: Vec<Value>,
}

impl Receiver {
    /// Subscribes at a broker; returns when the subscription is acknowledged.
    pub fn start(port: u16, filter: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = script("receiver.py");
        command.args([&port.to_string(), filter]).arg(dir.path().join("seen"));
        let process = Process::start(command, &dir.path().join("receiver.log"));
        let mut receiver = Self { dir, process, read: 0, seen: Vec::new() };
        wait_for("the receiver has subscribed", || {
            receiver.check();
            receiver.dir.path().join("seen").exists().then_some(())
        });
        receiver
    }

    fn check(&mut self) {
        assert!(self.process.ended().is_none(), "the receiver ended:\n{}", self.process.printed());
    }

    /// Every message so far, in the order of arrival: `topic`, `id`, `source`, `payload`.
    pub fn seen(&mut self) -> &[Value] {
        self.check();
        let mut file = File::open(self.dir.path().join("seen")).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        // A last line without its end is still being written.
        while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            self.read += line.len() as u64;
            self.seen.push(serde_json::from_str(&line).unwrap());
            line.clear();
        }
        &self.seen
    }

    /// Waits for a message; gives it.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.seen().iter().find(|message| wanted(message)).cloned())
    }
}

/// A paho publisher that goes on until everything is acknowledged, through every broken connection.
pub struct Publisher {
    process: Process,
    dir: TempDir,
}

impl Publisher {
    /// Publishes 1 to `count` to a topic of a gateway.
    pub fn start(port: u16, topic: &str, count: u64) -> Self {
        Self::start_paced(port, topic, count, 0)
    }

    /// The same, so many of them in a second; 0 is as fast as they are taken.
    pub fn start_paced(port: u16, topic: &str, count: u64, rate: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = script("publisher.py");
        command
            .args([&port.to_string(), USER, PASSWORD, topic, &count.to_string()])
            .arg(dir.path().join("acknowledged"))
            .arg(rate.to_string());
        let process = Process::start(command, &dir.path().join("publisher.log"));
        Self { dir, process }
    }

    /// How many are acknowledged, by the file's size: each is a line of ten characters.
    pub fn acknowledged(&mut self) -> u64 {
        if let Some(status) = self.process.ended() {
            assert!(status.success(), "the publisher failed:\n{}", self.process.printed());
        }
        std::fs::metadata(self.dir.path().join("acknowledged")).map_or(0, |file| file.len() / 10)
    }

    /// Waits until it has ended well; gives the numbers that were acknowledged, and how often it connected.
    pub fn finish(mut self) -> (Vec<u64>, u64) {
        let status = wait_for("the publisher ends", || self.process.ended());
        assert!(status.success(), "the publisher failed:\n{}", self.process.printed());
        let text = std::fs::read_to_string(self.dir.path().join("acknowledged")).unwrap();
        let connections = self.process.printed().lines().filter(|line| line.starts_with("connected")).count();
        (text.lines().map(|line| line.trim().parse().unwrap()).collect(), connections as u64)
    }
}

/// The lines of a text that is being written. A last one without its end is left out: of a long one a piece may be there.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.rfind('\n').map_or("", |end| &text[..end]).lines()
}

/// A client with a session, in one of the roles of `session.py` that write a file.
pub struct Role {
    process: Process,
    dir: TempDir,
}

impl Role {
    /// Starts it with these arguments; the file comes last.
    pub fn start(arguments: &[&str]) -> Self {
        Self::run(script("session.py"), arguments)
    }

    /// The same with MQTT.js, in one of the roles of `session.js`.
    pub fn start_node(arguments: &[&str]) -> Self {
        Self::run(node_script("session.js", "mqtt"), arguments)
    }

    fn run(mut command: Command, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        command.args(arguments).arg(dir.path().join("out"));
        command.env("HOLDFAST_E2E_USER", USER).env("HOLDFAST_E2E_PASSWORD", PASSWORD);
        let process = Process::start(command, &dir.path().join("role.log"));
        Self { process, dir }
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        self.process.printed()
    }

    /// Waits until it has printed this.
    pub fn wait_for(&self, text: &str) {
        wait_for(&format!("the client prints {text:?}"), || self.printed().contains(text).then_some(()));
    }

    /// The lines that it has written so far.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        whole_lines(&text).map(str::to_owned).collect()
    }

    /// Whether it has ended; it must have ended well.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.process.ended();
        assert!(ended.is_none_or(|status| status.success()), "the client failed:\n{}", self.printed());
        ended.is_some()
    }

    /// Waits until it has ended well; gives its lines.
    pub fn finish(mut self) -> Vec<String> {
        wait_for("the client ends", || self.has_ended().then_some(()));
        self.lines()
    }
}

/// `mosquitto_pub` with the edge's user.
pub fn publish(port: u16, arguments: &[&str]) -> Answer {
    publish_as(port, PASSWORD, arguments)
}

/// `mosquitto_pub` with another password.
pub fn publish_as(port: u16, password: &str, arguments: &[&str]) -> Answer {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", USER, "-P", password]).args(arguments);
    let out = command.output().expect("mosquitto_pub is installed by tests/run");
    Answer {
        good: out.status.success(),
        code: out.status.code(),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// `mosquitto_sub`, which prints `topic payload` for each message.
pub struct Subscriber {
    process: Process,
    _dir: TempDir,
}

impl Subscriber {
    /// Subscribes with QoS 1; returns when that is acknowledged.
    pub fn start(port: u16, filter: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Into a file the C library would keep lines back.
        let mut command = Command::new("stdbuf");
        command.args([
            "-oL",
            "mosquitto_sub",
            "-d",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-u",
            USER,
            "-P",
            PASSWORD,
        ]);
        command.args(["-q", "1", "-v", "-t", filter]).args(arguments);
        let process = Process::start(command, &dir.path().join("sub.log"));
        let subscriber = Self { _dir: dir, process };
        wait_for("mosquitto_sub has subscribed", || {
            subscriber.process.printed().contains("Subscribed").then_some(())
        });
        subscriber
    }

    /// Waits until a line with this text was printed; gives it.
    pub fn wait(&self, text: &str) -> String {
        wait_for(&format!("mosquitto_sub prints {text:?}"), || {
            let printed = self.process.printed();
            let mut lines = whole_lines(&printed).filter(|line| !line.starts_with("Client "));
            lines.find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}
