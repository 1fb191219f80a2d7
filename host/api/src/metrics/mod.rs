//! Metrics: what they are, and how they are written for Prometheus.
//!
//! The text form is that of Prometheus, version 0.0.4: families with a help line and a type, then samples with labels.
//! What is counted is the business of the host; here it gets its form, over the control socket and over HTTP.

mod http;

pub use http::{MetricsServer, MetricsSource};

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Whether a value only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// It only rises while the host runs, and begins at 0 with it.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// Samples of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricFamily {
    /// The name: letters, digits and underscores, with its unit at the end.
    pub name: String,
    /// One sentence for people.
    pub help: String,
    /// Whether the values only rise.
    pub kind: MetricKind,
    /// The values.
    pub samples: Vec<MetricSample>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// Names and values of what tells it from its siblings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

impl MetricFamily {
    /// A family without samples.
    pub fn new(name: &str, kind: MetricKind, help: &str) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), kind, samples: Vec::new() }
    }

    /// Adds a sample. Counts above 2^53 lose their last digits, as in Prometheus itself.
    pub fn push(&mut self, labels: &[(&str, &str)], value: u64) {
        self.push_value(labels, value as f64);
    }

    /// Adds a sample of any value.
    pub fn push_value(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.push(MetricSample { labels, value });
    }

    /// A family of one sample without labels.
    #[must_use]
    pub fn of(name: &str, kind: MetricKind, help: &str, value: u64) -> Self {
        let mut family = Self::new(name, kind, help);
        family.push(&[], value);
        family
    }
}

/// The text form of Prometheus. Families without samples are left out.
pub fn metrics_text(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(out, "# HELP {} {}", family.name, escaped(&family.help, false));
        let _ = writeln!(out, "# TYPE {} {kind}", family.name);
        for sample in &family.samples {
            out.push_str(&family.name);
            for (index, (name, value)) in sample.labels.iter().enumerate() {
                let before = if index == 0 { '{' } else { ',' };
                let _ = write!(out, "{before}{name}=\"{}\"", escaped(value, true));
            }
            out.push_str(if sample.labels.is_empty() { " " } else { "} " });
            let _ = writeln!(out, "{}", sample.value);
        }
    }
    out
}

/// Backslash and line end are escaped everywhere, quotation marks in values of labels.
fn escaped(text: &str, label: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if label => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut queues = MetricFamily::new("q_messages", MetricKind::Gauge, "Messages that \"wait\".\nNow.");
        queues.push(&[("log", "module/a\"b\\"), ("priority", "0")], 7);
        queues.push(&[], 9_007_199_254_740_993);
        let empty = MetricFamily::new("nothing", MetricKind::Counter, "Never seen.");
        let text = metrics_text(&[queues, empty, MetricFamily::of("n_total", MetricKind::Counter, "N.", 0)]);
        let expected = "# HELP q_messages Messages that \"wait\".\\nNow.\n# TYPE q_messages gauge\n\
            q_messages{log=\"module/a\\\"b\\\\\",priority=\"0\"} 7\nq_messages 9007199254740992\n\
            # HELP n_total N.\n# TYPE n_total counter\nn_total 0\n";
        assert_eq!(text, expected);
    }
}
