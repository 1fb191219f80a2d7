//! A registry: the one of the distribution, and one that answers as it is told.

use super::{free_port, process::Process, wait_for};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

/// Who may come in where the registry asks.
pub const REGISTRY_USER: (&str, &str) = ("holdfast", "secret");
/// That password as `htpasswd -B` writes it.
const REGISTRY_USERS: &str = "holdfast:$2y$05$UE1cZup/NsAyyqVGisdLpOjw.56famZbuMuCLPzC4z/G4M0Yi0tLS\n";

/// `docker-registry` with a folder of its own.
pub struct Registry {
    process: Option<Process>,
    dir: TempDir,
    port: u16,
}

impl Registry {
    /// Starts it, open to everybody or asking for name and password.
    pub fn start(asks: bool) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let users = dir.path().join("users");
        fs::write(&users, REGISTRY_USERS).unwrap();
        let auth = match asks {
            true => format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display()),
            false => String::new(),
        };
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
            dir.path().join("storage").display()
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut registry = Self { process: None, dir, port };
        registry.start_again();
        registry
    }

    /// Starts it once more.
    pub fn start_again(&mut self) {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.dir.path().join("config.yml"));
        self.process = Some(Process::start(command, &self.dir.path().join("log")));
        wait_for("the registry answers", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// A reference in it.
    pub fn reference(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// Its own file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The file of credentials for it.
    pub fn credentials(&self, password: &str) -> PathBuf {
        let path = self.dir.path().join(format!("credentials-{password}.json"));
        let text = serde_json::json!({ "auths": { format!("127.0.0.1:{}", self.port): {
            "username": REGISTRY_USER.0, "password": password,
        } } });
        fs::write(&path, text.to_string()).unwrap();
        path
    }
}

/// A registry that gives every request the same status and body. Gives a reference in it.
pub fn registry_that_says(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(body.as_bytes());
        }
    });
    format!("127.0.0.1:{port}/a/module:1")
}
