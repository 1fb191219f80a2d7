//! Several hub processes on one cluster: one fleet, whoever is asked and wherever an edge is linked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod nats;
#[path = "../../hub/tests/support/mod.rs"]
mod support;

use holdfast_hub::{StoredDeployment, Target, TwinPatch, backend::Backend, peers::Peers};
use holdfast_jetstream::{JetStream, JetStreamConfig};
use holdfast_link::{
    Call, Change, CloudToDevice, Delta, DesiredChange, Done, MethodAnswer, MethodRequest, Revision,
};
use holdfast_mqtt::server::Outcome;
use holdfast_types::Message;
use nats::Nats;
use serde_json::json;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Edge, TestHub, device, name, until};
use tokio_util::sync::CancellationToken;

/// A hub process: nothing of it is needed after it has gone.
async fn process(config: &JetStreamConfig, folder: &Path) -> (TestHub, Arc<JetStream>) {
    let backend = Arc::new(JetStream::open(config).await.unwrap());
    let peers = backend.peers();
    let shared: Arc<dyn Backend> = backend.clone();
    (TestHub::on(folder, |_| shared, Some(peers)).await, backend)
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_is_told_holds_at_the_others() {
    let nats = Nats::start(1);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, _) = process(&nats.config(), one.path()).await;
    let (there, _) = process(&nats.config(), two.path()).await;
    assert_eq!(here.hub.id(), there.hub.id(), "they are one hub");
    here.put("edge-1", true, None).await;
    until("the edge is known there", || there.hub.directory().get(&device("edge-1"))).await;
    // The edge is linked to one process; all is asked of the other.
    let (mut edge, welcome) = Edge::linked(&there, "edge-1", 0).await;
    let revision = here.put("press", false, Some("edge-1")).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, delta.revision), (welcome.revision, revision));
    assert!(matches!(&delta.changes[..], [Change::Identity(record)] if record.identity == device("press")));
    edge.answer(&packet, 200, &Revision { revision });

    let patch = TwinPatch { desired: Some(json!({ "interval": 5 })), tags: None };
    let twin = here.hub.patch_twin(&device("press"), patch).await.unwrap();
    let (change, packet) = edge.called::<DesiredChange>(Call::Desired).await;
    assert_eq!((change.identity, change.version), (device("press"), twin.desired_version));
    edge.answer(&packet, 200, &Revision { revision: change.version });

    let asked = here.hub.clone();
    let times = holdfast_broker::MethodTimes::default();
    let call = tokio::spawn(async move { asked.method(&device("press"), "reboot", json!(1), times).await });
    let (request, packet) = edge.called::<MethodRequest>(Call::Method).await;
    assert_eq!((request.name.as_str(), &request.payload), ("reboot", &json!(1)));
    edge.answer(&packet, 200, &MethodAnswer { status: 202, payload: json!("soon") });
    assert_eq!(call.await.unwrap().unwrap(), (202, json!("soon")));

    let id = here.hub.send(&name("press"), &Message::new("hello"), None).await.unwrap();
    let (message, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!(message.id, id);
    edge.answer(&packet, 200, &Done {});
    eventually("the message is removed everywhere", async || {
        (here.hub.pending(&name("press")).await.unwrap() == 0).then_some(())
    })
    .await;

    let manifest = json!({ "modulesContent": { "$edgeAgent": { "properties.desired": {} } } });
    let given = StoredDeployment {
        id: "base".to_owned(),
        target: Target::Condition("tags.site = 'north'".to_owned()),
        priority: 1,
        manifest,
        created_ms: 0,
        revision: 0,
    };
    there.hub.put_deployment(given).await.unwrap();
    eventually("the deployment is known here", async || here.hub.deployments().get("base")).await;
    let tag = TwinPatch { desired: None, tags: Some(json!({ "site": "north" })) };
    here.hub.patch_twin(&device("edge-1"), tag).await.unwrap();
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    let [Change::Deployment(Some(deployment)), _] = &delta.changes[..] else { panic!("{delta:?}") };
    assert!(deployment.id.starts_with("base@"));
    edge.answer(&packet, 200, &Revision { revision: delta.revision });

    // An edge that is none any longer is cut off wherever it is.
    here.put("press", false, None).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!(delta.changes, [Change::Removed(device("press"))]);
    edge.answer(&packet, 200, &Revision { revision: delta.revision });
    here.put("edge-1", false, None).await;
    until("the link ends", || edge.over.is_cancelled().then_some(())).await;
    let away = here.hub.method(&device("press"), "reboot", json!(1), times).await.unwrap_err();
    assert_eq!(away.status(), 404, "{away}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_an_edge_below_another_is_told_and_reached_through_another_process() {
    let nats = Nats::start(1);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, _) = process(&nats.config(), one.path()).await;
    let (there, _) = process(&nats.config(), two.path()).await;
    for (name, is_edge, parent) in
        [("upper", true, None), ("lower", true, None), ("press", false, Some("lower"))]
    {
        here.put(name, is_edge, parent).await;
    }
    until("all are known there", || there.hub.directory().get(&device("press"))).await;
    let (mut edge, welcome) = Edge::linked(&there, "upper", 0).await;
    let (lower, _) = Edge::linked(&there, "lower", 0).await;
    // An edge comes below another with what is behind it, and is to connect there from now on.
    let moved = here.put("lower", true, Some("upper")).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, delta.revision), (welcome.revision, moved));
    let told = |delta: &Delta| -> Vec<String> {
        let name = |change: &Change| match change {
            Change::Identity(record) => record.identity.to_string(),
            Change::Removed(who) => format!("-{who}"),
            Change::Below(assigned) => {
                let id =
                    assigned.deployment.as_ref().map_or("nothing", |one| one.id.split('@').next().unwrap());
                format!("{} runs {id}", assigned.edge)
            }
            other => panic!("{other:?}"),
        };
        delta.changes.iter().map(name).collect()
    };
    assert_eq!(told(&delta), ["lower", "press", "lower runs nothing"]);
    edge.answer(&packet, 200, &Revision { revision: moved });
    until("the link of the lower edge ends", || lower.over.is_cancelled().then_some(())).await;
    // What it should run is told to the one above it, upon the change before.
    let given = StoredDeployment {
        id: "base".to_owned(),
        target: Target::Device("lower".to_owned()),
        priority: 1,
        manifest: json!({ "modulesContent": { "$edgeAgent": { "properties.desired": {} } } }),
        created_ms: 0,
        revision: 0,
    };
    here.hub.put_deployment(given).await.unwrap();
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, told(&delta)), (moved, vec!["lower runs base".to_owned()]));
    let assigned = delta.revision;
    edge.answer(&packet, 200, &Revision { revision: assigned });
    // A method and a message find the device behind both edges.
    let (asked, times) = (here.hub.clone(), holdfast_broker::MethodTimes::default());
    let call = tokio::spawn(async move { asked.method(&device("press"), "reboot", json!(1), times).await });
    let (request, packet) = edge.called::<MethodRequest>(Call::Method).await;
    assert_eq!(request.target, device("press"));
    edge.answer(&packet, 200, &MethodAnswer { status: 200, payload: json!("done") });
    assert_eq!(call.await.unwrap().unwrap(), (200, json!("done")));
    let id = here.hub.send(&name("press"), &Message::new("hello"), None).await.unwrap();
    let (message, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!((message.target, message.id), (device("press"), id));
    edge.answer(&packet, 200, &Done {});
    // It goes with all that is behind it.
    here.put("lower", true, None).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, told(&delta)), (assigned, vec!["-press".to_owned(), "-lower".to_owned()]));
    edge.answer(&packet, 200, &Revision { revision: delta.revision });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_registry_at_two_processes_at_once_are_all_made_and_break_no_rule() {
    let nats = Nats::start(1);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hubs = [process(&nats.config(), one.path()).await.0, process(&nats.config(), two.path()).await.0];
    for hub in &hubs {
        hub.put("edge-a", true, None).await;
        hub.put("edge-b", true, None).await;
    }
    let mut writers = tokio::task::JoinSet::new();
    for (at, hub) in hubs.iter().enumerate() {
        let hub = hub.hub.clone();
        writers.spawn(async move {
            for n in 0..20 {
                hub.put_device(support::record(&format!("d-{at}-{n}"), false, Some("edge-a"))).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for hub in &hubs {
        let all = || (hub.hub.directory().registry().devices_len() == 42).then_some(());
        until("all devices are known at both", all).await;
    }
    // Each would be the parent of the other: one of the two is refused.
    let (first, second) = tokio::join!(
        hubs[0].hub.put_device(support::record("edge-a", true, Some("edge-b"))),
        hubs[1].hub.put_device(support::record("edge-b", true, Some("edge-a"))),
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n4_an_edge_that_moves_between_processes_has_each_message_stored_once() {
    let nats = Nats::start(1);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, _) = process(&nats.config(), one.path()).await;
    let (there, storage) = process(&nats.config(), two.path()).await;
    here.put("edge-1", true, None).await;
    until("the edge is known there", || there.hub.directory().get(&device("edge-1"))).await;
    let (mut old, _) = Edge::linked(&here, "edge-1", 0).await;
    // Once the servers know where the edge is, it is let go there.
    let asked = async || storage.peers().ask(&name("edge-1"), "{}".into(), Duration::from_secs(5)).await.ok();
    eventually("the first process answers for it", asked).await;
    old.send(0..50);
    // It comes to the other process while its messages are on their way, and sends them again.
    let (mut new, welcome) = Edge::linked(&there, "edge-1", 0).await;
    until("the first link ends", || old.over.is_cancelled().then_some(())).await;
    let stored = welcome.marks.first().map(|mark| mark.sequence.0);
    assert_eq!(stored, Some(49), "what the first process had on its way was stored before it let go");
    new.send(30..80);
    assert!(new.told(1 + 50).await.iter().all(|told| *told == Outcome::Taken));
    // What the first link still brings is not stored behind it.
    old.send(50..90);
    let late = old.told(1 + 50 + 40).await;
    assert!(late[51..].iter().all(|told| *told != Outcome::Taken), "{late:?}");
    new.send(80..90);
    assert!(new.told(1 + 60).await.iter().all(|told| *told == Outcome::Taken));
    // And back again, where old marks are still in memory.
    let (mut back, welcome) = Edge::linked(&here, "edge-1", 0).await;
    assert_eq!(welcome.marks[0].sequence.0, 89);
    back.send(85..100);
    assert!(back.told(1 + 15).await.iter().all(|told| *told == Outcome::Taken));
    let bodies: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    assert_eq!(there.bodies().await, bodies);
    assert_eq!(storage.counts().conflicts, 0, "nobody had to be refused but the one that was late");
}

/// The hubs that live.
type Hubs = Arc<Mutex<HashMap<usize, (Arc<TestHub>, CancellationToken)>>>;

/// Sends all messages of an edge, over whatever hub lives, until all of them are acknowledged.
async fn drive(hubs: Hubs, edge: String, at: usize, total: u64) {
    let (mut acknowledged, mut turn) = (0, at);
    while acknowledged < total {
        let found = {
            let hubs = hubs.lock().unwrap();
            let mut living: Vec<_> = hubs.iter().collect();
            living.sort_by_key(|(at, _)| **at);
            let (_, (hub, killed)) = living[turn % living.len()];
            (hub.clone(), killed.clone())
        };
        turn += 1;
        let (hub, killed) = found;
        let session = async {
            let (mut link, _) = Edge::linked(&hub, &edge, 0).await;
            let mut done = 1;
            while acknowledged < total {
                let upto = (acknowledged + 40).min(total);
                link.send(acknowledged..upto);
                let count = usize::try_from(upto - acknowledged).unwrap();
                let told = link.told_within(done + count, Duration::from_secs(90)).await;
                if told[done..].iter().any(|told| *told != Outcome::Taken) {
                    return;
                }
                (done, acknowledged) = (done + count, upto);
            }
        };
        tokio::select! {
            () = killed.cancelled() => {}
            () = session => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_three_servers_and_one_of_three_hubs_die_under_load_and_nothing_is_lost_or_doubled() {
    const EDGES: usize = 6;
    const MESSAGES: u64 = 6000;
    let mut nats = Nats::start(3);
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let hubs = Hubs::default();
    for (at, folder) in folders.iter().enumerate() {
        // Each prefers another server.
        let mut config = nats.config();
        config.servers.rotate_left(at);
        let (hub, _) = process(&config, folder.path()).await;
        hubs.lock().unwrap().insert(at, (Arc::new(hub), CancellationToken::new()));
    }
    let living = || hubs.lock().unwrap().values().map(|(hub, _)| hub.clone()).collect::<Vec<_>>();
    for edge in 0..EDGES {
        living()[0].put(&format!("edge-{edge}"), true, None).await;
    }
    for hub in living() {
        until("every edge is known", || {
            (hub.hub.directory().registry().devices_len() == EDGES).then_some(())
        })
        .await;
    }
    let mut edges = tokio::task::JoinSet::new();
    for edge in 0..EDGES {
        edges.spawn(drive(hubs.clone(), format!("edge-{edge}"), edge, MESSAGES));
    }
    let watched = living().pop().unwrap();
    let stored = async |count: usize| {
        let what = format!("{count} messages are stored");
        eventually(&what, async || {
            let edges = watched.hub.edges().await.unwrap_or_default();
            let sum: u64 =
                edges.iter().flat_map(|one| &one.progress).map(|one| one.mark.sequence.0 + 1).sum();
            (sum >= count as u64).then_some(())
        })
        .await;
    };
    let whole = EDGES * usize::try_from(MESSAGES).unwrap();
    stored(whole / 5).await;
    nats.kill(0);
    stored(2 * whole / 5).await;
    // A hub dies with what it has under way; its edges go to the others.
    let dead = {
        let mut hubs = hubs.lock().unwrap();
        let at = *hubs.iter().find(|(_, (hub, _))| !Arc::ptr_eq(hub, &watched)).unwrap().0;
        hubs.remove(&at).unwrap()
    };
    dead.1.cancel();
    drop(dead);
    stored(3 * whole / 5).await;
    nats.start_one(0);
    edges.join_all().await;
    let mut found: HashMap<String, Vec<u64>> = HashMap::new();
    for (id, body) in watched.stream().await {
        let edge = id.split('/').next().unwrap().to_owned();
        found.entry(edge).or_default().push(body.strip_prefix("message ").unwrap().parse().unwrap());
    }
    assert_eq!(found.len(), EDGES);
    for (edge, sequences) in found {
        assert_eq!(sequences, (0..MESSAGES).collect::<Vec<_>>(), "{edge}: each once, in order");
    }
    for edge in watched.hub.edges().await.unwrap() {
        assert_eq!((edge.progress[0].missing, edge.progress[0].gaps), (0, 0), "{}", edge.edge);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_servers_are_away_nothing_is_acknowledged_and_all_goes_on_when_they_are_back() {
    let mut nats = Nats::start(1);
    let folder = tempfile::tempdir().unwrap();
    let (hub, storage) = process(&nats.config(), folder.path()).await;
    hub.put("edge-1", true, None).await;
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    edge.send(0..10);
    edge.told(1 + 10).await;
    nats.kill(0);
    until("the hub says so", || storage.fault()).await;
    edge.send(10..20);
    assert_eq!(edge.fates(), 11, "what is not stored is not acknowledged");
    nats.start_one(0);
    let told = edge.told(1 + 20).await;
    assert!(told.iter().all(|told| *told == Outcome::Taken), "{told:?}");
    until("the hub says so", || storage.fault().is_none().then_some(())).await;
    let bodies: Vec<String> = (0..20).map(|n| format!("message {n}")).collect();
    assert_eq!(hub.bodies().await, bodies);
    hub.put("edge-2", true, None).await;
}
