//! What an edge does by itself while nothing above answers, and how it finds a way up again. The names of the stories begin
//! with the requirement that they show.

use crate::support::{Above, Broker, Edge, Hub, Link, Receiver, Sdk, free_port, host, publish, wait_for};
use serde_json::{Value, json};
use std::{
    fs,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// An edge with two children at a hub, which has been synchronised once and is cut off since.
fn cut_off(number: u8, config: &str, modules: &[(&str, &str)]) -> (Above, Link, Edge) {
    let (hub, at) = (Above::started(), host(number));
    let link = Link::to(hub.port());
    let keys = format!("host_names = [\"{at}\"]\n");
    let mut edge = hub.edge(&link, config, &[format!("tls://{at}:8883")], &keys);
    for child in ["press", "oven"] {
        hub.add(&[child, "--parent", "edge-1"]);
    }
    for (module, settings) in modules {
        edge.plug(module, module, settings);
    }
    edge.start();
    for child in ["press", "oven"] {
        wait_for(&format!("the edge knows {child}"), || {
            edge.run(&["device", "show", child]).good.then_some(())
        });
    }
    link.cut();
    (hub, link, edge)
}

fn connection_string(edge: &Edge, device: &str) -> String {
    let shown = edge.json(&["device", "show", device, "--secrets"]).remove(0);
    shown["connection_string"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[test]
fn o2_offline_children_that_never_came_before_prove_themselves_and_modules_stop_start_and_restart() {
    let fast = "[config]\nseed = 1\nperiod = \"50ms\"\nburst = 1\ncount = 0\nsensors = 2\n";
    let (_hub, _link, mut edge) = cut_off(60, "", &[("simulator", fast)]);
    edge.kill();
    edge.start();
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    press.send(r#"{"n":1}"#, json!({}));
    // With the key of another, nobody is who he says he is.
    let stolen = connection_string(&edge, "press").replace("DeviceId=press", "DeviceId=oven");
    let mut thief = Sdk::start(&edge.authority(), json!({ "connection": stolen, "websockets": false }));
    thief.order(json!({ "do": "connect" }));
    assert_eq!(thief.refusal(), "CredentialError");

    edge.wait_module("simulator", "running");
    edge.run(&["stop", "simulator"]).expect_good();
    edge.wait_module("simulator", "stopped");
    edge.run(&["start", "simulator"]).expect_good();
    edge.wait_module("simulator", "running");
    edge.run(&["restart", "simulator"]).expect_good();
    let sent = |edge: &Edge| edge.wait_module("simulator", "running")["sent"].as_u64().unwrap();
    let before = sent(&edge);
    wait_for("it works on", || (sent(&edge) > before).then_some(()));
    assert!(edge.stop().success());
}

#[test]
fn o3_offline_children_and_modules_talk_to_each_other_by_messages_and_methods() {
    let config = "[routes]\n\
        readings = 'FROM /messages/* WHERE is_defined($body.celsius) INTO BrokeredEndpoint(\"/modules/threshold/inputs/in\")'\n\
        alerts = 'FROM /messages/modules/threshold/* INTO BrokeredEndpoint(\"/modules/thermostat/inputs/in\")'\n";
    let threshold =
        "[config]\nfield = \"celsius\"\nkey = \"\"\nabove = 30.0\nhysteresis = 1.0\nraised_max = 10\n";
    let (_hub, _link, mut edge) = cut_off(61, config, &[("threshold", threshold), ("thermostat", "")]);
    edge.wait_module("threshold", "running");
    edge.wait_module("thermostat", "running");
    let mut press = Sdk::connected(&edge.authority(), &connection_string(&edge, "press"), false);
    press.send(r#"{"celsius":40}"#, json!({}));
    let did = |module: &str, what: &str| edge.module(module).unwrap()[what].as_u64().unwrap();
    wait_for("child to module", || (did("threshold", "handled") == 1).then_some(()));
    wait_for("module to module", || {
        (did("threshold", "sent") == 1 && did("thermostat", "handled") + did("thermostat", "failed") >= 1)
            .then_some(())
    });
    let reply = edge.json(&["method", "call", "press", "reboot", r#"{"hard":true}"#]).remove(0);
    assert_eq!(
        (&reply["status"], &reply["payload"]),
        (&json!(200), &json!({ "you said": { "hard": true } }))
    );
    let reply = edge.json(&["method", "call", "/thermostat", "reset"]).remove(0);
    assert_eq!(reply["status"], 200, "{reply}");
    assert!(edge.stop().success());
}

#[test]
fn o10_the_store_lies_where_it_is_told_stays_within_its_bound_and_drops_by_its_policy() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("kept here");
    let broker = Broker::start();
    let link = Link::to(broker.port());
    link.cut();
    let config = format!(
        "[paths]\ndata = {elsewhere:?}\n[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\ntopic = \"up\"\n\
         backoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n\
         [store.quotas]\nupstream = \"1 MiB\"\n[routes]\nup = 'FROM /messages/* INTO $upstream'\n",
        link.port()
    );
    let mut edge = Edge::started(&config);
    assert!(elsewhere.join("store").is_dir() && !edge.folder().join("data/store").exists());
    let body = "x".repeat(50_000);
    for n in 0..40 {
        publish(edge.gateway(), &["-q", "1", "-t", "plant/a", "-m", &format!("{n:02}{body}")]).expect_good();
    }
    let queue =
        || edge.json(&["queue", "list"]).into_iter().find(|queue| queue["log"] == "upstream").unwrap();
    let full = queue();
    let dropped: u64 =
        full["dropped"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let waiting = full["waiting"].as_u64().unwrap();
    assert_eq!(dropped + waiting, 40, "each is there or was counted: {full}");
    assert!(dropped > 0 && full["bytes"].as_u64().unwrap() <= 1 << 20, "{full}");
    edge.wait_log("a log is full and loses messages");
    // The policy is to drop the oldest: what is kept are the newest, in order, also over a kill.
    let mut receiver = Receiver::start(broker.port(), "up");
    edge.kill();
    edge.start();
    link.mend();
    let newest = |message: &Value| message["payload"].as_str().unwrap().starts_with("39");
    receiver.wait("the newest", newest);
    let numbers: Vec<u64> = receiver
        .seen()
        .iter()
        .map(|message| message["payload"].as_str().unwrap()[..2].parse().unwrap())
        .collect();
    assert_eq!(numbers, (40 - waiting..40).collect::<Vec<_>>());
    assert!(edge.stop().success());
}

/// The transport in use, once there is one.
fn transport(edge: &Edge) -> Option<String> {
    let status = edge.json(&["status"]).remove(0);
    status["upstream"]["transport"].as_str().map(str::to_owned)
}

#[test]
fn o12_where_ways_are_blocked_the_next_is_taken_and_the_preferred_one_again_when_it_opens() {
    let (quic, tls, wss) = (free_port(), free_port(), free_port());
    let door = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}");
    let mut hub = Hub::prepare(&[door("wss", wss)], "127.0.0.1", "");
    hub.start();
    let added = hub.json(&["device", "add", "edge-1", "--edge"]).remove(0);
    let text = added.to_string();
    let key = text.split("SharedAccessKey=").nth(1).unwrap().split([';', '"']).next().unwrap().to_owned();
    let config = format!(
        "[upstream]\nprofile = \"hub\"\nhub = \"hub.example.net\"\nurl = \"mqtts://127.0.0.1:{tls}\"\n\
         transports = [\"quic:{quic}\", \"mqtt:{tls}\", \"websocket:{wss}\"]\nreturn_after = \"1 s\"\n\
         key_file = \"edge.key\"\nca_file = {:?}\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n",
        hub.authority()
    );
    let mut edge = Edge::prepare(&config);
    fs::write(edge.folder().join("edge.key"), key).unwrap();
    // A firewall swallows what goes by UDP; nobody listens at the port of TLS.
    let swallows = UdpSocket::bind(("127.0.0.1", quic)).unwrap();
    edge.start();
    wait_for("what the firewall lets through", || (transport(&edge)? == "wss").then_some(()));
    edge.run(&["send", "--from", "oven/heat", "1"]).expect_good();
    wait_for("it is at the hub", || (hub.events().len() == 1).then_some(()));

    drop(swallows);
    let listen = |doors: &[String]| {
        let text = fs::read_to_string(hub.folder().join("hub.toml")).unwrap();
        let doors: Vec<String> = doors.iter().map(|door| format!("{door:?}")).collect();
        let line = text.lines().find(|line| line.starts_with("listen = [")).unwrap().to_owned();
        let text = text.replace(&line, &format!("listen = [{}]", doors.join(", ")));
        fs::write(hub.folder().join("hub.toml"), text).unwrap();
    };
    listen(&[door("wss", wss), door("tls", tls), door("quic", quic)]);
    hub.kill();
    hub.start();
    wait_for("the preferred way", || (transport(&edge)? == "quic").then_some(()));
    edge.run(&["send", "--from", "oven/heat", "2"]).expect_good();
    wait_for("it is at the hub", || (hub.events().len() == 2).then_some(()));
    assert!(edge.stop().success());

    // IoT Edge's variable names the one way that is taken.
    for (protocol, expected) in [("MqttWs", "wss"), ("Mqtt", "tls"), ("Quic", "quic")] {
        edge.start_with(&[], &[("UpstreamProtocol", protocol)]);
        wait_for(&format!("{protocol} leads to the hub"), || (transport(&edge)? == expected).then_some(()));
        assert!(edge.stop().success());
    }
}

/// A name server on the loopback that knows one name, and counts who asks.
fn name_server(known: &'static str) -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (port, asked) = (socket.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    // Ends with the test's process.
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut packet) {
            let question = &packet[..count];
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let (mut at, mut name) = (12, Vec::new());
            while question[at] != 0 {
                let length = usize::from(question[at]);
                name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
                at += length + 1;
            }
            let (is_known, wants_v4) = (name.join(".") == known, question[end - 3] == 1);
            counted.fetch_add(1, Ordering::SeqCst);
            // The question's identifier; an answer with recursion, NXDOMAIN if the name is not known; one question.
            let mut answer = vec![question[0], question[1], 0x81, if is_known { 0x80 } else { 0x83 }, 0, 1];
            answer.extend([0, u8::from(is_known && wants_v4), 0, 0, 0, 0]);
            answer.extend(&question[12..end]);
            if is_known && wants_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    (port, asked)
}

#[test]
fn o13_the_name_servers_of_the_configuration_are_asked_and_nobody_else() {
    let broker = Broker::start();
    let (server, asked) = name_server("broker.factory.test");
    let config = |name: &str| {
        format!(
            "[net]\nname_servers = [\"127.0.0.1:{server}\"]\n[upstream]\nurl = \"mqtt://{name}:{}\"\ntopic = \"up\"\n\
             allow_plain = true\nbackoff_min = \"100 ms\"\nbackoff_max = \"300 ms\"\n",
            broker.port()
        )
    };
    let mut receiver = Receiver::start(broker.port(), "up");
    let mut edge = Edge::started(&config("broker.factory.test"));
    edge.run(&["send", "--from", "oven/heat", "hello"]).expect_good();
    receiver.wait("the message", |message| message["payload"] == "hello");
    assert!(asked.load(Ordering::SeqCst) > 0);
    assert!(edge.stop().success());

    // A name that this server does not know is not looked for elsewhere, and the edge says who was asked.
    let edge = Edge::started(&config("localhost.factory.test"));
    wait_for("the edge says why", || {
        let status = edge.json(&["status"]).remove(0).to_string();
        (status.contains("no such name") && status.contains("net.name_servers")).then_some(())
    });
}

#[test]
fn o12_a_broker_that_nobody_here_wrote_takes_messages_over_websockets_with_and_without_tls() {
    let papers = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (papers.path().join("broker.pem"), papers.path().join("broker.key"));
    fs::write(&certificate, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let (plain, secure) = (free_port(), free_port());
    let broker = Broker::with_listeners(&format!(
        "listener {plain} 127.0.0.1\nprotocol websockets\nlistener {secure} 127.0.0.1\nprotocol websockets\n\
         certfile {}\nkeyfile {}\n",
        certificate.display(),
        key.display()
    ));
    let mut receiver = Receiver::start(broker.port(), "up/#");
    for (url, more) in [
        (format!("ws://127.0.0.1:{plain}/mqtt"), String::new()),
        (format!("wss://127.0.0.1:{secure}/mqtt"), format!("ca_file = {certificate:?}\n")),
    ] {
        let scheme = url.split(':').next().unwrap().to_owned();
        let mut edge = Edge::started(&format!(
            "[upstream]\nurl = {url:?}\nversion = \"5\"\ntopic = \"up/{scheme}\"\n{more}"
        ));
        for n in 1..=20 {
            edge.run(&["send", "--from", "oven/heat", &n.to_string()]).expect_good();
        }
        receiver.wait(&format!("the last over {scheme}"), |message| {
            message["topic"] == format!("up/{scheme}") && message["payload"] == "20"
        });
        let over: Vec<&Value> =
            receiver.seen().iter().filter(|message| message["topic"] == format!("up/{scheme}")).collect();
        let payloads: Vec<String> =
            over.iter().map(|message| message["payload"].as_str().unwrap().to_owned()).collect();
        assert_eq!(payloads, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(transport(&edge).as_deref(), Some(&*scheme));
        assert!(edge.stop().success());
    }
}
