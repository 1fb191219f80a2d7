//! The same session over everything that can carry it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

mod support;

use holdfast_gateway::Limits;
use holdfast_mqtt::{ReasonCode, Version};
use holdfast_net::{
    ClientAuth, ClientTls, ClientTlsConfig, Door, HostName, Identity, Roots, ServerTls, ServerTlsConfig,
    Settings, Stream, Target, Timeouts, Way, dial,
};
use holdfast_types::WhenFull;
use std::{net::SocketAddr, path::PathBuf};
use support::{Client, House, connect};
use tempfile::TempDir;

/// A certificate for `localhost` that is its own authority.
struct Papers {
    _folder: TempDir,
    certificate: PathBuf,
    tls: ServerTls,
}

impl Papers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let identity = Identity { certificates: certificate.clone(), key };
        let tls = ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::Asked }).unwrap();
        Self { _folder: folder, certificate, tls }
    }

    async fn dial(&self, address: SocketAddr) -> Stream {
        let roots = Roots::File(self.certificate.clone());
        let way =
            Way::Tls(ClientTls::build(&ClientTlsConfig { roots, ..ClientTlsConfig::default() }).unwrap());
        let host = HostName::new("localhost").unwrap();
        let target = Target::new(host, address.port(), way, Settings::of_section("test"));
        dial(&target, Timeouts::default()).await.unwrap()
    }
}

/// Publishes and subscribes with bodies that fill every buffer on the way, and keeps what waits for one who is away.
async fn converse(mut client: Client<Stream>, version: Version) {
    assert_eq!(client.connect(connect(version, "press-1")).await.reason, ReasonCode::Success);
    client.subscribe("plant/#", 2).await;
    for size in [0, 1, 4096, 100_000, 300_000] {
        let body = "b".repeat(size);
        assert_eq!(client.publish("plant/line", &body, 0).await, ReasonCode::Success);
        assert_eq!(client.message().await.payload.len(), size);
    }
    client.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_runs_over_tls_with_either_version() {
    let papers = Papers::new();
    let door = Door::Tls(papers.tls.clone());
    let house = House::behind(door, Limits::default(), WhenFull::Block, 1 << 30).await;
    for version in [Version::V311, Version::V5] {
        converse(Client::over(papers.dial(house.address).await, version), version).await;
    }
    assert_eq!(house.counted().connections_accepted, 2);
}
