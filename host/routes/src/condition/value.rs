//! Values at run time, how they compare, and three-valued logic with null.

use super::{Answer, Type, ast::Operator};
use std::{borrow::Cow, cmp::Ordering, fmt};

/// A value. There is no NaN: a number that is none is undefined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    pub(crate) fn number(number: f64) -> Self {
        if number.is_nan() { Self::Undefined } else { Self::Number(number) }
    }

    /// Lends the text of a constant instead of copying it.
    pub(crate) fn borrowed(&'a self) -> Self {
        match self {
            Self::Undefined => Self::Undefined,
            Self::Null => Self::Null,
            Self::Bool(value) => Self::Bool(*value),
            Self::Number(number) => Self::Number(*number),
            Self::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }

    pub(crate) fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// As an operand of `AND`, `OR`, `NOT` or as the whole condition. A body value must be true or false; also a missing
    /// one, which elsewhere is null, decides nothing.
    pub(crate) fn logic(&self, kind: Type) -> Answer {
        match self {
            Self::Bool(true) => Answer::True,
            Self::Bool(false) => Answer::False,
            Self::Null if kind != Type::Body => Answer::Null,
            _ => Answer::Undefined,
        }
    }
}

impl From<Answer> for Value<'_> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::True => Self::Bool(true),
            Answer::False => Self::Bool(false),
            Answer::Null => Self::Null,
            Answer::Undefined => Self::Undefined,
        }
    }
}

/// As a condition would write it.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined => f.write_str("undefined"),
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "'{}'", text.escape_debug()),
        }
    }
}

/// `NOT`. `NOT null` is true, as in IoT Edge.
pub(crate) fn not(answer: Answer) -> Answer {
    match answer {
        Answer::True => Answer::False,
        Answer::False | Answer::Null => Answer::True,
        Answer::Undefined => Answer::Undefined,
    }
}

/// `AND`: Kleene's with undefined; null with anything but undefined is null.
pub(crate) fn and(left: Answer, right: Answer) -> Answer {
    use Answer::{False, Null, True, Undefined};
    match (left, right) {
        (Null, Undefined) | (Undefined, Null) => Undefined,
        (Null, _) | (_, Null) => Null,
        (False, _) | (_, False) => False,
        (Undefined, _) | (_, Undefined) => Undefined,
        (True, True) => True,
    }
}

/// `OR`: Kleene's with undefined; null leaves the other side as it is.
pub(crate) fn or(left: Answer, right: Answer) -> Answer {
    use Answer::{False, Null, True, Undefined};
    match (left, right) {
        (Null, other) | (other, Null) => other,
        (True, _) | (_, True) => True,
        (Undefined, _) | (_, Undefined) => Undefined,
        (False, False) => False,
    }
}

/// A comparison. Undefined on any side is undefined. Values of different types, which only a body can bring in, are
/// unequal, and neither is less.
pub(crate) fn compare(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Answer {
    let order = match (left, right) {
        (Value::Undefined, _) | (_, Value::Undefined) => return Answer::Undefined,
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(match operator {
            Operator::Equal | Operator::NotEqual if left != right => Ordering::Less,
            _ => ordinal(left, right),
        }),
        _ => None,
    };
    let holds = match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::NotEqual => order != Some(Ordering::Equal),
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => return Answer::Undefined,
    };
    if holds { Answer::True } else { Answer::False }
}

/// The order of UTF-16 code units, which differs from that of bytes above U+FFFF.
fn ordinal(left: &str, right: &str) -> Ordering {
    if left == right { Ordering::Equal } else { left.encode_utf16().cmp(right.encode_utf16()) }
}
