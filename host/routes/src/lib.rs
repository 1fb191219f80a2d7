//! The route language: parse, compile, match, explain.
