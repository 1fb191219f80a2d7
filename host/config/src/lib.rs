//! Text to raw to every fault at once to a checked configuration.
