//! Text to raw to every fault at once to a checked configuration.
//!
//! What this room does: it reads `holdfast.toml`, reports every fault of it in one run, each with line, reason and fix,
//! and gives back a [`Config`] of plain values. What it does not do: it reads no environment, resolves no names, opens
//! no sockets, and makes no folders. [`Config::load`] looks whether the files that the configuration names are there;
//! [`Config::parse`] touches nothing.
//!
//! # Every key
//!
//! Times have a unit (`us`, `ms`, `s`, `min`, `h`, `d`), sizes too (`B`, `KiB`, `MiB`, `GiB`, `TiB`; `KB`, `MB`, `GB`,
//! `TB` for powers of 1000). Paths that are not absolute begin at the folder of the file. A file that is not there means
//! the defaults: [`Config::default_for`].
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `edge` | the machine's host name | name of this edge: 1 to 64 letters, digits, hyphens, dots |
//! | `paths.data` | `"data"` | folder of the store |
//! | `paths.plugins` | `"plugins"` | drop-in folder for modules |
//! | `paths.cache` | `"cache"` in `paths.data` | compiled modules |
//! | `paths.control` | `"control.sock"` in `paths.data` | the control socket |
//! | `store.quota` | `"2 GiB"` | most bytes on disk, at least 64 MiB |
//! | `store.age_max` | none | longest time that any message is kept |
//! | `store.time_to_live` | `"2 h"` | time a message is kept whose route names none; a number is seconds; `"forever"` or -1 |
//! | `store.linger` | `"auto"` | wait before an fsync for more messages to share it, at most 1 s |
//! | `store.profile` | `"standard"` | `"small"` for devices with little memory |
//! | `store.quotas.LOG` | none | most bytes of one log: `upstream`, `"upstream/CHILD"`, `"module/NAME"` |
//! | `routes.NAME` | none | a route as text, or a section with the keys below |
//! | `routes.NAME.route` | needed | the text: `FROM … WHERE … INTO …` |
//! | `routes.NAME.priority` | lowest | 0 (highest) to 9 |
//! | `routes.NAME.time_to_live` | `store.time_to_live` | time to live of its messages; `timeToLiveSecs` is understood too |
//! | `routes.NAME.durability` | `"durable"` | `"volatile"`: in memory only |
//! | `routes.NAME.when_full` | `"drop-oldest"` | `"block"`, `"drop-newest"` |
//! | `routes.NAME.topic` | `upstream.topic` | topic template of its messages upstream |
//! | `upstream.profile` | `"plain"` | `"hub"`: what is above is a hub of Holdfast; then `client_id`, `user`, `password`, `version`, `topic` and `payload` are decided |
//! | | | `"iot-hub"`: what is above is an IoT Hub of Azure, and the edge is a device of it; then the same are decided |
//! | `upstream.hub` | needed with `"hub"` or `"iot-hub"` and `url` | name of the hub, as tokens say it |
//! | `upstream.url` | one of two | `mqtts://host:8883`, `wss://host:443/mqtt`, `quic://host:14567`; `mqtt://` and `ws://` are plain |
//! | `upstream.children` | `"edge"` | with `"iot-hub"`: what children send goes up as the edge's, or, with `"own"`, as that of each child that has a symmetric key here, over a connection of its own |
//! | `upstream.children_connections_max` | 100 | most of these connections at once, 1 to 10000; with more children they take turns |
//! | `upstream.children_idle` | `"10 min"` | how long such a connection stays when its child is not connected and has nothing to send, 1 s to 1 d |
//! | `upstream.hubs` | one of two | several hubs or brokers: `[{ address = "hub-a.example", priority = 1 }]` |
//! | `upstream.hubs.address` | needed | a host, or an address as in `upstream.url` |
//! | `upstream.hubs.name` | `upstream.hub`, else the host of the address | name of this one: in tokens, for `holdfast upstream --use`, and for a concierge |
//! | `upstream.hubs.priority` | 0 | the least is preferred |
//! | `upstream.transports` | that of the address; for a host all | ways to try, in order: `["quic", "mqtt:8883", "websocket:443/mqtt"]` |
//! | `upstream.return_after` | `"5 min"` | how long a way must have worked before better ones are tried again |
//! | `upstream.failover_after` | `"30 s"` | how long a hub may be out of reach before the next is tried |
//! | `upstream.return_by_itself` | false | whether the edge returns to a hub of less priority when it is well again, or waits until it is told |
//! | `upstream.concierge.url` | none | address that is asked for the active hub: `https://host/path` |
//! | `upstream.concierge.public_key` | needed with it | the key that its statements are signed with (Ed25519, base64 of its 32 bytes or of its DER form) |
//! | `upstream.concierge.interval` | `"1 min"` | how often it is asked, 1 s to 1 d |
//! | `upstream.client_id` | `edge` | MQTT client id |
//! | `upstream.user` | none | MQTT user name |
//! | `upstream.password` | none | MQTT password |
//! | `upstream.password_file` | none | file that holds the password |
//! | `upstream.version` | `"5"` | or `"3.1.1"`, which cannot carry the stable id but in the topic or an envelope |
//! | `upstream.topic` | `"holdfast/{edge}/{source}"` | topic template: see [`TOPIC_PLACES`] |
//! | `upstream.payload` | `"raw"` | `"envelope"`: JSON with body, properties and stable id |
//! | `upstream.window` | 256 | most messages sent and not acknowledged, 1 to 65535 |
//! | `upstream.packet_max` | what the broker says | largest MQTT packet that is sent; for brokers that cannot say it (3.1.1) |
//! | `upstream.keep_alive` | `"60 s"` | longest silence before a ping, 5 s to 18 h |
//! | `upstream.drain` | `"in-order"` | what goes first when several priorities wait: the most urgent until none is left, or by shares: with `"75 %"` the most urgent gets 75 % of the link, the next 75 % of the rest, and so on, the last what is left |
//! | `upstream.streams` | true | whether each priority gets a stream of its own over QUIC |
//! | `upstream.keep_acknowledged` | `"10 min"` with `"hub"` and several hubs, else `"0 s"` | how long acknowledged messages are kept, to be sent to another hub when one dies |
//! | `upstream.keep_acknowledged_max` | `"64 MiB"` | most bytes of bodies kept so |
//! | `upstream.backoff_min` | `"1 s"` | first wait before a new connection |
//! | `upstream.backoff_max` | `"60 s"` | longest wait before a new connection |
//! | `upstream.ca_file` | system's | certificates to trust (PEM) |
//! | `upstream.cert_file` | none | certificate of this edge (PEM), with `key_file` |
//! | `upstream.key_file` | none | its private key (PEM); with `"hub"` and without `cert_file`: key of this edge's device there (base64) |
//! | `upstream.allow_plain` | false | whether `mqtt://` and `ws://` may leave the machine |
//! | `gateway.listen` | `["127.0.0.1:1883"]` if there are users | addresses to listen on, behind what is spoken there: nothing or `tcp://`, `tls://`, `ws://`, `wss://`, `quic://` |
//! | `gateway.allow_remote_plain` | false | whether other machines may connect without TLS |
//! | `gateway.host_names` | `[]` | names and addresses by which devices know this edge; they stand in its own certificate |
//! | `gateway.tls.cert_file` | local authority's | certificate that devices are shown (PEM), with `key_file`; read again when it changes |
//! | `gateway.tls.key_file` | local authority's | its private key (PEM) |
//! | `gateway.tls.client_ca_file` | none | authorities that may sign certificates of devices (PEM) |
//! | `gateway.content_type` | none | what bodies are whose clients do not say, such as `"application/json"` (in UTF-8) |
//! | `gateway.anonymous` | none | user as whom programs of this machine come in that give neither name nor password |
//! | `gateway.keep_alive_max` | none | longest silence of an MQTT 5 client, 5 s to 18 h; it is told so |
//! | `gateway.connections_max` | 100 | most connections at once |
//! | `gateway.handshakes_max` | 256 | most connections at once that have not said who they are; one more waits, as many as this; who says nothing for two seconds makes room |
//! | `gateway.handshakes_per_address_max` | 128 | most of them from one address; one more waits for one of that address |
//! | `gateway.connect_time_max` | `"10 s"` | longest time until a connection has said who it is, 1 s to 2 min |
//! | `gateway.packet_max` | `"1 MiB"` | largest MQTT packet, at most 17 MiB |
//! | `gateway.unacked_max` | 64 | most messages of a client that wait for an acknowledgement, each way |
//! | `gateway.messages_per_second_max` | none | most messages that one client may send each second; it is not read from beyond |
//! | `gateway.bytes_per_second_max` | none | most bytes that one client may send each second, at least `"1 KiB"`; it is not read from beyond |
//! | `users.name` | needed | user name (in a `[[users]]` section) |
//! | `users.password` | one of two | the password, for development on loopback |
//! | `users.password_hash` | one of two | Argon2 hash of it, `$argon2id$…` |
//! | `users.publish` | `[]` | topic filters that it may publish to |
//! | `users.subscribe` | `[]` | topic filters that it may subscribe to |
//! | `users.deny` | `[]` | topic filters that it may not use, whatever else is granted; of a wider subscription these are left out |
//! | `hub.host_name` | `upstream.hub`, else the first of `gateway.host_names`, else `edge` | name of the hub in tokens and connection strings of devices |
//! | `hub.listen` | `"127.0.0.1:8480"` | where a hub is asked over HTTP; `tls://` for other machines |
//! | `hub.events_age_max` | `"7 d"` | how long a hub keeps telemetry |
//! | `hub.events_quota` | none | most bytes of telemetry that a hub keeps |
//! | `hub.primary.url` | none | the API of the hub whose registry this one follows |
//! | `hub.primary.token_file` | none | file with the token of that API |
//! | `hub.primary.ca_file` | the system's | authority to trust there |
//! | `storage.servers` | none: the store of this machine | NATS servers with JetStream that keep what the hub keeps: `["nats://nats-1.example:4222"]` |
//! | `storage.user` | none | who this hub is there |
//! | `storage.password_file` | needed with `storage.user` | file with its password |
//! | `storage.ca_file` | the system's | authority to trust with `tls://` |
//! | `storage.cert_file` | none | certificate of this hub (PEM) |
//! | `storage.key_file` | none | its private key (PEM) |
//! | `storage.replicas` | 3 | how many servers keep each message: 1, 3 or 5 |
//! | `storage.prefix` | `"holdfast"` | what the names of streams begin with |
//! | `devices.publish` | `[]` | plain topics that devices may publish to; `{device}` stands for the name |
//! | `devices.subscribe` | `[]` | plain topics that devices may subscribe to; `{device}` stands for the name |
//! | `devices.deny` | `[]` | plain topics that devices may not use, whatever else is granted; `{device}` stands for the name |
//! | `modules.memory` | `"64 MiB"` | most linear memory of a module |
//! | `modules.call_time` | `"10 s"` | longest call of a handler |
//! | `modules.stack` | `"512 KiB"`, small profile `"192 KiB"` | most stack of a module's call, the same for all modules |
//! | `modules.retries` | 5 | new tries for a message before it is a dead letter |
//! | `modules.compile_cache` | true | whether compiled code is kept in `paths.cache` |
//! | `net.name_servers` | system's | name servers to ask in its place, such as `["10.0.0.2:53"]` |
//! | `net.proxy.url` | `HTTPS_PROXY` | HTTP proxy for TLS and WebSocket, `http://host:port`; QUIC goes through none |
//! | `net.proxy.user` | none | user name for the proxy |
//! | `net.proxy.password` | none | password for the proxy |
//! | `net.proxy.password_file` | none | file that holds it |
//! | `net.proxy.except` | `[]` | hosts reached without the proxy: names, `.ends` of names, addresses |
//! | `deployment.exclusive` | false | whether a deployment's modules alone run, and not what else lies in `paths.plugins` |
//! | `deployment.probation` | `"60 s"` | how long a failing module still brings the deployment before back; `"0 s"` does not wait |
//! | `modules.registry_credentials` | none | file of names and passwords for registries, as `docker login` writes it |
//! | `modules.signature_keys` | `[]` | public keys (PEM), one of which must have signed what comes from a registry |
//! | `http.listen` | none | where modules answer HTTP requests, such as `"127.0.0.1:8080"` |
//! | `http.allow_remote_plain` | false | whether other machines may come without TLS |
//! | `metrics.listen` | none | where Prometheus reads metrics over HTTP, such as `"127.0.0.1:9600"` |
//! | `metrics.allow_remote_plain` | false | whether other machines may read them without TLS |
//! | `log.level` | `"info"` | `"error"`, `"warn"`, `"info"`, `"debug"`, `"trace"` |

mod default_text;
mod fault;
mod load;
pub mod manifest;
mod nearest;
mod reader;
mod secret;
mod sections;
mod settings;
mod settings_upstream;
mod template;
mod units;
mod values;

pub use fault::{ConfigError, Fault, Faults};
pub use load::{FILE_BYTES_MAX, edge_name};
pub use nearest::nearest;
pub use secret::Secret;
pub use settings::{
    Config, Deployment, Devices, Drain, Gateway, Http, Hub, HubKind, HubLink, Identity, Level, Linger,
    Listen, Log, Metrics, Modules, MqttVersion, OwnChildren, Password, Paths, Payload, PrimaryHub, Profile,
    Proof, Storage, Store, Transport, User,
};
pub use settings_upstream::{Carrier, Concierge, Net, Proxy, Upstream, UpstreamAddress, UpstreamPlace};
pub use template::TOPIC_PLACES;

/// Every key of the file with its section; `NAME` and `LOG` stand for names that the writer chooses.
pub const KEYS: &[&str] = &[
    "edge",
    "paths.data",
    "paths.plugins",
    "paths.cache",
    "paths.control",
    "store.quota",
    "store.age_max",
    "store.time_to_live",
    "store.linger",
    "store.profile",
    "store.quotas.LOG",
    "routes.NAME",
    "routes.NAME.route",
    "routes.NAME.priority",
    "routes.NAME.time_to_live",
    "routes.NAME.durability",
    "routes.NAME.when_full",
    "routes.NAME.topic",
    "upstream.profile",
    "upstream.hub",
    "upstream.url",
    "upstream.children",
    "upstream.children_connections_max",
    "upstream.children_idle",
    "upstream.hubs",
    "upstream.hubs.address",
    "upstream.hubs.name",
    "upstream.hubs.priority",
    "upstream.transports",
    "upstream.return_after",
    "upstream.failover_after",
    "upstream.return_by_itself",
    "upstream.concierge.url",
    "upstream.concierge.public_key",
    "upstream.concierge.interval",
    "upstream.client_id",
    "upstream.user",
    "upstream.password",
    "upstream.password_file",
    "upstream.version",
    "upstream.topic",
    "upstream.payload",
    "upstream.window",
    "upstream.packet_max",
    "upstream.keep_alive",
    "upstream.drain",
    "upstream.streams",
    "upstream.keep_acknowledged",
    "upstream.keep_acknowledged_max",
    "upstream.backoff_min",
    "upstream.backoff_max",
    "upstream.ca_file",
    "upstream.cert_file",
    "upstream.key_file",
    "upstream.allow_plain",
    "gateway.listen",
    "gateway.allow_remote_plain",
    "gateway.host_names",
    "gateway.tls.cert_file",
    "gateway.tls.key_file",
    "gateway.tls.client_ca_file",
    "gateway.content_type",
    "gateway.anonymous",
    "gateway.keep_alive_max",
    "gateway.connections_max",
    "gateway.handshakes_max",
    "gateway.handshakes_per_address_max",
    "gateway.connect_time_max",
    "gateway.packet_max",
    "gateway.unacked_max",
    "gateway.messages_per_second_max",
    "gateway.bytes_per_second_max",
    "users.name",
    "users.password",
    "users.password_hash",
    "users.publish",
    "users.subscribe",
    "users.deny",
    "hub.host_name",
    "hub.listen",
    "hub.events_age_max",
    "hub.events_quota",
    "hub.primary.url",
    "hub.primary.token_file",
    "hub.primary.ca_file",
    "storage.servers",
    "storage.user",
    "storage.password_file",
    "storage.ca_file",
    "storage.cert_file",
    "storage.key_file",
    "storage.replicas",
    "storage.prefix",
    "devices.publish",
    "devices.subscribe",
    "devices.deny",
    "modules.memory",
    "modules.call_time",
    "modules.stack",
    "modules.retries",
    "modules.compile_cache",
    "net.name_servers",
    "net.proxy.url",
    "net.proxy.user",
    "net.proxy.password",
    "net.proxy.password_file",
    "net.proxy.except",
    "deployment.exclusive",
    "deployment.probation",
    "modules.registry_credentials",
    "modules.signature_keys",
    "http.listen",
    "http.allow_remote_plain",
    "metrics.listen",
    "metrics.allow_remote_plain",
    "log.level",
];
