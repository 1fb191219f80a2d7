//! One message, one table, one question.
#![allow(dead_code, reason = "each test file uses its part")]

use holdfast_routes::{Answer, Origin, RouteDefinition, RouteTable, Verdict};
use holdfast_types::{Envelope, Message, Name, Source, SystemKey, UnixMillis};

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn from_module(module: &str, output: Option<&str>) -> Source {
    Source::Module { module: name(module), output: output.map(name) }
}

pub fn from_child(child: &str) -> Source {
    Source::Child { child: name(child), topic: None }
}

pub fn from_twin(device: &str, module: Option<&str>) -> Source {
    Source::TwinChange { device: name(device), module: module.map(name) }
}

pub const BODY: &str = r#"{
    "temp": 21.5, "zero": 0, "neg": -3, "big": 12345678901234567890,
    "name": "boiler", "digits": "7", "on": true, "off": false, "nothing": null,
    "list": [1, "two", {"three": 3}, [4, 5]],
    "place": {"city": "Oslo", "rooms": [{"t": 1}, {"t": 2, "ok": true}]},
    "when": "2026-01-31T12:00:00Z", "day": "2026-01-31", "shadow": "body", "Case": 1, "case": 2,
    "twin-a": 1, "a_b": "u", "ünï": "code"
}"#;

/// A reading from the module `sensor`, output `temp`, with a JSON body.
pub fn reading() -> Envelope {
    let mut message = Message::new(BODY);
    let properties = [
        ("level", "high"),
        ("Unit", "C"),
        ("count", "42"),
        ("empty", ""),
        ("true_text", "true"),
        ("null_text", "null"),
        ("$dollar", "app"),
        ("$messageId", "app id"),
        ("$body.shadow", "app wins"),
        ("a!", "1"),
        ("a+b", "sum"),
        ("a-b", "dash"),
        ("-x", "minus x"),
        ("it's", "quoted"),
        ("name.with.dots", "dots"),
        ("e5", "exponent"),
        ("TRUE", "shouted"),
        ("$", "lone"),
        ("ключ", "значение"),
    ];
    for (key, value) in properties {
        message.properties.set(key, value);
    }
    for (key, value) in [
        (SystemKey::MessageId, "m-1"),
        (SystemKey::CorrelationId, "c-1"),
        (SystemKey::UserId, "u-1"),
        (SystemKey::ContentType, "application/json"),
        (SystemKey::ContentEncoding, "utf-8"),
        (SystemKey::InterfaceId, "i-1"),
        (SystemKey::ComponentName, "comp"),
    ] {
        message.system.set(key, value);
    }
    message.system.creation_time = Some(UnixMillis(1_769_860_800_250));
    envelope(from_module("sensor", Some("temp")), message)
}

pub fn envelope(source: Source, message: Message) -> Envelope {
    Envelope { message, source, received: UnixMillis(1_769_860_801_000), hops: 0 }
}

pub fn json(source: Source, content_type: Option<&str>, encoding: Option<&str>, body: &[u8]) -> Envelope {
    let mut message = Message::new(body.to_vec());
    if let Some(content_type) = content_type {
        message.system.set(SystemKey::ContentType, content_type);
    }
    if let Some(encoding) = encoding {
        message.system.set(SystemKey::ContentEncoding, encoding);
    }
    envelope(source, message)
}

pub fn table(routes: &[(&str, &str)]) -> RouteTable {
    RouteTable::compile(routes.iter().map(|(name, text)| RouteDefinition::new(name, *text)).collect())
        .unwrap_or_else(|errors| {
            panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
}

/// What a condition says: `true`, `false`, `null`, `undefined`, or `fault` when it does not compile.
pub fn ask(condition: &str, envelope: &Envelope, origin: Origin) -> String {
    // Not `/*`: it would open a comment that a condition with a comment closes.
    let twin = matches!(envelope.source, Source::TwinChange { .. });
    let from = if twin { "/twinChangeNotifications" } else { "/messages" };
    let text = format!("FROM {from} WHERE {condition} INTO $upstream");
    let Ok(table) = RouteTable::compile(vec![RouteDefinition::new("r", text)]) else { return "fault".into() };
    let edge = name("edge");
    let taken = !table.evaluate(envelope, &edge, origin).is_empty();
    let answer = match &table.explain(envelope, &edge, origin).routes[0].verdict {
        Verdict::Taken => Answer::True,
        Verdict::NotTrue { answer, .. } => *answer,
        other => panic!("{condition}: {other:?}"),
    };
    assert_eq!(taken, answer == Answer::True, "{condition}: evaluation and explanation differ");
    answer.to_string()
}

/// Asks every row, and names every one that answers otherwise.
#[track_caller]
pub fn rows(envelope: &Envelope, rows: &[(&str, &str)]) {
    rows_from(envelope, Origin::Internal, rows);
}

#[track_caller]
pub fn rows_from(envelope: &Envelope, origin: Origin, rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .map(|(condition, wanted)| (condition, wanted, ask(condition, envelope, origin)))
        .filter(|(_, wanted, given)| *wanted != given)
        .map(|(condition, wanted, given)| format!("{condition}: {given}, not {wanted}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
