//! A hub above edges: the same binary in its other role, in a folder of its own.

use super::{
    Edge, Link,
    edge::{Answer, binary, holdfast},
    free_port,
    process::Process,
    wait_for,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// The name of the hub in tokens.
pub const HUB: &str = "hub.test";

/// A hub, and a process when it runs.
pub struct Above {
    // Before the folder, which its end is still read from.
    process: Option<Process>,
    dir: TempDir,
    name: String,
    port: u16,
    api: u16,
}

impl Above {
    /// A hub that runs, with a plain door for edges and devices of this machine.
    pub fn started() -> Self {
        Self::named(HUB, "")
    }

    /// One that is called so in tokens, with this behind its configuration.
    pub fn named(name: &str, more: &str) -> Self {
        Self::with_scheme(name, "", more)
    }

    /// One that is asked over HTTPS.
    pub fn over_tls(name: &str) -> Self {
        Self::with_scheme(name, "tls://", "")
    }

    /// One that follows the registry of another.
    pub fn following(name: &str, primary: &Self) -> Self {
        let token = primary.folder().join("data/api.token");
        let (api, token) = (primary.api, token.display());
        Self::named(
            name,
            &format!("[hub.primary]\nurl = \"http://127.0.0.1:{api}\"\ntoken_file = \"{token}\"\n"),
        )
    }

    /// One that is not started, with this behind its configuration.
    pub fn prepared(more: &str) -> Self {
        Self::not_started(HUB, "", more)
    }

    fn with_scheme(name: &str, scheme: &str, more: &str) -> Self {
        let mut hub = Self::not_started(name, scheme, more);
        hub.start();
        hub
    }

    fn not_started(name: &str, scheme: &str, more: &str) -> Self {
        let (port, api) = (free_port(), free_port());
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "edge = \"{}\"\n[hub]\nhost_name = \"{name}\"\nlisten = \"{scheme}127.0.0.1:{api}\"\n\
             [gateway]\nlisten = [\"{scheme}127.0.0.1:{port}\"]\nunacked_max = 1024\npacket_max = \"17 MiB\"\n{more}",
            name.replace(".test", "")
        );
        fs::write(dir.path().join("hub.toml"), text).unwrap();
        Self { process: None, dir, name: name.to_owned(), port, api }
    }

    /// The port of its API.
    pub fn api(&self) -> u16 {
        self.api
    }

    /// As an edge writes it into `upstream.hubs`, behind a link.
    pub fn entry(&self, link: &Link, priority: u32) -> String {
        format!(
            "{{ address = \"mqtt://127.0.0.1:{}\", name = \"{}\", priority = {priority} }}",
            link.port(),
            self.name
        )
    }

    /// Whether it knows a device.
    pub fn knows(&self, device: &str) -> bool {
        self.run(&["device", "show", device]).good
    }

    /// Starts the process and does not wait for anything.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "runs already");
        let mut command = Command::new(binary());
        command.current_dir(self.folder()).args(["--config", "hub.toml", "hub", "run"]);
        self.process = Some(Process::start(command, &self.folder().join("hub.log")));
    }

    /// Starts the process and waits until it answers.
    pub fn start(&mut self) {
        self.launch();
        wait_for("the hub answers", || {
            if let Some(status) = self.process.as_mut().unwrap().ended() {
                panic!("the hub ended at once: {status}");
            }
            self.run(&["status"]).good.then_some(())
        });
    }

    /// What it has logged in all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("hub.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("does not run").kill();
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Where edges connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command of `holdfast hub`.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        holdfast(self.folder(), &[&["--config", "hub.toml", "hub"], arguments].concat())
    }

    /// Runs it with `--json`; gives a value for each line.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let all = [&["--json", "--config", "hub.toml", "hub"], arguments].concat();
        let printed = holdfast(self.folder(), &all).expect_good();
        let value =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {line}"));
        printed.lines().map(value).collect()
    }

    /// Adds a device; gives its primary key.
    pub fn add(&self, arguments: &[&str]) -> String {
        let device = self.json(&[&["device", "add"], arguments].concat()).remove(0);
        let found =
            find(&device, "connection_string").and_then(Value::as_str).unwrap_or_else(|| panic!("{device}"));
        let key = found.split(';').find_map(|part| part.strip_prefix("SharedAccessKey="));
        key.unwrap_or_else(|| panic!("{device}")).to_owned()
    }

    /// An edge that is known here, not started, with its link through `link` and this behind its configuration.
    pub fn edge(&self, link: &Link, config: &str, listen: &[String], keys: &str) -> Edge {
        self.edge_below("edge-1", None, link, config, listen, keys)
    }

    /// The same for an edge of this name, whose link leads to its parent if it has one.
    pub fn edge_below(
        &self,
        name: &str,
        parent: Option<&str>,
        link: &Link,
        config: &str,
        listen: &[String],
        keys: &str,
    ) -> Edge {
        let url = format!("hub = \"{}\"\nurl = \"mqtt://127.0.0.1:{}\"\n{config}", self.name, link.port());
        let mut arguments = vec![name, "--edge"];
        arguments.extend(parent.iter().flat_map(|parent| ["--parent", parent]));
        let key = self.add(&arguments);
        edge_with(name, &key, &url, listen, keys)
    }

    /// An edge that is known here, not started, with this about what is above it.
    pub fn edge_above(&self, above: &str, listen: &[String], keys: &str) -> Edge {
        let key = self.add(&["edge-1", "--edge"]);
        edge_with("edge-1", &key, above, listen, keys)
    }

    /// Everything in the stream.
    pub fn events(&self) -> Vec<Value> {
        self.json(&["monitor", "--from", "earliest", "--no-follow"])
    }

    /// Judges what came of a device that counts, through an edge: by the identity that the edge gave it each message once and in
    /// order, and no number missing. Gives how many messages came, and how many of them the device had sent again.
    #[track_caller]
    pub fn has_counted(&self, edge: &str, device: &str, count: u64) -> (usize, u64) {
        let (mut ids, mut last, mut again) = (Vec::new(), 0, 0);
        for event in self.events() {
            assert_eq!((event["device"].as_str(), event["edge"].as_str()), (Some(device), Some(edge)));
            let (life, sequence) = event["id"].as_str().unwrap().rsplit_once('/').unwrap();
            ids.push((life.to_owned(), sequence.parse::<u64>().unwrap()));
            let number = event["body"]["number"].as_u64().unwrap();
            // The device sends again what the edge could not acknowledge; such a copy is a message of its own.
            if number > last {
                assert_eq!(number, last + 1, "a gap");
                last = number;
            } else {
                again += 1;
            }
        }
        let follows = |pair: &[(String, u64)]| pair[0].0 == pair[1].0 && pair[0].1 + 1 == pair[1].1;
        assert!(ids.windows(2).all(follows), "once, and in order");
        assert_eq!(last, count);
        (ids.len(), again)
    }

    /// How it is.
    pub fn status(&self) -> Value {
        self.json(&["status"]).remove(0)
    }

    /// A twin as the hub has it.
    pub fn twin(&self, who: &str) -> Value {
        self.json(&["twin", "show", who]).remove(0)
    }
}

/// A field, wherever in an object it stands.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.values().find_map(|inner| find(inner, name)))
}

fn edge_with(name: &str, key: &str, above: &str, listen: &[String], keys: &str) -> Edge {
    let text = format!(
        "[upstream]\nprofile = \"hub\"\nkey_file = \"edge.key\"\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n{above}"
    );
    let edge = Edge::named(name, &text, listen, keys);
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    edge
}
