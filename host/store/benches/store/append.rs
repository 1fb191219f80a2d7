//! Durable appends: throughput and latency.

use crate::{
    engines::{Engine, Grouped, Holdfast, OneByOne, Raw, Sqlite},
    folder, row, slice, slices,
};
use holdfast_store::Linger;
use holdfast_test_measure::Calmest;
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

const PRODUCERS: usize = 64;

/// Messages per second that so many producers get through, each waiting for its message to be on disk.
fn closed_loop(engine: &dyn Engine, bytes: usize, time: Duration) -> f64 {
    begin(engine, bytes);
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (stop, count) = (&stop, &count);
            scope.spawn(move || {
                let body = body(bytes, producer as u64);
                let (send, receive) = mpsc::sync_channel(1);
                while !stop.load(Ordering::Relaxed) {
                    let send = send.clone();
                    engine.append(body.clone(), Box::new(move || send.send(()).unwrap()));
                    receive.recv().unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

/// The first message: with it an engine makes its tables and files, which is a matter of once.
fn begin(engine: &dyn Engine, bytes: usize) {
    let (send, receive) = mpsc::sync_channel(1);
    engine.append(body(bytes, 0), Box::new(move || send.send(()).unwrap()));
    receive.recv().unwrap();
}

/// Bytes that do not compress.
pub fn body(bytes: usize, salt: u64) -> bytes::Bytes {
    let mut x = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    });
    next.take(bytes).collect()
}

type Make = fn(&std::path::Path) -> Box<dyn Engine>;

const RAW: Make = |folder| Box::new(Grouped::new(Raw::new(folder, 0), Duration::ZERO));
const ZEROED: Make = |folder| Box::new(Grouped::new(Raw::new(folder, 64 << 20), Duration::ZERO));
const SQLITE: Make = |folder| Box::new(Grouped::new(Sqlite::new(folder), Duration::ZERO));
const ONE_BY_ONE: Make = |folder| Box::new(Grouped::new(OneByOne(Sqlite::new(folder)), Duration::ZERO));
const HOLDFAST: Make = |folder| Box::new(Holdfast::new(folder, Linger::Auto));
const HOLDFAST_AT_ONCE: Make = |folder| Box::new(Holdfast::new(folder, Linger::Fixed(Duration::ZERO)));
const RAW_LINGER: Make = |folder| Box::new(Grouped::new(Raw::new(folder, 0), Duration::from_micros(250)));

/// How many rounds are run, and how long an engine has in each.
struct Rounds {
    slice: Duration,
    /// So many count, those that other machines disturbed least.
    keep: usize,
    /// What other machines take of the processors comes and goes, so that up to so many are run.
    most: usize,
}

impl Rounds {
    fn usual() -> Self {
        Self { slice: slice(), keep: slices(), most: slices() * 4 }
    }

    /// Short ones, for what gets nowhere near the writing of a table in a usual one either: there is more often half a
    /// second in which no other machine wants anything than six.
    fn short() -> Self {
        Self { slice: slice() / 4, keep: slices() * 3, most: slices() * 20 }
    }
}

/// Medians of the rounds that other machines disturbed least; in each all engines had a slice in turn.
fn compare(engines: &[Make], bytes: usize, rounds: &Rounds) -> Vec<f64> {
    let one = |make: &Make| {
        let folder = folder();
        let engine = make(folder.path());
        let rate = closed_loop(&*engine, bytes, rounds.slice);
        let note = engine.note();
        if !note.is_empty() && std::env::var_os("HOLDFAST_BENCH_NOTES").is_some() {
            println!("  {rate:.0}/s, {note}");
        }
        rate
    };
    let rounds = Calmest::run(rounds.keep, rounds.most, || engines.iter().map(one).collect::<Vec<f64>>());
    println!("  medians of {rounds}");
    (0..engines.len()).filter_map(|engine| rounds.median(|rates| rates[engine])).collect()
}

/// What the store takes from all producers.
pub fn highest_rate() -> f64 {
    compare(&[HOLDFAST], 256, &Rounds::usual())[0]
}

pub fn small() {
    let rates =
        compare(&[HOLDFAST, RAW, ZEROED, SQLITE, ONE_BY_ONE, HOLDFAST_AT_ONCE], 256, &Rounds::usual());
    let [ours, raw, zeroed, sqlite, one, at_once] = rates[..] else { return };
    let found = format!(
        "{:.2} raw, {:.2} zeroed, {:.2} SQLite, {:.1} one by one [{:.0}/s]",
        ours / raw,
        ours / zeroed,
        ours / sqlite,
        ours / one,
        ours
    );
    println!("  without lingering {at_once:.0}/s; raw {raw:.0}/s, SQLite {sqlite:.0}/s");
    let holds = ours >= 0.75 * raw && ours >= 0.45 * zeroed && ours >= sqlite && ours >= 10.0 * one;
    row("durable append, 256 B, 64 producers", &found, ">= 0.75, 0.45, 1.0, 10", holds);
}

pub fn large() {
    let rates = compare(&[HOLDFAST, RAW, SQLITE], 16 << 10, &Rounds::usual());
    let [ours, raw, sqlite] = rates[..] else { return };
    let found = format!("{:.2} raw, {:.2} SQLite [{ours:.0}/s]", ours / raw, ours / sqlite);
    row(
        "durable append, 16 KiB, 64 producers",
        &found,
        ">= 0.45, 1.4",
        ours >= 0.45 * raw && ours >= 1.4 * sqlite,
    );
}

/// The same on a disk that takes 5 ms for each sync: this program again, with a library before it that waits.
pub fn slow() {
    let dir = folder();
    let source = dir.path().join("slow.c");
    let library = dir.path().join("slow.so");
    std::fs::write(&source, SLOW).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    if !built.is_ok_and(|status| status.success()) {
        return println!("durable append at 5 ms fsync: skipped, this needs a C compiler");
    }
    let this = std::env::current_exe().unwrap();
    let run = |plan: &str| {
        Command::new(this.clone())
            .env("LD_PRELOAD", &library)
            .env("HOLDFAST_BENCH_SLOW", plan)
            .output()
            .unwrap()
    };
    let output = String::from_utf8(run("all").stdout).unwrap();
    print!("{output}");
}

const SLOW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fsync(int fd) { static int (*real)(int); if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync"); usleep(5000); return real(fd); }
int fdatasync(int fd) { static int (*real)(int); if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync"); usleep(5000); return real(fd); }
"#;

pub fn slow_child(_: &str) {
    let rates = compare(&[HOLDFAST, HOLDFAST_AT_ONCE, RAW_LINGER], 256, &Rounds::short());
    let [ours, at_once, raw] = rates[..] else { return };
    let found =
        format!("{:.2} raw with linger, {:.2} of ours without [{ours:.0}/s]", ours / raw, ours / at_once);
    row("the same at 5 ms fsync", &found, ">= 0.95, 1.7", ours >= 0.95 * raw && ours >= 1.7 * at_once);
}

/// Latency at half of the highest load, messages at even distances. An append-only file with the same group commit gets
/// the same messages in turns with the store: while one slow sync lasts many messages come, so that theirs is the time
/// that the disk itself takes from 1 in 100 of them.
pub fn latency() {
    let most = highest_rate();
    let gap = Duration::from_secs_f64(2.0 / most);
    let usual = Rounds::usual();
    let rounds = Calmest::run(usual.keep, usual.most, || {
        let dir = folder();
        let syncs = sync_latencies();
        let raw = open_loop(Box::new(Grouped::new(Raw::new(dir.path(), 0), Duration::ZERO)), gap);
        [open_loop(HOLDFAST(dir.path()), gap), raw, syncs]
    });
    println!("  of {rounds}");
    let of =
        |engine: usize| Spread::of(rounds.slices.iter().flat_map(|times| times[engine].clone()).collect());
    let (ours, raw, syncs) = (of(0), of(1), of(2));
    println!("  the same messages to a raw file {raw}; one fdatasync {syncs}");
    let limit = 3 * syncs.at(0.99) + Duration::from_millis(2);
    let holds = ours.at(0.99) <= limit && ours.at(0.999) <= Duration::from_millis(50);
    let goal = format!("p99 <= {:.1} ms, p99.9 <= 50 ms", limit.as_secs_f64() * 1e3);
    let what = format!("ack at half of the highest load, {:.0}/s", most / 2.0);
    row(&what, &ours.to_string(), &goal, holds);
}

/// From when each message was due until its acknowledgement.
fn open_loop(engine: Box<dyn Engine>, gap: Duration) -> Vec<Duration> {
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let body = body(256, 1);
    begin(&*engine, body.len());
    let started = Instant::now();
    let mut due = started;
    while started.elapsed() < slice() * 2 {
        due += gap;
        while Instant::now() < due {
            std::thread::yield_now();
        }
        let (latencies, sent) = (Arc::clone(&latencies), due);
        engine.append(body.clone(), Box::new(move || latencies.lock().unwrap().push(sent.elapsed())));
    }
    // It ends when everything is on disk.
    drop(engine);
    std::mem::take(&mut *latencies.lock().unwrap())
}

/// Times in order.
struct Spread(Vec<Duration>);

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    fn at(&self, share: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |share| self.at(share).as_secs_f64() * 1e3;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.1} ms", ms(0.5), ms(0.99), ms(0.999))
    }
}

/// Of appending a page and syncing it.
fn sync_latencies() -> Vec<Duration> {
    use std::io::Write;
    let folder = folder();
    let mut file = std::fs::File::create(folder.path().join("probe")).unwrap();
    let sync = |_| {
        let started = Instant::now();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        started.elapsed()
    };
    (0..2000).map(sync).collect()
}
