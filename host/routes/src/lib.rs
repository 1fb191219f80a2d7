//! The route language: parse, compile, match, explain.

mod error;
mod explain;
mod table;

pub use error::{Place, RouteError, Span};
pub use explain::Explanation;
pub use table::{Match, Origin, Route, RouteDefinition, RouteTable};
