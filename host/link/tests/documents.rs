//! Every document comes back as it was sent, and junk is answered with what is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

use bytes::Bytes;
use holdfast_link::*;
use holdfast_types::{
    Identity, Message, Name, Offset, Priority, Properties, Source, StableId, SystemKey, SystemProperties,
    Topic, UnixMillis,
};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9:._%$'@=-]{1,16}".prop_map(|text| Name::new(&text).unwrap())
}

fn identity() -> impl Strategy<Value = Identity> {
    (name(), option::of(name())).prop_map(|(device, module)| Identity { device, module })
}

fn priority() -> impl Strategy<Value = Priority> {
    (0_u8..=10).prop_map(|level| Priority::new(level).unwrap())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), object_of(inner).prop_map(Value::Object)]
    })
}

fn object_of(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    vec((any::<String>(), values), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    object_of(json_value())
}

fn half() -> impl Strategy<Value = Half> {
    (any::<u64>(), object()).prop_map(|(version, document)| Half { version, document })
}

fn identity_record() -> impl Strategy<Value = IdentityRecord> {
    let secret = || any::<String>().prop_map(Secret);
    let proof = prop_oneof![
        (secret(), option::of(secret())).prop_map(|(primary, secondary)| Proof::Sas { primary, secondary }),
        (any::<String>(), option::of(any::<String>()))
            .prop_map(|(primary, secondary)| Proof::SelfSigned { primary, secondary }),
        Just(Proof::CertificateAuthority),
        Just(Proof::None),
    ];
    let status = prop_oneof![Just(Access::Enabled), Just(Access::Disabled)];
    (identity(), proof, status, option::of(name()), any::<String>(), any::<bool>()).prop_map(
        |(identity, proof, status, parent, generation, edge)| IdentityRecord {
            identity,
            proof,
            status,
            parent,
            generation,
            edge,
        },
    )
}

fn twin_record() -> impl Strategy<Value = TwinRecord> {
    (identity(), half(), half()).prop_map(|(identity, desired, reported)| TwinRecord {
        identity,
        desired,
        reported,
    })
}

fn deployment() -> impl Strategy<Value = Option<Deployment>> {
    option::of((any::<String>(), json_value()).prop_map(|(id, manifest)| Deployment { id, manifest }))
}

fn settings() -> impl Strategy<Value = Settings> {
    option::of(any::<u32>()).prop_map(|time_to_live_s| Settings { time_to_live_s })
}

fn page() -> impl Strategy<Value = Page> {
    let content = prop_oneof![
        vec(identity_record(), 0..4).prop_map(PageContent::Identities),
        vec(twin_record(), 0..3).prop_map(PageContent::Twins),
        deployment().prop_map(PageContent::Deployment),
        settings().prop_map(PageContent::Settings),
    ];
    (any::<u64>(), option::of("\\PC{0,32}"), content).prop_map(|(revision, next, content)| Page {
        revision,
        next,
        content,
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        identity_record().prop_map(Change::Identity),
        identity().prop_map(Change::Removed),
        deployment().prop_map(Change::Deployment),
        settings().prop_map(Change::Settings),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let properties = vec((any::<String>(), any::<String>()), 0..6);
    let system = vec((0..SystemKey::ALL.len(), any::<String>()), 0..6);
    let created = option::of(any::<u64>().prop_map(UnixMillis));
    (vec(any::<u8>(), 0..40), properties, system, created).prop_map(|(body, properties, system, created)| {
        Message {
            body: body.into(),
            properties: properties
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect::<Properties>(),
            system: {
                let mut all = SystemProperties::new();
                all.creation_time = created;
                // Where a message was made has a property of its own, which only edges set.
                let given = system.iter().filter(|(key, _)| SystemKey::ALL[*key] != SystemKey::Origin);
                given.for_each(|(key, value)| all.set(SystemKey::ALL[*key], value));
                all
            },
        }
    })
}

fn source() -> impl Strategy<Value = Source> {
    let topic = "[^+#\0]{1,12}".prop_map(|text| Topic::new(&text).unwrap());
    prop_oneof![
        (name(), option::of(name())).prop_map(|(module, output)| Source::Module { module, output }),
        (name(), option::of(topic)).prop_map(|(child, topic)| Source::Child { child, topic }),
        (name(), option::of(name())).prop_map(|(device, module)| Source::TwinChange { device, module }),
    ]
}

fn stable_id() -> impl Strategy<Value = StableId> {
    (name(), any::<u64>(), priority(), any::<u64>()).prop_map(|(edge, epoch, priority, sequence)| StableId {
        edge,
        epoch,
        priority,
        sequence: Offset(sequence),
    })
}

/// Encoding and decoding gives the same value; so does decoding with a field that a newer side has added.
fn comes_back<D: Document + PartialEq + std::fmt::Debug>(document: D) {
    let bytes = document.encode().unwrap();
    assert_eq!(D::decode(&bytes).unwrap(), document);
    let mut newer: Value = serde_json::from_slice(&bytes).unwrap();
    newer["added-later"] = json!({ "x": 1 });
    assert_eq!(D::decode(newer.to_string().as_bytes()).unwrap(), document);
    newer["v"] = json!(2);
    assert!(matches!(
        D::decode(newer.to_string().as_bytes()),
        Err(DocumentFault::OtherVersion { found: 2, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn first_words_come_back(
        numbers in any::<(u32, u64, u64, bool)>(), hub in any::<String>(), known in option::of(any::<String>()),
        held in vec((priority(), any::<u64>(), any::<u64>()), 0..4),
    ) {
        let (protocol, epoch, revision, full_sync) = numbers;
        let marks = held.iter().map(|(priority, n, _)| Mark { epoch, priority: *priority, sequence: Offset(*n) });
        let marks = marks.collect();
        comes_back(Welcome { protocol, hub, revision, marks, full_sync });
        let held = held.into_iter().map(|(priority, next, tail)| Held { priority, next: Offset(next), tail: Offset(tail) });
        comes_back(Hello { protocol, epoch, held: held.collect(), hub: known, revision });
    }

    #[test]
    fn what_a_concierge_says_comes_back(active in any::<String>(), times in any::<(u64, u64)>(), signature in any::<String>()) {
        let statement = ActiveHub { active, issued_ms: times.0, expires_ms: times.1 };
        let text = String::from_utf8(statement.encode().unwrap().to_vec()).unwrap();
        comes_back(statement);
        comes_back(ConciergeAnswer { statement: text, signature });
    }

    #[test]
    fn pages_and_deltas_come_back(
        page in page(), from in any::<u64>(), revision in any::<u64>(), changes in vec(change(), 0..4),
    ) {
        comes_back(SyncRequest { what: page.content.part(), of: None, page: page.next.clone() });
        comes_back(page);
        comes_back(Delta { from, revision, changes });
        comes_back(Revision { revision });
    }

    #[test]
    fn twins_come_back(
        twin in twin_record(), version in any::<u64>(), from in any::<u64>(),
    ) {
        let (identity, patch) = (twin.identity.clone(), twin.desired.document.clone());
        comes_back(TwinGet { identity: identity.clone() });
        let form = ReportForm::Patch { from, patch: patch.clone() };
        comes_back(TwinReport { identity: identity.clone(), version, form });
        let form = ReportForm::Document(patch.clone());
        comes_back(TwinReport { identity: identity.clone(), version, form });
        let form = DesiredForm::Patch(patch.clone());
        comes_back(DesiredChange { identity: identity.clone(), version, form });
        comes_back(DesiredChange { identity, version, form: DesiredForm::Document(patch) });
        comes_back(ReportedVersion { version });
        comes_back(twin);
    }

    #[test]
    fn methods_and_messages_come_back(
        target in identity(), text in any::<String>(), payload in json_value(), times in any::<(u32, u32)>(),
        status in any::<i32>(), message in message(), id in "\\PC{1,60}", at in any::<u64>(),
    ) {
        let (response_timeout_s, connect_timeout_s) = times;
        let children = vec![ChildState { identity: target.clone(), connected: status > 0, since: UnixMillis(at) }];
        comes_back(ChildStates { children });
        comes_back(MethodRequest {
            target: target.clone(), name: text.clone(), payload: payload.clone(), response_timeout_s, connect_timeout_s,
        });
        comes_back(MethodAnswer { status, payload });
        let wire = WireMessage::from(&message);
        prop_assert_eq!(&Message::from(wire.clone()), &message);
        comes_back(CloudToDevice { target, id, expires: Some(UnixMillis(at)), message: wire });
        comes_back(Problem { error: text.clone(), version: Some(at) });
        comes_back(DeploymentReport {
            edge: Some(Name::new("edge-2").unwrap()),
            deployment: text.clone(),
            state: DeploymentState::RolledBack,
            reason: Some(text.clone()),
            modules: vec![ModuleReport { name: text.clone(), state: text, reason: None }],
        });
        comes_back(Done {});
    }

    #[test]
    fn events_come_back(id in option::of(stable_id()), source in source(), message in message()) {
        let fields = event::encode(id.as_ref(), &source, &message);
        for (name, value) in &fields.user {
            prop_assert!(!name.contains('\0') && !value.contains('\0'), "{} {}", name, value);
        }
        let user = fields.user.iter().map(|(name, value)| (&**name, &**value));
        let read = event::decode(
            message.body.clone(), fields.content_type.as_deref(), fields.correlation.as_deref(), user,
        );
        let Event { id: read_id, source: read_source, message: read_message, origin } = read.unwrap();
        assert_eq!(origin, None);
        prop_assert_eq!((read_id, read_source), (id, source));
        prop_assert_eq!(&read_message.body, &message.body);
        prop_assert_eq!(&read_message.properties, &message.properties);
        prop_assert_eq!(read_message.system.creation_time, message.system.creation_time);
        for key in SystemKey::ALL {
            prop_assert_eq!(read_message.system.value(*key), message.system.value(*key));
        }
    }

    #[test]
    fn junk_is_answered_and_never_panics(
        bytes in vec(any::<u8>(), 0..200), text in any::<String>(), value in json_value(),
        user in vec((prop_oneof![
            Just("holdfast-id".to_owned()), Just("holdfast-source".to_owned()), Just("holdfast-created".to_owned()),
            any::<String>(),
        ], any::<String>()), 0..6),
    ) {
        let mut versioned = value.clone();
        if let Value::Object(object) = &mut versioned {
            object.insert("v".to_owned(), json!(1));
        }
        for junk in [&bytes[..], text.as_bytes(), value.to_string().as_bytes(), versioned.to_string().as_bytes()] {
            let _ = (Hello::decode(junk).is_ok(), Welcome::decode(junk).is_ok(), Page::decode(junk).is_ok());
            let _ = (Delta::decode(junk).is_ok(), TwinReport::decode(junk).is_ok(), TwinRecord::decode(junk).is_ok());
            let _ = (DesiredChange::decode(junk).is_ok(), MethodRequest::decode(junk).is_ok());
            let _ = (CloudToDevice::decode(junk).is_ok(), DeploymentReport::decode(junk).is_ok());
        }
        let _ = (link_version(&text), Call::of_topic(&text), Status::parse(&text), event::parse_id(&text));
        let pairs = user.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let _ = event::decode(bytes.clone().into(), Some(&text), Some(&bytes), pairs);
    }
}

#[test]
fn calls_are_found_by_their_topics() {
    for &call in Call::ALL {
        assert_eq!(Call::of_topic(&call.topic()), Some(call));
    }
    assert_eq!(Call::Hello.topic(), "$holdfast/1/call/hello");
    for other in ["", "$holdfast/1/call/", "$holdfast/1/call/x", "hello", ANSWER_TOPIC, EVENTS_TOPIC] {
        assert_eq!(Call::of_topic(other), None, "{other}");
    }
    assert_eq!(Status::parse("409"), Some(Status::CONFLICT));
    assert_eq!((Status::parse("99"), Status::parse("x"), Status::parse("70000")), (None, None, None));
}

#[test]
fn what_is_larger_than_may_be_is_refused_at_both_ends() {
    let manifest = Value::from("x".repeat(BODY_BYTES_MAX));
    let content = PageContent::Deployment(Some(Deployment { id: "1".into(), manifest }));
    let page = Page { revision: 1, next: None, content };
    assert!(matches!(page.encode(), Err(DocumentFault::TooLarge { bytes, .. }) if bytes > BODY_BYTES_MAX));
    let fault = Page::decode(&vec![b' '; BODY_BYTES_MAX + 1]).unwrap_err();
    assert!(fault.to_string().contains("at most 262144"), "{fault}");
    let token = SyncRequest { what: Part::Twins, of: None, page: Some("t".repeat(PAGE_TOKEN_BYTES_MAX + 1)) };
    assert!(matches!(token.encode(), Err(DocumentFault::Unwritable { .. })));
}

#[test]
fn what_is_wrong_is_said() {
    for (json, words) in [
        ("", "EOF"),
        ("[]", "invalid length"),
        ("{}", "missing field `v`"),
        (r#"{"v":1}"#, "missing field `identity`"),
        (r#"{"v":1,"identity":"a b"}"#, "no device or device/module"),
        (r#"{"v":1,"identity":"a/b/c"}"#, "no device or device/module"),
    ] {
        let fault = TwinGet::decode(json.as_bytes()).unwrap_err();
        assert!(
            fault.to_string().contains(words) && fault.to_string().contains("twin request"),
            "{json}: {fault}"
        );
    }
    let deep = format!(
        r#"{{"v":1,"identity":"a","version":1,"document":{}1{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(TwinReport::decode(deep.as_bytes()).is_err());
}

#[test]
fn lists_are_cut_into_pages_that_fit() {
    let half = Half {
        version: 7,
        document: [("k".to_owned(), Value::from("x".repeat(30_000)))].into_iter().collect(),
    };
    let twin = |n: usize| TwinRecord {
        identity: Identity::parse(&format!("child-{n}")).unwrap(),
        desired: half.clone(),
        reported: half.clone(),
    };
    let mut left: Vec<TwinRecord> = (0..10).map(twin).collect();
    let mut seen = Vec::new();
    while !left.is_empty() {
        let mut rest = left.into_iter();
        let (page, first) = take_page(rest.by_ref());
        left = first.into_iter().chain(rest).collect();
        seen.extend(page.iter().map(|twin| twin.identity.clone()));
        let page = Page { revision: 1, next: None, content: PageContent::Twins(page) };
        page.encode().unwrap();
    }
    assert_eq!(seen, (0..10).map(|n| twin(n).identity).collect::<Vec<_>>());
}

#[test]
fn an_event_without_source_or_with_two_of_a_kind_is_refused() {
    let decode =
        |user: &[(&'static str, &'static str)]| event::decode(Bytes::new(), None, None, user.iter().copied());
    assert_eq!(decode(&[]), Err(EventFault::NoSource));
    assert_eq!(
        decode(&[("holdfast-source", "c/a"), ("holdfast-source", "c/b")]),
        Err(EventFault::Twice("holdfast-source"))
    );
    for (name, value) in [
        ("holdfast-id", "edge/ff/d/1"),
        ("holdfast-id", "edge/00000000000000ff/10/1"),
        ("holdfast-id", "edge/00000000000000ff/d/+1"),
        ("holdfast-id", "edge/00000000000000ff/d/1/2"),
        ("holdfast-source", "press"),
        ("holdfast-source", "m/a/b/c"),
        ("holdfast-source", "c/a/t/+"),
        ("holdfast-created", "yesterday"),
    ] {
        assert!(
            matches!(decode(&[("holdfast-source", "c/a"), (name, value)]), Err(EventFault::Property { .. })),
            "{value}"
        );
    }
    let spoof = decode(&[("holdfast-source", "c/a"), ("%68oldfast-id", "x"), ("Holdfast-Id", "y")]).unwrap();
    assert_eq!(spoof.message.properties.iter().collect::<Vec<_>>(), [("holdfast-id", "x")]);
    assert_eq!(spoof.id, None);
}

#[test]
fn no_key_shows_in_debug_output() {
    let record = Proof::Sas { primary: Secret("c2VjcmV0".into()), secondary: None };
    assert!(!format!("{record:?}").contains("c2VjcmV0"));
}
