//! HTTP as modules of the Rust SDK have it: the ready-made `webhook` and `latest`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_types::{Message, SystemKey};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use support::Plan;
use support::guests::root;
use support::net::{Here, ask, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn plugin(name: &str) -> PathBuf {
    root().join(format!("plugins/{name}.wasm"))
}

/// What a server does with a connection.
enum Does {
    /// Answers with this status and body.
    Answers(u16, String),
    /// Answers with what was asked.
    Echoes,
    /// Hangs up.
    Closes,
    /// Says nothing for as long as the client waits.
    Waits,
}

/// A server that does one thing after another, and tells of each request: head and body.
async fn server(script: impl IntoIterator<Item = Does>) -> (u16, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
    let (told, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let does = script.lock().unwrap().pop_front().unwrap_or(Does::Closes);
            tokio::spawn(serve(stream, does, told.clone()));
        }
    });
    (port, requests)
}

async fn serve(mut stream: TcpStream, does: Does, told: mpsc::UnboundedSender<(String, Vec<u8>)>) {
    let mut read = Vec::new();
    let head = loop {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            break String::from_utf8(std::mem::replace(&mut read, body)).unwrap();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
    while read.len() < length {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the body ends early");
    }
    let (status, body) = match does {
        Does::Answers(status, body) => (status, body.into_bytes()),
        Does::Echoes => (200, read.clone()),
        Does::Closes => return,
        Does::Waits => {
            let _ = stream.read(&mut [0]).await;
            return;
        }
    };
    let _ = told.send((head, read));
    let answer =
        format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    // A client that has had enough hangs up.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.write_all(&body).await;
}

fn plan() -> Plan {
    Plan::new(&["webhook"]).config(|config| config.outgoing = Some(Arc::new(Here)))
}

fn settings(port: u16, more: &str, grants: &str) -> String {
    format!(
        "[config]\nurl = \"http://here.test:{port}/alerts?plant=7\"\n{more}\n[grants]\nhosts = [{grants}]\n"
    )
}

/// An edge with a webhook to a port of this machine.
fn webhook(port: u16, more: &str, grants: &str) -> Plan {
    plan().with_file("webhook", &plugin("webhook"), &settings(port, more, grants))
}

fn granted(port: u16) -> String {
    format!("\"here.test:{port}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_host_gets_each_message_and_its_answer_comes_back() {
    let (port, mut requests) =
        server([Does::Answers(201, "no 1".to_owned()), Does::Answers(204, String::new())]).await;
    let mut edge = webhook(port, "authorization = \"Bearer 7\"", &granted(port)).start().await;
    let mut message = Message::new("{\"celsius\":31}");
    message.system.set(SystemKey::MessageId, "m-1");
    message.system.set(SystemKey::ContentType, "application/json");
    edge.feed_message("webhook", message).await;
    edge.feed("webhook", "").await;
    let (head, body) = requests.recv().await.unwrap();
    assert!(head.starts_with("POST /alerts?plant=7 HTTP/1.1\r\n"), "{head}");
    for line in [
        &format!("host: here.test:{port}"),
        "content-type: application/json",
        "content-length: 14",
        "idempotency-key: m-1",
        "authorization: Bearer 7",
    ] {
        assert!(head.lines().any(|there| there == line), "{line:?} is not in {head}");
    }
    assert_eq!(body, b"{\"celsius\":31}");
    let answer = edge.next_envelope().await;
    assert_eq!(answer.message.body, "no 1");
    assert_eq!(answer.message.system.value(SystemKey::CorrelationId), Some("m-1"));
    let (head, body) = requests.recv().await.unwrap();
    assert!(body.is_empty() && !head.contains("idempotency-key"), "{head}");
    edge.until("webhook", |status| status.messages_in == 2).await;
    assert!(edge.nothing_more(), "an empty answer sends nothing");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_is_refused_and_both_the_module_and_its_log_name_the_line_to_add() {
    let (port, mut requests) = server([Does::Answers(204, String::new())]).await;
    let edge = webhook(port, "", "\"here.test:1\", \"other.test:*\"").start().await;
    edge.feed("webhook", "one").await;
    let line = format!("[grants] hosts = [\"here.test:{port}\"]");
    let letter = edge.dead_letters("webhook", 1).await.remove(0);
    assert!(letter.death.reason.contains(&line), "{}", letter.death.reason);
    assert!(
        !letter.death.reason.contains("plant"),
        "what stands behind ? may be a secret: {}",
        letter.death.reason
    );
    assert!(edge.log("webhook").iter().any(|told| told.contains(&line)), "{:?}", edge.log("webhook"));
    assert_eq!(edge.status("webhook").unwrap().refusals["grants.hosts"], 1);
    assert!(requests.try_recv().is_err(), "nothing has left");

    // The line, as it was told, is what helps.
    let folder = edge.stop().await;
    std::fs::write(folder.path().join("plugins/webhook.toml"), settings(port, "", &granted(port))).unwrap();
    let edge = plan().in_folder(&folder).start().await;
    edge.feed("webhook", "two").await;
    assert_eq!(requests.recv().await.unwrap().1, b"two");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_slow_or_ill_is_asked_again_and_a_refusal_is_not() {
    let script = [
        Does::Closes,
        Does::Waits,
        Does::Answers(503, "ill".to_owned()),
        Does::Answers(200, "well".to_owned()),
        Does::Answers(422, "no such plant".to_owned()),
    ];
    let (port, mut requests) = server(script).await;
    let mut edge = webhook(port, "time = \"100ms\"", &granted(port)).start().await;
    edge.feed("webhook", "one").await;
    assert_eq!(edge.received().await.1, "well");
    edge.feed("webhook", "two").await;
    let letter = edge.dead_letters("webhook", 1).await.remove(0);
    assert!(
        letter.death.reason.ends_with("the answer has status 422: no such plant"),
        "{}",
        letter.death.reason
    );
    let bodies: Vec<_> = std::iter::from_fn(|| requests.try_recv().ok()).map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"one", b"one", b"two"], "those that were answered");
    let status = edge.status("webhook").unwrap();
    assert_eq!(status.restarts, 0, "no trap, no call out of time: {status:#?}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_many_packets_go_both_ways_and_one_beyond_the_bound_is_not_taken() {
    let (port, _requests) = server([Does::Echoes, Does::Answers(200, "x".repeat((1 << 20) + 1))]).await;
    let mut edge = webhook(port, "", &granted(port)).start().await;
    let body: String = (0..100_000).map(|n| format!("{n:07},")).collect();
    edge.feed("webhook", &body).await;
    assert!(edge.received().await.1 == body, "it came back as it was");
    edge.feed("webhook", "large").await;
    let letter = edge.dead_letters("webhook", 1).await.remove(0);
    assert!(
        letter.death.reason.contains("the answer has more than 1048576 bytes"),
        "{}",
        letter.death.reason
    );
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_from_what_messages_have_left() {
    let settings = std::fs::read_to_string(root().join("plugins/latest.toml")).unwrap();
    let edge = Plan::new(&["latest"]).with_file("latest", &plugin("latest"), &settings).start().await;
    edge.until_running("latest").await;
    let address = listen(edge.http.clone()).await;
    assert_eq!(ask(address, "GET", "/latest", "").await, (200, "{}".to_owned()));
    for reading in [
        "{\"sensor\":\"line 1\",\"celsius\":1}",
        "{\"sensor\":\"b\"}",
        "{\"sensor\":\"line 1\",\"celsius\":2}",
    ] {
        edge.feed("latest", reading).await;
    }
    edge.until("latest", |status| status.messages_in == 3).await;
    let (status, body) = ask(address, "GET", "/latest/", "").await;
    assert!(status == 200 && body.starts_with("{\"b\":{\"at\":") && body.contains("\"celsius\":2"), "{body}");
    let (status, body) = ask(address, "GET", "/latest?key=line+1", "").await;
    assert!(status == 200 && body.contains("\"celsius\":2") && !body.contains("\"b\""), "{body}");
    let (status, body) = ask(address, "GET", "/latest?key=c", "").await;
    assert_eq!((status, body.as_str()), (404, "no reading of \"c\" has come\n"));
    assert_eq!(ask(address, "GET", "/latest/below", "").await.0, 404);
    assert_eq!(
        ask(address, "POST", "/latest", &"x".repeat(100_000)).await,
        (405, "use GET, HEAD\n".to_owned())
    );
    assert_eq!(ask(address, "HEAD", "/latest", "").await, (200, String::new()));
    let status = edge.status("latest").unwrap();
    assert_eq!((status.requests, status.last_error.as_deref()), (7, None), "{status:#?}");
    edge.stop().await;
}
