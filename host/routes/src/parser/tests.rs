//! How conditions group, and that the printed form of a tree is read as the same tree.

use super::route;
use crate::condition::ast::{Expr, Node};
use proptest::prelude::*;

/// The condition with a bracket around every operator.
fn print(expr: &Expr) -> String {
    let list = |members: &[Expr], between: &str| members.iter().map(print).collect::<Vec<_>>().join(between);
    match &expr.node {
        Node::Undefined => "undefined".into(),
        Node::Null => "null".into(),
        Node::Bool(value) => value.to_string(),
        Node::Number(number) => format!("{number:?}"),
        Node::Text(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Node::Property(name) | Node::Dollar(name) => name.clone(),
        Node::Escaped(name) => format!("{{{name}}}"),
        Node::Call { name, arguments, .. } => format!("{name}({})", list(arguments, ", ")),
        Node::TwinIncludes { path, .. } => format!("twin_change_includes({path})"),
        Node::Negate(inner) => format!("(- {})", print(inner)),
        Node::Not(inner) => format!("(NOT {})", print(inner)),
        Node::Binary { operator, left, right, .. } => {
            format!("({} {} {})", print(left), operator.sign(), print(right))
        }
        Node::All(members) => format!("({})", list(members, " AND ")),
        Node::Any(members) => format!("({})", list(members, " OR ")),
    }
}

fn parse(condition: &str) -> Option<Expr> {
    let mut faults = Vec::new();
    let parts = route(&format!("FROM /m WHERE {condition} INTO $upstream"), &mut faults);
    parts.condition.filter(|_| faults.is_empty())
}

#[test]
fn operators_group_as_the_grammar_of_iot_edge_groups_them() {
    let cases = [
        ("a OR b AND c", "(a OR (b AND c))"),
        ("a AND b OR c AND d", "((a AND b) OR (c AND d))"),
        ("a AND b AND c", "(a AND b AND c)"),
        ("(a AND b) AND c", "(a AND b AND c)"),
        ("a AND (b AND c)", "(a AND (b AND c))"),
        ("a OR b OR c AND d OR e", "(a OR b OR (c AND d) OR e)"),
        ("a ?? b ?? c", "((a ?? b) ?? c)"),
        ("a ?? b = c", "(a ?? (b = c))"),
        ("a OR b ?? c OR d", "((a OR b) ?? (c OR d))"),
        ("a = b = c", "((a = b) = c)"),
        ("a <> b != c", "((a != b) != c)"),
        ("a < b = c > d", "((a < b) = (c > d))"),
        ("a <= b >= c", "((a <= b) >= c)"),
        ("a + b < c - d", "((a + b) < (c - d))"),
        ("a - b - c", "((a - b) - c)"),
        ("a - b || c + d", "(((a - b) || c) + d)"),
        ("a + b * c", "(a + (b * c))"),
        ("a * b / c % d", "(((a * b) / c) % d)"),
        ("- a * b", "((- a) * b)"),
        ("a * - b", "(a * (- b))"),
        ("- - a", "(- (- a))"),
        ("NOT a = b", "((NOT a) = b)"),
        ("NOT a * b", "((NOT a) * b)"),
        ("NOT a AND b", "((NOT a) AND b)"),
        ("NOT NOT a OR b", "((NOT (NOT a)) OR b)"),
        ("NOT - a", "(NOT (- a))"),
        ("a = NOT b", "(a = (NOT b))"),
        ("f(a, b + c) * d", "(f(a, (b + c)) * d)"),
        ("f (a)", "f(a)"),
        ("f()", "f()"),
        ("{ $a } = $b.c[0]", "({$a} = $b.c[0])"),
        ("a-b - -1", "(a-b - -1.0)"),
        // A doubled quote is no escape: the longest token is a name.
        ("'it''s' = 'x'", "('it''s' = 'x')"),
    ];
    for (condition, wanted) in cases {
        let given = parse(condition).map(|expr| print(&expr)).unwrap_or("a fault".into());
        assert_eq!(given, wanted, "{condition}");
    }
}

/// Conditions of every form, most of which make no sense to the check.
fn conditions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("level".to_owned()),
        Just("$body.x[1].y".to_owned()),
        Just("{$messageId}".to_owned()),
        Just("null".to_owned()),
        Just("undefined".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        any::<i32>().prop_map(|n| n.to_string()),
        "[ -~äß😀]{0,8}".prop_map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "*", "/", "%", "+", "-", "||", "<", "<=", ">", ">=", "=", "!=", "<>", "AND", "OR", "??",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("NOT {a}")),
            inner.clone().prop_map(|a| format!("- {a}")),
            prop::collection::vec(inner, 0..4).prop_map(|all| format!("f({})", all.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_condition_is_read_as_the_same_tree(condition in conditions()) {
        let printed = print(&parse(&condition).expect("the generator writes the grammar"));
        let again = print(&parse(&printed).expect("a printed condition is in the grammar"));
        prop_assert_eq!(printed, again);
    }
}
