//! A hub process among others: what it asks them and answers them, and what comes to it while it is busy. The others are the
//! story's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use holdfast_gateway::Above;
use holdfast_hub::{
    backend::{Embedded, EmbeddedConfig},
    peers::{AskFault, Asked, Attendance, Peers, Question},
};
use holdfast_link::{Call, CloudToDevice, Problem};
use holdfast_types::{Message, Name};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Edge, TestHub, device, name, until};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Other processes of which one attends to some devices.
struct Others {
    attended: Vec<Name>,
    asked: Mutex<Vec<(Name, Value)>>,
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
}

impl Others {
    fn new(attended: &[&str]) -> (Arc<Self>, mpsc::Sender<Question>) {
        let (ask, questions) = mpsc::channel(1);
        let attended = attended.iter().map(|one| name(one)).collect();
        let others = Self { attended, asked: Mutex::default(), questions: Mutex::new(Some(questions)) };
        (Arc::new(others), ask)
    }

    /// Whom this process has asked for, of questions of this kind.
    fn asked_for(&self, kind: &str) -> Vec<(Name, Value)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, question)| question["ask"] == kind).cloned().collect()
    }
}

impl Peers for Others {
    fn attend(&self, _device: &Name) -> Attendance {
        Attendance::new(CancellationToken::new().drop_guard())
    }

    fn ask(&self, device: &Name, body: Bytes, _within: Duration) -> Asked<'_> {
        self.asked.lock().unwrap().push((device.clone(), serde_json::from_slice(&body).unwrap()));
        let is_there = self.attended.contains(device);
        Box::pin(async move {
            let answer = json!({ "status": 200, "payload": "there" });
            if is_there { Ok(answer.to_string().into()) } else { Err(AskFault::Nobody) }
        })
    }

    fn questions(&self) -> Option<mpsc::Receiver<Question>> {
        self.questions.lock().unwrap().take()
    }
}

async fn among(others: &Arc<Others>, folder: &std::path::Path) -> TestHub {
    let embedded = |store: &holdfast_store::Store| {
        Arc::new(Embedded::open(store.clone(), EmbeddedConfig::default()).unwrap()) as _
    };
    TestHub::on(folder, embedded, Some(others.clone())).await
}

/// Asks this process as another one does.
async fn asked(ask: &mpsc::Sender<Question>, who: &str, question: &Value) -> Value {
    let (answer, answered) = oneshot::channel();
    ask.send(Question { device: name(who), body: question.to_string().into(), answer }).await.unwrap();
    serde_json::from_slice(&answered.await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_edge_that_moved_at_once_is_asked_for_again_and_let_go_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    // The servers do not know yet where it was.
    let (others, ask) = Others::new(&[]);
    let hub = among(&others, dir.path()).await;
    hub.put("edge-1", true, None).await;
    let (edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    until("it is asked for again", || (others.asked_for("yield").len() == 2).then_some(())).await;
    let (who, question) = others.asked_for("yield").remove(1);
    assert_eq!(who, name("edge-1"));
    // The question comes to whoever asks it, too, for the edge is linked there.
    assert_eq!(asked(&ask, "edge-1", &question).await, json!({}));
    assert!(!edge.over.is_cancelled());
    let (other, _) = Others::new(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let other_hub = among(&other, elsewhere.path()).await;
    other_hub.put("edge-1", true, None).await;
    drop(Edge::linked(&other_hub, "edge-1", 0).await);
    let (_, question) = other.asked_for("yield").remove(0);
    asked(&ask, "edge-1", &question).await;
    assert!(edge.over.is_cancelled(), "another process has it");
}

#[tokio::test]
async fn a_method_finds_a_device_with_a_parent_that_is_connected_to_another_process_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (others, _ask) = Others::new(&["press"]);
    let hub = among(&others, dir.path()).await;
    hub.put("edge-1", true, None).await;
    for child in ["press", "pump"] {
        hub.put(child, false, Some("edge-1")).await;
    }
    let times = holdfast_broker::MethodTimes::default();
    let answer = hub.hub.method(&device("press"), "reboot", Value::Null, times).await.unwrap();
    assert_eq!(answer, (200, json!("there")));
    // One that is nowhere is asked for where its edge may be linked, too.
    let away = hub.hub.method(&device("pump"), "reboot", Value::Null, times).await.unwrap_err();
    assert_eq!(away.status(), 404);
    let asked: Vec<Name> = others.asked_for("method").into_iter().map(|(who, _)| who).collect();
    assert_eq!(asked, [name("press"), name("pump"), name("edge-1")]);
}

#[tokio::test]
async fn a_device_that_comes_while_its_messages_are_handed_to_its_edge_gets_them() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    hub.put("press", false, Some("edge-1")).await;
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    hub.hub.send(&name("press"), &Message::new("hello"), None).await.unwrap();
    let (message, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!(message.target, device("press"));
    // It comes to the hub itself while the edge has not answered yet; the edge does not have it any longer.
    hub.hub.present(&device("press"), true);
    // Whoever comes with that has looked when this has its turn.
    tokio::task::yield_now().await;
    edge.answer(&packet, 503, &Problem::new("it is not here"));
    let gone = async || (hub.hub.pending(&name("press")).await.unwrap() == 0).then_some(());
    // Sooner than an edge is tried again, by which the message would come to it, too.
    let end = tokio::time::Instant::now() + Duration::from_secs(4);
    while gone().await.is_none() {
        assert!(tokio::time::Instant::now() < end, "the message waits for the next connection of the device");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
