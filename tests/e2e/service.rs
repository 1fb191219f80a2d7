//! The edge under systemd: it tells when it is ready and when it stops, and writes its own unit. Requirement T9.

use crate::support::Edge;
#[cfg(unix)]
use std::{os::unix::net::UnixDatagram, time::Duration};

#[cfg(unix)]
#[test]
fn t9_systemd_is_told_when_the_doors_are_open_and_when_the_stop_begins() {
    let mut edge = Edge::prepare("");
    let path = edge.folder().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut text = [0; 64];
        let bytes = systemd.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..bytes]).into_owned()
    };
    edge.start_with(&[], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told(), "READY=1\n");
    assert!(edge.stop().success());
    assert_eq!(told(), "STOPPING=1\n");
}

#[cfg(unix)]
#[test]
fn t9_the_unit_names_this_binary_and_its_configuration() {
    let edge = Edge::prepare("");
    let folder = edge.folder().to_str().unwrap();
    let written = edge.run(&["service", "install", "--dir", folder, "--user", "edge"]).expect_good();
    assert!(written.contains("systemctl enable --now holdfast"), "{written}");
    let unit = std::fs::read_to_string(edge.folder().join("holdfast.service")).unwrap();
    assert_eq!(unit.trim(), edge.run(&["service", "show", "--user", "edge"]).expect_good().trim());
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    assert!(
        start.ends_with("holdfast.toml run") && !unit.contains("/etc/holdfast/holdfast.toml run"),
        "{start}"
    );
    edge.run(&["service", "install", "--dir", "/absent/folder"]).expect_refused(&["as root", "--dir"]);
    edge.run(&["service", "remove", "--dir", folder]).expect_good();
    assert!(!edge.folder().join("holdfast.service").exists());
    edge.run(&["service", "remove", "--dir", folder]).expect_refused(&["cannot remove", "--dir"]);
}
