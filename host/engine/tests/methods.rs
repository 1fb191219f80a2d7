//! What methods a module can serve and call.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_broker::{MethodError, MethodReply, MethodTimes};
use holdfast_types::Identity;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{Edge, Plan};

fn who(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

async fn call(edge: &Edge, module: &str, name: &str, payload: &str) -> Result<MethodReply, MethodError> {
    let times = MethodTimes { response: Duration::from_secs(60), connect: Duration::from_secs(60) };
    edge.broker.methods().call(&who(&format!("edge/{module}")), name, payload.to_owned().into(), times).await
}

fn answered(status: i32, payload: &str) -> Result<MethodReply, MethodError> {
    Ok(MethodReply { status, payload: payload.to_owned().into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_takes_effect_with_its_reply_or_not_at_all() {
    let mut edge = Plan::new(&["both"]).with("both", "methods_both", "").start().await;
    assert_eq!(call(&edge, "both", "echo", r#"{"a":1}"#).await, answered(200, r#"{"a":1}"#));
    assert_eq!(call(&edge, "both", "count", "").await, answered(200, "1"));
    let failed = |status, why: &str| answered(status, &json!({ "error": why }).to_string());
    assert_eq!(call(&edge, "both", "retry", "").await, failed(503, "as told"));
    assert_eq!(call(&edge, "both", "reject", "").await, failed(500, "as told"));
    assert_eq!(call(&edge, "both", "other", "").await, answered(404, r#"{"error":"no method other"}"#));
    let trapped = call(&edge, "both", "trap", "").await.unwrap();
    assert!(
        trapped.status == 500 && trapped.payload.starts_with(b"{\"error\":\"invoke trapped"),
        "{trapped:?}"
    );
    edge.until("both", |status| status.restarts == 1).await;
    // The state is on disk when the reply is here.
    assert_eq!(call(&edge, "both", "count", "").await, answered(200, "2"));
    assert_eq!(edge.broker.documents().value("state/both", "count").unwrap().unwrap(), "xx");
    assert_eq!(edge.bodies(3).await, ["invoked count", "invoked other", "invoked count"]);
    let twin = edge.broker.twins().get(&who("edge/both")).await.unwrap();
    assert_eq!((twin.reported["invoked"].as_str(), twin.reported_version), (Some("count"), 4));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_are_handled_between_messages_and_one_that_does_not_end_is_ended() {
    let settings = "[limits]\ncall_ms = 200\n";
    let mut edge = Plan::new(&["both"]).with("both", "methods_both", settings).start().await;
    let endless = call(&edge, "both", "loop", "").await.unwrap();
    assert!(String::from_utf8_lossy(&endless.payload).contains("limits.call_ms"), "{endless:?}");
    let feeding = async {
        for n in 0..200 {
            edge.feed("both", &n.to_string()).await;
        }
    };
    let calling = async {
        for _ in 0..20 {
            assert_eq!(call(&edge, "both", "echo", "1").await, answered(200, "1"));
        }
    };
    tokio::join!(feeding, calling);
    assert_eq!(edge.bodies(200).await, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_calls_another_and_a_child_and_is_told_why_it_cannot() {
    let granted = "[grants]\nmethods = [\"/two\", \"/one\", \"press-*\"]\n";
    let plan =
        Plan::new(&["one", "two"]).with("one", "methods_both", granted).with("two", "methods_both", "");
    let mut edge = plan.start().await;
    edge.until_running("two").await;
    let mut child = edge.broker.methods().serve(&who("press-7"));
    let serving = tokio::spawn(async move {
        let call = child.next().await.unwrap();
        let reply = MethodReply { status: 202, payload: call.payload.clone() };
        call.reply(reply);
    });
    for (order, answer) in [
        ("/two echo 0 {\"n\":1}", "200 {\"n\":1}"),
        ("edge/two nothing 5000 ", "404 {\"error\":\"no method nothing\"}"),
        ("press-7 reset 5000 [1]", "202 [1]"),
        ("press-7 reset 5000 [1]", "MethodError::NotConnected(\"press-7 is not connected"),
        ("a/b/c reset 0 ", "MethodError::Invalid(\"\\\"a/b/c\\\" is no target"),
        ("/one echo 0 ", "MethodError::Invalid(\"a module cannot call its own methods"),
        ("/two echo 10 ", "MethodError::Invalid(\"the response time of 0 s is out of range"),
        ("/two echo 0 {no", "MethodError::Invalid(\"the payload is no JSON"),
        (
            "/three echo 0 1",
            "MethodError::Invalid(\"methods of /three are not granted; add to the module's .toml: [grants]",
        ),
        ("saw-1/plc stop 0 1", "MethodError::Invalid(\"methods of saw-1/plc are not granted"),
        ("/two no/name 0 1", "MethodError::Invalid(\"\\\"no/name\\\" is no name"),
    ] {
        edge.feed("one", &format!("call {order}")).await;
        loop {
            let (module, body) = edge.received().await;
            if module == "one" {
                assert!(body.starts_with(answer), "{order}: {body}");
                break;
            }
        }
        if order.starts_with("press-7") && !serving.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    serving.await.unwrap();
    assert_eq!(edge.status("one").unwrap().refusals["grants.methods"], 2);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_call_each_other_wait_until_the_time_of_one_is_over_and_go_on() {
    // The wait is longer than a call may compute: it does not count.
    let settings = "[grants]\nmethods = [\"/*\"]\n[limits]\ncall_ms = 300\n";
    let plan = Plan::new(&["one", "two"]).with("one", "methods_both", settings).with(
        "two",
        "methods_both",
        settings,
    );
    let mut edge = plan.start().await;
    edge.until_running("two").await;
    let began = Instant::now();
    edge.feed("one", "call /two back 30000 \"/one echo 5000 1\"").await;
    loop {
        let (module, body) = edge.received().await;
        if module == "one" {
            assert!(body.starts_with("200 ") && body.contains("did not answer echo within 5 s"), "{body}");
            break;
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(5));
    for module in ["one", "two"] {
        assert_eq!(call(&edge, module, "echo", "1").await, answered(200, "1"));
        assert_eq!(edge.status(module).unwrap().restarts, 0);
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_waits_for_a_method_holds_up_neither_others_nor_the_end() {
    let granted = "[grants]\nmethods = [\"*\"]\n";
    let plan =
        Plan::new(&["one", "echo"]).with("one", "methods_both", granted).with("echo", "outbox_echo", "");
    let mut edge = plan.start().await;
    edge.until_running("one").await;
    edge.until_running("echo").await;
    let mut child = edge.broker.methods().serve(&who("press-7"));
    // Done before the wait, and on disk while it lasts.
    edge.feed("one", "before").await;
    edge.feed("one", "call press-7 slow 300000 1").await;
    let held = child.next().await.unwrap();
    assert_eq!(edge.received().await.1, "before");
    edge.feed("echo", "other").await;
    assert_eq!(edge.received().await.1, "in:other");
    let began = Instant::now();
    edge.stop().await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_connected_to_a_module_that_serves_none_or_is_not_there() {
    let edge = Plan::new(&["echo"]).with("echo", "outbox_echo", "").start().await;
    edge.until_running("echo").await;
    for module in ["echo", "nobody"] {
        let (methods, target) = (edge.broker.methods(), who(&format!("edge/{module}")));
        let called = methods.call(&target, "reset", Default::default(), MethodTimes::default());
        assert_eq!(called.await.unwrap_err().status(), 404);
    }
    // One that waits for it finds it when it comes.
    let waiting = call(&edge, "late", "echo", "1");
    let coming = async { edge.install("late", "methods_both", "") };
    assert_eq!(tokio::join!(waiting, coming).0, answered(200, "1"));
    edge.stop().await;
}
