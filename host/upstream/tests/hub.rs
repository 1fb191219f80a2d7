//! The hub profile against a hub that does what the story says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests are free"
)]

mod support;

use bytes::Bytes;
use holdfast_auth::SharedKey;
use holdfast_broker::{DeploymentOrigin, MethodReply};
use holdfast_link::{
    ANSWER_TOPIC, Access, Call, Change, CloudToDevice, Delta, Deployment, DesiredChange, DesiredForm,
    Document, Done, EVENTS_TOPIC, Half, Hello, IdentityRecord, MethodAnswer, MethodRequest, PROTOCOL, Page,
    PageContent, Part, Problem, Proof, ReportForm, ReportedVersion, Revision, STATUS_PROPERTY, Secret,
    Settings, Status, SyncRequest, TwinGet, TwinRecord, TwinReport, Welcome, event,
};
use holdfast_mqtt::{Ack, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_types::{Identity, LogId, Message, Name, UnixMillis};
use holdfast_upstream::{Dialect, HubConfig, Identities, Keeper, Kept, Known, Sync, UpstreamConfig};
use serde_json::{Map, Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{
    Edge, config,
    scripted::{Scripted, Visitor, welcome},
    source, until,
};

/// Keeps in memory what a hub decides.
#[derive(Default)]
struct Notes(Mutex<(Vec<Sync>, Known)>);

impl Keeper for Notes {
    fn known(&self) -> Known {
        self.0.lock().unwrap().1.clone()
    }

    fn apply(&self, sync: Sync) -> Kept<'_, Vec<Identity>> {
        Box::pin(async move {
            let mut notes = self.0.lock().unwrap();
            notes.1 = sync.known.clone();
            let gone = match &sync.identities {
                Identities::All(_) => Vec::new(),
                Identities::Changes(changes) => changes.iter().filter_map(removed).collect(),
            };
            notes.0.push(sync);
            Ok(gone)
        })
    }
}

fn removed(change: &Change) -> Option<Identity> {
    match change {
        Change::Removed(who) => Some(who.clone()),
        _ => None,
    }
}

impl Notes {
    fn applied(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }

    fn last(&self) -> Sync {
        self.0.lock().unwrap().0.last().unwrap().clone()
    }
}

fn hub_config(port: u16, keeper: &Arc<Notes>) -> UpstreamConfig {
    let hub = HubConfig {
        hub: "hub.example".into(),
        key: Some(SharedKey::new(&[7; 32]).unwrap()),
        token_life: Duration::from_secs(3600),
        keeper: keeper.clone(),
    };
    UpstreamConfig { dialect: Dialect::Hub(hub), ..config(port, Version::V5) }
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn half(version: u64, value: Value) -> Half {
    Half { version, document: object(value) }
}

fn child(text: &str) -> IdentityRecord {
    IdentityRecord {
        identity: id(text),
        proof: Proof::Sas { primary: Secret("a2V5a2V5a2V5a2V5a2V5a2V5".into()), secondary: None },
        status: Access::Enabled,
        parent: Name::new("edge-1").ok(),
        generation: "g1".into(),
        edge: false,
    }
}

/// The hub's end: what it was asked, and how it answers.
struct Side {
    visitor: Visitor,
    calls: u64,
    ids: u16,
    events: Vec<event::Event>,
}

struct Asked {
    call: Call,
    body: Bytes,
    correlation: Bytes,
}

impl Asked {
    fn read<D: Document>(&self) -> D {
        D::decode(&self.body).unwrap()
    }
}

impl Side {
    async fn welcomed(broker: &Scripted) -> Self {
        Self { visitor: broker.welcomed(welcome()).await, calls: 0, ids: 0, events: Vec::new() }
    }

    /// The next PUBLISH that is no telemetry; all are acknowledged.
    async fn publish(&mut self) -> Publish {
        loop {
            if let Some(publish) = self.heard().await {
                return publish;
            }
        }
    }

    /// The next PUBLISH, acknowledged; none if it is telemetry, which is kept.
    async fn heard(&mut self) -> Option<Publish> {
        let publish = loop {
            match self.visitor.packet().await {
                Some(Packet::Publish(publish)) => break publish,
                Some(Packet::PubAck(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        self.visitor.answer(publish.packet_id.unwrap(), ReasonCode::Success).await;
        if &*publish.topic != EVENTS_TOPIC {
            return Some(publish);
        }
        let all = publish.properties.unwrap_or_default();
        let user = all.user_properties.iter().map(|(name, value)| (&**name, &**value));
        let (kind, correlation) = (all.content_type.as_deref(), all.correlation_data.as_deref());
        self.events.push(event::decode(publish.payload, kind, correlation, user).unwrap());
        None
    }

    async fn asked(&mut self) -> Asked {
        let publish = self.publish().await;
        let call = Call::of_topic(&publish.topic).unwrap_or_else(|| panic!("{publish:?}"));
        let properties = publish.properties.unwrap();
        assert_eq!(properties.response_topic.as_deref(), Some(ANSWER_TOPIC));
        Asked { call, body: publish.payload, correlation: properties.correlation_data.unwrap() }
    }

    /// Whether the edge has nothing to ask for a while.
    async fn asks_nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.publish()).await.is_err()
    }

    async fn expect<D: Document>(&mut self, call: Call) -> (D, Bytes) {
        let asked = self.asked().await;
        assert_eq!(asked.call, call);
        (asked.read(), asked.correlation)
    }

    async fn send(&mut self, topic: String, properties: PublishProperties, body: Bytes) {
        self.ids += 1;
        let mut publish = Publish::new(topic, body);
        publish.qos = QoS::AtLeastOnce;
        publish.packet_id = PacketId::new(self.ids);
        publish.properties = Some(Box::new(properties));
        self.visitor.send(Packet::Publish(publish)).await;
    }

    async fn answer(&mut self, to: Bytes, document: impl Document) {
        self.answer_with(to, Status::OK, document).await;
    }

    async fn answer_with(&mut self, to: Bytes, status: Status, document: impl Document) {
        let properties = PublishProperties {
            correlation_data: Some(to),
            user_properties: vec![(STATUS_PROPERTY.into(), status.to_string().into())],
            ..PublishProperties::default()
        };
        self.send(ANSWER_TOPIC.to_owned(), properties, document.encode().unwrap()).await;
    }

    /// Calls the edge; its own calls meanwhile come back with the answer.
    async fn call<A: Document>(
        &mut self,
        call: Call,
        document: &impl Document,
    ) -> Result<A, (Status, Problem)> {
        self.begin(call, document).await;
        self.answered().await
    }

    async fn begin(&mut self, call: Call, document: &impl Document) {
        self.calls += 1;
        let properties = PublishProperties {
            response_topic: Some(ANSWER_TOPIC.into()),
            correlation_data: Some(self.calls.to_string().into_bytes().into()),
            ..PublishProperties::default()
        };
        self.send(call.topic(), properties, document.encode().unwrap()).await;
    }

    async fn answered<A: Document>(&mut self) -> Result<A, (Status, Problem)> {
        let publish = self.publish().await;
        assert_eq!(&*publish.topic, ANSWER_TOPIC, "{publish:?}");
        let properties = publish.properties.unwrap();
        assert_eq!(properties.correlation_data.as_deref(), Some(self.calls.to_string().as_bytes()));
        let status = Status::parse(&properties.user_properties[0].1).unwrap();
        if status.is_success() {
            Ok(A::decode(&publish.payload).unwrap())
        } else {
            Err((status, Problem::decode(&publish.payload).unwrap()))
        }
    }

    /// Answers hello and the first sync.
    async fn synchronise(&mut self, revision: u64, identities: Vec<IdentityRecord>, twins: Vec<TwinRecord>) {
        let (_, to) = self.expect::<Hello>(Call::Hello).await;
        let (hub, marks) = ("hub-a".to_owned(), Vec::new());
        self.answer(to, Welcome { protocol: PROTOCOL, hub, revision, marks, full_sync: false }).await;
        self.pages(revision, identities, twins).await;
    }

    async fn pages(&mut self, revision: u64, identities: Vec<IdentityRecord>, twins: Vec<TwinRecord>) {
        for content in [
            PageContent::Twins(twins),
            PageContent::Identities(identities),
            PageContent::Settings(Settings { time_to_live_s: Some(60) }),
            PageContent::Deployment(None),
        ] {
            let (request, to) = self.expect::<SyncRequest>(Call::Sync).await;
            assert_eq!(request.what, content.part());
            self.answer(to, Page { revision, next: None, content }).await;
        }
    }
}

async fn start() -> (Edge, Scripted, Arc<Notes>, support::Link) {
    let (edge, broker, notes) = (Edge::new(), Scripted::new().await, Arc::<Notes>::default());
    let link = edge.link(hub_config(broker.port, &notes));
    (edge, broker, notes, link)
}

#[tokio::test]
async fn the_first_sync_brings_everything_and_is_applied_at_once() {
    let (edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    let connect = hub.visitor.connect.clone();
    assert_eq!(&*connect.client_id, "edge-1/$edgeHub");
    let user = connect.user_name.unwrap();
    assert_eq!(&*user, "hub.example/edge-1/$edgeHub/?api-version=2021-04-12&holdfast-link=1");
    let password = String::from_utf8(connect.password.unwrap().to_vec()).unwrap();
    assert!(
        password.starts_with(
            "SharedAccessSignature sr=hub.example%2Fdevices%2Fedge-1%2Fmodules%2F%24edgeHub&sig="
        )
    );
    assert!(connect.clean_start);

    let (hello, to) = hub.expect::<Hello>(Call::Hello).await;
    assert_eq!((hello.protocol, hello.epoch), (PROTOCOL, edge.store.epoch()));
    assert_eq!((hello.hub, hello.revision), (None, 0));
    let welcome = Welcome { protocol: 1, hub: "hub-a".into(), revision: 7, marks: vec![], full_sync: true };
    hub.answer(to, welcome).await;

    let twin = |name: &str, n: u64| TwinRecord {
        identity: id(name),
        desired: half(n, json!({"interval": n})),
        reported: Half::default(),
    };
    for (page, next) in [(None, Some("p2")), (Some("p2"), None)] {
        let (request, to) = hub.expect::<SyncRequest>(Call::Sync).await;
        assert_eq!((request.what, request.page.as_deref()), (Part::Twins, page));
        let content = PageContent::Twins(vec![twin(page.unwrap_or("press"), 5)]);
        hub.answer(to, Page { revision: 7, next: next.map(Into::into), content }).await;
    }
    for (page, next) in [(None, Some("x")), (Some("x"), None)] {
        let (request, to) = hub.expect::<SyncRequest>(Call::Sync).await;
        assert_eq!((request.what, request.page.as_deref()), (Part::Identities, page));
        let content = PageContent::Identities(vec![child(page.unwrap_or("press"))]);
        hub.answer(to, Page { revision: 7, next: next.map(Into::into), content }).await;
    }
    let (_, to) = hub.expect::<SyncRequest>(Call::Sync).await;
    let content = PageContent::Settings(Settings { time_to_live_s: Some(60) });
    hub.answer(to, Page { revision: 7, next: None, content }).await;
    assert_eq!(notes.applied(), 0, "not before all is there");
    let (_, to) = hub.expect::<SyncRequest>(Call::Sync).await;
    let manifest = json!({"modulesContent": {}});
    let content = PageContent::Deployment(Some(Deployment { id: "d1".into(), manifest: manifest.clone() }));
    hub.answer(to, Page { revision: 7, next: None, content }).await;

    until("it is applied", || notes.applied() == 1).await;
    let sync = notes.last();
    assert_eq!(sync.identities, Identities::All(vec![child("press"), child("x")]));
    assert_eq!(sync.settings, Some(Settings { time_to_live_s: Some(60) }));
    assert_eq!(sync.known, Known { hub: Some("hub-a".into()), revision: 7 });
    let press = edge.broker.twins().read(&id("press")).unwrap();
    assert_eq!((press.desired_version, Value::from(press.desired)), (5, json!({"interval": 5})));
    let (_, order) = edge.broker.deployments().next().await;
    assert_eq!((&*order.id, order.origin), ("d1", DeploymentOrigin::Hub));
    assert_eq!(serde_json::from_slice::<Value>(&order.manifest.unwrap()).unwrap(), manifest);
    link.stop().await;
}

#[tokio::test]
async fn telemetry_waits_for_no_sync_and_says_who_sent_it() {
    let (edge, broker, _, link) = start().await;
    edge.fill("meter", 0, 3).await;
    let mut hub = Side::welcomed(&broker).await;
    let (_, to) = hub.expect::<Hello>(Call::Hello).await;
    hub.answer(to, Welcome { protocol: 1, hub: "hub-a".into(), revision: 7, marks: vec![], full_sync: true })
        .await;
    // The pages of the sync that it asks for now are never answered.
    while hub.events.len() < 3 {
        hub.heard().await;
    }
    for (n, event) in hub.events.iter().enumerate() {
        assert_eq!(event.source, source("meter"));
        assert_eq!(event.message.body, n.to_string());
        let id = event.id.as_ref().unwrap();
        assert_eq!((id.epoch, id.sequence.0), (edge.store.epoch(), n as u64));
    }
    edge.drained().await;
    link.stop().await;
}

#[tokio::test]
async fn a_sync_that_is_cut_or_that_the_hub_changes_meanwhile_begins_anew() {
    let (_edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    let (_, to) = hub.expect::<Hello>(Call::Hello).await;
    let words = Welcome { protocol: 1, hub: "hub-a".into(), revision: 7, marks: vec![], full_sync: true };
    hub.answer(to, words.clone()).await;
    let (_, to) = hub.expect::<SyncRequest>(Call::Sync).await;
    hub.answer(to, Page { revision: 7, next: None, content: PageContent::Twins(vec![]) }).await;
    let _ = hub.expect::<SyncRequest>(Call::Sync).await;
    drop(hub);
    let mut hub = Side::welcomed(&broker).await;
    assert_eq!(notes.applied(), 0);
    let (hello, to) = hub.expect::<Hello>(Call::Hello).await;
    assert_eq!(hello.revision, 0);
    hub.answer(to, words.clone()).await;
    for (revision, content) in [
        (7, PageContent::Twins(vec![])),
        (7, PageContent::Identities(vec![])),
        (8, PageContent::Settings(Settings::default())),
        (8, PageContent::Deployment(None)),
    ] {
        let (_, to) = hub.expect::<SyncRequest>(Call::Sync).await;
        hub.answer(to, Page { revision, next: None, content }).await;
    }
    hub.synchronise(8, vec![child("press")], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;
    assert_eq!(notes.last().known.revision, 8);
    drop(hub);
    // What is known already is not fetched again.
    let mut hub = Side::welcomed(&broker).await;
    let (hello, to) = hub.expect::<Hello>(Call::Hello).await;
    assert_eq!((hello.hub.as_deref(), hello.revision), (Some("hub-a"), 8));
    hub.answer(to, Welcome { revision: 8, full_sync: false, ..words }).await;
    let (request, to) = hub.expect::<SyncRequest>(Call::Sync).await;
    assert_eq!(request.what, Part::Twins);
    hub.answer(to, Page { revision: 8, next: None, content: PageContent::Twins(vec![]) }).await;
    assert!(hub.asks_nothing().await);
    link.stop().await;
}

#[tokio::test]
async fn changes_are_applied_in_order_and_one_that_does_not_follow_fetches_everything() {
    let (edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;

    let added = Delta { from: 1, revision: 2, changes: vec![Change::Identity(child("press"))] };
    hub.begin(Call::Delta, &added).await;
    let (request, to) = hub.expect::<TwinGet>(Call::TwinGet).await;
    let desired = half(4, json!({"a": 1}));
    hub.answer(to, TwinRecord { identity: request.identity, desired, reported: Half::default() }).await;
    assert_eq!(hub.answered::<Revision>().await.unwrap(), Revision { revision: 2 });
    assert_eq!(notes.last().identities, Identities::Changes(added.changes.clone()));
    assert_eq!(edge.broker.twins().read(&id("press")).unwrap().desired_version, 4);
    let again = hub.call::<Revision>(Call::Delta, &added).await.unwrap();
    assert_eq!((again.revision, notes.applied()), (2, 2), "one that comes twice has no further effect");

    let gone = Delta { from: 2, revision: 3, changes: vec![Change::Removed(id("press"))] };
    assert_eq!(hub.call::<Revision>(Call::Delta, &gone).await.unwrap().revision, 3);
    assert_eq!(edge.broker.twins().read(&id("press")).unwrap().desired_version, 1, "its twin went with it");

    hub.begin(Call::Delta, &Delta { from: 8, revision: 9, changes: vec![] }).await;
    for content in [
        PageContent::Identities(vec![child("oven")]),
        PageContent::Settings(Settings::default()),
        PageContent::Deployment(None),
    ] {
        let (request, to) = hub.expect::<SyncRequest>(Call::Sync).await;
        assert_eq!(request.what, content.part());
        hub.answer(to, Page { revision: 9, next: None, content }).await;
    }
    assert_eq!(hub.answered::<Revision>().await.unwrap().revision, 9);
    assert_eq!(notes.last().identities, Identities::All(vec![child("oven")]));
    link.stop().await;
}

#[tokio::test]
async fn desired_changes_come_by_version_and_one_that_was_missed_fetches_the_twin() {
    let (edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![child("press")], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;
    let desire = |version: u64, value: Value| DesiredChange {
        identity: id("press"),
        version,
        form: DesiredForm::Patch(object(value)),
    };
    let twins = edge.broker.twins();
    let now = || {
        let twin = twins.read(&id("press")).unwrap();
        (twin.desired_version, Value::from(twin.desired))
    };
    let mut watch = twins.watch(&id("press"));
    assert_eq!(hub.call::<Revision>(Call::Desired, &desire(2, json!({"a": 1}))).await.unwrap().revision, 2);
    assert_eq!(watch.next().await.patch, json!({"a": 1}));
    assert_eq!(
        hub.call::<Revision>(Call::Desired, &desire(3, json!({"b": 2, "a": null}))).await.unwrap().revision,
        3
    );
    assert_eq!(now(), (3, json!({"b": 2})));
    let old = hub.call::<Revision>(Call::Desired, &desire(2, json!({"a": 9}))).await.unwrap();
    assert_eq!((old.revision, now()), (3, (3, json!({"b": 2}))), "an old change changes nothing");
    hub.begin(Call::Desired, &desire(6, json!({"z": 1}))).await;
    let (_, to) = hub.expect::<TwinGet>(Call::TwinGet).await;
    let desired = half(6, json!({"y": 0, "z": 1}));
    hub.answer(to, TwinRecord { identity: id("press"), desired, reported: Half::default() }).await;
    assert_eq!(hub.answered::<Revision>().await.unwrap().revision, 6);
    assert_eq!(now(), (6, json!({"y": 0, "z": 1})));
    let whole =
        DesiredChange { form: DesiredForm::Document(object(json!({"q": 1}))), ..desire(10, json!({})) };
    assert_eq!(hub.call::<Revision>(Call::Desired, &whole).await.unwrap().revision, 10);
    assert_eq!(now(), (10, json!({"q": 1})));
    let bad = hub.call::<Revision>(Call::Desired, &desire(11, json!({"a.b": 1}))).await.unwrap_err();
    assert_eq!(bad.0, Status::BAD);
    assert!(bad.1.error.contains("a.b"), "{}", bad.1.error);
    link.stop().await;
}

#[tokio::test]
async fn reports_made_offline_are_told_as_one_patch_and_only_once() {
    let (edge, broker, notes) = (Edge::new(), Scripted::new().await, Arc::<Notes>::default());
    let (twins, press) = (edge.broker.twins(), id("press"));
    for patch in [json!({"a": 1}), json!({"b": 2}), json!({"a": null, "c": {"d": 3}})] {
        twins.report(&press, patch).await.unwrap();
    }
    let link = edge.link(hub_config(broker.port, &notes));
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![child("press")], vec![]).await;
    let (_, to) = hub.expect::<TwinGet>(Call::TwinGet).await;
    let reported = half(1, json!({}));
    hub.answer(to, TwinRecord { identity: press.clone(), desired: Half::default(), reported }).await;
    let (report, to) = hub.expect::<TwinReport>(Call::TwinReport).await;
    let patch = object(json!({"b": 2, "c": {"d": 3}}));
    assert_eq!((report.version, &report.form), (4, &ReportForm::Patch { from: 1, patch }));
    hub.answer(to, ReportedVersion { version: 4 }).await;
    // From now on the hub's state is known: each change goes up without asking.
    until("the mark is recorded", || mark(&edge) == Some("4".to_owned())).await;
    twins.report(&press, json!({"b": 5})).await.unwrap();
    let (report, to) = hub.expect::<TwinReport>(Call::TwinReport).await;
    let patch = object(json!({"b": 5}));
    assert_eq!((report.version, &report.form), (5, &ReportForm::Patch { from: 4, patch }));
    // The hub has another state: it is asked, and what is here goes on top.
    hub.answer_with(to, Status::CONFLICT, Problem::new("it has version 6")).await;
    let (_, to) = hub.expect::<TwinGet>(Call::TwinGet).await;
    let reported = half(6, json!({"b": 7, "elsewhere": true}));
    hub.answer(
        to,
        TwinRecord { identity: press.clone(), desired: Half::default(), reported: reported.clone() },
    )
    .await;
    let (_, to) = hub.expect::<TwinGet>(Call::TwinGet).await;
    hub.answer(to, TwinRecord { identity: press.clone(), desired: Half::default(), reported }).await;
    let (report, to) = hub.expect::<TwinReport>(Call::TwinReport).await;
    let patch = object(json!({"b": 5, "c": {"d": 3}}));
    assert_eq!((report.version, &report.form), (7, &ReportForm::Patch { from: 6, patch }));
    hub.answer(to, ReportedVersion { version: 7 }).await;
    until("the mark is recorded", || mark(&edge) == Some("7".to_owned())).await;
    let twin = twins.read(&press).unwrap();
    assert_eq!(Value::from(twin.reported), json!({"b": 5, "c": {"d": 3}, "elsewhere": true}));
    drop(hub);
    // After a reconnect nothing is told that the hub has.
    let mut hub = Side::welcomed(&broker).await;
    let (_, to) = hub.expect::<Hello>(Call::Hello).await;
    let known = Welcome { protocol: 1, hub: "hub-a".into(), revision: 1, marks: vec![], full_sync: false };
    hub.answer(to, known).await;
    let (_, to) = hub.expect::<SyncRequest>(Call::Sync).await;
    hub.answer(to, Page { revision: 1, next: None, content: PageContent::Twins(vec![]) }).await;
    assert!(hub.asks_nothing().await);
    link.stop().await;
}

fn mark(edge: &Edge) -> Option<String> {
    let bytes = edge.broker.documents().value("link/reported", "press").unwrap()?;
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn methods_reach_their_target_and_say_why_not() {
    let (edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![child("press")], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;
    let request = |target: &str| MethodRequest {
        target: id(target),
        name: "reset".into(),
        payload: json!({"hard": true}),
        response_timeout_s: 30,
        connect_timeout_s: 0,
    };
    let mut server = edge.broker.methods().serve(&id("press"));
    let serve = tokio::spawn(async move {
        let call = server.next().await.unwrap();
        assert_eq!((&*call.name, &call.payload[..]), ("reset", &br#"{"hard":true}"#[..]));
        call.reply(MethodReply { status: 201, payload: Bytes::from_static(b"[1]") });
        server
    });
    let answer = hub.call::<MethodAnswer>(Call::Method, &request("press")).await.unwrap();
    assert_eq!(answer, MethodAnswer { status: 201, payload: json!([1]) });
    let server = serve.await.unwrap();
    drop(server);
    let (status, problem) = hub.call::<MethodAnswer>(Call::Method, &request("press")).await.unwrap_err();
    assert_eq!(status, Status::NOT_FOUND);
    assert!(problem.error.contains("press is not connected"), "{}", problem.error);
    link.stop().await;
}

#[tokio::test]
async fn a_message_to_a_child_is_recorded_once_however_often_the_hub_sends_it() {
    let (edge, broker, notes, link) = start().await;
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![child("press")], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;
    let message = |target: &str, n: u64| CloudToDevice {
        target: id(target),
        id: format!("m{n}"),
        expires: Some(UnixMillis(u64::MAX)),
        message: (&Message::new(n.to_string())).into(),
    };
    for n in [1, 2, 1, 2, 3, 1] {
        hub.call::<Done>(Call::CloudToDevice, &message("press", n)).await.unwrap();
    }
    let mut reader = edge.broker.reader(LogId::child(&Name::new("press").unwrap()));
    let bodies: Vec<_> =
        reader.next(10).await.unwrap().iter().map(|one| one.envelope.message.body.clone()).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    let refused = hub.call::<Done>(Call::CloudToDevice, &message("press/m", 9)).await.unwrap_err();
    assert_eq!(refused.0, Status::NOT_FOUND);
    link.stop().await;
}

#[tokio::test]
async fn a_message_to_the_edge_itself_enters_its_routes_once_however_often_the_hub_sends_it() {
    let (edge, broker, notes, link) = start().await;
    let orders = "FROM Topic(\"devices/+/messages/devicebound\") INTO BrokeredEndpoint(\"/modules/horn/inputs/orders\")";
    let orders = RouteDefinition::new("orders", orders);
    edge.broker.replace_routes(RouteTable::compile(vec![orders]).unwrap());
    let mut hub = Side::welcomed(&broker).await;
    hub.synchronise(1, vec![], vec![]).await;
    until("it is applied", || notes.applied() == 1).await;
    let message = |n: u64, expires: u64| CloudToDevice {
        target: id("edge-1"),
        id: format!("m{n}"),
        expires: Some(UnixMillis(expires)),
        message: (&Message::new(n.to_string())).into(),
    };
    for n in [1, 2, 1, 2, 3, 1] {
        hub.call::<Done>(Call::CloudToDevice, &message(n, u64::MAX)).await.unwrap();
    }
    let late = hub.call::<Done>(Call::CloudToDevice, &message(4, 1)).await.unwrap_err();
    assert_eq!(late.0, Status::BAD);
    let mut reader = edge.broker.reader(LogId::module(&Name::new("horn").unwrap()));
    let bodies: Vec<_> =
        reader.next(10).await.unwrap().iter().map(|one| one.envelope.message.body.clone()).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    assert_eq!(edge.waiting(), 0, "nothing of it goes up again");
    link.stop().await;
}

#[tokio::test]
async fn the_connection_is_made_anew_before_its_token_ends() {
    let (edge, broker, notes) = (Edge::new(), Scripted::new().await, Arc::<Notes>::default());
    let mut config = hub_config(broker.port, &notes);
    // The wait between attempts would show: a renewal has none.
    config.backoff.min = Duration::from_secs(3600);
    config.backoff.max = Duration::from_secs(3600);
    if let Dialect::Hub(hub) = &mut config.dialect {
        hub.token_life = Duration::from_secs(2);
    }
    let link = edge.link(config);
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let mut hub = Side::welcomed(&broker).await;
        passwords.push(hub.visitor.connect.password.clone().unwrap());
        while let Some(packet) = hub.visitor.packet().await {
            match packet {
                Packet::Publish(publish) => {
                    hub.visitor.send(Packet::PubAck(Ack::new(publish.packet_id.unwrap()))).await;
                }
                Packet::Disconnect(_) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_ne!(passwords[0], passwords[1]);
    link.stop().await;
}
