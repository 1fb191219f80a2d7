//! `holdfast upstream`: which hub or broker is used.

use super::client;
use crate::{cli::UpstreamArgs, output};
use anyhow::bail;
use holdfast_api::{Item, Request};
use std::path::Path;

/// Tells the running edge.
pub async fn run(control: &Path, args: &UpstreamArgs) -> anyhow::Result<()> {
    let place = (args.place != "auto").then(|| args.place.clone());
    let items = client::ask(control, &Request::UsePlace(place)).await?;
    let [Item::Done(text)] = items.as_slice() else { bail!("the edge gave an unexpected answer: {items:?}") };
    output::line(text);
    Ok(())
}
