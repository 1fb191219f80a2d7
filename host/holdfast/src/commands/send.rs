//! `holdfast send`: a message from the operator.

use super::{client, message};
use crate::{cli::SendArgs, output};
use anyhow::bail;
use holdfast_api::{Item, MessageText, Request, SendRequest, Sender};
use std::path::Path;

/// Sends it, and says what became of it.
pub async fn run(control: &Path, args: &SendArgs, json: bool) -> anyhow::Result<()> {
    let (source, message) = message::parse(&args.message)?;
    let message = MessageText::of(&message, usize::MAX);
    let request = Request::Send(SendRequest { from: Sender::of(&source), message });
    let items = client::ask(control, &request).await?;
    let [Item::Receipt(receipt)] = items.as_slice() else {
        bail!("the edge gave an unexpected answer: {items:?}")
    };
    if json {
        return output::json(receipt);
    }
    if receipt.durable + receipt.volatile + receipt.subscribers + receipt.dropped == 0 {
        output::line("taken, but no route and no subscriber wanted it; `holdfast routes explain` says why");
        return Ok(());
    }
    output::line(format!(
        "recorded in {} logs, handed to {} modules in memory and {} subscribers, dropped by {} full logs",
        receipt.durable, receipt.volatile, receipt.subscribers, receipt.dropped
    ));
    Ok(())
}
