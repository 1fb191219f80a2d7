//! `holdfast twin`: what is desired of modules and devices, and what they report.

use super::client;
use crate::{
    cli::TwinCommand,
    output::{self, Table},
};
use anyhow::{Context, bail};
use holdfast_api::{DesireRequest, Item, Request, TwinItem, TwinRequest};
use std::path::Path;

/// Characters of a document that a row of the table has room for.
const ROW_CHARACTERS: usize = 60;

/// Carries out a `twin` command.
pub async fn run(control: &Path, command: &TwinCommand, json: bool) -> anyhow::Result<()> {
    match command {
        TwinCommand::List => list(control, json).await,
        TwinCommand::Show(args) => {
            let request = Request::Twin(TwinRequest { who: args.who.clone() });
            show(&client::ask(control, &request).await?, json)
        }
        TwinCommand::Set(args) => {
            let patch = serde_json::from_str(&args.patch).with_context(|| {
                format!("{:?} is no JSON; write for example '{{\"interval\": 5}}'", args.patch)
            })?;
            let request = Request::Desire(DesireRequest { who: args.who.clone(), patch });
            show(&client::ask(control, &request).await?, json)
        }
        TwinCommand::Remove(args) => {
            let request = Request::RemoveTwin(TwinRequest { who: args.who.clone() });
            client::done(control, &request, json).await
        }
    }
}

async fn list(control: &Path, json: bool) -> anyhow::Result<()> {
    let mut table = Table::new(["WHO", ">DESIRED", ">REPORTED", "REPORTS"]);
    for item in client::ask(control, &Request::Twins).await? {
        let Item::Twin(twin) = item else { continue };
        if json {
            output::json(&twin)?;
            continue;
        }
        table.row([
            twin.who,
            twin.desired_version.to_string(),
            twin.reported_version.to_string(),
            output::body(twin.reported.to_string().as_bytes(), ROW_CHARACTERS),
        ]);
    }
    if !json {
        table.print();
    }
    Ok(())
}

fn show(items: &[Item], json: bool) -> anyhow::Result<()> {
    let [Item::Twin(twin)] = items else { bail!("the edge gave an unexpected answer: {items:?}") };
    if json {
        return output::json(twin);
    }
    let TwinItem { who, desired, desired_version, reported, reported_version } = twin;
    output::line(who);
    for (half, version, document) in
        [("desired", desired_version, desired), ("reported", reported_version, reported)]
    {
        output::line(format!("{half}, version {version}:"));
        let text = serde_json::to_string_pretty(document)?;
        text.lines().for_each(|line| output::line(format!("  {}", output::foreign(line))));
    }
    Ok(())
}
