//! A last group of which some sectors never reached the disk, in the journal or in a pack file.

use crate::{
    Dice, copy_store, rounds,
    support::{append, files_under, queue},
    used_bytes,
    witness::{all, open},
};
use holdfast_store::{Commit, DocumentWrite};
use holdfast_types::Text;
use std::path::{Path, PathBuf};

const ACKNOWLEDGED: u32 = 60;

fn journal(store: &Path) -> PathBuf {
    let found = std::fs::read_dir(store.join("db")).unwrap().map(|item| item.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().unwrap()
}

/// The pack file that is written.
fn pack_file(store: &Path) -> Option<PathBuf> {
    files_under(&store.join("packs"), "/packs/").into_iter().max()
}

/// How a group is written: with a document beside it small packs stay in the journal, and larger ones count when the
/// journal names them.
fn group(numbers: std::ops::Range<u32>, bytes: usize, with_document: bool) -> Commit {
    let up = queue("upstream", 10);
    let appends = numbers.map(|n| append(&up, n, bytes)).collect();
    let (space, key): (Text, Text) = ("state/m".into(), "at".into());
    let document = DocumentWrite { space, key, value: Some("here".into()) };
    Commit {
        appends,
        documents: with_document.then_some(document).into_iter().collect(),
        ..Commit::default()
    }
}

#[test]
fn a_torn_last_batch_costs_nothing_that_was_acknowledged() {
    let mut dice = Dice::new(3);
    let rounds = rounds(24);
    let (mut whole, mut cut) = (0, 0);
    for (bytes, with_document) in
        [300, 3_000, 16_000, 64_000, 200_000].into_iter().flat_map(|bytes| [(bytes, false), (bytes, true)])
    {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let up = queue("upstream", 10);
        let (store, _) = open(&base);
        for n in 0..ACKNOWLEDGED {
            store.commit_blocking(group(n..n + 1, 500, false)).unwrap();
        }
        let before = used_bytes(&std::fs::read(journal(&base)).unwrap());
        assert_eq!(pack_file(&base), None, "what is small stays in the journal");
        store.commit_blocking(group(ACKNOWLEDGED..ACKNOWLEDGED + 3, bytes, with_document)).unwrap();
        let snapshot = dir.path().join("snapshot");
        // No high-water mark of the last batch: to the disk it was never finished.
        copy_store(&base, &snapshot);
        drop(store);
        let after = used_bytes(&std::fs::read(journal(&snapshot)).unwrap());
        for round in 0..rounds.div_ceil(10) {
            let case = dir.path().join("case");
            copy_store(&snapshot, &case);
            std::fs::remove_file(case.join("high-water")).unwrap();
            match pack_file(&case) {
                // The journal is told when the pack file is synced: when that is torn, the journal knows nothing.
                Some(file) if round % 2 == 0 => {
                    let to = used_bytes(&std::fs::read(&file).unwrap());
                    tear(&file, 0, to, &mut dice);
                    std::fs::OpenOptions::new()
                        .write(true)
                        .open(journal(&case))
                        .and_then(|journal| journal.set_len(before as u64))
                        .unwrap();
                }
                _ => tear(&journal(&case), before, after, &mut dice),
            }
            let (store, report) = open(&case);
            assert!(report.is_clean(), "{report}");
            let found: Vec<u32> = all(&store, &up).into_iter().map(|(_, number)| number).collect();
            let last: Vec<u32> = (0..ACKNOWLEDGED).collect();
            let is_there = store.document("state/m", "at").unwrap().is_some();
            if found.len() > last.len() {
                assert_eq!(found, (0..ACKNOWLEDGED + 3).collect::<Vec<_>>());
                assert_eq!(is_there, with_document, "a document and its messages are one");
                whole += 1;
            } else {
                assert_eq!(found, last);
                assert!(!is_there, "a document and its messages are one");
                cut += 1;
            }
            // And the queue goes on.
            let tail = store.tail(&up).0;
            store.commit_blocking(group(7..20, 400, false)).unwrap();
            drop(store);
            let (store, report) = open(&case);
            assert!(report.is_clean(), "{report}");
            let more: Vec<(u64, u32)> = (tail..).zip(7..20).collect();
            assert!(all(&store, &up).ends_with(&more));
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
fn tear(path: &Path, from: usize, to: usize, dice: &mut Dice) {
    let mut bytes = std::fs::read(path).unwrap();
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
    std::fs::write(path, bytes).unwrap();
}

/// After a power cut the database may have forgotten all that it was not made to sync.
#[test]
fn what_the_database_forgot_of_pack_files_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let up = queue("upstream", 10);
    let (store, _) = open(&base);
    store.commit_blocking(group(0..3, 900, true)).unwrap();
    let before = used_bytes(&std::fs::read(journal(&base)).unwrap());
    let mut total = 3;
    // Larger than a file, small and large groups, and larger than a pack.
    for (messages, bytes) in [(5, 900), (40, 20_000), (9, 1_000_000), (2, 700), (64, 256)] {
        store.commit_blocking(group(total..total + messages, bytes, false)).unwrap();
        total += messages;
    }
    let snapshot = dir.path().join("snapshot");
    copy_store(&base, &snapshot);
    drop(store);
    let expected: Vec<(u64, u32)> = (0..total).map(|n| (n.into(), n)).collect();
    let after = used_bytes(&std::fs::read(journal(&snapshot)).unwrap());
    let mut dice = Dice::new(6);
    for at in (0..rounds(6)).map(|_| before + dice.throw((after - before) as u64) as usize).chain([before]) {
        let case = dir.path().join("case");
        copy_store(&snapshot, &case);
        let forgetful = std::fs::OpenOptions::new().write(true).open(journal(&case)).unwrap();
        forgetful.set_len(at as u64).unwrap();
        // Twice: what was found is not found again.
        for _ in 0..2 {
            let (store, report) = open(&case);
            assert!(report.is_clean(), "{report}");
            assert_eq!(all(&store, &up), expected, "forgotten from byte {at} on");
        }
        std::fs::remove_dir_all(&case).unwrap();
    }
    // A damaged group with whole ones behind it was acknowledged, and is reported.
    let case = dir.path().join("case");
    copy_store(&snapshot, &case);
    let forgetful = std::fs::OpenOptions::new().write(true).open(journal(&case)).unwrap();
    forgetful.set_len(before as u64).unwrap();
    let mut files = files_under(&case.join("packs"), "/packs/");
    files.sort();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    let (store, report) = open(&case);
    assert!(!report.damage.is_empty() && report.lost() == 5, "{report}");
    assert_eq!(all(&store, &up), [&expected[..3], &expected[8..]].concat());
}
