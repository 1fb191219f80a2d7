//! Differences by their kind, each with its shortest packet, and the explanations of those that are known.

use holdfast_mqtt::Version;
use std::{collections::BTreeMap, fmt::Write};

/// A kind of difference, in which `*` stands for anything, and why it is as it should be; a tab between them.
const EXPLAINED: &str = include_str!("../explained.tsv");

const KINDS: [&str; 16] = [
    "0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

struct Example {
    version: Version,
    bytes: Vec<u8>,
    said: String,
    count: u64,
}

#[derive(Default)]
pub struct Differences {
    by_kind: BTreeMap<String, Example>,
    taken: u64,
    refused: u64,
    panics: u64,
}

/// Version and packet type.
pub fn kind_of(version: Version, bytes: &[u8]) -> String {
    let name = KINDS[usize::from(bytes.first().copied().unwrap_or_default() >> 4)];
    format!("{version} {name}")
}

/// A text without its numbers and quoted parts, so that it stands for all of its kind.
pub fn words(text: &str) -> String {
    let outside: String = text.split('"').step_by(2).collect();
    outside.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn explanation(kind: &str) -> Option<&'static str> {
    EXPLAINED.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (pattern, why) = line.rsplit_once('\t')?;
        let matches = stands_for(pattern, kind);
        matches.then_some(why)
    })
}

fn stands_for(pattern: &str, kind: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == kind };
    let Some(mut kind) = kind.strip_prefix(start) else { return false };
    let (between, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in between.split('*').filter(|part| !part.is_empty()) {
        let Some((_, behind)) = kind.split_once(part) else { return false };
        kind = behind;
    }
    kind.ends_with(end)
}

impl Differences {
    pub fn taken(&mut self) {
        self.taken += 1;
    }

    pub fn refused(&mut self) {
        self.refused += 1;
    }

    pub fn panics(&mut self, of_oracles: usize) {
        self.panics += of_oracles as u64;
    }

    pub fn note(&mut self, kind: &str, version: Version, bytes: &[u8], said: &str) {
        let example = self.by_kind.entry(kind.to_owned()).or_insert_with(|| Example {
            version,
            bytes: bytes.to_vec(),
            said: said.to_owned(),
            count: 0,
        });
        example.count += 1;
        if bytes.len() < example.bytes.len() {
            (example.bytes, example.said) = (bytes.to_vec(), said.to_owned());
        }
    }

    pub fn summary(&self) -> String {
        let open = self.by_kind.keys().filter(|kind| explanation(kind).is_none()).count();
        format!(
            "{} taken, {} refused, {} kinds of differences, {open} of them without an explanation; oracles panicked {} times",
            self.taken,
            self.refused,
            self.by_kind.len(),
            self.panics
        )
    }

    /// Prints what has no explanation; gives how many kinds.
    pub fn report(&self) -> usize {
        let mut open = 0;
        for (kind, example) in &self.by_kind {
            if explanation(kind).is_none() {
                open += 1;
                println!("{kind}\t{} times\t{}\t{}", example.count, example.said, hex(&example.bytes));
            }
        }
        open
    }

    /// The shortest packet of each kind: version, bytes, whether it is taken.
    pub fn frozen(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (kind, example) in &self.by_kind {
            let verdict = if example.said == "taken" { "taken" } else { "refused" };
            lines.push(format!(
                "{}\t{}\t{verdict}\t{}",
                example.version,
                hex(&example.bytes),
                kind.replace('\t', " ")
            ));
        }
        lines.join("\n") + "\n"
    }
}
