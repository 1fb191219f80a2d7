//! What the contract promises over time, and what it has beside messages: a component of an older version runs, and modules
//! measure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::Measured;
use holdfast_types::Identity;
use support::Plan;
use support::guests::{marked, root};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_built_with_an_older_version_of_the_contract_runs_unchanged() {
    let older = root().join("tests/guests/older/thermostat-0.1.0.wasm");
    let mut edge = Plan::new(&["thermostat"]).with_file("thermostat", &older, "").start().await;
    edge.until_running("thermostat").await;
    // It handles a message, keeps state, sends, reports to its twin, and serves a method: every interface that there was.
    edge.feed("thermostat", r#"{"temperature": 10}"#).await;
    assert_eq!(edge.received().await.1, r#"{"heat":true}"#);
    let who = Identity::parse("edge/thermostat").unwrap();
    let twin = edge.broker.twins().get(&who).await.unwrap();
    assert_eq!(twin.reported["switchedOn"], 1, "{twin:?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_measures_outlives_its_instances_and_is_bounded() {
    let mut edge = Plan::new(&["meter"])
        .with("meter", "metrics_all", "[limits]\nmetrics = 3\nattempts = 1\n")
        .start()
        .await;
    edge.until_running("meter").await;
    for (told, answer) in [
        ("count parts_total 2", "Ok(())"),
        ("gauge level 1.5", "Ok(())"),
        ("observe seconds 0.3", "Ok(())"),
        (
            "count level 1",
            "Err(MetricError::Invalid(\"\\\"level\\\" is a metric of another kind; take another name\"))",
        ),
        ("count more_total 1", "Err(MetricError::TooMany(3))"),
    ] {
        edge.feed("meter", told).await;
        assert_eq!(edge.received().await.1, answer, "{told}");
    }
    // A call that fails has been measured all the same; so has one before a swap.
    edge.feed("meter", "trap parts_total 3").await;
    edge.dead_letters("meter", 1).await;
    edge.put("meter.wasm", marked("metrics_all", "other"));
    let first = edge.status("meter").unwrap().digest;
    edge.until("meter", |status| {
        status.digest != first && status.status == holdfast_engine::RuntimeStatus::Running
    })
    .await;
    edge.feed("meter", "count parts_total 4").await;
    assert_eq!(edge.received().await.1, "Ok(())");
    let status = edge.status("meter").unwrap();
    assert_eq!(status.metrics["parts_total"], Measured::Counter(9));
    assert_eq!(status.metrics["level"], Measured::Gauge(1.5));
    let Measured::Histogram(seconds) = &status.metrics["seconds"] else { panic!("{status:?}") };
    assert_eq!((seconds.count, seconds.sum), (1, 0.3));
    assert_eq!(status.refusals["limits.metrics"], 1);
    assert!(
        edge.log("meter").iter().any(|line| line.contains("raise limits.metrics")),
        "{:?}",
        edge.log("meter")
    );
    edge.stop().await;
}
