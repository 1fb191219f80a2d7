//! Where no store can be opened: what is said, and that nothing is harmed.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use holdfast_store::{Commit, StoreConfig, StoreError, SystemClock};
use std::{path::Path, sync::Arc};
use support::{Folder, append, bodies, queue};

fn refusal(path: &Path) -> StoreError {
    let config = StoreConfig { ballast_bytes: 0, ..StoreConfig::new(path) };
    holdfast_store::open(config, Arc::new(SystemClock::new())).map(|_| ()).unwrap_err()
}

#[test]
fn a_store_that_is_open_is_refused_to_others_and_goes_on() {
    let folder = Folder::new();
    let up = queue("upstream", 10);
    let (store, _) = folder.open();
    let commit = |n| Commit { appends: vec![append(&up, n, 20)], ..Commit::default() };
    store.commit_blocking(commit(0)).unwrap();
    let path = folder.config().path;
    let error = refusal(&path);
    assert!(matches!(&error, StoreError::InUse { path: named } if *named == path), "{error}");
    let text = error.to_string();
    assert!(text.contains("open in another process") && text.contains("its own folder"), "{text}");
    store.commit_blocking(commit(1)).unwrap();
    drop(store);
    let (store, report) = folder.open();
    assert!(report.is_clean(), "{report}");
    assert_eq!(bodies(&store, &up), [0, 1]);
}

#[test]
fn a_file_where_the_folder_should_be_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    std::fs::write(&path, "notes").unwrap();
    let text = refusal(&path).to_string();
    assert!(text.contains(&*path.to_string_lossy()) && text.contains("name another folder"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
}

#[cfg(unix)]
#[test]
fn a_folder_without_the_right_to_write_is_named_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(path.join("probe"), "").is_ok() {
        eprintln!("skipped: who runs this may write anywhere");
        return;
    }
    let text = refusal(&path).to_string();
    assert!(text.contains(&*path.to_string_lossy()) && text.contains("read and write there"), "{text}");
}
