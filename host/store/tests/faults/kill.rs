//! kill -9 at random moments, on one store that goes on from round to round.

use crate::{
    Dice, rounds,
    witness::{Record, check},
    writer::{Plan, wait_for_open},
};
use std::time::Duration;

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let mut dice = Dice::new(1);
    let rounds = rounds(12);
    let mut torn = 0;
    for round in 0..rounds {
        let plan = Plan {
            store: dir.path().join("store"),
            record: record.clone(),
            from: 1_000_000 * (round as u32 % 4000),
            commits: u32::MAX,
            bytes_max: 100_000,
            ballast_bytes: 0,
        };
        let opened = Record::read(&record).opened;
        let mut child = plan.start();
        if round % 5 != 4 {
            wait_for_open(&record, &mut child, opened + 1);
        }
        // Every fifth round the kill comes while the store is being opened.
        std::thread::sleep(Duration::from_millis(dice.throw(if round % 5 == 4 { 60 } else { 250 })));
        child.kill().unwrap();
        child.wait().unwrap();
        torn += u64::from(check(&plan.store, &Record::read(&record)).torn_bytes > 0);
    }
    let record = Record::read(&record);
    println!(
        "kill -9: {rounds} rounds, {} messages acknowledged, 0 lost, {torn} torn tails cut",
        record.stored.len()
    );
}
