//! `holdfast status`: how the running edge is.

use super::client;
use crate::output::{self, Table};
use anyhow::bail;
use holdfast_api::{ChildrenItem, Item, Request, StatusItem};
use std::path::Path;

/// Most children in trouble that are named.
const TROUBLED_SHOWN: usize = 10;

/// Shows it.
pub async fn run(control: &Path, json: bool) -> anyhow::Result<()> {
    let items = client::ask(control, &Request::Status).await?;
    let [Item::Status(status)] = items.as_slice() else {
        bail!("the edge gave an unexpected answer: {items:?}")
    };
    if json {
        return output::json(status);
    }
    let mut table = Table::new(["EDGE", &status.edge]);
    table.row(["version".into(), format!("{}, process {}", status.version, status.pid)]);
    table.row(["running for".into(), output::span(status.uptime_ms)]);
    table.row(["upstream".into(), link(status)]);
    if let Some(children) = status.upstream.as_ref().and_then(|link| link.children.as_ref()) {
        table.row(["children".into(), children_upstream(children)]);
    }
    table.row([
        "gateway".into(),
        if status.gateway.is_empty() { "none".into() } else { status.gateway.join(", ") },
    ]);
    if !status.gateway.is_empty() {
        let (sessions, connected) = (status.sessions, status.connections);
        let waiting = match status.session_messages {
            0 => String::new(),
            n => format!(", {n} messages for them in {}", output::bytes(status.session_bytes)),
        };
        table.row(["sessions".into(), format!("{sessions}, {connected} connected{waiting}")]);
    }
    let modules: Vec<String> = status.modules.iter().map(|(state, n)| format!("{n} {state}")).collect();
    table.row(["modules".into(), if modules.is_empty() { "none".into() } else { modules.join(", ") }]);
    table.row(["waiting".into(), status.waiting.to_string()]);
    let (used, quota) = (output::bytes(status.store_bytes), output::bytes(status.store_quota_bytes));
    table.row(["store".into(), format!("{used} of {quota} in {}", status.data)]);
    table.print();
    for way in status.upstream.iter().flat_map(|link| &link.ways) {
        if let Some(fault) = way.fault.as_ref().filter(|_| !way.in_use) {
            output::line(format!("not by {} to {}: {fault}", way.transport, way.place));
        }
    }
    let children = status.upstream.iter().filter_map(|link| link.children.as_ref());
    let troubled: Vec<_> = children.flat_map(|children| &children.troubled).collect();
    for (child, reason) in troubled.iter().take(TROUBLED_SHOWN) {
        output::line(format!("child {child} is not connected upstream: {reason}"));
    }
    if let Some(more @ 1..) = troubled.len().checked_sub(TROUBLED_SHOWN) {
        output::line(format!("and {more} more children; --json shows all"));
    }
    for warning in &status.warnings {
        output::line(format!("warning: {warning}"));
    }
    Ok(())
}

fn children_upstream(children: &ChildrenItem) -> String {
    let ChildrenItem { connected, connections_max, waiting, troubled } = children;
    let mut text = format!("{connected} connected upstream under their own identities");
    if !troubled.is_empty() {
        text += &format!(", {} not", troubled.len());
    }
    if *waiting > 0 {
        text += &format!(
            "; {waiting} wait for their turn, since upstream.children_connections_max is {connections_max}"
        );
    }
    text
}

fn link(status: &StatusItem) -> String {
    match &status.upstream {
        None => "none configured; messages wait in the log".to_owned(),
        Some(link) if link.connected => {
            let by =
                link.transport.as_deref().map(|transport| format!(" by {transport}")).unwrap_or_default();
            format!("connected to {}{by}, {} acknowledged", link.address, link.acknowledged)
        }
        Some(link) => {
            format!("not connected to {}: {}", link.address, link.reason.as_deref().unwrap_or("unknown"))
        }
    }
}
