//! Whether the clock can be trusted: expiry and certificates depend on it.

use super::Finding;
use holdfast_config::Config;
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// 2026-01-01 00:00:00 UTC, before this program was made: a clock that shows less was never set.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// A file written this far in the future shows that the clock has gone back.
const SLACK: Duration = Duration::from_secs(60);

pub fn check(config: &Config) -> Finding {
    let now = SystemTime::now();
    if now.duration_since(UNIX_EPOCH).unwrap_or_default() < EARLIEST {
        return Finding::Error(
            "the clock shows a time before this program was made: set it, or let it be set (on Linux: \
             `timedatectl set-ntp true`); until then certificates fail and nothing expires"
                .to_owned(),
        );
    }
    match newest(&config.paths.data) {
        Some(written) if written > now + SLACK => Finding::Warning(format!(
            "the clock is {} behind the newest file in {}; has it gone back? set it before messages expire late",
            crate::output::span(
                u64::try_from(written.duration_since(now).unwrap_or_default().as_millis())
                    .unwrap_or(u64::MAX)
            ),
            config.paths.data.display()
        )),
        _ => Finding::Ok("the clock is plausible".to_owned()),
    }
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(folder).ok()?;
    files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok()).max()
}
