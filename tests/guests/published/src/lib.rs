//! Nothing: the examples of the dependencies are what counts.
