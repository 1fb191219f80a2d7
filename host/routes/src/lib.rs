//! The route language: parse, compile, match, explain.

mod condition;
mod error;
mod explain;
mod lexer;
mod number;
mod parser;
mod source;
mod table;

pub use condition::{Answer, Function, Type, body::BodyFault};
pub use error::{Fault, Place, RouteError, Span};
pub use explain::{Explanation, Finding, RouteExplanation, Seen, Verdict, Why};
pub use source::SourcePattern;
pub use table::{Match, Origin, Route, RouteDefinition, RouteTable};

/// Most bytes in the text of one route: 32 KiB, the size of a whole desired twin at IoT Hub, so no manifest has more.
pub const ROUTE_BYTES_MAX: usize = 32 * 1024;

/// How deep operators and brackets may stand in each other. It bounds the stack that parsing and asking need; members
/// of one list of `AND` or `OR` stand beside each other, however many they are.
pub const DEPTH_MAX: usize = 100;
