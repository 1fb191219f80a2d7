//! What is refused, where, and in which words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_routes::{Fault, ROUTE_BYTES_MAX, RouteDefinition, RouteError, RouteTable};

fn errors(text: &str) -> Vec<RouteError> {
    RouteTable::compile(vec![RouteDefinition::new("r", text)]).err().unwrap_or_default()
}

/// Every fault as `line:column text-at-fault`.
fn places(text: &str) -> Vec<String> {
    let show = |error: RouteError| {
        let span = error.span.unwrap();
        let place = error.place().unwrap();
        format!("{}:{} {}", place.line, place.column, span.of(text))
    };
    errors(text).into_iter().map(show).collect()
}

#[test]
fn a_fault_points_at_what_is_wrong() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["1:1 "]),
        ("  \n /* nothing */ ", &["1:1 "]),
        ("INTO $upstream", &["1:1 INTO"]),
        ("FRM /* INTO $upstream", &["1:1 FRM"]),
        ("SELECT a FROM /* INTO $upstream", &["1:8 a"]),
        ("FROM INTO $upstream", &["1:6 INTO"]),
        ("FROM messages INTO $upstream", &["1:6 messages"]),
        ("FROM / INTO $upstream", &["1:8 INTO"]),
        ("FROM Topic INTO $upstream", &["1:12 INTO"]),
        ("FROM Topic(plant) INTO $upstream", &["1:12 plant"]),
        ("FROM Topic('a/#/b') INTO $upstream", &["1:12 'a/#/b'"]),
        ("FROM Topic('') INTO $upstream", &["1:12 ''"]),
        ("FROM Topic('$sys/#') INTO $upstream", &["1:12 '$sys/#'"]),
        ("FROM Topic('a') Topic('b') INTO $upstream", &["1:17 Topic"]),
        ("FROM /messages/ INTO $upstream", &["1:17 INTO"]),
        ("FROM /messages//x INTO $upstream", &["1:16 /"]),
        ("FROM /messages/modules/from/* INTO $upstream", &["1:24 from"]),
        ("FROM /messages/modules/True/* INTO $upstream", &[]),
        ("FROM /messages/modules/true/* INTO $upstream", &["1:24 true"]),
        ("FROM /messages/modules/42/* INTO $upstream", &["1:24 42"]),
        ("FROM /messages/modules/$x/* INTO $upstream", &["1:24 $x"]),
        ("FROM /messages/modules/a[0] INTO $upstream", &["1:24 a[0]"]),
        ("FROM /messages INTO", &["1:20 "]),
        ("FROM /messages", &["1:15 "]),
        ("FROM /messages INTO upstream", &["1:29 "]),
        ("FROM /messages INTO $up", &["1:21 $up"]),
        ("FROM /messages INTO Nowhere('x')", &["1:21 Nowhere"]),
        ("FROM /messages INTO BrokeredEndpoint('/modules/m')", &["1:38 '/modules/m'"]),
        ("FROM /messages INTO BrokeredEndpoint('/a/b/c/d/e')", &["1:38 '/a/b/c/d/e'"]),
        ("FROM /messages INTO BrokeredEndpoint('/modules//inputs/i')", &["1:38 '/modules//inputs/i'"]),
        ("FROM /messages INTO BrokeredEndpoint('/modules/a b/inputs/i')", &["1:38 '/modules/a b/inputs/i'"]),
        ("FROM /messages INTO BrokeredEndpoint(/modules)", &["1:38 /"]),
        ("FROM /messages INTO BrokeredEndpoint('/modules/m/inputs/i'", &["1:59 "]),
        ("FROM /messages INTO Topic('a/#')", &["1:27 'a/#'"]),
        ("FROM /messages INTO Topic('')", &["1:27 ''"]),
        ("FROM /messages INTO Topic('$sys')", &["1:27 '$sys'"]),
        ("FROM /messages INTO $upstream;", &["1:30 ;"]),
        ("FROM /messages INTO $upstream AND more", &["1:31 AND"]),
        ("FROM /messages WHERE INTO $upstream", &["1:22 INTO"]),
        ("FROM /messages WHERE a = INTO $upstream", &["1:26 INTO"]),
        ("FROM /messages WHERE a == 'b' INTO $upstream", &["1:24 =="]),
        ("FROM /messages WHERE (a = 'b' INTO $upstream", &["1:31 INTO"]),
        ("FROM /messages WHERE a = 'b') INTO $upstream", &["1:29 )"]),
        ("FROM /messages WHERE a = 'b INTO $upstream", &["1:26 'b INTO $upstream"]),
        ("FROM /messages WHERE a = @b INTO $upstream", &["1:26 @"]),
        ("FROM /messages WHERE a b INTO $upstream", &["1:24 b"]),
        ("FROM /messages WHERE 1 -1 = 0 INTO $upstream", &["1:24 -1"]),
        ("FROM /messages WHERE a[0] = 'x' INTO $upstream", &["1:22 a[0]"]),
        ("FROM /messages WHERE a = 1 INTO $upstream", &["1:24 ="]),
        ("FROM /messages WHERE nope(a) INTO $upstream", &["1:22 nope"]),
        ("FROM /messages WHERE abs(a) = 1 INTO $upstream", &["1:22 abs"]),
        ("FROM /messages WHERE $body.a[x] = 1 INTO $upstream", &["1:22 $body.a[x]"]),
        ("FROM /messages\nWHERE\n  ü = 'ü' AND b = 2\nINTO $upstream", &["3:17 ="]),
        // Every fault of a route at once: types, then another, a bad sink; and what stands behind a fault of syntax.
        (
            "FROM /messages WHERE a = 1 AND 'x' OR b > 2 INTO $up",
            &["1:24 =", "1:32 'x'", "1:41 >", "1:50 $up"],
        ),
        ("FROM /messages WHERE a == 1 INTO $up", &["1:24 ==", "1:34 $up"]),
        ("FROM messages WHERE a = 1 INTO $up", &["1:6 messages", "1:23 =", "1:32 $up"]),
        ("FROM messages INTO $up", &["1:6 messages", "1:20 $up"]),
    ];
    for (text, wanted) in cases {
        assert_eq!(places(text), *wanted, "{text}");
    }
}

#[test]
fn the_words_say_what_why_and_the_fix() {
    let cases = [
        (
            "FROM /messages WHERE temp > 30 INTO $upstream",
            "route \"r\", line 1, column 27: `>` takes two values of one type, here it has a string and a number; \
             properties are strings: compare with '…', or write as_number(…)\n\
             \x20 | FROM /messages WHERE temp > 30 INTO $upstream\n\
             \x20 |                           ^",
        ),
        (
            "FROM /messages\nWHERE level=='high'\nINTO $upstream",
            "route \"r\", line 2, column 12: `==` is no operator; write `=`\n\
             \x20 | WHERE level=='high'\n\
             \x20 |            ^^",
        ),
        (
            "FROM /messages/* WHERE a!=1 INTO $upstream",
            "route \"r\", line 1, column 26: `=` takes two values of one type, here it has a string and a number; \
             `a!` was read as one name; put spaces around the operator if that is not meant\n\
             \x20 | FROM /messages/* WHERE a!=1 INTO $upstream\n\
             \x20 |                          ^",
        ),
        (
            "FROM /messages/* WHERE a = 'x*/y' INTO $upstream",
            "route \"r\", line 1, column 32: expected WHERE or INTO after the source, found `y'`; \
             note that from line 1, column 15 on `/* WHERE a = 'x*/` was read as a comment",
        ),
        (
            "FROM /messages WHERE len(a) = 3 INTO $upstream",
            "route \"r\", line 1, column 22: there is no function `len`; did you mean length?\n\
             \x20 | FROM /messages WHERE len(a) = 3 INTO $upstream\n\
             \x20 |                      ^^^",
        ),
        (
            "FROM /messages WHERE substring(a, 'x') = 'b' INTO $upstream",
            "route \"r\", line 1, column 22: substring(a string, a string): these arguments do not fit; \
             it is substring(string, start[, length])\n\
             \x20 | FROM /messages WHERE substring(a, 'x') = 'b' INTO $upstream\n\
             \x20 |                      ^^^^^^^^^",
        ),
        (
            "FROM /messages WHERE a = 'b' && c = 'd' INTO $upstream",
            "route \"r\", line 1, column 30: expected INTO, or an operator that goes on with the condition, \
             found `&&`; write AND\n\
             \x20 | FROM /messages WHERE a = 'b' && c = 'd' INTO $upstream\n\
             \x20 |                              ^^",
        ),
        (
            "FROM /messages WHERE 5 -3 = 2 INTO $upstream",
            "route \"r\", line 1, column 24: expected INTO, or an operator that goes on with the condition, \
             found `-3`; for a subtraction put a space behind the minus\n\
             \x20 | FROM /messages WHERE 5 -3 = 2 INTO $upstream\n\
             \x20 |                        ^^",
        ),
        (
            "FROM /messages WHERE twin_change_includes(tags.a) INTO $upstream",
            "route \"r\", line 1, column 22: twin_change_includes works only in a route FROM /twinChangeNotifications; \
             change the source\n\
             \x20 | FROM /messages WHERE twin_change_includes(tags.a) INTO $upstream\n\
             \x20 |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
    ];
    for (text, wanted) in cases {
        let all = errors(text);
        let shown = all[0].to_string();
        if wanted.contains('\n') {
            assert_eq!(shown, wanted);
        } else {
            assert_eq!(shown.lines().next().unwrap(), wanted);
        }
    }
}

#[test]
fn a_long_line_is_shown_around_the_fault() {
    let text = format!("FROM /messages WHERE {} a == 'b' INTO $upstream", "true OR ".repeat(100));
    let shown = errors(&text)[0].to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].chars().count() < 110, "{shown}");
    let column = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][column..column + 2], "==", "{shown}");
}

#[test]
fn names_of_routes_follow_the_rule_of_iot_edge() {
    for good in ["r", "route-1", "Ünïcode", "a/b", "\"", "a\tb"] {
        let table = RouteTable::compile(vec![RouteDefinition::new(good, "FROM /* INTO $upstream")]);
        assert!(table.is_ok(), "{good}");
    }
    for (bad, character) in
        [("a.b", Some('.')), ("a b", Some(' ')), ("$a", Some('$')), ("a#", Some('#')), ("", None)]
    {
        let errors =
            RouteTable::compile(vec![RouteDefinition::new(bad, "FROM /* INTO $upstream")]).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].fault, Fault::RouteName(character), "{bad}");
    }
}

#[test]
fn every_fault_of_every_route_is_reported_at_once() {
    let errors = RouteTable::compile(vec![
        RouteDefinition::new("good", "FROM /* INTO $upstream"),
        RouteDefinition::new("bad name", "FROM /* INTO $nowhere"),
        RouteDefinition::new("types", "FROM /messages WHERE a = 1 AND b = 2 INTO $upstream"),
        RouteDefinition::new("good", "FROM /* INTO $upstream"),
        RouteDefinition::new("long", "x".repeat(ROUTE_BYTES_MAX + 1)),
    ])
    .unwrap_err();
    let routes: Vec<&str> = errors.iter().map(|error| &*error.route).collect();
    assert_eq!(routes, ["bad name", "bad name", "types", "types", "good", "long"]);
    assert_eq!(errors[4].fault, Fault::DuplicateRoute);
    assert_eq!(errors[5].fault, Fault::TooLong(ROUTE_BYTES_MAX + 1));
    assert!(errors[5].to_string().len() < 200, "the text of a route that is too long is not shown");
}
