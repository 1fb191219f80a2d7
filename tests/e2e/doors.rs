//! Every door of the gateway, opened by clients that nobody here wrote, with the certificate of the edge's own authority.

use crate::support::{Edge, Subscriber, holdfast, publish, wait_for};
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
    assert!(edge.run(&["check"]).expect_good().contains("ok       certificates"));
    assert!(edge.stop().success());
}
