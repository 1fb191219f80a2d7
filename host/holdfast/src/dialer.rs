//! Connections for modules, and for fetching modules: the engine asks, the room of sockets opens.

use holdfast_engine::{Connection, Later, NotConnected, Outgoing};
use holdfast_net::{
    ClientTls, ClientTlsConfig, DialError, HostName, PlainTcp, Roots, Settings, Stream, Target, Timeouts,
    Way, dial,
};
use std::{net::SocketAddr, sync::OnceLock};

/// Opens connections. Certificates are checked with the authorities that the system trusts.
#[derive(Debug, Default)]
pub struct Dialer {
    tls: OnceLock<Result<Shown, String>>,
}

/// TLS has no text of its own.
struct Shown(ClientTls);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the system's authorities")
    }
}

impl Dialer {
    fn tls(&self) -> Result<ClientTls, NotConnected> {
        let built = self.tls.get_or_init(|| {
            let config = ClientTlsConfig { roots: Roots::Native, ..ClientTlsConfig::default() };
            ClientTls::build(&config).map(Shown).map_err(|fault| fault.to_string())
        });
        built.as_ref().map(|shown| shown.0.clone()).map_err(|why| NotConnected::Untrusted(why.clone()))
    }

    /// Whom to dial. Without TLS only if `plain` says so.
    fn target(&self, host: &str, port: u16, tls: bool, plain: PlainTcp) -> Result<Target, NotConnected> {
        let way = if tls { Way::Tls(self.tls()?) } else { Way::Tcp };
        let host = HostName::new(host).map_err(|invalid| NotConnected::Unknown(invalid.to_string()))?;
        let settings = Settings::new("the address", "https", "grants.hosts");
        Ok(Target { plain, ..Target::new(host, port, way, settings) })
    }

    /// Opens a connection for the host itself.
    pub async fn open(&self, host: &str, port: u16, tls: bool) -> Result<Stream, NotConnected> {
        let target = self.target(host, port, tls, PlainTcp::LoopbackOnly)?;
        dial(&target, Timeouts::default()).await.map_err(not_connected)
    }
}

fn not_connected(error: DialError) -> NotConnected {
    let text = error.to_string();
    match error {
        DialError::Unresolved { .. } => NotConnected::Unknown(text),
        DialError::Handshake { .. } => NotConnected::Untrusted(text),
        DialError::TimedOut { .. } => NotConnected::TooSlow(text),
        _ => NotConnected::Unreachable(text),
    }
}

impl Outgoing for Dialer {
    fn connect(&self, host: &str, port: u16, tls: bool) -> Later<Result<Box<dyn Connection>, NotConnected>> {
        // What the operator has granted by name and port may also be plain.
        let target = self.target(host, port, tls, PlainTcp::Allowed);
        Box::pin(async move {
            let stream = dial(&target?, Timeouts::default()).await.map_err(not_connected)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> Later<Result<Vec<SocketAddr>, NotConnected>> {
        let host = host.to_owned();
        Box::pin(async move {
            match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(found) => Ok(found.collect()),
                Err(error) => Err(NotConnected::Unknown(format!("{host} cannot be resolved: {error}"))),
            }
        })
    }
}
