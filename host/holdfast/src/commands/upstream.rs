//! `holdfast upstream`: which hub or broker is used.

use super::client;
use crate::cli::UpstreamArgs;
use holdfast_api::Request;
use std::path::Path;

/// Tells the running edge.
pub async fn run(control: &Path, args: &UpstreamArgs, json: bool) -> anyhow::Result<()> {
    let place = (args.place != "auto").then(|| args.place.clone());
    client::done(control, &Request::UsePlace(place), json).await
}
