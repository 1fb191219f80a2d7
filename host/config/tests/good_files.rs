//! Files without a fault, and no file at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use holdfast_config::{
    Carrier, Config, ConfigError, Drain, HubKind, KEYS, Level, Linger, MqttVersion, OwnChildren, Password,
    Payload, Profile, Proof, Secret, edge_name,
};
use holdfast_types::{Durability, LogId, Priority, WhenFull};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const FULL: &str = include_str!("good/full.toml");

fn full() -> Config {
    Config::parse(FULL, Path::new("/etc/holdfast/holdfast.toml"), "a-host").unwrap()
}

#[test]
fn the_configuration_for_the_suite_of_eclipse_paho_is_read() {
    let file = Path::new("/tests/conformance/paho.toml");
    let config = Config::parse(include_str!("../../../tests/conformance/paho.toml"), file, "a-host").unwrap();
    assert_eq!(config.gateway.anonymous.as_deref(), Some("anyone"));
    assert_eq!(config.gateway.keep_alive_max, Some(Duration::from_secs(60)));
}

#[test]
fn paths_store_modules_and_log_are_read_as_they_are_written() {
    let config = full();
    assert_eq!(config.edge.as_str(), "press-4.plant");
    assert_eq!(config.paths.data, Path::new("/var/lib/holdfast"));
    assert_eq!(config.paths.plugins, Path::new("/etc/holdfast/modules"));
    assert_eq!(config.paths.cache, Path::new("/var/cache/holdfast"));
    assert_eq!(config.paths.control, Path::new("/run/holdfast/control.sock"));
    let store = config.store;
    assert_eq!(store.quota_bytes, 512 << 20);
    assert_eq!(store.age_max, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(store.time_to_live, None);
    assert_eq!(store.linger, Linger::Fixed(Duration::from_millis(10)));
    assert_eq!(store.profile, Profile::Small);
    let quotas = [(LogId::named("module/window"), 16 << 20), (LogId::upstream(), 256 << 20)];
    assert_eq!(store.log_quota_bytes, quotas.into());
    assert_eq!(config.modules.memory_bytes_max, 8 << 20);
    assert_eq!(config.modules.call_time_max, Duration::from_millis(250));
    assert_eq!(config.modules.stack_bytes_max, Some(1 << 20));
    assert_eq!(config.modules.retries_max, 2);
    assert!(!config.modules.compile_cache);
    assert!(config.deployment.exclusive);
    assert_eq!(config.deployment.probation, Duration::from_secs(300));
    assert_eq!(config.metrics.listen, Some("127.0.0.1:9600".parse().unwrap()));
    assert_eq!(config.log.level, Level::Debug);
}

#[test]
fn routes_keep_the_order_of_the_file_and_take_both_spellings_of_the_time_to_live() {
    let [readings, alarms, means] = full().routes.try_into().unwrap();
    assert_eq!((&*readings.name, readings.priority), ("readings", Priority::DEFAULT));
    assert_eq!((readings.durability, readings.when_full), (Durability::Durable, WhenFull::DropOldest));
    assert_eq!(
        (&*alarms.name, alarms.priority.level(), alarms.time_to_live_secs),
        ("alarms", 0, Some(86_400))
    );
    assert_eq!((&*means.name, means.priority.level(), means.time_to_live_secs), ("means", 5, Some(5400)));
    assert_eq!((means.durability, means.when_full), (Durability::Volatile, WhenFull::Block));
    assert_eq!(means.topic.as_deref(), Some("plant/{edge}/means"));
    assert!(means.text.contains("INTO $upstream"));
}

#[test]
fn upstream_gateway_and_users_are_read_as_they_are_written() {
    let config = full();
    let upstream = config.upstream.unwrap();
    let ways =
        |place: usize| -> Vec<_> { upstream.places[place].ways.iter().map(ToString::to_string).collect() };
    assert_eq!(
        ways(0),
        [
            "quic://[2001:db8::1]:443",
            "mqtts://[2001:db8::1]:8884",
            "wss://[2001:db8::1]:8443/$iothub/websocket"
        ],
        "the least priority is the preferred hub, and its address keeps its port"
    );
    let names: Vec<_> = upstream.places.iter().map(|place| place.name.as_deref()).collect();
    assert_eq!(names, [Some("hub-a.example"), None]);
    assert_eq!(upstream.places[1].address, "hub-b.example");
    assert_eq!(
        ways(1),
        [
            "quic://hub-b.example:443",
            "mqtts://hub-b.example:8883",
            "wss://hub-b.example:8443/$iothub/websocket"
        ]
    );
    assert_eq!(
        (upstream.return_after, upstream.failover_after),
        (Duration::from_secs(60), Duration::from_secs(10))
    );
    assert!(!upstream.streams && upstream.return_by_itself);
    let concierge = upstream.concierge.unwrap();
    assert_eq!((&*concierge.host, concierge.port), ("concierge.example", 8443));
    assert_eq!((&*concierge.path, concierge.public_key[0]), ("/active?fleet=1", 0xd7));
    assert_eq!(concierge.interval, Duration::from_secs(30));
    assert_eq!(
        (upstream.keep_acknowledged, upstream.keep_acknowledged_bytes),
        (Duration::from_secs(600), 1 << 20)
    );
    let servers: Vec<_> = config.net.name_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.2:53", "[2001:db8::53]:5353"]);
    let proxy = config.net.proxy.unwrap();
    assert_eq!((&*proxy.host, proxy.port, proxy.user.as_deref()), ("proxy.example", 3128, Some("press")));
    assert_eq!(proxy.except, [".plant", "10.0.0.7"]);
    assert_eq!((&*upstream.client_id, upstream.user.as_deref()), ("press-4", Some("press")));
    assert_eq!(upstream.password, Some(Password::File("/etc/holdfast/upstream.password".into())));
    assert_eq!(
        (upstream.version, upstream.payload, upstream.window, upstream.packet_bytes_max),
        (MqttVersion::V5, Payload::Envelope, 16, Some(256 << 10))
    );
    assert_eq!(upstream.drain, Drain::Share(75));
    assert_eq!(upstream.keep_alive, Duration::from_secs(120));
    assert_eq!(
        (upstream.backoff_min, upstream.backoff_max),
        (Duration::from_millis(500), Duration::from_secs(300))
    );
    assert_eq!(upstream.ca_file, Some("/etc/holdfast/tls/ca.pem".into()));
    assert_eq!(upstream.identity.unwrap().key_file, Path::new("/etc/holdfast/tls/edge.key"));
    let listen: Vec<String> = config.gateway.listen.iter().map(ToString::to_string).collect();
    assert_eq!(
        listen,
        [
            "127.0.0.1:1884",
            "[::1]:1884",
            "tls://127.0.0.1:8883",
            "ws://[::1]:80",
            "wss://127.0.0.1:443",
            "quic://127.0.0.1:443"
        ]
    );
    assert_eq!(config.gateway.host_names, ["edge.example.com", "192.0.2.7"]);
    assert_eq!(config.gateway.identity.unwrap().cert_file, Path::new("/etc/holdfast/tls/gateway.pem"));
    assert_eq!(config.gateway.client_ca_file, Some("/etc/holdfast/tls/devices.pem".into()));
    assert_eq!((config.gateway.connections_max, config.gateway.packet_bytes_max), (10, 256 << 10));
    assert_eq!(config.gateway.unacked_max, 8);
    assert_eq!(
        (config.gateway.messages_per_second_max, config.gateway.bytes_per_second_max),
        (Some(50), Some(64 << 10))
    );
    assert_eq!((config.gateway.handshakes_max, config.gateway.handshakes_per_address_max), (20, 5));
    assert_eq!(config.gateway.connect_time_max, Duration::from_secs(60));
    let [sensor, tester] = config.users.try_into().unwrap();
    assert!(matches!(&sensor.proof, Proof::Hash(hash) if hash.expose().starts_with("$argon2id$v=19$")));
    assert_eq!(sensor.subscribe.len(), 2);
    assert!(sensor.deny.len() == 1 && config.devices.deny.len() == 1);
    assert_eq!(tester.proof, Proof::Plain(Secret::new("hunter2")));
    assert!(tester.publish.is_empty(), "a user may publish nothing unless told");
}

#[test]
fn an_edge_below_a_hub_needs_its_name_and_something_to_prove_itself_with() {
    let upstream = |text: &str| {
        let text = format!("[upstream]\nprofile = \"hub\"\nhub = \"hub.example\"\n{text}");
        Config::parse(&text, Path::new("/etc/h.toml"), "a-host").unwrap().upstream.unwrap()
    };
    let with_key = upstream("key_file = \"edge.key\"\n");
    let first = |upstream: &holdfast_config::Upstream| upstream.places[0].ways[0].to_string();
    assert!(with_key.places[0].ways.iter().any(|way| way.to_string() == "mqtts://hub.example:8883"));
    let hub = with_key.hub.unwrap();
    assert_eq!((&*hub.name, hub.key_file.as_deref()), ("hub.example", Some(Path::new("/etc/edge.key"))));
    assert_eq!(with_key.identity, None);
    let files = "cert_file = \"edge.pem\"\nkey_file = \"edge.key\"\nurl = \"mqtts://10.0.0.1:443\"\n";
    let with_certificate = upstream(files);
    assert_eq!(first(&with_certificate), "mqtts://10.0.0.1:443");
    assert_eq!(with_certificate.hub.unwrap().key_file, None);
    assert!(with_certificate.identity.is_some());
    let near = upstream("url = \"mqtt://127.0.0.1:1883\"\nkey_file = \"edge.key\"\n");
    assert_eq!(first(&near), "mqtt://127.0.0.1:1883");
    assert!(near.hub.is_some_and(|hub| hub.key_file.is_some()));
}

#[test]
fn an_iot_hub_is_reached_by_the_two_ways_that_it_has_and_at_its_own_path() {
    let upstream = |text: &str| {
        let text = format!(
            "[upstream]\nprofile = \"iot-hub\"\nhub = \"plant.azure-devices.net\"\nkey_file = \"k\"\n{text}"
        );
        Config::parse(&text, Path::new("/etc/h.toml"), "a-host").unwrap().upstream.unwrap()
    };
    let ways = |upstream: &holdfast_config::Upstream| -> Vec<_> {
        upstream.places[0].ways.iter().map(ToString::to_string).collect()
    };
    let (tls, wss) =
        ("mqtts://plant.azure-devices.net:8883", "wss://plant.azure-devices.net:443/$iothub/websocket");
    let mut usual = upstream("");
    assert_eq!(ways(&usual), [tls, wss]);
    assert_eq!((usual.version, usual.hub.as_ref().unwrap().kind), (MqttVersion::V311, HubKind::IotHub));
    assert_eq!(usual.keep_acknowledged, Duration::ZERO, "it would hand on what came twice");
    usual.keep_only(Carrier::Mqtt);
    assert_eq!(ways(&usual), [tls]);
    usual.keep_only(Carrier::WebSocket);
    assert_eq!(ways(&usual), [wss]);
}

#[test]
fn children_go_up_as_the_edges_unless_an_iot_hub_is_to_know_each() {
    let children = |text: &str| {
        let text = format!(
            "[upstream]\nprofile = \"iot-hub\"\nhub = \"plant.azure-devices.net\"\nkey_file = \"k\"\n{text}"
        );
        Config::parse(&text, Path::new("/etc/h.toml"), "a-host")
            .unwrap()
            .upstream
            .unwrap()
            .hub
            .unwrap()
            .children
    };
    assert_eq!((children(""), children("children = \"edge\"")), (None, None));
    let usual = OwnChildren { connections_max: 100, idle_after: Duration::from_secs(600) };
    assert_eq!(children("children = \"own\""), Some(usual));
    let text = "children = \"own\"\nchildren_connections_max = 7\nchildren_idle = \"2 h\"";
    let own = OwnChildren { connections_max: 7, idle_after: Duration::from_secs(7200) };
    assert_eq!(children(text), Some(own));
}

#[test]
fn each_hub_of_a_list_has_the_name_that_tokens_say_and_keeps_what_it_acknowledged_for_the_others() {
    let upstream = |text: &str| {
        let text = format!("[upstream]\nprofile = \"hub\"\nkey_file = \"edge.key\"\n{text}");
        Config::parse(&text, Path::new("/etc/h.toml"), "a-host").unwrap().upstream.unwrap()
    };
    let list =
        "hubs = [{ address = \"a.example\" }, { address = \"mqtts://10.0.0.2\", name = \"b.example\" }]\n";
    let names = |upstream: &holdfast_config::Upstream| -> Vec<_> {
        upstream.places.iter().map(|place| place.name.clone().unwrap_or_default()).collect()
    };
    let own = upstream(list);
    assert_eq!(names(&own), ["a.example", "b.example"]);
    assert_eq!(own.hub.as_ref().unwrap().name, "a.example");
    assert_eq!((own.keep_acknowledged, own.return_by_itself), (Duration::from_secs(600), false));
    let shared = upstream(&format!("{list}hub = \"hub.example\"\nkeep_acknowledged = \"0 s\"\n"));
    assert_eq!(
        (names(&shared), shared.hub.unwrap().name),
        (vec![String::new(), "b.example".to_owned()], "hub.example".to_owned())
    );
    assert_eq!(shared.keep_acknowledged, Duration::ZERO);
}

#[test]
fn every_key_is_in_the_full_file_and_in_the_table_of_the_documentation() {
    let documentation = include_str!("../src/lib.rs");
    for key in KEYS {
        let last = key.rsplit('.').next().unwrap();
        let chosen = matches!(last, "NAME" | "LOG");
        // The full file shows one of the two places of a password, and one of the profiles.
        let left_out = matches!(*key, "upstream.password" | "upstream.url" | "upstream.hub")
            || key.starts_with("upstream.children");
        assert!(chosen || left_out || FULL.contains(&format!("{last} = ")), "{key} is not in the full file");
        assert!(documentation.contains(&format!("//! | `{key}` | ")), "{key} is not in the table");
    }
    assert_eq!(
        documentation.matches("\n//! | `").count(),
        KEYS.len(),
        "the table has keys that are not read"
    );
}

#[test]
fn without_a_file_there_are_defaults_that_need_nothing() {
    let config = Config::default_for(Path::new("/srv/edge"), "Press_4");
    assert_eq!(config.edge.as_str(), "Press-4");
    assert_eq!(config.paths.control, Path::new("/srv/edge/data/control.sock"));
    assert_eq!(config.store.time_to_live, Some(Duration::from_secs(7200)));
    assert!(config.routes.is_empty() && config.upstream.is_none() && config.users.is_empty());
    assert!(config.gateway.listen.is_empty(), "nobody may connect, so nothing listens");
}

#[test]
fn the_text_of_init_is_valid_as_it_stands_and_with_its_comments_taken_away() {
    let text = Config::default_text("My Edge");
    let config = Config::parse(&text, Path::new("holdfast.toml"), "a-host").unwrap();
    assert_eq!(config.edge.as_str(), "My-Edge");
    // What looks like a setting behind its comment sign must be one.
    let setting = |line: &&str| line.starts_with("# [") || (line.starts_with("# ") && line.contains(" = "));
    let whole: String = text
        .lines()
        .map(|line| if setting(&line) { &line[2..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = Config::parse(&whole, Path::new("holdfast.toml"), "a-host").unwrap();
    assert_eq!((config.routes.len(), config.users.len(), config.gateway.listen.len()), (1, 1, 2));
    assert!(config.upstream.is_some());
}

#[test]
fn nothing_secret_shows_in_debug() {
    let mut text = FULL.replace("password_file = \"upstream.password\"", "password = \"hunter3\"");
    text.push('\n');
    let config = Config::parse(&text, Path::new("holdfast.toml"), "a-host").unwrap();
    let shown = format!("{config:?}");
    for secret in ["hunter2", "hunter3", "aGFzaGhhc2g"] {
        assert!(!shown.contains(secret), "{secret} shows");
    }
}

#[test]
fn a_host_name_becomes_a_name_whatever_it_holds() {
    let cases =
        [("press-4", "press-4"), ("", "edge"), ("-.-", "edge"), ("käse_1", "k-se-1"), ("a.b.", "a.b")];
    for (host, name) in cases {
        assert_eq!(edge_name(host).as_str(), name, "{host}");
    }
    assert_eq!(edge_name(&"n".repeat(100)).len(), 64);
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("holdfast.toml")
    }
}

#[test]
fn a_file_that_is_absent_no_text_or_too_large_says_so() {
    let absent = Folder::new();
    let error = Config::load(&absent.file(), "a-host").unwrap_err();
    assert!(matches!(error, ConfigError::Missing { .. }), "{error}");
    let binary = Folder::new().with("holdfast.toml", [0xff, 0xfe, 0x00]);
    let error = Config::load(&binary.file(), "a-host").unwrap_err();
    assert!(matches!(error, ConfigError::NotText { line: 1, .. }), "{error}");
    let latin1 = Folder::new().with("holdfast.toml", b"edge = \"a\"\n# f\xfcr die Presse\n");
    let error = Config::load(&latin1.file(), "a-host").unwrap_err();
    assert!(matches!(error, ConfigError::NotText { line: 2, .. }), "{error}");
    let large = Folder::new().with("holdfast.toml", "#".repeat(1024 * 1024 + 1));
    let error = Config::load(&large.file(), "a-host").unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { bytes: 1_048_577, .. }), "{error}");
    let folder = Folder::new();
    let error = Config::load(folder.0.path(), "a-host").unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
}

#[test]
fn files_that_the_file_names_are_looked_for_and_missed_by_line() {
    let text = "[upstream]\nurl = \"mqtts://host\"\nuser = \"e\"\npassword_file = \"secret\"\nca_file = \"ca.pem\"\n";
    let folder = Folder::new().with("holdfast.toml", text).with("secret", "x");
    let Err(ConfigError::Faulty(faults)) = Config::load(&folder.file(), "a-host") else { panic!("no fault") };
    let found: Vec<_> = faults.iter().map(|fault| (fault.line, &*fault.key, &*fault.fix)).collect();
    assert_eq!(found, [(5, "upstream.ca_file", "correct the path, or put the file there")]);
    let folder = folder.with("ca.pem", "");
    let config = Config::load(&folder.file(), "a-host").unwrap();
    assert_eq!(config.upstream.unwrap().password, Some(Password::File(folder.0.path().join("secret"))));
}

#[test]
fn the_servers_of_a_hub_are_read_and_have_defaults() {
    let storage = full().hub.storage.unwrap();
    assert_eq!(storage.servers, ["nats://nats-1.example:4222", "tls://nats-2.example:4222"]);
    assert_eq!(storage.user.as_deref(), Some("hub"));
    assert_eq!(storage.password_file.unwrap(), Path::new("/etc/holdfast/nats.password"));
    assert_eq!(storage.identity.unwrap().key_file, Path::new("/etc/holdfast/tls/hub.key"));
    assert_eq!((storage.replicas, storage.prefix.as_str()), (5, "plant-1"));
    let parse = |text: &str| Config::parse(text, Path::new("/etc/holdfast/hub.toml"), "a-host");
    assert_eq!(parse("").unwrap().hub.storage, None);
    let storage = parse("[storage]\nservers = [\"nats://a:4222\"]").unwrap().hub.storage.unwrap();
    assert_eq!((storage.replicas, storage.prefix.as_str()), (3, "holdfast"));
    for (bad, says) in [
        ("[storage]", "add servers ="),
        ("[storage]\nservers = [\"a:4222\"]", "nats://"),
        ("[storage]\nservers = [\"nats://a\"]\nreplicas = 2", "write 1, 3 or 5"),
        ("[storage]\nservers = [\"nats://a\"]\nprefix = \"A.b\"", "small letters"),
        ("[storage]\nservers = [\"nats://a\"]\nuser = \"hub\"", "password_file"),
    ] {
        let error = parse(bad).unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
}
