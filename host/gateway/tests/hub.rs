//! What devices that speak the dialect of IoT Hub see, packet by packet. The stories with the SDK itself are in tests/e2e.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use bytes::Bytes;
use holdfast_broker::{MethodReply, MethodTimes, Reader};
use holdfast_gateway::{EdgeLink, Links};
use holdfast_mqtt::hub::PropertyBag;
use holdfast_mqtt::*;
use holdfast_types::{Identity, LogId, Message, Name, Source, SystemKey, UnixMillis};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use support::{Client, House, hub::*, until};

use Version::{V5, V311};

const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const METHODS: &str = "$iothub/methods/POST/#";
const DEVICEBOUND: &str = "devices/lathe/messages/devicebound/#";
const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";

fn lathe() -> Identity {
    Identity::parse("lathe").unwrap()
}

async fn up(house: &House) -> Reader {
    house.broker.reader(LogId::upstream())
}

/// Lets no edge link, but not before a task was begun for the link.
struct Beginning(std::sync::mpsc::SyncSender<String>);

impl Links for Beginning {
    fn link(&self, _: &Name) -> Result<EdgeLink, String> {
        let tell = self.0.clone();
        tokio::spawn(async move {
            let thread = std::thread::current();
            tell.send(thread.name().unwrap_or_default().to_owned()).unwrap();
        });
        Err("it is late".into())
    }
}

/// It would stand behind the handshakes of strangers, and end with the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_link_does_not_run_on_the_threads_of_strangers() {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let house = House::below(Arc::new(Beginning(send))).await;
    let mut edge = Client::dial(house.address, V311).await;
    let hello = connect_device("lathe");
    let user = format!("{}&holdfast-link=1", hello.user_name.as_deref().unwrap());
    let refused = edge.connect(Connect { user_name: Some(user.into()), ..hello }).await;
    assert_eq!(refused.reason, ReasonCode::NotAuthorized);
    let thread = receive.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(!thread.is_empty() && thread != "strangers", "{thread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_enters_the_routes_as_the_childs_with_its_properties_and_what_was_proved() {
    let house = House::new().await;
    let mut device = house.device("lathe").await;
    for topic in [
        "devices/lathe/messages/events/%24.mid=m-1&%24.ct=application%2Fjson&%24.ce=utf-8&level=a%2Fb%2Bc&none&empty=",
        "devices/lathe/messages/events/?%24.mid=m-1&level=a%2Fb%2Bc&iothub-connection-device-id=saw&%24.cdid=saw",
    ] {
        assert_eq!(device.publish(topic, "{}", 1).await, ReasonCode::Success);
    }
    let mut reader = up(&house).await;
    for delivery in reader.next(10).await.unwrap() {
        let envelope = &delivery.envelope;
        assert_eq!(envelope.source, Source::Child { child: Name::new("lathe").unwrap(), topic: None });
        assert_eq!(envelope.message.body, "{}");
        let (own, system) = (&envelope.message.properties, &envelope.message.system);
        assert_eq!(own.value("level"), Some("a/b+c"));
        assert_eq!((own.value("iothub-connection-device-id"), own.value("$.cdid")), (None, None));
        assert_eq!(system.value(SystemKey::MessageId), Some("m-1"));
        let method = system.value(SystemKey::ConnectionAuthMethod).unwrap();
        assert_eq!(serde_json::from_str::<Value>(method).unwrap()["type"], "sas");
        assert_eq!(system.value(SystemKey::ConnectionGeneration), Some("g-1"));
    }
    assert_eq!(house.recorded(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_acknowledged_and_dropped_and_an_unknown_filter_granted() {
    let house = House::new().await;
    let mut device = house.device("lathe").await;
    for topic in [
        "plant/lathe/t",
        "devices/lathe/messages/events/=1",
        "$iothub/methods/res/x/?$rid=1",
        "$iothub/other",
    ] {
        assert_eq!(device.publish(topic, "x", 1).await, ReasonCode::Success, "{topic}");
    }
    for (filter, qos, granted) in [
        ("plant/#", 1, ReasonCode::GrantedQos1),
        ("devices/saw/messages/devicebound/#", 0, ReasonCode::Success),
        ("#", 2, ReasonCode::GrantedQos1),
        (DEVICEBOUND, 2, ReasonCode::GrantedQos1),
    ] {
        assert_eq!(device.subscribe(filter, qos).await, granted, "{filter}");
    }
    // Nothing of it was a place: neither what a user publishes there nor what is sent to another device arrives.
    let mut user = house.client(V311, "u").await;
    user.publish("plant/t", "for users", 1).await;
    for child in ["saw", "lathe"] {
        let body = Message::new(format!("for {child}"));
        house.broker.cloud_to_device(&Name::new(child).unwrap(), body, None).await.unwrap();
    }
    assert_eq!(device.message().await.payload, "for lathe");
    assert_eq!(house.counted().messages_refused, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_iot_hub_closes_a_connection_for_closes_it_here() {
    let house = House::new().await;
    let large = "x".repeat(262_145);
    for (topic, payload, qos) in [
        ("devices/lathe/messages/events/", "x", 2),
        ("devices/saw/messages/events/", "x", 1),
        ("devices/lathe/modules/m/messages/events/", "x", 1),
        ("devices/lathe/messages/events/", &*large, 1),
        ("$iothub/twin/GET/", "", 1),
        ("$iothub/twin/PATCH/properties/desired/?$rid=1", "{}", 1),
    ] {
        let mut device = house.device("lathe").await;
        let qos = QoS::from_level(qos).unwrap();
        let packet_id = Some(device.id());
        device
            .send(&Packet::Publish(Publish { qos, packet_id, ..Publish::new(topic, payload.to_owned()) }))
            .await;
        assert_eq!(device.next().await, None, "{topic} {}", payload.len());
    }
    assert_eq!(house.recorded(), 0);
    let mut device = house.device("lathe").await;
    let largest = "x".repeat(262_144);
    assert_eq!(device.publish("devices/lathe/messages/events/", &largest, 1).await, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_be_retained_and_a_will_are_telemetry_that_says_so() {
    let house = House::new().await;
    let mut device = Client::dial(house.address, V311).await;
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "devices/lathe/messages/events/state=gone".into(),
        payload: "bye".into(),
        delay_s: 0,
        properties: PublishProperties::default(),
    };
    let connect = Connect { will: Some(will), ..connect_device("lathe") };
    assert_eq!(device.connect(connect.clone()).await.reason, ReasonCode::Success);
    let packet_id = Some(device.id());
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        packet_id,
        retain: true,
        ..Publish::new("devices/lathe/messages/events/", "kept")
    };
    device.send(&Packet::Publish(publish)).await;
    assert!(matches!(device.next().await, Some(Packet::PubAck(_))));
    drop(device);
    let mut reader = up(&house).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(reader.next(1).await.unwrap());
    }
    let property =
        |at: usize, name: &str| seen[at].envelope.message.properties.value(name).map(str::to_owned);
    assert_eq!(property(0, "mqtt-retain").as_deref(), Some("true"));
    assert_eq!(seen[1].envelope.message.body, "bye");
    assert_eq!(property(1, "iothub-MessageType").as_deref(), Some("Will"));
    assert_eq!(property(1, "state").as_deref(), Some("gone"));
    // A goodbye takes the will back, and a will that is another's is refused.
    let mut device = Client::dial(house.address, V311).await;
    device.connect(connect.clone()).await;
    device.leave().await;
    let mut foreign = connect;
    foreign.will.as_mut().unwrap().topic = "devices/saw/messages/events/".into();
    let refused = Client::dial(house.address, V311).await.connect(foreign).await;
    assert_eq!(refused.reason, ReasonCode::NotAuthorized);
    assert_eq!(house.recorded(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_is_read_and_reported_and_desired_changes_come_while_subscribed() {
    let house = House::new().await;
    let twins = house.broker.twins();
    twins.desire(&lathe(), json!({ "interval": 5 })).await.unwrap();
    let mut device = house.device("lathe").await;
    device.subscribe(TWIN_RESPONSES, 1).await;
    let (status, rest, twin) = device.ask("$iothub/twin/GET/?$rid=a-1", " ").await;
    assert_eq!((status.as_str(), rest.as_str()), ("200", "?$rid=a-1"));
    assert_eq!(twin["desired"], json!({ "interval": 5, "$version": 2 }));
    assert_eq!(twin["reported"], json!({ "$version": 1 }));

    let (status, rest, _) =
        device.ask(&format!("{REPORTED}?$rid=2"), r#"{"fan":{"on":true},"gone":null}"#).await;
    assert_eq!((status.as_str(), rest.as_str()), ("204", "?$rid=2&$version=2"));
    assert_eq!(twins.get(&lathe()).await.unwrap().reported["fan"]["on"], true);

    for (body, query, expected) in [
        ("no json", "?$rid=3", "400"),
        ("[1]", "?$rid=4", "400"),
        (r#"{"a b":1}"#, "?$rid=5", "400"),
        (r#"{"a":1}"#, "?$rid=6&$version=7", "412"),
        (r#"{"a":1}"#, "?$rid=7&$version=x", "400"),
        (r#"{"a":1}"#, "?$rid=8&$version=2", "204"),
    ] {
        let (status, rest, _) = device.ask(&format!("{REPORTED}{query}"), body).await;
        assert_eq!(status, expected, "{query} {body}");
        assert!(rest.starts_with(query.split('&').next().unwrap()));
    }
    twins.desire(&lathe(), json!({ "interval": 6 })).await.unwrap();
    device.subscribe(DESIRED, 1).await;
    twins.desire(&lathe(), json!({ "interval": null, "mode": "eco" })).await.unwrap();
    let patch = device.message().await;
    assert_eq!(&*patch.topic, "$iothub/twin/PATCH/properties/desired/?$version=4");
    let body: Value = serde_json::from_slice(&patch.payload).unwrap();
    assert_eq!(body, json!({ "interval": null, "mode": "eco", "$version": 4 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_answered_by_its_device_even_on_the_next_connection() {
    let house = House::new().await;
    let mut device = house.device("lathe").await;
    device.subscribe(METHODS, 1).await;
    let methods = house.broker.methods();
    let call = {
        let methods = methods.clone();
        tokio::spawn(async move {
            methods.call(&lathe(), "reboot", Bytes::from_static(b"{\"in\":5}"), MethodTimes::default()).await
        })
    };
    let request = device.message().await;
    let rid = request.topic.strip_prefix("$iothub/methods/POST/reboot/?$rid=").unwrap().to_owned();
    assert_eq!(request.payload, "{\"in\":5}");
    // The token is over; the device comes back with the next one, and with the answer.
    device.leave().await;
    let mut device = house.device_again("lathe").await;
    device.publish("$iothub/methods/res/200/?$rid=ffff", "not this one", 1).await;
    device.publish(&format!("$iothub/methods/res/202/?$rid={rid}"), "[1]", 1).await;
    let expected = MethodReply { status: 202, payload: Bytes::from_static(b"[1]") };
    assert_eq!(call.await.unwrap(), Ok(expected));
    device.leave().await;
    until("nobody serves", || !methods.is_served(&lathe())).await;
    let gone = methods.call(&lathe(), "reboot", Bytes::new(), MethodTimes::default()).await;
    assert_eq!(gone.unwrap_err().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_from_the_cloud_waits_for_its_device_and_comes_until_it_is_acknowledged() {
    let house = House::new().await;
    let child = Name::new("lathe").unwrap();
    let mut message = Message::new("wake up");
    message.properties.set("level", "a/b c");
    message.system.set(SystemKey::MessageId, "m/1");
    message.system.set(SystemKey::Ack, "full");
    house.broker.cloud_to_device(&child, message, None).await.unwrap();
    let soon = UnixMillis(u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() + 50);
    house.broker.cloud_to_device(&child, Message::new("too late"), Some(soon)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    house.broker.cloud_to_device(&child, Message::new("second"), None).await.unwrap();

    let mut device = house.device("lathe").await;
    device.subscribe(DEVICEBOUND, 1).await;
    let first = device.next().await;
    let Some(Packet::Publish(first)) = first else { panic!("{first:?}") };
    let bag = PropertyBag::decode(first.topic.split('/').nth(4).unwrap()).unwrap();
    assert_eq!(bag.value("$.mid"), Some("m/1"));
    assert_eq!(bag.value("$.to"), Some("/devices/lathe/messages/devicebound"));
    assert_eq!((bag.value("iothub-ack"), bag.value("level")), (Some("full"), Some("a/b c")));
    assert_eq!(
        (first.payload, first.qos, first.topic.split('/').count()),
        ("wake up".into(), QoS::AtLeastOnce, 5)
    );
    assert!(!first.dup);
    // It was not acknowledged, so both come again, without a new subscription.
    drop(device);
    let mut device = house.device_again("lathe").await;
    let again = device.next().await;
    let Some(Packet::Publish(again)) = again else { panic!("{again:?}") };
    assert!(again.payload == "wake up" && again.dup);
    // How often is known also after a kill.
    let kept = || house.broker.documents().value("hub/deliveries", "child/lathe").unwrap();
    until("it is kept", || kept().is_some_and(|text| text.starts_with(b"1\n0 2"))).await;
    let killed = house.killed().await;
    let mut device = killed.device_again("lathe").await;
    let third = device.message().await;
    assert!(third.payload == "wake up" && third.dup);
    let kept = || killed.broker.documents().value("hub/deliveries", "child/lathe").unwrap();
    until("it is forgotten with its message", || kept().is_none_or(|text| !text.starts_with(b"1\n0 "))).await;
    drop((device, killed));
    let mut device = house.device_again("lathe").await;
    assert_eq!(device.message().await.payload, "wake up");
    assert_eq!(device.message().await.payload, "second");
    let waiting = || house.broker.store().positions(&LogId::child(&child)).iter().any(|p| p.cursor < p.tail);
    until("the cursor has moved", || !waiting()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_outlive_connections_unless_the_device_begins_anew() {
    let house = House::new().await;
    let mut device = Client::dial(house.address, V311).await;
    assert!(!device.connect(connect_device("lathe")).await.session_present);
    for filter in [TWIN_RESPONSES, DESIRED, METHODS, DEVICEBOUND] {
        device.subscribe(filter, 1).await;
    }
    device.unsubscribe(METHODS).await;
    drop(device);
    let device = house.device_again("lathe").await;
    assert!(!house.broker.methods().is_served(&lathe()));
    house.broker.twins().desire(&lathe(), json!({ "a": 1 })).await.unwrap();
    let mut device = device;
    assert!(device.message().await.topic.starts_with("$iothub/twin/PATCH/properties/desired/"));
    drop(device);
    let mut device = Client::dial(house.address, V311).await;
    let anew = Connect { clean_start: true, ..connect_device("lathe") };
    assert!(!device.connect(anew).await.session_present);
    let kept = || house.broker.documents().value("hub/filters", "lathe").unwrap();
    until("the filters are forgotten", || kept().is_none()).await;
    drop(device);
    let mut device = Client::dial(house.address, V311).await;
    assert!(!device.connect(connect_device("lathe")).await.session_present);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_device_wins() {
    let house = House::new().await;
    let mut first = house.device("lathe").await;
    let mut second = house.device("lathe").await;
    assert_eq!(first.next().await, None);
    assert_eq!(second.publish("devices/lathe/messages/events/", "x", 1).await, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_only_who_it_has_proved_to_be() {
    let house = House::new().await;
    let token = |host: &str, name: &str, key: &[u8]| sas_token(host, name, key, 4_000_000_000);
    let good = token(HUB, "lathe", &KEY);
    for (client_id, user, password) in [
        ("saw", "hub.test/lathe/?api-version=2021-04-12", good.clone()),
        ("saw", "hub.test/saw/?api-version=2021-04-12", good.clone()),
        ("lathe", "hub.test/lathe/?x=1", good.clone()),
        ("lathe", "hub.test/lathe/?api-version=2021-04-12", token(HUB, "lathe", &[1; 32])),
        ("lathe", "hub.test/lathe/?api-version=2021-04-12", token("other.test", "lathe", &KEY)),
        ("lathe", "hub.test/lathe/?api-version=2021-04-12", sas_token(HUB, "lathe", &KEY, 1000)),
        ("ghost", "hub.test/ghost/?api-version=2021-04-12", token(HUB, "ghost", &KEY)),
        ("lathe", "hub.test/lathe/?api-version=2021-04-12", String::new()),
    ] {
        let mut client = Client::dial(house.address, V311).await;
        let connect = Connect {
            user_name: Some(user.into()),
            password: Some(password.into()),
            clean_start: false,
            ..Connect::new(V311, client_id)
        };
        let ack = client.connect(connect).await;
        // Codes 4 and 5 are those at which SDKs give up.
        assert!(
            matches!(ack.reason, ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword),
            "{user} {ack:?}"
        );
    }
    house.device("lathe").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_module_sends_from_outputs_and_is_sent_to_inputs() {
    let house = House::new().await;
    let mut module = house.device("edge/scale").await;
    let body = "devices/edge/modules/scale/messages/events/%24.on=weights&unit=kg";
    assert_eq!(module.publish(body, "12", 1).await, ReasonCode::Success);
    let delivery = up(&house).await.next(1).await.unwrap().remove(0);
    let name = |text: &str| Name::new(text).unwrap();
    let source = Source::Module { module: name("scale"), output: Some(name("weights")) };
    assert_eq!(
        (&delivery.envelope.source, delivery.envelope.message.properties.value("unit")),
        (&source, Some("kg"))
    );

    module.subscribe("devices/edge/modules/scale/inputs/#", 1).await;
    let mut device = house.device("lathe").await;
    device.publish("devices/lathe/messages/events/for=scale&%24.mid=7", "tare", 1).await;
    let message = module.message().await;
    let levels: Vec<&str> = message.topic.split('/').collect();
    assert_eq!(levels[..6], ["devices", "edge", "modules", "scale", "inputs", "orders"]);
    let bag = PropertyBag::decode(levels[6]).unwrap();
    assert_eq!(
        (bag.value("$.cdid"), bag.value("$.cmid"), bag.value("$.mid")),
        (Some("lathe"), None, Some("7"))
    );
    assert_eq!((message.payload, levels.len()), ("tare".into(), 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_be_a_module_that_the_host_runs() {
    let house = House::new().await;
    house.broker.module_present(&Name::new("scale").unwrap(), true);
    let refused = Client::dial(house.address, V311).await.connect(connect_device("edge/scale")).await;
    assert_eq!(refused.reason, ReasonCode::NotAuthorized);
    house.broker.module_present(&Name::new("scale").unwrap(), false);
    let _first = house.device("edge/scale").await;
    let mut second = house.device("edge/scale").await;
    let sent = second.publish("devices/edge/modules/scale/messages/events/", "x", 1).await;
    assert_eq!(sent, ReasonCode::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialect_is_spoken_with_version_5_too() {
    let house = House::new().await;
    let mut device = Client::dial(house.address, V5).await;
    let connect = Connect { version: V5, ..connect_device("lathe") };
    assert_eq!(device.connect(connect).await.reason, ReasonCode::Success);
    assert_eq!(device.publish("devices/lathe/messages/events/a=b", "x", 1).await, ReasonCode::Success);
}
