//! `holdfast metrics`: everything that the running edge counts.

use super::client;
use crate::output;
use holdfast_api::{Item, Request, metrics_text};
use std::path::Path;

/// Prints it: the text form of Prometheus, or a line of JSON for each name.
pub async fn run(control: &Path, json: bool) -> anyhow::Result<()> {
    let items = client::ask(control, &Request::Metrics).await?;
    let families: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            Item::Metric(family) => Some(family),
            _ => None,
        })
        .collect();
    if json {
        return families.iter().try_for_each(output::json);
    }
    output::line(metrics_text(&families).trim_end());
    Ok(())
}
