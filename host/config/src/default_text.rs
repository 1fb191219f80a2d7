//! What `holdfast init` writes.

use crate::Config;

impl Config {
    /// What `holdfast hub init` writes: a small valid file for a hub of this name.
    pub fn default_hub_text(name: &str) -> String {
        let name = crate::edge_name(name);
        format!(
            r#"# Configuration of this hub. Every line is optional.

edge = "{name}"    # the name of this hub

[hub]
listen = "127.0.0.1:8480"    # the HTTP API; "tls://0.0.0.0:8480" for other machines. Its token is in data/api.token
events_age_max = "7 d"       # how long telemetry is kept
# events_quota = "4 GiB"     # the most that it takes; by default all of store.quota
# host_name = "hub.example.com"   # what this hub is called in tokens; by default the first of gateway.host_names

[store]
quota = "8 GiB"

# A cluster of NATS servers with JetStream keeps everything instead, so that several hubs with this file serve one fleet.
# [storage]
# servers = ["nats://nats-1.example.com:4222", "nats://nats-2.example.com:4222", "nats://nats-3.example.com:4222"]
# user = "hub"
# password_file = "nats.password"

# Where edges and devices connect; 0.0.0.0 instead of 127.0.0.1 is every address of this machine. They need a copy of
# data/certificates/authority.pem, and know this hub by its name, that of the machine, or one of host_names.
[gateway]
listen = ["tls://127.0.0.1:8883"]    # also "wss://0.0.0.0:443", "quic://0.0.0.0:14567"
host_names = ["{name}"]
connections_max = 20_000
unacked_max = 4096           # messages of one edge that are on their way to the disk
packet_max = "17 MiB"
"#
        )
    }

    /// A small valid file for an edge of this name, with a comment for each thing that is likely to be changed.
    pub fn default_text(edge: &str) -> String {
        let edge = crate::edge_name(edge);
        format!(
            r#"# Configuration of this edge. Every line is optional; `holdfast check` says what is wrong with it.

edge = "{edge}"

[paths]
data = "data"          # the store; must survive a restart
plugins = "plugins"    # drop a .wasm component here and it runs

[store]
quota = "2 GiB"        # the most that the store takes on disk
time_to_live = "2 h"   # how long a message waits for a link; "forever" keeps it until it is delivered

# Without routes, what a module sends goes upstream.
# [routes]
# alarms = {{ route = "FROM /messages/* WHERE level = 'alarm' INTO $upstream", priority = 0 }}

# The broker above this edge. Without it, messages wait in the store.
# [upstream]
# url = "mqtts://broker.example.com:8883"
# user = "{edge}"
# password_file = "upstream.password"

# Where devices connect; 0.0.0.0 instead of 127.0.0.1 is every address of this machine. With tls:// they need a copy of
# data/certificates/authority.pem, and know this edge by its name, that of the machine, or one of host_names.
# [gateway]
# listen = ["127.0.0.1:1883", "tls://127.0.0.1:8883"]
# host_names = ["{edge}.example.com"]

# One who may connect.
# [[users]]
# name = "sensor-1"
# password = "for development on this machine only"
# publish = ["sensors/sensor-1/#"]
# subscribe = ["commands/sensor-1"]
"#
        )
    }
}
