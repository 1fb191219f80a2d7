//! Whatever the text and whatever the message: no panic, and evaluation and explanation agree.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::{Origin, RouteDefinition, RouteTable, Verdict};
use holdfast_types::{Envelope, Priority};
use proptest::prelude::*;
use support::{from_child, from_module, from_twin, json, name, reading};

fn compile(text: &str) -> Option<RouteTable> {
    match RouteTable::compile(vec![RouteDefinition::new("r", text)]) {
        Ok(table) => Some(table),
        Err(errors) => {
            for error in errors {
                let span = error.span.expect("every fault of a text has a place");
                assert!(
                    span.start <= span.end && text.get(span.start..span.end).is_some(),
                    "{text:?}: {error:?}"
                );
                assert!(!error.to_string().is_empty());
            }
            None
        }
    }
}

/// Pieces that the lexer cares about, in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = vec![
        "SELECT",
        "FROM",
        "WHERE",
        "INTO",
        "/*",
        "*/",
        "/",
        "*",
        "$upstream",
        "BrokeredEndpoint",
        "Topic",
        "'a'",
        "\"b\"",
        "'",
        "\"",
        "\\",
        "\\u00e4",
        "\\uD800",
        "(",
        ")",
        ",",
        "+",
        "-",
        "%",
        "||",
        "|",
        "=",
        "!=",
        "<>",
        "<",
        "?",
        "??",
        "AND",
        "NOT",
        "true",
        "null",
        "undefined",
        "0x",
        "1e",
        "-1",
        ".5",
        "$body.a",
        "$body.",
        "$",
        "{",
        "}",
        "[",
        "]",
        "[0]",
        "ä",
        "😀",
        " ",
        "\n",
        "\r",
        "\t",
        "abs",
        "concat",
        "twin_change_includes",
        "tags.a",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|all| all.concat())
}

/// Conditions that compile more often than not.
fn logic() -> impl Strategy<Value = String> {
    let values = vec![
        "level = 'high'",
        "level = 'low'",
        "missing = 'x'",
        "$body.on",
        "$body.off",
        "$body.none",
        "$body.place",
        "$body.temp > 20",
        "$body.name > 20",
        "as_number(count) = 42",
        "true",
        "false",
        "null",
        "undefined",
        "is_defined(missing)",
        "is_null($body.nothing)",
        "contains($body.name, 'oil')",
        "$to = 'x'",
        "$body.when = 'x'",
        "(missing ?? level) = 'high'",
        "sqrt($body.neg) > 1",
        "level || missing = 'x'",
    ];
    prop::sample::select(values).prop_map(str::to_owned).prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["AND", "OR"]), inner.clone())
                .prop_map(|(a, o, b)| format!("({a}) {o} ({b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

fn messages() -> Vec<Envelope> {
    vec![
        reading(),
        json(from_module("m", None), Some("application/json"), Some("utf-8"), b"no json"),
        json(from_child("c"), None, None, b""),
        json(from_twin("d", None), None, None, br#"{"on": true, "temp": "warm"}"#),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in any::<String>()) {
        compile(&text);
        compile(&format!("FROM /m WHERE {text} INTO $upstream"));
        compile(&format!("FROM /m WHERE $body.{text} = 1 INTO $upstream"));
        compile(&format!("FROM /m INTO Topic('{text}')"));
    }

    #[test]
    fn no_order_of_tokens_makes_the_compiler_panic(text in soup()) {
        compile(&text);
        if let Some(table) = compile(&format!("FROM /m WHERE {text} INTO $upstream")) {
            for message in messages() {
                let _ = table.explain(&message, &name("edge"), Origin::Internal).to_string();
            }
        }
    }

    #[test]
    fn no_string_makes_as_number_panic(text in "[ -~¤∞]{0,12}") {
        let mut message = reading();
        message.message.properties.set("text", &text);
        let table = compile("FROM /messages WHERE as_number(text) = 1 INTO $upstream").unwrap();
        table.evaluate(&message, &name("edge"), Origin::Internal);
    }

    #[test]
    fn as_number_reads_every_number_that_is_written_plainly(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let mut message = reading();
        message.message.properties.set("text", &format!("{number:?}"));
        let table = compile(&format!("FROM /messages WHERE as_number(text) = {number:?} INTO $upstream")).unwrap();
        prop_assert_eq!(table.evaluate(&message, &name("edge"), Origin::Internal).len(), 1);
    }

    #[test]
    fn evaluation_and_explanation_agree(conditions in prop::collection::vec((logic(), 0..3u8, 0..2u8), 1..6)) {
        let definitions = conditions.iter().enumerate().filter_map(|(at, (condition, level, sink))| {
            let sink = ["$upstream", "Topic('t')"][usize::from(*sink)];
            let text = format!("FROM /* WHERE {condition} INTO {sink}");
            // `NOT undefined` and its like do not compile; they are for other tests.
            compile(&text)?;
            let priority = Priority::new(*level).unwrap();
            Some(RouteDefinition { priority, ..RouteDefinition::new(&format!("r{at}"), text) })
        });
        let table = RouteTable::compile(definitions.collect()).unwrap();
        for message in messages() {
            let taken: Vec<_> = table
                .evaluate(&message, &name("edge"), Origin::Internal)
                .iter()
                .map(|m| m.route.name.clone())
                .collect();
            let explanation = table.explain(&message, &name("edge"), Origin::Internal);
            let mut explained: Vec<_> = Vec::new();
            for route in &explanation.routes {
                match &route.verdict {
                    Verdict::Taken => explained.push(route.name.clone()),
                    Verdict::NotTrue { findings, .. } => prop_assert!(!findings.is_empty(), "{}", explanation),
                    Verdict::Behind(other) => prop_assert!(taken.contains(other)),
                    Verdict::SourceDiffers(..) => prop_assert!(false, "every source matches"),
                }
            }
            explained.sort();
            let mut sorted = taken.clone();
            sorted.sort();
            prop_assert_eq!(sorted, explained);
        }
    }
}
