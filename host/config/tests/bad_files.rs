//! Files with faults: each `bad/NAME.toml` has beside it the complete list of what is reported, `bad/NAME.faults`.
//!
//! `HOLDFAST_WRITE_FAULTS=1 cargo test -p holdfast-config --test bad_files` writes the lists anew, to be read before
//! they are kept.

use holdfast_config::Config;
use std::{fs, path::Path};

#[test]
fn every_fault_of_a_bad_file_is_reported_in_one_run_with_its_place_and_its_fix() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 15, "the bad files are not where they should be");
    let write = std::env::var_os("HOLDFAST_WRITE_FAULTS").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap();
        let faults = Config::parse(&text, Path::new(name), "a-host").expect_err("a bad file was taken");
        let said = format!("{faults}\n");
        let list = file.with_extension("faults");
        if write {
            fs::write(&list, &said).unwrap();
        }
        // Git may have given the list the line ends of another system.
        let expected = fs::read_to_string(&list).unwrap_or_default().replace('\r', "");
        if said != expected {
            wrong.push(format!("{}: said\n{said}\nexpected\n{expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_fault_never_shows_a_password() {
    let texts = [
        "[upstream]\nurl = \"mqtts://edge:hunter2@host\"",
        "[upstream]\nurl = \"mqtt://edge:hunter2@host:x/y\"",
        "[upstream]\nurl = \"mqtts://host\"\nuser = \"e\"\npassword = [\"hunter2\"]",
        "[[users]]\nname = \"a\"\npassword = { hunter2 = 1 }",
        "[[users]]\nname = \"a\"\npassword_hash = \"$argon2id$hunter2\"",
        "[[users]]\nname = \"a\"\npassword = \"hunter2\"\npassword = \"hunter2\"",
    ];
    for text in texts {
        let faults = Config::parse(text, Path::new("holdfast.toml"), "a-host").unwrap_err();
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
    }
}
