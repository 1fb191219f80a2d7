//! A long backlog: draining it, remembering it, opening it again, giving its space back.

use crate::{
    append::body,
    backlog as messages,
    engines::{Engine, Holdfast, Sqlite, config, queue},
    folder, row, slice,
};
use holdfast_store::{Ack, Commit, Linger, ReadLimit, Store, SystemClock};
use holdfast_test_measure::resident_bytes;
use holdfast_types::Offset;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const BYTES: usize = 256;
const GROUP: u64 = 1024;

fn load(engine: &Holdfast, count: u64) {
    let waiting = Arc::new(AtomicU64::new(0));
    let body = body(BYTES, 7);
    for n in 0..count {
        while waiting.load(Ordering::Relaxed) > 2 * GROUP {
            std::thread::yield_now();
        }
        waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Arc::clone(&waiting);
        // The number makes bodies differ; the rest does not compress.
        let mut bytes = body.to_vec();
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        engine.append(bytes.into(), Box::new(move || _ = waiting.fetch_sub(1, Ordering::Relaxed)));
    }
    while waiting.load(Ordering::Relaxed) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads and acknowledges everything in groups. Returns the rates of ten parts.
fn drain_ours(store: &Store, count: u64) -> Vec<f64> {
    let queue = queue();
    let limit = ReadLimit { messages: 500, bytes: 1 << 20 };
    let mut at = Offset(0);
    let mut parts = Vec::new();
    let mut reading = Duration::ZERO;
    let whole = Instant::now();
    for part in 1..=10 {
        let (started, from) = (Instant::now(), at);
        while at.0 < count * part / 10 {
            let began = Instant::now();
            let batch = store.read(&queue, at, limit).unwrap();
            reading += began.elapsed();
            at = batch.next;
            let ack = Ack { queue: queue.clone(), cursor: at };
            let mut commit = Commit { acks: vec![ack], ..Commit::default() };
            // The cursor rides along; the next read does not wait for it.
            while let Err(full) = store.commit(commit, |result| drop(result.unwrap())) {
                commit = full.commit;
                std::thread::yield_now();
            }
        }
        parts.push((at.0 - from.0) as f64 / started.elapsed().as_secs_f64());
    }
    if std::env::var_os("HOLDFAST_BENCH_NOTES").is_some() {
        let rates: Vec<String> = parts.iter().map(|rate| format!("{:.0}", rate / 1e3)).collect();
        println!("  reading took {reading:?} of {:?}; thousands/s {}", whole.elapsed(), rates.join(" "));
    }
    parts
}

fn drain_sqlite(path: &Path, count: u64) -> f64 {
    let Sqlite(mut db) = Sqlite::new(path);
    let started = Instant::now();
    let (mut at, mut read) = (0_i64, 0_u64);
    let mut bytes = 0;
    while read < count {
        let transaction = db.transaction().unwrap();
        {
            let mut select = transaction
                .prepare_cached("SELECT seq, body FROM q WHERE seq > ?1 ORDER BY seq LIMIT 500")
                .unwrap();
            let mut rows = select.query([at]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                at = row.get(0).unwrap();
                bytes += row.get::<_, Vec<u8>>(1).unwrap().len();
                read += 1;
            }
            transaction.prepare_cached("DELETE FROM q WHERE seq <= ?1").unwrap().execute([at]).unwrap();
        }
        transaction.commit().unwrap();
    }
    assert!(bytes >= count as usize * BYTES);
    count as f64 / started.elapsed().as_secs_f64()
}

fn drain_raw(path: &Path, count: u64) -> f64 {
    let started = Instant::now();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
    let (mut head, mut bodies) = ([0; 8], Vec::new());
    let mut cursor = File::create(path.with_extension("cursor")).unwrap();
    for n in 0..count {
        file.read_exact(&mut head).unwrap();
        let mut body = vec![0; BYTES];
        file.read_exact(&mut body).unwrap();
        assert_eq!(head[4..], crc32c::crc32c(&body).to_le_bytes());
        bodies.push(body);
        if n % 500 == 499 {
            bodies.clear();
            cursor.write_all(&n.to_le_bytes()).unwrap();
        }
        if n % 100_000 == 0 {
            cursor.sync_data().unwrap();
        }
    }
    count as f64 / started.elapsed().as_secs_f64()
}

pub fn drain() {
    let count = messages();
    let folder = folder();
    let engine = Holdfast::new(folder.path(), Linger::Auto);
    load(&engine, count);
    if std::env::var_os("HOLDFAST_BENCH_READS").is_some() {
        read_again(&engine.store, count);
    }
    // Appends go on while the backlog is drained.
    let stop = Arc::new(AtomicBool::new(false));
    let (parts, first_reads) = std::thread::scope(|scope| {
        let (engine, stop) = (&engine, &stop);
        scope.spawn(move || {
            let body = body(BYTES, 9);
            while !stop.load(Ordering::Relaxed) {
                (0..25).for_each(|_| engine.append(body.clone(), Box::new(|| {})));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let parts = drain_ours(&engine.store, count);
        let first_reads = first_reads(&engine.store);
        stop.store(true, Ordering::Relaxed);
        (parts, first_reads)
    });
    let ours = parts.len() as f64 / parts.iter().map(|rate| 1.0 / rate).sum::<f64>();
    drop(engine);
    fill_raw(&folder.path().join("raw"), count);
    let raw = drain_raw(&folder.path().join("raw"), count);
    fill_sqlite(folder.path(), count);
    let sqlite = drain_sqlite(folder.path(), count);
    let even = parts[0] / parts[9];
    let found = format!(
        "{:.1} SQLite, {:.2} raw, first tenth to last {even:.2} [{ours:.0}/s]",
        ours / sqlite,
        ours / raw
    );
    let holds = ours >= 3.0 * sqlite && ours >= 0.2 * raw && even <= 1.3;
    row(&format!("drain and ack of {count} while appending"), &found, ">= 3, 0.2, <= 1.3", holds);
    let p99 = first_reads[first_reads.len() * 99 / 100];
    let found =
        format!("p50 {} us, p99 {} us", first_reads[first_reads.len() / 2].as_micros(), p99.as_micros());
    row(
        &format!("first read after {count} consumed"),
        &found,
        "p99 <= 100 us",
        p99 <= Duration::from_micros(100),
    );
}

fn first_reads(store: &Store) -> Vec<Duration> {
    let queue = queue();
    let mut all: Vec<Duration> = (0..2000)
        .map(|_| {
            let cursor = store.cursor(&queue);
            let started = Instant::now();
            let batch = store.read(&queue, cursor, ReadLimit { messages: 1, bytes: 1 }).unwrap();
            let took = started.elapsed();
            drop(batch);
            took
        })
        .collect();
    all.sort();
    all
}

fn fill_raw(path: &Path, count: u64) {
    use crate::engines::{Disk, Raw};
    let mut raw = Raw::new(path.parent().unwrap(), 0);
    let group = vec![body(BYTES, 7); GROUP as usize];
    (0..count.div_ceil(GROUP)).for_each(|_| raw.write(&group));
}

fn fill_sqlite(path: &Path, count: u64) {
    use crate::engines::Disk;
    let mut sqlite = Sqlite::new(path);
    let group = vec![body(BYTES, 7); 4096];
    (0..count.div_ceil(4096)).for_each(|_| sqlite.write(&group));
}

/// `load path count`: fills a store, says how much memory that took, and waits to be killed.
/// `open path`: opens it, says how long that took, drains it, says when the space was back.
pub fn child(plan: &str) {
    let parts: Vec<&str> = plan.split('|').collect();
    let path = Path::new(parts[1]);
    match parts[0] {
        "load" => {
            let before = resident_bytes("self") >> 10;
            let engine = Holdfast::new(path, Linger::Auto);
            load(&engine, parts[2].parse().unwrap());
            println!(
                "{} {}",
                (resident_bytes("self") >> 10).saturating_sub(before),
                (resident_bytes("self") >> 10)
            );
            std::thread::sleep(Duration::from_secs(3600));
        }
        _ => {
            let (before, started) = ((resident_bytes("self") >> 10), Instant::now());
            let (store, report) =
                holdfast_store::open(config(path, Linger::Auto), Arc::new(SystemClock::new())).unwrap();
            let opened = started.elapsed();
            let memory = (resident_bytes("self") >> 10).saturating_sub(before);
            let first = Instant::now();
            assert_eq!(
                store.read(&queue(), Offset(0), ReadLimit { messages: 1, bytes: 1 }).unwrap().entries.len(),
                1
            );
            let first = first.elapsed();
            assert!(report.is_clean(), "{report}");
            println!("{} {memory} {} {}", opened.as_micros(), first.as_micros(), report.messages);
            let tail = store.tail(&queue());
            let ack = Ack { queue: queue(), cursor: tail };
            store.commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
            let started = Instant::now();
            while folder_bytes(path) > 270 << 20 && started.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(50));
            }
            println!("{} {}", started.elapsed().as_millis(), folder_bytes(path) >> 20);
        }
    }
}

/// Bytes that a folder takes on the disk, holes not counted.
pub fn folder_bytes(path: &Path) -> u64 {
    let Ok(items) = std::fs::read_dir(path) else { return 0 };
    let size = |item: std::io::Result<std::fs::DirEntry>| {
        let item = item.ok()?;
        let found = item.metadata().ok()?;
        #[cfg(unix)]
        let bytes = std::os::unix::fs::MetadataExt::blocks(&found) * 512;
        #[cfg(not(unix))]
        let bytes = found.len();
        Some(if found.is_dir() { folder_bytes(&item.path()) } else { bytes })
    };
    items.filter_map(size).sum()
}

pub fn memory_and_opening() {
    let count = messages();
    let folder = folder();
    let this = std::env::current_exe().unwrap();
    let start = |plan: String| {
        Command::new(&this).env("HOLDFAST_BENCH_CHILD", plan).stdout(Stdio::piped()).spawn().unwrap()
    };
    let path = folder.path().display().to_string();
    let mut child = start(format!("load|{path}|{count}"));
    let numbers =
        |line: String| line.split_whitespace().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let memory = numbers(lines.next().unwrap().unwrap())[0];
    let disk = folder_bytes(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let found =
        format!("{} MiB, {:.2} bytes per message", memory >> 10, memory as f64 * 1024.0 / count as f64);
    row(&format!("memory of the store, backlog of {count}"), &found, "<= 48 MB", memory * 1024 <= 48_000_000);
    let payload = count * BYTES as u64;
    let bound = payload as f64 * 1.08 + 200.0 * f64::from(1 << 20);
    let found =
        format!("{} MiB for {} MiB payload, {:.3}x", disk >> 20, payload >> 20, disk as f64 / payload as f64);
    row("disk", &found, "<= 1.08 payload + 200 MiB", disk as f64 <= bound);
    let mut child = start(format!("open|{path}"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let opened = numbers(lines.next().unwrap().unwrap());
    let freed = numbers(lines.next().unwrap().unwrap());
    child.wait().unwrap();
    let found = format!("{} ms, {} MiB, first read {} us", opened[0] / 1000, opened[1] >> 10, opened[2]);
    row("open after kill -9, warm", &found, "<= 500 ms", opened[0] <= 500_000 && opened[3] == count);
    let found = format!("{} ms after the ack, {} MiB left", freed[0], freed[1]);
    row("space back", &found, "<= 5 s", freed[0] <= 5_000);
    let _ = slice();
}

/// Acknowledges so many, kills the process, opens the store: how many are there, of how many.
pub fn kept_after_a_kill(count: u64) -> (u64, u64) {
    let folder = folder();
    let this = std::env::current_exe().unwrap();
    let path = folder.path().display().to_string();
    let start = |plan: String| {
        Command::new(&this).env("HOLDFAST_BENCH_CHILD", plan).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start(format!("load|{path}|{count}"));
    BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start(format!("open|{path}"));
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap()).collect();
    child.wait().unwrap();
    let opened = &lines[0];
    (opened.split_whitespace().nth(3).unwrap().parse().unwrap(), count)
}

/// Reads everything ten times, for a profiler.
fn read_again(store: &Store, count: u64) {
    for _ in 0..10 {
        let (started, mut at) = (Instant::now(), Offset(0));
        while at.0 < count {
            at = store.read(&queue(), at, ReadLimit { messages: 500, bytes: 1 << 20 }).unwrap().next;
        }
        println!("  read {count} at {:.0}/s", count as f64 / started.elapsed().as_secs_f64());
    }
}
