//! What modules measure of themselves, as it is shown: in `list`, and as families for Prometheus.

use holdfast_api::{
    MetricFamily,
    MetricKind::{Counter, Gauge},
    OwnMetric,
};
use holdfast_engine::{BUCKETS, Measured, ModuleStatus};
use std::collections::BTreeMap;

/// For `list`.
pub fn shown(module: &ModuleStatus) -> BTreeMap<String, OwnMetric> {
    let shown = |measured: &Measured| match measured {
        Measured::Counter(value) => OwnMetric::Counter(*value),
        Measured::Gauge(value) => OwnMetric::Gauge(*value),
        Measured::Histogram(histogram) => OwnMetric::Histogram {
            count: histogram.count,
            sum: histogram.sum,
            at_most: BUCKETS.into_iter().zip(histogram.at_most).collect(),
        },
    };
    module.metrics.iter().map(|(name, measured)| (name.clone(), shown(measured))).collect()
}

/// For Prometheus: names are the modules' own, so they are labels and not names of families.
pub fn families(modules: &[ModuleStatus]) -> Vec<MetricFamily> {
    let mut counters =
        MetricFamily::new("holdfast_module_own_total", Counter, "Counters of modules, by their own names.");
    let mut gauges =
        MetricFamily::new("holdfast_module_own", Gauge, "Gauges of modules, by their own names.");
    let mut buckets = MetricFamily::new(
        "holdfast_module_own_observed_bucket",
        Counter,
        "Histograms of modules: observations of at most le.",
    );
    let mut counts =
        MetricFamily::new("holdfast_module_own_observed_count", Counter, "All of these observations.");
    let mut sums = MetricFamily::new("holdfast_module_own_observed_sum", Gauge, "These observations added.");
    for module in modules {
        for (name, measured) in &module.metrics {
            let labels = [("module", module.name.as_str()), ("metric", name.as_str())];
            match measured {
                Measured::Counter(value) => counters.push(&labels, *value),
                Measured::Gauge(value) => gauges.push_value(&labels, *value),
                Measured::Histogram(histogram) => {
                    let [module, metric] = labels;
                    for (bound, count) in BUCKETS.iter().zip(histogram.at_most) {
                        buckets.push(&[module, metric, ("le", &bound.to_string())], count);
                    }
                    buckets.push(&[module, metric, ("le", "+Inf")], histogram.count);
                    counts.push(&labels, histogram.count);
                    sums.push_value(&labels, histogram.sum);
                }
            }
        }
    }
    vec![counters, gauges, buckets, counts, sums]
}
