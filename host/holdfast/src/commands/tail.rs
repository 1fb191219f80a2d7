//! `holdfast tail`: messages as they pass.

use super::{client, logs::time};
use crate::{cli::TailArgs, output};
use holdfast_api::{Item, PassingItem, Request, TailRequest};
use std::path::Path;

/// Bytes of a body that a line has room for.
const BODY_BYTES: usize = 400;

/// Shows messages until the count is reached or the edge stops.
pub async fn run(control: &Path, args: &TailArgs, json: bool) -> anyhow::Result<()> {
    let request = Request::Tail(TailRequest {
        source: args.from.clone(),
        route: args.route.clone(),
        count: args.count.map(|n| n as u64),
        body_bytes_max: BODY_BYTES,
    });
    let mut client = client::connect(control).await?;
    let mut answers = client.ask(&request).await?;
    while let Some(item) = answers.next().await? {
        match item {
            Item::Passing(passing) if json => output::json(&passing)?,
            Item::Passing(passing) => output::line(text(&passing)?),
            Item::Skipped(missed) => {
                output::note(format!("{missed} messages passed too quickly to be shown"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn text(passing: &PassingItem) -> anyhow::Result<String> {
    let taken: Vec<String> =
        passing.taken.iter().map(|taken| format!("[{}] {}", taken.route, taken.sink)).collect();
    let goes = if taken.is_empty() { "no route".to_owned() } else { taken.join(", ") };
    let from = output::foreign(&passing.from.source()?.to_string());
    let body = output::body(&passing.message.body.bytes()?, 100);
    Ok(format!("{}  {from} → {goes}  {body}", time(passing.time_ms)))
}
