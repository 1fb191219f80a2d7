//! The functions: what they take, what they give, what they do.
//!
//! Strings are counted in UTF-16 code units, as in IoT Edge. A function whose argument is undefined, or of the wrong type
//! because it came from the body, is undefined, but for the `is_…` ones.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `is_null($body.x)` | true for every value but a missing one | true for null and for a missing value |
//! | `upper('ß')` | `ß`: letters with a longer upper case stay | the same |
//! | `substring` through a surrogate pair | half a character | U+FFFD |

use super::{Type, value::Value};
use std::borrow::Cow;

/// A function of the condition language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `abs(number)`.
    Abs,
    /// `exp(number)`.
    Exp,
    /// `power(base, exponent)`.
    Power,
    /// `square(number)`.
    Square,
    /// `ceiling(number)`.
    Ceiling,
    /// `floor(number)`.
    Floor,
    /// `sign(number)`.
    Sign,
    /// `sqrt(number)`.
    Sqrt,
    /// `as_number(string or number)`.
    AsNumber,
    /// `is_bool(value)`.
    IsBool,
    /// `is_defined(value)`.
    IsDefined,
    /// `is_null(value)`.
    IsNull,
    /// `is_number(value)`.
    IsNumber,
    /// `is_string(value)`.
    IsString,
    /// `concat(string, string, …)`.
    Concat,
    /// `length(string)`.
    Length,
    /// `lower(string)`.
    Lower,
    /// `upper(string)`.
    Upper,
    /// `substring(string, start[, length])`.
    Substring,
    /// `index_of(string, part)`.
    IndexOf,
    /// `starts_with(string, part)`.
    StartsWith,
    /// `ends_with(string, part)`.
    EndsWith,
    /// `contains(string, part)`.
    Contains,
}

impl Function {
    /// Every function but `twin_change_includes`, which takes a path and no value.
    pub const ALL: [Self; 23] = [
        Self::Abs,
        Self::Exp,
        Self::Power,
        Self::Square,
        Self::Ceiling,
        Self::Floor,
        Self::Sign,
        Self::Sqrt,
        Self::AsNumber,
        Self::IsBool,
        Self::IsDefined,
        Self::IsNull,
        Self::IsNumber,
        Self::IsString,
        Self::Concat,
        Self::Length,
        Self::Lower,
        Self::Upper,
        Self::Substring,
        Self::IndexOf,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
    ];

    /// The function with this name, whatever its case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.usage().split('(').next().unwrap_or_default()
    }

    /// How it is called.
    pub const fn usage(self) -> &'static str {
        match self {
            Self::Abs => "abs(number)",
            Self::Exp => "exp(number)",
            Self::Power => "power(number, number)",
            Self::Square => "square(number)",
            Self::Ceiling => "ceiling(number)",
            Self::Floor => "floor(number)",
            Self::Sign => "sign(number)",
            Self::Sqrt => "sqrt(number)",
            Self::AsNumber => "as_number(string or number)",
            Self::IsBool => "is_bool(value)",
            Self::IsDefined => "is_defined(value)",
            Self::IsNull => "is_null(value)",
            Self::IsNumber => "is_number(value)",
            Self::IsString => "is_string(value)",
            Self::Concat => "concat(string, string, …)",
            Self::Length => "length(string)",
            Self::Lower => "lower(string)",
            Self::Upper => "upper(string)",
            Self::Substring => "substring(string, start[, length])",
            Self::IndexOf => "index_of(string, string)",
            Self::StartsWith => "starts_with(string, string)",
            Self::EndsWith => "ends_with(string, string)",
            Self::Contains => "contains(string, string)",
        }
    }

    /// The type of the result, when the arguments fit.
    pub(crate) fn result(self, given: &[Type]) -> Option<Type> {
        let fits = |wanted: Type, given: &Type| *given == wanted || *given == Type::Body;
        let all = |wanted: &[Type]| {
            wanted.len() == given.len()
                && wanted.iter().zip(given).all(|(wanted, given)| fits(*wanted, given))
        };
        let number = [Type::Number];
        let texts = [Type::Text, Type::Text];
        let (ok, result) = match self {
            Self::Abs | Self::Exp | Self::Square | Self::Ceiling | Self::Floor | Self::Sign | Self::Sqrt => {
                (all(&number), Type::Number)
            }
            Self::Power => (all(&[Type::Number, Type::Number]), Type::Number),
            Self::AsNumber => (all(&number) || all(&[Type::Text]), Type::Number),
            Self::IsBool | Self::IsDefined | Self::IsNull | Self::IsNumber | Self::IsString => {
                (given.len() == 1, Type::Bool)
            }
            Self::Concat => (given.len() >= 2 && given.iter().all(|g| fits(Type::Text, g)), Type::Text),
            Self::Length => (all(&[Type::Text]), Type::Number),
            Self::Lower | Self::Upper => (all(&[Type::Text]), Type::Text),
            Self::Substring => (
                all(&[Type::Text, Type::Number]) || all(&[Type::Text, Type::Number, Type::Number]),
                Type::Text,
            ),
            Self::IndexOf => (all(&texts), Type::Number),
            Self::StartsWith | Self::EndsWith | Self::Contains => (all(&texts), Type::Bool),
        };
        ok.then_some(result)
    }

    /// The function with the most similar name, for faults.
    pub(crate) fn nearest(name: &str) -> Option<Self> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
        let wanted = plain(name);
        const OTHERS: [(&str, Function); 12] = [
            ("len", Function::Length),
            ("tolower", Function::Lower),
            ("toupper", Function::Upper),
            ("lcase", Function::Lower),
            ("ucase", Function::Upper),
            ("substr", Function::Substring),
            ("pow", Function::Power),
            ("ceil", Function::Ceiling),
            ("tonumber", Function::AsNumber),
            ("isboolean", Function::IsBool),
            ("indexof", Function::IndexOf),
            ("exists", Function::IsDefined),
        ];
        OTHERS
            .iter()
            .find(|(other, _)| *other == wanted)
            .map(|(_, function)| *function)
            .or_else(|| Self::ALL.into_iter().find(|function| plain(function.name()) == wanted))
    }
}

/// The value of a function. `kinds` are the types that the check gave the arguments.
pub(crate) fn call<'a>(function: Function, kinds: &[Type], values: &[Value<'a>]) -> Value<'a> {
    apply(function, kinds, values).unwrap_or(Value::Undefined)
}

fn apply<'a>(function: Function, kinds: &[Type], values: &[Value<'a>]) -> Option<Value<'a>> {
    let first = values.first()?;
    let number = |at: usize| values.get(at).and_then(Value::as_number);
    let text = |at: usize| values.get(at).and_then(Value::as_text);
    let numeric = |f: fn(f64) -> f64| number(0).map(|x| Value::number(f(x)));
    let part = |f: fn(&str, &str) -> bool| Some(Value::Bool(f(text(0)?, text(1)?)));
    match function {
        Function::Abs => numeric(f64::abs),
        Function::Exp => numeric(f64::exp),
        Function::Power => Some(Value::number(number(0)?.powf(number(1)?))),
        Function::Square => numeric(|x| x * x),
        Function::Ceiling => numeric(f64::ceil),
        Function::Floor => numeric(f64::floor),
        Function::Sign => numeric(|x| if x == 0.0 { 0.0 } else { x.signum() }),
        Function::Sqrt => numeric(f64::sqrt),
        Function::AsNumber => match first {
            Value::Number(number) => Some(Value::Number(*number)),
            _ => crate::number::parse(text(0)?).map(Value::number),
        },
        Function::IsBool
        | Function::IsDefined
        | Function::IsNull
        | Function::IsNumber
        | Function::IsString => Some(type_test(function, *kinds.first()?, first)),
        Function::Concat => {
            let mut joined = String::new();
            for value in values {
                joined.push_str(value.as_text()?);
            }
            Some(Value::Text(Cow::Owned(joined)))
        }
        Function::Length => Some(Value::Number(text(0)?.encode_utf16().count() as f64)),
        Function::Lower => Some(Value::Text(mapped(text(0)?, |c| single(c, c.to_lowercase())))),
        Function::Upper => Some(Value::Text(mapped(text(0)?, |c| single(c, c.to_uppercase())))),
        Function::Substring => substring(text(0)?, number(1)?, values.get(2).map(Value::as_number)),
        Function::IndexOf => {
            let found = text(0)?.find(text(1)?).and_then(|at| text(0)?.get(..at));
            Some(Value::Number(found.map_or(-1.0, |before| before.encode_utf16().count() as f64)))
        }
        Function::StartsWith => part(|text, part| text.starts_with(part)),
        Function::EndsWith => part(|text, part| text.ends_with(part)),
        Function::Contains => part(|text, part| text.contains(part)),
    }
}

/// The `is_…` functions. Where the type is known beforehand the answer is, too; where it is not, an undefined value is
/// asked about only by `is_defined`, `is_number` and `is_string`.
fn type_test<'a>(function: Function, kind: Type, value: &Value<'_>) -> Value<'a> {
    let undefined = *value == Value::Undefined;
    match function {
        Function::IsDefined => Value::Bool(!undefined || kind == Type::Null),
        Function::IsNumber => Value::Bool(value.as_number().is_some_and(f64::is_finite)),
        Function::IsString => Value::Bool(value.as_text().is_some()),
        Function::IsBool => match kind {
            Type::Bool | Type::Body if undefined => Value::Undefined,
            Type::Bool | Type::Body => Value::Bool(matches!(value, Value::Bool(_))),
            _ => Value::Bool(false),
        },
        _ => match kind {
            Type::Null => Value::Bool(true),
            Type::Body if undefined => Value::Undefined,
            Type::Body => Value::Bool(*value == Value::Null),
            _ => Value::Bool(false),
        },
    }
}

fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn mapped<'a>(text: &str, map: fn(char) -> char) -> Cow<'a, str> {
    Cow::Owned(text.chars().map(map).collect())
}

/// Start and length are cut to whole numbers after they were checked; without a length the start may be the end.
fn substring<'a>(text: &str, start: f64, length: Option<Option<f64>>) -> Option<Value<'a>> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let total = units.len() as f64;
    let range = match length {
        None if (0.0..=total).contains(&start) => units.get(start as usize..)?,
        Some(Some(length)) if (0.0..total).contains(&start) && (0.0..=total - start).contains(&length) => {
            units.get(start as usize..start as usize + length as usize)?
        }
        _ => return None,
    };
    Some(Value::Text(Cow::Owned(String::from_utf16_lossy(range))))
}
