//! The tables of the normative statements of MQTT in `tests/conformance/`: each test that they name exists, no statement
//! that the code names is missing, and the gap that they show does not grow.
#![cfg(test)]

use holdfast_test_tidy::{files, root};
use std::{collections::BTreeSet, fs};

/// Each table, how many statements its specification has, and how many of those that concern a server have no test.
/// The last number may only fall: lower it with each test that is written.
const TABLES: &[(&str, usize, usize)] = &[("mqtt5.tsv", 251, 0), ("mqtt311.tsv", 141, 0)];

struct Statement {
    id: String,
    concerns: String,
    test: Option<(String, String)>,
}

fn statements(table: &str) -> Vec<Statement> {
    let text = fs::read_to_string(root().join("tests/conformance").join(table)).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|row| {
        let fields: Vec<&str> = row.split('\t').collect();
        let [id, summary, concerns, test] = fields[..] else {
            panic!("{table}: {row:?} has {} fields", fields.len());
        };
        assert!(id.starts_with("MQTT-") && !summary.is_empty(), "{table}: {row:?}");
        assert!(["server", "client", "both", "other"].contains(&concerns), "{table}: {row:?}");
        let test = (test != "-").then(|| {
            let named = test.split_once("::");
            let (file, name) =
                named.unwrap_or_else(|| panic!("{table}: {id} names {test:?}, not file::test"));
            (file.to_owned(), name.to_owned())
        });
        Statement { id: id.to_owned(), concerns: concerns.to_owned(), test }
    })
    .collect()
}

/// The names of the tests in a file: functions under an attribute that ends in `test`.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        marked |= ["#[test]", "#[tokio::test"].iter().any(|mark| line.starts_with(mark));
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some(name) = function.and_then(|rest| rest.split(['(', '<']).next()) {
            if marked {
                names.insert(name);
            }
            marked = false;
        }
    }
    names
}

/// Numbers of statements that a text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let digits = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    let numbers = text.split("MQTT-").skip(1).map(|rest| rest.split(|c| !digits(c)).next().unwrap_or(""));
    let numbers = numbers.map(|number| number.trim_end_matches(['.', '-']));
    numbers.filter(|number| number.contains('-')).map(|number| format!("MQTT-{number}")).collect()
}

#[test]
fn every_statement_is_listed_once_and_the_tests_it_names_exist() {
    for (table, count, _) in TABLES {
        let statements = statements(table);
        let ids: BTreeSet<_> = statements.iter().map(|s| &s.id).collect();
        assert_eq!(
            (statements.len(), ids.len()),
            (*count, *count),
            "{table}: statements, and different ones"
        );
        for statement in &statements {
            let Some((file, name)) = &statement.test else { continue };
            let text = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{table}: {} names {file}: {error}", statement.id));
            assert!(tests(&text).contains(&name[..]), "{table}: {}: {file} has no test {name}", statement.id);
        }
    }
}

#[test]
fn every_statement_that_the_code_names_is_in_a_table() {
    let listed: BTreeSet<String> =
        TABLES.iter().flat_map(|(table, ..)| statements(table)).map(|statement| statement.id).collect();
    let mut seen = 0;
    for file in files().iter().filter(|f| f.starts_with("host") && f.extension().is_some_and(|e| e == "rs")) {
        for id in mentioned(&fs::read_to_string(root().join(file)).unwrap_or_default()) {
            seen += 1;
            assert!(listed.contains(&id), "{} names {id}, which is no statement of MQTT", file.display());
        }
    }
    assert!(seen > 50, "the code names the statements that it keeps to, but {seen} were found");
}

#[test]
fn the_statements_without_a_test_become_fewer() {
    for (table, _, open_max) in TABLES {
        let statements = statements(table);
        let ours = || statements.iter().filter(|s| ["server", "both"].contains(&&s.concerns[..]));
        let open: Vec<_> = ours().filter(|s| s.test.is_none()).map(|s| &s.id[..]).collect();
        println!(
            "{table}: {} concern a server, {} of them have no test: {open:?}",
            ours().count(),
            open.len()
        );
        assert_eq!(
            open.len(),
            *open_max,
            "{table}: without a test are {open:?}; write the test, or lower the number in TABLES if it fell"
        );
    }
}
