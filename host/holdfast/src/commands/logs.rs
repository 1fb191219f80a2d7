//! `holdfast logs` and `holdfast log`.

use super::client;
use crate::{
    cli::{LogArgs, LogsArgs},
    output,
};
use anyhow::{Context, bail};
use holdfast_api::{Item, LogsRequest, Request};
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Shows what a module has logged.
pub async fn logs(control: &Path, args: &LogsArgs, json: bool) -> anyhow::Result<()> {
    let since_ms = match &args.since {
        Some(age) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            Some(u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(age_ms(age)?))
        }
        None => None,
    };
    let request = Request::Logs(LogsRequest {
        module: Some(args.module.clone()),
        tail: args.tail.map(|n| n as u64),
        since_ms,
        until_ms: None,
        follow: args.follow,
    });
    let mut client = client::connect(control).await?;
    let mut answers = client.ask(&request).await?;
    while let Some(item) = answers.next().await? {
        let Item::Log(line) = item else { continue };
        if json {
            output::json(&line)?;
        } else {
            let level = format!("{:?}", line.level).to_uppercase();
            output::line(format!("{}  {level:<5}  {}", time(line.time_ms), line.text));
        }
    }
    Ok(())
}

/// Changes the level of the host's own log.
pub async fn level(control: &Path, args: &LogArgs, json: bool) -> anyhow::Result<()> {
    for item in client::ask(control, &Request::LogLevel(args.level.into())).await? {
        match item {
            Item::Done(text) if json => output::json(&serde_json::json!({ "done": text }))?,
            Item::Done(text) => output::line(text),
            _ => {}
        }
    }
    Ok(())
}

/// `90s`, `10m`, `2h`, `1d`, or seconds.
pub fn age_ms(text: &str) -> anyhow::Result<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => bail!("{other:?} is no unit of time; write 90s, 10m, 2h or 1d"),
    };
    let number: u64 =
        digits.trim().parse().with_context(|| format!("{text:?} is no age; write 90s, 10m, 2h or 1d"))?;
    Ok(number.saturating_mul(unit))
}

/// A time of day in UTC with milliseconds, with its date.
pub fn time(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Civil date from days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_taken_with_their_units() {
        assert_eq!(age_ms("90s").unwrap(), 90_000);
        assert_eq!(age_ms("10m").unwrap(), 600_000);
        assert_eq!(age_ms("1d").unwrap(), 86_400_000);
        assert_eq!(age_ms("5").unwrap(), 5_000);
        assert!(age_ms("2 weeks").unwrap_err().to_string().contains("no unit"));
        assert!(age_ms("h").is_err());
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(time(1_795_223_675_042), "2026-11-21 01:14:35.042Z");
    }
}
