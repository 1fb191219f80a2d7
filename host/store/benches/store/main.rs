//! The store against a raw append-only file, SQLite and, when it is installed, Mosquitto, on the same disk in the same
//! run. Ratios are the result; the absolute numbers in brackets belong to the machine.
//!
//! ```text
//! cargo bench -p holdfast-store                            every row, backlog of 1 million
//! cargo bench -p holdfast-store -- append drain            some rows
//! HOLDFAST_BENCH_BACKLOG=10000000 cargo bench -p holdfast-store -- backlog
//! ```
//! `HOLDFAST_BENCH_DIR` says on which disk (default: the target folder), `HOLDFAST_BENCH_SECONDS` how long one slice
//! takes, `HOLDFAST_BENCH_SLICES` how many slices the median is taken of. Engines take turns, so that a noisy minute
//! hits all of them, and of appends many times as many rounds are run, of which the calmest count.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    reason = "a benchmark may fail, and prints"
)]

mod append;
mod backlog;
mod engines;
mod flash;
mod mosquitto;

use holdfast_test_measure::Quiet;
use std::{path::PathBuf, time::Duration};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

pub fn slice() -> Duration {
    Duration::from_millis(number("HOLDFAST_BENCH_SECONDS", 2) * 1000)
}

pub fn slices() -> usize {
    number("HOLDFAST_BENCH_SLICES", 3) as usize
}

pub fn backlog() -> u64 {
    number("HOLDFAST_BENCH_BACKLOG", 1_000_000)
}

/// A fresh folder on the disk that is measured.
pub fn folder() -> tempfile::TempDir {
    let base = std::env::var("HOLDFAST_BENCH_DIR")
        .map_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    tempfile::tempdir_in(base).unwrap()
}

/// One line of the table.
pub fn row(what: &str, found: &str, goal: &str, holds: bool) {
    println!("{:<46} {:<58} {:<34} {}", what, found, goal, if holds { "holds" } else { "MISSED" });
}

fn main() {
    if let Ok(plan) = std::env::var("HOLDFAST_BENCH_CHILD") {
        return backlog::child(&plan);
    }
    if let Ok(plan) = std::env::var("HOLDFAST_BENCH_SLOW") {
        return append::slow_child(&plan);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let quiet = Quiet::look();
    let rows: [(&str, fn()); 8] = [
        ("append", append::small),
        ("large", append::large),
        ("slow", append::slow),
        ("latency", append::latency),
        ("drain", backlog::drain),
        ("backlog", backlog::memory_and_opening),
        ("flash", flash::written),
        ("mosquitto", mosquitto::persistence),
    ];
    for (name, run) in rows {
        if is_wanted(name) {
            run();
        }
    }
    quiet.say();
}
