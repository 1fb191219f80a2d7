//! A device that is made with the unmodified SDK of Azure IoT for Python or for Node.js.

use super::{PATIENCE, checkout, clients::node_script};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

/// A process that obeys orders and tells what happens. Killed when dropped.
pub struct Sdk {
    process: Child,
    orders: ChildStdin,
    told: Receiver<Value>,
    /// What it told and nobody has waited for yet.
    waiting: Vec<Value>,
}

impl Sdk {
    /// Starts one that trusts this authority; `what` is the script's argument but for that.
    pub fn start(authority: &Path, what: Value) -> Self {
        let mut command = Command::new(python());
        command.arg(checkout("host/gateway/tests/azure_device.py"));
        Self::run(command, authority, what)
    }

    /// The same with the SDK for Node.js.
    pub fn start_node(authority: &Path, what: Value) -> Self {
        Self::run(node_script("azure_device.js", "azure-iot-device"), authority, what)
    }

    fn run(mut command: Command, authority: &Path, mut what: Value) -> Self {
        what["authority"] = authority.to_str().unwrap().into();
        let mut process =
            command.arg(what.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (tell, told) = mpsc::channel();
        // Ends with the process's output.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else { panic!("the script printed {line:?}") };
                if tell.send(value).is_err() {
                    return;
                }
            }
        });
        Self { process, orders, told, waiting: Vec::new() }
    }

    /// A device, by the connection string that `holdfast device add` has printed; connected. It says who takes what comes
    /// down before it connects, as what waits comes at once, and the SDK drops what nobody takes.
    pub fn connected(authority: &Path, connection: &str, websockets: bool) -> Self {
        let mut sdk = Self::start(authority, json!({ "connection": connection, "websockets": websockets }));
        sdk.order(json!({ "do": "listen" }));
        while sdk.tells("connection")["connected"] != true {}
        sdk.tells("listening");
        sdk
    }

    /// Connects, and asks for everything that comes down.
    pub fn connect(&mut self) {
        self.order(json!({ "do": "connect" }));
        // It may still have to tell that it had left.
        while self.tells("connection")["connected"] != true {}
        self.order(json!({ "do": "listen" }));
        self.tells("listening");
    }

    /// Gives it an order.
    pub fn order(&mut self, order: Value) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// Sends telemetry; returns when the gateway has acknowledged it.
    pub fn send(&mut self, body: &str, properties: Value) {
        self.order(json!({ "do": "send", "body": body, "properties": properties,
            "content_type": "application/json", "content_encoding": "utf-8" }));
        self.tells("sent");
    }

    /// Waits until it tells of something.
    #[track_caller]
    pub fn tells(&mut self, kind: &str) -> Value {
        let told = self.next(kind);
        assert!(told["kind"] == kind, "waiting for {kind}: {told}");
        told
    }

    /// Waits until an order fails; gives the name of the error.
    #[track_caller]
    pub fn refusal(&mut self) -> String {
        self.next("failed")["error"].as_str().unwrap().to_owned()
    }

    /// What it tells of this kind, or of a failure.
    #[track_caller]
    fn next(&mut self, kind: &str) -> Value {
        if let Some(at) = self.waiting.iter().position(|told| told["kind"] == kind) {
            return self.waiting.remove(at);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(told) = self.told.recv_timeout(left) else {
                panic!("the SDK does not tell of {kind}; it told {:?}", self.waiting)
            };
            if told["kind"] == kind || told["kind"] == "failed" {
                return told;
            }
            self.waiting.push(told);
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A Python that has azure-iot-device.
fn python() -> PathBuf {
    let python = std::env::var_os("HOLDFAST_TEST_AZURE_PYTHON")
        .map_or_else(|| checkout("target/test-python-azure/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is not there; run tests/run, or set HOLDFAST_TEST_AZURE_PYTHON to a Python that has azure-iot-device",
        python.display()
    );
    python
}
