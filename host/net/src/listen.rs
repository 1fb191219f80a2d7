//! Listen on an address and take connections in.

use crate::{
    HandshakeFault, PlainTcp, ServerTls, Settings, Stream, Transport,
    quic::{QuicDoor, QuicIncoming},
    raw::Raw,
    websocket,
};
use holdfast_types::Soon;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

/// How long to wait before the next attempt when the system has no more descriptors or memory for a connection: long
/// enough not to spin, short enough that nobody notices.
const STARVED_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken on a port.
#[derive(Clone, Debug)]
pub enum Door {
    /// TCP alone.
    Tcp,
    /// TLS over TCP.
    Tls(ServerTls),
    /// WebSocket over TCP alone.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls(ServerTls),
    /// QUIC, over UDP.
    Quic(ServerTls),
}

impl Door {
    /// What carries the bytes of those who come in here.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
            Self::WebSocket => Transport::WebSocket,
            Self::WebSocketTls(_) => Transport::WebSocketTls,
            Self::Quic(_) => Transport::Quic,
        }
    }
}

/// Where to listen, and how.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What is spoken there.
    pub door: Door,
    /// How far an unencrypted door may be open.
    pub plain: PlainTcp,
    /// The names of the settings that the above came from.
    pub settings: Settings,
}

/// Why nothing listens. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error(
        "port {port} of {address} is taken by another process; find it with `{finder}` and end it, or choose another \
         port in {setting}",
        port = address.port(), finder = port_holder_command(address.port())
    )]
    PortTaken {
        /// The address.
        address: SocketAddr,
        /// The setting that holds it.
        setting: holdfast_types::Text,
    },
    /// The system does not let this user have the port.
    #[error("this user may not listen on {address}; {fix}, or choose a port above 1023 in {setting}", fix = permission_fix(address.port()))]
    Permission {
        /// The address.
        address: SocketAddr,
        /// The setting that holds it.
        setting: holdfast_types::Text,
    },
    /// The machine does not have the address.
    #[error(
        "this machine does not have the address {ip}; list its addresses with `{lister}`, or write 127.0.0.1 (this \
         machine only) or 0.0.0.0 (every interface) in {setting}",
        ip = address.ip(), lister = address_list_command()
    )]
    AddressNotAvailable {
        /// The address.
        address: SocketAddr,
        /// The setting that holds it.
        setting: holdfast_types::Text,
    },
    /// Plain TCP on an interface that others reach.
    #[error(
        "plain TCP on {address} is refused, since anyone on the network could read and change the messages; turn on \
         TLS ({tls}), listen on 127.0.0.1, or set {allow_plain} = true if the network is trusted",
        tls = settings.tls, allow_plain = settings.allow_plain
    )]
    PlainRefused {
        /// The address.
        address: SocketAddr,
        /// The settings to change.
        settings: Settings,
    },
    /// Anything else.
    #[error("cannot listen on {address} ({setting}): {why}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The setting that holds it.
        setting: holdfast_types::Text,
        /// What the system said.
        why: String,
    },
}

impl ListenError {
    fn of(error: &io::Error, address: SocketAddr, setting: holdfast_types::Text) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::PortTaken { address, setting },
            io::ErrorKind::PermissionDenied => Self::Permission { address, setting },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { address, setting },
            _ => Self::Other { address, setting, why: error.to_string() },
        }
    }
}

/// Looks whether the port could be had for this transport, and gives it back at once.
///
/// # Errors
/// The situation and its fix.
pub async fn probe(address: SocketAddr, transport: Transport, settings: Settings) -> Result<(), ListenError> {
    let bound = match transport {
        Transport::Tcp | Transport::Tls | Transport::WebSocket | Transport::WebSocketTls => {
            TcpListener::bind(address).await.map(drop)
        }
        Transport::Quic => UdpSocket::bind(address).await.map(drop),
    };
    bound.map_err(|error| ListenError::of(&error, address, settings.address))
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
    door: Door,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Quic(QuicDoor),
}

/// A connection that was taken in, before its handshake. Run [`Incoming::handshake`] in the task of the connection, so
/// that a slow peer delays no other.
#[derive(Debug)]
pub struct Incoming(Caller);

#[derive(Debug)]
enum Caller {
    Tcp { socket: TcpStream, peer: SocketAddr, door: Door },
    Quic(QuicIncoming),
}

impl Listener {
    /// Binds the address. Needs the context of a runtime, but takes nothing in yet.
    ///
    /// # Errors
    /// The situation and its fix.
    pub async fn bind(config: ListenConfig) -> Result<Self, ListenError> {
        let ListenConfig { address, door, plain, settings } = config;
        if !door.transport().is_encrypted()
            && plain == PlainTcp::LoopbackOnly
            && !address.ip().to_canonical().is_loopback()
        {
            return Err(ListenError::PlainRefused { address, settings });
        }
        let setting = settings.address;
        let bound = match &door {
            Door::Quic(tls) => {
                QuicDoor::bind(address, tls).and_then(|quic| Ok((quic.local()?, Socket::Quic(quic))))
            }
            _ => TcpListener::bind(address).await.and_then(|tcp| Ok((tcp.local_addr()?, Socket::Tcp(tcp)))),
        };
        let (local, socket) = bound.map_err(|error| ListenError::of(&error, address, setting))?;
        Ok(Self { socket, local, door })
    }

    /// The address, with the port that the system chose.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What is spoken there.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Waits for the next connection. Cancel safe. A peer that goes away at once is passed over; when the system is out
    /// of descriptors or memory, this says so once and tries again until there are some.
    ///
    /// # Errors
    /// The socket itself is broken; nothing more will come.
    pub async fn accept(&self) -> io::Result<Incoming> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket,
            Socket::Quic(quic) => {
                return quic.accept().await.map(|incoming| Incoming(Caller::Quic(incoming)));
            }
        };
        let mut starved = false;
        loop {
            match socket.accept().await {
                Ok((socket, peer)) => {
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
                    }
                    return Ok(Incoming(Caller::Tcp { socket, peer, door: self.door.clone() }));
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) if is_starvation(&error) => {
                    if !std::mem::replace(&mut starved, true) {
                        tracing::warn!(
                            address = %self.local, %error,
                            "no connection can be taken in until others end; raise the limit on open files"
                        );
                    }
                    sleep(STARVED_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Incoming {
    /// The address of the other side.
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            Caller::Tcp { peer, .. } => *peer,
            Caller::Quic(incoming) => incoming.peer(),
        }
    }

    /// What is spoken, once the handshake is done.
    pub fn transport(&self) -> Transport {
        match &self.0 {
            Caller::Tcp { door, .. } => door.transport(),
            Caller::Quic(_) => Transport::Quic,
        }
    }

    /// Does the handshakes of TLS, of WebSocket and of QUIC, where the door has them; else the stream is ready at once.
    ///
    /// # Errors
    /// Why the handshake failed, or that it did not end within `within`.
    pub fn handshake(self, within: Duration) -> Soon<'static, Result<Stream, HandshakeFault>> {
        Box::pin(async move {
            timeout(within, self.welcome()).await.unwrap_or(Err(HandshakeFault::TimedOut(within)))
        })
    }

    async fn welcome(self) -> Result<Stream, HandshakeFault> {
        let (socket, peer, door) = match self.0 {
            Caller::Tcp { socket, peer, door } => (socket, peer, door),
            Caller::Quic(incoming) => {
                let peer = incoming.peer();
                return Ok(Stream::quic(incoming.welcome().await?, peer));
            }
        };
        let encrypted = async |tls: ServerTls, socket| {
            let stream = tls.accept(socket).await?;
            Ok::<_, HandshakeFault>(Raw::Tls(Box::new(stream.into())))
        };
        Ok(match door {
            Door::Tcp => Stream::raw(Raw::Plain(socket), peer),
            // QUIC has no sockets of TCP.
            Door::Quic(tls) | Door::Tls(tls) => Stream::raw(encrypted(tls, socket).await?, peer),
            Door::WebSocket => Stream::websocket(websocket::accept(Raw::Plain(socket)).await?, peer),
            Door::WebSocketTls(tls) => {
                Stream::websocket(websocket::accept(encrypted(tls, socket).await?).await?, peer)
            }
        })
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}

/// EMFILE 24, ENFILE 23, ENOMEM 12, ENOBUFS 105 (Linux) or 55 (BSD, macOS); WSAEMFILE 10024, WSAENOBUFS 10055.
fn is_starvation(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(12 | 23 | 24 | 55 | 105 | 10_024 | 10_055))
}

/// The command that shows who listens on `port` on this system.
pub fn port_holder_command(port: u16) -> String {
    if cfg!(windows) {
        format!("netstat -ano | findstr :{port}")
    } else if cfg!(target_os = "linux") {
        format!("ss -ltunp 'sport = :{port}'")
    } else {
        format!("lsof -nP -i:{port}")
    }
}

fn permission_fix(port: u16) -> &'static str {
    if cfg!(windows) {
        "see whether the port is reserved with `netsh interface ipv4 show excludedportrange protocol=tcp`"
    } else if cfg!(target_os = "linux") && port < 1024 {
        "ports below 1024 need `setcap cap_net_bind_service=+ep` on the program or AmbientCapabilities in its unit"
    } else {
        "a security policy forbids it"
    }
}

const fn address_list_command() -> &'static str {
    if cfg!(windows) {
        "ipconfig"
    } else if cfg!(target_os = "linux") {
        "ip address"
    } else {
        "ifconfig"
    }
}
