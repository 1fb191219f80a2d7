//! The demo's edge: a process of its own.

use super::{PATIENCE, device, hub, process};
use crate::commands::client;
use anyhow::{Context, bail};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

/// How the edge names the device as a source.
pub const DEVICE_SOURCE: &str = "sensor-1:plant/line-1/temperature";
/// How long an orderly stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What can be seen of the edge from outside.
pub enum Look {
    /// There is no process.
    Down,
    /// There is one that does not answer yet.
    Starting,
    /// It answers.
    Up {
        /// Messages that wait in its log for upstream.
        waiting: u64,
        /// Modules: name, state, messages handled, messages sent.
        modules: Vec<(String, String, u64, u64)>,
    },
}

/// The process and its folder.
pub struct Edge {
    folder: PathBuf,
    gateway: SocketAddr,
    process: Option<Child>,
}

impl Edge {
    /// Fills a folder with a configuration, the key for the hub, and the modules of this checkout.
    pub async fn prepare(folder: PathBuf, upstream: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins).with_context(|| format!("cannot make {}", plugins.display()))?;
        copy_plugins(&plugins)?;
        // A port that is free now; if another process takes it before the edge does, the edge says so.
        let gateway = super::listener().await?.local();
        let config = config(gateway, upstream);
        fs::write(folder.join("edge.key"), key).context("cannot write edge.key")?;
        let file = folder.join("holdfast.toml");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { folder, gateway, process: None })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the device connects.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("holdfast.toml")
    }

    /// The log of all runs.
    pub fn log(&self) -> PathBuf {
        self.folder.join("edge.log")
    }

    fn control(&self) -> PathBuf {
        self.folder.join("data").join("control.sock")
    }

    /// Starts the process and waits until it answers.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.process = Some(process::start(&self.config(), &["run"], &self.log())?);
        let end = Instant::now() + PATIENCE;
        while !client::is_running(&self.control()).await {
            self.lives()?;
            if Instant::now() > end {
                bail!("the edge does not answer; see {}", self.log().display());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// It has not ended by itself.
    fn lives(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            bail!("the edge has ended ({status}); see {}", self.log().display());
        }
        Ok(())
    }

    /// Kills the process: SIGKILL, on Windows TerminateProcess.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill().await.context("the edge could not be killed")?;
        }
        Ok(())
    }

    /// Stops the process in order and waits until it has ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        client::stop(&self.control()).await?;
        match timeout(STOP_PATIENCE, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => bail!("the edge did not stop cleanly ({status:?}); see {}", self.log().display()),
            Err(_) => bail!(
                "the edge did not stop within {} s; see {}",
                STOP_PATIENCE.as_secs(),
                self.log().display()
            ),
        }
    }

    /// What can be seen of it now.
    pub async fn look(&mut self) -> anyhow::Result<Look> {
        if self.process.is_none() {
            return Ok(Look::Down);
        }
        self.lives()?;
        match client::overview(&self.control()).await {
            Ok((waiting, modules)) => Ok(Look::Up { waiting, modules }),
            Err(_) => Ok(Look::Starting),
        }
    }

    /// Removes the folder. What cannot be removed is left: it lies among temporary files.
    pub fn clean_up(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_plugins(to: &Path) -> anyhow::Result<()> {
    for (name, bytes) in PLUGINS {
        fs::write(to.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The ready-made modules, so that the demo runs from an installed binary too.
const PLUGINS: &[(&str, &[u8])] = &[
    ("simulator.wasm", include_bytes!("../../../../plugins/simulator.wasm")),
    ("simulator.toml", include_bytes!("simulator.toml")),
    ("window.wasm", include_bytes!("../../../../plugins/window.wasm")),
    ("window.toml", include_bytes!("window.toml")),
    ("threshold.wasm", include_bytes!("../../../../plugins/threshold.wasm")),
    ("threshold.toml", include_bytes!("../../../../plugins/threshold.toml")),
    ("host-metrics.wasm", include_bytes!("../../../../plugins/host-metrics.wasm")),
    ("host-metrics.toml", include_bytes!("host-metrics.toml")),
];

fn config(gateway: SocketAddr, upstream: SocketAddr) -> String {
    let (user, password, name, hub) = (device::USER, device::PASSWORD, hub::EDGE, hub::NAME);
    format!(
        r#"edge = "{name}"

[upstream]
profile = "hub"
hub = "{hub}"
url = "mqtt://{upstream}"
key_file = "edge.key"
backoff_min = "200 ms"
backoff_max = "1 s"

[gateway]
listen = ["{gateway}"]

[[users]]
name = "{user}"
password = "{password}"
publish = ["plant/#"]

[routes]
device = "FROM /messages WHERE NOT is_defined($connectionModuleId) INTO $upstream"
readings = "FROM /messages/modules/simulator/outputs/readings INTO $upstream"
to-window = 'FROM /messages/modules/simulator/outputs/readings INTO BrokeredEndpoint("/modules/window/inputs/readings")'
to-threshold = 'FROM /messages/modules/simulator/outputs/readings INTO BrokeredEndpoint("/modules/threshold/inputs/readings")'
alerts = {{ route = "FROM /messages/modules/threshold/* INTO $upstream", priority = 0 }}
windows = "FROM /messages/modules/window/* INTO $upstream"
metrics = "FROM /messages/modules/host-metrics/* INTO $upstream"
"#
    )
}
