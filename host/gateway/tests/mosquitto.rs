//! The clients of Mosquitto as peers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::process::Stdio;
use support::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

fn command(house: &House, tool: &str, version: &str, password: &str) -> Command {
    let mut command = Command::new(tool);
    let port = house.address.port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-u", "press", "-P", password, "-V", version]);
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_is_a_source_and_mosquitto_sub_a_sink() {
    let house = House::new().await;
    let mut subscribed = 0;
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let before = house.recorded();
            let mut sink = command(&house, "mosquitto_sub", version, "secret");
            let mut sink = sink.args(["-t", "plant/#", "-q", qos, "-C", "1000"]).spawn().unwrap();
            let mut lines = BufReader::new(sink.stdout.take().unwrap()).lines();
            subscribed += 1;
            until("it has subscribed", || house.counted().subscriptions_granted == subscribed).await;
            let mut source = command(&house, "mosquitto_pub", version, "secret");
            let mut source = source.args(["-t", "plant/line", "-q", qos, "-l"]).spawn().unwrap();
            let mut input = source.stdin.take().unwrap();
            for n in 0..1000 {
                input.write_all(format!("reading {n}\n").as_bytes()).await.unwrap();
            }
            drop(input);
            assert!(source.wait().await.unwrap().success(), "{version} QoS {qos}");
            let mut n = 0;
            while let Some(line) = lines.next_line().await.unwrap() {
                assert_eq!(line, format!("reading {n}"), "{version} QoS {qos}");
                n += 1;
            }
            assert_eq!(n, 1000, "{version} QoS {qos}");
            assert!(sink.wait().await.unwrap().success());
            until("all are recorded", || house.recorded() == before + 1000).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_is_told_that_its_password_is_wrong() {
    let house = House::new().await;
    for version in ["mqttv311", "mqttv5"] {
        let mut source = command(&house, "mosquitto_pub", version, "wrong");
        let mut source = source.args(["-t", "plant/t", "-m", "x"]).spawn().unwrap();
        assert!(!source.wait().await.unwrap().success());
        let mut said = String::new();
        source.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        assert!(said.to_lowercase().contains("bad user name or password"), "{version}: {said}");
    }
}
