//! Devices connect with tokens, in the dialect of IoT Hub and as plain clients, and are cut off when they may no longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

mod support;

use holdfast_auth::{Credential, Device, DeviceStatus, SharedKey, sas};
use holdfast_mqtt::*;
use holdfast_types::{Identity, UnixMillis};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Client, House, until};

fn key() -> SharedKey {
    SharedKey::new(&[7; 32]).unwrap()
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn device(text: &str) -> Device {
    Device {
        identity: id(text),
        credential: Credential::SharedKey { primary: key(), secondary: None },
        status: DeviceStatus::Enabled,
        parent: None,
        generation: "1".into(),
        edge: false,
        added: UnixMillis(0),
    }
}

/// A token that is good for so long from now.
fn token(of: &str, key: &SharedKey, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    sas::token("hub.example.net", &id(of), key, now.checked_add_signed(seconds).unwrap())
}

fn dialect(version: Version, of: &str, token: &str) -> Connect {
    let user = format!("hub.example.net/{of}/?api-version=2019-10-01&DeviceClientType=test");
    Connect {
        user_name: Some(user.as_str().into()),
        password: Some(token.to_owned().into()),
        clean_start: false,
        ..Connect::new(version, of)
    }
}

fn plain(version: Version, of: &str, token: &str) -> Connect {
    Connect {
        user_name: Some(of.into()),
        password: Some(token.to_owned().into()),
        ..Connect::new(version, "any")
    }
}

async fn answer(house: &House, connect: Connect) -> ReasonCode {
    let mut client = Client::dial(house.address, connect.version).await;
    client.connect(connect).await.reason
}

#[tokio::test]
async fn devices_prove_themselves_in_the_dialect_and_as_plain_clients() {
    let house = House::new().await;
    house.registry.add(device("pump")).unwrap();
    house.registry.add(device("pump/m")).unwrap();
    let good = token("pump", &key(), 60);
    let wrong = token("pump", &SharedKey::new(&[8; 32]).unwrap(), 60);
    let expired = token("pump", &key(), -301);
    let late = token("pump", &key(), -200);
    for version in [Version::V311, Version::V5] {
        for (connect, said) in [
            (dialect(version, "pump", &good), ReasonCode::Success),
            (dialect(version, "pump", &late), ReasonCode::Success),
            (dialect(version, "pump/m", &token("pump/m", &key(), 60)), ReasonCode::Success),
            (plain(version, "pump", &good), ReasonCode::Success),
            // 3.1.1 says 5 for these, so that an SDK gives up.
            (dialect(version, "pump", &wrong), ReasonCode::NotAuthorized),
            (dialect(version, "pump", &expired), ReasonCode::NotAuthorized),
            (dialect(version, "pump", ""), ReasonCode::NotAuthorized),
            (dialect(version, "nobody", &good), ReasonCode::NotAuthorized),
            (
                Connect { client_id: "other".into(), ..dialect(version, "pump", &good) },
                ReasonCode::NotAuthorized,
            ),
            (plain(version, "pump", &wrong), ReasonCode::BadUserNameOrPassword),
            (plain(version, "press", &good), ReasonCode::BadUserNameOrPassword),
            (plain(version, "pump", "secret"), ReasonCode::BadUserNameOrPassword),
        ] {
            let what = format!("{connect:?}");
            assert_eq!(answer(&house, connect).await, said, "{what}");
        }
    }
    let mut client = Client::dial(house.address, Version::V5).await;
    assert_eq!(client.connect(plain(Version::V5, "pump", &good)).await.reason, ReasonCode::Success);
    assert_eq!(client.publish("d/pump/t", "1", 1).await, ReasonCode::Success);
    assert_eq!(client.publish("d/other/t", "1", 1).await, ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn a_device_is_cut_off_at_once_and_others_are_not() {
    let house = House::new().await;
    for name in ["pump", "pump/m", "valve"] {
        house.registry.add(device(name)).unwrap();
    }
    let mut clients = Vec::new();
    for name in ["pump", "pump/m", "valve"] {
        let mut client = Client::dial(house.address, Version::V5).await;
        let ack = client.connect(dialect(Version::V5, name, &token(name, &key(), 600))).await;
        assert_eq!(ack.reason, ReasonCode::Success);
        clients.push(client);
    }
    let disabled = Device { status: DeviceStatus::Disabled, ..device("pump") };
    house.registry.replace(disabled).unwrap();
    for client in &mut clients[..2] {
        assert_eq!(client.end().await, Some(ReasonCode::NotAuthorized));
    }
    assert_eq!(house.counted().devices_cut, 2);
    let again = dialect(Version::V311, "pump", &token("pump", &key(), 600));
    assert_eq!(answer(&house, again.clone()).await, ReasonCode::NotAuthorized);
    house.registry.replace(device("pump")).unwrap();
    assert_eq!(answer(&house, again.clone()).await, ReasonCode::Success);

    house.registry.remove(&id("valve")).unwrap();
    assert_eq!(clients[2].end().await, Some(ReasonCode::NotAuthorized));
    until("the connections are closed", || house.counted().connections == 0).await;
}

#[tokio::test]
async fn what_a_removed_device_has_left_behind_ends_with_it() {
    let house = House::new().await;
    for name in ["pump", "valve"] {
        house.registry.add(device(name)).unwrap();
        let mut client = Client::dial(house.address, Version::V5).await;
        let plain = plain(Version::V5, name, &token(name, &key(), 600));
        let ack = client.connect(Connect { session_expiry_s: 3600, ..plain }).await;
        assert_eq!(ack.reason, ReasonCode::Success);
        client.leave().await;
    }
    until("both are away", || house.counted().connections == 0).await;
    assert_eq!(house.broker.session_totals().sessions, 2);
    house.registry.remove(&id("pump")).unwrap();
    until("its session is over", || house.broker.session_totals().sessions == 1).await;
    // The registry of the next host knows neither.
    let house = house.killed().await;
    until("nor has the other a session there", || house.broker.session_totals().sessions == 0).await;
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_token() {
    let house = House::new().await;
    house.registry.add(device("pump")).unwrap();
    let mut client = Client::dial(house.address, Version::V5).await;
    // Expired, and within the five minutes by which clocks may be wrong for about a second more.
    let ack = client.connect(dialect(Version::V5, "pump", &token("pump", &key(), -298))).await;
    assert_eq!(ack.reason, ReasonCode::Success);
    assert_eq!(client.end().await, Some(ReasonCode::NotAuthorized));
}
