//! How long a module's answers take while six hostile ones run beside it, against the bound that ARCHITECTURE.md states.
//! Prints a table; fails nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;
use support::hostile::{ALL, Answers, HOSTILE, beside};

const ANSWERS: usize = 500;

/// A module that computes gives way each tick.
const TICK: Duration = Duration::from_millis(10);

/// As the host has it (`holdfast_gateway::EVENT_INTERVAL`, a room that this one does not know).
const EVENT_INTERVAL: u32 = 13;

fn main() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.event_interval(EVENT_INTERVAL).enable_all().build().unwrap();
    let processors = std::thread::available_parallelism().map_or(1, Into::into);
    let bound = TICK * u32::try_from(HOSTILE.div_ceil(processors) + 1).unwrap();
    println!(
        "{:<36} {:>10} {:>10} {:>10}  bound for 99 of 100: {bound:?}",
        "beside", "median", "99 of 100", "longest"
    );
    runtime.block_on(async {
        row("nobody", &beside(None, ANSWERS).await, bound);
        for (what, hostile) in ALL {
            row(what, &beside(Some(hostile), ANSWERS).await, bound);
        }
    });
}

fn row(what: &str, answers: &Answers, bound: Duration) {
    let (median, most, longest) = (answers.per_mille(500), answers.per_mille(990), answers.per_mille(1_000));
    let verdict = if most <= bound { "within" } else { "OVER" };
    println!("{what:<36} {median:>10.1?} {most:>10.1?} {longest:>10.1?}  {verdict}");
}
