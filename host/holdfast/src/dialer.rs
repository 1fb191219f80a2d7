//! Connections for modules, and for fetching modules: the engine asks, the room of sockets opens.

use crate::run::ways::Network;
use holdfast_engine::{Connection, Later, NotConnected, Outgoing};
use holdfast_net::{
    ClientTls, ClientTlsConfig, DialError, HostName, PlainTcp, Roots, Settings, Stream, Target, Timeouts,
    Way, dial,
};
use std::{net::SocketAddr, sync::OnceLock};

/// Opens connections. Certificates are checked with the authorities that the system trusts.
#[derive(Default)]
pub struct Dialer {
    network: Network,
    tls: OnceLock<Result<ClientTls, String>>,
}

/// What it holds has no text of its own, or secrets.
impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

impl Dialer {
    /// By the name servers and the proxy of the configuration.
    pub fn of(network: Network) -> Self {
        Self { network, tls: OnceLock::new() }
    }

    fn tls(&self) -> Result<ClientTls, NotConnected> {
        let built = self.tls.get_or_init(|| {
            let config = ClientTlsConfig { roots: Roots::Native, ..ClientTlsConfig::default() };
            ClientTls::build(&config).map_err(|fault| fault.to_string())
        });
        built.clone().map_err(NotConnected::Untrusted)
    }

    /// Whom to dial. Without TLS only if `plain` says so.
    fn target(&self, host: &str, port: u16, tls: bool, plain: PlainTcp) -> Result<Target, NotConnected> {
        let way = if tls { Way::Tls(self.tls()?) } else { Way::Tcp };
        let host = HostName::new(host).map_err(|invalid| NotConnected::Unknown(invalid.to_string()))?;
        let settings = Settings::new("the address", "https", "grants.hosts");
        Ok(self.network.lead(Target { plain, ..Target::new(host, port, way, settings) }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_config::Config;
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        path::Path,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_registry_is_reached_through_the_proxy_of_the_configuration() {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!("[net.proxy]\nurl = \"http://{}\"\n", proxy.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = proxy.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
            line
        });
        let config = Config::parse(&text, Path::new("holdfast.toml"), "edge-1").unwrap();
        let dialer = Dialer::of(Network::of(&config.net).unwrap());
        let refused = dialer.open("registry.example", 443, true).await.err().map(|error| error.to_string());
        assert_eq!(asked.join().unwrap(), "CONNECT registry.example:443 HTTP/1.1\r\n");
        assert!(refused.as_deref().is_some_and(|told| told.contains("net.proxy.url")), "{refused:?}");
    }
}
