//! Every command that a text of this project names is one that there is, and so is every option that it names with it.

use super::Cli;
use clap::{Command, CommandFactory};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where texts name commands, from the root of the checkout.
const TEXTS: [&str; 8] = [
    "host",
    "sdk/rust",
    "sdk/c",
    "examples",
    "plugins/README.md",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
];

fn files(at: &Path, found: &mut Vec<PathBuf>) {
    if at.is_dir() {
        let skipped = at.file_name().is_some_and(|name| name == "target" || name == "node_modules");
        let inside = fs::read_dir(at).unwrap().filter(|_| !skipped);
        inside.for_each(|entry| files(&entry.unwrap().path(), found));
    } else if at.file_name().is_none_or(|name| name != "named.rs")
        && at.extension().is_some_and(|kind| kind == "rs" || kind == "md")
    {
        found.push(at.to_owned());
    }
}

/// What stands behind `holdfast` where a text means a command: in quotation, behind a colon, or at the begin of a line.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("holdfast ").filter_map(|(at, name)| {
        let (before, rest) = (text.get(..at)?, text.get(at + name.len()..)?);
        let is_meant = before.is_empty() || ["`", ": ", "\n"].iter().any(|start| before.ends_with(start));
        is_meant
            .then(|| rest.split(['`', '\n', '"', '\'', ';', '#', '|', '(', ')']).next().unwrap_or_default())
    })
}

/// What is wrong with a command, if anything is.
fn fault(root: &Command, words: &str) -> Option<String> {
    let mut at = root;
    for word in words.split_whitespace() {
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default().trim_end_matches([',', '.']);
            if !name.is_empty() && !at.get_arguments().any(|known| known.get_long() == Some(name)) {
                return Some(format!("{:?} has no option --{name}", at.get_name()));
            }
        } else if at.has_subcommands() {
            // Dots and names in capitals stand for what the reader puts there.
            let word = word.trim_end_matches([',', '.']);
            if word.is_empty() || !word.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                return None;
            }
            match at.find_subcommand(word) {
                Some(next) => at = next,
                None => return Some(format!("{:?} has no command {word:?}", at.get_name())),
            }
        }
    }
    None
}

#[test]
fn every_command_that_a_text_names_is_there() {
    let mut root = Cli::command();
    root.build();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    TEXTS.iter().for_each(|text| files(&checkout.join(text), &mut found));
    let (mut count, mut wrong) = (0, Vec::new());
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        for words in named(&text) {
            count += 1;
            if let Some(why) = fault(&root, words) {
                wrong.push(format!("{}: holdfast {words}: {why}", file.display()));
            }
        }
    }
    assert!(count > 100, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_or_an_option_that_is_not_there_is_found() {
    let mut root = Cli::command();
    root.build();
    for good in [
        "hub twin set WHO …",
        "--config FILE status",
        "hub device …",
        "device add {name} --ca",
        "hub edges --json",
    ] {
        assert_eq!(fault(&root, good), None, "{good}");
    }
    for bad in ["hub twin desire WHO", "device add --replace", "quue list"] {
        assert!(fault(&root, bad).is_some(), "{bad}");
    }
    let text = "`holdfast a`; do it: holdfast b\nholdfast c # d\n the holdfast e";
    assert_eq!(named(text).map(str::trim).collect::<Vec<_>>(), ["a", "b", "c"]);
}
