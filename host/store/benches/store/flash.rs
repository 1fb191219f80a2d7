//! Bytes written for each byte of payload: what flash wears out by.

use crate::{
    append::body,
    engines::{Engine, Holdfast},
    folder, row, slice,
};
use holdfast_store::Linger;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const BYTES: u64 = 256;

/// Bytes that this process has caused to be written to a disk.
fn written_bytes() -> u64 {
    process_written_bytes("self")
}

/// The same for another process.
pub fn process_written_bytes(process: &str) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let line = io.lines().find(|line| line.starts_with("write_bytes")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Appends at a rate, or as fast as it goes; returns bytes written for each byte of payload, closing included.
fn ratio(linger: Linger, rate: Option<f64>, time: Duration) -> f64 {
    let folder = folder();
    let before = written_bytes();
    let engine = Holdfast::new(folder.path(), linger);
    let opened = written_bytes() - before;
    let waiting = Arc::new(AtomicU64::new(0));
    let body = body(BYTES as usize, 3);
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        let due = rate.map_or(u64::MAX, |rate| (started.elapsed().as_secs_f64() * rate) as u64);
        if sent >= due || waiting.load(Ordering::Relaxed) > 2000 {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Arc::clone(&waiting);
        engine.append(body.clone(), Box::new(move || _ = waiting.fetch_sub(1, Ordering::Relaxed)));
        sent += 1;
    }
    engine.store.close().unwrap();
    drop(engine);
    (written_bytes() - before - opened) as f64 / (sent * BYTES) as f64
}

/// Bytes written for each byte of payload as fast as it goes.
pub fn saturated() -> f64 {
    ratio(Linger::Auto, None, slice() * 3)
}

pub fn written() {
    if !std::path::Path::new("/proc/self/io").exists() {
        return println!("bytes written: skipped, this needs /proc/self/io");
    }
    let saturated = saturated();
    row("bytes written per payload byte, saturated", &format!("{saturated:.2}"), "<= 2.3", saturated <= 2.3);
    let slow = ratio(Linger::Fixed(Duration::from_millis(10)), Some(2000.0), slice() * 10);
    row("the same at 2,000/s with 10 ms linger", &format!("{slow:.2}"), "<= 3.0", slow <= 3.0);
    let auto = ratio(Linger::Auto, Some(2000.0), slice() * 5);
    println!("{:<46} {auto:.2}", "for comparison, at 2,000/s with automatic linger");
}
