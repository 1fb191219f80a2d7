//! Whole routes: sources, sinks, which of several comes first, and which modules are covered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::{Origin, RouteDefinition, RouteTable};
use holdfast_types::{Message, Priority, Sink, Source, Topic};
use support::{envelope, from_child, from_module, from_twin, name, table};

fn taken(table: &RouteTable, source: Source) -> Vec<String> {
    let message = envelope(source, Message::new("x"));
    table
        .evaluate(&message, &name("edge"), Origin::Internal)
        .iter()
        .map(|m| m.route.name.to_string())
        .collect()
}

#[test]
fn a_source_pattern_is_a_prefix_closed_with_a_slash() {
    let sources = [
        ("plain", from_module("foo", None)),
        ("out", from_module("foo", Some("out"))),
        ("outer", from_module("foo", Some("outer"))),
        ("foobar", from_module("foobar", Some("out"))),
        ("child", from_child("c")),
        ("twin", from_twin("d", None)),
    ];
    let cases = [
        ("/*", "plain out outer foobar child twin"),
        ("/messages", "plain out outer foobar child"),
        ("/messages/*", "plain out outer foobar child"),
        ("/MESSAGES/*", "plain out outer foobar child"),
        ("/messages/modules", "plain out outer foobar"),
        ("/messages/modules/*", "plain out outer foobar"),
        ("/messages/modules/foo", "plain out outer"),
        ("/messages/modules/foo/*", "plain out outer"),
        ("/messages/modules/FOO/*", "plain out outer"),
        ("/messages/modules/foo*", "plain out outer"),
        ("/messages/modules/foo/outputs", "out outer"),
        ("/messages/modules/foo/outputs/*", "out outer"),
        ("/messages/modules/foo/outputs/out", "out"),
        ("/messages/modules/foo/Outputs/OUT/*", "out"),
        ("/messages/modules/foo/outputs/*/*", ""),
        ("/messages/modules/fo", ""),
        ("/messages/modules/*/outputs/out", ""),
        ("/messages/*/outputs/out", ""),
        ("/*/modules/foo", ""),
        ("/message", ""),
        ("/messages/devices/*", ""),
        ("/twinChangeNotifications", "twin"),
        ("/twinchangenotifications/*", "twin"),
        ("/ messages / modules / foo", "plain out outer"),
    ];
    for (pattern, wanted) in cases {
        let table = table(&[("r", &format!("FROM {pattern} INTO $upstream"))]);
        let given: Vec<&str> = sources
            .iter()
            .filter(|(_, source)| !taken(&table, source.clone()).is_empty())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(given.join(" "), wanted, "{pattern}");
        assert_eq!(
            table.routes()[0].source.can_match(),
            !wanted.is_empty() || pattern.ends_with("/fo"),
            "{pattern}"
        );
    }
}

#[test]
fn a_filter_of_topics_reads_what_was_published_to_plain_topics_only() {
    let published = |topic: &str| Source::Child { child: name("c"), topic: Some(Topic::new(topic).unwrap()) };
    let sources = [
        ("deep", published("plant/press/t")),
        ("flat", published("plant/t")),
        ("other", published("office/door")),
        ("dialect", from_child("c")),
        ("module", from_module("plant", Some("t"))),
        ("twin", from_twin("plant", None)),
    ];
    let cases = [
        ("Topic(\"#\")", "deep flat other"),
        ("Topic('plant/#')", "deep flat"),
        ("topic(\"plant/+\")", "flat"),
        ("Topic(\"+/press/+\")", "deep"),
        ("Topic(\"PLANT/t\")", ""),
    ];
    for (pattern, wanted) in cases {
        let table = table(&[("r", &format!("FROM {pattern} WHERE NOT is_defined(x) INTO $upstream"))]);
        let given: Vec<&str> = sources
            .iter()
            .filter(|(_, source)| !taken(&table, source.clone()).is_empty())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(given.join(" "), wanted, "{pattern}");
        assert!(table.routes()[0].source.can_match() && !table.could_take_module(&name("plant")));
    }
}

#[test]
fn the_words_of_a_route_have_any_case_and_comments_stand_anywhere() {
    for text in [
        "FROM /messages/* INTO $upstream",
        "from /messages/* into $UPSTREAM",
        "SELECT * FROM /messages/* INTO $upstream",
        "select\t*\nfrom\r\n/messages/*\ninto\n$Upstream\n",
        "FROM /messages/* WHERE true INTO $upstream",
        "From /messages WheRe true InTo $upstream /* the end */",
        "/* first */ FROM /messages /* second */ INTO /* third */ $upstream",
    ] {
        assert_eq!(taken(&table(&[("r", text)]), from_module("m", None)), ["r"], "{text}");
    }
}

#[test]
fn sinks_are_read_as_iot_edge_reads_them_and_topics_beside() {
    let input = |module: &str, input: &str| Sink::Input { module: name(module), input: name(input) };
    let cases = [
        ("$upstream", Sink::Upstream),
        ("BrokeredEndpoint(\"/modules/m/inputs/i\")", input("m", "i")),
        ("brokeredendpoint('/modules/m/inputs/i')", input("m", "i")),
        ("BROKEREDENDPOINT ( 'modules/m/inputs/i/' )", input("m", "i")),
        ("BrokeredEndpoint(' /modules/m/inputs/i ')", input("m", "i")),
        ("BrokeredEndpoint('/a/m/b/i')", input("m", "i")),
        ("BrokeredEndpoint('//m//i')", input("m", "i")),
        ("BrokeredEndpoint('/modules/M-1/inputs/in.put')", input("M-1", "in.put")),
        ("Topic(\"alerts/high\")", Sink::Topic(Topic::new("alerts/high").unwrap())),
        ("topic('a b/ü')", Sink::Topic(Topic::new("a b/ü").unwrap())),
        (r"Topic('it\'s')", Sink::Topic(Topic::new("it's").unwrap())),
    ];
    for (text, wanted) in cases {
        let table = table(&[("r", &format!("FROM /* INTO {text}"))]);
        assert_eq!(table.routes()[0].sink, wanted, "{text}");
    }
}

fn definition(name: &str, sink: &str, level: Option<u8>, secs: Option<u32>) -> RouteDefinition {
    RouteDefinition {
        priority: level.and_then(Priority::new).unwrap_or_default(),
        time_to_live_secs: secs,
        ..RouteDefinition::new(name, format!("FROM /* INTO {sink}"))
    }
}

#[test]
fn one_copy_for_each_sink_by_the_first_of_the_highest_priority() {
    let m = "BrokeredEndpoint('/modules/m/inputs/i')";
    let n = "BrokeredEndpoint('/modules/m/inputs/other')";
    let table = RouteTable::compile(vec![
        definition("default", "$upstream", None, Some(1)),
        definition("five", "$upstream", Some(5), Some(0)),
        definition("two", "$upstream", Some(2), Some(20)),
        definition("two-again", "$upstream", Some(2), Some(21)),
        definition("module", m, None, None),
        definition("module-again", m, None, Some(9)),
        definition("other-input", n, Some(9), None),
    ])
    .unwrap();
    let message = envelope(from_module("s", None), Message::new("x"));
    let found = table.evaluate(&message, &name("edge"), Origin::Internal);
    let shown: Vec<_> =
        found.iter().map(|m| (&*m.route.name, m.route.priority.level(), m.route.time_to_live_secs)).collect();
    assert_eq!(shown, [("two", 2, Some(20)), ("module", 10, None), ("other-input", 9, None)]);
    assert_eq!(table.routes()[1].time_to_live_secs, None, "0 means the global time to live");
    assert_eq!(table.routes().len(), 7);
}

#[test]
fn where_no_route_has_a_condition_the_source_decides() {
    let table = RouteTable::compile(vec![
        RouteDefinition::new("plain", "FROM /messages/modules/plain/* INTO $upstream"),
        RouteDefinition::new("asks", "FROM /messages/modules/asked/* WHERE level = 'high' INTO $upstream"),
    ])
    .unwrap();
    let by_source = |module| table.decides_by_source(&from_module(module, Some("out")));
    assert!(by_source("plain") && by_source("read-by-nobody"));
    assert!(!by_source("asked"));
}

#[test]
fn no_route_takes_nothing() {
    assert!(taken(&RouteTable::empty(), from_child("c")).is_empty());
    assert!(RouteTable::compile(Vec::new()).unwrap().routes().is_empty());
}

#[test]
fn a_module_is_covered_when_a_pattern_can_match_one_of_its_outputs() {
    let cases = [
        ("/*", true),
        ("/messages/*", true),
        ("/messages/modules/*", true),
        ("/messages/modules/foo", true),
        ("/messages/modules/FOO/outputs/*", true),
        ("/messages/modules/foo/outputs/out", true),
        ("/messages/modules/foo/outputs/out/deeper", false),
        ("/messages/modules/foo/outputs/*/x", false),
        ("/messages/modules/foo/inputs/*", false),
        ("/messages/modules/foobar/*", false),
        ("/messages/modules/fo", false),
        ("/twinChangeNotifications", false),
        ("/messages/devices", false),
    ];
    for (pattern, wanted) in cases {
        // The condition does not count: it can be true one day.
        let table = table(&[("r", &format!("FROM {pattern} WHERE false INTO $upstream"))]);
        assert_eq!(table.could_take_module(&name("foo")), wanted, "{pattern}");
    }
    assert!(!RouteTable::empty().could_take_module(&name("foo")));
}
