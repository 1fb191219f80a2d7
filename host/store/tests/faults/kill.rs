//! kill -9 at random moments, on one store that goes on from round to round.

use crate::{
    Dice,
    power::Mount,
    rounds,
    witness::{Record, check},
    writer::{Plan, wait_for_open},
};
use std::{path::Path, time::Duration};

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    kill(&dir.path().join("store"), &dir.path().join("record"), rounds(12), 100_000, 250);
}

/// Here the journals are let go again and again, because the disk could not hold one.
#[test]
fn nothing_acknowledged_is_lost_to_kill_9_on_a_disk_smaller_than_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(40 << 20, &dir.path().join("mnt")) else {
        eprintln!("skipped: a tmpfs of its own needs root");
        return;
    };
    kill(&mount.path().join("store"), &dir.path().join("record"), rounds(12), 600_000, 1500);
}

fn kill(store: &Path, record: &Path, rounds: u64, bytes_max: u32, longest_ms: u64) {
    let mut dice = Dice::new(1);
    let mut torn = 0;
    for round in 0..rounds {
        let plan = Plan {
            store: store.to_owned(),
            record: record.to_owned(),
            from: 1_000_000 * (round as u32 % 4000),
            commits: u32::MAX,
            bytes_max,
            ballast_bytes: 0,
        };
        let opened = Record::read(record).opened;
        let mut child = plan.start();
        if round % 5 != 4 {
            wait_for_open(record, &mut child, opened + 1);
        }
        // Every fifth round the kill comes while the store is being opened.
        std::thread::sleep(Duration::from_millis(dice.throw(if round % 5 == 4 { 60 } else { longest_ms })));
        child.kill().unwrap();
        child.wait().unwrap();
        torn += u64::from(check(&plan.store, &Record::read(record)).torn_bytes > 0);
    }
    let record = Record::read(record);
    println!(
        "kill -9: {rounds} rounds, {} messages acknowledged, 0 lost, {torn} torn tails cut",
        record.stored.len()
    );
}
