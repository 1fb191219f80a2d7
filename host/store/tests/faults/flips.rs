//! One flipped bit anywhere: harmless, or reported; never a refusal, never a changed message, never silence.

use crate::{
    Dice, copy_store, rounds,
    support::{append, queue},
    used_bytes,
    witness::{all, config},
};
use holdfast_store::{Ack, Commit, DocumentWrite, MemoryProfile, Store};
use holdfast_types::{Offset, Text};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What kind of file a flip hits.
fn class(path: &Path) -> &'static str {
    let text = path.to_string_lossy().replace('\\', "/");
    let name = path.file_name().unwrap().to_string_lossy();
    match &*name {
        _ if text.contains("keyspaces.copy") => "copy of names",
        _ if name.ends_with(".jnl") => "journal",
        "version" => "version",
        "high-water" => "high-water",
        "keyspaces" => "list of keyspaces",
        "lock" => "lock",
        _ if text.contains("keyspaces/0/") => "names",
        "current" => "current",
        _ if text.contains("/tables/") => "table",
        _ if text.contains("/packs/") => "pack file",
        _ => "manifest",
    }
}

fn files(path: &Path, found: &mut BTreeMap<&'static str, Vec<PathBuf>>) {
    for item in std::fs::read_dir(path).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.metadata().unwrap().len() > 0 {
            found.entry(class(&path)).or_default().push(path);
        }
    }
}

fn fill(path: &Path) -> u32 {
    let config = holdfast_store::StoreConfig { memory: MemoryProfile::Small, ..config(path) };
    let (store, _) = holdfast_store::open(config, Arc::new(holdfast_store::SystemClock::new())).unwrap();
    let up = queue("upstream", 10);
    let total = 14_000;
    // In turns, packs that go to a pack file and packs that stay in the database, because a document is beside them.
    for start in (0..total).step_by(100) {
        let appends = (start..start + 100).map(|n| append(&up, n, 700)).collect();
        let (space, key): (Text, Text) = ("state/m".into(), "at".into());
        let document = DocumentWrite { space, key, value: Some("here".into()) };
        let documents = (start % 200 == 0).then_some(document).into_iter().collect();
        store.commit_blocking(Commit { appends, documents, ..Commit::default() }).unwrap();
    }
    let acks = vec![Ack { queue: up.clone(), cursor: Offset(100) }];
    store.commit_blocking(Commit { acks, ..Commit::default() }).unwrap();
    store.close().unwrap();
    total
}

/// What one flip led to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Harmless,
    ReportedAndWhole,
    ReportedWithLoss,
}

fn judge(case: &Path, total: u32) -> Result<Outcome, String> {
    let opened = holdfast_store::open(config(case), Arc::new(holdfast_store::SystemClock::new()));
    let (store, report): (Store, _) = opened.map_err(|error| format!("refused: {error}"))?;
    let up = queue("upstream", 10);
    let found = all(&store, &up);
    for pair in found.windows(2) {
        if pair[0].0 >= pair[1].0 {
            return Err("out of order".to_owned());
        }
    }
    if let Some((offset, number)) = found.iter().find(|(offset, number)| *offset != u64::from(*number)) {
        return Err(format!("offset {offset} holds message {number}"));
    }
    let gone = store.queues().iter().map(|status| status.gone.unreadable).sum::<u64>();
    let is_whole = (100..total).all(|n| found.binary_search(&(u64::from(n), n)).is_ok());
    let is_reported = !report.is_clean() || gone > 0;
    // The store must go on, whatever it was.
    let commit = Commit { appends: vec![append(&up, 0, 10)], ..Commit::default() };
    store.commit_blocking(commit).map_err(|error| format!("does not go on: {error}"))?;
    match (is_whole, is_reported) {
        (true, false) => Ok(Outcome::Harmless),
        (true, true) => Ok(Outcome::ReportedAndWhole),
        (false, true) => Ok(Outcome::ReportedWithLoss),
        (false, false) => {
            Err(format!("{} messages went in silence", i64::from(total) - 100 - found.len() as i64))
        }
    }
}

#[test]
fn every_flip_is_harmless_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let total = fill(&base);
    let mut dice = Dice::new(4);
    let mut found = BTreeMap::new();
    files(&base, &mut found);
    let has = |class: &str| assert!(found.contains_key(class), "{class}: {found:?}");
    ["table", "manifest", "journal", "pack file"].into_iter().for_each(has);
    let rounds = rounds(4);
    let mut faults = Vec::new();
    for (class, paths) in &found {
        let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
        for round in 0..rounds {
            let case = dir.path().join("case");
            copy_store(&base, &case);
            let path = &paths[dice.throw(paths.len() as u64) as usize];
            let target = case.join(path.strip_prefix(&base).unwrap());
            let mut bytes = std::fs::read(&target).unwrap();
            let used = used_bytes(&bytes).max(1);
            // Every other flip near the end, where what holds a file together stands.
            let reach = if round % 2 == 0 { used } else { used.min(2_000) };
            let at = used - 1 - dice.throw(reach as u64) as usize;
            let what = if round % 16 == 15 && class != &"lock" {
                std::fs::remove_file(&target).unwrap();
                "removed".to_owned()
            } else {
                let bit = dice.throw(8);
                bytes[at] ^= 1 << bit;
                std::fs::write(&target, bytes).unwrap();
                format!("byte {at} of {used}, bit {bit}")
            };
            match judge(&case, total) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(fault) => faults.push(format!("{class} {}: {what}: {fault}", path.display())),
            }
            std::fs::remove_dir_all(&case).unwrap();
        }
        println!("flips in {class}: {outcomes:?}");
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
