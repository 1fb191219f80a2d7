//! Measurements of the module's own, shown by `holdfast list --json` and `holdfast metrics`. They count on over restarts and new
//! versions, from the start of the host, and are taken at once: a call that fails has been measured all the same.
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, Outgoing, json, metrics};
//! use holdfast_sdk::testing::{Harness, Measured};
//!
//! struct Press;
//! impl Module for Press {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, message: Message) -> Result<(), Failure> {
//!         let bar = json::number(&message.json()?, "bar")?;
//!         metrics::count("strokes_total", 1)?;
//!         metrics::gauge("pressure_bar", bar)?;
//!         metrics::observe("stroke_bar", bar)?;
//!         Ok(())
//!     }
//! }
//!
//! let mut module = Harness::new().start::<Press>().unwrap();
//! for bar in [3, 5] {
//!     module.handle("strokes", Outgoing::text(format!("{{\"bar\":{bar}}}"))).unwrap();
//! }
//! assert_eq!(module.metric("strokes_total"), Some(&Measured::Counter(2)));
//! assert_eq!(module.metric("stroke_bar"), Some(&Measured::Observed(vec![3.0, 5.0])));
//! ```

use crate::{Failure, imports};
use std::fmt;

/// Why a measurement was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// The name or the value breaks a rule, or the name belongs to a metric of another kind; says which.
    Invalid(String),
    /// More metrics than the limit, which is given.
    TooMany(u32),
}

/// Adds to a counter, which only rises. The name has letters, digits and `_`, such as `parts_total`.
pub fn count(name: &str, by: u64) -> Result<(), MetricError> {
    imports::metric_count(name, by)
}

/// Sets a gauge, which rises and falls.
pub fn gauge(name: &str, value: f64) -> Result<(), MetricError> {
    imports::metric_gauge(name, value)
}

/// Adds an observation to a histogram, whose buckets reach from 0.001 to 10,000.
pub fn observe(name: &str, value: f64) -> Result<(), MetricError> {
    imports::metric_observe(name, value)
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
            Self::TooMany(max) => {
                write!(f, "more than {max} metrics; raise limits.metrics in the module's .toml")
            }
        }
    }
}

impl std::error::Error for MetricError {}

/// It would be refused again, so the message in hand is given up.
impl From<MetricError> for Failure {
    fn from(error: MetricError) -> Self {
        Self::reject(error)
    }
}
