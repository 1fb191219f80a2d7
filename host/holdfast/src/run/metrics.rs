//! What is counted, under its names. Times are in seconds or say their unit; sizes are in bytes.

use super::{host::RunningHost, own_metrics};
use holdfast_api::{
    MetricFamily,
    MetricKind::{self, Counter, Gauge},
    MetricsSource,
};
use holdfast_gateway::Stats;
use holdfast_store::{QueueStatus, Store};
use holdfast_types::Priority;
use holdfast_upstream::WayState;

impl MetricsSource for RunningHost {
    fn metrics(&self) -> Vec<MetricFamily> {
        Self::metrics(self)
    }
}

impl RunningHost {
    /// Everything that is counted, as it is now.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let mut all = vec![
            self.build(),
            one(
                "holdfast_uptime_seconds",
                Gauge,
                "Time since the host started.",
                self.started.elapsed().as_secs(),
            ),
        ];
        all.extend(self.broker_metrics());
        all.extend(store_metrics(self.broker.store(), self.config.store.quota_bytes));
        all.extend(queue_metrics(&self.broker.store().queues()));
        all.extend(self.module_metrics());
        all.extend(gateway_metrics(self.clients.as_deref()));
        all.extend(self.upstream_metrics());
        all
    }

    fn build(&self) -> MetricFamily {
        let mut build =
            MetricFamily::new("holdfast_build_info", Gauge, "Always 1; says which edge and version.");
        build.push(&[("edge", self.broker.edge()), ("version", env!("CARGO_PKG_VERSION"))], 1);
        build
    }

    fn broker_metrics(&self) -> Vec<MetricFamily> {
        let counted = self.broker.counters();
        let mut dropped = MetricFamily::new(
            "holdfast_messages_not_kept_total",
            Counter,
            "Messages that went nowhere, by reason.",
        );
        for (reason, count) in [
            ("no_route", counted.no_route),
            ("refused", counted.refused),
            ("not_recorded", counted.not_recorded),
            ("volatile_lane_full", counted.dropped_volatile),
            ("subscriber_slow", counted.lost_by_subscribers),
        ] {
            dropped.push(&[("reason", reason)], count);
        }
        vec![
            one(
                "holdfast_messages_accepted_total",
                Counter,
                "Messages that entered, from whomever.",
                counted.accepted,
            ),
            dropped,
        ]
    }

    fn module_metrics(&self) -> Vec<MetricFamily> {
        let modules = self.engine.list();
        let family =
            |name: &str, kind: MetricKind, help: &str, value: fn(&holdfast_engine::ModuleStatus) -> u64| {
                let mut family = MetricFamily::new(name, kind, help);
                for module in &modules {
                    family.push(&[("module", &module.name)], value(module));
                }
                family
            };
        let mut state =
            MetricFamily::new("holdfast_module_state", Gauge, "1 for the state that the module is in.");
        for module in &modules {
            state.push(&[("module", &module.name), ("state", module.status.as_str())], 1);
        }
        let help = "How often a limit or a missing grant was met; dropped log lines count one each.";
        let mut refusals = MetricFamily::new("holdfast_module_refusals_total", Counter, help);
        for module in &modules {
            for (setting, times) in &module.refusals {
                refusals.push(&[("module", &module.name), ("setting", setting)], *times);
            }
        }
        let mut shadow = MetricFamily::new(
            "holdfast_module_shadow_calls_total",
            Counter,
            "Calls of next versions in the shadow of their modules, by what came of them.",
        );
        for module in &modules {
            let Some(report) = &module.shadow else { continue };
            for (result, calls) in
                [("matched", report.matched), ("differed", report.differed), ("skipped", report.skipped)]
            {
                shadow.push(&[("module", &module.name), ("result", result)], calls);
            }
        }
        let own = own_metrics::families(&modules);
        let mut all = vec![
            state,
            refusals,
            shadow,
            family("holdfast_module_restarts_total", Counter, "Restarts after failures.", |m| {
                m.restarts.into()
            }),
            family("holdfast_module_messages_in_total", Counter, "Messages handled.", |m| m.messages_in),
            family("holdfast_module_messages_out_total", Counter, "Messages sent.", |m| m.messages_out),
            family("holdfast_module_dead_letters_total", Counter, "Messages given up.", |m| m.dead_letters),
            family("holdfast_module_expired_total", Counter, "Messages too old when their turn came.", |m| {
                m.expired
            }),
            family("holdfast_module_inbox", Gauge, "Messages read and not handled yet.", |m| m.inbox),
            family("holdfast_module_memory_bytes", Gauge, "Linear memory held.", |m| m.memory_bytes),
            family("holdfast_module_memory_bytes_max", Gauge, "The bound on it.", |m| m.memory_bytes_max),
            family(
                "holdfast_module_busy_microseconds_total",
                Counter,
                "Time that the module computed.",
                |m| m.busy_us,
            ),
        ];
        all.extend(own);
        all
    }

    /// The gateway's counters keep their own names; what can fall is a gauge.
    fn upstream_metrics(&self) -> Vec<MetricFamily> {
        let Some(upstream) = &self.upstream else { return Vec::new() };
        let status = upstream.status();
        let counted = status.counters;
        let mut ways = MetricFamily::new(
            "holdfast_upstream_way",
            Gauge,
            "For each way upstream: 1 for its state, in_use, works, untried or failed.",
        );
        for way in &status.ways {
            let state = match way.state {
                _ if way.in_use => "in_use",
                WayState::Works => "works",
                WayState::Untried => "untried",
                WayState::Failed(_) => "failed",
            };
            let transport = way.transport.to_string();
            ways.push(&[("place", &way.place), ("transport", &transport), ("state", state)], 1);
        }
        let mut children = MetricFamily::new(
            "holdfast_upstream_children",
            Gauge,
            "Children under their own identities upstream by state: connected, waiting for a turn, or in trouble.",
        );
        if let Some(status) = &status.children {
            for (state, count) in [
                ("connected", status.connected),
                ("waiting", status.waiting),
                ("trouble", status.troubled.len()),
            ] {
                children.push(&[("state", state)], count as u64);
            }
        }
        vec![
            ways,
            children,
            one(
                "holdfast_upstream_up",
                Gauge,
                "1 while the link is up.",
                u64::from(status.state.is_connected()),
            ),
            one(
                "holdfast_upstream_in_flight",
                Gauge,
                "Messages sent and not acknowledged.",
                status.in_flight as u64,
            ),
            one(
                "holdfast_upstream_connected_total",
                Counter,
                "Connections that were welcomed.",
                counted.connected,
            ),
            one(
                "holdfast_upstream_sent_total",
                Counter,
                "Messages sent, those sent again included.",
                counted.sent,
            ),
            one("holdfast_upstream_sent_bytes_total", Counter, "Payload bytes of these.", counted.sent_bytes),
            one(
                "holdfast_upstream_acknowledged_total",
                Counter,
                "Messages that were taken.",
                counted.acknowledged,
            ),
            one(
                "holdfast_upstream_deferred_total",
                Counter,
                "Messages refused for the moment.",
                counted.deferred,
            ),
            one("holdfast_upstream_given_up_total", Counter, "Messages given up.", counted.given_up),
        ]
    }
}

/// The store of this process.
pub(super) fn store_metrics(store: &Store, quota_bytes: u64) -> Vec<MetricFamily> {
    let stats = store.stats();
    vec![
        one("holdfast_store_bytes", Gauge, "Bytes of records in all logs.", stats.bytes),
        one(
            "holdfast_store_quota_bytes",
            Gauge,
            "Most bytes that the store may take (store.quota).",
            quota_bytes,
        ),
        one("holdfast_store_fsyncs_total", Counter, "Group commits; each is one fsync.", stats.fsyncs),
        one("holdfast_store_commits_total", Counter, "Commits in them.", stats.commits),
        one("holdfast_store_messages_total", Counter, "Records in them.", stats.messages),
        one("holdfast_store_record_bytes_total", Counter, "Bytes of these records.", stats.record_bytes),
        one(
            "holdfast_store_fsync_microseconds",
            Gauge,
            "Mean time of recent writes with fsync.",
            stats.fsync_us_mean,
        ),
        one("holdfast_store_commits_failed_total", Counter, "Commits that were not recorded.", stats.failed),
        one("holdfast_store_commits_parked", Gauge, "Commits that wait for room.", stats.parked),
        one(
            "holdfast_store_reopened_total",
            Counter,
            "Times that the database failed and was opened anew.",
            stats.reopened,
        ),
    ]
}

/// The gateway, where there is one.
pub(super) fn gateway_metrics(clients: Option<&Stats>) -> Vec<MetricFamily> {
    let Some(stats) = clients else { return Vec::new() };
    let counted = stats.snapshot();
    counted
        .iter()
        .map(|(name, value)| match name {
            "connections" | "sessions" | "queued_bytes" => {
                one(&format!("holdfast_gateway_{name}"), Gauge, "Of the gateway, at this moment.", value)
            }
            _ => one(
                &format!("holdfast_gateway_{name}_total"),
                Counter,
                "Of the gateway, since the start.",
                value,
            ),
        })
        .collect()
}

/// A family with one value.
pub(super) fn one(name: &str, kind: MetricKind, help: &str, value: u64) -> MetricFamily {
    MetricFamily::of(name, kind, help, value)
}

fn queue_metrics(queues: &[QueueStatus]) -> Vec<MetricFamily> {
    let label = |priority: Priority| match priority {
        Priority::DEFAULT => "default".to_owned(),
        other => other.level().to_string(),
    };
    let family = |name: &str, kind: MetricKind, help: &str, value: fn(&QueueStatus) -> u64| {
        let mut family = MetricFamily::new(name, kind, help);
        for queue in queues {
            let labels = [("log", queue.queue.log.as_str()), ("priority", &label(queue.queue.priority))];
            family.push(&labels, value(queue));
        }
        family
    };
    let mut dropped = MetricFamily::new(
        "holdfast_queue_dropped_total",
        Counter,
        "Messages that left a queue unread, by reason.",
    );
    for queue in queues {
        let gone = queue.gone;
        for (reason, count) in [
            ("full_oldest", gone.dropped_oldest),
            ("full_newest", gone.dropped_newest),
            ("expired", gone.expired),
            ("purged", gone.purged),
            ("unreadable", gone.unreadable),
        ] {
            let priority = label(queue.queue.priority);
            let labels = [("log", queue.queue.log.as_str()), ("priority", &*priority), ("reason", reason)];
            dropped.push(&labels, count);
        }
    }
    vec![
        family("holdfast_queue_messages", Gauge, "Messages that wait in a queue.", |queue| queue.waiting),
        family("holdfast_queue_bytes", Gauge, "Bytes of their records.", |queue| queue.bytes),
        family("holdfast_queue_dead_letters", Gauge, "Messages given up that are kept.", |queue| queue.dead),
        dropped,
    ]
}
