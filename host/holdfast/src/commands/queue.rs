//! `holdfast queue`: see and touch what waits.

use super::client;
use crate::{
    cli::{PeekArgs, PurgeArgs, QueueCommand},
    output::{self, Table},
};
use anyhow::bail;
use holdfast_api::{Item, PeekRequest, Request, RequeueRequest, StoredItem};
use std::{
    io::{BufRead, IsTerminal, stdin},
    path::Path,
};

/// Bytes of a body that a table has room for; JSON shows all that one line of the control socket carries.
const TABLE_BODY_BYTES: usize = 240;
const JSON_BODY_BYTES: usize = 64 * 1024;
/// Most messages that the host gives in one answer.
const PEEK_MAX: usize = 10_000;

/// Carries out a `queue` command.
pub async fn run(control: &Path, command: &QueueCommand, json: bool) -> anyhow::Result<()> {
    match command {
        QueueCommand::List => list(control, json).await,
        QueueCommand::Peek(args) => peek(control, args, json).await,
        QueueCommand::Purge(args) => purge(control, args, json).await,
        QueueCommand::Requeue(args) => {
            let request = Request::Requeue(RequeueRequest { log: args.log.clone(), offsets: None });
            tell(client::count(control, &request).await?, "requeued", json)
        }
    }
}

async fn list(control: &Path, json: bool) -> anyhow::Result<()> {
    let items = client::ask(control, &Request::Queues).await?;
    let mut table = Table::new([
        "LOG", "PRIORITY", ">WAITING", ">BYTES", ">OLDEST", ">CURSOR", ">TAIL", ">EXPIRED", ">DEAD",
        "DROPPED",
    ]);
    for item in &items {
        let Item::Queue(queue) = item else { continue };
        if json {
            output::json(queue)?;
            continue;
        }
        let dropped: Vec<String> = queue.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        table.row([
            queue.log.clone(),
            priority(queue.priority),
            queue.waiting.to_string(),
            output::bytes(queue.bytes),
            queue.oldest_age_ms.map(output::span).unwrap_or_default(),
            queue.cursor.to_string(),
            queue.tail.to_string(),
            queue.expired.to_string(),
            queue.dead.to_string(),
            dropped.join(", "),
        ]);
    }
    if !json {
        table.print();
    }
    Ok(())
}

async fn peek(control: &Path, args: &PeekArgs, json: bool) -> anyhow::Result<()> {
    let request = Request::Peek(PeekRequest {
        log: args.log.clone(),
        priority: None,
        from: args.from,
        count: args.count.min(PEEK_MAX) as u64,
        body_bytes_max: if json { JSON_BODY_BYTES } else { TABLE_BODY_BYTES },
        dead: args.dead,
    });
    let items = client::ask(control, &request).await?;
    let stored = items.iter().filter_map(|item| match item {
        Item::Stored(stored) => Some(stored),
        _ => None,
    });
    if json {
        return stored.into_iter().try_for_each(output::json);
    }
    let mut table = Table::new(["PRIORITY", ">OFFSET", "FROM", "ROUTE", "BODY", "WHY DEAD"]);
    let mut shown = 0;
    for one in stored {
        table.row(row(one)?);
        shown += 1;
    }
    table.print();
    if shown == args.count {
        output::note(format!(
            "at most {shown} are shown; --count shows more, --from those from an offset on"
        ));
    } else if shown >= PEEK_MAX {
        output::note(format!(
            "{shown} are the most that one answer holds; --from shows those from an offset on"
        ));
    }
    Ok(())
}

fn row(one: &StoredItem) -> anyhow::Result<[String; 6]> {
    let why = one.dead.as_ref().map(|dead| format!("{} (tried {} times)", dead.reason, dead.attempts));
    Ok([
        priority(one.priority),
        one.offset.to_string(),
        output::foreign(&one.from.source()?.to_string()),
        one.route.clone(),
        output::body(&one.message.body.bytes()?, 60),
        why.unwrap_or_default(),
    ])
}

async fn purge(control: &Path, args: &PurgeArgs, json: bool) -> anyhow::Result<()> {
    if !args.yes {
        let what = if args.dead { "dead letter" } else { "message" };
        if !stdin().is_terminal() {
            bail!("this drops every {what} of {}; say --yes if that is meant", args.log);
        }
        output::note(format!("Drop every {what} of {}? [y/N]", args.log));
        let mut answer = String::new();
        stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was dropped");
        }
    }
    tell(client::count(control, &client::purge_request(&args.log, args.dead)).await?, "purged", json)
}

fn tell(count: u64, what: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&serde_json::json!({ what: count }));
    }
    output::line(format!("{what}: {count}"));
    Ok(())
}

fn priority(level: u8) -> String {
    if level == holdfast_types::Priority::DEFAULT.level() { "default".to_owned() } else { level.to_string() }
}
