//! A last batch of which some sectors never reached the disk.

use crate::{
    Dice, copy_store, rounds,
    support::{append, queue},
    used_bytes,
    witness::{all, open},
};
use holdfast_store::Commit;
use std::path::{Path, PathBuf};

const ACKNOWLEDGED: u32 = 60;

fn journal(store: &Path) -> PathBuf {
    let found = std::fs::read_dir(store.join("db")).unwrap().map(|item| item.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().unwrap()
}

#[test]
fn a_torn_last_batch_costs_nothing_that_was_acknowledged() {
    let mut dice = Dice::new(3);
    let rounds = rounds(24);
    let (mut whole, mut cut) = (0, 0);
    for bytes in [300, 3_000, 16_000, 64_000, 200_000] {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let up = queue("upstream", 10);
        let (store, _) = open(&base);
        for n in 0..ACKNOWLEDGED {
            store
                .commit_blocking(Commit { appends: vec![append(&up, n, 500)], ..Commit::default() })
                .unwrap();
        }
        let before = used_bytes(&std::fs::read(journal(&base)).unwrap());
        let appends = (ACKNOWLEDGED..ACKNOWLEDGED + 3).map(|n| append(&up, n, bytes)).collect();
        store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
        let snapshot = dir.path().join("snapshot");
        // No high-water mark of the last batch: to the disk it was never finished.
        copy_store(&base, &snapshot);
        drop(store);
        let after = used_bytes(&std::fs::read(journal(&snapshot)).unwrap());
        for _ in 0..rounds.div_ceil(5) {
            let case = dir.path().join("case");
            copy_store(&snapshot, &case);
            std::fs::remove_file(case.join("high-water")).unwrap();
            tear(&journal(&case), before, after, &mut dice);
            let (store, report) = open(&case);
            assert!(report.is_clean(), "{report}");
            let found: Vec<u32> = all(&store, &up).into_iter().map(|(_, number)| number).collect();
            let last: Vec<u32> = (0..ACKNOWLEDGED).collect();
            if found.len() > last.len() {
                assert_eq!(found, (0..ACKNOWLEDGED + 3).collect::<Vec<_>>());
                whole += 1;
            } else {
                assert_eq!(found, last);
                cut += 1;
            }
            // And the queue goes on.
            store.commit_blocking(Commit { appends: vec![append(&up, 7, 9)], ..Commit::default() }).unwrap();
            drop(store);
            std::fs::remove_dir_all(&case).unwrap();
        }
    }
    println!(
        "torn batch: {} rounds, {cut} cut off, {whole} with no byte changed, 0 refused, 0 lost",
        cut + whole
    );
}

/// Sets sectors or pages within the last batch to zero, or cuts the file there.
fn tear(journal: &Path, from: usize, to: usize, dice: &mut Dice) {
    let mut bytes = std::fs::read(journal).unwrap();
    let size = if dice.throw(2) == 0 { 512 } else { 4096 };
    let blocks: Vec<usize> = (from / size..=(to - 1) / size).collect();
    if dice.throw(8) == 0 {
        bytes.truncate(from + dice.throw((to - from) as u64) as usize);
    } else {
        let one = blocks[dice.throw(blocks.len() as u64) as usize];
        for block in blocks {
            if block == one || dice.throw(3) == 0 {
                let (start, end) = ((block * size).max(from), ((block + 1) * size).min(to));
                bytes[start..end].fill(0);
            }
        }
    }
    std::fs::write(journal, bytes).unwrap();
}
