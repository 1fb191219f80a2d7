//! Dial a host: resolve, connect, prove.

mod error;
mod names;
mod proxy;

pub use error::DialError;
pub use names::Names;
pub use proxy::{Proxy, ProxyFault};

use crate::{
    ClientTls, HandshakeFault, HostName, PlainTcp, QuicTls, Settings, Stream, Transport, quic, raw::Raw,
    websocket,
};
use holdfast_types::{Soon, Text};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// What the bytes are to travel in: the counterpart of [`crate::Door`].
#[derive(Clone, Debug)]
pub enum Way {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls(ClientTls),
    /// WebSocket over TCP alone, at this path.
    WebSocket(Text),
    /// WebSocket over TLS, at this path.
    WebSocketTls(ClientTls, Text),
    /// QUIC, over UDP.
    Quic(QuicTls),
}

impl Way {
    /// What carries the bytes of those who go this way.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
            Self::WebSocket(_) => Transport::WebSocket,
            Self::WebSocketTls(..) => Transport::WebSocketTls,
            Self::Quic(_) => Transport::Quic,
        }
    }
}

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host.
    pub host: HostName,
    /// The port, of TCP or UDP.
    pub port: u16,
    /// What the bytes travel in.
    pub way: Way,
    /// How far bytes may go unencrypted.
    pub plain: PlainTcp,
    /// Through which proxy; QUIC goes through none.
    pub proxy: Option<Proxy>,
    /// Who is asked for addresses.
    pub names: Names,
    /// The names of the settings that the above came from.
    pub settings: Settings,
}

impl Target {
    /// Without a proxy, with addresses from the system, and without TLS on this machine only.
    pub fn new(host: HostName, port: u16, way: Way, settings: Settings) -> Self {
        let (plain, proxy, names) = (PlainTcp::LoopbackOnly, None, Names::of_system());
        Self { host, port, way, plain, proxy, names, settings }
    }

    fn may_go_anywhere(&self) -> bool {
        self.way.transport().is_encrypted() || self.plain == PlainTcp::Allowed
    }

    fn handshake_failed(&self, fault: HandshakeFault) -> DialError {
        let (host, port, transport) = (self.host.clone(), self.port, self.way.transport());
        DialError::Handshake { host, port, transport, fault }
    }
}

/// How long each step of dialling may take. A step that is late ends the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Asking the name servers. The default is 10 s: a resolver tries its servers for 5 s each.
    pub resolve: Duration,
    /// Connecting, over all addresses of the host together. The default is 15 s: a lost SYN is sent again after 1, 3, 7 s.
    pub connect: Duration,
    /// The handshakes of TLS and of WebSocket, and the answer of a proxy. The default is 15 s: slow devices and satellite
    /// links need seconds.
    pub handshake: Duration,
    /// Connection and handshake of QUIC together, over all addresses. The default is 6 s, in which the first packet was
    /// sent five times: a firewall that lets no UDP through does not say so.
    pub quic: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { resolve: seconds(10), connect: seconds(15), handshake: seconds(15), quic: seconds(6) }
    }
}

/// Dials `target`: resolves its name, tries its addresses in turn, and proves its certificate.
///
/// # Errors
/// The situation and its fix. Nothing is retried here.
pub fn dial(target: &Target, timeouts: Timeouts) -> Soon<'_, Result<Stream, DialError>> {
    Box::pin(reach(target, timeouts))
}

async fn reach(target: &Target, timeouts: Timeouts) -> Result<Stream, DialError> {
    match &target.way {
        Way::Quic(tls) => over_quic(target, tls, timeouts).await,
        Way::Tcp => {
            let (tcp, peer) = connect(target, timeouts).await?;
            Ok(Stream::raw(Raw::Plain(tcp), peer))
        }
        Way::Tls(tls) => {
            let (raw, peer) = encrypted(target, tls, timeouts).await?;
            Ok(Stream::raw(raw, peer))
        }
        Way::WebSocket(path) => {
            let (tcp, peer) = connect(target, timeouts).await?;
            upgraded(target, Raw::Plain(tcp), path, peer, timeouts.handshake).await
        }
        Way::WebSocketTls(tls, path) => {
            let (raw, peer) = encrypted(target, tls, timeouts).await?;
            upgraded(target, raw, path, peer, timeouts.handshake).await
        }
    }
}

/// A connection of TCP to the target, or to its proxy, which has made a way to the target then.
async fn connect(target: &Target, timeouts: Timeouts) -> Result<(TcpStream, SocketAddr), DialError> {
    let Some(proxy) = target.proxy.as_ref().filter(|_| target.may_go_anywhere()) else {
        let hop = Hop { host: &target.host, port: target.port, setting: &target.settings.address };
        return hop.connect(target, timeouts).await;
    };
    let failed = |fault| DialError::Proxy {
        proxy: format!("{}:{}", proxy.host, proxy.port),
        setting: proxy.setting.clone(),
        fault,
    };
    let hop = Hop { host: &proxy.host, port: proxy.port, setting: &proxy.setting };
    let reached = hop.connect(target, timeouts).await;
    let (mut tcp, peer) = reached.map_err(|error| failed(ProxyFault::Unreachable(Box::new(error))))?;
    match timeout(timeouts.handshake, proxy.tunnel(&mut tcp, &target.host, target.port)).await {
        Err(_) => Err(failed(ProxyFault::TimedOut(timeouts.handshake))),
        Ok(Err(fault)) => Err(failed(fault)),
        Ok(Ok(())) => Ok((tcp, peer)),
    }
}

async fn encrypted(
    target: &Target,
    tls: &ClientTls,
    timeouts: Timeouts,
) -> Result<(Raw, SocketAddr), DialError> {
    let (tcp, peer) = connect(target, timeouts).await?;
    match timeout(timeouts.handshake, tls.connect(&target.host, tcp)).await {
        Err(_) => Err(target.handshake_failed(HandshakeFault::TimedOut(timeouts.handshake))),
        Ok(Err(fault)) => Err(target.handshake_failed(fault)),
        Ok(Ok(stream)) => Ok((Raw::Tls(Box::new(stream.into())), peer)),
    }
}

async fn upgraded(
    target: &Target,
    raw: Raw,
    path: &str,
    peer: SocketAddr,
    within: Duration,
) -> Result<Stream, DialError> {
    let authority = format!("{}:{}", target.host, target.port);
    match timeout(within, websocket::request(raw, &authority, path)).await {
        Err(_) => Err(target.handshake_failed(HandshakeFault::TimedOut(within))),
        Ok(Err(fault)) => Err(target.handshake_failed(fault)),
        Ok(Ok(socket)) => Ok(Stream::websocket(socket, peer)),
    }
}

async fn over_quic(target: &Target, tls: &QuicTls, timeouts: Timeouts) -> Result<Stream, DialError> {
    let Target { host, port, settings, .. } = target;
    let addresses = names::resolve(host, *port, target, &settings.address, timeouts.resolve).await?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (address, share) in shares(&addresses, timeouts.quic) {
        last = match timeout(share, quic::connect(tls, host, address)).await {
            Ok(Ok(stream)) => return Ok(Stream::quic(stream, address)),
            Ok(Err(quic::Failed::Handshake(fault))) => return Err(target.handshake_failed(fault)),
            Ok(Err(quic::Failed::Socket(error))) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::debug!(%address, error = %last, "QUIC came to nothing");
    }
    let (host, setting) = (host.clone(), settings.address.clone());
    Err(DialError::of(&last, host, *port, setting, timeouts.quic, Transport::Quic))
}

/// Each address in turn with an equal share of the time that is left when its turn comes.
fn shares(addresses: &[SocketAddr], within: Duration) -> impl Iterator<Item = (SocketAddr, Duration)> {
    let end = Instant::now() + within;
    addresses.iter().enumerate().map(move |(tried, &address)| {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(1);
        (address, end.saturating_duration_since(Instant::now()) / left)
    })
}

/// Whom to reach over TCP: the target, or a proxy.
struct Hop<'t> {
    host: &'t HostName,
    port: u16,
    setting: &'t Text,
}

impl Hop<'_> {
    async fn connect(
        &self,
        target: &Target,
        timeouts: Timeouts,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let addresses = self.addresses(target, timeouts.resolve).await?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (address, share) in shares(&addresses, timeouts.connect) {
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Acknowledgements are small packets that somebody waits for; Nagle's algorithm would hold them back.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%address, %error, "TCP_NODELAY cannot be set");
                    }
                    return Ok((stream, address));
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            tracing::debug!(%address, error = %last, "connect failed");
        }
        let (host, setting) = (self.host.clone(), self.setting.clone());
        Err(DialError::of(&last, host, self.port, setting, timeouts.connect, Transport::Tcp))
    }

    /// The addresses that may be dialled. Without TLS these are only loopback addresses, whatever the name is: a name
    /// that resolves to another machine is refused.
    async fn addresses(&self, target: &Target, within: Duration) -> Result<Vec<SocketAddr>, DialError> {
        let all = names::resolve(self.host, self.port, target, self.setting, within).await?;
        if target.may_go_anywhere() {
            return Ok(all);
        }
        let loopback: Vec<_> = all.into_iter().filter(|a| a.ip().to_canonical().is_loopback()).collect();
        if loopback.is_empty() {
            let Target { host, port, settings, .. } = target.clone();
            return Err(DialError::PlainRefused { host, port, settings });
        }
        Ok(loopback)
    }
}
