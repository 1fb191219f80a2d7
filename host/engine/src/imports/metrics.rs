//! `holdfast:module/metrics`: measurements of the module's own.

use super::bindings::holdfast::module::metrics::{Host as Measuring, MetricError};
use crate::host::Host;
use crate::metrics::NotMeasured;

impl Host {
    /// A metric too many is counted and told.
    fn measured(&self, taken: Result<(), NotMeasured>) -> Result<(), MetricError> {
        taken.map_err(|refused| match refused {
            NotMeasured::Invalid(why) => MetricError::Invalid(why),
            NotMeasured::TooMany(most) => {
                self.log.refuse("limits.metrics", || {
                    format!(
                        "a metric was refused: {most} are allowed; raise limits.metrics in the module's .toml"
                    )
                });
                MetricError::TooMany(most)
            }
        })
    }
}

impl Measuring for Host {
    fn count(&mut self, name: String, by: u64) -> Result<(), MetricError> {
        self.measured(self.metrics.count(name, by, self.limits.metrics))
    }

    fn gauge(&mut self, name: String, value: f64) -> Result<(), MetricError> {
        self.measured(self.metrics.gauge(name, value, self.limits.metrics))
    }

    fn observe(&mut self, name: String, value: f64) -> Result<(), MetricError> {
        self.measured(self.metrics.observe(name, value, self.limits.metrics))
    }
}
