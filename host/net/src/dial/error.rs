//! Why no connection came about.

use super::proxy::ProxyFault;
use crate::{HandshakeFault, HostName, Settings, Transport};
use holdfast_types::Text;
use std::{io, time::Duration};

/// Why no connection came about. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Plain TCP to a host that is not this machine.
    #[error(
        "plain TCP to {host}:{port} is refused, since anyone on the way could read and change the messages; turn on \
         TLS ({tls}), or set {allow_plain} = true if the network is trusted",
        tls = settings.tls, allow_plain = settings.allow_plain
    )]
    PlainRefused {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// The settings to change.
        settings: Settings,
    },
    /// The name servers gave no address.
    #[error(
        "the host name {host} cannot be resolved ({why}); check the spelling in {setting}, and {servers}"
    )]
    Unresolved {
        /// The host.
        host: HostName,
        /// The setting that holds it.
        setting: Text,
        /// What the resolver said.
        why: String,
        /// Who was asked, for people.
        servers: String,
    },
    /// Nobody listens on the port.
    #[error(
        "{host}:{port} refused the connection; check that the broker runs there and that the port in {setting} is right"
    )]
    Refused {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// The setting that holds them.
        setting: Text,
    },
    /// No answer in time.
    #[error(
        "{host}:{port} did not answer {transport} within {after:?}; check that the host is up and that no firewall blocks \
         outgoing {below} to port {port}", transport = name(*transport), below = below(*transport)
    )]
    TimedOut {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// What was tried.
        transport: Transport,
        /// How long it was waited for.
        after: Duration,
    },
    /// The network has no way there.
    #[error(
        "there is no way to {host}:{port} ({why}); check that this machine has a network and a default route"
    )]
    Unreachable {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// What the system said.
        why: String,
    },
    /// The proxy did not make a way.
    #[error("the proxy {proxy} ({setting}): {fault}")]
    Proxy {
        /// The proxy, as `host:port`.
        proxy: String,
        /// The setting that names it.
        setting: Text,
        /// What went wrong.
        fault: ProxyFault,
    },
    /// TLS, WebSocket or QUIC failed.
    #[error("{transport} with {host}:{port}: {fault}", transport = name(*transport))]
    Handshake {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// What was begun.
        transport: Transport,
        /// What went wrong.
        fault: HandshakeFault,
    },
    /// Anything else.
    #[error("{host}:{port} cannot be reached: {why}")]
    Other {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
        /// What the system said.
        why: String,
    },
}

impl DialError {
    /// Whether a person has to change something before an attempt can succeed. All else may heal by itself.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::PlainRefused { .. })
    }

    /// Whether nobody was heard at all: the network of this machine may be gone.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unresolved { .. } | Self::TimedOut { .. } | Self::Unreachable { .. })
    }

    pub(super) fn of(
        error: &io::Error,
        host: HostName,
        port: u16,
        setting: Text,
        after: Duration,
        transport: Transport,
    ) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { host, port, setting },
            io::ErrorKind::TimedOut => Self::TimedOut { host, port, transport, after },
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::Unreachable { host, port, why: error.to_string() },
            _ => Self::Other { host, port, why: error.to_string() },
        }
    }
}

/// As people know it.
fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::WebSocket | Transport::WebSocketTls => "WebSocket",
        Transport::Quic => "QUIC",
    }
}

/// What a firewall sees of it.
fn below(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "UDP",
        Transport::Tcp | Transport::Tls | Transport::WebSocket | Transport::WebSocketTls => "TCP",
    }
}
