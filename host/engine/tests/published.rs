//! Components that were not made for this host, as they are published: programs, HTTP handlers, clients.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::RuntimeStatus;
use std::sync::Arc;
use std::time::Duration;
use support::guests::guest;
use support::net::{Here, ask, listen};
use support::published::published;
use support::{Edge, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Waits for a line of a module's log.
async fn line(edge: &Edge, module: &str, wanted: &str) {
    // It may not have been looked at yet.
    edge.until(module, |_| true).await;
    let begun = std::time::Instant::now();
    while !edge.log(module).iter().any(|line| line.contains(wanted)) {
        assert!(begun.elapsed() < support::PATIENCE, "{wanted:?} is not in {:?}", edge.log(module));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_to_their_end_and_their_output_is_their_log() {
    let edge = Plan::new(&[])
        .with_file("hello", &published("hello-world"), "")
        .with_file("command", &published("cli_command"), "")
        .start()
        .await;
    for (module, text) in [("hello", "info Hello, world!"), ("command", "info Hello, WASI!")] {
        let status = edge.until(module, |status| status.status == RuntimeStatus::Stopped).await;
        assert!(status.description.contains("ended with success"), "{status:#?}");
        line(&edge, module, text).await;
        assert_eq!(status.restarts, 0);
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_for_as_long_as_it_likes_and_is_stopped_swapped_and_removed() {
    let edge =
        Plan::new(&[]).with_file("ticks", &guest("cli_ticks"), "[limits]\ncall_ms = 10\n").start().await;
    line(&edge, "ticks", "tick 20").await;
    edge.engine.stop("ticks").await.unwrap();
    edge.until("ticks", |status| status.status == RuntimeStatus::Stopped).await;
    edge.engine.start("ticks").await.unwrap();
    let status = edge.until_running("ticks").await;
    assert_eq!((status.restarts, status.refused), (0, None));
    assert!(edge.until("ticks", |status| status.memory_bytes > 0).await.memory_bytes <= 64 << 20);
    edge.put("ticks.wasm", support::guests::marked("cli_ticks", "two"));
    edge.until("ticks", |now| now.status == RuntimeStatus::Running && now.digest != status.digest).await;
    std::fs::remove_file(edge.plugins().join("ticks.wasm")).unwrap();
    edge.until_gone("ticks").await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_started_again_as_its_policy_says() {
    let edge = Plan::new(&[])
        .with_file("fails", &guest("cli_ticks"), "arguments = [\"2\"]\n")
        .with_file("never", &guest("cli_ticks"), "arguments = [\"2\"]\nrestart = \"never\"\n")
        .with_file("always", &published("hello-world"), "restart = \"always\"\n")
        .start()
        .await;
    let status = edge.until("fails", |status| status.restarts >= 2).await;
    assert!(status.last_error.as_ref().is_some_and(|error| error.contains("exit code")), "{status:#?}");
    edge.until("always", |status| status.restarts >= 2).await;
    let status = edge.until("never", |status| status.status == RuntimeStatus::Failed).await;
    assert!(status.description.contains("no more"), "its last words are told: {}", status.description);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_handlers_answer_below_their_paths() {
    let edge = Plan::new(&[])
        .with_file("proxy", &published("http_proxy"), "")
        .with_file(
            "server",
            &published("http_server"),
            "[http]\npath = \"/\"\n[limits]\nhttp_body_bytes = 1000\n",
        )
        .start()
        .await;
    edge.until_running("proxy").await;
    edge.until_running("server").await;
    let address = listen(edge.http.clone()).await;
    assert_eq!(ask(address, "GET", "/proxy", "").await.0, 200);
    let (status, body) = ask(address, "GET", "/proxy/below?x=1", "").await;
    assert!(status == 200 && body.contains("Hello, WASI!"), "{body}");
    let (status, body) = ask(address, "GET", "/", "").await;
    assert!(status == 200 && body.contains("Hello, wasi:http/proxy world!"), "{body}");
    let (status, body) = ask(address, "POST", "/echo", "what is sent").await;
    assert!(status == 200 && body.contains("what is sent"), "{body}");
    let (status, body) = ask(address, "GET", "/stream-body", "").await;
    assert!(status == 200 && body.matches("stream started").count() == 5, "{body}");
    assert_eq!(ask(address, "GET", "/no-such-path", "").await.0, 404);

    // Too much is refused, counted and told; the module goes on.
    assert_eq!(ask(address, "POST", "/echo", &"x".repeat(1_001)).await.0, 413);
    let status = edge.status("server").unwrap();
    assert_eq!(status.refusals["limits.http_body_bytes"], 1);
    assert!(status.requests >= 4, "{status:#?}");
    edge.engine.stop("proxy").await.unwrap();
    edge.until("proxy", |status| status.status == RuntimeStatus::Stopped).await;
    // Now the one at the root has it.
    assert_eq!(ask(address, "GET", "/proxy", "").await.0, 404);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_component_handles_messages_and_answers_requests_from_what_they_left() {
    let mut edge = Plan::new(&["counter"]).with("counter", "http_counter", "").start().await;
    edge.until_running("counter").await;
    let address = listen(edge.http.clone()).await;
    let (status, body) = ask(address, "GET", "/counter", "").await;
    assert!(status == 200 && body.contains("Ok(0)"), "{status} {body}");
    edge.feed("counter", "one").await;
    edge.feed("counter", "two").await;
    assert_eq!(edge.bodies(2).await, ["1", "2"]);
    edge.until("counter", |status| status.messages_in == 2).await;
    let (status, body) = ask(address, "GET", "/counter", "").await;
    assert!(status == 200 && body.contains("Ok(2)"), "{status} {body}");
    // A request belongs to no turn: what it would send is refused and goes nowhere.
    assert!(body.contains("only what handles messages can send"), "{body}");
    assert!(edge.nothing_more());
    assert_eq!(edge.status("counter").unwrap().requests, 2);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_and_too_many_at_once_are_bounded() {
    let settings = "[http]\npath = \"/\"\n[limits]\nhttp_ms = 300\nhttp_requests = 1\n";
    let edge = Plan::new(&[]).with_file("server", &published("http_server"), settings).start().await;
    edge.until_running("server").await;
    let address = listen(edge.http.clone()).await;
    let slow = tokio::spawn(async move { ask(address, "GET", "/wait-response", "").await });
    edge.until("server", |status| status.requests == 1).await;
    assert_eq!(ask(address, "GET", "/", "").await.0, 503);
    let (status, body) = slow.await.unwrap();
    assert_eq!(status, 504, "{body}");
    assert_eq!(edge.status("server").unwrap().refusals["limits.http_requests"], 1);
    assert_eq!(ask(address, "GET", "/", "").await.0, 200);
    edge.stop().await;
}

/// A server that answers every connection with the same bytes.
async fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4_096];
                let _ = stream.read(&mut read).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthere";

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_granted_hosts_and_to_no_other() {
    let port = server(ANSWER).await;
    let arguments = format!("restart = \"never\"\narguments = [\"http://here.test:{port}/x\"]\n");
    let edge = Plan::new(&[])
        .config(|config| config.outgoing = Some(Arc::new(Here)))
        .with_file(
            "granted",
            &published("http_client"),
            &format!("{arguments}[grants]\nhosts = [\"here.test:{port}\"]\n"),
        )
        .with_file(
            "other-port",
            &published("http_client"),
            &format!("{arguments}[grants]\nhosts = [\"here.test:1\"]\n"),
        )
        .with_file("nothing", &published("http_client"), &arguments)
        .start()
        .await;
    edge.until("granted", |status| status.status == RuntimeStatus::Stopped).await;
    line(&edge, "granted", "info there").await;
    for module in ["other-port", "nothing"] {
        edge.until(module, |status| status.status == RuntimeStatus::Failed).await;
        line(&edge, module, &format!("[grants] hosts = [\"here.test:{port}\"]")).await;
        assert_eq!(edge.status(module).unwrap().refusals["grants.hosts"], 1);
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_goes_to_granted_hosts_and_to_no_other() {
    let port = server("hello over TCP\n").await;
    let (talk, arguments) =
        (guest("sockets_talk"), format!("restart = \"never\"\narguments = [\"{port}\"]\n"));
    let edge = Plan::new(&[])
        .config(|config| config.outgoing = Some(Arc::new(Here)))
        .with_file("address", &talk, &format!("{arguments}[grants]\nhosts = [\"127.0.0.1:{port}\"]\n"))
        // What a granted name means is granted too.
        .with_file("name", &talk, &format!("{arguments}[grants]\nhosts = [\"here.test:*\"]\n"))
        .with_file("other", &talk, &format!("{arguments}[grants]\nhosts = [\"127.0.0.2:*\"]\n"))
        .with_file(
            "full",
            &talk,
            &format!("{arguments}[grants]\nhosts = [\"127.0.0.1:*\"]\n[limits]\nconnections = 0\n"),
        )
        .start()
        .await;
    for module in ["address", "name"] {
        let status = edge
            .until(module, |status| status.status != RuntimeStatus::Running && status.last_start.is_some())
            .await;
        assert_eq!(status.status, RuntimeStatus::Stopped, "{status:#?} {:?}", edge.log(module));
        line(&edge, module, "info hello over TCP").await;
    }
    edge.until("other", |status| status.status == RuntimeStatus::Failed).await;
    line(&edge, "other", &format!("[grants] hosts = [\"127.0.0.1:{port}\"]")).await;
    edge.until("full", |status| status.status == RuntimeStatus::Failed).await;
    line(&edge, "full", "limits.connections").await;
    edge.stop().await;
}
