//! What a condition sees of messages of other kinds: encodings, children, twin changes, long lists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::{JSON_BYTES_MAX, Origin};
use support::{ask, envelope, from_child, from_module, from_twin, json, rows, rows_from};

const TEMP: &[u8] = br#"{"temp": 5}"#;

#[test]
fn a_body_is_read_only_when_its_type_and_encoding_say_so() {
    let source = || from_module("m", None);
    let cases = [
        (Some("application/json"), Some("utf-8"), "true"),
        (Some("APPLICATION/JSON"), Some("UTF-8"), "true"),
        (None, Some("utf-8"), "undefined"),
        (Some("application/json"), None, "undefined"),
        (None, None, "undefined"),
        (Some("text/plain"), Some("utf-8"), "undefined"),
        (Some("application/json; charset=utf-8"), Some("utf-8"), "undefined"),
        (Some("application/json"), Some("utf8"), "undefined"),
        (Some("application/json"), Some("gzip"), "undefined"),
        (Some("application/json"), Some("utf-16"), "undefined"),
    ];
    for (content_type, encoding, wanted) in cases {
        let message = json(source(), content_type, encoding, TEMP);
        assert_eq!(
            ask("$body.temp = 5", &message, Origin::Internal),
            wanted,
            "{content_type:?} {encoding:?}"
        );
        let defined = if wanted == "true" { "true" } else { "false" };
        assert_eq!(ask("is_defined($body.temp)", &message, Origin::Internal), defined);
    }
}

#[test]
fn wide_encodings_are_read_in_both_byte_orders() {
    let text = r#"{"temp": 5, "city": "Zürich 😀"}"#;
    let wide = |bytes: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        mark.then_some(0xfeff).into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    let wider = |bytes: fn(u32) -> [u8; 4], mark: bool| -> Vec<u8> {
        mark.then_some(0xfeff).into_iter().chain(text.chars().map(u32::from)).flat_map(bytes).collect()
    };
    let marked = format!("\u{feff}{text}").into_bytes();
    let bodies = [
        ("utf-8", text.as_bytes().to_vec()),
        ("utf-8", marked),
        ("utf-16", wide(u16::to_le_bytes, false)),
        ("utf-16", wide(u16::to_le_bytes, true)),
        ("utf-16", wide(u16::to_be_bytes, true)),
        ("utf-32", wider(u32::to_le_bytes, false)),
        ("utf-32", wider(u32::to_le_bytes, true)),
        ("utf-32", wider(u32::to_be_bytes, true)),
    ];
    for (encoding, body) in bodies {
        let message = json(from_module("m", None), Some("application/json"), Some(encoding), &body);
        let condition = "$body.temp = 5 AND $body.city = 'Zürich 😀'";
        assert_eq!(ask(condition, &message, Origin::Internal), "true", "{encoding} {body:?}");
    }
}

#[test]
fn what_is_not_a_json_object_is_undefined_not_an_error() {
    let bodies: [&[u8]; 12] = [
        b"",
        b"5",
        b"[1]",
        b"null",
        b"\"text\"",
        b"{",
        b"{'temp': 5}",
        b"{temp: 5}",
        b"{\"temp\": 5} trailing",
        b"\xff\xfe",
        b"{\"temp\": 5",
        &[b'['; 100_000],
    ];
    for body in bodies {
        let message = json(from_module("m", None), Some("application/json"), Some("utf-8"), body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        assert_eq!(ask("$body.temp = 5", &message, Origin::Internal), "undefined", "{shown}");
        assert_eq!(ask("$body.temp = 5 OR true", &message, Origin::Internal), "true", "{shown}");
    }
}

#[test]
fn a_body_of_more_than_a_mebibyte_is_not_read() {
    for (bytes, wanted) in [(JSON_BYTES_MAX, "true"), (JSON_BYTES_MAX + 1, "undefined")] {
        let mut body = TEMP.to_vec();
        body.resize(bytes, b' ');
        let message = json(from_module("m", None), Some("application/json"), Some("utf-8"), &body);
        assert_eq!(ask("$body.temp = 5", &message, Origin::Internal), wanted, "{bytes}");
    }
}

#[test]
fn strings_that_newtonsoft_reads_as_dates_are_undefined() {
    let dates = [
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.1Z",
        "2026-01-31T12:00:00.1234567Z",
        "2026-01-31T12:00:00+01:00",
        "2026-01-31T12:00:00-0130",
        "2026-01-31T12:00:00+01",
        "2024-02-29T24:00:00",
        "/Date(1700000000000)/",
        "/Date(-1)/",
        "/Date(1700000000000+0100)/",
    ];
    let strings = [
        "2026-01-31",
        "2026-01-31 12:00:00",
        "2026-02-30T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T24:00:01Z",
        "2026-01-31T12:00:00.12345678Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00Zulu",
        "2026-01-31T12:00:00+1",
        "2026-01-31T12:00",
        "/Date()/",
        "/Date(x)/",
        "/path/to",
    ];
    let wanted = dates.iter().map(|d| (d, "undefined")).chain(strings.iter().map(|s| (s, "true")));
    for (text, wanted) in wanted {
        let body = format!("{{\"when\": \"{text}\"}}");
        let message = json(from_module("m", None), Some("application/json"), Some("utf-8"), body.as_bytes());
        assert_eq!(ask(&format!("$body.when = '{text}'"), &message, Origin::Internal), wanted, "{text}");
    }
}

#[test]
fn a_child_is_named_by_the_system_properties() {
    let message = json(from_child("valve-7"), None, None, TEMP);
    rows_from(
        &message,
        Origin::Downstream,
        &[
            ("$connectionDeviceId = 'valve-7'", "true"),
            ("is_defined($connectionModuleId)", "false"),
            ("is_defined($outputName)", "false"),
            ("is_defined($messageType)", "false"),
            ("is_defined($creationTime)", "false"),
            ("$edgeHubOriginInterface = 'downstream'", "true"),
            ("$messageId = 'x'", "undefined"),
        ],
    );
}

#[test]
fn a_twin_change_is_json_and_can_be_searched() {
    let body = br#"{"properties": {"reported": {"level": 3, "off": null, "list": [1], "deep": {"er": 1}}}, "tags": {"site": "x"}}"#;
    rows(
        &json(from_twin("valve-7", Some("agent")), None, None, body),
        &[
            ("twin_change_includes(properties.reported.level)", "true"),
            ("TWIN_CHANGE_INCLUDES(Properties.Reported.level)", "false"),
            ("twin_change_includes(properties.reported.off)", "true"),
            ("twin_change_includes(properties.reported.deep)", "true"),
            ("twin_change_includes(properties.reported.deep.er)", "true"),
            ("twin_change_includes(properties.reported.list[0])", "true"),
            ("twin_change_includes(properties.reported.list[1])", "false"),
            ("twin_change_includes(properties.reported.none)", "false"),
            ("twin_change_includes(properties.desired.level)", "false"),
            ("twin_change_includes(tags.site)", "true"),
            ("NOT twin_change_includes(tags.none)", "true"),
            ("twin_change_includes(level)", "fault"),
            ("twin_change_includes('properties.reported.level')", "fault"),
            ("twin_change_includes()", "fault"),
            ("twin_change_includes(properties.reported.a, tags.b)", "fault"),
            ("twin_change_includes(properties.reported.)", "fault"),
            ("$body.properties.reported.level = 3", "true"),
            ("$messageType = 'twinChangeNotification'", "true"),
            ("$messageSchema = 'twinChangeNotification'", "true"),
            ("$connectionDeviceId = 'valve-7'", "true"),
            ("$connectionModuleId = 'agent'", "true"),
        ],
    );
    let broken = json(from_twin("valve-7", None), None, None, b"no json");
    rows(&broken, &[("twin_change_includes(tags.site)", "undefined")]);
    let telemetry = json(from_module("m", None), None, None, body);
    rows(&telemetry, &[("twin_change_includes(tags.site)", "fault")]);
}

#[test]
fn a_list_may_be_long_but_not_deep() {
    let message = envelope(from_module("m", None), holdfast_types::Message::new("x"));
    let list = |member: &str, with: &str, times: usize| vec![member; times].join(with);
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let cases = [
        (list("true", " AND ", 3000), "true"),
        (list("false", " OR ", 3000), "false"),
        (list("true", " AND false OR ", 1000), "true"),
        (format!("{} = 90", list("1", " + ", 90)), "true"),
        (format!("{} = 900", list("1", " + ", 900)), "fault"),
        (nested("(", "true", ")", 90), "true"),
        (nested("(", "true", ")", 101), "fault"),
        (nested("NOT ", "true", "", 90), "true"),
        (nested("NOT ", "true", "", 1000), "fault"),
        (nested("- ", "1", " = 1", 1), "false"),
        (format!("{} = 1", nested("- ", "1", "", 1000)), "fault"),
        (format!("{} = 1", nested("abs(", "1", ")", 90)), "true"),
        (format!("{} = 1", nested("abs(", "1", ")", 1000)), "fault"),
        (format!("{} = 'a'", nested("concat('', ", "'a'", ")", 1000)), "fault"),
        ("(".repeat(30_000), "fault"),
        ("(".repeat(100_000), "fault"),
        ("NOT ".repeat(100_000), "fault"),
        ("{".repeat(30_000), "fault"),
        (format!("{}true", "null ?? ".repeat(5_000)), "fault"),
    ];
    for (condition, wanted) in cases {
        let start: String = condition.chars().take(40).collect();
        assert_eq!(ask(&condition, &message, Origin::Internal), wanted, "{start}…");
    }
}
