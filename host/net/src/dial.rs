//! Dial a host: resolve, connect, prove.

use crate::{ClientTls, HandshakeFault, HostName, PlainTcp, Settings, Stream, raw::Raw};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host.
    pub host: HostName,
    /// The TCP port.
    pub port: u16,
    /// Encrypt; `None` is plain TCP.
    pub tls: Option<ClientTls>,
    /// How far plain TCP may go.
    pub plain: PlainTcp,
    /// The names of the settings that the above came from.
    pub settings: Settings,
}

/// How long each step of dialling may take. A step that is late ends the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Asking the name servers. The default is 10 s: a resolver tries its servers for 5 s each.
    pub resolve: Duration,
    /// Connecting, over all addresses of the host together. The default is 15 s: a lost SYN is sent again after 1, 3, 7 s.
    pub connect: Duration,
    /// The TLS handshake. The default is 15 s: slow devices and satellite links need seconds.
    pub handshake: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { resolve: seconds(10), connect: seconds(15), handshake: seconds(15) }
    }
}

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
        "the host name {host} cannot be resolved ({why}); check the spelling in {setting}, and the name servers of this \
         machine"
    )]
    Unresolved {
        /// The host.
        host: HostName,
        /// The setting that holds it.
        setting: holdfast_types::Text,
        /// What the resolver said.
        why: String,
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
        setting: holdfast_types::Text,
    },
    /// No answer in time.
    #[error(
        "{host}:{port} did not answer within {after:?}; check that the host is up and that no firewall blocks outgoing \
         TCP to port {port}"
    )]
    TimedOut {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
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
    /// TLS failed.
    #[error("TLS with {host}:{port}: {fault}")]
    Handshake {
        /// The host.
        host: HostName,
        /// The port.
        port: u16,
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
}

/// Dials `target`: resolves its name, tries its addresses in turn, and proves its certificate.
///
/// # Errors
/// The situation and its fix. Nothing is retried here.
pub async fn dial(target: &Target, timeouts: Timeouts) -> Result<Stream, DialError> {
    let addresses = resolve(target, timeouts.resolve).await?;
    let (stream, peer) = connect(target, &addresses, timeouts.connect).await?;
    // Acknowledgements are small packets that somebody waits for; Nagle's algorithm would hold them back.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
    }
    let Some(tls) = &target.tls else { return Ok(Stream::raw(Raw::Plain(stream), peer)) };
    let failed = |fault| DialError::Handshake { host: target.host.clone(), port: target.port, fault };
    match timeout(timeouts.handshake, tls.connect(&target.host, stream)).await {
        Err(_) => Err(failed(HandshakeFault::TimedOut(timeouts.handshake))),
        Ok(Err(fault)) => Err(failed(fault)),
        Ok(Ok(stream)) => Ok(Stream::raw(Raw::Tls(Box::new(stream.into())), peer)),
    }
}

/// The addresses that may be dialled. Without TLS these are only loopback addresses, whatever the name is: a name that
/// resolves to another machine is refused.
async fn resolve(target: &Target, within: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let all = match &target.host {
        HostName::Ip(address) => vec![SocketAddr::new(*address, target.port)],
        HostName::Dns(name) => {
            let failed = |why: String| DialError::Unresolved {
                host: target.host.clone(),
                setting: target.settings.address.clone(),
                why,
            };
            match timeout(within, tokio::net::lookup_host((&**name, target.port))).await {
                Err(_) => return Err(failed(format!("no answer within {within:?}"))),
                Ok(Err(error)) => return Err(failed(error.to_string())),
                Ok(Ok(addresses)) => addresses.collect(),
            }
        }
    };
    if target.tls.is_some() || target.plain == PlainTcp::Allowed {
        return Ok(all);
    }
    let loopback: Vec<_> = all.into_iter().filter(|a| a.ip().to_canonical().is_loopback()).collect();
    if loopback.is_empty() {
        let Target { host, port, settings, .. } = target.clone();
        return Err(DialError::PlainRefused { host, port, settings });
    }
    Ok(loopback)
}

/// Tries each address in turn; each gets an equal share of the time that is left.
async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    within: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let end = Instant::now() + within;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::debug!(%address, error = %last, "connect failed");
    }
    Err(situation(target, &last, within))
}

fn situation(target: &Target, error: &io::Error, after: Duration) -> DialError {
    let (host, port, setting) = (target.host.clone(), target.port, target.settings.address.clone());
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { host, port, setting },
        io::ErrorKind::TimedOut => DialError::TimedOut { host, port, after },
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => DialError::Unreachable { host, port, why: error.to_string() },
        _ => DialError::Other { host, port, why: error.to_string() },
    }
}
