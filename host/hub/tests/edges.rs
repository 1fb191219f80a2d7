//! Edges at the hub: their telemetry once and in order, what they fetch, what they are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod support;

use holdfast_hub::{StoredDeployment, Target, TwinPatch};
use holdfast_link::{
    Call, Change, CloudToDevice, Delta, DesiredChange, Done, Hello, MethodAnswer, MethodRequest, Page,
    PageContent, Part, ReportForm, ReportedVersion, Revision, SyncRequest, TwinReport, Welcome,
};
use holdfast_mqtt::{ReasonCode, server::Outcome};
use holdfast_types::{Message, Offset, Priority, Source, StableId};
use serde_json::json;
use support::{EPOCH, Edge, TestHub, device, name, until};

fn bodies(of: impl IntoIterator<Item = u64>) -> Vec<String> {
    of.into_iter().map(|n| format!("message {n}")).collect()
}

#[tokio::test]
async fn n4_what_comes_twice_is_stored_once_over_connections_and_a_restart_of_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", 0).await;
    assert!(welcome.marks.is_empty() && welcome.full_sync);
    edge.send(0..10);
    edge.send(5..12);
    assert!(edge.told(1 + 17).await[1..].iter().all(|told| *told == Outcome::Taken));
    assert_eq!(hub.bodies().await, bodies(0..12));
    // The edge was cut off before it heard of some, and sends them again on its next connection.
    edge.cut();
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", welcome.revision).await;
    assert_eq!((welcome.marks.len(), welcome.marks[0].sequence.0, welcome.full_sync), (1, 11, false));
    edge.send(8..15);
    edge.told(1 + 7).await;
    assert_eq!(hub.bodies().await, bodies(0..15));
    edge.cut();
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", welcome.revision).await;
    assert_eq!((welcome.marks[0].epoch, welcome.marks[0].sequence.0), (EPOCH, 14));
    edge.send(10..20);
    edge.told(1 + 10).await;
    assert_eq!(hub.bodies().await, bodies(0..20));
    let item = hub.hub.edges().await.unwrap().remove(0);
    assert_eq!((item.progress[0].gaps, item.progress[0].missing, item.linked), (0, 0, true));
}

#[tokio::test]
async fn n4_two_connections_of_one_edge_at_once_bring_each_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    let (mut old, _) = Edge::linked(&hub, "edge-1", 0).await;
    let (mut new, _) = Edge::linked(&hub, "edge-1", 0).await;
    assert!(old.over.is_cancelled(), "the newer one takes the place");
    for at in (0..300).step_by(30) {
        old.send(at..at + 30);
        new.send(at..at + 30);
    }
    new.told(1 + 300).await;
    old.told(1 + 300).await;
    assert_eq!(hub.bodies().await, bodies(0..300));
    assert_eq!(hub.hub.counts().duplicates, 300);
}

#[tokio::test]
async fn n4_a_gap_is_recorded_and_told_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    edge.send([0, 1, 5, 6, 9]);
    edge.told(1 + 5).await;
    assert_eq!(hub.bodies().await, bodies([0, 1, 5, 6, 9]));
    edge.cut();
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    let progress = hub.hub.edges().await.unwrap()[0].progress[0];
    assert_eq!((progress.mark.sequence.0, progress.gaps, progress.missing), (9, 2, 5));
    let gap = progress.last_gap.unwrap();
    assert_eq!((gap.from, gap.to), (7, 9));
}

#[tokio::test]
async fn what_an_edge_may_not_send_is_refused_and_leaves_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    hub.put("edge-2", true, None).await;
    hub.put("press", false, Some("edge-1")).await;
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    let press = Source::Child { child: name("press"), topic: None };
    edge.send_from(&press, [0]);
    assert_eq!(edge.told(2).await[1], Outcome::Taken);
    // O4: the child is given to another edge; what comes through the old one is refused from then on.
    hub.put("press", false, Some("edge-2")).await;
    let (_, packet) = edge.called::<Delta>(Call::Delta).await;
    edge.answer(&packet, 200, &Revision { revision: hub.hub.revision() });
    edge.send_from(&press, [1]);
    edge.send([2]);
    let told = edge.told(2 + 3).await;
    assert_eq!(&told[3..], [Outcome::Refused(ReasonCode::NotAuthorized), Outcome::Taken]);
    assert_eq!(hub.bodies().await, bodies([0, 2]));
    assert_eq!(hub.hub.edges().await.unwrap()[0].progress[0].missing, 0);
    // Nobody speaks in the name of another edge, nor before its hello.
    let mut silent = Edge::connect(&hub, "edge-2");
    silent.send([0]);
    assert_eq!(silent.told(1).await, [Outcome::Refused(ReasonCode::ServerBusy)]);
    assert!(hub.hub.edges().await.unwrap()[1].progress.is_empty());
}

async fn page(edge: &mut Edge, what: Part) -> Page {
    edge.call(Call::Sync, &SyncRequest { what, of: None, page: None }).await.unwrap()
}

#[tokio::test]
async fn o4_o5_an_edge_fetches_its_children_and_is_told_of_those_that_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    hub.put("edge-2", true, None).await;
    for child in 0..2000 {
        hub.put(&format!("child-{child:04}"), false, Some("edge-1")).await;
    }
    hub.put("child-0007/probe", false, None).await;
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", 0).await;
    assert!(welcome.full_sync);
    let (mut all, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = SyncRequest { what: Part::Identities, of: None, page: token };
        let page: Page = edge.call(Call::Sync, &request).await.unwrap();
        assert_eq!(page.revision, welcome.revision);
        let PageContent::Identities(records) = page.content else { panic!("{page:?}") };
        all.extend(records.iter().map(|record| record.identity.to_string()));
        pages += 1;
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert!(pages > 1, "it is more than fits on a page");
    let mut expected: Vec<String> = (0..2000).map(|child| format!("child-{child:04}")).collect();
    expected.insert(8, "child-0007/probe".to_owned());
    expected.push("edge-1".to_owned());
    assert_eq!(all, expected);

    // One goes to another edge: the first is told that it is gone. A change of others concerns it not.
    hub.put("edge-2/m", false, None).await;
    let revision = hub.put("child-0003", false, Some("edge-2")).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, delta.revision), (welcome.revision, revision));
    assert_eq!(delta.changes, [Change::Removed(device("child-0003"))]);
    edge.answer(&packet, 200, &Revision { revision });
    // It comes back with a module of its own.
    hub.put("child-0003/m", false, None).await;
    let again = hub.put("child-0003", false, Some("edge-1")).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!((delta.from, delta.revision), (revision, again));
    let who: Vec<String> = delta
        .changes
        .iter()
        .map(|change| match change {
            Change::Identity(record) => record.identity.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(who, ["child-0003", "child-0003/m"]);
    edge.answer(&packet, 200, &Revision { revision: again });
    // Who comes back with what it has fetches nothing; who missed something fetches all.
    edge.cut();
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", again).await;
    assert!(!welcome.full_sync);
    edge.cut();
    let removed = hub.hub.remove_device(&device("child-0100")).await.unwrap();
    let (_edge, welcome) = Edge::linked(&hub, "edge-1", again).await;
    assert!(welcome.full_sync && welcome.revision == removed);
}

#[tokio::test]
async fn o8_twins_are_merged_by_version_and_changes_reach_the_edge() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    hub.put("press", false, Some("edge-1")).await;
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    let report = |version, from, speed: u32| TwinReport {
        identity: device("press"),
        version,
        form: ReportForm::Patch { from, patch: json!({ "speed": speed }).as_object().unwrap().clone() },
    };
    let has = |answer: Result<ReportedVersion, _>| answer.unwrap().version;
    assert_eq!(has(edge.call(Call::TwinReport, &report(2, 1, 10)).await), 2);
    assert_eq!(has(edge.call(Call::TwinReport, &report(3, 2, 20)).await), 3);
    // The same again, and an older one, change nothing.
    assert_eq!(has(edge.call(Call::TwinReport, &report(2, 1, 10)).await), 3);
    assert_eq!(hub.hub.get_twin(&device("press")).await.unwrap().reported["speed"], 20);
    // A patch for another version is not merged; the whole document is.
    let missed: Result<ReportedVersion, _> = edge.call(Call::TwinReport, &report(9, 8, 30)).await;
    assert_eq!(missed.unwrap_err().0, 409);
    let whole = TwinReport {
        identity: device("press"),
        version: 9,
        form: ReportForm::Document(json!({ "on": true }).as_object().unwrap().clone()),
    };
    assert_eq!(has(edge.call(Call::TwinReport, &whole).await), 9);
    assert_eq!(
        serde_json::Value::from(hub.hub.get_twin(&device("press")).await.unwrap().reported),
        json!({ "on": true })
    );
    // Nobody reports for a device of another edge.
    hub.put("edge-2", true, None).await;
    hub.put("other", false, Some("edge-2")).await;
    let foreign = TwinReport { identity: device("other"), ..report(2, 1, 1) };
    let refused: Result<ReportedVersion, _> = edge.call(Call::TwinReport, &foreign).await;
    assert_eq!(refused.unwrap_err().0, 403);

    let patch = TwinPatch { desired: Some(json!({ "interval": 5 })), tags: None };
    let twin = hub.hub.patch_twin(&device("press"), patch).await.unwrap();
    let (change, packet) = edge.called::<DesiredChange>(Call::Desired).await;
    assert_eq!((change.identity, change.version), (device("press"), twin.desired_version));
    edge.answer(&packet, 200, &Revision { revision: change.version });
    let PageContent::Twins(twins) = page(&mut edge, Part::Twins).await.content else { panic!() };
    let press = twins.iter().find(|twin| twin.identity == device("press")).unwrap();
    assert_eq!((press.desired.version, press.reported.version), (2, 9));
}

#[tokio::test]
async fn methods_and_messages_go_through_the_parent_and_wait_for_it_where_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    hub.put("press", false, Some("edge-1")).await;
    let times = holdfast_broker::MethodTimes::default();
    let away = hub.hub.method(&device("press"), "reboot", json!({}), times).await.unwrap_err();
    assert_eq!(away.status(), 404);
    let id = hub.hub.send(&name("press"), &Message::new("hello"), None).await.unwrap();
    // The message outlives the hub.
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    assert_eq!(hub.hub.pending(&name("press")).await.unwrap(), 1);
    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    let (message, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!((&message.id, Message::from(message.message).body.as_ref()), (&id, b"hello".as_slice()));
    // An edge that does not know the child yet gets it again.
    edge.answer(&packet, 404, &holdfast_link::Problem::new("there is no such child"));
    let (again, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!(again.id, id);
    edge.answer(&packet, 200, &Done {});
    for _ in 0..1000 {
        if hub.hub.pending(&name("press")).await.unwrap() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(hub.hub.pending(&name("press")).await.unwrap(), 0);

    // One to the edge itself goes to it too.
    hub.hub.send(&name("edge-1"), &Message::new("to you"), None).await.unwrap();
    let (message, packet) = edge.called::<CloudToDevice>(Call::CloudToDevice).await;
    assert_eq!(message.target, device("edge-1"));
    edge.answer(&packet, 200, &Done {});

    let other = hub.hub.clone();
    let call =
        tokio::spawn(
            async move { other.method(&device("press"), "reboot", json!({ "in": 5 }), times).await },
        );
    let (request, packet) = edge.called::<MethodRequest>(Call::Method).await;
    assert_eq!((request.name.as_str(), &request.payload), ("reboot", &json!({ "in": 5 })));
    edge.answer(&packet, 200, &MethodAnswer { status: 202, payload: json!("soon") });
    assert_eq!(call.await.unwrap().unwrap(), (202, json!("soon")));
}

#[tokio::test]
async fn o11_a_deployment_reaches_the_edges_that_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    let manifest = |ttl: u32| {
        json!({ "modulesContent": { "$edgeAgent": { "properties.desired": {} }, "$edgeHub": { "properties.desired": {
            "storeAndForwardConfiguration": { "timeToLiveSecs": ttl } } } } })
    };
    let given = |id: &str, condition: &str, priority, ttl| StoredDeployment {
        id: id.to_owned(),
        target: Target::Condition(condition.to_owned()),
        priority,
        manifest: manifest(ttl),
        created_ms: 0,
        revision: 0,
    };
    hub.hub.put_deployment(given("base", "tags.site = 'north'", 1, 60)).await.unwrap();
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", 0).await;
    let PageContent::Deployment(None) = page(&mut edge, Part::Deployment).await.content else { panic!() };
    let tag = TwinPatch { desired: None, tags: Some(json!({ "site": "north" })) };
    hub.hub.patch_twin(&device("edge-1"), tag).await.unwrap();
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!(delta.from, welcome.revision);
    let [Change::Deployment(Some(first)), Change::Settings(settings)] = delta.changes.as_slice() else {
        panic!("{delta:?}")
    };
    assert_eq!((first.id.starts_with("base@"), settings.time_to_live_s), (true, Some(60)));
    edge.answer(&packet, 200, &Revision { revision: delta.revision });
    edge.cut();
    // While the edge is away a better one comes; it learns of it when it is back, also if the hub was restarted.
    hub.hub
        .put_deployment(given("special", "tags.site = 'north' AND deviceId = 'edge-1'", 2, 30))
        .await
        .unwrap();
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    let (mut edge, welcome) = Edge::linked(&hub, "edge-1", delta.revision).await;
    assert!(welcome.full_sync);
    let PageContent::Deployment(Some(second)) = page(&mut edge, Part::Deployment).await.content else {
        panic!()
    };
    assert!(second.id.starts_with("special@"));
    let PageContent::Settings(settings) = page(&mut edge, Part::Settings).await.content else { panic!() };
    assert_eq!(settings.time_to_live_s, Some(30));
    hub.hub.remove_deployment("special").await.unwrap();
    let (delta, _) = edge.called::<Delta>(Call::Delta).await;
    let Change::Deployment(Some(third)) = &delta.changes[0] else { panic!("{delta:?}") };
    assert_eq!(third.id, first.id);
    assert_eq!((hub.hub.edges_of("base"), hub.hub.edges_of("special")), (1, 0));
}

#[tokio::test]
async fn a_device_that_is_no_edge_gets_no_link_and_one_that_is_none_any_longer_loses_it() {
    use holdfast_gateway::Links;
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("pump", false, None).await;
    assert!(hub.hub.link(&name("pump")).is_err_and(|why| why.contains("no edge")));
    hub.put("edge-1", true, None).await;
    let (edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    hub.put("edge-1", false, None).await;
    until("the link ends", || edge.over.is_cancelled().then_some(())).await;
    let mut stranger = Edge::connect(&hub, {
        hub.put("edge-2", true, None).await;
        "edge-2"
    });
    let hello = Hello { protocol: 1, epoch: 1, held: Vec::new(), hub: None, revision: 0 };
    let welcome: Welcome = stranger.call(Call::Hello, &hello).await.unwrap();
    assert!(welcome.full_sync);
}

#[tokio::test]
async fn layers_go_on_the_base_that_they_outrank_and_the_higher_one_holds() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("edge-1", true, None).await;
    let tags = json!({ "site": "north" });
    let patch = TwinPatch { desired: None, tags: Some(tags) };
    hub.hub.patch_twin(&device("edge-1"), patch).await.unwrap();
    let put = |id: &str, priority, content: serde_json::Value| {
        let target = Target::Condition("tags.site = 'north'".to_owned());
        let manifest = json!({ "modulesContent": content });
        let given =
            StoredDeployment { id: id.into(), target, priority, manifest, created_ms: 0, revision: 0 };
        hub.hub.put_deployment(given)
    };
    let module = |image: &str| {
        json!({ "type": "docker", "status": "running", "restartPolicy": "always", "version": "1.0",
            "settings": { "image": image } })
    };
    let agent = json!({ "schemaVersion": "1.1", "runtime": { "type": "docker", "settings": {} },
        "systemModules": {}, "modules": { "sensor": module("r/sensor:1") } });
    let edge_hub = json!({ "schemaVersion": "1.1", "routes": { "up": "FROM /messages/* INTO $upstream" },
        "storeAndForwardConfiguration": { "timeToLiveSecs": 60 } });
    put(
        "base",
        10,
        json!({ "$edgeAgent": { "properties.desired": agent },
        "$edgeHub": { "properties.desired": edge_hub } }),
    )
    .await
    .unwrap();
    let below = json!({ "$edgeAgent": { "properties.desired.modules.never": module("r/never:1") } });
    put("below", 5, below).await.unwrap();
    let low = json!({ "$edgeAgent": { "properties.desired.modules.filter": module("r/filter:1") },
        "$edgeHub": { "properties.desired.routes.extra": "FROM /messages/modules/filter/* INTO $upstream",
            "properties.desired.storeAndForwardConfiguration.timeToLiveSecs": 70 } });
    put("low", 20, low).await.unwrap();
    put("high", 30, json!({ "$edgeAgent": { "properties.desired.modules.filter": module("r/filter:2") } }))
        .await
        .unwrap();

    let (mut edge, _) = Edge::linked(&hub, "edge-1", 0).await;
    let PageContent::Deployment(Some(sent)) = page(&mut edge, Part::Deployment).await.content else {
        panic!("nothing is assigned")
    };
    let names: Vec<&str> = sent.id.split('+').map(|id| id.split('@').next().unwrap()).collect();
    assert_eq!(names, ["base", "low", "high"], "{}", sent.id);
    let content = &sent.manifest["modulesContent"];
    let modules = &content["$edgeAgent"]["properties.desired"]["modules"];
    assert_eq!(modules["sensor"]["settings"]["image"], "r/sensor:1");
    assert_eq!(modules["filter"]["settings"]["image"], "r/filter:2", "the higher layer holds");
    assert!(modules["never"].is_null(), "a layer below the base is not on it");
    let routes = content["$edgeHub"]["properties.desired"]["routes"].as_object().unwrap();
    assert_eq!(routes.keys().collect::<Vec<_>>(), ["extra", "up"]);
    let PageContent::Settings(settings) = page(&mut edge, Part::Settings).await.content else { panic!() };
    assert_eq!(settings.time_to_live_s, Some(70), "of the layer");

    // A layer that goes is told, and what is none is refused.
    hub.hub.remove_deployment("high").await.unwrap();
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    let Change::Deployment(Some(sent)) = &delta.changes[0] else { panic!("{delta:?}") };
    let modules = &sent.manifest["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"];
    assert_eq!(modules["filter"]["settings"]["image"], "r/filter:1");
    edge.answer(&packet, 200, &Revision { revision: delta.revision });
    let error = put("bad", 40, json!({ "$edgeAgent": { "desired.modules": {} } })).await.unwrap_err();
    assert!(error.to_string().contains("properties.desired.a.b"), "{error}");
    // Layers that do not fit leave the base as it is.
    put("odd", 50, json!({ "$edgeHub": { "properties.desired.routes.extra": "FROM nowhere" } }))
        .await
        .unwrap();
    let (delta, _) = edge.called::<Delta>(Call::Delta).await;
    let Change::Deployment(Some(sent)) = &delta.changes[0] else { panic!("{delta:?}") };
    assert!(sent.id.starts_with("base@") && !sent.id.contains('+'), "{}", sent.id);
    // Whoever gave it, and whoever looks, is told so.
    let edges = hub.hub.edges().await.unwrap();
    let why = edges[0].layers_left_out.as_ref().unwrap();
    assert!(why.contains("odd") && why.contains("extra"), "{why}");
    for (of, count) in [(Some("odd"), 1), (Some("low"), 1), (Some("below"), 0), (None, 1)] {
        assert_eq!(hub.hub.left_out(of).len(), count, "{of:?}");
    }
    hub.hub.remove_deployment("odd").await.unwrap();
    assert!(hub.hub.left_out(None).is_empty());
}

#[tokio::test]
async fn g5_an_edge_is_told_of_all_that_is_behind_the_edges_below_it_and_may_speak_for_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    hub.put("upper", true, None).await;
    let (mut edge, _) = Edge::linked(&hub, "upper", 0).await;
    let told = |delta: &Delta| -> Vec<String> {
        let name = |change: &Change| match change {
            Change::Identity(record) => record.identity.to_string(),
            Change::Removed(who) => format!("-{who}"),
            Change::Below(assigned) => format!("below {}", assigned.edge),
            other => panic!("{other:?}"),
        };
        delta.changes.iter().map(name).collect()
    };
    // An edge that has devices already comes below this one: all of it is told.
    hub.put("lower", true, None).await;
    hub.put("press", false, Some("lower")).await;
    hub.put("press/probe", false, None).await;
    hub.put("lower", true, Some("upper")).await;
    let (delta, packet) = edge.called::<Delta>(Call::Delta).await;
    assert_eq!(told(&delta), ["lower", "press", "press/probe", "below lower"]);
    edge.answer(&packet, 200, &Revision { revision: delta.revision });
    // It connects to its parent, and nowhere else.
    {
        use holdfast_gateway::Links;
        assert!(hub.hub.link(&name("lower")).is_err_and(|why| why.contains("child of the edge upper")));
    }
    // What it brings of the lower edge keeps its identity; what is of nobody below it is refused.
    hub.put("stranger", false, None).await;
    let origin = |edge: &str, n| StableId {
        edge: name(edge),
        epoch: 7,
        priority: Priority::DEFAULT,
        sequence: Offset(n),
    };
    let module = Source::Module { module: name("mean"), output: None };
    edge.pass_on(0, &origin("lower", 40), &module);
    edge.pass_on(1, &origin("lower", 41), &Source::Child { child: name("press"), topic: None });
    edge.pass_on(2, &origin("stranger", 0), &module);
    edge.pass_on(3, &origin("lower", 42), &Source::Child { child: name("stranger"), topic: None });
    // The mark follows the edge that brings it: the same sequence of its own is a duplicate.
    edge.pass_on(1, &origin("lower", 41), &module);
    let fates = edge.told(2 + 5).await;
    assert_eq!(
        fates[2..],
        [
            Outcome::Taken,
            Outcome::Taken,
            Outcome::Refused(ReasonCode::NotAuthorized),
            Outcome::Refused(ReasonCode::NotAuthorized),
            Outcome::Taken
        ]
    );
    let ids: Vec<String> = hub.stream().await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["lower/0000000000000007/d/40", "lower/0000000000000007/d/41"]);
    // Depth is bounded, whoever moves.
    for (edge, parent) in [("e3", "lower"), ("e4", "e3"), ("e5", "e4")] {
        hub.put(edge, true, Some(parent)).await;
    }
    let too_deep = hub.hub.put_device(support::record("e6", true, Some("e5"))).await;
    assert!(too_deep.is_err_and(|why| why.to_string().contains("more than 5 edges")));
    hub.put("top", true, None).await;
    let too_high = hub.hub.put_device(support::record("upper", true, Some("top"))).await;
    assert!(too_high.is_err_and(|why| why.to_string().contains("more than 5 edges")));
}
