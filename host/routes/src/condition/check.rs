//! Types of every part of a condition, and what does not fit.
//!
//! There are no conversions: a string never meets a number. Properties are strings; what comes from the body has a type
//! only when the message is there, so it fits everything but the literal `undefined`.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `true AND $body.x` | a fault, unless the left side is from the body too | allowed |
//! | `$body.x AND 'text'` | allowed, never true | a fault, as every string in logic |
//! | `%` and unary `-` on body values | fail while compiling, without a reason | work |
//! | `null AND undefined` | fails while compiling | undefined |
//! | `undefined ?? 'x'`, `NOT undefined` | a fault | a fault |
//! | `WHERE level`, a string alone | allowed, undefined for every message | the same |
//! | `$name[0]`, `$body[0]` | undefined for every message | a fault |
//! | `twin_change_includes` | never found, because route sources are of another class | works FROM /twinChangeNotifications |

use super::{
    Function, Op, Reference, Type, Typed,
    ast::{Expr, Node, Operator},
    path::BodyPath,
    system::SystemName,
    value::Value,
};
use crate::{
    error::{Fault, Span},
    parser::Found,
};
use std::borrow::Cow;

/// Checks a condition. When there are faults, all of them are in `faults` and the result is of no use.
pub(crate) fn check(condition: Expr, twin_changes: bool, faults: &mut Vec<Found>) -> Typed {
    Checker { twin_changes, faults }.expr(condition)
}

struct Checker<'f> {
    twin_changes: bool,
    faults: &'f mut Vec<Found>,
}

impl Checker<'_> {
    fn expr(&mut self, expr: Expr) -> Typed {
        let span = expr.span;
        let (op, kind) = match expr.node {
            Node::Undefined => (Op::Constant(Value::Undefined), Type::Undefined),
            Node::Null => (Op::Constant(Value::Null), Type::Null),
            Node::Bool(value) => (Op::Constant(Value::Bool(value)), Type::Bool),
            Node::Number(number) => (Op::Constant(Value::number(number)), Type::Number),
            Node::Text(text) => (Op::Constant(Value::Text(Cow::Owned(text))), Type::Text),
            Node::Property(name) => (Op::Property(name.into()), Type::Text),
            Node::Dollar(name) => self.dollar(name, span, false),
            Node::Escaped(name) => self.dollar(name, span, true),
            Node::Call { name, name_span, arguments } => self.call(&name, name_span, arguments),
            Node::TwinIncludes { path, path_span } => self.twin_includes(&path, span, path_span),
            Node::Negate(inner) => self.negate(*inner, span),
            Node::Not(inner) => self.not(*inner, span),
            Node::Binary { operator, operator_span, left, right } => {
                let (left, right) = (self.expr(*left), self.expr(*right));
                let kind = self.binary(operator, operator_span, &left, &right);
                (Op::Binary(operator, Box::new(left), Box::new(right)), kind)
            }
            Node::All(members) => {
                let members = self.members("AND", members);
                let null = members.iter().any(|member| member.kind == Type::Null);
                (Op::All(members), if null { Type::Null } else { Type::Bool })
            }
            Node::Any(members) => {
                let members = self.members("OR", members);
                let null = members.iter().all(|member| member.kind == Type::Null);
                (Op::Any(members), if null { Type::Null } else { Type::Bool })
            }
        };
        Typed { op, kind, span }
    }

    fn fault(&mut self, span: Span, fault: Fault) {
        self.faults.push((span, fault));
    }

    /// `$name` and `{$name}`; the name has its `$` still.
    fn dollar(&mut self, name: String, span: Span, escaped: bool) -> (Op, Type) {
        let prefix = name.get(..BODY.len()).filter(|prefix| prefix.eq_ignore_ascii_case(BODY));
        let (reference, kind) = match prefix {
            Some(_) => match BodyPath::parse(name.get(BODY.len()..).unwrap_or_default()) {
                Ok(path) => (Reference::Body(path), Type::Body),
                Err(why) => {
                    self.fault(span, Fault::BodyPath(why));
                    return (Op::Constant(Value::Undefined), Type::Body);
                }
            },
            None if name.contains(['[', ']']) => {
                self.fault(span, Fault::IndexedName(name));
                return (Op::Constant(Value::Undefined), Type::Text);
            }
            None => {
                let plain = name.strip_prefix('$').unwrap_or(&name);
                (Reference::System(SystemName::named(plain), plain.into()), Type::Text)
            }
        };
        // No property can have brackets in its name, so such a path needs no look-up.
        let op = match escaped || name.contains(['[', ']']) {
            true => Op::Reference(reference),
            false => Op::Dollar(name.into(), reference),
        };
        (op, kind)
    }

    fn call(&mut self, name: &str, name_span: Span, arguments: Vec<Expr>) -> (Op, Type) {
        let arguments: Vec<Typed> = arguments.into_iter().map(|argument| self.expr(argument)).collect();
        let Some(function) = Function::named(name) else {
            self.fault(name_span, Fault::UnknownFunction(name.to_owned(), Function::nearest(name)));
            // The type of an unknown function is unknown; body values fit everywhere, so no second fault follows.
            return (Op::Constant(Value::Undefined), Type::Body);
        };
        let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
        match function.result(&kinds) {
            Some(kind) => (Op::Call(function, arguments), kind),
            None => {
                self.fault(name_span, Fault::Arguments(function, kinds));
                (Op::Constant(Value::Undefined), Type::Body)
            }
        }
    }

    fn twin_includes(&mut self, text: &str, span: Span, path_span: Span) -> (Op, Type) {
        if !self.twin_changes {
            self.fault(span, Fault::TwinFunction);
        }
        let known = TWIN_PREFIXES
            .iter()
            .any(|prefix| text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)));
        if !known {
            self.fault(path_span, Fault::TwinPath(TWIN_PREFIX_NEEDED));
        }
        match BodyPath::parse(text) {
            Ok(path) => (Op::TwinIncludes(path), Type::Bool),
            Err(why) => {
                self.fault(path_span, Fault::TwinPath(why));
                (Op::Constant(Value::Undefined), Type::Bool)
            }
        }
    }

    fn negate(&mut self, inner: Expr, span: Span) -> (Op, Type) {
        let inner = self.expr(inner);
        let kind = if inner.kind == Type::Body { Type::Body } else { Type::Number };
        if !matches!(inner.kind, Type::Number | Type::Body) {
            self.operands(span, "-", "a number", &[&inner]);
        }
        (Op::Negate(Box::new(inner)), kind)
    }

    fn not(&mut self, inner: Expr, span: Span) -> (Op, Type) {
        let inner = self.expr(inner);
        if !matches!(inner.kind, Type::Bool | Type::Null | Type::Body) {
            self.operands(span, "NOT", "true or false", &[&inner]);
        }
        (Op::Not(Box::new(inner)), Type::Bool)
    }

    fn members(&mut self, operator: &'static str, members: Vec<Expr>) -> Vec<Typed> {
        let members: Vec<Typed> = members.into_iter().map(|member| self.expr(member)).collect();
        for member in &members {
            if matches!(member.kind, Type::Number | Type::Text) {
                self.operands(member.span, operator, "true or false on both sides", &[member]);
            }
        }
        members
    }

    fn binary(&mut self, operator: Operator, span: Span, left: &Typed, right: &Typed) -> Type {
        let both =
            |wanted: Type| [left.kind, right.kind].iter().all(|kind| *kind == wanted || *kind == Type::Body);
        let body = left.kind == Type::Body || right.kind == Type::Body;
        let same = left.kind == right.kind
            || (body && left.kind != Type::Undefined && right.kind != Type::Undefined);
        let (fits, takes, kind) = match operator {
            Operator::Concat => (both(Type::Text), "strings", Type::Text),
            Operator::Multiply | Operator::Divide | Operator::Modulo | Operator::Add | Operator::Subtract => {
                (both(Type::Number), "numbers", if body { Type::Body } else { Type::Number })
            }
            Operator::Coalesce => (same, ONE_TYPE, if body { Type::Body } else { left.kind }),
            _ => (same, ONE_TYPE, Type::Bool),
        };
        if !fits {
            self.operands(span, operator.sign(), takes, &[left, right]);
        }
        kind
    }

    fn operands(&mut self, span: Span, operator: &'static str, takes: &'static str, given: &[&Typed]) {
        let hint = given.iter().find_map(|operand| match &operand.op {
            Op::Property(name) if name.contains(['+', '*', '%', '|', '!', '\'']) => Some(format!(
                "`{name}` was read as one name; put spaces around the operator if that is not meant"
            )),
            _ => None,
        });
        let text_and_number = given.iter().any(|operand| operand.kind == Type::Number)
            && given.iter().any(|operand| operand.kind == Type::Text);
        let hint = hint.or_else(|| text_and_number.then(|| CONVERT.to_owned()));
        let given = given.iter().map(|operand| operand.kind).collect();
        self.fault(span, Fault::Operands { operator, given, takes, hint });
    }
}

const BODY: &str = "$body.";
const ONE_TYPE: &str = "two values of one type";
const CONVERT: &str = "properties are strings: compare with '…', or write as_number(…)";
const TWIN_PREFIXES: [&str; 3] = ["properties.reported.", "properties.desired.", "tags."];
const TWIN_PREFIX_NEEDED: &str =
    "the path begins with properties.reported., properties.desired. or tags., and has no quotes";
