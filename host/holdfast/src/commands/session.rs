//! `holdfast session`: the sessions of the gateway's clients.

use super::client;
use crate::{
    cli::SessionCommand,
    output::{self, Table},
};
use holdfast_api::{Item, Request, SessionItem};
use std::path::Path;

/// Carries out a `session` command.
pub async fn run(control: &Path, command: &SessionCommand, json: bool) -> anyhow::Result<()> {
    let SessionCommand::List = command;
    let mut table =
        Table::new(["USER", "CLIENT", "STATE", ">EXPIRES IN", ">SUBSCRIPTIONS", ">QUEUED", ">IN FLIGHT"]);
    for item in client::ask(control, &Request::Sessions).await? {
        let Item::Session(session) = item else { continue };
        if json {
            output::json(&session)?;
            continue;
        }
        let (state, expires) = (state(&session), expires(&session));
        table.row([
            session.user,
            output::foreign(&session.client_id),
            state.to_owned(),
            expires,
            session.subscriptions.to_string(),
            session.queued.to_string(),
            session.in_flight.to_string(),
        ]);
    }
    if !json {
        table.print();
    }
    Ok(())
}

fn state(session: &SessionItem) -> &'static str {
    if session.connected { "connected" } else { "away" }
}

fn expires(session: &SessionItem) -> String {
    match (session.connected, session.durable) {
        (true, false) => "with its connection".to_owned(),
        _ => output::span(session.expires_in_s.saturating_mul(1000)),
    }
}
