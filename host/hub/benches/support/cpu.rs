//! The time that a process has computed: its number, or `self`.

use std::time::Duration;

pub fn cpu_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    // A tick is a hundredth of a second on every Linux that this runs on.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
