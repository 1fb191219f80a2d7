//! Asking the running edge.

use crate::run::life;
use anyhow::{anyhow, bail};
use holdfast_api::{Client, Item, PurgeRequest, Request};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long a stop may take: the sum of what the parts of an edge have, and the store's last sync.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether the edge has ended.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// Whether an edge answers at this socket.
pub async fn is_running(control: &Path) -> bool {
    match Client::connect(control).await {
        Ok(mut client) => client.ask_all(&Request::Status).await.is_ok(),
        Err(_) => false,
    }
}

/// Connects to the running edge.
pub async fn connect(control: &Path) -> anyhow::Result<Client> {
    match Client::connect(control).await {
        Ok(client) => Ok(client),
        Err(error) if life::is_lived(control) => Err(anyhow!(error).context(format!(
            "an edge runs here but does not answer at {}: it is starting or stopping, or somebody has removed its socket, \
             which it makes anew when it is started again",
            control.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Asks, and gives all of the answer.
pub async fn ask(control: &Path, request: &Request) -> anyhow::Result<Vec<Item>> {
    Ok(connect(control).await?.ask_all(request).await?)
}

/// Asks for a count.
pub async fn count(control: &Path, request: &Request) -> anyhow::Result<u64> {
    match ask(control, request).await?.as_slice() {
        [Item::Count(count)] => Ok(*count),
        other => bail!("the edge gave an unexpected answer: {other:?}"),
    }
}

/// Asks for something to be done, and says that it is.
pub async fn done(control: &Path, request: &Request, json: bool) -> anyhow::Result<()> {
    match ask(control, request).await?.as_slice() {
        [Item::Done(text)] if json => crate::output::json(&serde_json::json!({ "done": text })),
        [Item::Done(text)] => {
            crate::output::line(text);
            Ok(())
        }
        other => bail!("the edge gave an unexpected answer: {other:?}"),
    }
}

/// Tells the edge to stop, and waits until its store is free for the next one.
pub async fn stop(control: &Path) -> anyhow::Result<()> {
    ask(control, &Request::Stop).await?;
    let end = Instant::now() + STOP_PATIENCE;
    while life::is_lived(control) {
        if Instant::now() > end {
            bail!(
                "the edge was told to stop and has not within {} s; its log says what is late",
                STOP_PATIENCE.as_secs()
            );
        }
        sleep(STOP_LOOK).await;
    }
    Ok(())
}

/// Messages that wait for upstream, and the modules: name, state, handled, sent.
pub async fn overview(control: &Path) -> anyhow::Result<(u64, Vec<(String, String, u64, u64)>)> {
    let mut client = connect(control).await?;
    let mut waiting = 0;
    for item in client.ask_all(&Request::Queues).await? {
        if let Item::Queue(queue) = item
            && queue.log == "upstream"
        {
            waiting += queue.waiting;
        }
    }
    let mut modules = Vec::new();
    for item in client.ask_all(&Request::Modules).await? {
        if let Item::Module(module) = item {
            modules.push((module.name, module.state, module.handled, module.sent));
        }
    }
    Ok((waiting, modules))
}

/// The request that purges a log.
pub fn purge_request(log: &str, dead: bool) -> Request {
    Request::Purge(PurgeRequest { log: log.to_owned(), priority: None, dead })
}
