//! Devices prove themselves with tokens and certificates, and the registry changes while it is asked. The tokens in the
//! table were made with Python's `hmac` and `base64`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use holdfast_auth::{sas, *};
use holdfast_types::{Identity, Name, Topic, TopicFilter, UnixMillis};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use std::sync::{Arc, LazyLock, Mutex};

/// For many questions that change nothing.
static REGISTRY: LazyLock<Registry> = LazyLock::new(registry);

const SECONDARY: &[u8] = b"secondary key of the press, 1234";
const SE: u64 = 2_000_000_000;

fn primary() -> SharedKey {
    SharedKey::new(&std::array::from_fn::<u8, 32, _>(|n| n as u8)).unwrap()
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn device(text: &str, credential: Credential) -> Device {
    Device {
        identity: id(text),
        credential,
        status: DeviceStatus::Enabled,
        parent: None,
        generation: "g1".into(),
        edge: false,
        added: UnixMillis(1),
    }
}

fn keys(primary: SharedKey, secondary: Option<&[u8]>) -> Credential {
    Credential::SharedKey { primary, secondary: secondary.map(|key| SharedKey::new(key).unwrap()) }
}

/// `press` has two keys and a module `$filter` with one; `oven` has another key.
fn registry() -> Registry {
    with_authorities(TrustBundle::default())
}

fn with_authorities(authorities: TrustBundle) -> Registry {
    let filter = |text: &str| TopicFilter::new(text).unwrap();
    let rules = DeviceRules {
        hosts: vec!["hub.example.net".into(), "edge-1".into()],
        authorities,
        grants: Grants {
            publish: vec![filter("d/{device}/#")],
            subscribe: vec![filter("c/{device}")],
            ..Grants::default()
        },
        ..DeviceRules::default()
    };
    let users = [(Name::new("user").unwrap(), Password::Plain(b"x".to_vec()), Grants::default())];
    let registry =
        Registry::new(users, [1; 32]).unwrap_or_else(|faults| panic!("{faults:?}")).with_rules(rules);
    registry.add(device("press", keys(primary(), Some(SECONDARY)))).unwrap();
    registry.add(device("press/$filter", keys(SharedKey::new(SECONDARY).unwrap(), None))).unwrap();
    registry.add(device("oven", keys(SharedKey::new(&[9; 16]).unwrap(), None))).unwrap();
    registry
}

fn who(registry: &Registry, identity: &str, password: &[u8], now_s: u64) -> Result<Proved, DeviceNotProved> {
    let identity = id(identity);
    registry.who_device(&Claim {
        identity: &identity,
        password: Some(password),
        certificates: &[],
        now: UnixMillis(now_s * 1000),
    })
}

#[test]
fn tokens_of_an_independent_implementation_are_taken() {
    let registry = registry();
    for (case, identity, token) in [
        (
            "primary key",
            "press",
            "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fpress&sig=YdEGXMawtwsFaTwMNFGIeD3fNv%2Ff61C4f5MvsJ%2FKwPI%3D&se=2000000000",
        ),
        (
            "secondary key, small escapes, other case",
            "press",
            "SharedAccessSignature sr=HUB.example.net%2fdevices%2fPress&sig=BlUa9cK%2FyksR3zmqk2zyjrrOhplaktHHYTrPgNjRvPo%3D&se=2000000000",
        ),
        (
            "another order, an empty policy",
            "press",
            "SharedAccessSignature se=2000000000&skn=&sig=YdEGXMawtwsFaTwMNFGIeD3fNv%2Ff61C4f5MvsJ%2FKwPI%3D&sr=hub.example.net%2Fdevices%2Fpress",
        ),
        (
            "nothing encoded",
            "press",
            "SharedAccessSignature sr=hub.example.net/devices/press&sig=b2JODu4g/1olCfYkG7v8F/qbbbT0ZFmSWFSbKvPd420=&se=2000000000",
        ),
        (
            "a module's own key",
            "press/$filter",
            "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fpress%2Fmodules%2F%24filter&sig=DYBBE959rMKgJ%2Bpi91Gk%2BADxz0iK467AixQVXW7ou6w%3D&se=2000000000",
        ),
        (
            "encoded twice",
            "press/$filter",
            "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fpress%2Fmodules%2F%2524filter&sig=7lXJNa%2F%2BCxG1yHzxdOSzcA843%2F5E5muICYrS8G25Qz4%3D&se=2000000000",
        ),
        (
            "the device's key for its module",
            "press/$filter",
            "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fpress%2Fmodules%2F%24filter&sig=U5VoosYmYIZKhOJJDHkogbopfcZwPNiD9eeL0sqTR%2F8%3D&se=2000000000",
        ),
    ] {
        let proved =
            who(&registry, identity, token.as_bytes(), SE - 1).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!((proved.identity, proved.means), (id(identity), Means::SharedKey), "{case}");
        assert_eq!(proved.until, UnixMillis((SE + 300) * 1000));
    }
}

#[test]
fn every_other_token_is_refused_with_its_reason() {
    let registry = registry();
    let mut disabled = device("press", keys(primary(), Some(SECONDARY)));
    let token = |host: &str, of: &str, key: &SharedKey| sas::token(host, &id(of), key, SE);
    let good = token("edge-1", "press", &primary());
    assert!(who(&registry, "press", good.as_bytes(), SE + 300).is_ok());
    let other = SharedKey::new(&[3; 32]).unwrap();
    for (who_is, password, now_s, reason) in [
        ("press", good.clone(), SE + 301, "the token of press has expired 5 min ago"),
        ("press", good.clone(), SE + 86_400 * 3, "expired 3 days ago"),
        ("oven", good.clone(), 1, "the token of oven is for \"edge-1/devices/press\""),
        ("press", token("edge-1", "press", &other), 1, "not signed with a key"),
        (
            "press",
            token("elsewhere", "press", &primary()),
            1,
            "for the host \"elsewhere\"; this edge goes by hub.example.net, edge-1",
        ),
        ("press", format!("{good}&skn=iothubowner"), 1, "policy \"iothubowner\""),
        ("press", "secret".into(), 1, "no token: it does not begin with"),
        ("press", String::new(), 1, "neither a token nor a certificate"),
        (
            "nobody",
            token("edge-1", "nobody", &primary()),
            1,
            "there is no device \"nobody\" here; add it with",
        ),
        ("nobody/m", token("edge-1", "nobody/m", &primary()), 1, "there is no device \"nobody/m\""),
        // The key of a module is not good for its device, nor for another module.
        ("press/$filter", token("edge-1", "press", &SharedKey::new(&[8; 16]).unwrap()), 1, "not signed"),
        ("press/other", token("edge-1", "press/other", &SharedKey::new(&[8; 16]).unwrap()), 1, "not signed"),
    ] {
        let why = who(&registry, who_is, password.as_bytes(), now_s).unwrap_err().to_string();
        assert!(why.contains(reason), "{why} / {reason}");
    }
    disabled.status = DeviceStatus::Disabled;
    registry.replace(disabled).unwrap();
    for identity in ["press", "press/$filter"] {
        let why = who(&registry, identity, good.as_bytes(), 1).unwrap_err();
        assert_eq!(why, DeviceNotProved::Disabled(id("press")));
    }
}

proptest! {
    /// One byte other than it was, anywhere: refused. Only the case of a percent-escape in the signature says the same.
    #[test]
    fn a_changed_token_is_refused(at in 0_usize..1000, bit in 0_u8..8, module in any::<bool>()) {
        let identity = if module { "press/$filter" } else { "press" };
        let token = sas::token("hub.example.net", &id(identity), &primary(), SE);
        let mut changed = token.clone().into_bytes();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        let (from, to) = (token.find("&sig=").unwrap(), token.find("&se=").unwrap());
        let same = (from..to).contains(&at) && changed.eq_ignore_ascii_case(token.as_bytes())
            && token[..at].rfind('%').is_some_and(|percent| at - percent <= 2);
        prop_assert!(who(&REGISTRY, identity, token.as_bytes(), 1).is_ok());
        prop_assert_eq!(who(&REGISTRY, identity, &changed, 1).is_ok(), same, "{}", String::from_utf8_lossy(&changed));
    }

    #[test]
    fn no_password_makes_it_panic(password in proptest::collection::vec(any::<u8>(), 0..200), token in "SharedAccessSignature [srigek=&%0-9a-f/]{0,80}") {
        prop_assert!(who(&REGISTRY, "press", &password, 1).is_err());
        prop_assert!(who(&REGISTRY, "press", token.as_bytes(), 1).is_err());
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle::new([self.0.der()]).unwrap()
    }

    fn issue(&self, name: &str, until: i32) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate().unwrap();
        vec![params(name, until).signed_by(&key, &self.0).unwrap().der().clone()]
    }
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn self_signed(name: &str, until: i32) -> Vec<CertificateDer<'static>> {
    vec![params(name, until).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()]
}

fn shows(
    registry: &Registry,
    identity: &str,
    chain: &[CertificateDer<'_>],
    now_s: u64,
) -> Result<Proved, DeviceNotProved> {
    let identity = id(identity);
    let now = UnixMillis(now_s * 1000);
    registry.who_device(&Claim { identity: &identity, password: None, certificates: chain, now })
}

/// 2026, 2019 and 2031.
const NOW_S: u64 = 1_780_000_000;
const BEFORE_S: u64 = 1_550_000_000;
const AFTER_S: u64 = 1_930_000_000;

#[test]
fn certificates_prove_devices_by_thumbprint_and_by_authority() {
    let authority = Authority::new();
    let registry = with_authorities(authority.bundle());
    let (own, next, strange) =
        (self_signed("anything", 2030), self_signed("x", 2030), self_signed("pump", 2030));
    let thumbprints = Credential::Thumbprints {
        primary: Thumbprint::of(&own[0]),
        secondary: Some(Thumbprint::of(&next[0])),
    };
    registry.add(device("pump", thumbprints)).unwrap();
    registry.add(device("valve", Credential::CertificateAuthority)).unwrap();
    registry.add(device("shelf", Credential::None)).unwrap();

    assert_eq!(shows(&registry, "pump", &own, NOW_S).unwrap().means, Means::Thumbprint);
    assert_eq!(shows(&registry, "pump", &next, NOW_S).unwrap().means, Means::Thumbprint);
    let valve = authority.issue("valve", 2030);
    let proved = shows(&registry, "valve", &valve, NOW_S).unwrap();
    assert_eq!((proved.means, proved.until.0 / 1000), (Means::CertificateAuthority, 1_893_456_000));

    let rogue = Authority::new().issue("valve", 2030);
    let leaf_as_issuer = [self_signed("valve", 2030)[0].clone(), valve[0].clone()];
    let junk = [CertificateDer::from(b"junk".to_vec())];
    for (identity, chain, now_s, reason) in [
        ("pump", strange.as_slice(), NOW_S, "its thumbprint"),
        ("pump", &own, BEFORE_S, "not valid before"),
        ("pump", &own, AFTER_S, "has expired at"),
        ("valve", &valve, BEFORE_S, "not valid before"),
        ("valve", &valve, AFTER_S, "has expired at"),
        ("valve", &authority.issue("pump", 2030), NOW_S, "its common name is \"pump\""),
        ("valve", &rogue, NOW_S, "no authority of the trust bundle"),
        ("valve", &leaf_as_issuer, NOW_S, "no authority of the trust bundle"),
        ("valve", &junk, NOW_S, "cannot be read"),
        ("press", &valve, NOW_S, "press proves itself with a token, and gave a certificate"),
        ("shelf", &valve, NOW_S, "shelf has no credential"),
        ("press/$filter", &valve, NOW_S, "modules cannot prove themselves with a certificate"),
        ("valve", &[], NOW_S, "neither a token nor a certificate"),
    ] {
        let why = shows(&registry, identity, chain, now_s).unwrap_err().to_string();
        assert!(why.contains(reason), "{why} / {reason}");
    }
    let token = sas::token("edge-1", &id("valve"), &primary(), SE);
    let why = who(&registry, "valve", token.as_bytes(), 1).unwrap_err().to_string();
    assert_eq!(why, "valve proves itself with a certificate, and gave a token");

    // Without a name, the certificate says who it is.
    let now = UnixMillis(NOW_S * 1000);
    assert_eq!(registry.who_shows(&valve, now).unwrap().identity, id("valve"));
    assert_eq!(registry.who_shows(&own, now).unwrap().identity, id("pump"));
    assert!(registry.who_shows(&self_signed("nobody", 2030), now).is_err());
    assert!(registry.who_shows(&rogue, now).is_err());
    assert!(registry.who_shows(&junk, now).is_err());
}

#[test]
fn who_is_removed_disabled_or_gets_another_key_is_cut_off_at_once() {
    let registry = registry();
    let cuts: Arc<Mutex<Vec<(String, Cut)>>> = Arc::default();
    let seen = cuts.clone();
    registry.watch_cuts(move |identity, cut| seen.lock().unwrap().push((identity.to_string(), cut)));
    let prove = |identity: &str| {
        who(&registry, identity, sas::token("edge-1", &id(identity), &primary(), SE).as_bytes(), 1).unwrap()
    };
    let (press, filter) = (prove("press"), prove("press/$filter"));
    assert_eq!((registry.still_proved(&press), registry.still_proved(&filter)), (Ok(()), Ok(())));

    let mut changed = device("press", keys(primary(), Some(SECONDARY)));
    changed.edge = true;
    registry.replace(changed.clone()).unwrap();
    assert_eq!(registry.still_proved(&press), Ok(()), "nothing that it proved itself with has changed");

    changed.credential = keys(primary(), None);
    registry.replace(changed.clone()).unwrap();
    for proved in [&press, &filter] {
        assert_eq!(registry.still_proved(proved), Err(Cut::CredentialChanged));
    }
    let (press, filter) = (prove("press"), prove("press/$filter"));
    registry.remove(&id("press/$filter")).unwrap();
    assert_eq!(registry.still_proved(&filter), Err(Cut::CredentialChanged));
    let press_again = prove("press");
    assert!(registry.still_proved(&press).is_err() && registry.still_proved(&press_again).is_ok());
    changed.status = DeviceStatus::Disabled;
    registry.replace(changed).unwrap();
    assert_eq!(registry.still_proved(&press_again), Err(Cut::Disabled));
    registry.add(device("press/m", keys(primary(), None))).unwrap();
    assert_eq!(registry.remove(&id("press")).unwrap(), [id("press"), id("press/m")]);
    assert_eq!(registry.still_proved(&press_again), Err(Cut::Removed));
    let expected = [
        ("press", Cut::CredentialChanged),
        ("press/$filter", Cut::Removed),
        ("press", Cut::Disabled),
        ("press", Cut::Removed),
    ];
    assert_eq!(*cuts.lock().unwrap(), expected.map(|(who, cut)| (who.to_owned(), cut)));
}

#[test]
fn what_the_registry_does_not_take_says_why() {
    let registry = registry();
    let any = || keys(primary(), None);
    assert_eq!(registry.add(device("press", any())), Err(RegistryFault::Exists(id("press"))));
    assert!(matches!(registry.add(device("user", any())), Err(RegistryFault::IsUser(_))));
    assert!(matches!(registry.add(device("no/m", any())), Err(RegistryFault::NoDevice(_))));
    let by_certificate = device("oven/m", Credential::CertificateAuthority);
    assert!(matches!(registry.add(by_certificate), Err(RegistryFault::ModuleByCertificate(_))));
    assert!(matches!(registry.replace(device("no", any())), Err(RegistryFault::NoSuchDevice(_))));
    assert!(matches!(registry.remove(&id("no")), Err(RegistryFault::NoSuchDevice(_))));
    let names: Vec<String> = registry.devices().iter().map(|one| one.identity.to_string()).collect();
    assert_eq!(names, ["oven", "press", "press/$filter"]);
}

#[test]
fn a_device_may_on_plain_topics_what_the_rules_say_with_its_name() {
    let registry = registry();
    let press = Name::new("press").unwrap();
    let publish = |topic: &str| registry.may(&press, Action::Publish(&Topic::new(topic).unwrap()));
    assert_eq!(publish("d/press/temperature"), Ok(()));
    for topic in ["d/oven/temperature", "d/{device}/x", "x"] {
        assert!(publish(topic).unwrap_err().to_string().contains("devices.publish"), "{topic}");
    }
    let subscribe =
        |filter: &str| registry.may(&press, Action::Subscribe(&TopicFilter::new(filter).unwrap()));
    assert_eq!(subscribe("c/press"), Ok(()));
    assert!(subscribe("c/+").unwrap_err().to_string().contains("devices.subscribe"));
    assert!(registry.may(&Name::new("gone").unwrap(), Action::Publish(&Topic::new("x").unwrap())).is_err());
}

#[test]
fn many_change_at_once_and_only_those_who_changed_are_cut_off() {
    let registry = registry();
    let cuts: Arc<Mutex<Vec<(String, Cut)>>> = Arc::default();
    let seen = cuts.clone();
    registry.watch_cuts(move |identity, cut| seen.lock().unwrap().push((identity.to_string(), cut)));
    let prove = |identity: &str| {
        who(&registry, identity, sas::token("edge-1", &id(identity), &primary(), SE).as_bytes(), 1).unwrap()
    };
    let (press, filter) = (prove("press"), prove("press/$filter"));
    let same = device("press", keys(primary(), Some(SECONDARY)));
    let put =
        vec![same.clone(), device("mill", keys(primary(), None)), device("mill/m", keys(primary(), None))];
    registry.apply(put, &[id("oven"), id("nobody")]).unwrap();
    assert_eq!((registry.still_proved(&press), registry.still_proved(&filter)), (Ok(()), Ok(())));
    assert_eq!(registry.still_proved(&prove("mill/m")), Ok(()));
    assert!(registry.device(&id("oven")).is_none());
    let anew = Device { generation: "g2".into(), ..same.clone() };
    let disabled = Device { status: DeviceStatus::Disabled, ..device("mill", keys(primary(), None)) };
    registry.apply(vec![anew, disabled], &[]).unwrap();
    assert!(registry.still_proved(&press).is_err() && registry.still_proved(&filter).is_err());
    let expected = [("oven", Cut::Removed), ("press", Cut::Removed), ("mill", Cut::Disabled)];
    assert_eq!(*cuts.lock().unwrap(), expected.map(|(who, cut)| (who.to_owned(), cut)));

    let before = registry.devices();
    let user = device("user", keys(primary(), None));
    let wrong = device("mill/m", Credential::CertificateAuthority);
    for bad in [user, wrong] {
        assert!(registry.apply(vec![device("new", keys(primary(), None)), bad], &[id("press")]).is_err());
        assert_eq!(registry.devices(), before, "all or nothing");
    }
}

#[test]
fn who_is_behind_an_edge_is_known_whatever_moves_and_no_more_come_than_may() {
    let rules = DeviceRules { devices_max: 6, ..DeviceRules::default() };
    let registry = Registry::new([], [1; 32]).unwrap_or_else(|faults| panic!("{faults:?}")).with_rules(rules);
    let below = |who: &str, parent: Option<&str>| Device {
        parent: parent.map(|parent| Name::new(parent).unwrap()),
        ..device(who, Credential::None)
    };
    for (who, parent) in
        [("upper", None), ("lower", Some("upper")), ("press", Some("lower")), ("press/$filter", None)]
    {
        registry.add(below(who, parent)).unwrap();
    }
    let behind = |edge: &str, levels: usize| -> Vec<String> {
        let found = registry.behind(&Name::new(edge).unwrap(), levels);
        found.iter().map(|one| one.identity.to_string()).collect()
    };
    let children = |of: &str| registry.children(&Name::new(of).unwrap()).len();
    assert_eq!(behind("upper", 5), ["lower", "press", "press/$filter", "upper"]);
    assert_eq!(behind("upper", 1), ["lower", "upper"]);
    assert_eq!(behind("press", 5), ["press", "press/$filter"]);
    // It moves, by itself and with many.
    registry.replace(below("press", Some("upper"))).unwrap();
    assert_eq!((behind("lower", 5), children("lower"), children("upper")), (vec!["lower".to_owned()], 0, 2));
    registry.apply(vec![below("press", Some("lower")), below("oven", Some("lower"))], &[]).unwrap();
    assert_eq!(behind("lower", 5), ["lower", "oven", "press", "press/$filter"]);
    registry.remove(&id("oven")).unwrap();
    registry.apply(Vec::new(), &[id("press")]).unwrap();
    assert_eq!((behind("upper", 5), children("lower")), (vec!["lower".to_owned(), "upper".to_owned()], 0));
    // Parents that are in a circle, which nobody lets in, are no way round for ever.
    registry.replace(below("upper", Some("lower"))).unwrap();
    assert_eq!(behind("upper", 100), ["lower", "upper"]);
    for n in 0..4 {
        registry.add(below(&format!("d-{n}"), None)).unwrap();
    }
    let full = registry.add(below("d-4", None)).unwrap_err();
    assert!(full.to_string().contains("there are 6 devices"), "{full}");
    assert!(registry.apply(vec![below("d-4", None)], &[]).is_err());
    registry.apply(vec![below("d-4", None)], &[id("d-3")]).unwrap();
}
