//! What pack files are like after a power cut.

use super::*;
use crate::{
    Append, Commit, Entry, Linger, ReadLimit, Store, StoreConfig, SystemClock,
    engine::database_path,
    pack_files::packs_path,
    recovery::{journals, marks::copy_folder},
};
use holdfast_types::{Envelope, LogId, Message, Name, Priority, Source, UnixMillis, WhenFull};
use std::{path::PathBuf, sync::Arc};

/// Groups that are torn, and that were written behind others; what is found, and whether that is damage.
type Case = (&'static [usize], &'static [usize], &'static [u8], bool);

fn queue() -> QueueId {
    QueueId { log: LogId::upstream(), priority: Priority::DEFAULT }
}

fn open(path: &Path) -> (Store, RecoveryReport) {
    let config = StoreConfig { ballast_bytes: 0, linger: Linger::Auto, ..StoreConfig::new(path) };
    crate::open(config, Arc::new(SystemClock::new())).unwrap()
}

fn append(number: u8) -> Append {
    let source = Source::Module { module: Name::new("m").unwrap(), output: None };
    let message = Message::new(vec![number; 2_000]);
    let received = UnixMillis(1_700_000_000_000);
    let envelope = Arc::new(Envelope { message, source, received, hops: 0 });
    let entry = Entry { envelope, input: None, route: "r".into(), expires: None, addressed: None };
    Append { queue: queue(), entry, when_full: WhenFull::Block }
}

fn numbers(store: &Store) -> Vec<u8> {
    let batch = store.read(&queue(), Offset(0), ReadLimit::default()).unwrap();
    batch.entries.iter().map(|stored| stored.entry.envelope.message.body[0]).collect()
}

fn newest_journal(store: &Path) -> PathBuf {
    journals(&database_path(store)).unwrap().pop().unwrap()
}

/// A store of six groups of one message each, of which the database has forgotten all but the first.
fn forgetful(folder: &Path) -> PathBuf {
    let (base, forgetful) = (folder.join("base"), folder.join("forgetful"));
    let (store, _) = open(&base);
    store.commit_blocking(Commit { appends: vec![append(1)], ..Commit::default() }).unwrap();
    let journal = fs::read(newest_journal(&base)).unwrap();
    let known = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for number in 2..=6 {
        store.commit_blocking(Commit { appends: vec![append(number)], ..Commit::default() }).unwrap();
    }
    copy_folder(&base, &forgetful).unwrap();
    drop(store);
    let journal = OpenOptions::new().write(true).open(newest_journal(&forgetful)).unwrap();
    journal.set_len(known as u64).unwrap();
    // The disk was never told of more than the first either.
    fs::remove_file(forgetful.join("high-water")).unwrap();
    forgetful
}

/// Lets groups be torn, and others be written behind the one before them.
fn change(store: &Path, torn: &[usize], behind: &[usize]) {
    let packs = packs_path(store);
    let number = names(&packs).unwrap().into_iter().find(|n| !list(&packs, *n).unwrap().is_empty()).unwrap();
    let path = file_path(&packs, number, Offset(0));
    let mut bytes = fs::read(&path).unwrap();
    let salt: Salt = bytes[..SALT_BYTES].try_into().unwrap();
    let mut at = SALT_BYTES;
    for group in 1..=6 {
        let (start, frame) = next_frame(salt, &bytes, at).unwrap();
        let body = start + FRAME_BYTES;
        at = body + frame.length as usize;
        if behind.contains(&group) {
            let head = Frame { mark: Mark::Behind, ..frame }.encode(salt);
            bytes[start..body].copy_from_slice(&head);
        }
        if torn.contains(&group) {
            bytes[body + 500..at].fill(0);
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_on_its_way_behind_a_torn_group_is_cut_off_with_it_and_damage_is_told_from_that() {
    let dir = tempfile::tempdir().unwrap();
    let forgetful = forgetful(dir.path());
    let cases: [Case; 8] = [
        (&[], &[], &[1, 2, 3, 4, 5, 6], false),
        (&[], &[4, 6], &[1, 2, 3, 4, 5, 6], false),
        (&[5], &[6], &[1, 2, 3, 4], false),
        (&[5, 6], &[6], &[1, 2, 3, 4], false),
        (&[6], &[6], &[1, 2, 3, 4, 5], false),
        // The last one was begun when the torn one was on disk, or two came behind it.
        (&[5], &[5], &[1, 2, 3, 4, 6], true),
        (&[4], &[5, 6], &[1, 2, 3, 5, 6], true),
        // Only one can have been on its way before it.
        (&[4, 5], &[6], &[1, 2, 3, 6], true),
    ];
    for (torn, behind, expected, is_damage) in cases {
        let case = dir.path().join("case");
        copy_folder(&forgetful, &case).unwrap();
        change(&case, torn, behind);
        let (store, report) = open(&case);
        assert_eq!(!report.damage.is_empty(), is_damage, "{torn:?} {behind:?}: {report}");
        assert_eq!(numbers(&store), expected, "{torn:?} {behind:?}");
        assert_eq!(report.torn_bytes > 0, !is_damage && !torn.is_empty(), "{torn:?} {behind:?}");
        // What comes next stands behind that, also after the next start.
        store.commit_blocking(Commit { appends: vec![append(7)], ..Commit::default() }).unwrap();
        drop(store);
        let (store, report) = open(&case);
        // A gap in what was acknowledged stays one.
        assert_eq!(report.is_clean(), !is_damage, "{torn:?} {behind:?}: {report}");
        assert_eq!(numbers(&store), [expected, &[7]].concat(), "{torn:?} {behind:?}");
        drop(store);
        fs::remove_dir_all(&case).unwrap();
    }
}

/// As it is after a start at which something else was damaged, so that nothing was thrown away.
#[test]
fn what_was_behind_a_torn_group_does_not_come_back_when_others_have_got_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let case = forgetful(dir.path());
    change(&case, &[5], &[6]);
    let marks = case.join("keyspaces");
    fs::write(&marks, vec![7; fs::read(&marks).unwrap().len()]).unwrap();
    let (store, report) = open(&case);
    assert!(!report.damage.is_empty(), "{report}");
    assert_eq!(numbers(&store), [1, 2, 3, 4]);
    let journal = fs::read(newest_journal(&case)).unwrap();
    let known = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for number in 7..=9 {
        store.commit_blocking(Commit { appends: vec![append(number)], ..Commit::default() }).unwrap();
    }
    // And the power goes before the database is made to sync.
    let cut = dir.path().join("cut");
    copy_folder(&case, &cut).unwrap();
    drop(store);
    OpenOptions::new().write(true).open(newest_journal(&cut)).unwrap().set_len(known as u64).unwrap();
    fs::remove_file(cut.join("high-water")).unwrap();
    let (store, report) = open(&cut);
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(numbers(&store), [1, 2, 3, 4, 7, 8, 9]);
}

#[test]
fn a_torn_group_of_many_frames_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let (store, _) = open(&base);
    store.commit_blocking(Commit { appends: vec![append(1)], ..Commit::default() }).unwrap();
    let journal = fs::read(newest_journal(&base)).unwrap();
    let known = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    store.commit_blocking(Commit { appends: vec![append(2)], ..Commit::default() }).unwrap();
    let appends = std::iter::repeat_with(|| append(3)).take(90).collect();
    store.commit_blocking(Commit { appends, ..Commit::default() }).unwrap();
    let case = dir.path().join("case");
    copy_folder(&base, &case).unwrap();
    drop(store);
    OpenOptions::new().write(true).open(newest_journal(&case)).unwrap().set_len(known as u64).unwrap();
    fs::remove_file(case.join("high-water")).unwrap();
    let packs = packs_path(&case);
    let number = names(&packs).unwrap().into_iter().find(|n| !list(&packs, *n).unwrap().is_empty()).unwrap();
    let path = file_path(&packs, number, Offset(0));
    let mut bytes = fs::read(&path).unwrap();
    let salt: Salt = bytes[..SALT_BYTES].try_into().unwrap();
    let mut frames = Vec::new();
    let mut at = SALT_BYTES;
    while let Some((start, frame)) = next_frame(salt, &bytes, at) {
        at = start + FRAME_BYTES + frame.length as usize;
        frames.push((start, frame));
    }
    assert!(frames.len() > 3 && frames[2].1.behind > 0, "{frames:?}");
    // The head of its first frame has not come to the disk.
    bytes[frames[2].0..frames[2].0 + FRAME_BYTES].fill(0);
    fs::write(path, bytes).unwrap();
    let (store, report) = open(&case);
    assert!(report.is_clean(), "{report}");
    assert_eq!(numbers(&store), [1, 2]);
}
