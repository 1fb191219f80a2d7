//! The unmodified device SDKs of Azure IoT for Python and Node.js at the whole binary, and the commands of an operator beside it. The
//! ports are fixed in the SDK, so that each story has an address of its own; 443 needs the right to listen there.

use crate::support::{Broker, Edge, Link, Receiver, Sdk, host, wait_for};
use holdfast_auth::Thumbprint;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An edge that devices find at an address, with an upstream link to this port.
fn edge_at(host: &str, upstream: u16, more: &str) -> Edge {
    let config = format!(
        "[hub]\nhost_name = \"hub.example.net\"\n[upstream]\nurl = \"mqtt://127.0.0.1:{upstream}\"\n\
         version = \"5\"\ntopic = \"up/{{source}}\"\n[routes]\nup = 'FROM /messages/* INTO $upstream'\n"
    );
    let listen = [format!("tls://{host}:8883"), format!("wss://{host}:443")];
    Edge::with_gateway(&config, &listen, &format!("host_names = [\"{host}\"]\n{more}"))
}

/// What `holdfast device add` says of a new device.
fn added(edge: &Edge, arguments: &[&str]) -> Value {
    edge.json(&[&["device", "add"], arguments].concat()).remove(0)
}

fn connection_string(device: &Value) -> &str {
    device["connection_string"].as_str().unwrap()
}

/// What a device and its operator do while the link is down, once; `round` is another number each time.
fn converse(edge: &Edge, sdk: &mut Sdk, device: &str, round: u64) {
    let before = edge.waiting("upstream");
    sdk.send(&json!({ "t": round }).to_string(), json!({ "a/b": "c+d e%&=é", "level": "high" }));
    assert_eq!(edge.waiting("upstream"), before + 1, "it is acknowledged when it is in the log");
    go_on_conversing(edge, sdk, device, round);
}

/// The same while the link is there.
fn converse_linked(edge: &Edge, above: &mut Receiver, sdk: &mut Sdk, device: &str, round: u64) {
    let body = json!({ "t": round }).to_string();
    sdk.send(&body, json!({}));
    let told = above.wait("the telemetry above", |message| message["payload"] == body.as_str());
    assert_eq!(told["topic"], format!("up/{device}"));
    go_on_conversing(edge, sdk, device, round);
}

fn go_on_conversing(edge: &Edge, sdk: &mut Sdk, device: &str, round: u64) {
    edge.run(&["twin", "set", device, &json!({ "interval": round }).to_string()]).expect_good();
    assert_eq!(sdk.tells("desired")["patch"]["interval"], round);
    sdk.order(json!({ "do": "report", "patch": { "fan": { "rpm": round } } }));
    sdk.tells("reported");
    let shown = edge.json(&["twin", "show", device]).remove(0);
    assert_eq!(shown["reported"]["fan"]["rpm"], round);
    sdk.order(json!({ "do": "twin" }));
    let twin = sdk.tells("twin")["twin"].clone();
    assert_eq!(
        (&twin["desired"]["interval"], &twin["reported"]["fan"]["rpm"]),
        (&json!(round), &json!(round))
    );

    let payload = json!({ "in": round });
    let reply = edge.json(&["method", "call", device, "reboot", &payload.to_string()]).remove(0);
    assert_eq!(reply, json!({ "status": 200, "payload": { "you said": payload } }));
    assert_eq!(sdk.tells("method")["name"], "reboot");

    let body = format!("hello {round}");
    edge.run(&["cloud-to-device", device, &body, "-p", "kind=a/b c", "-s", "messageId=c-1"]).expect_good();
    let told = sdk.tells("message");
    assert_eq!((&told["body"], &told["message_id"]), (&json!(body), &json!("c-1")));
    assert_eq!(told["properties"]["kind"], "a/b c");
    wait_for("the message is acknowledged", || (edge.waiting(&format!("child/{device}")) == 0).then_some(()));
}

#[test]
fn a_device_works_with_the_link_down_and_comes_back_by_itself_after_a_kill() {
    let broker = Broker::start();
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let link = Link::to(broker.port());
    link.cut();
    let host = host(2);
    let mut edge = edge_at(&host, link.port(), "");
    edge.start();
    let pump = added(&edge, &["pump"]);
    assert!(connection_string(&pump).ends_with(&format!(";GatewayHostName={host}")), "{pump}");
    let mut sdk = Sdk::connected(&edge.authority(), connection_string(&pump), false);
    converse(&edge, &mut sdk, "pump", 1);
    let waits = edge.json(&["queue", "peek", "upstream", "-n", "1"]).remove(0);
    assert_eq!(waits["message"]["properties"]["a/b"], "c+d e%&=é", "{waits}");

    edge.kill();
    assert_eq!(sdk.tells("connection")["connected"], false);
    edge.start();
    while sdk.tells("connection")["connected"] == false {}
    converse(&edge, &mut sdk, "pump", 2);

    // What waited over the kill arrives once and in order when the link is there.
    assert_eq!(edge.waiting("upstream"), 2);
    link.mend();
    sdk.send("{\"t\":3}", json!({}));
    receiver.wait("the last message", |message| message["payload"] == "{\"t\":3}");
    let payloads: Vec<&Value> = receiver.seen().iter().map(|message| &message["payload"]).collect();
    assert_eq!(payloads, ["{\"t\":1}", "{\"t\":2}", "{\"t\":3}"]);

    // An operator's no ends the connection at once.
    edge.run(&["device", "disable", "pump"]).expect_good();
    assert_eq!(sdk.tells("connection")["connected"], false);
    edge.run(&["method", "call", "pump", "reboot", "{}"]).expect_refused(&["pump is not connected"]);
    assert!(edge.stop().success());
}

#[test]
fn a_device_with_the_sdk_for_node_works_with_a_key_and_with_a_certificate_from_this_edge() {
    let host = host(5);
    let mut edge = edge_at(&host, crate::support::free_port(), "");
    edge.start();
    let pump = added(&edge, &["pump"]);
    for (round, websockets) in [(1, false), (2, true)] {
        let what = json!({ "connection": connection_string(&pump), "websockets": websockets });
        let mut sdk = Sdk::start_node(&edge.authority(), what);
        sdk.connect();
        converse(&edge, &mut sdk, "pump", round);
    }
    let gauge = issued_here(&edge, "Gauge_1", &host);
    added(&edge, &["Gauge_1", "--ca"]);
    let mut sdk = Sdk::start_node(&edge.authority(), gauge);
    sdk.connect();
    converse(&edge, &mut sdk, "Gauge_1", 3);
    assert!(edge.stop().success());
}

/// The argument of a device with a certificate from the edge's own authority.
fn issued_here(edge: &Edge, device: &str, host: &str) -> Value {
    let out = edge.folder().to_str().unwrap();
    let issued = edge.json(&["device", "cert", device, "--out", out]).remove(0);
    edge.run(&["device", "cert", device, "--out", out])
        .expect_refused(&["is there already and was left as it is"]);
    json!({ "x509": { "certificate": issued["certificate"], "key": issued["key"], "device": device,
        "host": "hub.example.net", "gateway": host } })
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The argument of a device with a certificate, whose files are made here.
fn by_certificate(
    folder: &Path,
    device: &str,
    host: &str,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
) -> Value {
    let file = |kind: &str, text: String| {
        let file = folder.join(format!("{device}.{kind}.pem"));
        fs::write(&file, text).unwrap();
        file
    };
    let (certificate, key) = (file("certificate", certificate.pem()), file("key", key.serialize_pem()));
    json!({ "x509": { "certificate": certificate, "key": key, "device": device, "host": "hub.example.net",
        "gateway": host } })
}

/// Three proofs over two ways, each device through everything with the link down, after a kill of the host, and with the link up.
#[test]
fn with_a_key_or_a_certificate_over_either_way_all_works_offline_after_a_kill_and_online() {
    let broker = Broker::start();
    let mut above = Receiver::start(broker.port(), "up/#");
    let link = Link::to(broker.port());
    link.cut();
    let papers = tempfile::tempdir().unwrap();
    let (issuer, issuer_file) = issuer(papers.path());
    let host = host(3);
    let more = format!("tls.client_ca_file = {issuer_file:?}\n");
    let mut edge = edge_at(&host, link.port(), &more);
    edge.start();
    let mut all = Vec::new();
    for (way, websockets) in [("tls", false), ("websocket", true)] {
        let name = |proof: &str| format!("{proof}-over-{way}");
        let by_key = added(&edge, &[&name("key")]);
        let connection = connection_string(&by_key).to_owned();
        let key = KeyPair::generate().unwrap();
        let own = named(&name("thumbprint")).self_signed(&key).unwrap();
        added(&edge, &[&name("thumbprint"), "--thumbprint", &Thumbprint::of(own.der()).to_string()]);
        let by_thumbprint = by_certificate(papers.path(), &name("thumbprint"), &host, &own, &key);
        let key = KeyPair::generate().unwrap();
        let issued = named(&name("authority")).signed_by(&key, &issuer).unwrap();
        added(&edge, &[&name("authority"), "--ca"]);
        let by_authority = by_certificate(papers.path(), &name("authority"), &host, &issued, &key);
        for (proof, mut what) in [
            ("key", json!({ "connection": connection })),
            ("thumbprint", by_thumbprint),
            ("authority", by_authority),
        ] {
            what["websockets"] = websockets.into();
            let mut sdk = Sdk::start(&edge.authority(), what);
            sdk.connect();
            all.push((name(proof), sdk));
        }
    }
    let round_of = |round: u64, at: usize| round * 100 + at as u64;
    for (at, (name, sdk)) in all.iter_mut().enumerate() {
        converse(&edge, sdk, name, round_of(1, at));
    }
    edge.kill();
    for (_, sdk) in &mut all {
        while sdk.tells("connection")["connected"] == true {}
    }
    edge.start();
    for (at, (name, sdk)) in all.iter_mut().enumerate() {
        while sdk.tells("connection")["connected"] == false {}
        converse(&edge, sdk, name, round_of(2, at));
    }
    link.mend();
    wait_for("what waited has gone up", || (edge.waiting("upstream") == 0).then_some(()));
    for (at, (name, sdk)) in all.iter_mut().enumerate() {
        converse_linked(&edge, &mut above, sdk, name, round_of(3, at));
    }
    // Each once and in order.
    for (at, (name, _)) in all.iter().enumerate() {
        let of_it = |message: &&Value| message["topic"] == format!("up/{name}");
        let seen: Vec<&Value> =
            above.seen().iter().filter(of_it).map(|message| &message["payload"]).collect();
        let expected = [1, 2, 3].map(|round| json!(json!({ "t": round_of(round, at) }).to_string()));
        assert!(seen.into_iter().eq(&expected), "{name}: not {expected:?}");
    }
    assert!(edge.stop().success());
}

/// An authority that issues certificates for devices, and the file with its own.
fn issuer(folder: &Path) -> (CertifiedIssuer<'static, KeyPair>, PathBuf) {
    let mut params = named("the plant's devices");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = folder.join("devices.pem");
    fs::write(&file, issuer.pem()).unwrap();
    (issuer, file)
}

#[test]
fn a_device_with_a_certificate_from_the_edge_works_and_one_with_a_certificate_from_nobody_is_refused() {
    let papers = tempfile::tempdir().unwrap();
    let (issuer, issuer_file) = issuer(papers.path());
    let host = host(4);
    let more = format!("tls.client_ca_file = {issuer_file:?}\n");
    let mut edge = edge_at(&host, crate::support::free_port(), &more);
    edge.start();

    let thumbprint = Thumbprint::of(issuer.der()).to_string();
    let shown = added(&edge, &["lathe", "--thumbprint", &thumbprint]);
    let expected = format!("HostName=hub.example.net;DeviceId=lathe;x509=true;GatewayHostName={host}");
    assert_eq!(connection_string(&shown), expected);

    // From the edge's own authority, with its own command.
    let gauge = issued_here(&edge, "Gauge_1", &host);
    added(&edge, &["Gauge_1", "--ca"]);
    let mut sdk = Sdk::start(&edge.authority(), gauge);
    sdk.connect();
    converse(&edge, &mut sdk, "Gauge_1", 1);

    // A certificate of a device's name from nobody in particular.
    added(&edge, &["valve", "--ca"]);
    let key = KeyPair::generate().unwrap();
    let forged = named("valve").self_signed(&key).unwrap();
    let forged = by_certificate(papers.path(), "valve", &host, &forged, &key);
    let mut stranger = Sdk::start(&edge.authority(), forged);
    stranger.order(json!({ "do": "connect" }));
    assert_eq!(stranger.refusal(), "CredentialError");
    assert!(edge.stop().success());
}
