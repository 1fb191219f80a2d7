//! EIO and ENOSPC at the n-th call: the store closes, repairs and opens itself again and carries on.

use crate::{
    Dice, rounds,
    witness::{Record, check},
    writer::Plan,
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

fn shim(folder: &Path) -> Option<std::path::PathBuf> {
    let target = folder.join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&target)
        .args([source, "-ldl"])
        .status();
    (cfg!(target_os = "linux") && status.is_ok_and(|status| status.success())).then_some(target)
}

#[test]
fn nothing_acknowledged_is_lost_to_errors_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let Some(shim) = shim(dir.path()) else {
        eprintln!("skipped: this needs Linux and a C compiler");
        return;
    };
    let mut dice = Dice::new(5);
    let rounds = rounds(8);
    let (mut failed, mut stored, mut carried_on) = (0, 0, 0);
    for round in 0..rounds {
        let case = dir.path().join("case");
        let record = dir.path().join(format!("record.{round}"));
        let store = case.join("store");
        let plan = Plan {
            store: store.clone(),
            record: record.clone(),
            from: 0,
            commits: 150,
            bytes_max: 120_000,
            ballast_bytes: 1 << 20,
        };
        let (kind, errno) = (["w", "s", "a"][dice.throw(3) as usize], [5, 28][dice.throw(2) as usize]);
        let (first, count) =
            (dice.throw(if kind == "s" { 350 } else { 900 }), 1 + dice.throw(4) * dice.throw(5));
        let fault = format!("{}|{kind}|{first}|{count}|{errno}", store.display());
        // Shown when the test fails.
        println!("round {round}: {fault}");
        let mut child = plan.command().env("LD_PRELOAD", &shim).env("HOLDFAST_SHIM", &fault).spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > Duration::from_secs(90) {
                child.kill().unwrap();
                panic!("round {round}: the writer hangs after {fault}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let told = Record::read(&record);
        // It may fail to open when the fault comes that early, but then it says so and nothing was acknowledged.
        assert!(
            status.success() || told.opened == 0,
            "round {round}: the writer ended with {status} after {fault}"
        );
        // Whatever happened, the store opens now.
        check(&store, &told);
        carried_on += u64::from(told.opened > 0);
        failed += told.failed;
        stored += told.stored.len();
        std::fs::remove_dir_all(&case).ok();
    }
    println!(
        "errors: {rounds} rounds, {stored} messages acknowledged, 0 lost, {failed} commits refused, {carried_on} carried on"
    );
}
