//! The filters of a client, which outlive its connections and the process.
//!
//! On disk: a document in the space `hub/filters`, with the client's identity as its key. Its text is a line `1`, the
//! version of the format, and a line `{qos} {filter}` for each filter. It is written with each change, before the change
//! is acknowledged, and deleted when the last filter goes.

use bytes::Bytes;
use holdfast_broker::Broker;
use holdfast_mqtt::{QoS, hub::Feature};
use holdfast_types::Identity;
use std::fmt::Write;

/// The space of the documents.
pub(super) const SPACE: &str = "hub/filters";

const FORMAT: &str = "1";

/// Most filters that are kept for one client. SDKs have five at most; one more is granted and not kept over connections.
const FILTERS_MAX: usize = 32;

/// A filter that means something, with the quality of service that was granted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    filter: String,
    feature: Feature,
    qos: QoS,
}

/// The filters of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(Vec<Kept>);

impl Filters {
    /// Those that are on disk. What cannot be read is as if it were not there; the client subscribes again.
    pub(super) fn load(broker: &Broker, identity: &Identity) -> Self {
        match broker.documents().value(SPACE, &identity.to_string()) {
            Ok(Some(text)) => Self::read(&text, identity),
            Ok(None) => Self::default(),
            Err(error) => {
                tracing::warn!(%identity, %error, "the subscriptions of a device cannot be read; it has to subscribe again");
                Self::default()
            }
        }
    }

    fn read(text: &[u8], identity: &Identity) -> Self {
        let mut filters = Self::default();
        let Ok(text) = std::str::from_utf8(text) else { return filters };
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            return filters;
        }
        for (qos, filter) in lines.filter_map(|line| line.split_once(' ')) {
            let qos = if qos == "0" { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            filters.add(filter, qos, identity);
        }
        filters
    }

    /// As it is on disk; none if there is nothing to keep.
    pub(super) fn written(&self) -> Option<Bytes> {
        if self.0.is_empty() {
            return None;
        }
        let mut text = format!("{FORMAT}\n");
        for kept in &self.0 {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {}", kept.qos.level(), kept.filter);
        }
        Some(text.into())
    }

    /// Adds a filter, or replaces the same one. One that means nothing here is not kept.
    pub(super) fn add(&mut self, filter: &str, qos: QoS, identity: &Identity) {
        let Some(feature) = Feature::of(filter, &identity.device, identity.module.as_deref()) else { return };
        let full = self.0.len() >= FILTERS_MAX;
        match self.0.iter_mut().find(|kept| kept.filter == filter) {
            Some(kept) => kept.qos = qos,
            None if !full && !filter.contains('\n') => {
                self.0.push(Kept { filter: filter.to_owned(), feature, qos });
            }
            None => {}
        }
    }

    /// Removes a filter; says whether it was there.
    pub(super) fn remove(&mut self, filter: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|kept| kept.filter != filter);
        self.0.len() < before
    }

    /// The best quality of service that was granted for a feature; none if it is off.
    pub(super) fn granted(&self, feature: Feature) -> Option<QoS> {
        self.0.iter().filter(|kept| kept.feature == feature).map(|kept| kept.qos).max()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press() -> Identity {
        Identity::parse("press").unwrap()
    }

    #[test]
    fn filters_that_were_written_are_read_back() {
        let mut filters = Filters::default();
        assert_eq!(filters.written(), None);
        filters.add("$iothub/twin/res/#", QoS::AtLeastOnce, &press());
        filters.add("$iothub/methods/POST/#", QoS::AtMostOnce, &press());
        filters.add("$iothub/methods/POST/a b/#", QoS::AtLeastOnce, &press());
        filters.add("anything/else", QoS::AtLeastOnce, &press());
        let read = Filters::read(&filters.written().unwrap(), &press());
        assert_eq!(read, filters);
        assert_eq!(read.granted(Feature::Methods), Some(QoS::AtLeastOnce));
        assert_eq!(read.granted(Feature::CloudToDevice), None);
    }

    #[test]
    fn a_feature_is_on_as_long_as_a_filter_asks_for_it() {
        let mut filters = Filters::default();
        filters.add("$iothub/methods/POST/#", QoS::AtLeastOnce, &press());
        filters.add("$iothub/methods/POST/a/#", QoS::AtMostOnce, &press());
        assert!(filters.remove("$iothub/methods/POST/#"));
        assert_eq!(filters.granted(Feature::Methods), Some(QoS::AtMostOnce));
        assert!(filters.remove("$iothub/methods/POST/a/#"));
        assert!(!filters.remove("$iothub/methods/POST/a/#"));
        assert_eq!((filters.granted(Feature::Methods), filters.is_empty()), (None, true));
    }

    #[test]
    fn what_is_not_ours_on_disk_is_nothing() {
        for text in [&b"\xff"[..], b"", b"2\n1 $iothub/twin/res/#\n", b"1\nnonsense\n\n1 a/b\n"] {
            assert!(Filters::read(text, &press()).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn no_client_keeps_filters_without_bound() {
        let mut filters = Filters::default();
        for n in 0..100 {
            filters.add(&format!("$iothub/methods/POST/{n}/#"), QoS::AtMostOnce, &press());
        }
        assert_eq!(filters.0.len(), FILTERS_MAX);
    }
}
