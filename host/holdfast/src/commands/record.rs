//! `holdfast record`: messages as they pass, whole, a line of JSON each, for `holdfast module test`.

use super::{client, logs::age_ms};
use crate::{cli::RecordArgs, output};
use anyhow::{Context, bail};
use holdfast_api::{Item, Request, TailRequest};
use holdfast_types::BODY_BYTES_MAX;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The longest recording without a time of its own: a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Records until the count or the time is over, or the edge stops. A recording with a gap is none: it says so and fails.
pub async fn run(control: &Path, args: &RecordArgs, json: bool) -> anyhow::Result<()> {
    let request =
        Request::Tail(TailRequest { source: None, route: None, count: None, body_bytes_max: BODY_BYTES_MAX });
    let time = args.time.as_deref().map(age_ms).transpose()?.map_or(LONGEST, Duration::from_millis);
    let file =
        File::create(&args.output).with_context(|| format!("{} cannot be written", args.output.display()))?;
    let mut file = BufWriter::new(file);
    let mut client = client::connect(control).await?;
    let mut answers = client.ask(&request).await?;
    let end = Instant::now() + time;
    let (mut count, mut missed) = (0_u64, 0_u64);
    output::note(format!("recording into {}; end it with Ctrl-C", args.output.display()));
    while args.count.is_none_or(|most| count < most) {
        let item = tokio::select! {
            item = answers.next() => item?,
            () = sleep_until(end) => None,
            stopped = tokio::signal::ctrl_c() => stopped.map(|()| None)?,
        };
        match item {
            None => break,
            Some(Item::Passing(passing)) => {
                // What the module is handed, and what it sends.
                let of_module = args.module.as_ref().is_none_or(|module| {
                    let input = format!("\"/modules/{module}/inputs/");
                    let is_source = passing.from.source().is_ok_and(|source| {
                        matches!(source, holdfast_types::Source::Module { module: sender, .. } if sender.as_str() == module)
                    });
                    is_source || passing.taken.iter().any(|taken| taken.sink.contains(&input))
                });
                if of_module {
                    serde_json::to_writer(&mut file, &passing)?;
                    file.write_all(b"\n")?;
                    count += 1;
                }
            }
            Some(Item::Skipped(skipped)) => missed += skipped,
            Some(_) => {}
        }
    }
    file.flush().with_context(|| format!("{} cannot be written", args.output.display()))?;
    if missed > 0 {
        bail!(
            "{missed} messages passed too quickly and are not in {}; record fewer at a time",
            args.output.display()
        );
    }
    if json {
        return output::json(&serde_json::json!({ "output": args.output, "messages": count }));
    }
    output::line(format!("recorded {count} messages into {}", args.output.display()));
    Ok(())
}
