//! What a module can do with its twin.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_broker::Twin;
use holdfast_types::Identity;
use serde_json::{Value, json};
use support::{Edge, Plan};

fn who(module: &str) -> Identity {
    Identity::parse(&format!("edge/{module}")).unwrap()
}

async fn twin(edge: &Edge, module: &str) -> (Value, u64) {
    let Twin { reported, reported_version, .. } = edge.broker.twins().get(&who(module)).await.unwrap();
    (reported.into(), reported_version)
}

/// Waits until the module has reported that.
async fn until_reported(edge: &Edge, module: &str, wanted: Value) {
    let start = std::time::Instant::now();
    loop {
        let (reported, _) = twin(edge, module).await;
        if reported == wanted {
            return;
        }
        assert!(start.elapsed() < support::PATIENCE, "{reported}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn plan() -> Plan {
    Plan::new(&["mirror"]).with("mirror", "twins_mirror", "[limits]\nattempts = 2\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_takes_effect_with_its_call_or_not_at_all() {
    let mut edge = plan().start().await;
    assert_eq!(edge.received().await.1, "start 1 {}");
    edge.feed("mirror", r#"ok {"a":1,"b":{"c":2}}"#).await;
    for failing in [r#"retry {"bad":1}"#, r#"reject {"bad":2}"#, r#"trap {"bad":3}"#] {
        edge.feed("mirror", failing).await;
    }
    edge.feed("mirror", r#"ok {"a":null,"b":{"d":3}}"#).await;
    edge.feed("mirror", "reported").await;
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body: &String| !body.starts_with("reported")) {
        bodies.push(edge.received().await.1);
    }
    bodies.retain(|body| !body.starts_with("start"));
    let expected =
        [r#"took {"a":1,"b":{"c":2}}"#, r#"took {"a":null,"b":{"d":3}}"#, r#"reported {"b":{"c":2,"d":3}}"#];
    assert_eq!(bodies, expected);
    // The retried one and the one that trapped were tried twice; nothing of five calls remains.
    assert_eq!(edge.dead_letters("mirror", 3).await.len(), 3);
    assert_eq!(twin(&edge, "mirror").await, (json!({"b": {"c": 2, "d": 3}}), 3));

    let folder = edge.stop().await;
    let mut edge = plan().in_folder(&folder).start().await;
    assert_eq!(edge.received().await.1, "start 1 {}");
    edge.feed("mirror", "reported").await;
    assert_eq!(edge.received().await.1, r#"reported {"b":{"c":2,"d":3}}"#);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_under_load_reports_each_time_once() {
    let mut edge = plan().start().await;
    assert_eq!(edge.received().await.1, "start 1 {}");
    for n in 0..300 {
        edge.feed("mirror", &format!(r#"ok {{"n":{n},"k{}":{n}}}"#, n % 7)).await;
    }
    edge.bodies(300).await;
    let mut expected: serde_json::Map<String, Value> =
        (0..7).map(|k| (format!("k{k}"), json!((294..301).map(|n| n - 1).find(|n| n % 7 == k)))).collect();
    expected.insert("n".to_owned(), json!(299));
    assert_eq!(twin(&edge, "mirror").await, (Value::Object(expected), 301));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_to_the_module_and_changes_nothing() {
    let mut edge = plan().start().await;
    edge.received().await;
    for (patch, why) in [
        ("[1]", "not a JSON object"),
        ("{", "no JSON"),
        (r#"{"a":{"b.c":1}}"#, "a.b.c"),
        (r#"{"n":4503599627370496}"#, "4503599627370495"),
    ] {
        edge.feed("mirror", &format!("ok {patch}")).await;
        let refused = edge.received().await.1;
        assert!(refused.starts_with("refused TwinError::Invalid") && refused.contains(why), "{refused}");
    }
    edge.feed("mirror", "many {}").await;
    assert_eq!(edge.received().await.1, "refused TwinError::TooMany(64)");
    assert_eq!(twin(&edge, "mirror").await, (json!({}), 65));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_changes_come_in_order_and_none_is_lost_over_a_trap_or_a_new_version() {
    let mut edge = plan().start().await;
    assert_eq!(edge.received().await.1, "start 1 {}");
    let twins = edge.broker.twins();
    for n in 2..5 {
        assert_eq!(twins.desire(&who("mirror"), json!({ "n": n })).await, Ok(n));
        assert_eq!(edge.received().await.1, format!("desired {n} {{\"n\":{n}}}"));
    }
    until_reported(&edge, "mirror", json!({"followed": 4})).await;

    // Rejected: nothing of the call remains, and the module goes on.
    twins.desire(&who("mirror"), json!({"x": "reject"})).await.unwrap();
    twins.desire(&who("mirror"), json!({"x": null})).await.unwrap();
    assert_eq!(edge.received().await.1, r#"desired 6 {"x":null}"#);

    // Failed: the module starts again and reads all of it.
    for failing in ["retry", "trap"] {
        twins.desire(&who("mirror"), json!({ "x": failing })).await.unwrap();
        let started = edge.received().await.1;
        let all = format!("{{\"n\":4,\"x\":\"{failing}\"}}");
        assert!(started.starts_with("start ") && started.ends_with(&all), "{started}");
    }
    assert_eq!(edge.until("mirror", |status| status.restarts == 2).await.dead_letters, 0);

    // A new version reads them too, and hears of the next.
    edge.put("mirror.wasm", support::guests::marked("twins_mirror", "two"));
    assert_eq!(edge.received().await.1, r#"start 8 {"n":4,"x":"trap"}"#);
    edge.until("mirror", |status| status.refused.is_none()).await;
    twins.desire(&who("mirror"), json!({"n": 9})).await.unwrap();
    assert_eq!(edge.received().await.1, r#"desired 9 {"n":9}"#);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_reports_is_a_message_for_another() {
    let route = "FROM /twinChangeNotifications WHERE twin_change_includes(properties.reported.alarm) INTO \
                 BrokeredEndpoint(\"/modules/echo/inputs/in\")";
    let plan = plan().with("echo", "outbox_echo", "");
    let mut edge = plan.route("alarms", route, holdfast_types::Durability::Durable).start().await;
    edge.received().await;
    edge.feed("mirror", r#"ok {"t":1}"#).await;
    edge.feed("mirror", r#"ok {"alarm":true}"#).await;
    let mut all = edge.bodies(3).await;
    all.sort();
    assert_eq!(all[0], r#"in:{"properties":{"reported":{"$version":3,"alarm":true}}}"#);
    edge.stop().await;
}
