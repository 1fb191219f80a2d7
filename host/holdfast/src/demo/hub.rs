//! The demo's hub, a process of its own, and the account of what stands in its stream.

#![expect(
    clippy::indexing_slicing,
    reason = "to read a JSON value by a name never panics: what is absent is null"
)]

use super::{
    PATIENCE, device, process,
    proof::{Arrival, Ledger},
};
use crate::{commands::hub::target, identities::random};
use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_hub::client::{Client, Method};
use holdfast_net::Roots;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{process::Child, time::sleep};

/// What the hub is called.
pub const NAME: &str = "hub";
/// The edge below it.
pub const EDGE: &str = "demo";
/// Before the stream is asked for again.
const RETRY: Duration = Duration::from_millis(200);

/// The process and its folder.
pub struct Hub {
    folder: PathBuf,
    door: SocketAddr,
    api: SocketAddr,
    edge_key: String,
    process: Option<Child>,
}

/// The account, shared with the screen.
#[derive(Clone, Default)]
pub struct Account(Arc<Mutex<Ledger>>);

impl Account {
    /// The account, to look at or to write to.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Starts a hub in a new folder and lets the edge and the device in.
    pub async fn start(folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Ports that are free now; if another process takes one before the hub does, the hub says so.
        let (door, api) = (super::listener().await?.local(), super::listener().await?.local());
        let edge_key = BASE64_STANDARD.encode(random::<32>()?);
        let mut hub = Self { folder, door, api, edge_key, process: None };
        let file = hub.config();
        let text = format!(
            "edge = \"{NAME}\"\n\n[hub]\nlisten = \"{api}\"\n\n[gateway]\nlisten = [\"{door}\"]\nunacked_max = 1024\n"
        );
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        hub.process = Some(process::start(&file, &["hub", "run"], &hub.log())?);
        hub.is_up().await?;
        let client = hub.client()?;
        let edge = json!({ "edge": true, "credential": { "type": "sas", "primary": hub.edge_key } });
        client.ask(Method::PUT, &format!("/devices/{EDGE}"), Some(edge)).await?;
        let device = json!({ "parent": EDGE, "credential": "generate" });
        client.ask(Method::PUT, &format!("/devices/{}", device::USER), Some(device)).await?;
        Ok(hub)
    }

    async fn is_up(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(client) = self.client()
                && client.ask(Method::GET, "/status", None).await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("the hub ended at once ({status}); see {}", self.log().display());
            }
            if Instant::now() > end {
                bail!("the hub does not answer; see {}", self.log().display());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where edges connect.
    pub fn door(&self) -> SocketAddr {
        self.door
    }

    /// The key of the edge below it.
    pub fn edge_key(&self) -> &str {
        &self.edge_key
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("hub.toml")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("hub.log")
    }

    /// A client of its API.
    pub fn client(&self) -> anyhow::Result<Client> {
        let token = self.folder.join("data").join("api.token");
        let token = fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;
        Ok(Client::new(target(&format!("http://{}", self.api), Roots::Native, "--hub")?, &token))
    }

    /// How many messages it has dropped since it has them already.
    pub async fn duplicates(&self) -> anyhow::Result<u64> {
        let status = self.client()?.ask(Method::GET, "/status", None).await?;
        status["duplicates"].as_u64().context("the hub does not say how many duplicates it has dropped")
    }

    /// Reads the whole stream anew, from its first offset to its last.
    pub async fn read_all(&self) -> anyhow::Result<Ledger> {
        let account = Account::default();
        read(&self.client()?, 0, false, &account).await?;
        let ledger = std::mem::take(&mut *account.ledger());
        Ok(ledger)
    }

    /// Ends it. Its folder is removed or left with that of the edge.
    pub async fn end(&mut self) {
        if let Some(mut child) = self.process.take() {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
    }
}

/// Reads the stream as it grows, for ever. Whenever it breaks, it goes on at the offset where it was.
pub async fn follow(client: Client, account: Account) {
    loop {
        let next = account.ledger().offset;
        // What broke is tried again; the demo says what did not happen in time.
        let _ = read(&client, next, true, &account).await;
        sleep(RETRY).await;
    }
}

async fn read(client: &Client, from: u64, follow: bool, account: &Account) -> anyhow::Result<()> {
    let mut lines = client.lines(&format!("/events?from={from}&follow={follow}")).await?;
    while let Some(line) = lines.next().await? {
        let event: Value = serde_json::from_str(&line).context("the hub sent a line that is no JSON")?;
        let offset = event["offset"].as_u64().with_context(|| format!("the hub sent no event: {line}"))?;
        let mut ledger = account.ledger();
        ledger.offset = offset + 1;
        if let Some(arrival) = arrival(&event) {
            ledger.take(&arrival);
        }
    }
    Ok(())
}

/// The stable id, the source and the number of a message.
fn arrival(event: &Value) -> Option<Arrival> {
    let (series, sequence) = event["id"].as_str()?.rsplit_once('/')?;
    let text = |name: &str| event[name].as_str();
    let source = match (text("module"), text("output")) {
        (Some(module), Some(output)) => format!("{module}/{output}"),
        (Some(module), None) => module.to_owned(),
        (None, _) => format!("{}:{}", text("device")?, text("topic").unwrap_or_default()),
    };
    let number = event["body"]["number"].as_u64();
    Some(Arrival { series: series.to_owned(), sequence: sequence.parse().ok()?, source, number })
}

/// Where a hub lies beside an edge.
pub fn folder(edge: &Path) -> PathBuf {
    edge.join("hub")
}
