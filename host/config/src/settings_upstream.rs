//! The checked settings of the link upstream, and of the network.

use crate::{Drain, HubKind, HubLink, Identity, MqttVersion, Password, Payload, Transport};
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// `[upstream]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The hubs or brokers, the preferred one first.
    pub places: Vec<UpstreamPlace>,
    /// How long a way must have worked before better ones are tried again.
    pub return_after: Duration,
    /// Whether a better place is returned to without being told.
    pub return_by_itself: bool,
    /// Who says which place is the active one.
    pub concierge: Option<Concierge>,
    /// How long the place in use may be out of reach before the others are tried.
    pub failover_after: Duration,
    /// Whether plain TCP may go to another machine (`allow_plain`). The address keeps this rule already; it is here for
    /// the room that dials.
    pub allow_plain: bool,
    /// The MQTT client id.
    pub client_id: String,
    /// The MQTT user name.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<Password>,
    /// The MQTT version spoken.
    pub version: MqttVersion,
    /// The topic of messages whose route names none; holds `{edge}`, `{source}` and other places.
    pub topic: String,
    /// What the body of a published message is.
    pub payload: Payload,
    /// Most messages sent and not yet acknowledged.
    pub window: u16,
    /// Most bytes in one MQTT packet that is sent, where the broker allows less than the protocol and cannot say so.
    pub packet_bytes_max: Option<u32>,
    /// Which messages go first when several priorities wait.
    pub drain: Drain,
    /// Whether each priority gets a stream of its own over QUIC.
    pub streams: bool,
    /// How long after its acknowledgement a message is kept for another hub; zero keeps none.
    pub keep_acknowledged: Duration,
    /// Most bytes of bodies kept so.
    pub keep_acknowledged_bytes: u64,
    /// Longest silence on the connection before a ping.
    pub keep_alive: Duration,
    /// First wait before a new connection is tried.
    pub backoff_min: Duration,
    /// Longest wait between two tries.
    pub backoff_max: Duration,
    /// Certificates to trust instead of the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// The certificate chain and the key that this edge shows (PEM).
    pub identity: Option<Identity>,
    /// The hub, if what is above is one (`profile = "hub"` or `"iot-hub"`).
    pub hub: Option<HubLink>,
}

impl Upstream {
    /// Leaves only the ways of this carrier; where there is none, one with the usual port.
    pub fn keep_only(&mut self, carrier: Carrier) {
        self.places.iter_mut().for_each(|place| place.keep_only(carrier));
        if self.hub.as_ref().is_some_and(|hub| hub.kind == HubKind::IotHub) {
            self.places.iter_mut().for_each(UpstreamPlace::keep_iot_hub_ways);
        }
    }
}

/// `[upstream.concierge]`: who says which hub is the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concierge {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path, with the query.
    pub path: String,
    /// The public key of its statements (Ed25519).
    pub public_key: [u8; 32],
    /// How often it is asked.
    pub interval: Duration,
}

/// A hub or broker, and the ways to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPlace {
    /// As it is written in the file: a host, or an address.
    pub address: String,
    /// What it is called, by people and in tokens, if the file says so.
    pub name: Option<String>,
    /// The ways to it, the preferred one first.
    pub ways: Vec<UpstreamAddress>,
}

impl UpstreamPlace {
    /// Leaves the ways that an IoT Hub has: it does not speak QUIC, and has a path of its own for WebSocket.
    pub(crate) fn keep_iot_hub_ways(&mut self) {
        self.ways.retain(|way| Carrier::of(way.transport) != Carrier::Quic);
        for way in self.ways.iter_mut().filter(|way| way.path == UpstreamAddress::USUAL_PATH) {
            way.path = UpstreamAddress::IOT_HUB_PATH.to_owned();
        }
    }

    fn keep_only(&mut self, carrier: Carrier) {
        let host = self.ways.first().map(|way| way.host.clone()).unwrap_or_default();
        self.ways.retain(|way| Carrier::of(way.transport) == carrier);
        if self.ways.is_empty() {
            self.ways.push(UpstreamAddress::usual(carrier.encrypted(), host));
        }
    }
}

/// What MQTT travels in, as `upstream.transports` and `UpstreamProtocol` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `quic`.
    Quic,
    /// `mqtt`: TLS over TCP, or TCP alone.
    Mqtt,
    /// `websocket`.
    WebSocket,
}

impl Carrier {
    /// Those that a host without further word is tried with, in order: the fastest first, the one that firewalls allow last.
    pub const ALL: [Self; 3] = [Self::Quic, Self::Mqtt, Self::WebSocket];

    /// Of a transport.
    pub const fn of(transport: Transport) -> Self {
        match transport {
            Transport::Tcp | Transport::Tls => Self::Mqtt,
            Transport::WebSocket | Transport::WebSocketTls => Self::WebSocket,
            Transport::Quic => Self::Quic,
        }
    }

    /// What IoT Edge calls it in `UpstreamProtocol`, in any case of letters; its AMQP is not spoken here.
    pub fn of_iot_edge(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "mqtt" => Some(Self::Mqtt),
            "mqttws" => Some(Self::WebSocket),
            "quic" => Some(Self::Quic),
            _ => None,
        }
    }

    /// With encryption.
    pub const fn encrypted(self) -> Transport {
        match self {
            Self::Quic => Transport::Quic,
            Self::Mqtt => Transport::Tls,
            Self::WebSocket => Transport::WebSocketTls,
        }
    }
}

/// One way to a hub or broker. A plain one leaves the machine only if the file allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// What carries the bytes.
    pub transport: Transport,
    /// A host name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of a WebSocket.
    pub path: String,
}

impl UpstreamAddress {
    /// The path where brokers speak MQTT over WebSocket.
    pub(crate) const USUAL_PATH: &'static str = "/mqtt";
    /// The path where an IoT Hub does.
    pub(crate) const IOT_HUB_PATH: &'static str = "/$iothub/websocket";

    /// With the usual port and path.
    pub(crate) fn usual(transport: Transport, host: String) -> Self {
        let port = match transport {
            // A listener of a broker, as a browser would find it.
            Transport::WebSocket => 80,
            other => other.usual_port(),
        };
        Self { transport, host, port, path: Self::USUAL_PATH.to_owned() }
    }
}

/// `[net]`: how this machine reaches others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// The name servers to ask; without any, those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// The HTTP proxy for TLS and WebSocket.
    pub proxy: Option<Proxy>,
}

/// `[net.proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user, where it wants one.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<Password>,
    /// Hosts that are reached without it: names, ends of names that begin with a dot, and addresses.
    pub except: Vec<String>,
}

/// As it is written in the file.
impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            other => other.scheme(),
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port)?,
            false => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        match Carrier::of(self.transport) {
            Carrier::WebSocket => f.write_str(&self.path),
            Carrier::Quic | Carrier::Mqtt => Ok(()),
        }
    }
}
