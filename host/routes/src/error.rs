//! What can be wrong with a route, said so that a stranger can mend it from the message alone.

use crate::condition::{Function, Type};
use holdfast_types::{InvalidFilter, InvalidName, InvalidTopic, Text};
use std::fmt;

/// A range of bytes in the text of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From the start of this one to the end of the other.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }

    /// The part of `text` that is meant.
    pub fn of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Where it begins, for people.
    pub fn place(&self, text: &str) -> Place {
        let before = text.get(..self.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// A place in a text for people: lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One fault of one route. [`fmt::Display`] shows the place, the line with a caret under what is meant, and the fix.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteError {
    /// The route.
    pub route: Text,
    /// Its text.
    pub text: Text,
    /// The part of the text that is at fault; nothing when the fault is not in the text.
    pub span: Option<Span>,
    /// What is wrong.
    pub fault: Fault,
}

impl RouteError {
    /// Where in the text the fault begins.
    pub fn place(&self) -> Option<Place> {
        self.span.map(|span| span.place(&self.text))
    }
}

impl std::error::Error for RouteError {}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {:?}", &*self.route)?;
        let Some(span) = self.span else { return write!(f, ": {}", self.fault) };
        let place = span.place(&self.text);
        writeln!(f, ", {place}: {}", self.fault)?;
        let line = self.text.split('\n').nth(place.line - 1).unwrap_or_default().trim_end_matches('\r');
        // A long line is shown around the fault only, so that the caret stays on the screen.
        let skipped = place.column.saturating_sub(EXCERPT_CHARS / 2).min(place.column - 1);
        let skipped = if line.chars().count() <= EXCERPT_CHARS { 0 } else { skipped };
        let shown: String = line
            .chars()
            .skip(skipped)
            .take(EXCERPT_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = place.column - 1 - skipped;
        let room = shown.chars().count().saturating_sub(before).max(1);
        let carets =
            span.of(&self.text).split('\n').next().unwrap_or_default().chars().count().clamp(1, room);
        writeln!(f, "  | {shown}")?;
        write!(f, "  | {}{}", " ".repeat(before), "^".repeat(carets))
    }
}

/// Most characters of a line that are shown with a fault: a terminal's width.
const EXCERPT_CHARS: usize = 100;

/// What is wrong with a route. The text says what, why and the fix.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The name holds a character that names cannot hold, or none at all.
    RouteName(Option<char>),
    /// An earlier route has the same name.
    DuplicateRoute,
    /// The text has more bytes than [`crate::ROUTE_BYTES_MAX`].
    TooLong(usize),
    /// Brackets, `NOT`s, minus signs and operators stand more than [`crate::DEPTH_MAX`] deep.
    TooDeep,
    /// There is no text.
    Empty,
    /// Something else was wanted here.
    Expected {
        /// What can stand here.
        wanted: &'static str,
        /// What stands here.
        found: String,
        /// What was probably meant.
        hint: Option<String>,
    },
    /// A string without its closing quote, or with an escape that does not exist.
    OpenText,
    /// Half of a character: a surrogate in `\u` without its other half.
    Surrogate,
    /// `==`.
    DoubleEqual,
    /// A closing bracket without its opening one.
    UnmatchedClose,
    /// A name with `[` or `]` outside `$body`.
    IndexedName(String),
    /// A hexadecimal number with more than 16 digits.
    HexTooLong,
    /// An item of a source path that is a keyword or a number.
    SourceItem(String),
    /// `$…` but not `$upstream`.
    SystemSink(String),
    /// A sink of a kind that does not exist.
    SinkKind(String),
    /// The address of a `BrokeredEndpoint` has not four parts; holds how many there are.
    AddressParts(usize),
    /// A module or input name in an address.
    AddressName(InvalidName),
    /// A topic that MQTT does not allow.
    Topic(InvalidTopic),
    /// A filter of topics that MQTT does not allow.
    Filter(InvalidFilter),
    /// A topic that begins with `$`, which belong to the broker.
    ReservedTopic,
    /// A path into the body that is not one.
    BodyPath(&'static str),
    /// A function that does not exist, and the nearest that does.
    UnknownFunction(String, Option<Function>),
    /// A function with the wrong number or types of arguments.
    Arguments(Function, Vec<Type>),
    /// An operator with operands that do not fit it.
    Operands {
        /// The operator.
        operator: &'static str,
        /// What it was given.
        given: Vec<Type>,
        /// What it takes.
        takes: &'static str,
        /// What was probably meant.
        hint: Option<String>,
    },
    /// `twin_change_includes` in a route that does not read `/twinChangeNotifications`.
    TwinFunction,
    /// The argument of `twin_change_includes` is not a path into a twin.
    TwinPath(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RouteName(Some(c)) => {
                write!(f, "the name of a route cannot hold {c:?}; take out every `.`, `$`, `#` and space")
            }
            Self::RouteName(None) => f.write_str("the name of the route is empty; give it at least one character"),
            Self::DuplicateRoute => f.write_str("an earlier route has the same name; rename one of them"),
            Self::TooLong(bytes) => {
                write!(f, "the text has {bytes} bytes; at most {} are allowed; split it", crate::ROUTE_BYTES_MAX)
            }
            Self::TooDeep => {
                write!(f, "operators or brackets stand more than {} deep; split the route", crate::DEPTH_MAX)
            }
            Self::Empty => f.write_str("the route is empty; write FROM <source> [WHERE <condition>] INTO <sink>"),
            Self::Expected { wanted, found, hint } => {
                write!(f, "expected {wanted}, found {found}")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Self::OpenText => f.write_str(
                "the string has no closing quote; add it (inside, only \\\" \\' \\\\ and \\uXXXX are escapes)",
            ),
            Self::Surrogate => f.write_str("a \\u escape is half of a character; write both halves of the pair"),
            Self::DoubleEqual => f.write_str("`==` is no operator; write `=`"),
            Self::UnmatchedClose => f.write_str("this `)` closes nothing; take it out, or add a `(` before"),
            Self::IndexedName(name) => {
                write!(f, "`{name}` is no property, since names cannot hold `[` and `]`; for the body write $body.<path>")
            }
            Self::HexTooLong => f.write_str("the number has more than 16 hexadecimal digits; write a smaller one"),
            Self::SourceItem(item) => {
                write!(f, "`{item}` cannot be part of a source, since it is a keyword or a number; rename the module or output, or write `*` from here on")
            }
            Self::SystemSink(name) => write!(f, "`{name}` is no sink; the only one that begins with `$` is $upstream"),
            Self::SinkKind(name) => write!(
                f,
                "`{name}` is no sink; write $upstream, BrokeredEndpoint(\"/modules/<module>/inputs/<input>\") or Topic(\"<topic>\")"
            ),
            Self::AddressParts(parts) => {
                write!(f, "the address has {parts} parts, not 4; write \"/modules/<module>/inputs/<input>\"")
            }
            Self::AddressName(invalid) => write!(f, "the address of the sink: {invalid}"),
            Self::Topic(invalid) => invalid.fmt(f),
            Self::Filter(invalid) => invalid.fmt(f),
            Self::ReservedTopic => f.write_str("topics that begin with `$` belong to the broker; choose another"),
            Self::BodyPath(why) => write!(f, "$body path: {why}"),
            Self::UnknownFunction(name, near) => {
                write!(f, "there is no function `{name}`")?;
                near.map_or(Ok(()), |near| write!(f, "; did you mean {}?", near.name()))
            }
            Self::Arguments(function, given) => write!(
                f,
                "{}({}): these arguments do not fit; it is {}",
                function.name(),
                list(given, ", "),
                function.usage()
            ),
            Self::Operands { operator, given, takes, hint } => {
                write!(f, "`{operator}` takes {takes}, here it has {}", list(given, " and "))?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Self::TwinFunction => {
                f.write_str("twin_change_includes works only in a route FROM /twinChangeNotifications; change the source")
            }
            Self::TwinPath(why) => write!(f, "twin_change_includes: {why}"),
        }
    }
}

fn list(types: &[Type], between: &str) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}
