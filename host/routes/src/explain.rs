//! Why a route takes a message, or why not.
//!
//! The verdict is that of the evaluation itself; this file only looks for the parts that decided it: going down from the
//! condition, through `AND`, `OR` and `NOT`, into every member that did not answer what was wanted of it.

use crate::{
    condition::{
        Answer, Op, Reference, Type, Typed,
        body::{BodyFault, is_date},
        context::Context,
        eval,
        path::{At, BodyPath},
        system::SystemName,
        value::Value,
    },
    error::Span,
    source::SourcePattern,
};
use holdfast_types::{Sink, Text};
use std::fmt;

/// What every route says about one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The path of the message's source.
    pub source: String,
    /// Every route, in the order in which they were defined.
    pub routes: Vec<RouteExplanation>,
}

/// What one route says.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteExplanation {
    /// Its name.
    pub name: Text,
    /// Where it would send the message.
    pub sink: Sink,
    /// Whether it does.
    pub verdict: Verdict,
}

/// Whether a route takes a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does.
    Taken,
    /// It would, but for the same sink another route comes first; holds that route's name.
    Behind(Text),
    /// Its `FROM` does not match the source; holds the pattern, and whether any source could match it.
    SourceDiffers(SourcePattern, bool),
    /// Its condition is not true.
    NotTrue {
        /// What it is.
        answer: Answer,
        /// The parts that decided.
        findings: Vec<Finding>,
    },
}

/// One part of a condition that decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The part, as it is written.
    pub text: String,
    /// Where it stands in the text of the route.
    pub span: Span,
    /// What it answered.
    pub answer: Answer,
    /// What it saw: every property, system property and body path in it.
    pub seen: Vec<Seen>,
}

/// A reference and what was there.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The reference, as it is written.
    pub text: String,
    /// Its value, written as a condition would; `undefined` and `null` too.
    pub value: String,
    /// Why there is no value.
    pub why: Option<Why>,
}

/// Why a reference is undefined or null.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The message has no such application property.
    NoProperty(String),
    /// The message has no such system property, nor an application property of the name with its `$`.
    NoSystemProperty(String),
    /// No message has this system property while routes are asked.
    NeverHere(String),
    /// There is no system property of this name.
    UnknownSystemProperty(String),
    /// The body cannot be read.
    Body(BodyFault),
    /// The path breaks off; holds it up to and with the first step that is not there.
    PathMissing(String),
    /// The path leads to an object or an array.
    NotAScalar,
    /// The path leads to a string that is a date and time, which is no value in this language.
    Date,
}

pub(crate) fn condition(text: &str, condition: &Typed, answer: Answer, context: &Context<'_>) -> Verdict {
    let mut findings = Vec::new();
    Blame { text, context, findings: &mut findings }.member(condition, Answer::True);
    Verdict::NotTrue { answer, findings }
}

struct Blame<'b, 'm> {
    text: &'b str,
    context: &'b Context<'m>,
    findings: &'b mut Vec<Finding>,
}

impl Blame<'_, '_> {
    fn member(&mut self, part: &Typed, wanted: Answer) {
        let answer = eval::answer(part, self.context);
        if answer == wanted {
            return;
        }
        match &part.op {
            Op::All(members) | Op::Any(members) => {
                for member in members {
                    self.member(member, wanted);
                }
            }
            Op::Not(inner) if inner.kind != Type::Null => {
                let wanted = if wanted == Answer::True { Answer::False } else { Answer::True };
                self.member(inner, wanted);
            }
            _ => {
                let mut seen = Vec::new();
                self.references(part, &mut seen);
                let text = part.span.of(self.text).to_owned();
                self.findings.push(Finding { text, span: part.span, answer, seen });
            }
        }
    }

    fn references(&self, part: &Typed, seen: &mut Vec<Seen>) {
        let why = match &part.op {
            Op::Constant(_) => return,
            Op::Negate(inner) | Op::Not(inner) => return self.references(inner, seen),
            Op::Binary(_, left, right) => {
                self.references(left, seen);
                return self.references(right, seen);
            }
            Op::All(members) | Op::Any(members) | Op::Call(_, members) => {
                return members.iter().for_each(|member| self.references(member, seen));
            }
            Op::Property(name) => match self.context.property(name) {
                Some(_) => None,
                None => Some(Why::NoProperty(name.to_string())),
            },
            Op::Dollar(name, _) if self.context.property(name).is_some() => None,
            Op::Dollar(_, what) | Op::Reference(what) => self.reference(what),
            Op::TwinIncludes(path) => {
                self.body(path).filter(|why| !matches!(why, Why::NotAScalar | Why::Date))
            }
        };
        let text = part.span.of(self.text).to_owned();
        if seen.iter().any(|other| other.text == text) {
            return;
        }
        let value = shortened(&eval::eval(part, self.context));
        seen.push(Seen { text, value, why });
    }

    fn reference(&self, what: &Reference) -> Option<Why> {
        match what {
            Reference::Body(path) => self.body(path),
            Reference::System(name, text) => match name {
                _ if name.of(self.context).is_some() => None,
                SystemName::Unknown => Some(Why::UnknownSystemProperty(text.to_string())),
                SystemName::Later => Some(Why::NeverHere(text.to_string())),
                _ => Some(Why::NoSystemProperty(text.to_string())),
            },
        }
    }

    fn body(&self, path: &BodyPath) -> Option<Why> {
        let json = match self.context.body() {
            Ok(json) => json,
            Err(fault) => return Some(Why::Body(fault.clone())),
        };
        match path.at(json) {
            At::Missing(walked) => Some(Why::PathMissing(walked)),
            At::Found(found) if found.is_object() || found.is_array() => Some(Why::NotAScalar),
            At::Found(found) => found.as_str().filter(|text| is_date(text)).map(|_| Why::Date),
        }
    }
}

/// Most characters of a value that are shown: enough to recognise it, whatever a sender puts in.
const VALUE_CHARS_MAX: usize = 60;

fn shortened(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) if text.chars().nth(VALUE_CHARS_MAX).is_some() => {
            let start: String = text.chars().take(VALUE_CHARS_MAX).collect();
            format!("'{}…' ({} bytes)", start.escape_debug(), text.len())
        }
        _ => value.to_string(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "message from {}", self.source)?;
        if self.routes.is_empty() {
            writeln!(f, "  there are no routes")?;
        }
        for route in &self.routes {
            writeln!(f, "  {} -> {}: {}", route.name, route.sink, route.verdict)?;
            if let Verdict::NotTrue { findings, .. } = &route.verdict {
                for finding in findings {
                    writeln!(f, "    {finding}")?;
                }
            }
        }
        Ok(())
    }
}

/// Without the findings.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("taken"),
            Self::Behind(other) => {
                write!(f, "not taken: route {other} has the same sink and comes first, one copy is sent")
            }
            Self::SourceDiffers(pattern, true) => write!(f, "not taken: FROM {pattern} does not match"),
            Self::SourceDiffers(pattern, false) => {
                write!(f, "not taken: FROM {pattern} matches no source there can be")
            }
            Self::NotTrue { answer, .. } => write!(f, "not taken: the condition is {answer}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.text, self.answer)?;
        for (at, seen) in self.seen.iter().enumerate() {
            f.write_str(if at == 0 { ", where " } else { " and " })?;
            seen.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.text, self.value)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProperty(name) => write!(f, "the message has no property {name:?}"),
            Self::NoSystemProperty(name) => write!(f, "the message has no system property {name:?}"),
            Self::NeverHere(name) => write!(f, "no message has {name:?} while routes are asked"),
            Self::UnknownSystemProperty(name) => {
                write!(f, "there is no system property {name:?}, and the message has no property \"${name}\"")
            }
            Self::Body(fault) => fault.fmt(f),
            Self::PathMissing(walked) => write!(f, "the body has no {walked}"),
            Self::NotAScalar => f.write_str("it is an object or an array, which conditions cannot compare"),
            Self::Date => f.write_str("it is a date and time, which conditions cannot compare"),
        }
    }
}
