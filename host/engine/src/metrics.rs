//! What a module measures of itself: counters, gauges and histograms, bounded in number.
//!
//! They belong to the module and not to an instance: they count on over restarts and new versions, from the start of the
//! host. A measurement is taken at once; a call that fails has been measured all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most characters of a metric's name.
const NAME_BYTES_MAX: usize = 64;

/// The upper bounds of a histogram's buckets, whatever the unit: three to each power of ten.
pub const BUCKETS: [f64; 22] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
];

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// It only rises.
    Counter(u64),
    /// It rises and falls.
    Gauge(f64),
    /// How observations are spread.
    Histogram(Histogram),
}

/// Observations, counted by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many there were.
    pub count: u64,
    /// All of them added.
    pub sum: f64,
    /// For each of [`BUCKETS`], how many were at most so large.
    pub at_most: [u64; BUCKETS.len()],
}

/// Why a measurement was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotMeasured {
    /// The name or the value breaks a rule.
    Invalid(String),
    /// There are as many metrics as there may be.
    TooMany(u32),
}

/// The metrics of one module. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Mutex<BTreeMap<String, Measured>>>);

impl Metrics {
    pub(crate) fn count(&self, name: String, by: u64, most: u32) -> Result<(), NotMeasured> {
        self.change(name, most, Measured::Counter(0), |metric| match metric {
            Measured::Counter(value) => {
                *value = value.saturating_add(by);
                true
            }
            Measured::Gauge(_) | Measured::Histogram(_) => false,
        })
    }

    pub(crate) fn gauge(&self, name: String, new: f64, most: u32) -> Result<(), NotMeasured> {
        check_value(new)?;
        self.change(name, most, Measured::Gauge(0.0), |metric| match metric {
            Measured::Gauge(value) => {
                *value = new;
                true
            }
            Measured::Counter(_) | Measured::Histogram(_) => false,
        })
    }

    pub(crate) fn observe(&self, name: String, value: f64, most: u32) -> Result<(), NotMeasured> {
        check_value(value)?;
        self.change(name, most, Measured::Histogram(Histogram::default()), |metric| match metric {
            Measured::Histogram(histogram) => {
                histogram.count += 1;
                histogram.sum += value;
                for (bound, count) in BUCKETS.iter().zip(&mut histogram.at_most) {
                    *count += u64::from(value <= *bound);
                }
                true
            }
            Measured::Counter(_) | Measured::Gauge(_) => false,
        })
    }

    /// Changes a metric, which begins as `fresh`. `act` says whether it is of the right kind.
    fn change(
        &self,
        name: String,
        most: u32,
        fresh: Measured,
        act: impl FnOnce(&mut Measured) -> bool,
    ) -> Result<(), NotMeasured> {
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.get_mut(&name) {
            let other =
                || NotMeasured::Invalid(format!("{name:?} is a metric of another kind; take another name"));
            return if act(metric) { Ok(()) } else { Err(other()) };
        }
        check_name(&name)?;
        if metrics.len() >= most as usize {
            return Err(NotMeasured::TooMany(most));
        }
        let mut metric = fresh;
        act(&mut metric);
        metrics.insert(name, metric);
        Ok(())
    }

    /// All of them at this moment.
    pub(crate) fn all(&self) -> BTreeMap<String, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is no number could not be shown as JSON.
fn check_value(value: f64) -> Result<(), NotMeasured> {
    if value.is_finite() { Ok(()) } else { Err(NotMeasured::Invalid(format!("{value} is no number"))) }
}

fn check_name(name: &str) -> Result<(), NotMeasured> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit());
    if is_name && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(NotMeasured::Invalid(format!(
        "{name:?} is no name of a metric: letters, digits and _ are allowed, at most {NAME_BYTES_MAX}, the first no digit"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_keeps_to_itself_and_the_number_is_bounded() {
        let metrics = Metrics::default();
        metrics.count("parts_total".to_owned(), 2, 3).unwrap();
        metrics.count("parts_total".to_owned(), u64::MAX, 3).unwrap();
        metrics.gauge("level".to_owned(), 0.5, 3).unwrap();
        metrics.gauge("level".to_owned(), -1.5, 3).unwrap();
        for value in [0.001, 0.3, 10_000.5] {
            metrics.observe("seconds".to_owned(), value, 3).unwrap();
        }
        assert_eq!(metrics.count("more".to_owned(), 1, 3), Err(NotMeasured::TooMany(3)));
        let all = metrics.all();
        assert_eq!(all["parts_total"], Measured::Counter(u64::MAX));
        assert_eq!(all["level"], Measured::Gauge(-1.5));
        let Measured::Histogram(histogram) = &all["seconds"] else { panic!("{all:?}") };
        assert_eq!((histogram.count, histogram.sum), (3, 10_000.801));
        assert_eq!((histogram.at_most[0], histogram.at_most[8], histogram.at_most[21]), (1, 2, 2));
        let text = |refused: Result<(), NotMeasured>| format!("{:?}", refused.unwrap_err());
        assert!(text(metrics.gauge("seconds".to_owned(), 1.0, 3)).contains("another kind"));
        assert!(text(metrics.observe("seconds".to_owned(), f64::NAN, 3)).contains("no number"));
        for name in ["", "9lives", "käse", "a b", &"x".repeat(65)] {
            assert!(text(metrics.count(name.to_owned(), 1, 9)).contains("is no name"), "{name}");
        }
    }
}
