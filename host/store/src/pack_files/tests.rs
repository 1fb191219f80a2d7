//! What is written to pack files, found there, and deleted.

use super::*;
use crate::config::Linger;
use std::time::Duration;

const NUMBER: u64 = 7;

fn files(dir: &Path) -> PackFiles {
    PackFiles::open(&StoreConfig::new(dir)).unwrap()
}

/// Packs of one message each, from an offset on.
fn packs(first: u64, bytes: &[usize]) -> Vec<(Offset, Bytes)> {
    let pack = |(n, bytes): (u64, &usize)| (Offset(n), vec![n as u8 | 1; *bytes].into());
    (first..).zip(bytes).map(pack).collect()
}

fn length(files: &PackFiles, first: u64) -> u64 {
    file_path(files.folder(), NUMBER, Offset(first)).metadata().unwrap().len()
}

#[test]
fn a_pack_is_found_at_its_place_and_what_did_not_count_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let (mut expected, mut places) = (Vec::new(), Vec::new());
    let mut first = 0;
    for (round, sizes) in [&[700][..], &[5_000, 100_000, 3], &[64], &[20_000, 20_000]].iter().enumerate() {
        let written = packs(first, sizes);
        places.extend(files.write(NUMBER, Offset(first), &written, Mark::Alone).unwrap());
        // A group that fails is written over by the next one.
        if round == 2 {
            places.pop();
            continue;
        }
        files.settle();
        first += sizes.len() as u64;
        expected.extend(written);
    }
    files.write(NUMBER, Offset(first), &packs(first, &[900]), Mark::Named).unwrap();
    files.let_go().unwrap();
    let bytes = fs::read(file_path(files.folder(), NUMBER, Offset(0))).unwrap();
    assert_eq!(bytes.len() as u64, places.last().unwrap().end(), "what did not count was cut off");
    for ((_, pack), place) in expected.iter().zip(&places) {
        let range = place.at as usize..place.end() as usize;
        assert!(bytes[range.clone()] == pack[..], "at {place:?}");
        let salt = bytes[..SALT_BYTES].try_into().unwrap();
        let frame = Frame::decode(salt, &bytes[range.start - FRAME_BYTES..]).unwrap();
        assert_eq!((frame.mark, frame.length as usize), (Mark::Alone, pack.len()));
        assert_eq!(Frame::decode([0; SALT_BYTES], &bytes[range.start - FRAME_BYTES..]), None);
    }
    // What was let go of is not written to again.
    files.write(NUMBER, Offset(first), &packs(first, &[900]), Mark::Alone).unwrap();
    assert_eq!(list(files.folder(), NUMBER).unwrap(), [Offset(0), Offset(first)]);
    // And a file of which nothing counts does not stay.
    files.let_go().unwrap();
    assert_eq!(list(files.folder(), NUMBER).unwrap(), [Offset(0)]);
}

#[test]
fn what_a_failed_group_wrote_does_not_count_with_the_next_group() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    files.begin();
    files.write(NUMBER, Offset(0), &packs(0, &[700]), Mark::Alone).unwrap();
    files.settle();
    files.begin();
    files.write(NUMBER, Offset(1), &packs(1, &[800]), Mark::Alone).unwrap();
    // It failed; the next one goes to another queue.
    files.begin();
    files.write(NUMBER + 1, Offset(0), &packs(0, &[900]), Mark::Alone).unwrap();
    files.settle();
    files.let_go().unwrap();
    let frame = (SALT_BYTES + FRAME_BYTES) as u64;
    assert_eq!(length(&files, 0), frame + 700);
    let other = file_path(files.folder(), NUMBER + 1, Offset(0)).metadata().unwrap().len();
    assert_eq!(other, frame + 900);
}

#[test]
fn what_a_failed_group_wrote_stays_when_the_store_is_closed_because_the_journal_may_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    for first in 0..2 {
        files.begin();
        files.write(NUMBER, Offset(first), &packs(first, &[700]), Mark::Named).unwrap();
        (first == 0).then(|| files.settle());
    }
    files.close().unwrap();
    assert_eq!(length(&files, 0), (SALT_BYTES + 2 * (FRAME_BYTES + 700)) as u64);
}

#[test]
fn space_is_written_ahead_of_small_groups_alone_and_not_with_a_fixed_linger() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = files(dir.path());
    ahead.write(NUMBER, Offset(0), &packs(0, &[500]), Mark::Alone).unwrap();
    assert!((16_000..32_000).contains(&length(&ahead, 0)), "little at first");
    for first in 1..200 {
        ahead.settle();
        ahead.write(NUMBER, Offset(first), &packs(first, &[5_000]), Mark::Alone).unwrap();
    }
    let written = 200 * 5_000;
    assert!((written..written + 300_000).contains(&length(&ahead, 0)), "and then some");
    ahead.write(NUMBER + 1, Offset(0), &packs(0, &[50_000]), Mark::Alone).unwrap();
    let large = file_path(ahead.folder(), NUMBER + 1, Offset(0)).metadata().unwrap().len();
    assert_eq!(large, (SALT_BYTES + FRAME_BYTES + 50_000) as u64);
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { linger: Linger::Fixed(Duration::ZERO), ..StoreConfig::new(dir.path()) };
    let exact = PackFiles::open(&config).unwrap();
    exact.write(NUMBER, Offset(0), &packs(0, &[500]), Mark::Alone).unwrap();
    assert_eq!(length(&exact, 0), (SALT_BYTES + FRAME_BYTES + 500) as u64);
}

#[test]
fn files_go_when_all_in_them_is_dead_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    for first in 0..40 {
        files.write(NUMBER, Offset(first), &packs(first, &[1 << 20]), Mark::Alone).unwrap();
        files.settle();
    }
    let firsts = || list(files.folder(), NUMBER).unwrap().iter().map(|first| first.0).collect::<Vec<_>>();
    assert_eq!(firsts(), [0, 8, 16, 24, 32], "a file holds a segment");
    files.drop_dead(NUMBER, &[(Offset(0), Offset(15))]).unwrap();
    assert_eq!(firsts(), [8, 16, 24, 32]);
    files.drop_dead(NUMBER, &[(Offset(20), Offset(32))]).unwrap();
    assert_eq!(firsts(), [8, 16, 32], "also from the middle");
    files.drop_dead(NUMBER, &[(Offset(0), Offset(40))]).unwrap();
    assert_eq!(firsts(), [0; 0], "also the one that is written");
    files.write(NUMBER, Offset(40), &packs(40, &[3]), Mark::Alone).unwrap();
    assert_eq!(firsts(), [40]);
    files.delete(NUMBER).unwrap();
    assert_eq!(names(files.folder()).unwrap(), [0; 0]);
}

#[test]
fn a_place_is_told_from_a_pack_and_belongs_to_its_key() {
    let place = Place { file: Offset(123_456), at: 70_000, length: 65_000 };
    let value = place.encode(Offset(9));
    assert_eq!(Place::decode(Offset(9), &value), Ok(Some(place)));
    assert!(Place::decode(Offset(8), &value).is_err());
    assert_eq!(Place::decode(Offset(9), &[1, 2, 3]), Ok(None));
    for bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(Place::decode(Offset(9), &flipped), Ok(Some(place)));
    }
}

#[test]
fn no_file_is_begun_where_the_store_was_before_it_was_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("store"), dir.path().join("away"));
    let files = files(&here);
    fs::rename(&here, &away).unwrap();
    let refused = files.write(NUMBER, Offset(0), &packs(0, &[700]), Mark::Alone).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    assert!(!here.exists());
    fs::rename(&away, &here).unwrap();
    files.write(NUMBER, Offset(0), &packs(0, &[700]), Mark::Alone).unwrap();
    assert_eq!(list(files.folder(), NUMBER).unwrap(), [Offset(0)]);
}
