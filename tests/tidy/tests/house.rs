//! What every file keeps to.
#![cfg(test)]

use holdfast_test_tidy::{files, root};
use std::{fs, path::Path};

/// Longest source file of the product, in lines. A file this long holds more than one idea.
const LINES_MAX: usize = 500;

fn text(file: &Path) -> Option<String> {
    fs::read_to_string(root().join(file)).ok()
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "rs")
}

#[test]
fn no_source_file_of_the_product_is_too_long() {
    for file in files().iter().filter(|f| is_source(f) && f.starts_with("host")) {
        let in_src = file.components().any(|c| c.as_os_str() == "src");
        let lines = text(file).map_or(0, |t| t.lines().count());
        assert!(!in_src || lines <= LINES_MAX, "{} has {lines} lines; split it by idea", file.display());
    }
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    for file in files().iter().filter(|f| is_source(f) && f.starts_with("host")) {
        let text = text(file).unwrap_or_default();
        assert!(text.starts_with("//!"), "{} has no head", file.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("#[ign", "ore")];
    for file in files().iter().filter(|f| is_source(f)) {
        let text = text(file).unwrap_or_default();
        for mark in marks {
            assert!(!text.contains(mark), "{} says {mark}", file.display());
        }
    }
}

#[test]
fn the_root_holds_the_prescribed_folders_and_files_and_no_others() {
    let folders = ["host", "wit", "plugins", "sdk", "tests", "examples", ".ci", ".config"];
    let documents = ["md", "toml", "lock"];
    for file in files() {
        let mut parts = file.components();
        let first = parts.next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let is_folder = parts.next().is_some();
        let allowed = if is_folder {
            folders.contains(&first.as_str())
        } else {
            let is_document = file.extension().is_some_and(|kind| documents.iter().any(|d| *d == kind));
            is_document || first.starts_with("LICENSE-") || first == ".gitignore"
        };
        assert!(allowed, "{} stands where the house has no place for it", file.display());
    }
}

#[test]
fn every_room_stands_in_the_code_map() {
    let architecture = text(Path::new("ARCHITECTURE.md")).unwrap();
    for room in fs::read_dir(root().join("host")).unwrap() {
        let room = room.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            architecture.contains(&format!("`{room}`")),
            "ARCHITECTURE.md does not say what host/{room} is for"
        );
    }
}
