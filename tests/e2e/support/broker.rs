//! Mosquitto, as the distribution ships it.

use super::{free_port, process::Process, wait_for};
use std::{fs, net::TcpStream, path::PathBuf, process::Command};
use tempfile::TempDir;

/// A broker on a free port, without persistence.
pub struct Broker {
    // Before the folder, which its end is still read from.
    process: Option<Process>,
    dir: TempDir,
    port: u16,
}

impl Broker {
    /// Starts one and waits until it takes connections.
    pub fn start() -> Self {
        Self::with_listeners("")
    }

    /// The same with more listeners, as its configuration says them.
    pub fn with_listeners(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        // Bounds off: what a slow receiver has not fetched must wait there, or the test would measure Mosquitto's bounds.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
             max_inflight_messages 1000\nset_tcp_nodelay true\n{more}"
        );
        fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Self { dir, port, process: None };
        broker.again();
        broker
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port.
    pub fn again(&mut self) {
        let mut command = Command::new(program());
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        let mut process = Process::start(command, &self.dir.path().join("mosquitto.log"));
        wait_for("Mosquitto takes connections", || {
            assert!(process.ended().is_none(), "Mosquitto ended:\n{}", process.printed());
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.process = Some(process);
    }
}

/// Debian installs it outside the path of ordinary users.
fn program() -> PathBuf {
    let apart = PathBuf::from("/usr/sbin/mosquitto");
    if apart.exists() { apart } else { PathBuf::from("mosquitto") }
}
