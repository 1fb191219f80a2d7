//! Every door of the gateway, opened by clients that nobody here wrote, with the certificate of the edge's own authority.

use crate::support::{Edge, Subscriber, free_port, holdfast, node_says, publish, python_says, wait_for};
use serde_json::Value;
use std::{fs, path::Path};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn init_makes_an_authority_and_says_where_and_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let made = holdfast(dir.path(), &["init", "--edge", "plant-7"]).expect_good();
    let file = dir.path().join("data/certificates/authority.pem");
    assert!(made.contains(&format!("need a copy of {}", text(&file))), "{made}");
    let before = fs::read(&file).unwrap();
    let shown = holdfast(dir.path(), &["certificate", "show"]).expect_good();
    for part in
        ["CN=Holdfast plant-7", "plant-7", "localhost", "127.0.0.1", "good for 3649 days", "good for 29 days"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    holdfast(dir.path(), &["certificate", "renew"]).expect_good();
    assert_eq!(fs::read(&file).unwrap(), before, "devices have a copy of it");
}

#[test]
fn mosquitto_clients_connect_with_tls_of_either_version_and_trust_the_authority_alone() {
    let mut edge = Edge::with_doors("", &["tls"]);
    edge.start();
    let (port, authority) = (edge.door("tls"), text(&edge.authority()));
    let trusting = |more: &[&str]| -> Vec<String> {
        ["--cafile", &authority].iter().chain(more).map(|part| (*part).to_owned()).collect()
    };
    for version in ["tlsv1.2", "tlsv1.3"] {
        let options = trusting(&["--tls-version", version, "-i", version]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let sink = Subscriber::start(port, "plant/#", &options);
        let body = "b".repeat(50_000);
        let mut sent = trusting(&["--tls-version", version, "-q", "1", "-t", "plant/line", "-m"]);
        sent.push(format!("{version} {body}"));
        publish(port, &sent.iter().map(String::as_str).collect::<Vec<_>>()).expect_good();
        assert_eq!(sink.wait(version).len(), "plant/line ".len() + version.len() + 1 + body.len());
    }
    let stranger = tempfile::tempdir().unwrap();
    holdfast(stranger.path(), &["init"]).expect_good();
    let other = text(&stranger.path().join("data/certificates/authority.pem"));
    let refused = publish(port, &["--cafile", &other, "-t", "plant/line", "-m", "no"]);
    assert!(!refused.good, "a client believed a certificate of another authority");
    assert!(edge.stop().success());
}

#[test]
fn a_renewed_certificate_is_shown_and_open_connections_go_on() {
    let mut edge = Edge::with_doors("", &["tls"]);
    edge.start();
    let (port, authority) = (edge.door("tls"), text(&edge.authority()));
    let sink = Subscriber::start(port, "plant/#", &["--cafile", &authority]);
    let fingerprint = |edge: &Edge| {
        let rows: Vec<Value> = edge.json(&["certificate", "show"]);
        rows.iter().find(|row| row["what"] == "server").unwrap()["sha256"].clone()
    };
    let before = fingerprint(&edge);
    edge.run(&["certificate", "renew"]).expect_good();
    assert_ne!(fingerprint(&edge), before);
    wait_for("the new certificate is shown", || {
        edge.log().contains("a new certificate is shown to devices from now on").then_some(())
    });
    publish(port, &["--cafile", &authority, "-q", "1", "-t", "plant/door", "-m", "after"]).expect_good();
    assert_eq!(sink.wait("after"), "plant/door after");
    // One that is not good any more, the running edge issues anew by itself.
    let asked = fingerprint(&edge);
    fs::remove_file(edge.folder().join("data/certificates/server.pem")).unwrap();
    edge.wait_log("issued a new certificate for this edge");
    assert_ne!(fingerprint(&edge), asked);
    wait_for("it is shown", || {
        (edge.log().matches("a new certificate is shown to devices from now on").count() == 2).then_some(())
    });
    publish(port, &["--cafile", &authority, "-q", "1", "-t", "plant/door", "-m", "by itself"]).expect_good();
    assert_eq!(sink.wait("by itself"), "plant/door by itself");
    assert!(edge.run(&["check"]).expect_good().contains("ok       certificates"));
    assert!(edge.stop().success());
}

#[test]
fn a_certificate_of_ones_own_is_shown_and_so_is_the_one_that_replaces_it() {
    let papers = tempfile::tempdir().unwrap();
    let (certificate, key) = (papers.path().join("own.pem"), papers.path().join("own.key"));
    let issue = || {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
    };
    issue();
    let port = free_port();
    let keys = format!("tls.cert_file = {certificate:?}\ntls.key_file = {key:?}\n");
    let mut edge = Edge::with_gateway("", &[format!("tls://127.0.0.1:{port}")], &keys);
    edge.start();
    let trusted = |name: &str| {
        let copy = papers.path().join(name);
        fs::copy(&certificate, &copy).unwrap();
        text(&copy)
    };
    let first = trusted("first");
    let sink = Subscriber::start(port, "plant/#", &["--cafile", &first]);
    issue();
    edge.wait_log("a new certificate is shown to devices from now on");
    assert!(!publish(port, &["--cafile", &first, "-t", "plant/door", "-m", "no"]).good);
    let second = trusted("second");
    publish(port, &["--cafile", &second, "-q", "1", "-t", "plant/door", "-m", "after"]).expect_good();
    assert_eq!(sink.wait("after"), "plant/door after");
    assert!(edge.stop().success());
}

#[test]
fn a_certificate_that_is_over_is_named_at_the_start_and_authorities_that_are_none_by_check() {
    let papers = tempfile::tempdir().unwrap();
    let (certificate, key) = (papers.path().join("own.pem"), papers.path().join("own.key"));
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2024, 2, 1));
    let pair = rcgen::KeyPair::generate().unwrap();
    fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    let listen = [format!("tls://127.0.0.1:{}", free_port())];
    let keys = format!("tls.cert_file = {certificate:?}\ntls.key_file = {key:?}\n");
    let mut edge = Edge::with_gateway("", &listen, &keys);
    edge.start();
    edge.wait_log("own.pem is past its time");
    assert!(edge.stop().success());

    let authorities = papers.path().join("devices.pem");
    fs::write(&authorities, "these are no certificates").unwrap();
    let keys = format!("tls.client_ca_file = {authorities:?}\n");
    let edge = Edge::with_gateway("", &listen, &keys);
    edge.run(&["check"]).expect_refused(&[
        "gateway.tls.client_ca_file",
        "devices.pem",
        "it must be PEM text",
    ]);
}

#[test]
fn paho_and_mqtt_js_talk_over_websockets_plain_and_encrypted() {
    let mut edge = Edge::with_doors("", &["tls", "ws", "wss"]);
    edge.start();
    let authority = text(&edge.authority());
    for version in ["3.1.1", "5"] {
        for (door, more) in [
            ("tls", vec!["tcp", &authority]),
            ("ws", vec!["websockets"]),
            ("wss", vec!["websockets", &authority]),
        ] {
            let port = edge.door(door).to_string();
            let said = python_says("peers.py", &[&[port.as_str(), version, "talk"][..], &more].concat());
            assert!(said.contains("500 messages in order"), "{door}: {said}");
        }
    }
    for version in ["4", "5"] {
        let url = |scheme: &str| format!("{scheme}://localhost:{}/mqtt", edge.door(scheme));
        for arguments in [vec![url("ws")], vec![url("wss"), authority.clone()]] {
            let mut all = vec![arguments[0].as_str(), version];
            all.extend(arguments.iter().skip(1).map(String::as_str));
            let said = node_says("websocket.js", &all);
            assert!(said.contains("101 messages in order"), "{url:?}: {said}", url = arguments[0]);
        }
    }
    assert!(edge.stop().success());
}

#[test]
fn another_stack_of_quic_connects_publishes_and_is_answered() {
    let mut edge = Edge::with_doors("", &["quic"]);
    edge.start();
    let (port, authority) = (edge.door("quic").to_string(), text(&edge.authority()));
    let said = python_says("quic.py", &[&port, &authority, "one"]);
    assert!(said.contains("CONNACK SUBACK PUBACK PUBLISH PINGRESP"), "{said}");
    let said = python_says("quic.py", &[&port, &authority, "beside"]);
    assert!(said.contains("answered on the stream that asked"), "{said}");
    let said = python_says("quic.py", &[&port, &authority, "wrong"]);
    assert!(said.contains("refused"), "{said}");
    edge.wait_log("the client sent PINGREQ on a stream beside that of its session");
    assert!(edge.stop().success());
}
