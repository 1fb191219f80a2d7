//! What people read when they ask why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::{Answer, Explanation, Origin, RouteDefinition, RouteTable, Seen, Verdict, Why};
use holdfast_types::{Envelope, Message, Priority};
use support::{envelope, from_child, from_module, json, name, reading, table};

fn explain(table: &RouteTable, message: &Envelope) -> Explanation {
    table.explain(message, &name("edge"), Origin::Internal)
}

fn why(route: &str, message: &Envelope) -> String {
    let shown = explain(&table(&[("r", route)]), message).to_string();
    shown.lines().skip(1).map(str::trim_start).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_message_is_explained_route_by_route() {
    let definition = |name, level, text: &str| RouteDefinition {
        priority: Priority::new(level).unwrap(),
        ..RouteDefinition::new(name, text)
    };
    let table = RouteTable::compile(vec![
        definition("up", 5, "FROM /messages/* INTO $upstream"),
        definition("urgent", 0, "FROM /messages/* WHERE level = 'high' INTO $upstream"),
        definition(
            "hot",
            10,
            "FROM /messages WHERE $body.temp > 30 INTO BrokeredEndpoint('/modules/a/inputs/i')",
        ),
        definition("other", 10, "FROM /messages/modules/other INTO Topic('t')"),
        definition("never", 10, "FROM /messages/*/outputs INTO Topic('n')"),
        definition("kind", 10, "FROM /messages WHERE kind = 'x' INTO Topic('k')"),
    ])
    .unwrap();
    let wanted = "\
message from /messages/modules/sensor/outputs/temp
  up -> $upstream: not taken: route urgent has the same sink and comes first, one copy is sent
  urgent -> $upstream: taken
  hot -> BrokeredEndpoint(\"/modules/a/inputs/i\"): not taken: the condition is false
    $body.temp > 30 is false, where $body.temp is 21.5
  other -> Topic(\"t\"): not taken: FROM /messages/modules/other does not match
  never -> Topic(\"n\"): not taken: FROM /messages/*/outputs matches no source there can be
  kind -> Topic(\"k\"): not taken: the condition is undefined
    kind = 'x' is undefined, where kind is undefined (the message has no property \"kind\")
";
    assert_eq!(explain(&table, &reading()).to_string(), wanted);
    let nothing = explain(&RouteTable::empty(), &envelope(from_child("c"), Message::new("")));
    assert_eq!(nothing.to_string(), "message from /messages\n  there are no routes\n");
}

#[test]
fn only_the_parts_that_decided_are_named() {
    let cases = [
        (
            "level = 'high' AND Unit = 'F' AND count = '42'",
            "r -> $upstream: not taken: the condition is false\nUnit = 'F' is false, where Unit is 'C'",
        ),
        (
            "level = 'low' OR Unit = 'F'",
            "r -> $upstream: not taken: the condition is false\n\
             level = 'low' is false, where level is 'high'\nUnit = 'F' is false, where Unit is 'C'",
        ),
        (
            "NOT (level = 'high' OR Unit = 'F')",
            "r -> $upstream: not taken: the condition is false\nlevel = 'high' is true, where level is 'high'",
        ),
        (
            "NOT (level = 'high' AND missing = 'x')",
            "r -> $upstream: not taken: the condition is undefined\n\
             level = 'high' is true, where level is 'high'\n\
             missing = 'x' is undefined, where missing is undefined (the message has no property \"missing\")",
        ),
        (
            "starts_with(upper(level), 'L')",
            "r -> $upstream: not taken: the condition is false\n\
             starts_with(upper(level), 'L') is false, where level is 'high'",
        ),
        (
            "level = Unit",
            "r -> $upstream: not taken: the condition is false\n\
             level = Unit is false, where level is 'high' and Unit is 'C'",
        ),
        (
            "level",
            "r -> $upstream: not taken: the condition is undefined\nlevel is undefined, where level is 'high'",
        ),
        ("null", "r -> $upstream: not taken: the condition is null\nnull is null"),
    ];
    for (condition, wanted) in cases {
        assert_eq!(why(&format!("FROM /messages WHERE {condition} INTO $upstream"), &reading()), wanted);
    }
}

#[test]
fn what_is_not_there_says_why() {
    let reasons = |condition: &str, message: &Envelope| -> String {
        let table = table(&[("r", &format!("FROM /messages WHERE {condition} INTO $upstream"))]);
        let Verdict::NotTrue { findings, .. } = &explain(&table, message).routes[0].verdict else {
            panic!("{condition} is true");
        };
        findings[0].seen[0].to_string()
    };
    let read = reading();
    let cases = [
        ("$body.place.street = 'x'", "$body.place.street is null (the body has no place.street)"),
        ("$body.list[7].a = 'x'", "$body.list[7].a is null (the body has no list[7])"),
        ("$body.nothing = 'x'", "$body.nothing is null"),
        (
            "$body.place = 'x'",
            "$body.place is undefined (it is an object or an array, which conditions cannot compare)",
        ),
        (
            "$body.when = 'x'",
            "$body.when is undefined (it is a date and time, which conditions cannot compare)",
        ),
        ("$to = 'x'", "$to is undefined (the message has no system property \"to\")"),
        (
            "$sequenceNumber = 'x'",
            "$sequenceNumber is undefined (no message has \"sequenceNumber\" while routes are asked)",
        ),
        (
            "$device = 'x'",
            "$device is undefined (there is no system property \"device\", and the message has no property \"$device\")",
        ),
        ("$dollar = 'x'", "$dollar is 'app'"),
        ("{$messageId} = 'x'", "{$messageId} is 'm-1'"),
    ];
    for (condition, wanted) in cases {
        assert_eq!(reasons(condition, &read), wanted);
    }
    let body = |content_type, encoding, body: &str| {
        json(from_module("m", None), content_type, encoding, body.as_bytes())
    };
    let cases = [
        (body(None, Some("utf-8"), "{}"), "the message has no contentType; it must be application/json"),
        (body(Some("text/plain"), None, "{}"), "contentType is \"text/plain\"; it must be application/json"),
        (
            body(Some("application/json"), None, "{}"),
            "the message has no contentEncoding; it must be utf-8, utf-16 or utf-32",
        ),
        (
            body(Some("application/json"), Some("gzip"), "{}"),
            "contentEncoding is \"gzip\"; it must be utf-8, utf-16 or utf-32",
        ),
        (
            body(Some("application/json"), Some("utf-16"), "{}"),
            "the body is not JSON: expected value at line 1 column 1",
        ),
        (body(Some("application/json"), Some("utf-32"), "{} "), "the body is not utf-32 text"),
        (body(Some("application/json"), Some("utf-8"), "[]"), "the body is JSON, but not an object"),
    ];
    for (message, wanted) in cases {
        assert_eq!(reasons("$body.a = 1", &message), format!("$body.a is undefined ({wanted})"));
    }
}

#[test]
fn a_long_value_is_shown_in_part() {
    let mut message = Message::new("");
    message.properties.set("note", &"ü\n".repeat(500));
    let shown = why("FROM /messages WHERE note = 'x' INTO $upstream", &envelope(from_child("c"), message));
    assert!(shown.ends_with("…' (1500 bytes)"), "{shown}");
    assert!(shown.chars().count() < 250 && shown.lines().count() == 2, "{shown}");
}

#[test]
fn programs_read_the_same_as_people() {
    let table = table(&[("r", "FROM /messages WHERE kind = 'x' INTO $upstream")]);
    let Verdict::NotTrue { answer, findings } = &explain(&table, &reading()).routes[0].verdict else {
        panic!()
    };
    assert_eq!(*answer, Answer::Undefined);
    assert_eq!(findings[0].text, "kind = 'x'");
    assert_eq!(findings[0].span.place(&table.routes()[0].text).column, 22);
    let why = Some(Why::NoProperty("kind".into()));
    assert_eq!(findings[0].seen, [Seen { text: "kind".into(), value: "undefined".into(), why }]);
}
