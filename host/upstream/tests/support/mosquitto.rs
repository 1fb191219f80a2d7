//! A mosquitto of our own, in a folder of its own, ended by its process id.

use std::{
    fmt::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub struct Mosquitto {
    pub port: u16,
    config: PathBuf,
    folder: TempDir,
    process: Option<Child>,
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn program() -> &'static str {
    // Debian keeps it where only administrators look.
    if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

impl Mosquitto {
    /// Starts one that lets everybody in and keeps what it has when it is ended in order.
    pub fn start() -> Self {
        Self::with("allow_anonymous true\n")
    }

    pub fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut text = format!("listener {port} 127.0.0.1\n{lines}");
        let at = folder.path().display();
        writeln!(text, "persistence true\npersistence_location {at}/\nmax_inflight_messages 1000").unwrap();
        writeln!(text, "max_queued_messages 1000000\nset_tcp_nodelay true\nlog_type none").unwrap();
        if Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n") {
            text.push_str("user root\n");
        }
        let config = folder.path().join("mosquitto.conf");
        std::fs::write(&config, text).unwrap();
        let mut mosquitto = Self { port, config, folder, process: None };
        mosquitto.begin();
        mosquitto
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn begin(&mut self) {
        let process = Command::new(program())
            .arg("-c")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed: apt-get install mosquitto");
        self.process = Some(process);
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it in order: it writes what it has to disk.
    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let told = Command::new("kill").arg("-TERM").arg(process.id().to_string()).status().unwrap();
            assert!(told.success());
            process.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
