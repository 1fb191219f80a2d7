//! Conditions: what stands behind `WHERE`.
//!
//! [`ast`] is a condition as it is written; [`check`] gives every part of it a type, or says what does not fit; [`eval`]
//! asks a message. The three meet in [`Typed`].

pub(crate) mod ast;
pub(crate) mod body;
mod check;
pub(crate) mod context;
pub(crate) mod eval;
mod functions;
pub(crate) mod path;
pub(crate) mod system;
pub(crate) mod value;

pub(crate) use check::check;
pub use functions::Function;

use crate::error::Span;
use ast::Operator;
use path::BodyPath;
use std::fmt;
use system::SystemName;
use value::Value;

/// What is known of a value before any message is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false, or undefined.
    Bool,
    /// A number, or undefined.
    Number,
    /// A string, or undefined.
    Text,
    /// The literal `null`, or logic that can only give it.
    Null,
    /// The literal `undefined`.
    Undefined,
    /// From the body: its type is known only when the message is there.
    Body,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true/false",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Null => "null",
            Self::Undefined => "undefined",
            Self::Body => "a body value",
        })
    }
}

/// What a condition says about a message. A route takes it on [`Answer::True`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Yes.
    True,
    /// No.
    False,
    /// Only `null` was there to decide.
    Null,
    /// Something that was needed is not there, or has the wrong type.
    Undefined,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "true",
            Self::False => "false",
            Self::Null => "null",
            Self::Undefined => "undefined",
        })
    }
}

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) op: Op,
    pub(crate) kind: Type,
    pub(crate) span: Span,
}

/// What a checked expression does.
#[derive(Debug)]
pub(crate) enum Op {
    Constant(Value<'static>),
    /// An application property.
    Property(Box<str>),
    /// The application property of this name (with its `$`) when there is one, else the other.
    Dollar(Box<str>, Reference),
    /// `{$name}`: never an application property.
    Reference(Reference),
    Negate(Box<Typed>),
    Not(Box<Typed>),
    Binary(Operator, Box<Typed>, Box<Typed>),
    All(Vec<Typed>),
    Any(Vec<Typed>),
    Call(Function, Vec<Typed>),
    TwinIncludes(BodyPath),
}

/// What a `$name` means beside an application property.
#[derive(Debug)]
pub(crate) enum Reference {
    Body(BodyPath),
    System(SystemName, Box<str>),
}
