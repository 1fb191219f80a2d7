//! What a hub counts, under its names; what it has in common with an edge has the names of the edge.

use super::metrics::{gateway_metrics, one, store_metrics};
use holdfast_api::{
    MetricFamily,
    MetricKind::{Counter, Gauge},
    MetricsSource,
};
use holdfast_gateway::Stats;
use holdfast_hub::Hub;
use holdfast_jetstream::JetStream;
use holdfast_store::Store;
use std::{sync::Arc, time::Instant};

/// A running hub, for whoever reads its metrics.
pub struct HubMetrics {
    pub hub: Arc<Hub>,
    pub store: Store,
    pub quota_bytes: u64,
    pub clients: Option<Arc<Stats>>,
    pub shared: Option<Arc<JetStream>>,
    pub started: Instant,
}

impl MetricsSource for HubMetrics {
    fn metrics(&self) -> Vec<MetricFamily> {
        let counted = self.hub.counts();
        let mut build =
            MetricFamily::new("holdfast_hub_info", Gauge, "Always 1; says which hub and version.");
        let names = [
            ("hub", self.hub.name().as_str()),
            ("id", self.hub.id()),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        build.push(&names, 1);
        let total =
            |name: &str, help: &str, value| one(&format!("holdfast_hub_{name}_total"), Counter, help, value);
        let now = |name: &str, help: &str, value| one(&format!("holdfast_hub_{name}"), Gauge, help, value);
        let devices = self.hub.directory().registry().devices_len();
        let mut all = vec![
            build,
            one(
                "holdfast_uptime_seconds",
                Gauge,
                "Time since the hub started.",
                self.started.elapsed().as_secs(),
            ),
            total("events_stored", "Messages of edges that were stored.", counted.stored),
            total("events_duplicate", "Messages that edges sent again.", counted.duplicates),
            total("events_missing", "Sequences of edges that never came.", counted.missing),
            total(
                "events_refused",
                "Messages that edges may not send, or that cannot be read.",
                counted.refused,
            ),
            now("edges_linked", "Edges whose link is up at this process.", counted.linked as u64),
            now("devices", "Devices and modules in the registry.", devices as u64),
            now("revision", "Revision of the last change of documents.", self.hub.revision()),
            now(
                "storage_up",
                "1 while the storage takes what it is given.",
                u64::from(self.hub.fault().is_none()),
            ),
        ];
        all.extend(store_metrics(&self.store, self.quota_bytes));
        all.extend(gateway_metrics(self.clients.as_deref()));
        if let Some(shared) = &self.shared {
            let counted = shared.counts();
            all.extend([
                total(
                    "jetstream_messages",
                    "Messages of telemetry stored at the NATS servers.",
                    counted.messages,
                ),
                total("jetstream_again", "Messages sent again because no answer came.", counted.again),
                total(
                    "jetstream_conflicts",
                    "Messages behind which another process had written.",
                    counted.conflicts,
                ),
                now("documents", "Documents in memory.", counted.documents as u64),
                now("document_bytes", "Bytes of these documents.", counted.document_bytes as u64),
            ]);
        }
        all
    }
}
