//! Asking the running edge.

use anyhow::bail;
use holdfast_api::{Client, Item, PurgeRequest, Request};
use std::path::Path;

/// Whether an edge answers at this socket.
pub async fn is_running(control: &Path) -> bool {
    match Client::connect(control).await {
        Ok(mut client) => client.ask_all(&Request::Status).await.is_ok(),
        Err(_) => false,
    }
}

/// Asks, and gives all of the answer.
pub async fn ask(control: &Path, request: &Request) -> anyhow::Result<Vec<Item>> {
    Ok(Client::connect(control).await?.ask_all(request).await?)
}

/// Asks for a count.
pub async fn count(control: &Path, request: &Request) -> anyhow::Result<u64> {
    match ask(control, request).await?.as_slice() {
        [Item::Count(count)] => Ok(*count),
        other => bail!("the edge gave an unexpected answer: {other:?}"),
    }
}

/// Tells the edge to stop.
pub async fn stop(control: &Path) -> anyhow::Result<()> {
    ask(control, &Request::Stop).await.map(|_| ())
}

/// Messages that wait for upstream, and the modules: name, state, handled, sent.
pub async fn overview(control: &Path) -> anyhow::Result<(u64, Vec<(String, String, u64, u64)>)> {
    let mut client = Client::connect(control).await?;
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
