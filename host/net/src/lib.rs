//! Listen and dial: streams of bytes over TCP, TLS, WebSocket and QUIC. The only room that opens a socket.
//!
//! What this room does: it checks host names, resolves them, connects within a time limit, proves the peer's
//! certificate, goes through a proxy, accepts connections, and turns each failure into a situation with its fix. It keeps the rule that only
//! TLS leaves or enters the machine unless the configuration says otherwise. What it does not do: it knows no
//! protocol above the bytes, retries nothing, and spawns nothing; only what drives QUIC runs beside, as long as its
//! port or one of its connections lives.

mod cause;
mod dial;
mod host;
mod listen;
mod quic;
mod raw;
mod stream;
mod tls;
mod websocket;

pub use cause::{HandshakeFault, io_cause};
pub use dial::{DialError, Names, Proxy, ProxyFault, Target, Timeouts, Way, dial};
pub use host::{HOST_CHARACTERS_MAX, HostName, InvalidHost};
pub use listen::{Door, Incoming, ListenConfig, ListenError, Listener, port_holder_command, probe};
pub use quic::{Branch, Branches};
pub use stream::{Stream, Transport};
pub use tls::{
    ClientAuth, ClientTls, ClientTlsConfig, Identity, QuicTls, Roots, ServerTls, ServerTlsConfig, TlsFault,
};

use holdfast_types::Text;

/// Whether bytes may pass without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainTcp {
    /// Only on the loopback interface.
    #[default]
    LoopbackOnly,
    /// Anywhere: the configuration says so.
    Allowed,
}

/// The names of the settings that an address came from, so that an error can name the one to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The setting that holds the address, such as `upstream.url`.
    pub address: Text,
    /// How TLS is turned on, such as `mqtts:// in upstream.url`.
    pub tls: Text,
    /// The setting that allows plain TCP beyond the loopback interface, such as `upstream.allow_plain`.
    pub allow_plain: Text,
}

impl Settings {
    /// The usual names within a section: `{section}.address`, `{section}.tls`, `{section}.allow_plain`.
    pub fn of_section(section: &str) -> Self {
        let name = |key: &str| format!("{section}.{key}").into();
        Self { address: name("address"), tls: name("tls"), allow_plain: name("allow_plain") }
    }

    /// Names, in the order of the fields.
    pub fn new(address: &str, tls: &str, allow_plain: &str) -> Self {
        Self { address: address.into(), tls: tls.into(), allow_plain: allow_plain.into() }
    }
}
