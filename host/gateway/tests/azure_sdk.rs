//! The unmodified device SDK of Azure IoT for Python against the gateway, over TLS and over WebSocket.
//!
//! Needs a Python with azure-iot-device: the one that `HOLDFAST_TEST_AZURE_PYTHON` names, or else the one that `tests/run`
//! has made in `target/test-python-azure`. The ports are fixed
//! in the SDK, so that each story has an address of its own; 443 needs the right to listen there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use bytes::Bytes;
use holdfast_auth::{Credential, Device, Thumbprint};
use holdfast_broker::MethodTimes;
use holdfast_net::{ClientAuth, Door, Identity as Files, ServerTls, ServerTlsConfig};
use holdfast_types::{Identity, LogId, Message, Name, Source, SystemKey};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::PathBuf, process::Stdio};
use support::{
    House, LONG,
    hub::{HUB, KEY},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A certificate for the gateway at an address, which is its own authority, and one for a device.
struct Papers {
    folder: TempDir,
}

impl Papers {
    fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, subject) in [("gateway", host), ("device", "lathe")] {
            let made = rcgen::generate_simple_self_signed(vec![subject.to_owned()]).unwrap();
            let file = |kind: &str| folder.path().join(format!("{name}.{kind}.pem"));
            std::fs::write(file("certificate"), made.cert.pem()).unwrap();
            std::fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
            std::fs::write(file("thumbprint"), Thumbprint::of(made.cert.der()).to_string()).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    fn tls(&self) -> ServerTls {
        let identity =
            Files { certificates: self.file("gateway.certificate"), key: self.file("gateway.key") };
        ServerTls::build(&ServerTlsConfig { identity, clients: ClientAuth::Asked }).unwrap()
    }
}

/// How the SDK reaches the gateway.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Tls,
    WebSocket,
}

impl Way {
    async fn house(self, host: &str, papers: &Papers) -> House {
        let (door, port) = match self {
            Self::Tls => (Door::Tls(papers.tls()), 8883),
            Self::WebSocket => (Door::WebSocketTls(papers.tls()), 443),
        };
        House::at(SocketAddr::new(host.parse().unwrap(), port), door).await
    }
}

/// A device that is made with the SDK.
struct Sdk {
    _process: Child,
    orders: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    /// What it told and nobody has waited for yet.
    waiting: Vec<Value>,
}

impl Sdk {
    fn start(papers: &Papers, way: Way, mut what: Value) -> Self {
        what["authority"] = papers.file("gateway.certificate").to_str().unwrap().into();
        what["websockets"] = (way == Way::WebSocket).into();
        let python = std::env::var_os("HOLDFAST_TEST_AZURE_PYTHON").map_or_else(
            || {
                PathBuf::from(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../../target/test-python-azure/bin/python"
                ))
            },
            PathBuf::from,
        );
        let missing =
            "tests/run makes a Python with azure-iot-device; or name one in HOLDFAST_TEST_AZURE_PYTHON";
        assert!(python.exists(), "{} is not there: {missing}", python.display());
        let mut process = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure_device.py"))
            .arg(what.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let told = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, orders, told, waiting: Vec::new() }
    }

    /// A device with a shared key, by its connection string.
    fn by_key(papers: &Papers, way: Way, host: &str) -> Self {
        let key = holdfast_auth::SharedKey::new(&KEY).unwrap().expose();
        let connection =
            format!("HostName={HUB};DeviceId=lathe;SharedAccessKey={key};GatewayHostName={host}");
        Self::start(papers, way, json!({ "connection": connection }))
    }

    async fn order(&mut self, order: Value) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    /// Waits until it tells of something.
    async fn tells(&mut self, kind: &str) -> Value {
        if let Some(at) = self.waiting.iter().position(|told| told["kind"] == kind) {
            return self.waiting.remove(at);
        }
        let wait = async {
            loop {
                let line = self.told.next_line().await.unwrap().expect("the SDK goes on");
                let told: Value = serde_json::from_str(&line).unwrap();
                assert!(told["kind"] != "failed", "waiting for {kind}: {told}");
                if told["kind"] == kind {
                    return told;
                }
                self.waiting.push(told);
            }
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("the SDK does not tell of {kind}"))
    }
}

fn lathe() -> Identity {
    Identity::parse("lathe").unwrap()
}

/// Everything that a device does, once.
async fn converse(house: &House, sdk: &mut Sdk) {
    sdk.order(json!({ "do": "listen" })).await;
    sdk.tells("listening").await;
    let twins = house.broker.twins();

    let odd = json!({ "a/b": "c+d e%&=é", "empty": "" });
    sdk.order(json!({ "do": "send", "body": "{\"t\":21}", "properties": odd, "message_id": "m 1",
        "content_type": "application/json", "content_encoding": "utf-8" }))
        .await;
    sdk.tells("sent").await;
    let mut up = house.broker.reader(LogId::upstream());
    let delivery = up.next(1).await.unwrap().remove(0);
    let envelope = &delivery.envelope;
    assert_eq!(envelope.source, Source::Child { child: Name::new("lathe").unwrap(), topic: None });
    assert_eq!(envelope.message.body, "{\"t\":21}");
    let properties = &envelope.message.properties;
    assert_eq!((properties.value("a/b"), properties.value("empty")), (Some("c+d e%&=é"), Some("")));
    assert_eq!(envelope.message.system.value(SystemKey::MessageId), Some("m 1"));
    up.ack([delivery.ticket]);

    sdk.order(json!({ "do": "report", "patch": { "fan": { "rpm": 900 } } })).await;
    sdk.tells("reported").await;
    assert_eq!(twins.get(&lathe()).await.unwrap().reported["fan"]["rpm"], 900);
    twins.desire(&lathe(), json!({ "interval": 5 })).await.unwrap();
    assert_eq!(sdk.tells("desired").await["patch"]["interval"], 5);
    sdk.order(json!({ "do": "twin" })).await;
    let twin = sdk.tells("twin").await["twin"].clone();
    assert_eq!((&twin["desired"]["interval"], &twin["reported"]["fan"]["rpm"]), (&json!(5), &json!(900)));

    let methods = house.broker.methods();
    let payload = Bytes::from_static(b"{\"in\":5}");
    let reply = methods.call(&lathe(), "reboot", payload, MethodTimes::default()).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(serde_json::from_slice::<Value>(&reply.payload).unwrap(), json!({ "you said": { "in": 5 } }));
    assert_eq!(sdk.tells("method").await["name"], "reboot");

    from_the_cloud(house, sdk, "wake up").await;
}

async fn from_the_cloud(house: &House, sdk: &mut Sdk, body: &str) {
    let child = Name::new("lathe").unwrap();
    let mut message = Message::new(body.to_owned());
    message.properties.set("level", "a/b c+d");
    message.system.set(SystemKey::MessageId, "c-1");
    house.broker.cloud_to_device(&child, message, None).await.unwrap();
    let mut told = sdk.tells("message").await;
    // One whose acknowledgement was lost with the connection comes again.
    while told["body"] != body {
        told = sdk.tells("message").await;
    }
    assert_eq!((&told["body"], &told["message_id"]), (&json!(body), &json!("c-1")));
    assert_eq!(told["properties"]["level"], "a/b c+d");
}

/// An address of the loopback that no other test has.
fn host(number: u8) -> String {
    format!("127.{}.{}.{number}", 100 + std::process::id() % 100, std::process::id() / 100 % 250)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_key_does_everything_over_tls_and_comes_back_by_itself() {
    let host = host(2);
    let papers = Papers::new(&host);
    let house = Way::Tls.house(&host, &papers).await;
    let mut sdk = Sdk::by_key(&papers, Way::Tls, &host);
    sdk.order(json!({ "do": "connect" })).await;
    assert_eq!(sdk.tells("connection").await["connected"], true);
    converse(&house, &mut sdk).await;
    // The gateway goes and comes with the same store; the device finds it by itself, and has its subscriptions.
    let house = house.restarted().await;
    while sdk.tells("connection").await["connected"] == false {}
    from_the_cloud(&house, &mut sdk, "are you there?").await;
    sdk.order(json!({ "do": "send", "body": "yes" })).await;
    sdk.tells("sent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_key_does_everything_over_websocket() {
    let host = host(3);
    let papers = Papers::new(&host);
    let house = Way::WebSocket.house(&host, &papers).await;
    let mut sdk = Sdk::by_key(&papers, Way::WebSocket, &host);
    sdk.order(json!({ "do": "connect" })).await;
    converse(&house, &mut sdk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_certificate_does_everything() {
    let host = host(4);
    let papers = Papers::new(&host);
    let house = Way::Tls.house(&host, &papers).await;
    let thumbprint = std::fs::read_to_string(papers.file("device.thumbprint")).unwrap();
    let device = Device {
        credential: Credential::Thumbprints {
            primary: Thumbprint::parse(&thumbprint).unwrap(),
            secondary: None,
        },
        ..support::hub::devices().next().unwrap()
    };
    house.registry.replace(device).unwrap();
    let own = json!({ "certificate": papers.file("device.certificate"), "key": papers.file("device.key"),
        "device": "lathe", "host": HUB, "gateway": host });
    let mut sdk = Sdk::start(&papers, Way::Tls, json!({ "x509": own }));
    sdk.order(json!({ "do": "connect" })).await;
    converse(&house, &mut sdk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_in_a_process_has_inputs_and_outputs() {
    let host = host(5);
    let papers = Papers::new(&host);
    let house = Way::Tls.house(&host, &papers).await;
    let key = holdfast_auth::SharedKey::new(&KEY).unwrap().expose();
    let connection =
        format!("HostName={HUB};DeviceId=edge;ModuleId=scale;SharedAccessKey={key};GatewayHostName={host}");
    let mut sdk = Sdk::start(&papers, Way::Tls, json!({ "module": connection }));
    sdk.order(json!({ "do": "connect" })).await;
    sdk.order(json!({ "do": "listen" })).await;
    sdk.tells("listening").await;
    sdk.order(json!({ "do": "send", "body": "12", "output": "weights", "properties": { "unit": "kg" } }))
        .await;
    sdk.tells("sent").await;
    let delivery = house.broker.reader(LogId::upstream()).next(1).await.unwrap().remove(0);
    let name = |text: &str| Name::new(text).unwrap();
    let source = Source::Module { module: name("scale"), output: Some(name("weights")) };
    assert_eq!(delivery.envelope.source, source);
    assert_eq!(delivery.envelope.message.properties.value("unit"), Some("kg"));

    let mut order = Message::new("tare");
    order.properties.set("for", "scale");
    let child = Source::Child { child: name("lathe"), topic: None };
    house.broker.publish(child, order).await.unwrap();
    let told = sdk.tells("message").await;
    assert_eq!((&told["body"], &told["input"]), (&json!("tare"), &json!("orders")));
    assert_eq!(told["properties"]["$.cdid"], "lathe");
}
